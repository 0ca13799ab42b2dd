//! From the API server's question to its answer: thin, the decision is the injection's.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::post};
use decree_crds::labels;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::engines::Engines;
use crate::inject::sidecar::Sidecar;
use crate::inject::{self, Answer};
use crate::metrics::{Ended, Metrics};

/// A pod is at most a few hundred kilobytes; the API server itself takes 3 MiB.
const MAX_BODY: usize = 4 << 20;
/// Below the configuration's own time-out, so that the API server hears why.
const LIMIT: Duration = Duration::from_secs(8);
/// At once; more wait within [`LIMIT`].
const MAX_CONCURRENT: usize = 16;

/// What the handler needs.
#[derive(Clone, Debug)]
pub struct Reviewer {
    engines: Arc<dyn Engines>,
    sidecar: Arc<Sidecar>,
    metrics: Metrics,
    turns: Arc<Semaphore>,
}

/// Why a question could not be answered: the API server refuses the pod, and its controller tries again.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read the admission review: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Engines(#[from] super::engines::Error),
    #[error("write the patch")]
    Patch(#[from] kube::core::admission::SerializePatchError),
    #[error("read the admission review: it is larger than {MAX_BODY} bytes, or broke off")]
    TooLarge,
    #[error("answer within {LIMIT:?}")]
    TooSlow,
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Patch(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Engines(_) | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "Unreadable",
            Self::Engines(_) => "EnginesUnknown",
            Self::Patch(_) => "PatchFailed",
            Self::TooLarge => "TooLarge",
            Self::TooSlow => "TooSlow",
        }
    }
}

impl Reviewer {
    /// Answers with the engines that `engines` finds; `sidecar` is what the operator was installed with.
    #[must_use]
    pub fn new(engines: Arc<dyn Engines>, sidecar: Sidecar, metrics: Metrics) -> Self {
        let turns = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Self { engines, sidecar: Arc::new(sidecar), metrics, turns }
    }

    /// `POST /inject`.
    pub fn routes(self) -> Router {
        Router::new().route("/inject", post(inject)).with_state(self)
    }

    fn count(&self, result: &'static str) {
        self.metrics.injections.get_or_create(&Ended { result }).inc();
    }

    async fn review(&self, body: &[u8]) -> Result<AdmissionResponse, Error> {
        let unreadable = |error: &dyn std::fmt::Display| Error::Unreadable(error.to_string());
        let review: AdmissionReview<Pod> =
            serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let request: AdmissionRequest<Pod> = review.try_into().map_err(|error| unreadable(&error))?;
        let response = AdmissionResponse::from(&request);
        let Some(pod) = &request.object else { return Ok(response) };
        // A pod that is created seldom says its namespace; the request always does.
        let namespace = request.namespace.as_deref().unwrap_or_default();
        let engines = match pod.labels().get(labels::ENGINE) {
            Some(wanted) => self.engines.of_namespace(namespace, wanted).await?,
            None => Vec::new(),
        };
        let engines: Vec<_> = engines.iter().map(AsRef::as_ref).collect();
        let answer = inject::answer(pod, namespace, &engines, &self.sidecar);
        let name = if request.name.is_empty() {
            pod.metadata.generate_name.as_deref().unwrap_or_default()
        } else {
            &request.name
        };
        tracing::info!(
            namespace,
            pod = name,
            result = answer.reason(),
            dry_run = request.dry_run,
            "reviewed"
        );
        if !request.dry_run {
            self.count(answer.reason());
        }
        match answer {
            Answer::Unchanged(_) => Ok(response),
            Answer::Injected { patch, .. } | Answer::Amended { patch } => Ok(response.with_patch(patch)?),
            Answer::Refused(refusal) => Ok(refused(response, &refusal.to_string())),
        }
    }
}

fn refused(response: AdmissionResponse, message: &str) -> AdmissionResponse {
    let mut response = response.deny(message);
    response.result.code = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
    response.result.reason = "Invalid".to_owned();
    response
}

async fn inject(State(reviewer): State<Reviewer>, request: Request) -> Response {
    let answered = timeout(LIMIT, async {
        // Before the body is read: so many of them are in memory at once, and no more.
        let _turn = reviewer.turns.acquire().await.expect("the semaphore is never closed");
        let body = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| Error::TooLarge)?;
        reviewer.review(&body).await
    });
    match answered.await.unwrap_or(Err(Error::TooSlow)) {
        Ok(response) => Json(response.into_review()).into_response(),
        Err(error) => {
            tracing::warn!(%error, "could not answer the API server");
            reviewer.count(error.reason());
            (error.status(), format!("{error}\n")).into_response()
        }
    }
}
