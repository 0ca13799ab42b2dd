//! A sidecar that is killed while commands flow goes on where its application stands, or has it built anew from the
//! log; no life of an application is given anything twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use decree_e2e::agents::{Agent, ensure_once_and_alike};
use decree_e2e::client::{Client, Request};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::{CONTAINER, port};
use serde_json::Value;

const ENGINE: &str = "ledger";
const RECORDER: &str = "recorder";
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
            let kills = kill_repeatedly(namespace, &agents[0]);
            over.store(true, Ordering::SeqCst);
            (kills, flow.join().map_err(|_| anyhow!("the proposer panicked")))
        });
        let (resumed, proposed) = (kills?, proposed??);
        agents.iter().try_for_each(|agent| agent.wait_recorded(proposed, LIMIT).map(drop))?;
        ensure_once_and_alike(&agents)?;
        ensure!(resumed > 0, "each kill met a delivery in flight");
        println!("{proposed} commands; the sidecar was killed and went on {resumed} times");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_delivery_in_doubt_is_never_repeated_to_the_same_life() -> Result<()> {
    Bed::of_test()?.in_namespace("doubt", |namespace| {
        let agents = two_agents(namespace)?;
        let killed = &agents[0];
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let lines = "{\"hold_ms\":30000}\n{\"after\":\"it\"}\n";
        namespace.bed().kafka_tool("kafka-console-producer", &["--topic", &topic], Some(lines))?;

        let application = Client::new(format!("http://{}:{}", killed.address, manifests::RECORDER_PORT));
        let begun = || application.get_json("/healthz");
        namespace.wait("a delivery at work", LIMIT, || {
            let health = begun()?;
            ensure!(health["begun"] == 1 && health["recorded"] == 0, "{health}");
            Ok(Some(()))
        })?;
        namespace.kill_container(&killed.pod, CONTAINER, "SIGKILL")?;
        let replica = namespace.wait("the agent to call for a restart", LIMIT, || {
            let replica = killed.replica()?;
            ensure!(replica["callsFor"] == "ContainerRestart", "{replica}");
            Ok(Some(replica))
        })?;
        println!("{}: {}", killed.pod, replica["trouble"]["message"]);
        ensure!(replica["trouble"]["reason"] == "ApplicationStateUnknown", "for another reason: {replica}");

        // The life that had the first could have had the second, or the first again, if anybody gave it.
        let mut most = 0;
        namespace.wait("the kubelet to restart the application", Duration::from_secs(120), || {
            let health = begun();
            if restarts(namespace, &killed.pod, "containerStatuses", RECORDER)? > 0 {
                return Ok(Some(()));
            }
            most = most.max(health?["begun"].as_u64().unwrap_or(u64::MAX));
            Ok(None)
        })?;
        ensure!(most == 1, "in doubt, it was given something more: {most} deliveries");
        for agent in &agents {
            agent.wait_recorded(2, Duration::from_secs(180))?;
        }
        ensure_once_and_alike(&agents)?;
        let tally = &killed.replica()?["tally"];
        ensure!(tally["doubts"] == 1 && tally["rebuilds"] == 1, "{tally}");
        namespace.wait_agents(ENGINE, 2, LIMIT).map(drop)
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

/// Kills the sidecar and waits until it goes on, again and again; how often its application had to do nothing for it.
fn kill_repeatedly(namespace: &Namespace, agent: &Agent) -> Result<usize> {
    let mut resumed = 0;
    for kill in 1..=MOST_KILLS {
        if kill > KILLS && resumed > 0 {
            break;
        }
        let before = agent.recorded()?.len();
        namespace
            .wait("commands to flow", LIMIT, || Ok((agent.recorded()?.len() > before + 5).then_some(())))?;
        if goes_on_after_kill(namespace, agent)? {
            resumed += 1;
        } else {
            println!("kill {kill} met a delivery: the application was restarted and built anew");
        }
    }
    Ok(resumed)
}

/// Whether the same life of the application went on.
fn goes_on_after_kill(namespace: &Namespace, agent: &Agent) -> Result<bool> {
    let (before, rebuilds) = (sidecar_restarts(namespace, agent)?, rebuilds(agent)?);
    namespace.kill_container(&agent.pod, CONTAINER, "SIGKILL")?;
    let at_kill = agent.recorded()?.len();
    namespace.wait("the sidecar to go on", Duration::from_secs(180), || {
        ensure!(sidecar_restarts(namespace, agent)? > before, "not restarted yet");
        let replica = agent.replica()?;
        ensure!(agent.recorded()?.len() > at_kill, "{replica}");
        Ok(Some(rebuilds == replica["tally"]["rebuilds"]))
    })
}

fn rebuilds(agent: &Agent) -> Result<Value> {
    agent.replica().map(|mut replica| replica["tally"]["rebuilds"].take())
}

fn sidecar_restarts(namespace: &Namespace, agent: &Agent) -> Result<u64> {
    restarts(namespace, &agent.pod, "initContainerStatuses", CONTAINER)
}

fn restarts(namespace: &Namespace, pod: &str, kind: &str, container: &str) -> Result<u64> {
    let pod = namespace.get_json("pod", pod)?;
    let mut statuses = pod["status"][kind].as_array().into_iter().flatten();
    let status = statuses.find(|status| status["name"] == container);
    status
        .and_then(|status| status["restartCount"].as_u64())
        .with_context(|| format!("find {container}'s restarts"))
}
