//! The engine's document: read again when it changes, the last good one kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use decree_wire::document::{self, Document};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::credentials::{self, Credentials};

/// How often the file is looked at: a kubelet swaps a mounted Secret's `..data` link, so there is no event to trust.
const POLL: Duration = Duration::from_secs(2);
/// A document is a few kilobytes; what is larger is something else.
const MAX_BYTES: u64 = 4 << 20;

/// The document as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last good one; none until there was one.
    pub current: Option<Arc<Document>>,
    /// The files beside it, as they were with it.
    pub credentials: Arc<Credentials>,
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
    #[error("{0} is larger than it can be")]
    TooLarge(PathBuf),
    #[error("reading the credentials beside the document: {0}")]
    Credentials(#[from] credentials::Error),
    #[error(transparent)]
    Document(#[from] document::Error),
}

/// Follows the document at `place`, a file or the folder of a mounted Secret.
#[derive(Debug)]
pub struct Watch {
    place: PathBuf,
    seen: Option<Result<Files, String>>,
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
        let taken = match &read {
            Ok(files) => taken(files).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        match taken {
            Ok((document, credentials)) => {
                tracing::info!(engine = %document.engine, "took the engine's document");
                let (current, credentials) = (Some(Arc::new(document)), Arc::new(credentials));
                self.sender.send_replace(State { current, credentials, trouble: None });
            }
            Err(trouble) => {
                tracing::warn!(%trouble, "kept the last good document");
                self.sender.send_modify(|state| state.trouble = Some(trouble));
            }
        }
        self.seen = Some(read);
    }
}

/// The document first, then the files that it names, each in its turn; one that is not there is nobody's yet.
type Files = Vec<(String, Option<Vec<u8>>)>;

fn taken(files: &Files) -> Result<(Document, Credentials), Error> {
    let bytes = files.first().and_then(|(_, bytes)| bytes.as_deref()).unwrap_or_default();
    let document = Document::read(bytes)?;
    let beside = |name: &str| {
        let file = files.iter().skip(1).find(|(file, _)| file == name);
        file.and_then(|(_, bytes)| bytes.as_deref())
    };
    let credentials = credentials::of(&document, beside)?;
    Ok((document, credentials))
}

fn read(place: &Path) -> Result<Files, Error> {
    let io = |source| Error::Io { path: place.to_owned(), source };
    let (folder, file) = if std::fs::metadata(place).map_err(io)?.is_dir() {
        // A kubelet exchanges all files at once by this link: followed once, they are of one time.
        let data = std::fs::canonicalize(place.join("..data")).unwrap_or_else(|_| place.to_owned());
        (data.clone(), data.join(document::FILE))
    } else {
        (place.parent().map(Path::to_owned).unwrap_or_default(), place.to_owned())
    };
    let bytes = read_file(&file)?.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))?;
    let mut files = vec![(document::FILE.to_owned(), Some(bytes.clone()))];
    if let Ok(document) = Document::read(&bytes) {
        for name in document.files() {
            files.push((name.clone(), read_file(&folder.join(name))?));
        }
    }
    Ok(files)
}

/// None where there is no such file.
fn read_file(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    let io = |source| Error::Io { path: file.to_owned(), source };
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if metadata.len() > MAX_BYTES => return Err(Error::TooLarge(file.to_owned())),
        Ok(_) => {}
    }
    std::fs::read(file).map(Some).map_err(io)
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

        let sasl = GOOD.replace(
            r#""heartbeats":"h""#,
            r#""heartbeats":"h","sasl":{"mechanism":"SCRAM-SHA-512","username":"u","password":"p"}"#,
        );
        swap(&sasl, "..1a");
        watch.look();
        assert!(documents.borrow().credentials.sasl.is_none(), "the last good one");
        let trouble = documents.borrow().trouble.clone().unwrap();
        assert!(trouble.contains("file u"), "{trouble}");
        for (file, text) in [("u", "name"), ("p", "word")] {
            std::fs::write(folder.path().join("..1a").join(file), text).unwrap();
        }
        watch.look();
        let password = |word: &str| documents.borrow().credentials.sasl.as_ref().unwrap().password == word;
        assert!(password("word"));
        std::fs::write(folder.path().join("..1a/p"), "another").unwrap();
        watch.look();
        assert!(password("another"), "a password that changes alone is news");

        swap("{}", "..2");
        watch.look();
        assert!(documents.borrow().current.is_some());
        assert!(documents.borrow().trouble.as_deref().unwrap().contains("can't be read"));
    }
}
