//! Clients that change policies and data of Open Policy Agents through an engine's Service, and remember it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use decree_e2e::client::{Client, Request};
use decree_e2e::dice::Dice;
use decree_e2e::history::{Change, Fate, Found, History};
use serde_json::{Value, json};

/// A client repeats a request for so long before it gives it up.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells where in the list a token stands: an answer that shows order, not only contents.
const POLICY: &str =
    "package decide\nplaces := [i | data.tokens[i] == input.token]\nallow if count(places) == 1\n";

/// Lays what all clients work on.
pub(crate) fn prepare(service: &Client) -> Result<()> {
    for (path, body) in [("/v1/data/tokens", "[]"), ("/v1/policies/decide", POLICY)] {
        let request = put(path, body, "prepare");
        let outcome = service.send_until_answered(&request, LIMIT);
        ensure!(outcome.fate() == Fate::Acknowledged, "PUT {path}: {:?}", outcome.last);
    }
    Ok(())
}

/// One client: its name is in all that it writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: String,
    service: Client,
    dice: Dice,
    sent: usize,
    pub(crate) history: History,
    /// Requests that had to be sent more than once.
    pub(crate) repeated: usize,
}

impl Writer {
    pub(crate) fn new(service: &Client, number: usize, seed: u64) -> Self {
        Self {
            name: format!("c{number}"),
            service: service.clone(),
            dice: Dice::new(seed.wrapping_add(number as u64)),
            sent: 0,
            history: History::default(),
            repeated: 0,
        }
    }

    /// Appends a token to the list of all.
    pub(crate) fn append(&mut self) {
        let token = format!("{}-{}", self.name, self.sent);
        let patch = json!([{"op": "add", "path": "/-", "value": token}]);
        self.send(self.patch("/v1/data/tokens", &patch), Change::Append { token });
    }

    /// Changes something: a token, a document or a policy.
    pub(crate) fn change(&mut self) {
        let (name, value) = (self.name.clone(), self.sent.to_string());
        let document = format!("{name}/k{}", self.dice.throw(6));
        let policy = format!("{name}_p{}", self.dice.throw(3));
        let (data, module) = (format!("/v1/data/clients/{document}"), format!("/v1/policies/{policy}"));
        let (document, policy) = (format!("data {document}"), format!("policy {policy}"));
        let package = policy.trim_start_matches("policy ");
        match self.dice.throw(100) {
            0..40 => self.append(),
            40..65 => {
                let request = self.put(&data, &json!({"v": value}).to_string());
                self.send(request, Change::Set { key: document, value });
            }
            65..77 => {
                let request = self.patch(&data, &json!([{"op": "replace", "path": "/v", "value": value}]));
                self.send(request, Change::Set { key: document, value });
            }
            77..87 => self.send(self.delete(&data), Change::Remove { key: document }),
            87..95 => {
                let request = self.put(&module, &format!("package {package}\nanswer := \"{value}\"\n"));
                self.send(request, Change::Set { key: policy, value });
            }
            _ => self.send(self.delete(&module), Change::Remove { key: policy }),
        }
    }

    fn put(&self, path: &str, body: &str) -> Request {
        put(path, body, &self.id())
    }

    fn patch(&self, path: &str, patch: &Value) -> Request {
        let headers = vec![("content-type", "application/json-patch+json".to_owned())];
        let (path, body) = (path.to_owned(), patch.to_string());
        Request { method: "PATCH", path, id: Some(self.id()), headers, body }
    }

    fn delete(&self, path: &str) -> Request {
        Request { method: "DELETE", path: path.to_owned(), id: Some(self.id()), ..Request::default() }
    }

    fn id(&self) -> String {
        format!("{}-{}", self.name, self.sent)
    }

    fn send(&mut self, request: Request, change: Change) {
        self.sent += 1;
        let outcome = self.service.send_until_answered(&request, LIMIT);
        self.repeated += usize::from(outcome.attempts > 1);
        let fate = outcome.fate();
        if fate == Fate::Unknown {
            eprintln!("{} {:?} after {} attempts: {:?}", self.name, request, outcome.attempts, outcome.last);
        }
        self.history.record(change, fate);
    }
}

fn put(path: &str, body: &str, id: &str) -> Request {
    let content_type = if path.starts_with("/v1/policies") { "text/plain" } else { "application/json" };
    // An id names a command of the whole engine: what differs must not share one.
    let id = format!("{id} {path}");
    let headers = vec![("content-type", content_type.to_owned())];
    Request { method: "PUT", path: path.to_owned(), id: Some(id), headers, body: body.to_owned() }
}

/// Reads from `GET /v1/data` what the clients wrote.
pub(crate) fn found(data: &Value) -> Result<Found> {
    let data = &data["result"];
    let text =
        |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("read text: {value}"));
    let tokens =
        data["tokens"].as_array().context("find the tokens")?.iter().map(text).collect::<Result<_>>()?;
    let mut values = BTreeMap::new();
    for (client, documents) in data["clients"].as_object().into_iter().flatten() {
        for (key, document) in documents.as_object().into_iter().flatten() {
            values.insert(format!("data {client}/{key}"), text(&document["v"])?);
        }
    }
    for (package, document) in data.as_object().context("find the data")? {
        if document["answer"].is_string() {
            values.insert(format!("policy {package}"), text(&document["answer"])?);
        }
    }
    Ok(Found { values, tokens })
}
