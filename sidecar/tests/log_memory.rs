//! The log in memory passes the suite that every log passes.

use std::sync::Arc;

use async_trait::async_trait;
use decree_sidecar::log::Log;
use decree_sidecar::log::memory::MemoryLog;
use decree_sidecar::log::suite::{self, Factory};
use decree_wire::position::Position;
use decree_wire::record::Record;
use tokio::sync::Mutex;

/// Remembers the last log, which the port hides.
#[derive(Debug, Default)]
struct Memory(Mutex<MemoryLog>);

#[async_trait]
impl Factory for Memory {
    async fn create(&self) -> Arc<dyn Log> {
        let log = MemoryLog::new();
        *self.0.lock().await = log.clone();
        Arc::new(log)
    }

    async fn recreate(&self, log: Arc<dyn Log>) -> Arc<dyn Log> {
        self.0.lock().await.recreate();
        log
    }

    async fn plain(&self, _: &Arc<dyn Log>, record: Record) -> Position {
        self.0.lock().await.append_record(record, 0)
    }
}

#[tokio::test]
async fn it_is_a_log() {
    suite::all(&Memory::default()).await;
}
