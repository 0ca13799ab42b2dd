//! The replica: follows the log, applies each entry to the application once and in order, and remembers where it is.
//!
//! ```text
//!   origin (incarnation, last entry, first settings) ─▶ follow ─▶ step (pure) ─▶ deliver ─▶ store (one batch)
//!                                                                                              │
//!        Handle ◀── known, resolved, progress ◀── board (progress, ledger of waiters) ◀────────┘
//! ```

use std::sync::Arc;

use decree_wire::probe::Restart;
use decree_wire::settings::{ClassSettings, Settings};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::end::Way;
use crate::life::Life;
use crate::life::verdict::{Seen, Standing, Verdict, verdict};
use crate::log::Log;

mod board;
mod config;
mod deliver;
mod digest;
mod follow;
mod halt;
mod handle;
mod idempotent;
mod ledger;
mod origin;
mod pace;
mod progress;
mod resolution;
mod rows;
mod step;
mod store;
mod trouble;
mod watch;

use board::Board;
use deliver::Courier;
use follow::Follower;
use rows::{Begun, Bookmark};
use store::{Left, Store};

pub use config::Config;
pub use handle::Handle;
pub use progress::{Application, Counts, Progress, Tally};
pub use resolution::{Known, Resolution};
pub use store::Error;

/// The state machine of one agent.
#[derive(Debug)]
pub struct Replica {
    follower: Follower,
    app: Arc<dyn App>,
}

impl Replica {
    /// Opens the journal in [`Config::state`] and finds out where the last life of the sidecar stopped.
    ///
    /// # Errors
    /// If the folder can't be used, holds what this build can't read, or is still open.
    pub fn open(
        config: Config,
        log: Arc<dyn Log>,
        app: Arc<dyn App>,
        life: Arc<dyn Life>,
    ) -> Result<(Self, Handle), Error> {
        let boot = life.boot().map_err(|e| Error { attempt: "open", detail: e.to_string() })?;
        let (store, left) = Store::open(&config.state, &boot)?;
        let Left { bookmark, settings, begun, attempts, remembered, differs, rebooted } = left;
        let standing = Standing {
            life: bookmark.as_ref().and_then(|bookmark| bookmark.life.clone()),
            begun: begun.as_ref().map(Begun::standing),
            haunted: rebooted && config.restart == Restart::Pod,
        };
        let stands = bookmark.zip(settings);
        let position = stands.as_ref().and_then(|(bookmark, _)| bookmark.position());
        let remembered = remembered.filter(|remembered| position < Some(remembered.last.position));
        let board = Arc::new(Board::new(store, life, standing));
        match (&stands, &remembered) {
            (Some((bookmark, _)), _) => board.resume(bookmark, bookmark.reached && still_stands(&board)),
            (None, Some(remembered)) => board.followed(&remembered.incarnation),
            (None, None) => {}
        }
        let way = if config.replicates { Way::Replicate } else { Way::Apply };
        let mut courier = Courier::new(Arc::clone(&app), Arc::clone(&board), way, attempts);
        courier.resume(begun.as_ref(), most_attempts(stands.as_ref(), &config.class))?;
        if let Some(differs) = differs {
            board.suspect(trouble::not_deterministic(differs.position));
        }
        let handle = Handle::new(Arc::clone(&board));
        Ok((Self { follower: Follower { config, log, board, courier, stands, remembered }, app }, handle))
    }

    /// Follows the log until `stop`. A halted replica goes on answering [`Handle`] and ends only at `stop`.
    ///
    /// A delivery in flight at `stop` is waited for; the caller limits that by dropping the future, which leaves the
    /// delivery in doubt.
    ///
    /// # Errors
    /// If the store failed: nothing can be promised any more, the process must end.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let board = Arc::clone(&self.follower.board);
        let log = Arc::clone(&self.follower.log);
        let watch = watch::run(board, self.app, log);
        tokio::select! {
            ended = Box::pin(self.follower.run(stop)) => ended,
            () = watch => Ok(()),
        }
    }
}

/// Whether the application that the journal knows listens now.
fn still_stands(board: &Board) -> bool {
    let standing = board.standing();
    let seen = Seen::of(board.life.current());
    let listens = matches!(seen, Seen::Life(_));
    standing.life.is_some() && listens && verdict(&standing, &seen) == Verdict::Known
}

fn most_attempts(stands: Option<&(Bookmark, Settings)>, class: &str) -> u32 {
    let class = stands.and_then(|(_, settings)| settings.classes.get(class));
    class.map_or_else(|| ClassSettings::default().max_attempts, |class| class.max_attempts)
}
