//! An application with an endpoint for commands sees each exactly once, in one order; an id names one command.

use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use decree_e2e::agents::ensure_once_and_alike;
use decree_e2e::client::{Client, Reply, Request};
use decree_e2e::forward::Forward;
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::port;
use serde_json::Value;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(30);
/// Of each proposer; there are two a pod.
const COMMANDS: usize = 50;
const SHARED: usize = 20;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn every_command_once_in_one_order() -> Result<()> {
    Bed::of_test()?.in_namespace("apply", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::recorders(ENGINE, 3, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        let forwards = agents
            .iter()
            .map(|agent| namespace.forward(&agent.pod, port::API))
            .collect::<Result<Vec<_>>>()?;
        let apis: Vec<Client> = forwards.iter().map(Forward::client).collect();

        propose_from_all(&apis)?;
        one_id_from_two_pods(&apis)?;
        another_payload_is_refused(&apis)?;
        api_is_on_localhost_only(&agents[0].address)?;

        for api in &apis {
            let barrier = api.send_until_answered(&post("/v1/barrier", None, ""), LIMIT).last?;
            ensure!(barrier.status == 204, "a barrier was answered {}: {}", barrier.status, barrier.body);
        }
        let recorded = ensure_once_and_alike(&agents)?;
        let expected = 2 * apis.len() * COMMANDS + SHARED;
        ensure!(recorded.len() == expected, "{} recorded, {expected} proposed", recorded.len());
        ensure!(
            recorded.iter().all(|each| each["seed"].is_string() && each["time"].is_string()),
            "{recorded:?}"
        );
        println!("{expected} commands, each once and in one order in {} pods", agents.len());
        equal_digests(namespace, &agents)
    })
}

fn equal_digests(namespace: &Namespace, agents: &[decree_e2e::agents::Agent]) -> Result<()> {
    namespace.wait_equal_digests(agents, LIMIT).map(|digest| println!("all: {digest}"))
}

/// Two proposers a pod, each with ids of its own; every answer is the application's.
fn propose_from_all(apis: &[Client]) -> Result<()> {
    let propose = |proposer: usize| {
        for number in 0..COMMANDS {
            let id = format!("p{proposer}-{number}");
            let body = format!(r#"{{"by":{proposer},"number":{number}}}"#);
            let reply = apis[proposer % apis.len()].send_until_answered(&command(&id, &body), LIMIT).last?;
            ensure!(reply.json()?["applied"].is_u64(), "{id} was answered {}", reply.body);
            ensure!(reply.header("decree-id") == Some(&id), "{id}: {:?}", reply.headers);
            position(&reply)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let propose = &propose;
        let threads: Vec<_> =
            (0..2 * apis.len()).map(|proposer| scope.spawn(move || propose(proposer))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a proposer panicked"))?)
    })
}

fn one_id_from_two_pods(apis: &[Client]) -> Result<()> {
    for number in 0..SHARED {
        let request = command(&format!("shared-{number}"), r#"{"from":"two pods"}"#);
        let together = Barrier::new(2);
        let propose = |api: &Client| {
            together.wait();
            api.send_until_answered(&request, LIMIT).last
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| propose(&apis[0]));
            (propose(&apis[1]), one.join())
        });
        let (one, other) = (one?, other.map_err(|_| anyhow!("a proposer panicked"))??);
        ensure!(
            one.json()? == other.json()? && position(&one)? == position(&other)?,
            "one id, two answers: {one:?} and {other:?}"
        );
        let again = apis[2].send_until_answered(&request, LIMIT).last?;
        ensure!(again.json()? == one.json()?, "repeated: {again:?}, at first: {one:?}");
        ensure!(again.header("decree-duplicate") == Some("true"), "not called a duplicate: {again:?}");
    }
    println!("{SHARED} ids were proposed from two pods at once and applied once");
    Ok(())
}

fn another_payload_is_refused(apis: &[Client]) -> Result<()> {
    for api in apis {
        let reply = api.send_until_answered(&command("shared-0", r#"{"another":"payload"}"#), LIMIT).last?;
        let problem: Value = serde_json::from_str(&reply.body)?;
        ensure!(reply.status == 409, "another payload under an id: {reply:?}");
        ensure!(reply.header("content-type") == Some("application/problem+json"), "{reply:?}");
        let kind = problem["type"].as_str().unwrap_or_default();
        ensure!(kind.ends_with("id-reused"), "the problem's type is {kind:?}");
    }
    Ok(())
}

fn api_is_on_localhost_only(address: &str) -> Result<()> {
    let outside = Client::new(format!("http://{address}:{}", port::API)).send(&post("/v1/barrier", None, ""));
    ensure!(outside.is_err(), "the local API answers other pods: {outside:?}");
    Ok(())
}

fn command(id: &str, body: &str) -> Request {
    post("/v1/commands", Some(id), body)
}

fn post(path: &str, id: Option<&str>, body: &str) -> Request {
    let headers = vec![("content-type", "application/json".to_owned())];
    let id = id.map(str::to_owned);
    Request { method: "POST", path: path.to_owned(), id, headers, body: body.to_owned() }
}

fn position(reply: &Reply) -> Result<u64> {
    let position = reply.header("decree-position").and_then(|text| text.parse().ok());
    position.ok_or_else(|| anyhow!("no position in {:?}", reply.headers))
}
