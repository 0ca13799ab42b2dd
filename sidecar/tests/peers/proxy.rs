//! A way to a door that can fall silent, as a network does: nothing is closed, nothing comes through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use decree_sidecar::peers::Target;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    address: SocketAddr,
    silent: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, heard) = watch::channel(false);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (from, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let to = TcpStream::connect(to).await.unwrap();
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                tokio::spawn(pass(from_read, to_write, heard.clone()));
                tokio::spawn(pass(to_read, from_write, heard.clone()));
            }
        });
        Self { address, silent, connections }
    }

    pub(crate) fn target(&self, pod: &str) -> Target {
        Target { pod: pod.into(), address: self.address.to_string() }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// What was said on a connection before or during the silence stays unheard.
    pub(crate) fn silence(&self) {
        self.silent.send_replace(true);
    }

    pub(crate) fn speak(&self) {
        self.silent.send_replace(false);
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut silent: watch::Receiver<bool>,
) -> Option<()> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let count = from.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        silent.wait_for(|silent| !silent).await.ok()?;
        to.write_all(&bytes[..count]).await.ok()?;
    }
}
