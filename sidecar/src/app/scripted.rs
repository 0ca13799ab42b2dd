//! An application that does what a test says, and writes down what it was sent.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use decree_wire::position::Position;
use tokio::sync::Notify;

use super::{App, Connected, Delivery, End, Outcome, Unwell};

/// What the next delivery meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// An answer with this status and body.
    Answer(u16, &'static str),
    /// The connection is gone before the first byte.
    NotConnected,
    /// The connection is lost after it.
    Lost,
    /// No answer until [`ScriptedApp::release`].
    Hang,
}

/// An application that does what a test says; with no script left it answers 200 and the payload.
#[derive(Debug, Default)]
pub struct ScriptedApp {
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    acts: VecDeque<Act>,
    unwell: Option<Unwell>,
    connected: bool,
    /// How many connections were made.
    connections: usize,
    delivered: Vec<(Position, Bytes)>,
    /// How many of them an earlier life was sent.
    lost: usize,
}

impl ScriptedApp {
    /// Adds to what the next deliveries meet.
    pub fn then(&self, acts: impl IntoIterator<Item = Act>) {
        self.state().acts.extend(acts);
    }

    /// From now on the application is unwell, or well.
    pub fn set_unwell(&self, unwell: Option<Unwell>) {
        let mut state = self.state();
        state.connected = false;
        state.unwell = unwell;
    }

    /// Closes the kept connection, as an application does that restarts.
    pub fn hang_up(&self) {
        self.state().connected = false;
    }

    /// The application restarts: the connection is closed, and what it was sent is lost.
    pub fn restart(&self) {
        let mut state = self.state();
        state.connected = false;
        state.lost = state.delivered.len();
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// The positions that this life of the application was sent.
    #[must_use]
    pub fn alive(&self) -> Vec<u64> {
        let state = self.state();
        state.delivered.iter().skip(state.lost).map(|(position, _)| position.0).collect()
    }

    /// Ends one [`Act::Hang`] with an answer.
    pub fn release(&self) {
        self.released.notify_one();
    }

    /// Every delivery so far whose request arrived, in order, repeats too.
    #[must_use]
    pub fn delivered(&self) -> Vec<(Position, Bytes)> {
        self.state().delivered.clone()
    }

    /// The positions of [`ScriptedApp::delivered`].
    #[must_use]
    pub fn positions(&self) -> Vec<u64> {
        self.state().delivered.iter().map(|(position, _)| position.0).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(status: u16, body: Bytes) -> Outcome {
    Outcome { status, headers: vec![("content-type".into(), "text/plain".into())], body, omitted: None }
}

#[async_trait]
impl App for ScriptedApp {
    async fn connect(&self) -> Result<Connected, Unwell> {
        let mut state = self.state();
        if let Some(unwell) = &state.unwell {
            return Err(unwell.clone());
        }
        let kept = std::mem::replace(&mut state.connected, true);
        state.connections += usize::from(!kept);
        Ok(if kept { Connected::Kept } else { Connected::Fresh })
    }

    async fn disconnect(&self) {
        self.hang_up();
    }

    async fn deliver(&self, delivery: &Delivery<'_>) -> Result<Outcome, End> {
        let act = {
            let mut state = self.state();
            let act = state.acts.pop_front();
            if act == Some(Act::NotConnected) {
                state.connected = false;
                return Err(End::NotConnected("the script says so".into()));
            }
            state.delivered.push((delivery.place.position, delivery.command.payload.clone()));
            if act == Some(Act::Lost) {
                state.connected = false;
                return Err(End::Lost("the script says so".into()));
            }
            act
        };
        match act {
            Some(Act::Answer(status, body)) => Ok(answer(status, Bytes::from_static(body.as_bytes()))),
            Some(Act::Hang) => {
                self.released.notified().await;
                Ok(answer(200, delivery.command.payload.clone()))
            }
            _ => Ok(answer(200, delivery.command.payload.clone())),
        }
    }

    async fn healthy(&self) -> Result<(), Unwell> {
        self.state().unwell.clone().map_or(Ok(()), Err)
    }

    fn overdue_after(&self) -> Duration {
        Duration::from_secs(30)
    }
}
