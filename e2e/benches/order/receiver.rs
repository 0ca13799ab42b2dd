//! An application that answers at once and notes when each command came.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// When command n came, for those that did.
pub(crate) type Arrivals = Arc<Mutex<Vec<Option<Instant>>>>;

/// Listens on a port of its own until the process ends.
pub(crate) async fn start() -> Result<(SocketAddr, Arrivals)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let arrivals = Arrivals::default();
    let shared = Arc::clone(&arrivals);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let service = service_fn(|request| take(request, &shared));
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
    Ok((address, arrivals))
}

async fn take(request: Request<Incoming>, arrivals: &Arrivals) -> Result<Response<Full<Bytes>>, Infallible> {
    let now = Instant::now();
    let id = request.headers().get("ce-id").and_then(|id| id.to_str().ok()?.parse::<usize>().ok());
    let _ = request.into_body().collect().await;
    if let Some(id) = id {
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if arrivals.len() <= id {
            arrivals.resize(id + 1, None);
        }
        arrivals[id] = Some(now);
    }
    Ok(Response::new(Full::from("ok")))
}
