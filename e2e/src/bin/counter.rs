//! A test application: a counter in memory, or in files of a folder, that knows nothing of who speaks to it.
//!
//! `POST /increment` counts, remembers the body as a token, and answers the count; `GET /count` and `GET /tokens` say
//! what it has; `GET /health` says that it is well. Faults on demand: `?hold-until=MILLISECONDS` (since 1970) on an
//! increment holds its answer until then, once it has counted; `POST /fail` answers 500; `POST /die` ends the process
//! in place of an answer; `POST /garble` counts, and has no answer but rubbish to it the first time.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use serde_json::{Value, json};
use tiny_http::{Header, Method, Request, Response, Server};

/// An answer that is held must not keep health checks waiting.
const WORKERS: usize = 8;
const BODY_LIMIT: u64 = 1 << 20;

/// Counts what it is POSTed.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Keep the tokens in a file of this folder, and begin with those that are there
    #[arg(long)]
    state: Option<PathBuf>,
}

#[derive(Debug)]
struct Counter {
    tokens: Mutex<Tokens>,
    /// Increments that are counted and not answered yet.
    holding: AtomicUsize,
    /// Rubbish was answered.
    garbled: AtomicBool,
}

/// One token an increment, in their order.
#[derive(Debug)]
struct Tokens {
    all: Vec<String>,
    file: Option<File>,
}

fn main() -> Result<()> {
    // The first process of a container has no default for SIGTERM: without this it would not end.
    let always = Arc::new(AtomicBool::new(true));
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGTERM, 0, always)
        .context("listen for SIGTERM")?;

    let Arguments { port, state } = Arguments::parse();
    let tokens = Tokens::open(state.as_deref())?;
    let (holding, garbled) = (AtomicUsize::new(0), AtomicBool::new(false));
    let counter = Counter { tokens: Mutex::new(tokens), holding, garbled };
    let server = Server::http(SocketAddr::from(([0, 0, 0, 0], port)))
        .map_err(|error| anyhow!("listen on {port}: {error}"))?;
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| server.incoming_requests().for_each(|request| counter.answer(request)));
        }
    });
    Ok(())
}

impl Tokens {
    fn open(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Self { all: Vec::new(), file: None }) };
        let path = folder.join("tokens");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let kept = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { all: kept.lines().map(str::to_owned).collect(), file: Some(file) })
    }

    /// Counts a token; gives the count.
    fn add(&mut self, token: String) -> std::io::Result<usize> {
        if let Some(file) = &mut self.file {
            writeln!(file, "{token}")?;
        }
        self.all.push(token);
        Ok(self.all.len())
    }
}

impl Counter {
    fn answer(&self, mut request: Request) {
        let url = request.url().to_owned();
        let (path, query) = url.split_once('?').unwrap_or((url.as_str(), ""));
        let (status, body) = match (request.method(), path) {
            (Method::Post, "/garble") if !self.garbled.swap(true, Ordering::SeqCst) => {
                self.increment(&mut request, query);
                let mut raw = request.into_writer();
                if let Err(error) = raw.write_all(b"rubbish\r\n\r\n").and_then(|()| raw.flush()) {
                    eprintln!("answer {path}: {error}");
                }
                return;
            }
            (Method::Post, "/increment" | "/garble") => self.increment(&mut request, query),
            (Method::Post, "/fail") => (500, json!({"error": "as you wish"})),
            (Method::Post, "/die") => std::process::exit(1),
            (Method::Get, "/count") => (200, json!({"count": self.tokens().len()})),
            (Method::Get, "/tokens") => (200, json!(self.tokens())),
            (Method::Get, "/health") => (200, json!({"holding": self.holding.load(Ordering::SeqCst)})),
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

    fn increment(&self, request: &mut Request, query: &str) -> (u16, Value) {
        let mut token = String::new();
        if let Err(error) = request.as_reader().take(BODY_LIMIT).read_to_string(&mut token) {
            return (400, json!({"error": format!("read the body: {error}")}));
        }
        if token.contains(['\n', '\r']) {
            return (400, json!({"error": "a token is one line"}));
        }
        let count = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).add(token);
        self.holding.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(hold(query));
        self.holding.fetch_sub(1, Ordering::SeqCst);
        match count {
            Ok(count) => (200, json!({"count": count})),
            Err(error) => (500, json!({"error": format!("keep the token: {error}")})),
        }
    }

    fn tokens(&self) -> Vec<String> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }
}

/// How long an answer is to wait: not at all once the moment has passed, so that old requests are quickly repeated.
fn hold(query: &str) -> Duration {
    let until = query.strip_prefix("hold-until=").and_then(|text| text.parse().ok()).unwrap_or(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(until).saturating_sub(now)
}
