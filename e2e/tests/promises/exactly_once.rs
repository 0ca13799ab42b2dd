//! An application that knows nothing ends with exactly what was acknowledged, once, though every part of it is killed.
//!
//! The gate runs a short form; `DECREE_LONG=1` makes it 50 containers, 50 sidecars and 10 pods.

mod application;
mod clients;
mod faults;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use decree_e2e::dice::{Dice, seed};
use decree_e2e::fold::Fold;
use decree_e2e::history::Fate;
use decree_e2e::{Bed, Namespace};

use application::{AGENTS, Application};
use clients::{Load, Posted};
use faults::{Fault, Form, Injector};
use watch::{Doubt, Resolution, Watch};

const ENGINE: &str = "tally";
const POSTS: usize = 2000;
const SHORT: Form = Form { containers: 6, sidecars: 6, pods: 2 };
const LONG: Form = Form { containers: 50, sidecars: 50, pods: 10 };
/// From the last fault until all agents serve again.
const RECOVERY: Duration = Duration::from_secs(300);

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_counter_in_memory() -> Result<()> {
    let doubts = survives(Application::CounterInMemory)?;
    ensure!(!doubts.is_empty(), "no delivery was in doubt: nothing was shown");
    Ok(())
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn a_counter_with_files_in_an_empty_dir() -> Result<()> {
    let doubts = survives(Application::CounterOnDisk)?;
    ensure!(!doubts.is_empty(), "no delivery was in doubt: nothing was shown");
    Ok(())
}

#[test]
#[ignore = "needs a bed: cargo verify"]
fn an_open_policy_agent() -> Result<()> {
    survives(Application::Opa).map(drop)
}

fn form() -> Form {
    if std::env::var_os("DECREE_LONG").is_some() { LONG } else { SHORT }
}

fn survives(application: Application) -> Result<Vec<Doubt>> {
    Bed::of_test()?.in_namespace("once", |namespace| {
        let service = application.start(namespace, ENGINE)?;
        let (seed, form, start) = (seed(), form(), Instant::now());
        println!("{application:?}: seed {seed}, {form:?}");
        let load = Load::new(application, &service, seed, POSTS);
        let watch = Watch::new(namespace, ENGINE);
        let mut injector = Injector { namespace, engine: ENGINE, application, dice: Dice::new(seed) };

        let (run, judged) = std::thread::scope(|scope| {
            scope.spawn(|| watch.run());
            let clients = load.start(scope);
            let faults = injector.run(form, &load, POSTS);
            load.stop();
            let posted =
                clients.into_iter().map(|client| client.join().map_err(|_| anyhow!("a client panicked")));
            let posted = posted.collect::<Result<Vec<_>>>();
            let run =
                faults.and_then(|faults| Ok((faults, posted?.into_iter().flatten().collect::<Vec<_>>())));
            let judged = run.as_ref().map(|(_, posted)| judge(namespace, application, posted));
            let judged = judged.unwrap_or(Ok(()));
            watch.stop();
            (run, judged)
        });
        let (faults, posted) = run?;
        let doubts = report(&faults, &posted, &watch, start)?;
        judged?;
        watch.ensure_never_diverged()?;
        Ok(doubts)
    })
}

/// Every agent has what a fold over the log gives, and that has every acknowledged post once.
fn judge(namespace: &Namespace, application: Application, posted: &[Posted]) -> Result<()> {
    let agents = namespace.wait_agents(ENGINE, AGENTS, RECOVERY)?;
    let digest = namespace.wait_equal_digests(&agents, Duration::from_secs(60))?;
    let topic = format!("decree.{}.{ENGINE}", namespace.name());
    let fold = Fold::of_topic(namespace.bed(), &topic)?;
    let expected: Vec<String> =
        fold.commands.iter().filter_map(|command| application.token(command)).collect();
    println!("the log has {} commands and {} repeats; digest {digest}", fold.commands.len(), fold.repeats);

    once(&expected, posted)?;
    for agent in &agents {
        let tokens = application.tokens(agent)?;
        let differ = tokens.iter().zip(&expected).position(|(one, other)| one != other);
        ensure!(
            differ.is_none() && tokens.len() == expected.len(),
            "{} has {} tokens where the log has {}; the first that differs is {differ:?}",
            agent.pod,
            tokens.len(),
            expected.len()
        );
        println!("{}: {} tokens, as the log has them", agent.pod, tokens.len());
    }
    equal_in_status(namespace)
}

fn once(expected: &[String], posted: &[Posted]) -> Result<()> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    expected.iter().for_each(|token| *times.entry(token).or_default() += 1);
    for post in posted {
        let times = times.remove(post.token.as_str()).unwrap_or(0);
        match post.fate {
            Fate::Acknowledged => {
                ensure!(times == 1, "{} was acknowledged and is there {times} times", post.token)
            }
            Fate::Refused => bail!("{} was refused: {}", post.token, post.last),
            Fate::Unknown => bail!("{} was not answered: {}", post.token, post.last),
        }
    }
    ensure!(times.is_empty(), "nobody posted {times:?}");
    ensure!(posted.len() == POSTS, "{} of {POSTS} were posted", posted.len());
    Ok(())
}

fn equal_in_status(namespace: &Namespace) -> Result<()> {
    namespace.wait("digests: equal", Duration::from_secs(60), || {
        let status = namespace.get_json("decisionengine", ENGINE)?["status"].clone();
        ensure!(status["digests"] == "equal", "{status}");
        Ok(Some(()))
    })
}

fn report(faults: &[Fault], posted: &[Posted], watch: &Watch<'_>, start: Instant) -> Result<Vec<Doubt>> {
    let repeated = posted.iter().filter(|post| post.attempts > 1).count();
    let slowest = posted.iter().map(|post| post.took).max().context("find a post")?;
    println!(
        "{} faults and {} posts in {:.0} s; {repeated} posts were sent more than once, the slowest took {:.1} s",
        faults.len(),
        posted.len(),
        start.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    let doubts = watch.doubts(faults)?;
    println!("{} deliveries were in doubt:", doubts.len());
    let mut kinds: BTreeMap<Resolution, Vec<&Doubt>> = BTreeMap::new();
    doubts.iter().for_each(|doubt| kinds.entry(doubt.resolution).or_default().push(doubt));
    for (resolution, doubts) in kinds {
        let longest = doubts.iter().max_by_key(|doubt| doubt.took).context("find a doubt")?;
        println!(
            "  {}: {resolution}; the longest took {:.1} s, in {}",
            doubts.len(),
            longest.took.as_secs_f64(),
            longest.pod
        );
    }
    Ok(doubts)
}
