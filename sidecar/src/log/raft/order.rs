//! Orders entries on the leader: gives each the time, hands them to openraft together, and says what became of each.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use openraft::errors::ClientWriteError;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::ask::Proposed;
use super::local::Local;
use super::types::{Fatal, Proposal, TypeConfig};

/// How long entries may take, from here to a quorum's disks and back.
pub const LIMIT: Duration = Duration::from_secs(10);

/// So much may be in the log that is not on this disk, or not certain. What a disk or a quorum does not take for long is
/// refused here: it would be in memory, or fill the disk.
const BACKLOG: usize = 16 << 20;

/// Orders on this member, while it leads.
#[derive(Debug)]
pub struct Order {
    local: Arc<Local>,
    /// The time of the last entry that was handed on. Held while entries are handed on, so that their times are in the
    /// order in which they are.
    newest: Mutex<i64>,
}

impl Order {
    /// On this member.
    #[must_use]
    pub fn new(local: Arc<Local>) -> Self {
        Self { local, newest: Mutex::new(0) }
    }

    /// Orders these records; one answer for each, in order.
    pub async fn all(&self, records: Vec<Bytes>) -> Vec<Proposed> {
        if let Err(why) = self.local.room.for_proposals() {
            return vec![Proposed::NoRoom(why); records.len()];
        }
        let count = records.len();
        if self.local.store.backlog() > BACKLOG {
            return vec![Proposed::Full; count];
        }
        let unknown = |why: &str| vec![Proposed::Unknown(why.to_owned()); count];
        match timeout(LIMIT, self.handed(records)).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) => unknown("this member has ended"),
            Err(_) => unknown(&format!("no quorum has had it on disk within {LIMIT:?}")),
        }
    }

    async fn handed(&self, records: Vec<Bytes>) -> Result<Vec<Proposed>, Fatal> {
        let mut results = {
            let mut newest = self.newest.lock().await;
            let log_time = later(now(), *newest, self.local.store.log_time());
            *newest = log_time;
            let proposals = records.into_iter().map(|record| Proposal { log_time, record });
            self.local.raft.client_write_many(proposals).await?
        };
        let mut answers = Vec::new();
        while let Some(result) = results.next().await {
            answers.push(match result? {
                Ok(written) => Proposed::Ordered(written.log_id.index()),
                Err(error) => refused(error),
            });
        }
        Ok(answers)
    }
}

fn refused(error: ClientWriteError<TypeConfig>) -> Proposed {
    match error {
        // It was not appended.
        ClientWriteError::ForwardToLeader(_) => Proposed::NotLeader,
        // It was appended here, and another leader may have it, or not.
        ClientWriteError::LogEntryDiscarded(_) => Proposed::Unknown("another member leads by now".into()),
        error @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)) => {
            Proposed::Unknown(error.to_string())
        }
    }
}

/// The log time of the next entry: this member's clock, but never before what was given already.
fn later(now: i64, given: i64, in_log: i64) -> i64 {
    now.max(given).max(in_log)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_back_does_not_take_the_log_with_it() {
        assert_eq!(later(10, 5, 7), 10);
        assert_eq!(later(3, 5, 7), 7, "the leader before had a faster clock");
        assert_eq!(later(3, 9, 7), 9);
    }
}
