//! An HTTP answer as an outcome: end-to-end headers, and a body up to a bound.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;
use sha2::{Digest, Sha256};

use crate::app::Omitted;

/// A larger body is not kept: its length and hash are, which is the same in every agent.
pub(super) const BODY_LIMIT: usize = 8 << 20;

/// What belongs to one connection (RFC 9110, section 7.6.1), and lengths, which whoever sends it on counts anew.
pub(super) const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

/// The headers that are the answer's own, in order.
pub(super) fn end_to_end(headers: &HeaderMap) -> Vec<(String, Bytes)> {
    let named: HashSet<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    headers
        .iter()
        .filter(|(name, _)| !HOP_BY_HOP.contains(&name.as_str()) && !named.contains(name.as_str()))
        .map(|(name, value)| (name.to_string(), Bytes::copy_from_slice(value.as_bytes())))
        .collect()
}

/// Reads a body to its end, and keeps it unless it is too large.
pub(super) async fn body<B>(mut body: B) -> Result<(Bytes, Option<Omitted>), B::Error>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut kept = BytesMut::new();
    let mut omitted: Option<(u64, Sha256)> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue }; // trailers
        if let Some((bytes, hash)) = &mut omitted {
            *bytes += data.len() as u64;
            hash.update(&data);
        } else if kept.len() + data.len() > BODY_LIMIT {
            let hash = Sha256::new().chain_update(&kept).chain_update(&data);
            omitted = Some(((kept.len() + data.len()) as u64, hash));
            kept = BytesMut::new();
        } else {
            kept.extend_from_slice(&data);
        }
    }
    let omitted = omitted.map(|(bytes, hash)| Omitted { bytes, sha256: hash.finalize().into() });
    Ok((kept.freeze(), omitted))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn headers_of_the_connection_are_left_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("content-length", "3"),
            ("transfer-encoding", "chunked"),
            ("content-type", "a/b"),
            ("set-cookie", "a"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append("set-cookie", "b".parse().unwrap());
        let names: Vec<_> = end_to_end(&headers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["content-type", "set-cookie", "set-cookie"]);
    }

    #[tokio::test]
    async fn a_large_body_is_known_by_its_hash() {
        let small = Bytes::from(vec![1; BODY_LIMIT]);
        assert_eq!(body(Full::new(small.clone())).await.unwrap(), (small, None));
        let large = Bytes::from(vec![1; BODY_LIMIT + 1]);
        let sha256 = Sha256::digest(&large).into();
        let omitted = Omitted { bytes: BODY_LIMIT as u64 + 1, sha256 };
        assert_eq!(body(Full::new(large)).await.unwrap(), (Bytes::new(), Some(omitted)));
    }
}
