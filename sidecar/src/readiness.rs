//! Readiness: whether this agent should get traffic, and if not, why. Pure.

use decree_wire::heartbeat::{State, Trouble};

use crate::replica::{Application, Progress};
use crate::shutdown::Phase;

/// What is known about an agent.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Where the shutdown is.
    pub phase: Phase,
    /// Whether there is a good document with this agent's class in it.
    pub document: Result<(), &'a str>,
    /// What this agent's seat in the group waits for, if a group orders.
    pub group: Option<&'a Trouble>,
    /// The replica; none before one could be opened.
    pub progress: Option<&'a Progress>,
}

/// Why the agent is not ready; empty when it is.
///
/// Nothing that all agents share counts: with Kafka away an agent that was ready stays so, and local reads go on.
#[must_use]
pub fn unready(facts: Facts<'_>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    if facts.phase != Phase::Running {
        troubles.push(trouble("Draining", "this agent is ending"));
    }
    let Some(progress) = facts.progress else {
        troubles.push(waiting(facts));
        return troubles;
    };
    troubles.extend(unserving(progress));
    if let Some(unwell) = application(progress) {
        troubles.push(unwell);
    }
    troubles.dedup();
    troubles
}

/// Why nothing may be answered from the application: it does not stand where the log says, or nobody knows.
#[must_use]
pub fn unserving(progress: &Progress) -> Option<Trouble> {
    let told = |or: Trouble| Some(progress.trouble.clone().unwrap_or(or));
    match progress.state {
        State::Rebuilding => told(trouble("Rebuilding", "the application is rebuilt from the log")),
        // None is ahead of another: reads go on, and whoever proposes is told why he can't. A command that fails is
        // not of this kind: whether it fails everywhere no agent knows by itself, and one that stands still alone
        // would answer for ever what the others have left behind.
        State::Halted if progress.shared && progress.reached => None,
        State::Halted => told(trouble("Halted", "this agent has stopped applying")),
        State::Waiting | State::CatchingUp | State::Running | State::Draining if !progress.reached => {
            told(behind(progress))
        }
        State::Waiting | State::CatchingUp | State::Running | State::Draining => None,
    }
}

/// Everything that a person should know, ready or not; empty when all is well.
#[must_use]
pub fn troubles(facts: Facts<'_>, stale_document: Option<&str>) -> Vec<Trouble> {
    let mut troubles = unready(facts);
    let mut add = |more: Trouble| {
        if !troubles.contains(&more) {
            troubles.push(more);
        }
    };
    if let Some(progress) = facts.progress {
        progress.trouble.iter().chain(&progress.suspicion).cloned().for_each(&mut add);
        if let Application::Overdue(overdue) = &progress.application {
            add(overdue.clone());
        }
    }
    if let (Some(fault), Ok(())) = (stale_document, facts.document) {
        add(trouble("DocumentRefused", &format!("{fault}; the last good one is followed")));
    }
    troubles
}

fn waiting(facts: Facts<'_>) -> Trouble {
    match (facts.document, facts.group) {
        (Err(why), _) => trouble("WaitingForDocument", why),
        (Ok(()), Some(waits)) => waits.clone(),
        (Ok(()), None) => trouble("Starting", "the replica is being opened"),
    }
}

fn behind(progress: &Progress) -> Trouble {
    match progress.start_head {
        Some(head) => trouble(
            "CatchingUp",
            &format!("goes on at position {}; {head} was the next one when it started", progress.next),
        ),
        None => trouble("WaitingForLog", "the log could not be asked yet how long it is"),
    }
}

/// Overdue is no reason: the application may be at work on a long command, and reads may go on.
fn application(progress: &Progress) -> Option<Trouble> {
    match &progress.application {
        Application::Healthy | Application::Overdue(_) => None,
        Application::Unwell(unwell) => Some(unwell.clone()),
        Application::Unknown => {
            Some(trouble("WaitingForApplication", "the application's health is not known yet"))
        }
    }
}

fn trouble(reason: &str, message: &str) -> Trouble {
    Trouble { reason: reason.into(), message: message.into() }
}

