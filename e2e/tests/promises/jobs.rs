//! A Job with an injected sidecar completes when its own container does.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use decree_e2e::agents::status_of;
use decree_e2e::{Bed, manifests};

const ENGINE: &str = "batch";
const COMMANDS: usize = 3;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_job_completes() -> Result<()> {
    Bed::of_test()?.in_namespace("jobs", |namespace| {
        namespace.apply(&manifests::recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", Duration::from_secs(60))?;
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let lines: String = (0..COMMANDS).map(|number| format!("{{\"number\":{number}}}\n")).collect();
        namespace.bed().kafka_tool("kafka-console-producer", &["--topic", &topic], Some(&lines))?;

        namespace.apply(&manifests::recorder_job(ENGINE, COMMANDS).to_string())?;
        let job = namespace.wait("the Job to complete", Duration::from_secs(120), || {
            let job = namespace.get_json("job", ENGINE)?;
            if status_of(&job, "Complete") == Some("True") {
                return Ok(Some(job));
            }
            bail!("{}", job["status"])
        })?;
        let pods = namespace.list_json("pods", &format!("app={ENGINE}"))?;
        let injected = pods.iter().all(|pod| {
            let containers = pod["spec"]["initContainers"].as_array();
            containers.is_some_and(|all| all.iter().any(|each| each["name"] == decree_wire::pod::CONTAINER))
        });
        ensure!(pods.len() == 1 && injected, "the Job's pod had no sidecar: {pods:?}");
        println!("{}", job["status"]);
        Ok(())
    })
}
