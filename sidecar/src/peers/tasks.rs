//! The tasks that hyper starts for one connection: they end with it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

/// Where hyper starts them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Ends them all when it is dropped.
#[derive(Debug)]
pub(super) struct Owner(pub(super) Tasks);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
