//! What to do with an entry: a pure decision from the entry, the dedup window and the settings.

use decree_wire::command::{Command, Fingerprint, Identity};
use decree_wire::control::Control;
use decree_wire::entry::{Body, Entry};
use decree_wire::heartbeat::Trouble;
use decree_wire::position::{EngineName, Incarnation, Position};
use decree_wire::settings::Settings;

use super::trouble;

/// What to do with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Deliver it, then record the outcome.
    Deliver,
    /// It is the same command as the one at a position.
    Duplicate(Position),
    /// It has the identity of another command at a position.
    Reused(Position),
    /// No replica of this class applies it, and why.
    Void(String),
    /// From here on these settings hold.
    Settings(Settings),
    /// Nothing: to have come this far is all.
    Pass,
    /// Stop before it; agents of another build may go on.
    Halt(Trouble),
    /// Stop before it, as every agent does.
    HaltAll(Trouble),
}

/// What a decision depends on beside the entry and the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) engine: &'a EngineName,
    pub(super) cluster: &'a str,
    pub(super) incarnation: &'a Incarnation,
    /// The class gets replicated requests, and only such.
    pub(super) replicates: bool,
    /// Identities of commands before it are forgotten, also where the window has grown since.
    pub(super) floor: Position,
    /// Those that hold at the entry's position.
    pub(super) settings: &'a Settings,
}

/// Who an entry is, if it is a command: by this it is looked up in the dedup window.
pub(super) fn identity(entry: &Entry, context: Context<'_>) -> Option<(Identity, Fingerprint)> {
    match &entry.body {
        Body::Command(command) => {
            let identity = command.identity(context.engine, context.incarnation, entry.position);
            Some((identity, command.fingerprint()))
        }
        Body::Control(_) | Body::Void(_) => None,
    }
}

/// Decides. `found` is what the dedup window holds under the entry's identity, and `fingerprint` the entry's own.
pub(super) fn step(
    entry: &Entry,
    fingerprint: Option<Fingerprint>,
    found: Option<(Position, Fingerprint)>,
    context: Context<'_>,
) -> Action {
    match &entry.body {
        Body::Command(command) => match found {
            Some((of, earlier)) if Some(earlier) == fingerprint => Action::Duplicate(of),
            Some((of, _)) => Action::Reused(of),
            None => new(command, entry.position, context),
        },
        Body::Control(Control::Settings(settings)) if owns(settings, context) => {
            Action::Settings(settings.clone())
        }
        Body::Control(Control::Settings(settings)) => {
            Action::HaltAll(trouble::foreign(settings, context.engine))
        }
        Body::Control(Control::Barrier(_)) => Action::Pass,
        Body::Control(Control::Unknown { kind, reason }) => {
            Action::Halt(trouble::unknown_control(entry.position, kind, reason))
        }
        Body::Void(why) => Action::Void(why.clone()),
    }
}

/// Whether settings are of this engine on this cluster.
fn owns(settings: &Settings, context: Context<'_>) -> bool {
    settings.engine == *context.engine && settings.cluster == context.cluster
}

