//! The engine's document: read again when it changes, the last good one kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decree_wire::document::{self, Document};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the file is looked at: a kubelet swaps a mounted Secret's `..data` link, so there is no event to trust.
const POLL: Duration = Duration::from_secs(2);
/// A document is a few kilobytes; what is larger is something else.
const MAX_BYTES: u64 = 4 << 20;

/// The document as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last good one; none until there was one.
    pub current: Option<Arc<Document>>,
    /// Why the file as it is now is not taken.
    pub trouble: Option<String>,
}

/// Hands out the newest document.
pub type Documents = watch::Receiver<State>;

/// Why the file is not taken.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("reading the document at {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} is larger than a document can be")]
    TooLarge(PathBuf),
    #[error(transparent)]
    Document(#[from] document::Error),
}

/// Follows the document at `place`, a file or the folder of a mounted Secret.
#[derive(Debug)]
pub struct Watch {
    place: PathBuf,
    seen: Option<Result<Vec<u8>, String>>,
    sender: watch::Sender<State>,
}

impl Watch {
    /// Looks once; what is there already is known at once.
    #[must_use]
    pub fn new(place: PathBuf) -> (Self, Documents) {
        let (sender, documents) = watch::channel(State::default());
        let mut watch = Self { place, seen: None, sender };
        watch.look();
        (watch, documents)
    }

    /// Looks again and again until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let read = read(&self.place).map_err(|error| error.to_string());
        if self.seen.as_ref() == Some(&read) {
            return;
        }
        let document = match &read {
            Ok(bytes) => Document::read(bytes).map_err(|error| Error::from(error).to_string()),
            Err(error) => Err(error.clone()),
        };
        match document {
            Ok(document) => {
                tracing::info!(engine = %document.engine, "took the engine's document");
                self.sender.send_replace(State { current: Some(Arc::new(document)), trouble: None });
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "kept the last good document");
                self.sender.send_modify(|state| state.trouble = Some(trouble));
            }
        }
        self.seen = Some(read);
    }
}

fn read(place: &Path) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: place.to_owned(), source };
    let file = if std::fs::metadata(place).map_err(io)?.is_dir() {
        place.join(document::FILE)
    } else {
        place.to_owned()
    };
    if std::fs::metadata(&file).map_err(io)?.len() > MAX_BYTES {
        return Err(Error::TooLarge(file));
    }
    std::fs::read(&file).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"level":1,"engine":{"namespace":"a","name":"b"},"cluster":"c","heartbeatMs":1000,
        "kafka":{"bootstrapServers":["k:9092"],"topic":"t","heartbeats":"h"},
        "classes":[{"name":"x","port":80,"overdueAfterMs":1,"mode":{"apply":{"path":"/"}}}]}"#;

    #[test]
    fn the_last_good_document_is_kept_and_a_bad_one_is_a_trouble() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, documents) = Watch::new(folder.path().to_owned());
        assert!(documents.borrow().current.is_none() && documents.borrow().trouble.is_some());

        let swap = |text: &str, generation: &str| {
            // As a kubelet does it: a new folder, and a link that is renamed over the old one.
            let data = folder.path().join(generation);
            std::fs::create_dir(&data).unwrap();
            std::fs::write(data.join(document::FILE), text).unwrap();
            std::os::unix::fs::symlink(&data, folder.path().join("..data_tmp")).unwrap();
            std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        };
        std::os::unix::fs::symlink("..data/document.json", folder.path().join(document::FILE)).unwrap();
        swap(GOOD, "..1");
        watch.look();
        assert!(documents.borrow().current.is_some() && documents.borrow().trouble.is_none());

        swap("{}", "..2");
        watch.look();
        assert!(documents.borrow().current.is_some());
        assert!(documents.borrow().trouble.as_deref().unwrap().contains("can't be read"));
    }
}
