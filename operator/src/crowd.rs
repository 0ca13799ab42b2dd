//! Bounds a port's connections: where all are taken, the one that has been silent for longest makes room.
//!
//! ```text
//!  accept ─▶ Crowd ─ full? ─▶ the most silent ends     Member ─▶ TLS ─▶ HTTP
//!              └──────────── looks at ────────────────▶ when it last said something
//! ```

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::Server;
use axum_server::accept::Accept;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// A request's head is at most this; beyond it hyper answers 431.
const HEAD_BYTES: u32 = 32 << 10;
/// So long may a request's head take, and an HTTP/1 connection be idle: longer than between two scrapes.
const HEAD_LIMIT: Duration = Duration::from_secs(75);
/// What one HTTP/2 connection may have sent before anybody reads it.
const WINDOW: u32 = 256 << 10;
/// And so many requests at once.
const STREAMS: u32 = 64;
/// A client that does not answer is gone.
const PING_EVERY: Duration = Duration::from_secs(30);

/// The connections of one port. Clones share them.
#[derive(Clone, Debug)]
pub struct Crowd {
    most: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    present: HashMap<u64, Arc<Voice>>,
}

/// When a connection last said something, and whether it has to go.
#[derive(Debug)]
struct Voice {
    last: Mutex<Instant>,
    ended: AtomicBool,
    reader: AtomicWaker,
}

impl Crowd {
    /// At most so many.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { most, members: Arc::default() }
    }

    /// A stream that belongs to it until it is dropped.
    pub fn admit<I>(&self, io: I) -> Member<I> {
        let voice = Arc::new(Voice {
            last: Mutex::new(Instant::now()),
            ended: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        });
        let mut members = self.members();
        while members.present.len() >= self.most {
            let silent = members.present.iter().min_by_key(|(_, voice)| *voice.last()).map(|(id, _)| *id);
            let Some(voice) = silent.and_then(|id| members.present.remove(&id)) else { break };
            voice.end();
        }
        let id = members.next;
        members.next += 1;
        members.present.insert(id, Arc::clone(&voice));
        Member { io, id, voice, crowd: self.clone() }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Voice {
    fn last(&self) -> MutexGuard<'_, Instant> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.reader.wake();
    }

    fn check(&self) -> io::Result<()> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "made room for another"));
        }
        Ok(())
    }
}

impl<S> Accept<tokio::net::TcpStream, S> for Crowd {
    type Stream = Member<tokio::net::TcpStream>;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, S)>>;

    fn accept(&self, stream: tokio::net::TcpStream, service: S) -> Self::Future {
        ready(stream.set_nodelay(true).map(|()| (self.admit(stream), service)))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Member<I> {
    io: I,
    id: u64,
    voice: Arc<Voice>,
    crowd: Crowd,
}

impl<I> Drop for Member<I> {
    fn drop(&mut self) {
        self.crowd.members().present.remove(&self.id);
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Member<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.voice.reader.register(cx.waker());
        self.voice.check()?;
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            *self.voice.last() = Instant::now();
        }
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Member<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.voice.check()?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.voice.check()?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.voice.check()?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What the clients of both ports have to keep to.
pub fn bound<A: axum_server::Address, B>(mut server: Server<A, B>) -> Server<A, B> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES as usize).half_close(false);
    builder
        .http2()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES)
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY / 2);
    server
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_was_silent_for_longest_makes_room() {
        let crowd = Crowd::of(2);
        let (mut first_client, first) = duplex(64);
        let (_second_client, second) = duplex(64);
        let mut first = crowd.admit(first);
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut second = crowd.admit(second);
        tokio::time::advance(Duration::from_secs(1)).await;
        first_client.write_all(b"x").await.unwrap();
        first.read_u8().await.unwrap();
        let waits = tokio::spawn(async move { second.read_u8().await });
        tokio::task::yield_now().await;

        let third = crowd.admit(duplex(64).1);
        let ended = waits.await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionAborted, "also while it waits");
        first_client.write_all(b"y").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'y');
        drop(third);
        assert_eq!(crowd.members().present.len(), 1, "who leaves makes room too");
    }
}
