//! Why the journal can't do what it has to.

/// The store failed: nothing can be promised any more.
#[derive(Debug, thiserror::Error)]
#[error("{attempt} the journal: {detail}")]
pub struct Error {
    /// What was attempted: open, read, write.
    pub attempt: &'static str,
    /// What the store said.
    pub detail: String,
}
