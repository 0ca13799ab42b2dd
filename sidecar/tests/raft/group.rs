//! A group in one process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use decree_sidecar::log::raft::ask::Ask;
use decree_sidecar::log::raft::disk::Disk;
use decree_sidecar::log::raft::genesis::Genesis;
use decree_sidecar::log::raft::measures::Measures;
use decree_sidecar::log::raft::membership::{Change, Error};
use decree_sidecar::log::raft::types::Member;
use decree_sidecar::log::raft::{RaftLog, Settings};
use decree_sidecar::log::{self, Log, NewEntry, Stored};
use decree_wire::command::Command;
use decree_wire::entry::Body;
use decree_wire::position::{Incarnation, Position};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep, timeout};

use crate::lines::Lines;

/// How long anything may take before a test gives up.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) struct Group {
    pub(crate) lines: Lines,
    folder: TempDir,
    genesis: Genesis,
    /// None: killed.
    members: Vec<Option<Life>>,
}

/// A member, with threads of its own: these can be stopped, and ended at any instruction.
struct Life {
    log: RaftLog,
    runtime: Option<Runtime>,
}

impl Drop for Life {
    fn drop(&mut self) {
        // Does not wait: whatever was under way is cut off.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

pub(crate) fn address(n: usize) -> String {
    format!("member-{n}:7073")
}

pub(crate) fn member(n: usize) -> Member {
    Member { agent: format!("member-{n}"), address: address(n), zone: format!("node-{n}") }
}

/// Opens a member on its disk.
pub(crate) async fn open_member(
    folder: &Path,
    genesis: &Genesis,
    ask: Arc<dyn Ask>,
) -> Result<RaftLog, log::Error> {
    let disk = Disk::open(folder.to_owned(), Measures::default()).await?;
    disk.adopt(genesis.clone()).await?;
    let settings = Settings { election_timeout: TIMEOUT, heartbeat_interval: Duration::from_millis(50) };
    RaftLog::open(&disk, settings, ask).await
}

pub(crate) fn genesis(base: u64) -> Genesis {
    let incarnation = Incarnation(uuid::Uuid::new_v4().to_string());
    Genesis { base: Position(base), ..Genesis::fixed(incarnation) }
}

impl Group {
    /// Begun with one member, grown one by one.
    pub(crate) async fn of(count: usize) -> Self {
        Self::begun(count, 0).await
    }

    pub(crate) async fn begun(count: usize, base: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut group = Self { lines: Lines::default(), folder, genesis: genesis(base), members: Vec::new() };
        for n in 0..count {
            let life = group.open(n).await;
            if n == 0 {
                life.log.initialize(member(0)).await.unwrap();
            }
            group.members.push(Some(life));
            if n > 0 {
                group.join(n).await;
            }
        }
        group
    }

    /// A member that lives.
    pub(crate) fn at(&self, n: usize) -> &RaftLog {
        &self.members[n].as_ref().unwrap().log
    }

    /// All that live.
    pub(crate) fn all(&self) -> impl Iterator<Item = &RaftLog> {
        self.members.iter().flatten().map(|life| &life.log)
    }

    /// One more.
    pub(crate) async fn grow(&mut self) {
        let n = self.members.len();
        self.members.push(Some(self.open(n).await));
        self.join(n).await;
    }

    pub(crate) fn folder(&self, n: usize) -> PathBuf {
        self.folder.path().join(n.to_string())
    }

    /// Opens a member again, or for the first time.
    async fn open(&self, n: usize) -> Life {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (lines, folder, genesis) = (self.lines.clone(), self.folder(n), self.genesis.clone());
        let log = runtime.spawn(async move { open(&lines, &folder, &genesis, n).await }).await.unwrap();
        self.lines.connect(&address(n), Some(log.clone()));
        Life { log, runtime: Some(runtime) }
    }

    /// As SIGSTOP does, and SIGCONT after a while: it does nothing, not even look at the clock.
    pub(crate) fn pause(&self, n: usize, pause: Duration) {
        let runtime = self.members[n].as_ref().unwrap().runtime.as_ref().unwrap();
        drop(runtime.spawn(async move { std::thread::sleep(pause) }));
    }

    /// Makes a member of it, that votes.
    pub(crate) async fn join(&self, n: usize) {
        let id = self.at(n).id();
        let until = Instant::now() + LIMIT;
        let mut added = false;
        loop {
            let leader = self.at(self.leader().await);
            let change =
                if added { Change::Promote { id, instead_of: None } } else { Change::Add(id, member(n)) };
            match leader.change(None, change).await {
                Ok(()) if added => return,
                Ok(()) => added = true,
                Err(Error::NotLeader(_) | Error::Refused(_) | Error::Unknown(_)) => {}
            }
            assert!(Instant::now() < until, "the group does not take the member");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The member that all others follow.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_but(usize::MAX).await
    }

    /// As the others see it.
    pub(crate) async fn leader_but(&self, but: usize) -> usize {
        let until = Instant::now() + LIMIT;
        loop {
            let others = self.members.iter().enumerate().filter(|(n, _)| *n != but);
            for (n, log) in others.filter_map(|(n, life)| Some((n, &life.as_ref()?.log))) {
                if log.view().leader == Some(log.id()) {
                    return n;
                }
            }
            assert!(Instant::now() < until, "nobody leads");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// As if its process were gone: it is not heard any more, at once, and does nothing any more.
    pub(crate) fn kill(&mut self, n: usize) {
        self.lines.connect(&address(n), None);
        for other in 0..self.members.len() {
            self.lines.cut(&address(n), &address(other));
        }
        self.members[n] = None;
    }

    /// Its process is there again.
    pub(crate) async fn revive(&mut self, n: usize) {
        self.lines.mend();
        self.members[n] = Some(self.open(n).await);
    }

    pub(crate) fn cut_off(&self, n: usize) {
        for other in (0..self.members.len()).filter(|other| *other != n) {
            self.lines.cut(&address(n), &address(other));
            self.lines.cut(&address(other), &address(n));
        }
    }

    pub(crate) async fn close(self) {
        for (n, life) in self.members.into_iter().enumerate() {
            self.lines.connect(&address(n), None);
            if let Some(life) = life {
                life.log.close().await;
            }
        }
    }
}

/// What was closed may hold its folder a little longer.
async fn open(lines: &Lines, folder: &Path, genesis: &Genesis, n: usize) -> RaftLog {
    let until = Instant::now() + LIMIT;
    loop {
        match open_member(folder, genesis, lines.of(&address(n))).await {
            Ok(log) => return log,
            Err(error) if error.to_string().contains("ock") && Instant::now() < until => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < until, "not in time: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn command(id: impl ToString) -> NewEntry {
    let id = id.to_string();
    NewEntry::Command(Command { payload: Bytes::from(id.clone()), id: Some(id), ..Command::default() })
}

/// Appends until it is certainly ordered once at least; an id may then be there twice.
pub(crate) async fn append(log: &dyn Log, id: impl ToString) -> Position {
    let entry = command(id);
    let until = Instant::now() + LIMIT;
    loop {
        match log.append(&entry).await {
            Ok(position) => return position,
            Err(log::Error::Unreachable(_) | log::Error::Unknown(_) | log::Error::Full) => {}
            Err(error) => panic!("append: {error}"),
        }
        assert!(Instant::now() < until, "it is never ordered");
    }
}

/// All entries up to a position, exclusive.
pub(crate) async fn read(log: &dyn Log, from: Position, to: Position) -> Vec<Stored> {
    let mut reader = log.read(from).await.unwrap();
    let mut read = Vec::new();
    timeout(LIMIT, async {
        loop {
            let batch = reader.next(Duration::from_millis(200)).await.unwrap();
            read.extend(batch.entries);
            if batch.next >= to {
                return;
            }
        }
    })
    .await
    .expect("the log is read in time");
    read.retain(|stored: &Stored| stored.entry.position < to);
    read
}

pub(crate) fn id(stored: &Stored) -> String {
    match &stored.entry.body {
        Body::Command(command) => command.id.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn shared(log: &RaftLog) -> Arc<dyn Log> {
    Arc::new(log.clone())
}