fn new(command: &Command, position: Position, context: Context<'_>) -> Action {
    let window = context.settings.dedup.window;
    if let Some(head) = command.head.filter(|head| *head > position) {
        return Action::Void(format!(
            "the agent that accepted it knew a head of {head}, which lies behind it: it was meant for another log, or \
             forged"
        ));
    }
    if let Some(head) = command.head
        && (head < context.floor || head.0.saturating_add(window) < position.0)
    {
        return Action::Void(format!(
            "it was accepted at head {head} and ordered more than {window} positions later, where a repeat of it is \
             no longer recognised; send it again"
        ));
    }
    if !context.replicates {
        return Action::Deliver;
    }
    match &command.request {
        None => Action::Void("it is no HTTP request, and this class replicates such".into()),
        // No target in the form of a path can be asked for with it.
        Some(request) if request.method.eq_ignore_ascii_case("CONNECT") => {
            Action::Void("a CONNECT can't be replicated".into())
        }
        Some(_) => Action::Deliver,
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::command::Request;
    use decree_wire::control::Barrier;

    use super::*;

    fn engine() -> EngineName {
        EngineName { namespace: "shop".into(), name: "policy".into() }
    }

    fn settings() -> Settings {
        Settings {
            engine: engine(),
            cluster: "c".into(),
            dedup: decree_wire::settings::Dedup { window: 10, outcomes: 5, outcome_bytes: 100 },
            classes: [].into(),
        }
    }

    fn decide(body: Body, found: Option<(Position, Fingerprint)>, replicates: bool) -> Action {
        let (engine, settings, incarnation) = (engine(), settings(), Incarnation("i".into()));
        let context = Context {
            engine: &engine,
            cluster: "c",
            incarnation: &incarnation,
            replicates,
            floor: Position(0),
            settings: &settings,
        };
        let entry = Entry { position: Position(100), log_time: 0, body };
        let fingerprint = identity(&entry, context).map(|(_, fingerprint)| fingerprint);
        step(&entry, fingerprint, found, context)
    }

    fn command() -> Command {
        Command { id: Some("1".into()), ..Command::default() }
    }

    #[test]
    fn a_repeat_is_answered_and_a_reused_id_refused() {
        let body = Body::Command(command());
        assert_eq!(decide(body.clone(), None, false), Action::Deliver);
        let same = Some((Position(3), command().fingerprint()));
        assert_eq!(decide(body.clone(), same, false), Action::Duplicate(Position(3)));
        let other = Some((Position(3), Fingerprint([0; 32])));
        assert_eq!(decide(body, other, false), Action::Reused(Position(3)));
    }

    #[test]
    fn a_command_that_slept_longer_than_the_window_is_void() {
        let at = |head| Body::Command(Command { head: Some(Position(head)), ..command() });
        assert_eq!(decide(at(90), None, false), Action::Deliver);
        assert!(matches!(decide(at(89), None, false), Action::Void(_)));
        let same = Some((Position(95), command().fingerprint()));
        assert_eq!(decide(at(0), same, false), Action::Duplicate(Position(95)));
        assert_eq!(decide(at(100), None, false), Action::Deliver);
        for future in [101, u64::MAX] {
            assert!(matches!(decide(at(future), None, false), Action::Void(_)), "from the future");
        }
    }

    #[test]
    fn a_class_that_replicates_gets_requests_only() {
        assert!(matches!(decide(Body::Command(command()), None, true), Action::Void(_)));
        let request = |method: &str| {
            let request = Request { method: method.into(), target: "/".into(), headers: vec![] };
            Body::Command(Command { request: Some(request), ..command() })
        };
        assert_eq!(decide(request("PUT"), None, true), Action::Deliver);
        assert_eq!(decide(request("PUT"), None, false), Action::Deliver);
        assert!(matches!(decide(request("CONNECT"), None, true), Action::Void(_)));
    }

    #[test]
    fn control_entries_are_obeyed_or_stop_the_agent() {
        let control = |control| decide(Body::Control(control), None, false);
        assert_eq!(control(Control::Barrier(Barrier { agent: "a".into() })), Action::Pass);
        assert_eq!(control(Control::Settings(settings())), Action::Settings(settings()));
        let Action::HaltAll(trouble) =
            control(Control::Settings(Settings { cluster: "d".into(), ..settings() }))
        else {
            panic!("foreign settings are obeyed");
        };
        assert_eq!(trouble.reason, "LogForeign");
        let unknown = Control::Unknown { kind: "freeze".into(), reason: "later".into() };
        let Action::Halt(trouble) = control(unknown) else { panic!("an unknown control entry is skipped") };
        assert_eq!(trouble.reason, "UnknownControl");
        assert_eq!(decide(Body::Void("why".into()), None, false), Action::Void("why".into()));
    }
}
