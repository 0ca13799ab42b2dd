//! An answer to a proposer as HTTP: the application's own, and which command it belongs to.

use axum::body::Body;
use axum::response::Response;
use decree_wire::attributes::header as names;
use http::{HeaderName, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

use crate::app::Outcome;
use crate::propose::Answer;

/// As CloudEvents over HTTP has it, so that the id can be sent back as `ce-id`.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The answer as a response: the outcome, or 202 if only the order was waited for.
#[must_use]
pub fn respond(answer: Answer) -> Response {
    let mut response = match answer.outcome {
        Some(outcome) => replay(outcome),
        None => {
            let body = json!({ "id": answer.id, "position": answer.position }).to_string();
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::ACCEPTED;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(names::POSITION, HeaderValue::from(answer.position.0));
    if let Some(id) = encode_id(&answer.id) {
        headers.insert(names::ID, id);
    }
    if answer.duplicate {
        headers.insert(names::DUPLICATE, HeaderValue::from_static("true"));
    }
    response
}

/// An id as a header's value.
#[must_use]
pub fn encode_id(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&utf8_percent_encode(id, ENCODED).to_string()).ok()
}

fn replay(outcome: Outcome) -> Response {
    let mut response = Response::new(Body::from(outcome.body));
    // An informational status is no end of a request: an application that answers so is broken.
    let status = StatusCode::from_u16(outcome.status).ok().filter(|status| !status.is_informational());
    *response.status_mut() = status.unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in outcome.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value))
        {
            response.headers_mut().append(name, value);
        }
    }
    if let Some(omitted) = outcome.omitted {
        response.headers_mut().insert("decree-omitted-bytes", HeaderValue::from(omitted.bytes));
    }
    response
}
