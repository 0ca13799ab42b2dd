//! Entry ⇄ Kafka record, in the binary mode of the CloudEvents 1.0 Kafka protocol binding.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use crate::attributes::{
    CONTENT_TYPE, RECORD_PREFIX, REQUEST_HEADER_PREFIX, SPEC_VERSION, TRACEPARENT, TRACESTATE, TYPE_COMMAND,
    TYPE_CONTROL_PREFIX, TYPE_HTTP, TYPE_RESERVED, header, name,
};
use crate::command::{Command, Request};
use crate::control::Control;
use crate::entry::Body;
use crate::position::Position;
use crate::shown::shown;

/// A payload beyond this is void. Agents hold two copies of a record as they deliver it; a sidecar itself takes no
/// more than a sixteenth of it.
pub const MAX_VALUE: usize = 16 << 20;
/// So many headers may a record have at all, whosesoever they are.
pub const MAX_HEADERS: usize = 4096;
/// So many of them may be handed on to the application: servers refuse more, some by closing the connection, and what
/// became of the command would then be in doubt.
pub const MAX_OWN_HEADERS: usize = 256;
/// And so many bytes of them, names and values. Percent-encoding makes three of one byte at worst.
pub const MAX_OWN_HEADER_BYTES: usize = 24 << 10;
/// An id and a source have at most so many bytes each: they travel in every answer.
pub const MAX_ID: usize = 1024;
/// A replicated request's path and query have at most so many bytes.
pub const MAX_TARGET: usize = 8 << 10;

/// A record's headers in order. A header may have no value, and a name may come twice.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// A record's key is never used: there is one partition, and no compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// None (a tombstone) reads as an empty payload.
    pub value: Option<Bytes>,
    /// In order.
    pub headers: Headers,
}

/// A command as a record.
#[must_use]
pub fn encode_command(command: &Command) -> Record {
    let mut out = Writer(Vec::with_capacity(12));
    let own_type = if command.request.is_some() { TYPE_HTTP } else { TYPE_COMMAND };
    out.attribute(name::SPECVERSION, Some(SPEC_VERSION));
    out.attribute(name::ID, command.id.as_deref());
    out.attribute(name::SOURCE, command.source.as_deref());
    out.attribute(name::TYPE, Some(command.kind.as_deref().unwrap_or(own_type)));
    out.attribute(name::TIME, command.time.as_deref());
    out.attribute(name::VERSION, command.version.map(|v| v.to_string()).as_deref());
    out.attribute(name::HEAD, command.head.map(|p| p.to_string()).as_deref());
    if let Some(request) = &command.request {
        out.attribute(name::METHOD, Some(&request.method));
        out.attribute(name::TARGET, Some(&request.target));
    }
    for (extension, value) in &command.extensions {
        out.attribute(extension, Some(value));
    }
    out.plain(CONTENT_TYPE, command.content_type.as_deref());
    out.plain(TRACEPARENT, command.traceparent.as_deref());
    out.plain(TRACESTATE, command.tracestate.as_deref());
    for (header, value) in command.request.iter().flat_map(|r| &r.headers) {
        out.0.push((format!("{REQUEST_HEADER_PREFIX}{header}"), Some(value.clone())));
    }
    Record { value: Some(command.payload.clone()), headers: out.0 }
}

/// A control entry as a record.
///
/// # Errors
/// As [`Control::encode`].
pub fn encode_control(control: &Control) -> Result<Record, serde_json::Error> {
    let mut out = Writer(Vec::with_capacity(3));
    out.attribute(name::SPECVERSION, Some(SPEC_VERSION));
    out.attribute(name::TYPE, Some(&format!("{TYPE_CONTROL_PREFIX}{}", control.kind())));
    out.plain(CONTENT_TYPE, Some("application/json"));
    Ok(Record { value: Some(control.encode()?.into()), headers: out.0 })
}

struct Writer(Headers);

impl Writer {
    fn attribute(&mut self, attribute: &str, value: Option<&str>) {
        self.plain(&format!("{RECORD_PREFIX}{attribute}"), value);
    }

    fn plain(&mut self, header: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.push((header.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes()))));
        }
    }
}

/// Reads a record, whoever wrote it. Total and deterministic: what is no command and no control entry is void, in
/// every replica alike.
#[must_use]
pub fn decode(record: &Record) -> Body {
    match read(record) {
        Ok(body) => body,
        Err(reason) => Body::Void(reason),
    }
}

/// Whether a record is within the limits beyond which every replica takes it for void.
///
/// # Errors
/// In words for a person.
pub fn fits(record: &Record) -> Result<(), String> {
    let size = record.value.as_ref().map_or(0, Bytes::len);
    if size > MAX_VALUE {
        return Err(format!("its value has {size} bytes, of {MAX_VALUE} at most"));
    }
    if record.headers.len() > MAX_HEADERS {
        return Err(format!("it has more than {MAX_HEADERS} headers"));
    }
    let own = || record.headers.iter().filter(|(header, _)| is_own(header));
    let count = own().count();
    if count > MAX_OWN_HEADERS {
        return Err(format!("{count} of its headers are the command's, of {MAX_OWN_HEADERS} at most"));
    }
    let bytes: usize = own().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len)).sum();
    if bytes > MAX_OWN_HEADER_BYTES {
        return Err(format!("the command's headers have {bytes} bytes, of {MAX_OWN_HEADER_BYTES} at most"));
    }
    Ok(())
}

