//! Every metric of this binary, by name. Labels are bounded: engine, class, and what stands here; never a path or an id.

use std::time::Duration;

use decree_wire::heartbeat::State;
use decree_wire::member::Role;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::log::raft::measures::Measures;
use crate::log::raft::view::View;
use crate::replica::Progress;

pub mod timed;

/// From a quarter of a millisecond to half a minute.
const SECONDS: [f64; 16] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0, 10.0,
    30.0,
];

/// How a proposal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// With the application's answer.
    Applied,
    /// With its position.
    Ordered,
    /// With the answer to the same command of before.
    Duplicate,
    /// Without anyone knowing yet how.
    Unknown,
    /// Refused by a bound.
    OverQuota,
    /// Refused for a state of this agent or the log.
    Unavailable,
    /// Refused for what it is.
    Refused,
}

impl Proposed {
    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ordered => "ordered",
            Self::Duplicate => "duplicate",
            Self::Unknown => "unknown",
            Self::OverQuota => "over_quota",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// What is counted as it happens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    proposals: Family<[(&'static str, &'static str); 1], Counter>,
    propose: Histogram,
    apply: Histogram,
    ordered_to_applied: Histogram,
    peer_refusals: Family<[(&'static str, &'static str); 1], Counter>,
    raft: Measures,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(SECONDS);
        Self {
            proposals: Family::default(),
            propose: histogram(),
            apply: histogram(),
            ordered_to_applied: histogram(),
            peer_refusals: Family::default(),
            raft: Measures::default(),
        }
    }
}

impl Metrics {
    /// A proposal ended.
    pub fn proposed(&self, how: Proposed, took: Duration) {
        self.proposals.get_or_create(&[("result", how.label())]).inc();
        self.propose.observe(took.as_secs_f64());
    }

    /// A delivery was answered. `since_ordered`: by the orderer's clock and this machine's.
    pub fn applied(&self, took: Duration, since_ordered: Duration) {
        self.apply.observe(took.as_secs_f64());
        self.ordered_to_applied.observe(since_ordered.as_secs_f64());
    }

    /// Someone was refused at the peers' port, or answered at a peer's address and is not that peer.
    pub fn peer_refused(&self, reason: &'static str) {
        self.peer_refusals.get_or_create(&[("reason", reason)]).inc();
    }

    /// What a member of a group measures.
    #[must_use]
    pub fn raft(&self) -> &Measures {
        &self.raft
    }

    /// All of it as OpenMetrics text.
    #[must_use]
    pub fn encode(
        &self,
        engine: &str,
        class: &str,
        progress: Option<&Progress>,
        group: Option<&View>,
    ) -> String {
        let labels = [("engine", engine), ("class", class)].map(|(k, v)| (k.into(), v.to_owned().into()));
        let mut registry = Registry::with_labels(labels.into_iter());
        self.register(&mut registry);
        if let Some(progress) = progress {
            register_progress(&mut registry, progress);
        }
        if let Some(group) = group {
            self.register_group(&mut registry, group);
        }
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    fn register_group(&self, registry: &mut Registry, group: &View) {
        let roles = [
            (Role::Outside, "outside"),
            (Role::Learner, "learner"),
            (Role::Follower, "follower"),
            (Role::Candidate, "candidate"),
            (Role::Leader, "leader"),
        ];
        let Measures { synced, elections, leaders } = self.raft.clone();
        registry.register("decree_raft_term", "The term that the member is in", whole(group.term));
        registry.register(
            "decree_raft_role",
            "1 for the part that the member has",
            one_of("role", &group.role, roles),
        );
        let committed = "The index behind the last entry that is known to be ordered";
        registry.register("decree_raft_committed", committed, whole(group.committed));
        if let Some(last) = group.last {
            registry.register("decree_raft_last", "The index of the last entry in the log", whole(last));
        }
        registry.register("decree_raft_elections", "Terms that were begun", elections);
        registry.register("decree_raft_leader_changes", "How often another member led", leaders);
        registry.register("decree_raft_sync_seconds", "How long the disk took to keep a write", synced);
    }

    fn register(&self, registry: &mut Registry) {
        let Self { proposals, propose, apply, ordered_to_applied, peer_refusals, raft: _ } = self.clone();
        // The encoder appends `_total`.
        registry.register("decree_proposals", "Proposals by how they ended", proposals);
        registry.register("decree_peer_refusals", "Peers that were refused, by why", peer_refusals);
        registry.register("decree_propose_seconds", "From a proposal to its answer", propose);
        registry.register("decree_apply_seconds", "From a delivery to the application's answer", apply);
        registry.register(
            "decree_ordered_to_applied_seconds",
            "From log time to the application's answer",
            ordered_to_applied,
        );
    }
}

/// A gauge that can't be below zero.
fn whole(n: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX))
}

