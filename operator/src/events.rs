//! Events: what a person should know, on the engine and on its pods, told once and not at each reconcile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

/// The same reason on the same object is told again after this, if it still holds.
const AGAIN: Duration = Duration::from_secs(600);
/// A slow API server must not hold up a reconcile for the sake of an Event.
const LIMIT: Duration = Duration::from_secs(3);
/// What an Event's note may hold, in bytes.
const NOTE: usize = 1000;
const CONTROLLER: &str = "decree-operator";

/// Something to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// On which object.
    pub about: ObjectReference,
    /// Something is wrong.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// What it is, which field to look at, what to do.
    pub message: String,
}

/// Writes Events. Clones share the memory of what was told.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    told: Arc<Mutex<Told>>,
}

type Told = HashMap<(String, String), Instant>;

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// Reported by this pod, if its name is known.
    #[must_use]
    pub fn new(client: Client, pod: Option<String>) -> Self {
        let reporter = Reporter { controller: CONTROLLER.into(), instance: pod };
        Self { recorder: Recorder::new(client, reporter), told: Arc::default() }
    }

    /// Tells what was not told lately. An Event that can't be written is logged, and tried again with the next look.
    pub async fn tell(&self, notes: Vec<Note>) {
        let now = Instant::now();
        for note in notes {
            let due = due(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner), &note, now);
            let key = (note.about.uid.clone().unwrap_or_default(), note.reason.clone());
            if due && !self.publish(note).await {
                self.told.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            }
        }
    }

    /// Whether it was written.
    async fn publish(&self, note: Note) -> bool {
        let Note { about, warning, reason, message } = note;
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            action: reason.clone(),
            reason,
            note: Some(shortened(message)),
            secondary: None,
        };
        match tokio::time::timeout(LIMIT, self.recorder.publish(&event, &about)).await {
            Ok(Ok(())) => return true,
            // Kubernetes takes no new object there; conditions say the same.
            Ok(Err(error)) if is_ending(&error) => return true,
            Ok(Err(error)) => tracing::warn!(%error, reason = event.reason, "can't write an Event"),
            Err(_) => tracing::warn!(reason = event.reason, "no time to write an Event"),
        }
        false
    }
}

/// Whether the namespace in which it would be is going away.
fn is_ending(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn due(told: &mut Told, note: &Note, now: Instant) -> bool {
    told.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
    let uid = note.about.uid.clone().unwrap_or_default();
    let is_new = !told.contains_key(&(uid.clone(), note.reason.clone()));
    if is_new {
        told.insert((uid, note.reason.clone()), now);
    }
    is_new
}

fn shortened(mut message: String) -> String {
    if message.len() > NOTE {
        let end = (0..=NOTE).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(uid: &str, reason: &str) -> Note {
        let about = ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
        Note { about, warning: true, reason: reason.into(), message: String::new() }
    }

    #[test]
    fn the_same_is_told_once_and_again_after_a_while() {
        let (mut told, now) = (Told::new(), Instant::now());
        assert!(due(&mut told, &note("a", "X"), now));
        assert!(!due(&mut told, &note("a", "X"), now + AGAIN / 2));
        assert!(due(&mut told, &note("a", "X"), now + AGAIN), "though it was asked about meanwhile");
        assert!(due(&mut told, &note("a", "Y"), now));
        assert!(due(&mut told, &note("b", "X"), now));
        assert!(due(&mut told, &note("b", "X"), now + AGAIN * 2));
        assert_eq!(told.len(), 1, "what is old is forgotten");
    }

    #[test]
    fn a_namespace_that_ends_takes_no_event() {
        let refused = |cause: &str| {
            let status = serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Forbidden", "code": 403,
                "message": "events.events.k8s.io \"x\" is forbidden: it is being terminated",
                "details": {"name": "x", "kind": "events", "causes": [{"reason": cause, "field": "metadata.namespace"}]},
            });
            kube::Error::Api(serde_json::from_value(status).unwrap())
        };
        assert!(is_ending(&refused("NamespaceTerminating")));
        assert!(!is_ending(&refused("Another")));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = shortened("ä".repeat(600));
        assert!(cut.len() <= NOTE + '…'.len_utf8() && cut.ends_with("ä…"));
    }
}
