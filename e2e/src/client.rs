//! A client as people write them: every wait has a limit, and what nobody answered is repeated with the same id.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http;

use crate::history::Fate;

/// For one attempt; a pod that is gone answers nothing at all.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Where a process that is outside of the cluster finds a proxy inside.
pub const DOOR_VARIABLE: &str = "DECREE_DOOR";

static DOOR: OnceLock<Option<ureq::Proxy>> = OnceLock::new();

/// Has all clients of this process that are made from now on go through a proxy.
pub fn go_through(address: &str) -> Result<()> {
    let proxy = ureq::Proxy::new(address).with_context(|| format!("read {address} as a proxy"))?;
    ensure!(DOOR.set(Some(proxy)).is_ok(), "the way into the cluster was chosen already");
    Ok(())
}

/// What speaks HTTP to an address: through the door if there is one and the address is not this machine's.
pub fn http(base: &str, limit: Duration) -> ureq::Agent {
    let door = DOOR.get_or_init(|| ureq::Proxy::new(&std::env::var(DOOR_VARIABLE).ok()?).ok());
    let proxy = door.clone().filter(|_| !base.starts_with("http://127.0.0.1:"));
    let config = ureq::Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false);
    config.proxy(proxy).build().new_agent()
}

/// Speaks HTTP to one address.
#[derive(Debug, Clone)]
pub struct Client {
    http: ureq::Agent,
    base: String,
}

/// A request to repeat as it is until it is answered.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    /// `Idempotency-Key`, what makes repeating safe.
    pub id: Option<String>,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

/// What came of a request that was repeated, and how often it was sent.
#[derive(Debug)]
pub struct Outcome {
    /// The last answer; without one, why there is none.
    pub last: Result<Reply>,
    pub attempts: usize,
}

impl Client {
    /// `base` is `http://address:port`.
    pub fn new(base: impl Into<String>) -> Self {
        Self::patient(base, ATTEMPT_LIMIT)
    }

    /// One that waits so long for each answer.
    pub fn patient(base: impl Into<String>, limit: Duration) -> Self {
        let base = base.into();
        Self { http: http(&base, limit), base }
    }

    /// Sends a request once.
    pub fn send(&self, request: &Request) -> Result<Reply> {
        let mut builder =
            http::Request::builder().method(request.method).uri(format!("{}{}", self.base, request.path));
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(id) = &request.id {
            builder = builder.header("idempotency-key", id);
        }
        let what = || format!("{} {}{}", request.method, self.base, request.path);
        let mut response = if request.body.is_empty() {
            self.http.run(builder.body(()).with_context(what)?)
        } else {
            self.http.run(builder.body(request.body.as_str()).with_context(what)?)
        }
        .with_context(what)?;
        let body = response.body_mut().with_config().limit(64 << 20).read_to_string().with_context(what)?;
        Ok(Reply { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// Sends a request until it has a final answer or the limit is over.
    pub fn send_until_answered(&self, request: &Request, limit: Duration) -> Outcome {
        let start = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let last = self.send(request);
            let is_final = last.as_ref().is_ok_and(Reply::is_final);
            if is_final || start.elapsed() >= limit {
                return Outcome { last, attempts };
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads JSON; any other answer than 200 is an error.
    pub fn get_json(&self, path: &str) -> Result<Value> {
        self.send(&Request { method: "GET", path: path.to_owned(), ..Request::default() })?.json()
    }
}

impl Reply {
    /// Whether repeating the request would be pointless.
    fn is_final(&self) -> bool {
        !matches!(self.status, 429 | 502 | 503 | 504)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body of a 200 as JSON.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status == 200, "answered {}: {}", self.status, self.body);
        serde_json::from_str(&self.body).with_context(|| format!("parse {:?}", self.body))
    }
}

impl Outcome {
    /// What the client may believe. An answer that is not final says nothing of the attempts before it.
    pub fn fate(&self) -> Fate {
        match &self.last {
            Ok(reply) if reply.status < 400 => Fate::Acknowledged,
            Ok(reply) if reply.is_final() && reply.status < 500 && reply.status != 410 => Fate::Refused,
            Ok(_) | Err(_) => Fate::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Answers with these status codes, one after the other, and tells the ids that it saw.
    fn server(answers: &'static [u16]) -> (Client, mpsc::Receiver<String>) {
        let server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        let client = Client::new(format!("http://{}", server.server_addr().to_ip().unwrap()));
        let (seen, ids) = mpsc::channel();
        std::thread::spawn(move || {
            for status in answers {
                let request = server.recv().unwrap();
                let id = request.headers().iter().find(|header| header.field.equiv("idempotency-key"));
                seen.send(id.map(|header| header.value.to_string()).unwrap_or_default()).unwrap();
                request.respond(tiny_http::Response::from_string("x").with_status_code(*status)).unwrap();
            }
        });
        (client, ids)
    }

    #[test]
    fn what_was_not_answered_is_repeated_under_its_id() {
        for method in ["POST", "DELETE"] {
            let (client, ids) = server(&[503, 504, 429, 200]);
            let request = Request { method, path: "/".into(), id: Some("a".into()), ..Request::default() };
            let outcome = client.send_until_answered(&request, Duration::from_secs(30));
            assert_eq!((outcome.fate(), outcome.attempts), (Fate::Acknowledged, 4));
            assert_eq!(ids.iter().collect::<Vec<_>>(), ["a"; 4]);
        }
    }

    #[test]
    fn a_refusal_is_final_and_silence_says_nothing() {
        let request = Request { method: "PUT", path: "/".into(), body: "b".into(), ..Request::default() };
        let (client, _ids) = server(&[404]);
        assert_eq!(client.send_until_answered(&request, Duration::ZERO).fate(), Fate::Refused);
        let (client, _ids) = server(&[503]);
        assert_eq!(client.send_until_answered(&request, Duration::ZERO).fate(), Fate::Unknown);
        let nobody = Client::new("http://127.0.0.1:1");
        assert_eq!(nobody.send_until_answered(&request, Duration::ZERO).fate(), Fate::Unknown);
    }
}
