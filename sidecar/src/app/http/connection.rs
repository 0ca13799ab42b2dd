//! One connection to the application: kept between deliveries, never used again after a second of rest.

use std::future::{poll_fn, ready};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpStream as StdStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

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
    /// Reads and writes, as long as the connection stands. Not a task of its own: waking it would cost each request more
    /// than what it does.
    driver: Option<Driver>,
    /// The same socket, to see whether the other side has closed it.
    probe: StdStream,
    written: Arc<AtomicBool>,
    used: Instant,
}

type Driver = http1::Connection<TokioIo<Observed<TcpStream, Written>>, Full<Bytes>>;

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
            http1::Builder::new().max_headers(HEADERS).handshake(io).await.map_err(|e| e.to_string())?;
        Ok(Self { sender, driver: Some(driver), probe, written, used: Instant::now() })
    }

    /// Whether it may be used again.
    pub(super) async fn usable(&mut self) -> bool {
        // An end that was heard since, or came with the last answer, is seen by this.
        self.drive(ready(())).await;
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
        let Self { sender, driver, written, .. } = self;
        written.store(false, Ordering::SeqCst);
        // The driver's error comes out here too.
        drive(driver, sender.ready()).await.map_err(|e| Failure::Unsent(describe(&e)))?;
        let answer = sender.send_request(request);
        drive(driver, answer).await.map_err(|error| {
            if written.load(Ordering::SeqCst) {
                Failure::Sent(describe(&error))
            } else {
                Failure::Unsent(describe(&error))
            }
        })
    }

    /// Waits for something that comes over the connection.
    pub(super) async fn drive<F: Future>(&mut self, what: F) -> F::Output {
        drive(&mut self.driver, what).await
    }

    /// Says that an answer was read to its end: the connection rests from now on.
    pub(super) fn rest(&mut self) {
        self.used = Instant::now();
    }
}

async fn drive<F: Future>(driver: &mut Option<Driver>, what: F) -> F::Output {
    let mut what = pin!(what);
    poll_fn(|context| {
        if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(context).is_ready()) {
            *driver = None; // closed
        }
        what.as_mut().poll(context)
    })
    .await
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
