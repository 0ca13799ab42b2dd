//! Room for open files: with fewer than the doors' connections need, the log and the journal would run out of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the doors, the application's connections, the log and the journal take when all are full, and as much again.
const WANTED: u64 = 8192;

/// Raises the soft limit as far as the hard one lets it. Some container runtimes start processes with 1024.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) => tracing::debug!(wanted, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, wanted, "could not raise the limit of open files"),
    }
}
