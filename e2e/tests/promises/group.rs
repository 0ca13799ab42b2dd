//! An engine orders by a group among its own sidecars, with no Kafka: nothing that was acknowledged is lost, and nothing is
//! there twice, whoever of them is restarted, replaced, added or taken away.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use decree_e2e::agents::{Agent, status_of};
use decree_e2e::client::{Client, Request};
use decree_e2e::history::{Change, Fate, Found, History};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::{Value, json};

const ENGINE: &str = "tally";
const VOTERS: usize = 3;
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(50);
/// A client repeats a request for so long before it gives it up.
const PATIENCE: Duration = Duration::from_secs(120);
/// A group that had something taken away or added is whole again within this.
const WHOLE: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn three_pods_become_three_voters_and_count_the_same() -> Result<()> {
    Bed::of_test()?.in_namespace("group", |namespace| {
        let service = start(namespace)?;
        let history = posts(&service, "first", 20);
        ensure!(history.count(Fate::Acknowledged) == 20, "some posts were not answered: {history:?}");
        let agents = namespace.wait_agents(ENGINE, VOTERS, WHOLE)?;
        judge(namespace, &agents, &history)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_leader_that_is_deleted_loses_nothing() -> Result<()> {
    Bed::of_test()?.in_namespace("group", |namespace| {
        let service = start(namespace)?;
        let history = under_load(&service, "leader", |progress| {
            for _ in 0..2 {
                progress.wait(20)?;
                let leader = leader(namespace)?;
                namespace.delete_pod(&leader)?;
                whole(namespace, VOTERS, &BTreeSet::from([leader]))?;
            }
            progress.wait(20)
        })?;
        let agents = namespace.wait_agents(ENGINE, VOTERS, WHOLE)?;
        judge(namespace, &agents, &history)
    })
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_rollout_and_other_numbers_of_pods_need_no_hand() -> Result<()> {
    Bed::of_test()?.in_namespace("group", |namespace| {
        let service = start(namespace)?;
        let deployment = format!("deployment/{ENGINE}");
        let history = under_load(&service, "rollout", |progress| {
            let before = namespace.wait_agents(ENGINE, VOTERS, WHOLE)?;
            let gone: BTreeSet<String> = before.into_iter().map(|agent| agent.pod).collect();
            namespace.kubectl(&["rollout", "restart", &deployment])?;
            namespace.kubectl(&["rollout", "status", &deployment, "--timeout=300s"])?;
            whole(namespace, VOTERS, &gone)?;
            progress.wait(20)?;
            for pods in [5, VOTERS] {
                namespace.kubectl(&["scale", &deployment, &format!("--replicas={pods}")])?;
                namespace.wait_agents(ENGINE, pods, WHOLE)?;
                whole(namespace, pods, &gone)?;
                progress.wait(20)?;
            }
            Ok(())
        })?;
        let agents = namespace.wait_agents(ENGINE, VOTERS, WHOLE)?;
        judge(namespace, &agents, &history)
    })
}

/// Engine, group and pods, once all of them vote; gives a client of the engine's Service.
fn start(namespace: &Namespace) -> Result<Client> {
    namespace.apply(&manifests::group(ENGINE, VOTERS).to_string())?;
    namespace.apply(&manifests::grouped_counter_engine(namespace.bed(), ENGINE).to_string())?;
    let mut pods = manifests::counters(ENGINE, VOTERS);
    pods["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": 1, "maxUnavailable": 0});
    namespace.apply(&pods.to_string())?;
    namespace.wait_agents(ENGINE, VOTERS, WHOLE)?;
    whole(namespace, VOTERS, &BTreeSet::new())?;
    Ok(Client::new(format!("http://{}", namespace.service_address(ENGINE)?)))
}

/// Waits until the group has so many members, of which as many vote as shall, and none of those that are gone.
fn whole(namespace: &Namespace, pods: usize, gone: &BTreeSet<String>) -> Result<()> {
    namespace.wait(&format!("a group of {pods} with {VOTERS} voters"), WHOLE, || {
        let group = namespace.get_json("consensusgroup", ENGINE)?;
        let status = &group["status"];
        let members = status["members"].as_array().context("find members")?;
        let voters = members.iter().filter(|member| member["role"] == "Voter").count();
        let ids: BTreeSet<&str> = members.iter().filter_map(|member| member["id"].as_str()).collect();
        let stale = members.iter().any(|member| gone.contains(member["pod"].as_str().unwrap_or_default()));
        ensure!(ids.len() == members.len(), "an id is there twice: {status}");
        ensure!(voters <= VOTERS, "{voters} vote: {status}");
        let is = |condition, value| status_of(&group, condition) == Some(value);
        let rests = is("Ready", "True") && is("Quorum", "True") && status_of(&group, "Reconciling").is_none();
        ensure!(members.len() == pods && voters == VOTERS && !stale && rests, "{status}");
        Ok(Some(()))
    })
}

fn leader(namespace: &Namespace) -> Result<String> {
    let group = namespace.get_json("consensusgroup", ENGINE)?;
    group["status"]["leader"].as_str().map(str::to_owned).context("find the group's leader")
}

fn post(service: &Client, token: &str) -> (Fate, Duration) {
    let (method, path, id) = ("POST", "/increment".to_owned(), Some(token.to_owned()));
    let request = Request { method, path, id, body: token.to_owned(), ..Request::default() };
    let start = Instant::now();
    (service.send_until_answered(&request, PATIENCE).fate(), start.elapsed())
}

fn posts(service: &Client, name: &str, count: usize) -> History {
    let mut history = History::default();
    for number in 0..count {
        let token = format!("{name}-{number}");
        let (fate, _) = post(service, &token);
        history.record(Change::Append { token }, fate);
    }
    history
}

/// How far the clients have come.
struct Progress(AtomicUsize);

impl Progress {
    /// Waits until so many more posts are acknowledged.
    fn wait(&self, more: usize) -> Result<()> {
        let wanted = self.0.load(Ordering::SeqCst) + more;
        decree_e2e::wait::until(format!("{more} more posts"), PATIENCE, || {
            let now = self.0.load(Ordering::SeqCst);
            if now >= wanted { Ok(Some(())) } else { Err(anyhow!("{now} of {wanted}")) }
        })
    }
}

/// Posts all the time while something happens.
fn under_load(
    service: &Client,
    name: &str,
    happens: impl FnOnce(&Progress) -> Result<()>,
) -> Result<History> {
    let (over, progress) = (AtomicBool::new(false), Progress(AtomicUsize::new(0)));
    let write = |client: usize| {
        let (mut history, mut slowest) = (History::default(), Duration::ZERO);
        for number in 0.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let token = format!("{name}-{client}-{number}");
            let (fate, took) = post(service, &token);
            slowest = slowest.max(took);
            if fate == Fate::Acknowledged {
                progress.0.fetch_add(1, Ordering::SeqCst);
            }
            history.record(Change::Append { token }, fate);
            std::thread::sleep(PACE);
        }
        (history, slowest)
    };
    let (happened, written) = std::thread::scope(|scope| {
        let write = &write;
        let threads: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || write(client))).collect();
        let happened = happens(&progress);
        over.store(true, Ordering::SeqCst);
        let written =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")));
        (happened, written.collect::<Result<Vec<_>>>())
    });
    let (mut history, mut slowest) = (History::default(), Duration::ZERO);
    for (one, slow) in written? {
        history.append(one);
        slowest = slowest.max(slow);
    }
    let (acknowledged, unknown) = (history.count(Fate::Acknowledged), history.count(Fate::Unknown));
    println!("{name}: {acknowledged} acknowledged, {unknown} unknown, the slowest took {slowest:?}");
    happened?;
    ensure!(history.count(Fate::Refused) + unknown == 0, "some posts were not answered");
    Ok(history)
}

/// Every pod has every acknowledged post once, all in one order.
fn judge(namespace: &Namespace, agents: &[Agent], history: &History) -> Result<()> {
    namespace.wait_equal_digests(agents, Duration::from_secs(60))?;
    let mut first: Option<Vec<String>> = None;
    for agent in agents {
        let own = Client::new(format!("http://{}:{}", agent.address, manifests::COUNTER_PORT));
        let tokens: Vec<String> = serde_json::from_value::<Vec<Value>>(own.get_json("/tokens")?)?
            .iter()
            .filter_map(|token| token.as_str().map(str::to_owned))
            .collect();
        let found = Found { tokens: tokens.clone(), ..Found::default() };
        let contradictions = history.contradictions(&found);
        ensure!(contradictions.is_empty(), "{}: {}", agent.pod, contradictions.join("\n"));
        println!("{}: {} tokens", agent.pod, tokens.len());
        let first = first.get_or_insert_with(|| tokens.clone());
        ensure!(*first == tokens, "{} has another order than the first agent", agent.pod);
    }
    Ok(())
}
