//! A rollout of the Deployment under load loses no acknowledged change.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use decree_e2e::client::Client;
use decree_e2e::history::{Fate, History};
use decree_e2e::{Bed, manifests};

use super::load::{self, Writer};

const ENGINE: &str = "policy";
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(50);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_rollout_under_load_loses_nothing() -> Result<()> {
    Bed::of_test()?.in_namespace("rollout", |namespace| {
        namespace.apply(&manifests::opa_engine(namespace.bed(), ENGINE).to_string())?;
        namespace.apply(&manifests::opa(ENGINE, 3).to_string())?;
        let before = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        let service = Client::new(format!("http://{}", namespace.service_address(ENGINE)?));
        load::prepare(&service)?;

        let over = AtomicBool::new(false);
        let write = |number: usize| {
            let mut writer = Writer::new(&service, number, 0);
            let mut slowest = Duration::ZERO;
            while !over.load(Ordering::SeqCst) {
                let start = Instant::now();
                writer.append();
                slowest = slowest.max(start.elapsed());
                std::thread::sleep(PACE);
            }
            (writer, slowest)
        };
        let (rolled_out, writers) = std::thread::scope(|scope| {
            let write = &write;
            let threads: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || write(number))).collect();
            let deployment = format!("deployment/{ENGINE}");
            let rolled_out = namespace
                .kubectl(&["rollout", "restart", &deployment])
                .and_then(|_| namespace.kubectl(&["rollout", "status", &deployment, "--timeout=240s"]));
            over.store(true, Ordering::SeqCst);
            let writers: Result<Vec<_>> = threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")))
                .collect();
            (rolled_out, writers)
        });
        rolled_out?;

        let mut history = History::default();
        let (mut repeated, mut slowest) = (0, Duration::ZERO);
        for (writer, slow) in writers? {
            repeated += writer.repeated;
            slowest = slowest.max(slow);
            history.append(writer.history);
        }
        let acknowledged = history.count(Fate::Acknowledged);
        println!("{acknowledged} acknowledged, {repeated} sent more than once, the slowest took {slowest:?}");
        ensure!(history.count(Fate::Unknown) == 0, "changes were not answered within a minute");

        let after = namespace.wait_agents(ENGINE, 3, Duration::from_secs(120))?;
        ensure!(
            after.iter().all(|new| before.iter().all(|old| old.pod != new.pod)),
            "a pod was not replaced"
        );
        for agent in &after {
            let found = load::found(&agent.read_after_barrier("/v1/data")?)?;
            let contradictions = history.contradictions(&found);
            ensure!(contradictions.is_empty(), "{}: {}", agent.pod, contradictions.join("\n"));
        }
        namespace.wait_equal_digests(&after, Duration::from_secs(30)).map(drop)
    })
}
