//! A pod is ready only when it has caught up; one that can't be says why in an Event.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use decree_e2e::agents::Agent;
use decree_e2e::namespace::is_ready;
use decree_e2e::{Bed, manifests};
use serde_json::json;

const ENGINE: &str = "ledger";
const COMMANDS: usize = 2000;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn ready_only_when_caught_up() -> Result<()> {
    Bed::of_test()?.in_namespace("readiness", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", Duration::from_secs(60))?;
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let lines: String = (0..COMMANDS).map(|number| format!("{{\"number\":{number}}}\n")).collect();
        namespace.bed().kafka_tool("kafka-console-producer", &["--topic", &topic], Some(&lines))?;

        namespace.apply(&manifests::recorders(ENGINE, 1, &[("APPLY_DELAY_MS", "2")]).to_string())?;
        let (mut seen_behind, mut most) = (0, 0);
        let agent = namespace.wait("a ready pod", Duration::from_secs(180), || {
            let selector = format!("app={ENGINE}");
            let Some(pod) = namespace.list_json("pods", &selector)?.pop() else { return Ok(None) };
            let agent = Agent::of_pod(&pod)?;
            if is_ready(&pod) {
                return Ok(Some(agent));
            }
            let recorded = agent.recorded()?.len();
            seen_behind += usize::from((1..COMMANDS).contains(&recorded));
            most = most.max(recorded);
            bail!("{recorded} recorded, not ready")
        })?;

        let recorded = agent.recorded()?.len();
        ensure!(recorded == COMMANDS, "ready with {recorded} of {COMMANDS} commands");
        let replica = agent.replica()?;
        ensure!(replica["position"].as_u64() >= Some(COMMANDS as u64 - 1), "ready at {replica}");
        ensure!(seen_behind > 0, "it was never seen to be behind, so nothing was tested");
        println!("unready in {seen_behind} looks with up to {most} commands, ready with {recorded}");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_wrong_port_is_explained_on_the_pod() -> Result<()> {
    Bed::of_test()?.in_namespace("wrong-port", |namespace| {
        let mut engine = manifests::recorder_engine(namespace.bed(), ENGINE);
        engine["spec"]["agents"][0]["app"]["port"] = json!(8099);
        namespace.apply(&engine.to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", Duration::from_secs(60))?;
        namespace.apply(&manifests::recorders(ENGINE, 1, &[]).to_string())?;
        let pod = namespace.wait("a pod", Duration::from_secs(30), || {
            let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
            Ok(pods.first().and_then(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)))
        })?;
        let event = namespace.wait_event(&pod, "app.port", Duration::from_secs(90))?;
        println!("{}: {}", event["reason"], event["message"]);
        ensure!(
            event["message"].as_str().unwrap_or_default().contains("8099"),
            "the port is not named: {event}"
        );
        ensure!(!is_ready(&namespace.get_json("pod", &pod)?), "{pod} is ready without its application");
        Ok(())
    })
}
