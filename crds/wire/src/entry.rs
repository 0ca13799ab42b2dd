//! An entry: what the log holds at a position.

use crate::command::Command;
use crate::control::Control;
use crate::position::Position;

/// What the log holds at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The orderer's clock when it was appended, in milliseconds since 1970. Not yet monotonic: a replica makes it so.
    pub log_time: i64,
    /// What it is.
    pub body: Body,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// To be applied.
    Command(Command),
    /// To be obeyed.
    Control(Control),
    /// Neither: half of a command's headers, or headers that can't be read. Passed over by every replica alike.
    Void(String),
}
