//! A command that kills the application each time halts every agent at its position, soon and visibly, and loses
//! nothing behind it; a request that the application answers with 500 halts nobody.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use decree_e2e::agents::Agent;
use decree_e2e::client::{Client, Reply, Request};
use decree_e2e::fold::Fold;
use decree_e2e::{Bed, Namespace, manifests, wait};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

const ENGINE: &str = "tally";
const AGENTS: usize = 3;
const ATTEMPTS: u64 = 3;
const LIMIT: Duration = Duration::from_secs(120);
/// From the last attempt until the engine names it: what is promised.
const SAID_WITHIN: SignedDuration = SignedDuration::from_secs(10);
/// Commands before and behind the one that kills.
const BEFORE: usize = 20;
const BEHIND: usize = 5;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_command_that_kills_halts_all_at_its_position() -> Result<()> {
    Bed::of_test()?.in_namespace("poison", |namespace| {
        let service = counters(namespace)?;
        for number in 0..BEFORE {
            acknowledged(&service, &increment(&format!("before-{number}")))?;
        }
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let deadly = post("/die", "deadly");
        let address = namespace.service_address(ENGINE)?;
        let patient = Client::patient(format!("http://{address}"), LIMIT);
        let (seen, condition) = std::thread::scope(|scope| {
            let halted = scope.spawn(|| wait_all_halted(namespace));
            // The one who asks is told that nobody can say, and that repeating it is safe.
            let asked = scope.spawn(|| patient.send(&deadly));
            namespace.wait("the deadly command in the log", LIMIT, || {
                Ok((Fold::of_topic(namespace.bed(), &topic)?.times("deadly") == 1).then_some(()))
            })?;
            produce_behind(namespace, &topic)?;
            let reply = asked.join().map_err(|_| anyhow!("a client panicked"))?;
            ensure!(reply.as_ref().is_ok_and(is_not_now), "the deadly command was answered {reply:?}");
            halted.join().map_err(|_| anyhow!("who looks at the engine panicked"))?
        })?;
        let pods = namespace.list_json("pods", &format!("{}={ENGINE}", manifests::ENGINE_LABEL))?;
        let last = last_death(&pods)?;
        let said_after = seen.duration_since(last);
        println!("{condition}\nsaid {:.1} s after the last attempt", said_after.as_secs_f64());
        ensure!(said_after <= SAID_WITHIN, "it took longer than {SAID_WITHIN}");

        let fold = Fold::of_topic(namespace.bed(), &topic)?;
        let position = position_of(&fold, "deadly")?;
        ensure!(condition.contains(&format!("position {position} ")), "the position {position} is not named");
        for pod in &pods {
            let agent = Agent::of_pod(pod)?;
            // What the last death took is rebuilt, up to there and no further.
            namespace.wait(&format!("{} to stand before position {position}", agent.pod), LIMIT, || {
                let replica = agent.replica()?;
                let stands = replica["state"] == "Halted" && replica["position"] == position - 1;
                if stands { Ok(Some(())) } else { bail!("{replica}") }
            })?;
            let deaths = deaths(&namespace.get_json("pod", &agent.pod)?);
            ensure!(deaths == ATTEMPTS, "{}: the application died {deaths} times", agent.pod);
        }
        ensure!(position_of(&fold, &behind(0))? > position, "what was produced behind it stands before it");
        for number in 0..BEHIND {
            ensure!(fold.times(&behind(number)) == 1, "{} is lost", behind(number));
        }
        for agent in pods.iter().map(Agent::of_pod) {
            let reply = agent?.replicated().send(&increment("after"))?;
            ensure!(is_not_now(&reply), "a proposal to a halted agent was answered {reply:?}");
        }
        Ok(())
    })
}

