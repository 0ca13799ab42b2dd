//! Applications that know nothing of Decree, as the fault runs use them: how to change one, and what it then holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use decree_e2e::agents::Agent;
use decree_e2e::client::{Client, Request};
use decree_e2e::fold::Folded;
use decree_e2e::history::Fate;
use decree_e2e::{Namespace, manifests};
use serde_json::{Value, json};

pub(crate) const AGENTS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// What runs in the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    CounterInMemory,
    /// Its files, in an emptyDir, outlive the container.
    CounterOnDisk,
    Opa,
}

impl Application {
    /// Puts engine and agents there, and waits until they serve; gives a client of the engine's Service.
    pub(crate) fn start(self, namespace: &Namespace, engine: &str) -> Result<Client> {
        let bed = namespace.bed();
        let (declared, pods) = match self {
            Self::CounterInMemory => {
                (manifests::counter_engine(bed, engine), manifests::counters(engine, AGENTS))
            }
            Self::CounterOnDisk => {
                (manifests::counter_engine(bed, engine), manifests::counters_on_disk(engine, AGENTS))
            }
            Self::Opa => (manifests::opa_engine(bed, engine), manifests::opa(engine, AGENTS)),
        };
        namespace.apply(&declared.to_string())?;
        namespace.apply(&pods.to_string())?;
        namespace.wait_agents(engine, AGENTS, Duration::from_secs(180))?;
        let service = Client::new(format!("http://{}", namespace.service_address(engine)?));
        if self == Self::Opa {
            let path = "/v1/data/tokens".to_owned();
            let request =
                Request { method: "PUT", path, id: Some("list".into()), body: "[]".into(), ..json_body() };
            let outcome = service.send_until_answered(&request, LIMIT);
            ensure!(outcome.fate() == Fate::Acknowledged, "lay the list of tokens: {:?}", outcome.last);
        }
        Ok(service)
    }

    pub(crate) fn container(self) -> &'static str {
        if self == Self::Opa { "opa" } else { "counter" }
    }

    /// Whether it tells that an increment waits for its answer.
    pub(crate) fn holds(self) -> bool {
        self != Self::Opa
    }

    /// A change that leaves this token; the answer is held for a while, where the application can.
    pub(crate) fn change(self, token: &str, hold: Duration) -> Request {
        let id = Some(token.to_owned());
        if self == Self::Opa {
            let headers = vec![("content-type", "application/json-patch+json".to_owned())];
            let body = json!([{"op": "add", "path": "/-", "value": token}]).to_string();
            return Request { method: "PATCH", path: "/v1/data/tokens".to_owned(), id, headers, body };
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = (now + hold).as_millis();
        let path =
            if hold.is_zero() { "/increment".to_owned() } else { format!("/increment?hold-until={until}") };
        Request { method: "POST", path, id, body: token.to_owned(), ..Request::default() }
    }

    /// The token that a command of the log leaves.
    pub(crate) fn token(self, command: &Folded) -> Option<String> {
        if self != Self::Opa {
            return Some(command.body.clone());
        }
        let patch: Value = serde_json::from_str(&command.body).ok()?;
        Some(patch[0]["value"].as_str()?.to_owned())
    }

    /// How many increments wait for their answer.
    pub(crate) fn holding(self, address: &str) -> Result<u64> {
        let health = self.own_port(address).get_json("/health")?;
        health["holding"].as_u64().with_context(|| format!("find what is held in {health}"))
    }

    /// All tokens, in their order, as the application itself has them.
    pub(crate) fn tokens(self, agent: &Agent) -> Result<Vec<String>> {
        let own = self.own_port(&agent.address);
        let tokens = match self {
            Self::Opa => own.get_json("/v1/data/tokens")?["result"].take(),
            Self::CounterInMemory | Self::CounterOnDisk => {
                let tokens = own.get_json("/tokens")?;
                let count = own.get_json("/count")?["count"].as_u64();
                let listed = tokens.as_array().map(|all| all.len() as u64);
                ensure!(count == listed, "{} counts {count:?} and lists {listed:?}", agent.pod);
                tokens
            }
        };
        serde_json::from_value(tokens).with_context(|| format!("read the tokens of {}", agent.pod))
    }

    fn own_port(self, address: &str) -> Client {
        let port = if self == Self::Opa { manifests::OPA_PORT } else { manifests::COUNTER_PORT };
        Client::new(format!("http://{address}:{port}"))
    }
}

fn json_body() -> Request {
    Request { headers: vec![("content-type", "application/json".to_owned())], ..Request::default() }
}
