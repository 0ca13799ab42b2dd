//! A network in one process, whose lines can be cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use decree_sidecar::log::raft::RaftLog;
use decree_sidecar::log::raft::ask::{Answer, Ask, Error, Letter, Question};
use decree_sidecar::log::raft::types::Member;

/// All lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<String, RaftLog>,
    /// From whom to whom nothing gets through.
    cut: BTreeSet<(String, String)>,
    /// So long entries take to be kept, as on slow disks.
    slow: Duration,
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// As `address` asks.
    pub(crate) fn of(&self, address: &str) -> Arc<dyn Ask> {
        Arc::new(Line { lines: self.clone(), own: address.to_owned() })
    }

    /// Who is asked at an address; none: nobody is there.
    pub(crate) fn connect(&self, address: &str, log: Option<RaftLog>) {
        match log {
            Some(log) => _ = self.state().members.insert(address.to_owned(), log),
            None => _ = self.state().members.remove(address),
        }
    }

    /// Nothing gets from one to the other any more.
    pub(crate) fn cut(&self, from: &str, to: &str) {
        self.state().cut.insert((from.to_owned(), to.to_owned()));
    }

    /// From now on entries take so long to be kept by who gets them.
    pub(crate) fn slow(&self, slow: Duration) {
        self.state().slow = slow;
    }

    /// All lines are well again.
    pub(crate) fn mend(&self) {
        self.state().cut.clear();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.state().cut.contains(&(from.to_owned(), to.to_owned()))
    }
}

#[derive(Debug)]
struct Line {
    lines: Lines,
    own: String,
}

#[async_trait]
impl Ask for Line {
    async fn ask(&self, to: &Member, letter: Letter, limit: Duration) -> Result<Answer, Error> {
        let silence = async {
            tokio::time::sleep(limit).await;
            Err(Error::NoAnswer("nothing came back".into()))
        };
        if self.lines.is_cut(&self.own, &to.address) {
            return silence.await;
        }
        let there = self.lines.state().members.get(&to.address).cloned();
        let Some(there) = there else { return Err(Error::NotSent("nobody is there".into())) };
        let entries = matches!(&letter.question, Question::Append(append) if !append.entries.is_empty());
        let slow = if entries { self.lines.state().slow } else { Duration::ZERO };
        // Who asks may stop waiting; who was asked does it all the same.
        let answer = tokio::spawn(async move {
            let answer = there.answer(letter).await;
            tokio::time::sleep(slow).await;
            answer
        });
        let answer = tokio::time::timeout(limit, answer).await;
        if self.lines.is_cut(&to.address, &self.own) {
            return silence.await;
        }
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::NoAnswer("it takes too long".into())),
        }
    }
}
