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
const KILLS: usize = 3;
/// Between two commands: most kills then fall between two deliveries, as on a cluster in ordinary use.
const PACE: Duration = Duration::from_millis(25);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_killed_sidecar_goes_on() -> Result<()> {
    Bed::of_test()?.in_namespace("crash", |namespace| {
        let agents = two_agents(namespace)?;
        let (killed, proposer) = (&agents[0], &agents[1]);
        let way = namespace.forward(&proposer.pod, port::API)?;
        let over = AtomicBool::new(false);
        let (kills, proposed) = std::thread::scope(|scope| {
            let flow = scope.spawn(|| propose_until(&over, &way.client()));
            let kills = kill_repeatedly(namespace, killed);
            over.store(true, Ordering::SeqCst);
            (kills, flow.join().map_err(|_| anyhow!("the proposer panicked")))
        });
        let (resumed, proposed) = (kills?, proposed??);
        let recorded = proposer.wait_recorded(proposed, LIMIT)?;
        if resumed < KILLS {
            // The kill met a delivery: in doubt, and nobody guesses. What was delivered before must be right.
            let other = killed.recorded()?;
            ensure!(other.len() <= recorded.len() && other[..] == recorded[..other.len()], "{other:?}");
        } else {
            killed.wait_recorded(proposed, LIMIT)?;
            ensure_once_and_alike(&agents)?;
        }
        ensure!(resumed > 0, "the first kill already met a delivery in flight: nothing was tested");
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
        let lines = "{\"hold_ms\":8000}\n{\"after\":\"it\"}\n";
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
        ensure!(status.to_string().contains("InDoubt"), "halted for another reason: {status}");
        println!("{}: {status}", killed.pod);

        agents[1].wait_recorded(2, LIMIT)?;
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

/// Kills the sidecar, waits until it goes on, and again; gives how often it did. A delivery in doubt ends it early.
fn kill_repeatedly(namespace: &Namespace, agent: &Agent) -> Result<usize> {
    for kill in 0..KILLS {
        let before = agent.recorded()?.len();
        namespace
            .wait("commands to flow", LIMIT, || Ok((agent.recorded()?.len() > before + 10).then_some(())))?;
        let restarts = restarts(namespace, &agent.pod)?;
        namespace.kill_container(&agent.pod, CONTAINER, "SIGKILL")?;
        let at_kill = agent.recorded()?.len();
        let goes_on = namespace.wait("the sidecar to go on", LIMIT, || {
            ensure!(self::restarts(namespace, &agent.pod)? > restarts, "not restarted yet");
            let status = agent.replica()?;
            if status["state"] == "Halted" {
                ensure!(status.to_string().contains("InDoubt"), "halted: {status}");
                return Ok(Some(false));
            }
            ensure!(agent.recorded()?.len() > at_kill, "{status}");
            Ok(Some(true))
        })?;
        if !goes_on {
            println!("kill {kill} met a delivery: the agent is in doubt and says so");
            return Ok(kill);
        }
    }
    Ok(KILLS)
}

fn restarts(namespace: &Namespace, pod: &str) -> Result<u64> {
    let pod = namespace.get_json("pod", pod)?;
    let statuses = pod["status"]["initContainerStatuses"].as_array();
    let sidecar: Option<&Value> = statuses.and_then(|all| all.iter().find(|each| each["name"] == CONTAINER));
    sidecar.and_then(|status| status["restartCount"].as_u64()).context("find the sidecar's restarts")
}
