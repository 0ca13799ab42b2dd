//! HTTP replication (port 7072): requests that match a rule go through the log, all others straight to the application.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use decree_wire::document::{Class, Mode, Reads, Rule};
use decree_wire::heartbeat::Trouble;
use decree_wire::record::MAX_TARGET;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::agent::{Agent, Engine};
use crate::answer::respond;
use crate::intake::Intake;
use crate::problem::Problem;
use crate::propose::{DEFAULT_WAIT, Wait};
use crate::readiness;
use crate::shutdown::Door;

mod capture;
mod forward;
mod hop;
mod reads;
mod rules;

use forward::Forward;

/// How many clients may be connected.
pub const CONNECTIONS: usize = 768;
/// What a command's headers may take: with the largest body it must still fit into a record.
const MAX_HEADERS: usize = 12 << 10;

#[derive(Clone, Debug)]
struct Proxy {
    agent: Agent,
    intake: Intake,
    forward: Forward,
}

/// Everything that arrives at 7072.
pub fn router(agent: Agent, intake: Intake) -> Router {
    Router::new().fallback(handle).with_state(Proxy { agent, intake, forward: Forward::default() })
}

async fn handle(State(proxy): State<Proxy>, request: Request) -> Response {
    proxy.answer(request).await.unwrap_or_else(elsewhere)
}

/// A client that keeps its connection would come back to this agent, and the Service has others.
fn elsewhere(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a proxy between request and answer can't carry.
fn supported(request: &Request) -> Result<(), Problem> {
    let upgrade = request.headers().contains_key(header::UPGRADE) || request.method() == Method::CONNECT;
    // Clients offer h2c in passing; not taking up the offer is an answer.
    let h2c = request.headers().get(header::UPGRADE).is_some_and(|value| value == "h2c");
    if upgrade && !h2c {
        return Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "upgrade-not-supported",
            "connections can't be upgraded here",
            "HTTP replication carries requests and answers; reach the application's own port for other protocols",
        ));
    }
    if !request.uri().path().starts_with('/') {
        return Err(Problem::bad_request("the request's target is no path"));
    }
    Ok(())
}

fn replicated(rules: &[Rule], request: &Request) -> bool {
    rules::matches(rules, request.method(), request.uri(), request.headers())
}

impl Proxy {
    async fn answer(&self, request: Request) -> Result<Response, Problem> {
        let waiting = |why| Trouble { reason: "WaitingForDocument".into(), message: why };
        let class = self.agent.class().map_err(|why| Problem::troubled(&waiting(why)))?;
        let Class { mode: Mode::Replicate { rules, reads }, .. } = class else {
            return Err(Problem::not_found(
                "this class applies commands, it does not replicate HTTP requests; propose at POST /v1/commands of \
                 the local API, or set agents[].replicate",
            ));
        };
        supported(&request)?;
        if replicated(&rules, &request) { self.order(request).await } else { self.pass(request, reads).await }
    }

    async fn order(&self, request: Request) -> Result<Response, Problem> {
        self.agent.accepts(Door::Service)?;
        let engine = self.serving()?;
        let (parts, body) = request.into_parts();
        target_fits(parts.uri.path_and_query().map_or(0, |target| target.as_str().len()))?;
        headers_fit(&parts.headers)?;
        let taken = self.intake.read(&parts.headers, body).await?;
        let class = self.agent.class().map(|class| class.name).unwrap_or_default();
        let delivered = self.agent.deliver_headers(&class);
        let command = capture::capture(&parts, taken.bytes.clone(), &delivered)?;
        let answer = engine.proposer.propose(command, Wait::Applied(DEFAULT_WAIT)).await?;
        self.intake.hold(respond(answer))
    }

    async fn pass(&self, request: Request, reads: Reads) -> Result<Response, Problem> {
        let (parts, body) = request.into_parts();
        let reads = reads::wanted(&parts.headers, reads)?;
        let rebuilds = |engine: &Engine| engine.replica.progress().borrow().tally.rebuilds;
        let before = rebuilds(&*self.agent.engine_now()?);
        let engine = self.serving()?;
        if reads == Reads::Barrier {
            engine.barriers.pass(DEFAULT_WAIT).await?;
        }
        let response = self.forward.send(engine.port, parts, body).await?;
        // Asked again now that a connection stood: what answered is then the life that is known.
        known(&engine)?;
        if rebuilds(&engine) != before {
            return Err(Problem::unavailable("the application was rebuilt while it answered; try again"));
        }
        Ok(response.map(Body::new))
    }

    /// The engine, if what the application would answer can be vouched for.
    fn serving(&self) -> Result<Arc<Engine>, Problem> {
        let engine = self.agent.engine_now()?;
        if let Some(trouble) = readiness::unserving(&engine.replica.progress().borrow()) {
            return Err(Problem::troubled(&trouble));
        }
        known(&engine)?;
        Ok(engine)
    }
}

fn known(engine: &Engine) -> Result<(), Problem> {
    engine.replica.application_known().map_err(|trouble| Problem::troubled(&trouble))
}

fn target_fits(size: usize) -> Result<(), Problem> {
    if size <= MAX_TARGET {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::URI_TOO_LONG,
        "target-too-long",
        "path and query are too long",
        format!("path and query of a request that is ordered may have {MAX_TARGET} bytes together"),
    ))
}

fn headers_fit(headers: &HeaderMap) -> Result<(), Problem> {
    let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if size <= MAX_HEADERS {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "headers-too-large",
        "the headers are too large",
        format!("the headers of a request that is ordered may have {MAX_HEADERS} bytes together"),
    ))
}
