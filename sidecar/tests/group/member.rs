//! Sidecars of one group as processes on loopback, each beside its application.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use decree_wire::document::group::{Fixed, FixedMember, Group, IdentityFiles};
use decree_wire::document::{Class, Document, Mode};
use decree_wire::identity::Peer;
use decree_wire::position::{EngineName, Incarnation};
use decree_wire::settings::{ClassSettings, Dedup, Settings};

use super::application::Application;
use super::authority::{Authority, When, peer};
use super::client::{Answer, free_port, request, until};

/// A group of so many members.
pub(crate) struct Members {
    pub(crate) authority: Authority,
    pub(crate) all: Vec<Member>,
}

pub(crate) struct Member {
    pub(crate) pod: String,
    folder: tempfile::TempDir,
    ports: [u16; 4],
    pub(crate) application: Application,
    child: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Members {
    /// Of a group that is written down.
    pub(crate) fn new(count: usize) -> Self {
        let members = Self::unformed(count);
        let all = members.all.iter();
        let fixed =
            all.map(|member| FixedMember { pod: member.pod.clone(), address: member.peers().to_string() });
        let incarnation = Incarnation("first".into());
        let fixed = Fixed { incarnation, members: fixed.collect(), settings: settings() };
        members.all.iter().for_each(|member| member.told(|group| group.fixed = Some(fixed.clone())));
        members
    }

    /// Of a group that somebody forms.
    pub(crate) fn unformed(count: usize) -> Self {
        let all: Vec<_> = (0..count).map(|n| Member::new(format!("a-{n}"))).collect();
        all.iter().for_each(|member| member.told(|_| {}));
        let members = Self { authority: Authority::new("group"), all };
        (0..count).for_each(|n| members.certify(n));
        members
    }

    /// Gives a member another certificate.
    pub(crate) fn certify(&self, n: usize) {
        let member = &self.all[n];
        let material = self.authority.sign(&peer(&member.pod), When::Now);
        member.put("peers.crt", &material.authorities);
        member.put("own.key", &material.key);
        member.put("own.crt", &material.certificate);
    }

    pub(crate) fn start(&mut self) {
        self.all.iter_mut().for_each(Member::start);
    }

    pub(crate) fn until_ready(&self) {
        for member in &self.all {
            until(&format!("{} is ready", member.pod), || {
                request(member.health(), "GET", "/readyz", &[], "").status == 200
            });
        }
    }

    /// Which of them leads, if one says so.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.all.iter().position(|member| {
            let group = member.status()["group"].clone();
            group["leader"].is_number() && group["leader"] == group["member"]
        })
    }

    /// So many vote, as one that leads sees it.
    pub(crate) fn voters(&self) -> usize {
        let Some(leader) = self.leader() else { return 0 };
        let members = self.all[leader].status()["group"]["members"].clone();
        let members = members.as_array().cloned().unwrap_or_default();
        members.iter().filter(|member| member["voter"] == true).count()
    }
}

