//! A sidecar that is killed while commands flow goes on where its application stands; nothing is delivered twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use decree_e2e::agents::{Agent, ensure_once_and_alike};
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::{CONTAINER, port};
use serde_json::Value;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// At least so many, and more until one went on: a kill may always meet a delivery.
const KILLS: usize = 3;
const MOST_KILLS: usize = 10;
/// Between two commands: most kills then fall between two deliveries, as on a cluster in ordinary use.
const PACE: Duration = Duration::from_millis(60);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_killed_sidecar_goes_on() -> Result<()> {
    Bed::of_test()?.in_namespace("crash", |namespace| {
        let agents = two_agents(namespace)?;
        let proposer = &agents[1];
        let way = namespace.forward(&proposer.pod, port::API)?;
        let over = AtomicBool::new(false);
        let (kills, proposed) = std::thread::scope(|scope| {
            let flow = scope.spawn(|| propose_until(&over, &way.client()));
            let kills = kill_repeatedly(namespace, &agents[0], proposer);
            over.store(true, Ordering::SeqCst);
            (kills, flow.join().map_err(|_| anyhow!("the proposer panicked")))
        });
        let ((killed, resumed), proposed) = (kills?, proposed??);
        let agents = [killed, proposer.clone()];
        agents.iter().try_for_each(|agent| agent.wait_recorded(proposed, LIMIT).map(drop))?;
        ensure_once_and_alike(&agents)?;
        ensure!(resumed > 0, "each kill met a delivery in flight");
        println!("{proposed} commands; the sidecar was killed and went on {resumed} times");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_delivery_in_doubt_is_never_repeated() -> Result<()> {
    Bed::of_test()?.in_namespace("doubt", |namespace| {
        let agents = two_agents(namespace)?;
        let killed = &agents[0];
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let lines = "{\"hold_ms\":30000}\n{\"after\":\"it\"}\n";
        namespace.bed().kafka_tool("kafka-console-producer", &["--topic", &topic], Some(lines))?;

        let application = Client::new(format!("http://{}:{}", killed.address, manifests::RECORDER_PORT));
        namespace.wait("a delivery at work", LIMIT, || {
            let health = application.get_json("/healthz")?;
            ensure!(health["begun"] == 1 && health["recorded"] == 0, "{health}");
            Ok(Some(()))
        })?;
        namespace.kill_container(&killed.pod, CONTAINER, "SIGKILL")?;
        let status = namespace.wait("the agent to halt in doubt", LIMIT, || {
            let status = killed.replica()?;
            if status["state"] == "Halted" { Ok(Some(status)) } else { bail!("{status}") }
        })?;
        ensure!(
            status.to_string().contains("ApplicationStateUnknown"),
            "halted for another reason: {status}"
        );
        println!("{}: {status}", killed.pod);

        agents[1].wait_recorded(2, Duration::from_secs(120))?;
        let health = application.get_json("/healthz")?;
        ensure!(health["begun"] == 1, "the application was given something more: {health}");
        namespace.wait("the halted agent in the engine's status", LIMIT, || {
            let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
            if status["agents"]["halted"] == 1 { Ok(Some(())) } else { bail!("{status}") }
        })
    })
}

fn two_agents(namespace: &Namespace) -> Result<Vec<Agent>> {
    namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
    namespace.apply(&manifests::recorders(ENGINE, 2, &[]).to_string())?;
    namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))
}

fn propose_until(over: &AtomicBool, api: &Client) -> Result<usize> {
    let mut proposed = 0;
    while !over.load(Ordering::SeqCst) {
        let request = Request {
            method: "POST",
            path: "/v1/commands".to_owned(),
            id: Some(format!("flow-{proposed}")),
            body: format!("{{\"number\":{proposed}}}"),
            ..Request::default()
        };
        let reply = api.send_until_answered(&request, LIMIT).last?;
        ensure!(reply.status == 200, "{request:?} was answered {reply:?}");
        proposed += 1;
        std::thread::sleep(PACE);
    }
    Ok(proposed)
}

/// Kills the sidecar and waits until it goes on, again and again; gives the agent at last, and how often it went on.
/// A kill that meets a delivery leaves the agent in doubt: its pod is deleted, as it says, and its successor is next.
fn kill_repeatedly(namespace: &Namespace, first: &Agent, proposer: &Agent) -> Result<(Agent, usize)> {
    let (mut agent, mut resumed) = (first.clone(), 0);
    for kill in 1..=MOST_KILLS {
        if kill > KILLS && resumed > 0 {
            break;
        }
        let before = agent.recorded()?.len();
        namespace
            .wait("commands to flow", LIMIT, || Ok((agent.recorded()?.len() > before + 5).then_some(())))?;
        if goes_on_after_kill(namespace, &agent)? {
            resumed += 1;
            continue;
        }
        println!("kill {kill} met a delivery: the agent is in doubt and says so");
        namespace.delete_pod(&agent.pod)?;
        let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
        agent = agents.into_iter().find(|each| each.pod != proposer.pod).context("find the successor")?;
    }
    Ok((agent, resumed))
}

fn goes_on_after_kill(namespace: &Namespace, agent: &Agent) -> Result<bool> {
    let before = restarts(namespace, &agent.pod)?;
    namespace.kill_container(&agent.pod, CONTAINER, "SIGKILL")?;
    let at_kill = agent.recorded()?.len();
    namespace.wait("the sidecar to go on", LIMIT, || {
        ensure!(restarts(namespace, &agent.pod)? > before, "not restarted yet");
        let replica = agent.replica()?;
        if replica["state"] == "Halted" {
            ensure!(replica.to_string().contains("ApplicationStateUnknown"), "halted: {replica}");
            return Ok(Some(false));
        }
        ensure!(agent.recorded()?.len() > at_kill, "{replica}");
        Ok(Some(true))
    })
}

fn restarts(namespace: &Namespace, pod: &str) -> Result<u64> {
    let pod = namespace.get_json("pod", pod)?;
    let statuses = pod["status"]["initContainerStatuses"].as_array();
    let sidecar: Option<&Value> = statuses.and_then(|all| all.iter().find(|each| each["name"] == CONTAINER));
    sidecar.and_then(|status| status["restartCount"].as_u64()).context("find the sidecar's restarts")
}
