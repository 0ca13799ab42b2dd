//! One connection to the application: kept between deliveries, never used again after a second of rest.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::observed::{Observed, Observer};

/// The application is on this machine: a connection that takes longer is not accepted.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Servers close idle connections just as a request is sent, which would look like doubt.
const IDLE_LIMIT: Duration = Duration::from_secs(1);

/// An answer with more could not be read, and what the application did would be in doubt.
const HEADERS: usize = 1024;

/// A connection over which requests go one at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The same socket, to see whether the other side has closed it.
    probe: StdStream,
    written: Arc<AtomicBool>,
    used: Instant,
    /// Drives the connection; ends with it.
    _driver: AbortOnDropHandle<()>,
}

/// A flag that is raised at the first byte written: what tells "not connected" from "in doubt".
#[derive(Debug)]
struct Written(Arc<AtomicBool>);

impl Observer for Written {
    fn came(&self, _: usize) {}

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(1..)) = written {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// How a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Not a byte of it was written.
    Unsent(String),
    /// Some of it was.
    Sent(String),
}

impl Connection {
    /// Connects to a port of this machine.
    pub(super) async fn open(port: u16) -> Result<Self, String> {
        let stream = connect(port).await?;
        let written = Arc::new(AtomicBool::new(false));
        let stream = stream.into_std().map_err(|e| e.to_string())?;
        let probe = stream.try_clone().map_err(|e| e.to_string())?;
        let stream = TcpStream::from_std(stream).map_err(|e| e.to_string())?;
        let io = TokioIo::new(Observed::new(stream, Written(Arc::clone(&written))));
        let (sender, driver) =
            Builder::new().max_headers(HEADERS).handshake(io).await.map_err(|e| e.to_string())?;
        // Its error comes out at the request too.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(driver.await) }));
        Ok(Self { sender, probe, written, used: Instant::now(), _driver: driver })
    }

    /// Whether it may be used again.
    pub(super) fn usable(&self) -> bool {
        let closed = match self.probe.peek(&mut [0]) {
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => true, // closed, or talks without having been asked
        };
        !closed && !self.sender.is_closed() && self.used.elapsed() < IDLE_LIMIT
    }

    /// Sends a request and waits for the answer's head, as long as the connection lives.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        self.written.store(false, Ordering::SeqCst);
        self.sender.ready().await.map_err(|e| Failure::Unsent(describe(&e)))?;
        self.sender.send_request(request).await.map_err(|error| {
            if self.written.load(Ordering::SeqCst) {
                Failure::Sent(describe(&error))
            } else {
                Failure::Unsent(describe(&error))
            }
        })
    }

    /// Says that an answer was read to its end: the connection rests from now on.
    pub(super) fn rest(&mut self) {
        self.used = Instant::now();
    }
}

async fn connect(port: u16) -> Result<TcpStream, String> {
    match timeout(CONNECT_LIMIT, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await {
        Ok(Ok(stream)) => {
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            Ok(stream)
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no connection within {CONNECT_LIMIT:?}")),
    }
}

pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
