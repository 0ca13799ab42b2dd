//! Three unmodified Open Policy Agents stay the same while eight clients change them and one pod is deleted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use decree_e2e::agents::Agent;
use decree_e2e::client::{Client, Request};
use decree_e2e::dice::{Dice, seed};
use decree_e2e::history::{Fate, History};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

use super::load::{self, Writer};

const ENGINE: &str = "policy";
const CLIENTS: usize = 8;
const CHANGES: usize = 500;
/// The pod is deleted once so many changes were answered.
const DELETE_AFTER: usize = 150;
const QUERIES: u64 = 50;
/// Between two changes of a client, so that the load lasts until the pod is gone and beyond.
const PACE: Duration = Duration::from_millis(150);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn every_acknowledged_change_is_in_every_pod() -> Result<()> {
    Bed::of_test()?.in_namespace("replicate", |namespace| {
        namespace.apply(&manifests::opa_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::opa(ENGINE, 3).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        let service = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        load::prepare(&service)?;

        let seed = seed();
        println!("seed {seed}");
        let history = change_while_a_pod_is_deleted(namespace, &service, &agents[0].pod, seed)?;
        ensure!(history.count(Fate::Unknown) == 0, "changes were not answered within a minute");

        let agents = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        compare_with_history(&agents, &history)?;
        compare_answers(&agents, seed)?;
        let digest = namespace.wait_equal_digests(&agents, Duration::from_secs(30))?;
        println!("all three: {digest}");
        namespace.wait("digests: equal", Duration::from_secs(60), || {
            let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
            if status["digests"] == "equal" { Ok(Some(())) } else { bail!("{status}") }
        })
    })
}

fn change_while_a_pod_is_deleted(
    namespace: &Namespace,
    service: &Client,
    victim: &str,
    seed: u64,
) -> Result<History> {
    let done = AtomicUsize::new(0);
    let write = |number: usize| {
        let mut writer = Writer::new(service, number, seed);
        while done.fetch_add(1, Ordering::SeqCst) < CHANGES {
            writer.change();
            std::thread::sleep(PACE);
        }
        writer
    };
    let writers = std::thread::scope(|scope| {
        let write = &write;
        let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || write(number))).collect();
        let enough = || Ok((done.load(Ordering::SeqCst) >= DELETE_AFTER).then_some(()));
        namespace.wait("the first changes", Duration::from_secs(120), enough)?;
        namespace.kubectl(&["delete", "pod", victim, "--wait=false"])?;
        println!("deleted {victim} after {} changes", done.load(Ordering::SeqCst));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Writer>| {
            thread.join().map_err(|_| anyhow!("a client panicked"))
        };
        threads.into_iter().map(join).collect::<Result<Vec<Writer>>>()
    })?;
    let mut history = History::default();
    let repeated: usize = writers.iter().map(|writer| writer.repeated).sum();
    writers.into_iter().for_each(|writer| history.append(writer.history));
    println!(
        "{} acknowledged, {} refused, {} unknown; {repeated} were sent more than once",
        history.count(Fate::Acknowledged),
        history.count(Fate::Refused),
        history.count(Fate::Unknown)
    );
    Ok(history)
}

fn compare_with_history(agents: &[Agent], history: &History) -> Result<()> {
    let states =
        agents.iter().map(|agent| agent.read_after_barrier("/v1/data")).collect::<Result<Vec<_>>>()?;
    for (agent, state) in agents.iter().zip(&states) {
        let found = load::found(state)?;
        println!("{}: {} tokens, {} documents", agent.pod, found.tokens.len(), found.values.len());
        let contradictions = history.contradictions(&found);
        ensure!(contradictions.is_empty(), "{}: {}", agent.pod, contradictions.join("\n"));
        ensure!(*state == states[0], "{} and {} differ", agent.pod, agents[0].pod);
    }
    Ok(())
}

/// Policy decisions and reads, each asked of every agent.
fn compare_answers(agents: &[Agent], seed: u64) -> Result<()> {
    let mut dice = Dice::new(seed);
    for _ in 0..QUERIES {
        let query = query(&mut dice);
        let answers = agents
            .iter()
            .map(|agent| agent.replicated().send(&query)?.json())
            .collect::<Result<Vec<Value>>>()
            .with_context(|| format!("ask {query:?}"))?;
        ensure!(answers.iter().all(|answer| *answer == answers[0]), "{query:?}: {answers:?}");
    }
    println!("{QUERIES} queries answered identically");
    Ok(())
}

fn query(dice: &mut Dice) -> Request {
    let client = dice.throw(CLIENTS as u64);
    let path = match dice.throw(3) {
        0 => {
            let input = json!({"input": {"token": format!("c{client}-{}", dice.throw(60))}});
            let headers = vec![("content-type", "application/json".to_owned())];
            let path = "/v1/data/decide".to_owned();
            return Request { method: "POST", path, headers, body: input.to_string(), ..Request::default() };
        }
        1 => format!("/v1/data/clients/c{client}/k{}", dice.throw(6)),
        _ => format!("/v1/data/c{client}_p{}", dice.throw(3)),
    };
    Request { method: "GET", path, ..Request::default() }
}
