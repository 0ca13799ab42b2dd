//! Three sidecars on loopback that order among themselves, each beside an application that answers at once.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use decree_wire::identity::Peer;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::authority::Authority;
use crate::http::Caller;
use crate::{MEMBERS, PAYLOAD, Turn, again, free, receiver, side_by_side};

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Ends with this value.
pub(crate) struct Group {
    children: Vec<Child>,
    _folder: tempfile::TempDir,
    /// The leader's first.
    doors: Vec<Doors>,
}

#[derive(Clone, Copy)]
struct Doors {
    api: SocketAddr,
    health: SocketAddr,
    replicate: SocketAddr,
    peers: SocketAddr,
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Group {
    pub(crate) async fn start(sidecar: &Path) -> Result<Self> {
        let (folder, authority) = (tempfile::tempdir()?, Authority::new()?);
        let door = |_| Ok(Doors { api: free()?, health: free()?, replicate: free()?, peers: free()? });
        let doors = (0..MEMBERS).map(door).collect::<Result<Vec<_>>>()?;
        let members: Vec<_> = doors
            .iter()
            .enumerate()
            .map(|(n, own)| json!({"pod": pod(n), "address": own.peers.to_string()}))
            .collect();
        let mut children = Vec::new();
        for (n, own) in doors.iter().enumerate() {
            let (application, _) = receiver::start().await?;
            let at = folder.path().join(n.to_string());
            for name in ["document", "state", "run"] {
                std::fs::create_dir_all(at.join(name))?;
            }
            let (certificate, key) = authority.sign(&peer(n))?;
            let document = document(&members, application);
            for (file, text) in [
                ("ca.crt", &authority.certificate),
                ("own.crt", &certificate),
                ("own.key", &key),
                (decree_wire::document::FILE, &document.to_string()),
            ] {
                std::fs::write(at.join("document").join(file), text)?;
            }
            let mut command = Command::new(sidecar);
            command
                .env_clear()
                .env("DECREE_POD", pod(n))
                .env("DECREE_CLASS", "bench")
                .env("DECREE_LOG", "warn");
            for flag in ["document", "state", "run"] {
                command.arg(format!("--{flag}")).arg(at.join(flag));
            }
            let Doors { api, health, replicate, peers } = own;
            for (flag, at) in [("api", api), ("health", health), ("replicate", replicate), ("peers", peers)] {
                command.arg(format!("--{flag}")).arg(at.to_string());
            }
            command.stdout(Stdio::null());
            children.push(command.spawn().with_context(|| format!("start {}", sidecar.display()))?);
        }
        let mut group = Self { children, _folder: folder, doors };
        group.leader_first().await?;
        Ok(group)
    }

    /// Once all three vote.
    async fn leader_first(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            for n in 0..MEMBERS {
                let url = format!("http://{}/status", self.doors[n].health);
                let status = tokio::task::spawn_blocking(move || status(&url)).await?.unwrap_or_default();
                let group = &status["group"];
                let voters = group["members"].as_array().into_iter().flatten();
                let voters = voters.filter(|member| member["voter"] == true).count();
                if group["leader"].is_number() && group["leader"] == group["member"] && voters == MEMBERS {
                    self.children.swap(0, n);
                    self.doors.swap(0, n);
                    return self.all_ready(begun).await;
                }
            }
            ensure!(begun.elapsed() < READY_LIMIT, "the group is not whole after {READY_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn all_ready(&self, begun: Instant) -> Result<()> {
        for own in &self.doors {
            while Caller::connect(own.health).await?.get("/readyz").await? != 200 {
                ensure!(begun.elapsed() < READY_LIMIT, "a sidecar is not ready after {READY_LIMIT:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    pub(crate) async fn turn(&self, clients: usize, turn: Duration) -> Result<Turn> {
        static IDS: AtomicU64 = AtomicU64::new(0);
        let payload = Bytes::from(vec![7_u8; PAYLOAD]);
        let mut running = Vec::new();
        for n in 0..clients {
            let caller = Arc::new(Mutex::new(Caller::connect(self.doors[n % MEMBERS].api).await?));
            let payload = payload.clone();
            running.push(again(turn, move || {
                let (caller, payload) = (caller.clone(), payload.clone());
                async move {
                    let id = format!("p-{}", IDS.fetch_add(1, Ordering::Relaxed));
                    // Its one client holds it for one question at a time.
                    let status = caller.lock().await.propose(&id, payload).await?;
                    ensure!(status == 202, "a proposal was answered {status}");
                    Ok(())
                }
            }));
        }
        let pids: Vec<_> = self.children.iter().map(Child::id).collect();
        side_by_side(&pids, turn, running).await
    }
}

fn status(url: &str) -> Result<Value> {
    Ok(ureq::get(url).call()?.body_mut().read_json()?)
}

fn pod(n: usize) -> String {
    format!("bench-{n}")
}

fn peer(n: usize) -> Peer {
    let [cluster, namespace, engine] = ["bench"; 3].map(str::to_owned);
    Peer { cluster, namespace, engine, pod: pod(n), uid: n.to_string() }
}

fn document(members: &[Value], application: SocketAddr) -> Value {
    let engine = json!({"namespace": "bench", "name": "bench"});
    json!({
        "level": 1,
        "engine": engine,
        "cluster": "bench",
        "group": {
            "name": "bench",
            "electionTimeoutMs": 1000,
            "heartbeatIntervalMs": 100,
            "identity": {"authorities": "ca.crt", "certificate": "own.crt", "key": "own.key"},
            "fixed": {
                "incarnation": "bench",
                "members": members,
                "settings": {
                    "engine": engine,
                    "cluster": "bench",
                    "dedup": {"window": 1_000_000, "outcomes": 10_000, "outcomeBytes": 64 << 20},
                    "classes": {"bench": {"digest": "Outcome", "maxAttempts": 8}},
                },
            },
        },
        "classes": [{
            "name": "bench",
            "port": application.port(),
            "overdueAfterMs": 30_000,
            "mode": {"apply": {"path": "/"}},
        }],
        "heartbeatMs": 1000,
    })
}