/// 1 for one of several labels.
fn one_of<T: PartialEq>(
    name: &'static str,
    own: &T,
    all: impl IntoIterator<Item = (T, &'static str)>,
) -> Family<[(&'static str, &'static str); 1], Gauge> {
    let family = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for (other, label) in all {
        family.get_or_create(&[(name, label)]).set(i64::from(*own == other));
    }
    family
}

/// What is not known has no sample: unknown is not zero.
fn register_progress(registry: &mut Registry, progress: &Progress) {
    if let Some(lag) = progress.lag {
        registry.register("kafka_consumer_lag", "Entries between the head and the replica", whole(lag));
    }
    if let Some(lag_ms) = progress.lag_ms {
        registry.register(
            "kafka_consumer_lag_seconds",
            "How long the oldest entry not yet applied has been in the log",
            ConstGauge::new(Duration::from_millis(lag_ms).as_secs_f64()),
        );
    }
    if let Some(position) = progress.position {
        registry.register("decree_position", "The last entry dealt with", whole(position.0));
    }
    if let Some(end) = progress.end {
        registry.register("decree_head", "The next position, as last reported", whole(end.0));
    }
    let states = [
        (State::Waiting, "waiting"),
        (State::CatchingUp, "catching_up"),
        (State::Rebuilding, "rebuilding"),
        (State::Running, "running"),
        (State::Halted, "halted"),
    ];
    let state = one_of("state", &progress.state, states);
    registry.register("decree_replica_state", "1 for the state that the replica is in", state);
    let (counts, tally) = (progress.counts, progress.tally);
    for (name, help, count) in [
        ("decree_entries_applied", "Commands that the application answered", counts.applied),
        ("decree_entries_rejected", "Of those, answered with 4xx or worse", counts.rejected),
        ("decree_entries_duplicate", "Repeats, answered from the dedup window", counts.duplicates),
        ("decree_entries_reused", "Commands under the id of another", counts.reused),
        ("decree_entries_void", "Entries that no application of this class gets", counts.void),
        ("decree_delivery_retries", "Deliveries that had to be repeated", counts.retries),
        // Since the pod's journal began: a sidecar that was killed does not forget them.
        ("decree_in_doubt", "Deliveries whose end nobody can say", tally.doubts),
        ("decree_redelivered", "Of those, delivered again to the same life: idempotent", tally.redelivered),
        ("decree_rebuilds", "New lives of the application that the log was replayed to", tally.rebuilds),
    ] {
        registry.register(name, help, ConstCounter::new(count));
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::position::Position;

    use super::*;
    use crate::replica::Tally;

    #[test]
    fn names_and_labels_are_as_documented_and_unknown_has_no_sample() {
        let metrics = Metrics::default();
        metrics.proposed(Proposed::Applied, Duration::from_millis(3));
        metrics.applied(Duration::from_millis(1), Duration::from_millis(2));
        let tally = Tally { doubts: 3, redelivered: 1, rebuilds: 2 };
        let progress = Progress {
            state: State::Running,
            lag: Some(2),
            end: Some(Position(9)),
            tally,
            ..Progress::default()
        };
        metrics.raft().leaders.inc();
        let group = View {
            id: 7,
            role: Role::Follower,
            leader: None,
            term: 3,
            last: None,
            committed: 11,
            applied: 11,
            at: None,
            settled: true,
            voters: Vec::new(),
            members: Vec::new(),
            quorum_seen: None,
        };
        let text = metrics.encode("shop/policy", "opa", Some(&progress), Some(&group));
        for line in [
            r#"decree_proposals_total{engine="shop/policy",class="opa",result="applied"} 1"#,
            r#"kafka_consumer_lag{engine="shop/policy",class="opa"} 2"#,
            r#"decree_head{engine="shop/policy",class="opa"} 9"#,
            r#"decree_replica_state{engine="shop/policy",class="opa",state="running"} 1"#,
            r#"decree_replica_state{engine="shop/policy",class="opa",state="halted"} 0"#,
            r#"decree_raft_term{engine="shop/policy",class="opa"} 3"#,
            r#"decree_raft_role{engine="shop/policy",class="opa",role="follower"} 1"#,
            r#"decree_raft_role{engine="shop/policy",class="opa",role="leader"} 0"#,
            r#"decree_raft_committed{engine="shop/policy",class="opa"} 11"#,
            r#"decree_raft_elections_total{engine="shop/policy",class="opa"} 0"#,
            r#"decree_raft_leader_changes_total{engine="shop/policy",class="opa"} 1"#,
            r#"decree_raft_sync_seconds_count{engine="shop/policy",class="opa"} 0"#,
            r#"decree_in_doubt_total{engine="shop/policy",class="opa"} 3"#,
            r#"decree_redelivered_total{engine="shop/policy",class="opa"} 1"#,
            r#"decree_rebuilds_total{engine="shop/policy",class="opa"} 2"#,
            r#"decree_propose_seconds_count{engine="shop/policy",class="opa"} 1"#,
            r#"decree_apply_seconds_count{engine="shop/policy",class="opa"} 1"#,
            r#"decree_ordered_to_applied_seconds_count{engine="shop/policy",class="opa"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        for unknown in ["kafka_consumer_lag_seconds", "decree_raft_last"] {
            assert!(!text.contains(unknown), "{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
