//! What is counted and measured of a member as it happens.

use openraft::async_runtime::WatchReceiver;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::machine::Raft;

/// An fdatasync: from a tenth of a millisecond to ten seconds.
const SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.064, 0.256, 1.0, 10.0];

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Measures {
    /// How long the disk took to keep a write.
    pub synced: Histogram,
    /// Terms that were begun.
    pub elections: Counter,
    /// How often another one led.
    pub leaders: Counter,
}

impl Default for Measures {
    fn default() -> Self {
        let (elections, leaders) = (Counter::default(), Counter::default());
        Self { synced: Histogram::new(SECONDS), elections, leaders }
    }
}

impl Measures {
    /// Counts elections and leaders until openraft ends.
    pub async fn count(self, raft: Raft) {
        let mut metrics = raft.server_metrics();
        let mut known = (0, None);
        loop {
            let (term, leader) = {
                let now = metrics.borrow_watched();
                (now.vote.leader_id.term, now.current_leader)
            };
            if term > known.0 {
                self.elections.inc();
            }
            if leader.is_some() && leader != known.1 {
                self.leaders.inc();
            }
            known = (term, leader.or(known.1));
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }
}