/// Whether a header says something of the command; the others are other tools' and decide nothing.
fn is_own(header: &str) -> bool {
    header.starts_with(RECORD_PREFIX)
        || header.starts_with(REQUEST_HEADER_PREFIX)
        || [CONTENT_TYPE, TRACEPARENT, TRACESTATE].contains(&header)
}

fn read(record: &Record) -> Result<Body, String> {
    fits(record)?;
    let payload = record.value.clone().unwrap_or_default();
    let mut command = Command { payload, ..Command::default() };
    let (mut method, mut target, mut headers) = (None, None, Vec::new());
    for (header_name, value) in &record.headers {
        let header = header_name.as_str();
        let value = value.clone().unwrap_or_default();
        if let Some(attribute) = header.strip_prefix(RECORD_PREFIX) {
            let text = text(header, &value)?;
            match attribute {
                name::SPECVERSION if text == SPEC_VERSION => {}
                name::SPECVERSION => {
                    return Err(format!("ce_specversion is {:?}, not {SPEC_VERSION:?}", shown(&text)));
                }
                name::ID => once(&mut command.id, header, naming(header, text)?)?,
                name::SOURCE => once(&mut command.source, header, naming(header, text)?)?,
                name::TYPE => once(&mut command.kind, header, text)?,
                name::TIME => once(&mut command.time, header, text)?,
                name::VERSION => once(&mut command.version, header, number(header, &text)?)?,
                name::HEAD => once(&mut command.head, header, Position(number(header, &text)?))?,
                name::METHOD => once(&mut method, header, text)?,
                name::TARGET => once(&mut target, header, text)?,
                _ if attribute.starts_with(name::RESERVED) => {
                    return Err(format!("attribute {} is reserved", shown(attribute)));
                }
                _ => extension(&mut command, attribute, text)?,
            }
        } else if let Some(name) = header.strip_prefix(REQUEST_HEADER_PREFIX) {
            let (name, value) = request_header(name, value)?;
            // Decree's own are set at the delivery, and no client's word passes for them.
            if !name.starts_with(header::RESERVED) {
                headers.push((name, value));
            }
        } else {
            match header {
                CONTENT_TYPE => once(&mut command.content_type, header, header_text(header, &value)?)?,
                TRACEPARENT => command.traceparent = header_text(header, &value).ok(),
                TRACESTATE => command.tracestate = header_text(header, &value).ok(),
                _ => {} // another tool's header: it decides nothing
            }
        }
    }
    match command.kind.take() {
        Some(kind) if kind == TYPE_HTTP => {
            command.request = Some(request(method, target, headers)?);
        }
        Some(kind) if kind == TYPE_COMMAND => {}
        Some(kind) => {
            if let Some(control) = kind.strip_prefix(TYPE_CONTROL_PREFIX) {
                return Ok(Body::Control(Control::decode(control, &command.payload)));
            }
            if kind.starts_with(TYPE_RESERVED) {
                return Err(format!("ce_type {:?} is reserved", shown(&kind)));
            }
            command.kind = Some(kind);
        }
        None => {}
    }
    Ok(Body::Command(command))
}

fn once<T>(slot: &mut Option<T>, header: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("header {} is there twice", shown(header))),
    }
}

fn text(header: &str, value: &Bytes) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|_| format!("header {} is not UTF-8", shown(header)))
}

/// An id's or a source's text.
fn naming(header: &str, text: String) -> Result<String, String> {
    match text.len() {
        0 => Err(format!("header {header} is empty")),
        1..=MAX_ID => Ok(text),
        _ => Err(format!("header {header} has {} bytes, of {MAX_ID} at most", text.len())),
    }
}

fn number<T: std::str::FromStr>(header: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("header {header} is not a number: {:?}", shown(text)))
}

/// A header that is handed on as an HTTP header has to be one.
fn header_text(header: &str, value: &Bytes) -> Result<String, String> {
    HeaderValue::from_bytes(value)
        .ok()
        .and_then(|v| v.to_str().map(str::to_owned).ok())
        .ok_or_else(|| format!("header {header} is not printable ASCII"))
}

fn extension(command: &mut Command, attribute: &str, value: String) -> Result<(), String> {
    if HeaderName::from_bytes(attribute.as_bytes()).is_err() || attribute.to_ascii_lowercase() != attribute {
        return Err(format!("{:?} is no CloudEvents attribute name", shown(attribute)));
    }
    match command.extensions.insert(attribute.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("attribute {} is there twice", shown(attribute))),
    }
}

fn request_header(name: &str, value: Bytes) -> Result<(String, Bytes), String> {
    let valid = HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_bytes(&value).is_ok();
    if valid {
        Ok((name.to_ascii_lowercase(), value))
    } else {
        Err(format!("{:?} is no HTTP header", shown(name)))
    }
}

fn request(
    method: Option<String>,
    target: Option<String>,
    headers: Vec<(String, Bytes)>,
) -> Result<Request, String> {
    let method = method.ok_or("a replicated request without ce_decreemethod")?;
    let target = target.ok_or("a replicated request without ce_decreetarget")?;
    if Method::from_bytes(method.as_bytes()).is_err() {
        return Err(format!("{:?} is no HTTP method", shown(&method)));
    }
    if target.len() > MAX_TARGET {
        return Err(format!("path and query have {} bytes, of {MAX_TARGET} at most", target.len()));
    }
    if !target.starts_with('/') || target.parse::<http::uri::PathAndQuery>().is_err() {
        return Err(format!("{:?} is no path and query", shown(&target)));
    }
    Ok(Request { method, target, headers })
}

#[cfg(test)]
mod odd;
#[cfg(test)]
mod tests;
