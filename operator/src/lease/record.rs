//! Decides what to do about the Lease as it was found: take it, keep it, or wait for its end. Pure.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// How long whoever leads holds the Lease. A holder that has not renewed for so long holds no more. Counted from when *this* process saw the last renewal: the
/// clocks of two nodes need not agree.
pub const DURATION: Duration = Duration::from_secs(15);

/// What was seen of the Lease, and since when it is as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

impl Observed {
    /// What is seen now; the time stays while nothing changes.
    #[must_use]
    pub fn next(before: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        match before {
            Some(before) if before.spec == spec => before,
            Some(_) | None => Self { spec, since: now },
        }
    }
}

/// What to write; none while somebody else holds it.
#[must_use]
pub fn claim(observed: Option<&Observed>, me: &str, now: Instant, time: Timestamp) -> Option<LeaseSpec> {
    let holder = observed.and_then(|observed| observed.spec.holder_identity.as_deref()).unwrap_or_default();
    let expired = |observed: &Observed| {
        let held = observed.spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        now.saturating_duration_since(observed.since) >= held.map_or(DURATION, Duration::from_secs)
    };
    let mine = holder == me;
    if !mine && !holder.is_empty() && !observed.is_some_and(expired) {
        return None;
    }
    let before = observed.map(|observed| &observed.spec);
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    let acquired = before.filter(|_| mine).and_then(|spec| spec.acquire_time.clone());
    Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(acquired.unwrap_or(MicroTime(time))),
        renew_time: Some(MicroTime(time)),
        lease_transitions: Some(if mine || observed.is_none() { transitions } else { transitions + 1 }),
        ..LeaseSpec::default()
    })
}

/// What to write so that nobody leads for `duration`, whoever leads now: they see that the Lease is another's.
#[must_use]
pub fn seize(before: Option<&LeaseSpec>, me: &str, duration: Duration, time: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
        acquire_time: Some(MicroTime(time)),
        renew_time: Some(MicroTime(time)),
        lease_transitions: Some(before.and_then(|spec| spec.lease_transitions).unwrap_or(0) + 1),
        ..LeaseSpec::default()
    }
}

/// What to write to let go; none where it is not held by `me`.
#[must_use]
pub fn release(spec: &LeaseSpec, me: &str, time: Timestamp) -> Option<LeaseSpec> {
    (spec.holder_identity.as_deref() == Some(me)).then(|| LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(time)),
        ..spec.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp::UNIX_EPOCH;

    fn seen(spec: LeaseSpec, since: Instant) -> Observed {
        Observed::next(None, spec, since)
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_and_kept_while_it_is_renewed() {
        let now = Instant::now();
        let first = claim(None, "a", now, TIME).unwrap();
        assert_eq!(first.lease_transitions, Some(0));
        let later = Timestamp::from_second(9).unwrap();
        let renewed = claim(Some(&seen(first.clone(), now)), "a", now + DURATION * 3, later).unwrap();
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_eq!((renewed.renew_time.unwrap().0, renewed.lease_transitions), (later, Some(0)));
    }

    #[test]
    fn another_waits_until_nothing_has_changed_for_the_whole_duration() {
        let now = Instant::now();
        let held = claim(None, "a", now, TIME).unwrap();
        let observed = seen(held.clone(), now);
        let almost = now + DURATION - Duration::from_millis(1);
        assert_eq!(claim(Some(&observed), "b", almost, TIME), None);
        // The same again is no renewal, whatever its times say.
        let again = Observed::next(Some(observed.clone()), held.clone(), almost);
        assert!(claim(Some(&again), "b", now + DURATION, TIME).is_some());
        let renewed = LeaseSpec { renew_time: Some(MicroTime(Timestamp::from_second(1).unwrap())), ..held };
        let observed = Observed::next(Some(observed), renewed, almost);
        assert_eq!(claim(Some(&observed), "b", now + DURATION, TIME), None);
        let taken = claim(Some(&observed), "b", almost + DURATION, TIME).unwrap();
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[test]
    fn what_was_seized_is_waited_for_as_long_as_it_says() {
        let now = Instant::now();
        let held = claim(None, "a", now, TIME).unwrap();
        let seized = seen(seize(Some(&held), "uninstall", DURATION * 4, TIME), now);
        assert_eq!(claim(Some(&seized), "a", now + DURATION, TIME), None, "also the one that led");
        assert!(claim(Some(&seized), "a", now + DURATION * 4, TIME).is_some(), "and not for ever");
    }

    #[test]
    fn what_is_let_go_is_taken_at_once() {
        let now = Instant::now();
        let held = claim(None, "a", now, TIME).unwrap();
        assert_eq!(release(&held, "b", TIME), None);
        let free = release(&held, "a", TIME).unwrap();
        assert!(claim(Some(&seen(free, now)), "b", now, TIME).is_some());
    }
}
