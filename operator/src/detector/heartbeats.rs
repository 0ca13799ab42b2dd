//! Feeds the detectors: reads every engine's heartbeats topic, with one Kafka client for the same brokers and credentials.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use decree_kafka::{Connection, Heard, MultiReader, Start};
use decree_wire::heartbeat::Heartbeat;
use decree_wire::position::EngineName;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::credentials::CLIENT;

use super::suspect::{Detector, Expected, Summary, View};
use crate::group::call::Agent;

/// How much of a topic is fetched ahead: heartbeats are small, and only the newest matter.
const QUEUE_KBYTES: u32 = 64;
/// How often silence is looked for, and the list of topics compared.
const TICK: Duration = Duration::from_millis(500);
/// After a client could not be made.
const RETRY: Duration = Duration::from_secs(5);
const BATCH: usize = 512;
/// A topic that may not be read is tried again this much later.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// And counts as such for so long after it was said.
const DEAF_FOR: Duration = Duration::from_secs(30);

/// What to follow for one engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Where they speak.
    pub source: Source,
    /// How often agents speak.
    pub interval: Duration,
    /// So many missed in a row is suspect.
    pub misses: u32,
}

/// Where an engine's agents speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a topic.
    Topic {
        /// The way to the brokers.
        connection: Connection,
        /// The heartbeats topic.
        topic: String,
    },
    /// To the leader of their group; none while nobody leads it.
    Leader(Option<Agent>),
}

/// What is heard of every engine. Clones share it; [`Heartbeats::run`] has to run for anything to be heard.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    engines: Arc<Mutex<HashMap<EngineName, Engine>>>,
    changed: mpsc::Sender<EngineName>,
}

#[derive(Debug)]
struct Engine {
    followed: Followed,
    detector: Detector,
    /// What was told last.
    told: Summary,
    /// Since when the topic can't be read, and why.
    deaf: Option<(Instant, String)>,
}

