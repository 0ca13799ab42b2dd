//! What keeps a replica from going on, in words for a person: what is wrong, where to look, what to do.

use decree_wire::heartbeat::{CallsFor, Rebuild, Trouble};
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::settings::Settings;
use decree_wire::shown::shown;

use crate::app::Unwell;
use crate::log;

/// The reason with which an application's state is not known.
pub(super) const APPLICATION_STATE_UNKNOWN: &str = "ApplicationStateUnknown";

fn trouble(reason: &str, message: String) -> Trouble {
    Trouble { reason: reason.to_owned(), message }
}

/// The application's state is not known; what happens about it.
pub(super) fn state_unknown(why: &str, next: Option<CallsFor>) -> Trouble {
    let next = match next {
        Some(CallsFor::ContainerRestart) => {
            "its container's liveness probe fails until the kubelet has restarted it, then it is rebuilt from the log"
        }
        Some(CallsFor::Eviction) => {
            "what it wrote may outlive its container, so its pod has to go: the operator evicts it, or delete it; the \
             next pod is built from the log"
        }
        None => "it is rebuilt from the log as soon as its next life listens",
    };
    let message =
        format!("{why}; until then nothing is delivered to it and nothing answered from it; {next}");
    trouble(APPLICATION_STATE_UNKNOWN, message)
}

/// The log is replayed to a new life of the application.
pub(super) fn rebuilding(rebuild: &Rebuild) -> Trouble {
    let Rebuild { target, position, remaining_ms } = rebuild;
    let time = match remaining_ms {
        Some(ms) => format!("about {} s are left", ms.div_ceil(1000)),
        None => "how long it takes is not known yet".to_owned(),
    };
    let message = format!(
        "the application restarted and is rebuilt from the log: position {position} of {target}, {time}; nothing is \
         answered from it until then"
    );
    trouble("Rebuilding", message)
}

pub(super) fn not_deterministic(position: Position) -> Trouble {
    let message = format!(
        "the application was rebuilt from the log and up to position {position} did not give the answers that it gave \
         before: its answers depend on more than the commands (time, chance, its own address, another service); use \
         the time and seed that come with each command, or set agents[].digest to Status or None"
    );
    trouble("NotDeterministic", message)
}

pub(super) fn poisoned(position: Position, failed: u32) -> Trouble {
    let message = format!(
        "the command at position {position} failed {failed} times, and agents[].app.maxAttempts allows no more; what \
         stands behind it waits in the log; see the application's log for why, mend it, then delete the pod"
    );
    trouble("Poisoned", message)
}

pub(super) fn unknown_control(position: Position, kind: &str, reason: &str) -> Trouble {
    let message = format!(
        "the control entry {:?} at position {position} can't be obeyed: {reason}; if a newer Decree wrote it, upgrade the \
         operator, then delete the pod; if not, find out who else may write to the topic",
        shown(kind)
    );
    trouble("UnknownControl", message)
}

pub(super) fn foreign(settings: &Settings, engine: &EngineName) -> Trouble {
    let message = format!(
        "the log belongs to engine {} of cluster {}, not to {engine} of this one; check spec.kafka.topic.name and \
         spec.kafka.bootstrapServers",
        shown(&settings.engine.to_string()),
        shown(&settings.cluster)
    );
    trouble("LogForeign", message)
}

pub(super) fn replaced(why: &str) -> Trouble {
    let message = format!(
        "the log is not the one that this agent followed: {why}; find out who deleted or cut the topic; if the new log \
         is to be followed, delete the pod so that it begins there from the start"
    );
    trouble("LogReplaced", message)
}

pub(super) fn trimmed(needed: Position, earliest: Position) -> Trouble {
    let message = format!(
        "position {needed} is needed and the log begins at {earliest}; find out who trimmed the topic (retention, \
         delete-records); without its beginning an agent can't be built, so make a new engine"
    );
    trouble("LogTrimmed", message)
}

pub(super) fn unreachable(error: &log::Error) -> Trouble {
    let message =
        format!("{error}; it is tried again for ever; check spec.kafka.bootstrapServers and the brokers");
    trouble(if error.retryable() { error.reason() } else { "LogUnreachable" }, message)
}

pub(super) fn waiting_for_topic() -> Trouble {
    let message = "the operator has not seen the topic yet; see the engine's conditions";
    trouble("WaitingForTopic", message.to_owned())
}

pub(super) fn other_topic(found: &Incarnation, expected: &Incarnation) -> Trouble {
    let message = format!(
        "the topic's id is {found}, the operator knows it as {expected}; see the engine's conditions (LogLost)"
    );
    trouble("LogReplaced", message)
}

pub(super) fn waiting_for_settings() -> Trouble {
    let message = "the log has no settings entry yet, and nothing is applied before it; the operator appends it; see the \
                   engine's conditions";
    trouble("WaitingForSettings", message.to_owned())
}

pub(super) fn unwell(unwell: &Unwell) -> Trouble {
    trouble(unwell.reason(), unwell.to_string())
}

pub(super) fn not_processed(position: Position, why: &str) -> Trouble {
    let message =
        format!("the application did not process position {position} ({why}); it is delivered again");
    trouble("ApplicationNotProcessing", message)
}

pub(super) fn overdue(position: Position, seconds: u64) -> Trouble {
    let message = format!(
        "the application has not answered the command at position {position} for {seconds} s; the delivery goes on; see \
         its log, and agents[].app.overdueAfter"
    );
    trouble("ApplicationOverdue", message)
}

pub(super) fn nothing_listens() -> Trouble {
    let message =
        "nothing listens on the application's port; see agents[].app.port and the application's log";
    trouble("ApplicationUnreachable", message.to_owned())
}

pub(super) fn ended() -> Trouble {
    trouble("Stopping", "the sidecar is stopping; ask again".to_owned())
}