/// What it wrote outlives its container, so each attempt takes a pod, and all that its sidecar knew of it.
#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_command_that_kills_one_pod_after_the_other_halts_all() -> Result<()> {
    const PODS: u64 = 2;
    /// Longer than an owner's pods are left alone after the first evictions.
    const QUIET: Duration = Duration::from_secs(30);
    Bed::of_test()?.in_namespace("deadly", |namespace| {
        let service = agents(namespace, PODS, &manifests::counters_on_disk(ENGINE, AGENTS))?;
        for number in 0..BEFORE {
            acknowledged(&service, &increment(&format!("before-{number}")))?;
        }
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let address = namespace.service_address(ENGINE)?;
        let patient = Client::patient(format!("http://{address}"), LIMIT);
        let (seen, condition) = std::thread::scope(|scope| {
            let halted = scope.spawn(|| wait_all_halted(namespace));
            // Its agent may be the one that is evicted, and its connection with it.
            let reply = patient.send(&post("/die", "deadly"));
            ensure!(reply.as_ref().map_or(true, is_not_now), "the deadly command was answered {reply:?}");
            halted.join().map_err(|_| anyhow!("who looks at the engine panicked"))?
        })?;
        // A kubelet says a moment later that a container has died.
        let died = wait::until("each pod to show its application's death", LIMIT, || {
            let pods = namespace.list_json("pods", &format!("{}={ENGINE}", manifests::ENGINE_LABEL))?;
            last_death(&pods).map(Some)
        })?;
        let said_after = seen.duration_since(died);
        println!("{condition}\nsaid {:.1} s after the last attempt", said_after.as_secs_f64());
        ensure!(said_after <= SAID_WITHIN, "it took longer than {SAID_WITHIN}");
        let position = position_of(&Fold::of_topic(namespace.bed(), &topic)?, "deadly")?;
        ensure!(condition.contains(&format!("position {position} ")), "the position {position} is not named");

        let uids = || -> Result<Vec<String>> {
            let pods = namespace.list_json("pods", &format!("{}={ENGINE}", manifests::ENGINE_LABEL))?;
            let mut uids: Vec<String> = pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect();
            uids.sort();
            Ok(uids)
        };
        let before = uids()?;
        std::thread::sleep(QUIET);
        ensure!(uids()? == before, "pods went on being evicted");
        let engine = namespace.get_json("decisionengine", ENGINE)?;
        ensure!(engine["status"]["agents"]["halted"] == AGENTS, "{}", engine["status"]);
        let events = namespace.list_json("events", "")?;
        let evicted = events.iter().filter(|event| event["reason"] == "Evicted").count();
        println!("{evicted} pods were evicted");
        ensure!((1..=AGENTS).contains(&evicted), "{evicted} pods were evicted");
        Ok(())
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_500_halts_nobody() -> Result<()> {
    Bed::of_test()?.in_namespace("failing", |namespace| {
        let service = counters(namespace)?;
        for number in 0..2 * ATTEMPTS {
            let request = post("/fail", &format!("failing-{number}"));
            let reply = service.send_until_answered(&request, LIMIT).last?;
            ensure!(
                reply.status == 500 && reply.body.contains("as you wish"),
                "not its own answer: {reply:?}"
            );
            acknowledged(&service, &increment(&format!("between-{number}")))?;
        }
        let agents = namespace.wait_agents(ENGINE, AGENTS, LIMIT)?;
        namespace.wait_equal_digests(&agents, LIMIT)?;
        for agent in &agents {
            ensure!(agent.replica()?["state"] == "Running", "{:?}", agent.replica());
            let count = agent.read_after_barrier("/count")?;
            ensure!(count["count"] == 2 * ATTEMPTS, "{}: {count}", agent.pod);
        }
        Ok(())
    })
}

fn counters(namespace: &Namespace) -> Result<Client> {
    agents(namespace, ATTEMPTS, &manifests::counters(ENGINE, AGENTS))
}

fn agents(namespace: &Namespace, attempts: u64, deployment: &Value) -> Result<Client> {
    let mut engine = manifests::counter_engine(namespace.bed(), ENGINE);
    engine["spec"]["agents"][0]["app"]["maxAttempts"] = json!(attempts);
    namespace.apply(&engine.to_string())?;
    namespace.apply(&deployment.to_string())?;
    namespace.wait_agents(ENGINE, AGENTS, LIMIT)?;
    Ok(Client::new(format!("http://{}", namespace.service_address(ENGINE)?)))
}

fn post(path: &str, id: &str) -> Request {
    let (path, body) = (path.to_owned(), id.to_owned());
    Request { method: "POST", path, id: Some(id.to_owned()), body, ..Request::default() }
}

fn increment(token: &str) -> Request {
    post("/increment", token)
}

fn behind(number: usize) -> String {
    format!("behind-{number}")
}

fn acknowledged(service: &Client, request: &Request) -> Result<()> {
    let reply = service.send_until_answered(request, LIMIT).last?;
    ensure!(reply.status == 200, "{request:?} was answered {reply:?}");
    Ok(())
}

/// Not now, perhaps later, and repeating it is safe.
fn is_not_now(reply: &Reply) -> bool {
    matches!(reply.status, 503 | 504)
}

/// As a Kafka client that knows how replicated requests are written: no agent may take any now.
fn produce_behind(namespace: &Namespace, topic: &str) -> Result<()> {
    let lines: String = (0..BEHIND)
        .map(|number| {
            let token = behind(number);
            let headers = [
                "ce_specversion:1.0",
                &format!("ce_id:{token}"),
                "ce_type:dev.decree.http",
                "ce_decreemethod:POST",
                "ce_decreetarget:/increment",
            ];
            format!("{}\t{token}\n", headers.join(","))
        })
        .collect();
    let arguments = ["--topic", topic, "--property", "parse.headers=true"];
    namespace.bed().kafka_tool("kafka-console-producer", &arguments, Some(&lines)).map(drop)
}

/// The moment at which the engine was seen to say so of all agents, and its words.
fn wait_all_halted(namespace: &Namespace) -> Result<(Timestamp, String)> {
    let start = Instant::now();
    let said = namespace.wait("all agents halted, in the engine's status", LIMIT, || {
        let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
        let seen = Timestamp::now();
        let mut conditions = status["conditions"].as_array().into_iter().flatten();
        let halted = conditions.find(|condition| condition["type"] == "AgentHalted");
        match halted {
            Some(condition) if status["agents"]["halted"] == AGENTS && condition["status"] == "True" => {
                Ok(Some((seen, condition["message"].as_str().unwrap_or_default().to_owned())))
            }
            _ => bail!("{status}"),
        }
    })?;
    println!("all halted {:.1} s after the command was sent", start.elapsed().as_secs_f64());
    Ok(said)
}

/// When the last of the applications died.
fn last_death(pods: &[Value]) -> Result<Timestamp> {
    let there = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let finished = |pod: &Value| {
        let terminated = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        let text = terminated["finishedAt"].as_str().with_context(|| format!("find a death in {pod}"))?;
        text.parse::<Timestamp>().with_context(|| format!("read {text:?}"))
    };
    pods.iter()
        .filter(there)
        .map(finished)
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .max()
        .context("find a pod")
}

fn deaths(pod: &Value) -> u64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0)
}

fn position_of(fold: &Fold, id: &str) -> Result<u64> {
    let found = fold.commands.iter().find(|command| command.id.as_deref() == Some(id));
    found.map(|command| command.position).with_context(|| format!("find {id} in the log"))
}
