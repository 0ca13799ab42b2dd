//! A test application: it records what it is POSTed, in order, in memory, and knows nothing of who POSTs it.
//!
//! `POST /decisions` records a request and answers how many there are now; `GET /log` gives them all; `GET /healthz`
//! says that it is well. `GET /livez` says so too, until somebody POSTs to `/sicken`: from then on, and until the end of
//! the process, it answers 500. A JSON body may ask for something else than a prompt 200: `{"hold_ms": 500}` an answer that
//! takes its time, `{"answer": 422}` a refusal, which is not recorded.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

/// A delivery that waits for its answer must not keep health checks waiting.
const WORKERS: usize = 4;
const BODY_LIMIT: u64 = 8 << 20;

/// What the environment asks for.
#[derive(Debug)]
struct Settings {
    port: u16,
    /// Nothing listens before this has passed.
    start_delay: Duration,
    /// Every delivery takes so long.
    apply_delay: Duration,
    /// It ends, well, once it has recorded so many.
    exit_after: Option<usize>,
}

/// One request that was recorded.
#[derive(Debug, Clone, Serialize)]
struct Recorded {
    position: Option<u64>,
    id: Option<String>,
    source: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    seed: Option<String>,
    time: Option<String>,
    body: String,
}

/// What a body may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wish {
    hold_ms: u64,
    answer: Option<u16>,
}

#[derive(Debug)]
struct Recorder {
    settings: Settings,
    log: Mutex<Vec<Recorded>>,
    /// Requests to record, those at work included.
    begun: AtomicUsize,
    sick: AtomicBool,
}

fn main() -> Result<()> {
    // The first process of a container has no default for SIGTERM: without this it would not end.
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, 0, always)
        .context("listen for SIGTERM")?;

    let settings = Settings::from_environment()?;
    std::thread::sleep(settings.start_delay);
    let server = Server::http(SocketAddr::from(([0, 0, 0, 0], settings.port)))
        .map_err(|error| anyhow!("listen on {}: {error}", settings.port))?;
    let recorder = Recorder {
        settings,
        log: Mutex::new(Vec::new()),
        begun: AtomicUsize::new(0),
        sick: AtomicBool::new(false),
    };
    let full = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                for request in server.incoming_requests() {
                    recorder.answer(request);
                    if recorder.is_full() && !full.swap(true, Ordering::SeqCst) {
                        // What was answered is on its way; a moment later nobody needs us any more.
                        std::thread::sleep(Duration::from_millis(200));
                        std::process::exit(0);
                    }
                }
            });
        }
    });
    Ok(())
}

impl Settings {
    fn from_environment() -> Result<Self> {
        let number = |name: &str| match std::env::var(name) {
            Ok(text) => text.parse::<u64>().map(Some).with_context(|| format!("read {name}={text:?}")),
            Err(_) => Ok(None),
        };
        Ok(Self {
            port: u16::try_from(number("PORT")?.unwrap_or(8080)).context("read PORT")?,
            start_delay: Duration::from_millis(number("START_DELAY_MS")?.unwrap_or(0)),
            apply_delay: Duration::from_millis(number("APPLY_DELAY_MS")?.unwrap_or(0)),
            exit_after: number("EXIT_AFTER")?.map(usize::try_from).transpose().context("read EXIT_AFTER")?,
        })
    }
}

impl Recorder {
    fn answer(&self, mut request: Request) {
        let path = request.url().split('?').next().unwrap_or_default().to_owned();
        let (status, body) = match (request.method(), path.as_str()) {
            (Method::Post, "/decisions") => self.record(&mut request),
            (Method::Get, "/log") => (200, json!(self.recorded())),
            (Method::Get, "/healthz") => {
                (200, json!({"begun": self.begun.load(Ordering::SeqCst), "recorded": self.count()}))
            }
            (Method::Post, "/sicken") => {
                self.sick.store(true, Ordering::SeqCst);
                (200, json!({}))
            }
            (Method::Get, "/livez") => {
                let sick = self.sick.load(Ordering::SeqCst);
                (if sick { 500 } else { 200 }, json!({"sick": sick}))
            }
            (method, path) => (404, json!({"error": format!("nothing here for {method} {path}")})),
        };
        let mut response = Response::from_string(body.to_string()).with_status_code(status);
        if let Ok(json) = Header::from_bytes("content-type", "application/json") {
            response.add_header(json);
        }
        if let Err(error) = request.respond(response) {
            eprintln!("answer {path}: {error}");
        }
    }

    fn record(&self, request: &mut Request) -> (u16, Value) {
        let mut body = String::new();
        if let Err(error) = request.as_reader().take(BODY_LIMIT).read_to_string(&mut body) {
            return (400, json!({"error": format!("read the body: {error}")}));
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let wish: Wish = serde_json::from_str(&body).unwrap_or_default();
        std::thread::sleep(self.settings.apply_delay + Duration::from_millis(wish.hold_ms));
        if let Some(status) = wish.answer {
            return (status, json!({"answered": status}));
        }
        let recorded = Recorded {
            position: header(request, "decree-position").and_then(|text| text.parse().ok()),
            id: header(request, "ce-id"),
            source: header(request, "ce-source"),
            kind: header(request, "ce-type"),
            seed: header(request, "decree-seed"),
            time: header(request, "decree-time"),
            body,
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(recorded);
        (200, json!({"applied": log.len()}))
    }

    fn recorded(&self) -> Vec<Recorded> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is_full(&self) -> bool {
        self.settings.exit_after.is_some_and(|limit| self.count() >= limit)
    }
}

fn header(request: &Request, name: &'static str) -> Option<String> {
    let found = request.headers().iter().find(|header| header.field.equiv(name))?;
    Some(found.value.as_str().to_owned())
}
