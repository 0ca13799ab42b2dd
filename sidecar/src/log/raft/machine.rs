//! The thin state machine: it knows how far the log is applied, and the memberships. What entries say, replicas read
//! from the log itself, each at its own pace.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::store::Store;
use super::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// openraft on this state machine.
pub type Raft = openraft::Raft<TypeConfig, Machine>;

/// Up to where the next thin snapshot goes; everything, where nothing is said.
#[derive(Clone, Debug, Default)]
pub struct Upto(Arc<Mutex<Option<LogId>>>);

impl Upto {
    /// Says it.
    pub fn set(&self, upto: Option<LogId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = upto;
    }

    fn get(&self) -> Option<LogId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks entries as applied, once they are committed.
#[derive(Debug)]
pub struct Machine {
    store: Store,
    upto: Upto,
}

impl Machine {
    /// Goes on where the store says.
    #[must_use]
    pub fn new(store: Store, upto: Upto) -> Self {
        Self { store, upto }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.store.applied())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let (mut last, mut memberships, mut responders) = (None, Vec::new(), Vec::new());
        while let Some((entry, responder)) = entries.try_next().await? {
            last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                memberships.push(StoredMembership::new(last, membership));
            }
            responders.extend(responder);
        }
        if last.is_some() {
            self.store.set_applied(last, memberships);
        }
        // Who has appended an entry can read it.
        responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { store: self.store.clone(), upto: self.upto.get() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, (): ()) -> io::Result<()> {
        self.store.set_snapshot(meta.clone()).await?;
        self.store.set_applied(meta.last_log_id, vec![meta.last_membership.clone()]);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.store.snapshot().map(|meta| Snapshot { meta, snapshot: () }))
    }
}

/// Makes a thin snapshot: it says only from where on the log is needed.
#[derive(Debug)]
pub struct Builder {
    store: Store,
    upto: Option<LogId>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (applied, newest) = self.store.applied();
        let (last, membership) = match self.upto.filter(|upto| Some(*upto) < applied) {
            None => (applied, Some(newest)),
            Some(upto) => (Some(upto), self.store.membership_at(upto)),
        };
        let last_membership =
            membership.ok_or_else(|| io::Error::other("the membership there is not known"))?;
        let meta = SnapshotMeta { last_log_id: last, last_membership };
        self.store.set_snapshot(meta.clone()).await?;
        Ok(Snapshot { meta, snapshot: () })
    }
}