#[cfg(test)]
mod tests {
    use decree_wire::position::Position;

    use super::*;

    fn well() -> Progress {
        Progress {
            state: State::Running,
            reached: true,
            application: Application::Healthy,
            ..Progress::default()
        }
    }

    fn reasons(phase: Phase, progress: Option<&Progress>) -> Vec<String> {
        unready(Facts { phase, document: Ok(()), group: None, progress })
            .into_iter()
            .map(|t| t.reason)
            .collect()
    }

    #[test]
    fn ready_once_the_head_of_the_start_was_reached() {
        assert!(reasons(Phase::Running, Some(&well())).is_empty());
        let behind =
            Progress { state: State::CatchingUp, reached: false, start_head: Some(Position(9)), ..well() };
        assert_eq!(reasons(Phase::Running, Some(&behind)), ["CatchingUp"]);
    }

    #[test]
    fn what_all_share_makes_nobody_unready() {
        let away =
            Progress { trouble: Some(trouble("LogUnreachable", "…")), lag: None, end: None, ..well() };
        assert!(reasons(Phase::Running, Some(&away)).is_empty());
        let facts = Facts { phase: Phase::Running, document: Ok(()), group: None, progress: Some(&away) };
        assert_eq!(troubles(facts, Some("no JSON")).len(), 2, "but it is said");
    }

    #[test]
    fn a_log_that_is_gone_leaves_those_ready_that_were() {
        let replaced = Some(trouble("LogReplaced", "…"));
        let halted = Progress { state: State::Halted, shared: true, trouble: replaced, ..well() };
        assert!(reasons(Phase::Running, Some(&halted)).is_empty());
        let facts = Facts { phase: Phase::Running, document: Ok(()), group: None, progress: Some(&halted) };
        assert_eq!(troubles(facts, None)[0].reason, "LogReplaced", "but it is said");
        for other in
            [Progress { reached: false, ..halted.clone() }, Progress { shared: false, ..halted.clone() }]
        {
            assert_eq!(reasons(Phase::Running, Some(&other)), ["LogReplaced"], "{other:?}");
        }
        let missing = Progress { trouble: Some(trouble("LogMissing", "…")), ..well() };
        assert!(reasons(Phase::Running, Some(&missing)).is_empty());
        let unwell = Application::Unwell(trouble("ApplicationUnreachable", "…"));
        let unwell = Progress { application: unwell, ..halted };
        assert_eq!(reasons(Phase::Running, Some(&unwell)), ["ApplicationUnreachable"]);
    }

    #[test]
    fn what_is_this_agents_own_does() {
        for own in ["LogTrimmed", "Poisoned", "UnknownControl"] {
            let halted = Progress { state: State::Halted, trouble: Some(trouble(own, "…")), ..well() };
            assert_eq!(reasons(Phase::Running, Some(&halted)), [own]);
        }
        let halted = Progress { state: State::Halted, trouble: Some(trouble("InDoubt", "…")), ..well() };
        assert_eq!(reasons(Phase::Running, Some(&halted)), ["InDoubt"]);
        let unwell =
            Progress { application: Application::Unwell(trouble("ApplicationUnreachable", "…")), ..well() };
        assert_eq!(reasons(Phase::Running, Some(&unwell)), ["ApplicationUnreachable"]);
        let overdue = Progress { application: Application::Overdue(trouble("Overdue", "…")), ..well() };
        assert!(reasons(Phase::Running, Some(&overdue)).is_empty());
        assert_eq!(reasons(Phase::Draining, Some(&well())), ["Draining"]);
        assert_eq!(reasons(Phase::Running, None), ["Starting"]);
    }

    #[test]
    fn without_a_log_it_says_what_its_seat_in_the_group_waits_for() {
        let waits = trouble("WaitingForGroup", "…");
        let facts = Facts { phase: Phase::Running, document: Ok(()), group: Some(&waits), progress: None };
        assert_eq!(unready(facts), std::slice::from_ref(&waits));
        let unknown = Facts { document: Err("…"), ..facts };
        assert_eq!(unready(unknown)[0].reason, "WaitingForDocument");
    }
}
