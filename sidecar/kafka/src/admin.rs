//! The shared handle for questions and changes: one client for everything that uses the same brokers and credentials.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::Semaphore;

use crate::client::{self, Context};
use crate::connection::Connection;
use crate::error::{Attempt, Error, Result};
use crate::native::{self, Event, Refusal};

/// Watermarks and the like are blocking calls of librdkafka: at most so many threads wait in them at once.
const BLOCKING: usize = 4;
/// With brokers away librdkafka logs each attempt, in a queue without bounds.
const HEAR: Duration = Duration::from_secs(10);

/// Asks and changes what brokers hold. Cheap to clone; clones share one client.
#[derive(Clone)]
pub struct Admin {
    inner: Arc<Inner>,
}

struct Inner {
    client: Option<AdminClient<Context>>,
    brokers: String,
    limit: Duration,
    blocking: Semaphore,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("brokers", &self.inner.brokers).finish_non_exhaustive()
    }
}

impl Admin {
    /// Connects in the background: succeeds with brokers away. Every call answers within about `limit`.
    pub fn open(connection: &Connection, limit: Duration) -> Result<Self> {
        let client = client::admin(connection)?
            .create_with_context(Context::default())
            .map_err(|error| client::refused(connection, &error))?;
        let inner = Arc::new(Inner {
            client: Some(client),
            brokers: connection.brokers(),
            limit,
            blocking: Semaphore::new(BLOCKING),
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(keep_hearing(Arc::downgrade(&inner)));
        }
        Ok(Self { inner })
    }

    /// How many brokers the cluster has.
    pub async fn brokers(&self) -> Result<usize> {
        let attempt = self.attempt("list the brokers".into(), "");
        let answer = native::brokers(self.client(), self.limit()).await;
        self.answered(&attempt, answer).map(|ids| ids.len())
    }

    pub(crate) fn rdkafka(&self) -> &AdminClient<Context> {
        self.inner.client.as_ref().expect("the client is taken only when the last handle is dropped")
    }

    pub(crate) fn client(&self) -> &Client<Context> {
        self.rdkafka().inner()
    }

    pub(crate) fn limit(&self) -> Duration {
        self.inner.limit
    }

    pub(crate) fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.inner.limit)).operation_timeout(Some(self.inner.limit))
    }

    pub(crate) fn attempt(&self, what: String, topic: &str) -> Attempt {
        Attempt {
            what,
            brokers: self.inner.brokers.clone(),
            topic: topic.to_owned(),
            limit: self.inner.limit,
            needs: "DESCRIBE on the cluster".into(),
        }
    }

    /// An error that says what is behind a request that merely timed out.
    pub(crate) fn failed(&self, attempt: &Attempt, code: Code, detail: &str) -> Error {
        self.hear();
        match (code, self.client().context().trouble()) {
            (Code::OperationTimedOut, Some(trouble)) => attempt.behind(&trouble),
            _ => attempt.error(code, detail),
        }
    }

    /// Takes the logs that gathered, at every call: they say why brokers can't be reached.
    fn hear(&self) {
        while let Some(event) = native::poll_main(self.client()) {
            match event {
                Event::Log { level, facility, message } => {
                    self.client().context().log(level, &facility, &message);
                }
                Event::Failed { topic: None, refusal } => {
                    self.client().context().note(refusal.code, &refusal.detail);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn answered<T>(&self, attempt: &Attempt, answer: Result<T, Refusal>) -> Result<T> {
        match answer {
            Ok(value) => {
                self.hear();
                self.client().context().answered();
                Ok(value)
            }
            Err(refusal) => Err(self.failed(attempt, refusal.code, &refusal.detail)),
        }
    }

    pub(crate) fn answered_by_rdkafka<T>(
        &self,
        attempt: &Attempt,
        answer: Result<T, KafkaError>,
    ) -> Result<T> {
        self.answered(attempt, answer.map_err(|error| refusal(&error)))
    }

    /// Runs a blocking call that has the limit itself.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        attempt: Attempt,
        call: impl FnOnce(&Client<Context>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T> {
        let permit = tokio::time::timeout(self.inner.limit, self.inner.blocking.acquire());
        let Ok(Ok(_permit)) = permit.await else {
            return Err(self.failed(&attempt, Code::OperationTimedOut, "too many calls at once"));
        };
        let admin = self.clone();
        let answer = tokio::task::spawn_blocking(move || call(admin.client())).await;
        let answer = answer.unwrap_or(Err(KafkaError::Canceled));
        self.answered_by_rdkafka(&attempt, answer)
    }
}

/// Takes the logs of a client that nobody asks anything; ends with it.
async fn keep_hearing(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(HEAR).await;
        let Some(inner) = inner.upgrade() else { return };
        Admin { inner }.hear();
    }
}

fn refusal(error: &KafkaError) -> Refusal {
    let code = error.rdkafka_error_code().unwrap_or(match error {
        KafkaError::AdminOp(code) => *code,
        KafkaError::AdminOpCreation(_) | KafkaError::Nul(_) => Code::InvalidArgument,
        _ => Code::Fail,
    });
    Refusal { code, detail: error.to_string() }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing waits for librdkafka's threads.
        client::close(self.client.take());
    }
}
