//! What keeps a replica from going on, in words for a person: what is wrong, where to look, what to do.

use decree_wire::heartbeat::Trouble;
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::settings::Settings;

use crate::app::Unwell;
use crate::log;

/// The reason with which an application's state is not known.
pub(super) const APPLICATION_STATE_UNKNOWN: &str = "ApplicationStateUnknown";

fn trouble(reason: &str, message: String) -> Trouble {
    Trouble { reason: reason.to_owned(), message }
}

pub(super) fn state_unknown(why: &str) -> Trouble {
    let message = format!(
        "{why}; nothing is delivered and nothing answered from it; delete the pod, so that its application is rebuilt \
         from the log"
    );
    trouble(APPLICATION_STATE_UNKNOWN, message)
}

pub(super) fn poisoned(position: Position, failed: u32) -> Trouble {
    let message = format!(
        "the command at position {position} failed {failed} times, which is the class's maxAttempts; see the \
         application's log for why, mend it, then delete the pod"
    );
    trouble("Poisoned", message)
}

pub(super) fn unknown_control(position: Position, kind: &str, reason: &str) -> Trouble {
    let message = format!(
        "the control entry {kind:?} at position {position} can't be obeyed: {reason}; restart the pod with a newer \
         sidecar (upgrade the operator, then delete the pod)"
    );
    trouble("UnknownControl", message)
}

pub(super) fn foreign(settings: &Settings, engine: &EngineName) -> Trouble {
    let message = format!(
        "the log belongs to engine {} of cluster {}, not to {engine} of this one; check spec.kafka.topic.name and \
         spec.kafka.bootstrapServers",
        settings.engine, settings.cluster
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
