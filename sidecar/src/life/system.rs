//! The application's life as the kernel tells it.

use std::sync::OnceLock;

use super::{Error, Incarnation, Life, boot, listener};

/// Sees the listeners of one port in the pod's network namespace.
#[derive(Debug)]
pub struct System {
    port: u16,
    /// It can't change while this process lives.
    boot: OnceLock<String>,
}

impl System {
    /// Watches the application's port.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self { port, boot: OnceLock::new() }
    }

    fn boot(&self) -> Result<String, Error> {
        if let Some(boot) = self.boot.get() {
            return Ok(boot.clone());
        }
        let boot = boot::id()?;
        Ok(self.boot.get_or_init(|| boot).clone())
    }
}

impl Life for System {
    fn current(&self) -> Result<Option<Incarnation>, Error> {
        let listeners = listener::inodes(self.port)?;
        if listeners.is_empty() {
            return Ok(None);
        }
        Ok(Some(Incarnation { boot: self.boot()?, listeners }))
    }

    fn boot(&self) -> Result<String, Error> {
        Self::boot(self)
    }
}
