//! Why the store can't do what it has to.

/// The store failed: nothing can be promised any more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{attempt} the group's log: {detail}")]
pub struct Error {
    /// What was attempted: open, read, write.
    pub attempt: &'static str,
    /// What was in the way.
    pub detail: String,
}

impl Error {
    /// Of the system's kind.
    pub(super) fn io(attempt: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |error| Self { attempt, detail: error.to_string() }
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
