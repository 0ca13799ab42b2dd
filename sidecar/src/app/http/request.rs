//! A delivery as an HTTP request.

use bytes::Bytes;
use decree_wire::delivery::{apply_headers, replicate_headers};
use http::header::{EXPECT, HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::answer::HOP_BY_HOP;
use super::settings::{Settings, Target};
use crate::app::Delivery;

/// The request that delivers `delivery`; none if it is no HTTP request and the class replicates such.
pub(super) fn of(delivery: &Delivery<'_>, settings: &Settings) -> Option<Request<Full<Bytes>>> {
    let Delivery { command, identity, place } = *delivery;
    let (method, target, mut headers) = match &settings.target {
        Target::Apply { path } => (Method::POST, path.as_str(), apply_headers(command, identity, place)),
        Target::Replicate => {
            let request = command.request.as_ref()?;
            let method = Method::from_bytes(request.method.as_bytes()).ok()?;
            (method, request.target.as_str(), replicate_headers(command, identity, place))
        }
    };
    let authority = format!("127.0.0.1:{}", settings.port);
    if !headers.contains_key(HOST) {
        headers.insert(HOST, HeaderValue::from_str(&authority).ok()?);
    }
    if command.request.is_some() {
        for header in HOP_BY_HOP {
            headers.remove(header); // a plain client of the log may have put anything there
        }
        headers.remove(EXPECT); // the body follows at once
    }
    for (name, value) in &settings.deliver_headers {
        headers.insert(name, value.clone()); // also where the command has one of that name
    }
    let mut request = Request::new(Full::new(command.payload.clone()));
    *request.method_mut() = method;
    *request.uri_mut() = Uri::from(target.parse::<PathAndQuery>().ok()?);
    *request.headers_mut() = headers;
    Some(request)
}
