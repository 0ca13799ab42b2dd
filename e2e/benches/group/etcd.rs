//! Three members of etcd on loopback, as they come, and clients that put over gRPC.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::{MEMBERS, PAYLOAD, Turn, again, free, side_by_side};

const READY_LIMIT: Duration = Duration::from_secs(30);
const PUT_LIMIT: Duration = Duration::from_secs(20);

/// Ends with this value.
pub(crate) struct Cluster {
    children: Vec<Child>,
    _folder: tempfile::TempDir,
    /// The leader's first.
    clients: Vec<SocketAddr>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    pub(crate) async fn start(etcd: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let peers = (0..MEMBERS).map(|_| free()).collect::<Result<Vec<_>>>()?;
        let clients = (0..MEMBERS).map(|_| free()).collect::<Result<Vec<_>>>()?;
        let all: Vec<_> = peers.iter().enumerate().map(|(n, peer)| format!("m{n}=http://{peer}")).collect();
        let mut children = Vec::new();
        for n in 0..MEMBERS {
            let (peer, client) = (format!("http://{}", peers[n]), format!("http://{}", clients[n]));
            let mut command = Command::new(etcd);
            command
                .arg(format!("--name=m{n}"))
                .arg(format!("--data-dir={}", folder.path().join(n.to_string()).display()));
            command
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"));
            command
                .arg(format!("--listen-client-urls={client}"))
                .arg(format!("--advertise-client-urls={client}"));
            command.arg(format!("--initial-cluster={}", all.join(","))).arg("--log-level=error");
            command.stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.spawn().with_context(|| format!("start {}", etcd.display()))?);
        }
        let mut cluster = Self { children, _folder: folder, clients };
        cluster.leader_first().await?;
        Ok(cluster)
    }

    async fn leader_first(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            for n in 0..MEMBERS {
                let url = format!("http://{}/v3/maintenance/status", self.clients[n]);
                let leads = tokio::task::spawn_blocking(move || leads(&url)).await?;
                if leads.unwrap_or(false) {
                    self.children.swap(0, n);
                    self.clients.swap(0, n);
                    return Ok(());
                }
            }
            ensure!(begun.elapsed() < READY_LIMIT, "etcd has no leader after {READY_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) async fn turn(&self, clients: usize, turn: Duration) -> Result<Turn> {
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let mut running = Vec::new();
        for n in 0..clients {
            let connection = connect(self.clients[n % MEMBERS]).await?;
            running.push(again(turn, move || {
                let key = format!("key-{}", KEYS.fetch_add(1, Ordering::Relaxed));
                put(connection.clone(), key)
            }));
        }
        let pids: Vec<_> = self.children.iter().map(Child::id).collect();
        side_by_side(&pids, turn, running).await
    }
}

/// Whether the member at this address leads.
fn leads(url: &str) -> Result<bool> {
    let status: serde_json::Value =
        ureq::post(url).send_json(serde_json::json!({}))?.body_mut().read_json()?;
    Ok(status["leader"].is_string() && status["leader"] == status["header"]["member_id"])
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// `etcdserverpb.PutRequest`: the key is field 1, the value field 2, both bytes; gRPC puts a flag and the length before.
async fn put(mut connection: SendRequest<Full<Bytes>>, key: String) -> Result<()> {
    let value = [7_u8; PAYLOAD];
    let mut message = BytesMut::new();
    for (field, bytes) in [(0x0a, key.as_bytes()), (0x12, &value)] {
        message.put_u8(field);
        let mut length = bytes.len();
        while length >= 0x80 {
            message.put_u8(u8::try_from(length & 0x7f)? | 0x80);
            length >>= 7;
        }
        message.put_u8(u8::try_from(length)?);
        message.put_slice(bytes);
    }
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len())?);
    body.put_slice(&message);
    let request = hyper::Request::post("http://etcd/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body.freeze()))?;
    let answer = async {
        let response = connection.send_request(request).await?;
        ensure!(response.status() == 200, "a put was answered {}", response.status());
        let body = response.into_body().collect().await?;
        match body.trailers().and_then(|trailers| trailers.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            other => bail!("a put was answered {other:?}"),
        }
    };
    tokio::time::timeout(PUT_LIMIT, answer).await.context("no answer in time")?
}