impl Heartbeats {
    /// Engines of which something changed that a person should see at once are sent to the receiver.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<EngineName>) {
        let (changed, receiver) = mpsc::channel(1024);
        (Self { engines: Arc::default(), changed }, receiver)
    }

    /// From now on this engine's agents are listened to: these pods and no others.
    pub fn follow(&self, name: &EngineName, followed: Followed, pods: Vec<Expected>, now: Instant) {
        let mut engines = self.engines();
        let engine = engines.entry(name.clone()).or_insert_with(|| Engine {
            followed: followed.clone(),
            detector: Detector::new(followed.interval, followed.misses),
            told: Summary::default(),
            deaf: None,
        });
        if engine.followed != followed {
            engine.detector.configure(followed.interval, followed.misses);
            if engine.followed.source != followed.source {
                engine.detector.interrupt();
            }
            engine.followed = followed;
        }
        engine.detector.expect(pods, now);
    }

    /// The engine is gone.
    pub fn forget(&self, name: &EngineName) {
        self.engines().remove(name);
    }

    /// What is known now; nothing where the engine isn't followed.
    #[must_use]
    pub fn view(&self, name: &EngineName, now: Instant) -> View {
        let mut engines = self.engines();
        let Some(engine) = engines.get_mut(name) else { return View::default() };
        let view = engine.detector.view(now);
        engine.told = view.summary();
        view
    }

    /// Why the engine's heartbeats can't be read; none where they can, or that is not known.
    #[must_use]
    pub fn deaf(&self, name: &EngineName, now: Instant) -> Option<String> {
        let engines = self.engines();
        let (since, why) = engines.get(name)?.deaf.as_ref()?;
        (now.saturating_duration_since(*since) < DEAF_FOR).then(|| why.clone())
    }

    /// Listens until `stop`; owns a task a cluster.
    pub async fn run(&self, stop: CancellationToken) {
        let mut clusters = JoinSet::new();
        let mut running = BTreeSet::<Connection>::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = clusters.join_next() => match ended {
                    Ok(servers) => { running.remove(&servers); }
                    Err(error) => {
                        // Which one is not known any more: all are started anew.
                        tracing::error!(%error, "a reader of heartbeats failed");
                        clusters.abort_all();
                        running.clear();
                    }
                },
                _ = tick.tick() => {
                    for servers in self.clusters().difference(&running.clone()) {
                        running.insert(servers.clone());
                        clusters.spawn(listen(self.clone(), servers.clone(), stop.clone()));
                    }
                    self.tell(Instant::now());
                }
            }
        }
        while clusters.join_next().await.is_some() {}
    }

    /// Sends on which engines changed. Where the queue is full they are told at the next tick.
    fn tell(&self, now: Instant) {
        for (name, engine) in self.engines().iter_mut() {
            let summary = engine.detector.view(now).summary();
            if summary != engine.told && self.changed.try_send(name.clone()).is_ok() {
                engine.told = summary;
            }
        }
    }

    fn clusters(&self) -> BTreeSet<Connection> {
        let engines = self.engines();
        let connections = engines.values().filter_map(|engine| match &engine.followed.source {
            Source::Topic { connection, .. } => Some(connection.clone()),
            Source::Leader(_) => None,
        });
        connections.collect()
    }

    /// The leaders of engines' groups.
    pub(super) fn leaders(&self) -> Vec<(EngineName, Agent)> {
        let engines = self.engines();
        let leaders = engines.iter().filter_map(|(name, engine)| match &engine.followed.source {
            Source::Leader(Some(leader)) => Some((name.clone(), leader.clone())),
            Source::Leader(None) | Source::Topic { .. } => None,
        });
        leaders.collect()
    }

    /// Which engines' agents speak in which topic. Two engines may name one by mistake.
    fn topics(&self, cluster: &Connection) -> BTreeMap<String, Vec<EngineName>> {
        let mut topics = BTreeMap::<_, Vec<_>>::new();
        for (name, engine) in self.engines().iter() {
            if let Source::Topic { connection, topic } = &engine.followed.source
                && connection == cluster
            {
                topics.entry(topic.clone()).or_default().push(name.clone());
            }
        }
        topics
    }

    fn cannot_hear(&self, names: &[EngineName], why: &str, now: Instant) {
        let mut engines = self.engines();
        for name in names {
            if let Some(engine) = engines.get_mut(name) {
                engine.deaf = Some((now, why.to_owned()));
            }
        }
    }

    pub(super) fn hear(&self, names: &[EngineName], heartbeat: &Heartbeat, now: Instant) {
        let mut engines = self.engines();
        for name in names {
            if let Some(engine) = engines.get_mut(name) {
                engine.deaf = None;
                engine.detector.hear(heartbeat.clone(), now);
            }
        }
    }

    fn engines(&self) -> MutexGuard<'_, HashMap<EngineName, Engine>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one cluster's topics until no engine is there any more.
async fn listen(heartbeats: Heartbeats, connection: Connection, stop: CancellationToken) -> Connection {
    let reader = match MultiReader::open(&connection, CLIENT, QUEUE_KBYTES) {
        Ok(reader) => reader,
        Err(error) => {
            tracing::warn!(%error, "can't listen for heartbeats");
            pause(RETRY, &stop).await;
            return connection;
        }
    };
    let mut reading = BTreeSet::new();
    let mut refused = BTreeSet::new();
    let mut again = Instant::now();
    while !stop.is_cancelled() {
        let topics = heartbeats.topics(&connection);
        if topics.is_empty() {
            break;
        }
        // librdkafka says once that a topic may not be read: begun anew it says so again, or reads.
        if !refused.is_empty() && again.elapsed() >= REFUSED_AGAIN {
            again = Instant::now();
            reading.retain(|topic| !refused.contains(topic));
            refused.clear();
        }
        follow(&reader, &mut reading, &topics).await;
        let heard = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            heard = reader.next(BATCH, TICK) => heard,
        };
        match heard {
            Ok(heard) => {
                for heard in heard {
                    refused.extend(take(&heartbeats, &topics, heard));
                }
            }
            Err(error) => {
                tracing::debug!(%error, "nobody can be heard");
                pause(TICK, &stop).await;
            }
        }
    }
    connection
}

