//! What no door takes, whatever it is for: requests of which two readers could make two different ones.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version, header};

use crate::problem::Problem;

/// The request in origin form, as all doors read it.
///
/// # Errors
/// If proxies and applications could read it in different ways.
pub(super) fn checked<B>(mut request: Request<B>) -> Result<Request<B>, Problem> {
    framed(request.headers())?;
    one_host(request.version(), request.headers())?;
    // In absolute form the target names the host, and the header counts for nothing (RFC 9112 §3.2.2).
    if let (Some(_), Some(authority)) = (request.uri().scheme(), request.uri().authority()) {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|_| Problem::bad_request("the target's host can't be read"))?;
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(path);
    }
    Ok(request)
}

/// hyper takes a body that is chunked at last, also with another coding below it, which nobody behind would take off.
fn framed(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let plain = codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let once = headers.get_all(header::TRANSFER_ENCODING).iter().count() <= 1;
    if plain && once {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "transfer-coding-not-supported",
        "no transfer coding but chunked is known here",
        "send the body chunked, or with a content-length",
    ))
}

fn one_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let hosts = headers.get_all(header::HOST).iter().count();
    match hosts {
        1 => Ok(()),
        0 if version < Version::HTTP_11 => Ok(()),
        0 => Err(Problem::bad_request("an HTTP/1.1 request has a host header")),
        _ => Err(Problem::bad_request("a request has one host header")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)]) -> Result<(String, String), String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = checked(request.body(()).unwrap()).map_err(|problem| format!("{problem:?}"))?;
        let host = request.headers().get(header::HOST).unwrap().to_str().unwrap();
        Ok((request.uri().to_string(), host.to_owned()))
    }

    #[test]
    fn absolute_form_becomes_origin_form_and_names_the_host() {
        let checked = check("http://shop:80/v1/x?a=1", &[("host", "other")]).unwrap();
        assert_eq!(checked, ("/v1/x?a=1".into(), "shop:80".into()));
        assert_eq!(check("/v1/x", &[("host", "shop")]).unwrap(), ("/v1/x".into(), "shop".into()));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert!(check("/", &[]).is_err());
        assert!(check("/", &[("host", "a"), ("host", "a")]).is_err());
        let host = ("host", "a");
        assert!(check("/", &[host, ("transfer-encoding", "Chunked")]).is_ok());
        assert!(check("/", &[host, ("transfer-encoding", "gzip, chunked")]).is_err());
        let twice = [host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(check("/", &twice).is_err());
    }
}
