//! One kept connection to a sidecar: a request at a time, as a client library with keep-alive does it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(20);

/// A connection that is kept.
#[derive(Debug)]
pub(crate) struct Caller {
    connection: SendRequest<Full<Bytes>>,
}

impl Caller {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self { connection })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<u16> {
        self.send(hyper::Request::get(path).header(HOST, "bench").body(Full::default())?).await
    }

    /// Proposes a command and waits until it is ordered and durable.
    pub(crate) async fn propose(&mut self, id: &str, payload: Bytes) -> Result<u16> {
        let request = hyper::Request::post("/v1/commands")
            .header(HOST, "bench")
            .header("ce-id", id)
            .header("prefer", "respond-async")
            .header("content-type", "application/octet-stream")
            .body(Full::new(payload))?;
        self.send(request).await
    }

    async fn send(&mut self, request: hyper::Request<Full<Bytes>>) -> Result<u16> {
        let answer = async {
            self.connection.ready().await?;
            let response = self.connection.send_request(request).await?;
            let status = response.status().as_u16();
            response.into_body().collect().await?;
            anyhow::Ok(status)
        };
        tokio::time::timeout(LIMIT, answer).await.context("no answer in time")?
    }
}