async fn follow(
    reader: &MultiReader,
    reading: &mut BTreeSet<String>,
    topics: &BTreeMap<String, Vec<EngineName>>,
) {
    reading.retain(|topic| topics.contains_key(topic) || reader.remove(topic).is_err());
    for topic in topics.keys() {
        if !reading.contains(topic) {
            // Old heartbeats say nothing: when one arrived decides, not what it says.
            match reader.add(topic, Start::End).await {
                Ok(()) => _ = reading.insert(topic.clone()),
                Err(error) => tracing::warn!(%error, "can't listen for heartbeats"),
            }
        }
    }
}

/// Takes what was heard; gives the topic that may not be read.
fn take(heartbeats: &Heartbeats, topics: &BTreeMap<String, Vec<EngineName>>, heard: Heard) -> Option<String> {
    match heard {
        Heard::Record { topic, record } => {
            let names = topics.get(&topic).map(Vec::as_slice).unwrap_or_default();
            match Heartbeat::read(&record.value.unwrap_or_default()) {
                Ok(heartbeat) => heartbeats.hear(names, &heartbeat, Instant::now()),
                Err(error) => tracing::debug!(topic, %error, "a record that is no heartbeat"),
            }
        }
        Heard::Failed { topic, error } => {
            tracing::debug!(topic, %error, "a heartbeats topic can't be read");
            if matches!(error, decree_kafka::Error::Unauthorized { .. }) {
                let names = topics.get(&topic).map(Vec::as_slice).unwrap_or_default();
                heartbeats.cannot_hear(names, &error.to_string(), Instant::now());
                return Some(topic);
            }
        }
    }
    None
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

#[cfg(test)]
mod tests {
    use decree_kafka::{Admin, NewRecord, NewTopic, Producer, ProducerSettings};

    use super::*;
    use crate::detector::suspect::Liveness;

    fn name() -> EngineName {
        EngineName { namespace: "test".into(), name: "engine".into() }
    }

    fn expected(uid: &str) -> Expected {
        Expected { uid: uid.into(), pod: uid.into(), class: "a".into(), runs: true }
    }

    #[tokio::test]
    #[ignore = "needs Kafka: DECREE_KAFKA=host:port"]
    async fn agents_are_heard_and_one_that_falls_silent_is_told() {
        let servers = std::env::var("DECREE_KAFKA").unwrap();
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        let topic = format!("operator-heartbeats-{run}");
        let connection = Connection::plain(servers.split(','), "test");
        let admin = Admin::open(&connection, Duration::from_secs(5)).unwrap();
        let new = NewTopic { partitions: 1, replication: 1, config: BTreeMap::new() };
        admin.create_topic(&topic, &new).await.unwrap();

        let (heartbeats, mut changed) = Heartbeats::new();
        let interval = Duration::from_millis(200);
        let source = Source::Topic { connection: connection.clone(), topic: topic.clone() };
        let followed = Followed { source, interval, misses: 3 };
        heartbeats.follow(&name(), followed, vec![expected("a"), expected("b")], Instant::now());
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (heartbeats, stop) = (heartbeats.clone(), stop.clone());
            async move { heartbeats.run(stop).await }
        });
        let producer = Producer::open(&connection, &ProducerSettings::default()).unwrap();
        let speak = async |uid: &str| {
            let value = format!(
                r#"{{"level":1,"pod":"{uid}","uid":"{uid}","class":"a","sequence":1,"incarnation":null,"position":null,
                "head":null,"lag":null,"lagMs":null,"digest":null,"version":1,"state":"Running","ready":true}}"#
            );
            let record = NewRecord { value: Some(value.into()), ..NewRecord::default() };
            producer.send(&topic, &record).await.unwrap();
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        let live = |uid: &str| heartbeats.view(&name(), Instant::now()).agents[uid].liveness;
        while live("a") != Liveness::Live || live("b") != Liveness::Live {
            assert!(Instant::now() < deadline, "both are heard");
            speak("a").await;
            speak("b").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while changed.try_recv().is_ok() {}
        while changed.try_recv().is_err() {
            assert!(Instant::now() < deadline, "the silence is told");
            speak("a").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(live("b"), Liveness::Suspect);
        stop.cancel();
        running.await.unwrap();
        admin.delete_topic(&topic).await.unwrap();
    }
}
