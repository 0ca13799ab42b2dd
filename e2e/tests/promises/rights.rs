//! The rights that the README lists are enough, and each that is missing is named: by the engine, or by its agents.

use std::time::Duration;

use anyhow::Result;
use decree_e2e::namespace::Namespace;
use decree_e2e::{Bed, manifests};

use super::credentials::{
    ENGINE, apply_engine_with_passwords, command, is_untroubled, lives, propose, says, secret, set_password,
    troubled, untroubled,
};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn each_missing_right_is_named() -> Result<()> {
    Bed::of_test()?.in_namespace("rights", |namespace| {
        let user = |role: &str| format!("{}-{role}", namespace.name());
        for role in ["agents", "operator"] {
            set_password(namespace, &user(role), "secret")?;
            secret(namespace, role, &[("username", &user(role)), ("password", "secret")])?;
        }
        let log = format!("decree.{}.{ENGINE}", namespace.name());
        let heartbeats = format!("{log}.heartbeats");
        let (topic, beats) = (["--topic", log.as_str()], ["--topic", heartbeats.as_str()]);
        let groups = format!("{log}.");
        let group = ["--group", groups.as_str(), "--resource-pattern-type", "prefixed"];
        // The bed allows what no list speaks of; from here on lists speak of all of it.
        for resource in [&topic[..], &beats, &group] {
            change(namespace, "--add", "somebody", &["DELETE"], resource)?;
        }
        let agents = |change_: &str, rights: &[&str], of: &[&str]| {
            change(namespace, change_, &user("agents"), rights, of)
        };
        let operator =
            |rights: &[&str], of: &[&str]| change(namespace, "--add", &user("operator"), rights, of);
        // Who may make any topic needs no right to this one; and where no list speaks of the cluster, that is everybody.
        let deny = format!("User:{}", user("operator"));
        let cluster = ["--force", "--deny-principal", &deny, "--operation", "CREATE", "--cluster"];
        namespace.bed().kafka_tool("kafka-acls", &[&["--add"][..], &cluster].concat(), None)?;
        agents("--add", &["READ", "WRITE"], &topic)?;
        agents("--add", &["WRITE"], &beats)?;
        agents("--add", &["READ"], &group)?;

        apply_engine_with_passwords(namespace)?;

        // One after the other, each named until it is given.
        let refused = |right: &str| says(namespace, "KafkaUnauthorized", &[right, "README"]);
        refused(&format!("DESCRIBE on topic {log}"))?;
        operator(&["DESCRIBE"], &topic)?;
        refused(&format!("DESCRIBE on topic {heartbeats}"))?;
        operator(&["DESCRIBE"], &beats)?;
        refused(&format!("CREATE on topic {heartbeats}"))?;
        operator(&["CREATE"], &beats)?;
        refused(&format!("DESCRIBE_CONFIGS on topic {heartbeats}"))?;
        operator(&["DESCRIBE_CONFIGS", "ALTER_CONFIGS", "READ"], &beats)?;
        refused(&format!("CREATE on topic {log}"))?;
        operator(&["CREATE"], &topic)?;
        refused(&format!("DESCRIBE_CONFIGS on topic {log}"))?;
        operator(&["DESCRIBE_CONFIGS", "ALTER_CONFIGS"], &topic)?;
        refused(&format!("WRITE on topic {log}"))?;
        operator(&["WRITE"], &topic)?;
        refused(&format!("READ on topic {log}"))?;
        operator(&["READ"], &topic)?;
        operator(&["DESCRIBE", "DELETE"], &group)?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;

        // With exactly the agents' rights everything works; without one they say which, and go on once it is back.
        namespace.apply(&manifests::recorders(ENGINE, 2, &[]).to_string())?;
        let pods = namespace.wait_agents(ENGINE, 2, LIMIT)?;
        let begun = lives(namespace)?;
        propose(&pods, 0..10)?;
        for pod in &pods {
            let read = pod.read_after_barrier("/log")?;
            let recorded = read.as_array().map_or(0, Vec::len);
            anyhow::ensure!(recorded == 10, "{} has {recorded} behind a barrier", pod.pod);
        }
        untroubled(namespace, &pods)?;
        namespace.wait("the engine's status to have heard of it all", LIMIT, || {
            let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
            let heard = status["agents"]["summary"] == "2/2" && status["digests"] == "equal";
            anyhow::ensure!(heard && status["head"].as_u64() >= Some(10), "{status}");
            Ok(Some(()))
        })?;

        agents("--remove", &["READ"], &topic)?;
        troubled(namespace, &pods, &format!("READ on topic {log}"))?;
        agents("--add", &["READ"], &topic)?;
        untroubled(namespace, &pods)?;

        agents("--remove", &["WRITE"], &beats)?;
        troubled(namespace, &pods, &format!("WRITE on topic {heartbeats}"))?;
        agents("--add", &["WRITE"], &beats)?;
        untroubled(namespace, &pods)?;

        agents("--remove", &["READ"], &group)?;
        propose(&pods, 10..20)?;
        troubled(namespace, &pods, &format!("READ on group {groups}"))?;
        agents("--add", &["READ"], &group)?;
        // Positions are committed where there are new ones.
        let mut numbers = 100..;
        namespace.wait("positions are committed again", LIMIT, || {
            let number = numbers.next().unwrap_or_default();
            propose(&pods, number..number + 1)?;
            Ok(is_untroubled(&pods)?.then_some(()))
        })?;

        agents("--remove", &["WRITE"], &topic)?;
        let answer = namespace.wait("a proposal is refused", LIMIT, || {
            let answer = pods[0].replicated().send(&command(30))?;
            anyhow::ensure!(answer.status == 503 && answer.body.contains("WRITE on topic"), "{answer:?}");
            Ok(Some(answer.body))
        })?;
        println!("{answer}");
        agents("--add", &["WRITE"], &topic)?;
        propose(&pods, 30..40)?;
        namespace.bed().kafka_tool("kafka-acls", &[&["--remove"][..], &cluster].concat(), None)?;
        anyhow::ensure!(lives(namespace)? == begun, "a pod was made anew, or a container restarted");
        Ok(())
    })
}

fn change(namespace: &Namespace, change: &str, user: &str, rights: &[&str], of: &[&str]) -> Result<()> {
    let principal = format!("User:{user}");
    let mut arguments = vec![change, "--force", "--allow-principal", &principal];
    // The tool knows `ALTER_CONFIGS` as `AlterConfigs`, single words as they are.
    let spelled: Vec<&str> = rights
        .iter()
        .map(|right| match *right {
            "ALTER_CONFIGS" => "AlterConfigs",
            "DESCRIBE_CONFIGS" => "DescribeConfigs",
            right => right,
        })
        .collect();
    for right in spelled {
        arguments.extend(["--operation", right]);
    }
    arguments.extend(of);
    namespace.bed().kafka_tool("kafka-acls", &arguments, None).map(drop)
}
