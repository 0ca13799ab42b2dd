//! A log whose connection is exchanged while it is in use: the document may name other brokers of the same log.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use decree_wire::position::{Incarnation, Position};
use tokio::sync::watch;

use super::{Batch, Error, Log, NewEntry, Reader};

/// Passes everything on to the newest connection.
#[derive(Debug)]
pub struct Switch(watch::Sender<Arc<dyn Log>>);

impl Switch {
    /// Over this connection, for the time being.
    #[must_use]
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self(watch::Sender::new(log))
    }

    /// Over another one from now on. The caller has made sure that it leads to the same log: a position of another
    /// one would be taken for a position of this.
    pub fn to(&self, log: Arc<dyn Log>) {
        self.0.send_replace(log);
    }

    fn now(&self) -> Arc<dyn Log> {
        self.0.borrow().clone()
    }
}

#[async_trait]
impl Log for Switch {
    async fn append(&self, entry: &NewEntry) -> Result<Position, Error> {
        self.now().append(entry).await
    }

    async fn read(&self, from: Position) -> Result<Box<dyn Reader>, Error> {
        let mut newest = self.0.subscribe();
        let log = newest.borrow_and_update().clone();
        Ok(Box::new(SwitchReader { newest, reader: log.read(from).await? }))
    }

    async fn earliest(&self) -> Result<Position, Error> {
        self.now().earliest().await
    }

    async fn head(&self) -> Result<Position, Error> {
        self.now().head().await
    }

    async fn barrier(&self) -> Result<Option<Position>, Error> {
        self.now().barrier().await
    }

    async fn incarnation(&self) -> Result<Incarnation, Error> {
        self.now().incarnation().await
    }

    async fn trim(&self, before: Position) -> Result<(), Error> {
        self.now().trim(before).await
    }
}

#[derive(Debug)]
struct SwitchReader {
    newest: watch::Receiver<Arc<dyn Log>>,
    reader: Box<dyn Reader>,
}

#[async_trait]
impl Reader for SwitchReader {
    async fn next(&mut self, wait: Duration) -> Result<Batch, Error> {
        // A lost connection to the caller, who then checks the log as it always does, and reads anew.
        let exchanged = || Error::Unreachable("its brokers have other addresses now".into());
        if self.newest.has_changed().unwrap_or(true) {
            return Err(exchanged());
        }
        tokio::select! {
            biased;
            _ = self.newest.changed() => {
                self.newest.mark_changed();
                Err(exchanged())
            }
            batch = self.reader.next(wait) => batch,
        }
    }

    async fn commit(&mut self, next: Position) -> Result<(), Error> {
        self.reader.commit(next).await
    }
}

#[cfg(test)]
mod tests {
    use decree_wire::command::Command;

    use super::*;
    use crate::log::memory::MemoryLog;

    #[tokio::test]
    async fn a_reader_of_the_old_connection_is_told_and_the_next_one_goes_on() {
        let log = MemoryLog::new();
        let switch = Switch::new(Arc::new(log.clone()));
        let command = NewEntry::Command(Command::default());
        switch.append(&command).await.unwrap();
        let mut reader = switch.read(Position(0)).await.unwrap();
        let batch = reader.next(Duration::from_secs(1)).await.unwrap();
        assert_eq!(batch.next, Position(1));

        switch.to(Arc::new(log));
        for _ in 0..2 {
            let told = reader.next(Duration::from_secs(1)).await;
            assert!(matches!(told, Err(Error::Unreachable(_))), "{told:?}");
        }
        switch.append(&command).await.unwrap();
        let mut reader = switch.read(batch.next).await.unwrap();
        assert_eq!(reader.next(Duration::from_secs(1)).await.unwrap().next, Position(2));
    }
}