impl Member {
    fn new(pod: String) -> Self {
        let member = Self {
            pod,
            folder: tempfile::tempdir().unwrap(),
            ports: std::array::from_fn(|_| free_port()),
            application: Application::start(),
            child: None,
        };
        for folder in ["document", "state", "run"] {
            std::fs::create_dir(member.path(folder)).unwrap();
        }
        member
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path("document").join(file)).unwrap();
    }

    /// Writes its document, with its group as that says.
    pub(crate) fn told(&self, group: impl FnOnce(&mut Group)) {
        let mut document = document(self.application.port());
        group(document.group.as_mut().unwrap());
        self.put("document.json", &serde_json::to_string(&document).unwrap());
    }

    fn address(&self, door: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[door]).into()
    }

    /// Where its application proposes.
    pub(crate) fn api(&self) -> SocketAddr {
        self.address(0)
    }

    pub(crate) fn health(&self) -> SocketAddr {
        self.address(1)
    }

    /// Where peers come in.
    pub(crate) fn peers(&self) -> SocketAddr {
        self.address(3)
    }

    pub(crate) fn start(&mut self) {
        let Peer { namespace, uid, .. } = peer(&self.pod);
        let mut command = Command::new(env!("CARGO_BIN_EXE_decree-sidecar"));
        command
            .env_clear()
            .env("DECREE_POD", &self.pod)
            .env("DECREE_POD_UID", uid)
            .env("DECREE_NAMESPACE", namespace)
            .env("DECREE_CLASS", "a")
            .env("DECREE_RESTART", "Container")
            .env("DECREE_LOG", std::env::var("DECREE_LOG").unwrap_or_else(|_| "warn".into()));
        for (flag, folder) in [("--document", "document"), ("--state", "state"), ("--run", "run")] {
            command.arg(flag).arg(self.path(folder));
        }
        for (door, flag) in ["--api", "--health", "--replicate", "--peers"].into_iter().enumerate() {
            command.arg(flag).arg(self.address(door).to_string());
        }
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and no word of whether it ends.
    pub(crate) fn signal(&self) {
        let pid = self.child.as_ref().unwrap().id();
        assert!(Command::new("kill").arg("-TERM").arg(pid.to_string()).status().unwrap().success());
    }

    /// Whether it has ended, without complaint.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some_and(|status| status.success())
    }

    /// SIGTERM; how long it then took to end, without complaint.
    pub(crate) fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().unwrap();
        let begun = Instant::now();
        let sent = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
        assert!(sent.success() && child.wait().unwrap().success());
        begun.elapsed()
    }

    /// Loses its disk, and with it its member's id.
    pub(crate) fn lose_disk(&self) {
        std::fs::remove_dir_all(self.path("state")).unwrap();
        std::fs::create_dir(self.path("state")).unwrap();
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        let answer = request(self.health(), "GET", "/status", &[], "");
        if answer.status == 200 { answer.json() } else { serde_json::Value::Null }
    }

    pub(crate) fn metrics(&self) -> String {
        request(self.health(), "GET", "/metrics", &[], "").body
    }

    /// Proposes, and waits until it is ordered.
    pub(crate) fn propose(&self, id: &str, body: &str) -> Answer {
        let headers = [("ce-id", id), ("prefer", "respond-async")];
        request(self.address(0), "POST", "/v1/commands", &headers, body)
    }

    /// Ends the application; its next life has the same port, and has taken nothing.
    pub(crate) fn another_life(&mut self) {
        self.application.stop();
        self.application = Application::at(self.application.port());
    }

    /// What a kubelet does: an application whose sidecar says that it is to be restarted gets another life.
    pub(crate) fn heal(&mut self) -> bool {
        let called = self.status()["replica"]["callsFor"] == "ContainerRestart";
        if called {
            self.another_life();
        }
        called
    }

    /// The most memory that it ever had.
    pub(crate) fn most_kib(&self) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|own| own.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// The settings of the engine that all are of.
pub(crate) fn settings() -> Settings {
    let Peer { cluster, namespace, engine, .. } = peer("any");
    Settings {
        engine: EngineName { namespace, name: engine },
        cluster,
        dedup: Dedup::default(),
        classes: [("a".to_owned(), ClassSettings::default())].into(),
    }
}

fn document(port: u16) -> Document {
    let Settings { engine, cluster, .. } = settings();
    Document {
        level: 1,
        engine,
        cluster,
        kafka: None,
        group: Some(Group {
            name: "policy".into(),
            genesis: None,
            election_timeout_ms: 1000,
            heartbeat_interval_ms: 100,
            identity: Some(IdentityFiles {
                authorities: "peers.crt".into(),
                certificate: "own.crt".into(),
                key: "own.key".into(),
            }),
            issuer: None,
            gone: Vec::new(),
            fixed: None,
        }),
        classes: vec![Class {
            name: "a".into(),
            port,
            health_path: None,
            overdue_after_ms: 30_000,
            mode: Mode::Apply { path: "/".into() },
            deliver_headers: None,
        }],
        heartbeat_ms: 500,
    }
}
