//! An agent that falls silent is called suspect by name within seconds, and no longer when it is heard again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use decree_e2e::{Bed, Namespace, manifests};
use decree_wire::pod::CONTAINER;
use serde_json::Value;

const ENGINE: &str = "ledger";

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_silent_agent_is_suspect_until_it_is_heard() -> Result<()> {
    Bed::of_test()?.in_namespace("suspect", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::recorders(ENGINE, 2, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 2, Duration::from_secs(120))?;
        wait_suspects(namespace, 0, Duration::from_secs(60))?;

        let silent = &agents[0].pod;
        namespace.kill_container(silent, CONTAINER, "SIGSTOP")?;
        let start = Instant::now();
        let found = wait_suspects(namespace, 1, Duration::from_secs(20)).and_then(|status| {
            println!("{silent} was suspect after {:?}", start.elapsed());
            named(namespace, &status, silent)
        });
        // Awake again also where the test has failed: what is asleep can't be ended in its own order.
        namespace.kill_container(silent, CONTAINER, "SIGCONT")?;
        found?;
        wait_suspects(namespace, 0, Duration::from_secs(30))?;
        namespace.wait_agents(ENGINE, 2, Duration::from_secs(60)).map(drop)
    })
}

fn wait_suspects(namespace: &Namespace, count: u64, limit: Duration) -> Result<Value> {
    namespace.wait(&format!("{count} suspects"), limit, || {
        let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
        if status["agents"]["suspect"] == count && status["agents"]["total"] == 2 {
            return Ok(Some(status));
        }
        bail!("{status}")
    })
}

/// In a condition of the engine, or in an Event about it.
fn named(namespace: &Namespace, status: &Value, pod: &str) -> Result<()> {
    if let Some(condition) =
        status["conditions"].as_array().into_iter().flatten().find(|each| each.to_string().contains(pod))
    {
        println!("{condition}");
        return Ok(());
    }
    let event = namespace.wait_event(ENGINE, pod, Duration::from_secs(15))?;
    println!("{}: {}", event["reason"], event["message"]);
    Ok(())
}
