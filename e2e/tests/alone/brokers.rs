//! Kafka loses brokers: with one away proposals go on, with two they are answered in time, and in the end nothing
//! acknowledged is lost and nothing is there twice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use decree_e2e::client::{Client, Request};
use decree_e2e::cluster::BROKERS;
use decree_e2e::fold::Fold;
use decree_e2e::history::Fate;
use decree_e2e::posting::{Posting, Tally};
use decree_e2e::{Bed, Namespace, manifests};
use serde_json::json;

use super::whole;

const ENGINE: &str = "ledger";
const LIMIT: Duration = Duration::from_secs(60);
/// A proposer that says nothing else is answered within 30 s; then the way back.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);
/// So many more answers show that proposals go on.
const MORE: usize = 40;
/// Commands sent while two brokers are away.
const PROBES: usize = 2;

#[test]
#[ignore = "needs a bed: cargo verify"]
fn brokers_come_and_go_and_nothing_is_lost_or_twice() -> Result<()> {
    whole::in_namespace("brokers", |namespace| {
        namespace.apply(&manifests::replicated_recorder_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.wait_engine(ENGINE, "Ready", "True", LIMIT)?;
        namespace.apply(&manifests::recorders(ENGINE, 3, &[]).to_string())?;
        let agents = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        let service = format!("http://{}", namespace.service_address(ENGINE)?);
        let service = Client::patient(service, ANSWER_LIMIT);

        let posting = Posting {
            service: &service,
            path: "/decisions",
            name: "flow",
            clients: 4,
            pace: Duration::from_millis(20),
            patience: Duration::from_secs(120),
        };
        let ((), mut posted) = posting.during(|tally| {
            tally.wait_more(MORE, LIMIT)?;
            one_is_lost(namespace.bed(), tally)?;
            two_are_lost(namespace.bed(), &service, tally)?;
            each_is_restarted(namespace.bed(), tally)
        })?;

        posted.ensure_all_acknowledged()?;
        posted.acknowledged.extend((0..PROBES).filter_map(|number| probe(number).id));
        let topic = format!("decree.{}.{ENGINE}", namespace.name());
        let fold = Fold::of_topic(namespace.bed(), &topic)?;
        println!("{}", posted.summary(&fold));
        namespace.wait_equal_digests(&agents, LIMIT)?;
        posted.ensure_once(&fold, &agents)?;
        let now = namespace.wait_agents(ENGINE, 3, LIMIT)?;
        ensure!(now.iter().all(|agent| agents.iter().any(|old| old.pod == agent.pod)), "pods were replaced");
        ensure_nothing_restarted(namespace)
    })
}

fn one_is_lost(bed: &Bed, tally: &Tally) -> Result<()> {
    bed.kill_broker(1)?;
    let start = Instant::now();
    tally.wait_more(MORE, LIMIT)?;
    println!("one broker is away: {MORE} more were acknowledged within {:.1?}", start.elapsed());
    Ok(())
}

/// With two of three away there is no quorum and no second copy: nothing may be acknowledged, and all is answered.
fn two_are_lost(bed: &Bed, service: &Client, tally: &Tally) -> Result<()> {
    bed.kill_broker(2)?;
    for number in 0..PROBES {
        let start = Instant::now();
        let reply = service.send(&probe(number))?;
        println!("two brokers are away: {} after {:.1?}: {}", reply.status, start.elapsed(), reply.body);
        ensure!(matches!(reply.status, 503 | 504), "answered {reply:?}");
    }
    bed.start_broker(1)?;
    bed.start_broker(2)?;
    let start = Instant::now();
    for number in 0..PROBES {
        let outcome = service.send_until_answered(&probe(number), LIMIT);
        ensure!(outcome.fate() == Fate::Acknowledged, "repeated: {:?}", outcome.last);
    }
    tally.wait_more(MORE, LIMIT)?;
    println!("all brokers are back: {MORE} more were acknowledged within {:.1?}", start.elapsed());
    Ok(())
}

fn probe(number: usize) -> Request {
    Request {
        method: "POST",
        path: "/decisions".to_owned(),
        headers: vec![("content-type", "application/json".to_owned())],
        body: json!({"with": "one broker"}).to_string(),
        id: Some(format!("probe-{number}")),
    }
}

fn each_is_restarted(bed: &Bed, tally: &Tally) -> Result<()> {
    for broker in 1..=BROKERS {
        bed.stop_broker(broker)?;
        tally.wait_more(MORE / 2, LIMIT)?;
        bed.start_broker(broker)?;
        tally.wait_more(MORE / 2, LIMIT)?;
    }
    println!("each broker was restarted");
    Ok(())
}

/// It recovered by itself: in the pods of before, and nothing was restarted in them.
fn ensure_nothing_restarted(namespace: &Namespace) -> Result<()> {
    for pod in namespace.list_json("pods", "")? {
        for kind in ["initContainerStatuses", "containerStatuses"] {
            for status in pod["status"][kind].as_array().into_iter().flatten() {
                ensure!(status["restartCount"] == 0, "{} restarted: {status}", pod["metadata"]["name"]);
            }
        }
    }
    Ok(())
}
