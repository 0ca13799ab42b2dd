//! How fast a group notices, and how much it does at once: openraft's settings from ours.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// An election timeout is this long at least: below, a busy machine has elections all the time.
const SHORTEST: Duration = Duration::from_millis(200);

/// openraft's settings for an election timeout.
///
/// openraft waits for the leader's lease, which is its longest timeout, and then for a timeout between its shortest and
/// its longest. With these, a leader that dies is replaced after 1.1 to 1.5 times the timeout.
///
/// # Errors
/// In words, if openraft does not take them.
pub fn openraft(election_timeout: Duration, heartbeat_interval: Duration) -> Result<Config, String> {
    let timeout = election_timeout.max(SHORTEST);
    let heartbeat = heartbeat_interval.min(timeout / 5);
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "decree".into(),
        election_timeout_min: millis(timeout * 7 / 20),
        election_timeout_max: millis(timeout * 3 / 4),
        heartbeat_interval: millis(heartbeat),
        install_snapshot_timeout: 5_000,
        max_payload_entries: 4_096,
        // The log is kept whole until somebody says up to where it is not needed any more.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        // A member that was away, and asks again and again, must not depose a leader that is well.
        enable_pre_vote: Some(true),
        // What a leader has submitted its followers may hold, and its clients have been told, before its own disk has it.
        // Killed then, and leading again in its old term, it would give the same index of that term to another entry.
        enable_leader_restore: Some(false),
        api_channel_size: Some(4_096),
        notification_channel_size: Some(4_096),
        state_machine_channel_size: Some(1_024),
        ..Config::default()
    };
    config.validate().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_dies_is_replaced_within_twice_the_timeout() {
        for seconds in [1, 3, 10] {
            let timeout = Duration::from_secs(seconds);
            let config = openraft(timeout, Duration::from_millis(100)).unwrap();
            let longest = Duration::from_millis(config.election_timeout_max * 2);
            assert!(longest * 5 <= timeout * 8, "{config:?}");
        }
    }

    #[test]
    fn who_led_before_a_restart_is_elected_anew_or_follows() {
        let config = openraft(Duration::from_secs(1), Duration::from_millis(100)).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
    }

    #[test]
    fn any_timeout_is_taken() {
        for (timeout, heartbeat) in [(0, 0), (1, 1000), (250, 100), (60_000, 100)] {
            let [timeout, heartbeat] = [timeout, heartbeat].map(Duration::from_millis);
            assert!(openraft(timeout, heartbeat).is_ok(), "{timeout:?} {heartbeat:?}");
        }
    }
}
