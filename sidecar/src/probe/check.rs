//! One liveness check, made as the kubelet would make it.

use std::sync::Arc;

use decree_wire::probe::{Check, HttpGet, Scheme};
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use tls::unverified;

mod tls;

/// More of an answer is not read, as with the kubelet.
const BODY: usize = 10 << 10;
const REDIRECTS: usize = 10;

/// Checks once; the caller limits the time.
pub(super) async fn check(check: &Check, ip: &str) -> Result<(), String> {
    match check {
        Check::TcpSocket(tcp) => connect(tcp.host.as_deref().unwrap_or(ip), tcp.port).await.map(drop),
        Check::HttpGet(get) => follow(get, ip).await,
    }
}

/// Asks, and goes where the application says on the same host. That it leads elsewhere is a good answer.
async fn follow(get: &HttpGet, ip: &str) -> Result<(), String> {
    let host = get.host.as_deref().unwrap_or(ip);
    let mut path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    for _ in 0..REDIRECTS {
        let answer = ask(get, host, &path).await?;
        let status = answer.status();
        let next = target(answer.headers().get(LOCATION), get, host).filter(|_| follows(status));
        read(answer).await?;
        match next {
            Some(next) => path = next,
            None if status.as_u16() < 200 || status.as_u16() >= 400 => {
                return Err(format!("GET {path} answered {status}"));
            }
            None => return Ok(()),
        }
    }
    Err(format!("GET {} is redirected more than {REDIRECTS} times", get.path))
}

fn follows(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirection leads, if to the same scheme, host and port.
fn target(location: Option<&HeaderValue>, get: &HttpGet, host: &str) -> Option<String> {
    let uri: Uri = location?.to_str().ok()?.parse().ok()?;
    let scheme = match get.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let default = if get.scheme == Scheme::Http { 80 } else { 443 };
    let same = uri.host().is_none_or(|other| {
        other == host && uri.scheme_str() == Some(scheme) && uri.port_u16().unwrap_or(default) == get.port
    });
    same.then(|| uri.path_and_query().map(ToString::to_string)).flatten()
}

async fn ask(get: &HttpGet, host: &str, path: &str) -> Result<Response<Incoming>, String> {
    let request = request(get, host, path)?;
    let stream = connect(host, get.port).await?;
    match get.scheme {
        Scheme::Http => send(stream, request).await,
        Scheme::Https => {
            let name =
                ServerName::try_from(host.to_owned()).map_err(|e| format!("{host:?} is no host: {e}"))?;
            let connector = TlsConnector::from(Arc::new(unverified().map_err(|e| e.to_string())?));
            let stream =
                connector.connect(name, stream).await.map_err(|e| format!("TLS with {host}: {e}"))?;
            send(stream, request).await
        }
    }
}

fn request(get: &HttpGet, host: &str, path: &str) -> Result<Request<Empty<Bytes>>, String> {
    let authority = format!("{}:{}", bracketed(host), get.port);
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path.parse().map_err(|e| format!("{path:?} is no path: {e}"))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-probe/decree"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(HOST, HeaderValue::from_str(&authority).map_err(|e| format!("{authority:?}: {e}"))?);
    let mut own = http::HeaderMap::new();
    for (name, value) in &get.headers {
        let header = |e: &dyn std::fmt::Display| format!("the header {name:?}: {e}");
        let value = HeaderValue::from_str(value).map_err(|e| header(&e))?;
        own.append(HeaderName::try_from(name.as_str()).map_err(|e| header(&e))?, value);
    }
    headers.extend(own);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| format!("GET {}: {e}", request.uri());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Its error comes out at the request too.
    let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let uri = request.uri().clone();
    let mut answer = sender.send_request(request).await.map_err(|e| format!("GET {uri}: {e}"))?;
    answer.extensions_mut().insert(Arc::new(driver)); // lives as long as the body is read
    Ok(answer)
}

async fn read(mut answer: Response<Incoming>) -> Result<(), String> {
    let mut size = 0;
    while size <= BODY {
        match answer.body_mut().frame().await {
            None => return Ok(()),
            Some(frame) => {
                let frame = frame.map_err(|e| format!("the answer broke off: {e}"))?;
                size += frame.data_ref().map_or(0, Bytes::len);
            }
        }
    }
    Ok(())
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|e| format!("connect to {}:{port}: {e}", bracketed(host)))
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
