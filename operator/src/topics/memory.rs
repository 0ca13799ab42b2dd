//! Topics in memory: for tests, with what a person or an outage can do to them from outside.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use decree_wire::settings::Settings;

use super::{Error, NewTopic, Scan, Topic, Topics};

/// A cluster that forgets all at the end of the test.
#[derive(Debug, Default)]
pub struct MemoryTopics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    made: u64,
    away: bool,
    topics: BTreeMap<String, (Topic, Vec<Option<Settings>>)>,
    /// Whether it has members.
    groups: BTreeMap<String, bool>,
}

impl MemoryTopics {
    /// From now on nothing answers, or everything does again.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    /// A plain client appends a command.
    pub fn append_command(&self, name: &str) {
        if let Some((_, records)) = self.state().topics.get_mut(name) {
            records.push(None);
        }
    }

    /// Somebody commits, as a member of the group or not.
    pub fn commit(&self, group: &str, member: bool) {
        self.state().groups.insert(group.to_owned(), member);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answering(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.away { Err(Error::Unreachable("ask memory: it is away".into())) } else { Ok(state) }
    }
}

fn found<'a>(state: &'a mut State, name: &str) -> Result<&'a mut (Topic, Vec<Option<Settings>>), Error> {
    state.topics.get_mut(name).ok_or_else(|| Error::Missing(name.to_owned()))
}

#[async_trait]
impl Topics for MemoryTopics {
    async fn brokers(&self) -> Result<usize, Error> {
        self.answering().map(|_| 3)
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, Error> {
        Ok(self.answering()?.topics.get(name).map(|(topic, _)| topic.clone()))
    }

    async fn create(&self, name: &str, topic: &NewTopic) -> Result<Topic, Error> {
        let mut state = self.answering()?;
        if state.topics.contains_key(name) {
            return Err(Error::Exists(name.to_owned()));
        }
        state.made += 1;
        let NewTopic { replication, config } = topic.clone();
        let topic = Topic { id: format!("id-{}", state.made), partitions: 1, replication, config };
        state.topics.insert(name.to_owned(), (topic.clone(), Vec::new()));
        Ok(topic)
    }

    async fn set_config(&self, name: &str, entries: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut state = self.answering()?;
        let (topic, _) = found(&mut state, name)?;
        topic.config.extend(entries.clone());
        Ok(())
    }

    async fn start(&self, name: &str) -> Result<u64, Error> {
        found(&mut *self.answering()?, name).map(|_| 0)
    }

    async fn delete(&self, name: &str, id: Option<&str>) -> Result<(), Error> {
        let mut state = self.answering()?;
        match state.topics.get(name) {
            Some((topic, _)) if id.is_some_and(|id| topic.id != id) => Err(Error::Replaced(name.to_owned())),
            Some(_) | None => {
                state.topics.remove(name);
                Ok(())
            }
        }
    }

    async fn scan(&self, name: &str, id: &str, from: Option<u64>) -> Result<Scan, Error> {
        let mut state = self.answering()?;
        let (topic, records) = found(&mut state, name)?;
        if topic.id != id {
            return Err(Error::Replaced(name.to_owned()));
        }
        let from = from.unwrap_or(0);
        let mut entries = (0_u64..).zip(records.iter());
        let found = entries.find_map(|(at, entry)| Some((at, entry.as_ref().filter(|_| at >= from)?)));
        Ok(match found {
            Some((position, settings)) => Scan::Settings { position, settings: Box::new(settings.clone()) },
            None => Scan::None { next: u64::try_from(records.len()).unwrap_or(u64::MAX) },
        })
    }

    async fn append_settings(&self, name: &str, settings: &Settings) -> Result<(), Error> {
        let mut state = self.answering()?;
        found(&mut state, name)?.1.push(Some(settings.clone()));
        Ok(())
    }

    async fn groups(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let state = self.answering()?;
        Ok(state.groups.keys().filter(|group| group.starts_with(prefix)).cloned().collect())
    }

    async fn delete_groups(&self, groups: &[String]) -> Result<(), Error> {
        self.answering()?.groups.retain(|group, member| *member || !groups.contains(group));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;

    #[tokio::test]
    async fn passes_the_suite() {
        suite::all(&MemoryTopics::default(), "suite").await;
    }

    #[tokio::test]
    async fn groups_with_members_stay() {
        let topics = MemoryTopics::default();
        topics.commit("decree.a.b.gone", false);
        topics.commit("decree.a.b.busy", true);
        let groups = topics.groups("decree.a.b.").await.unwrap();
        assert_eq!(groups.len(), 2);
        topics.delete_groups(&groups).await.unwrap();
        assert_eq!(topics.groups("").await.unwrap(), ["decree.a.b.busy"]);
    }

    #[tokio::test]
    async fn a_topic_that_is_made_again_is_another() {
        let topics = MemoryTopics::default();
        let new = NewTopic { replication: 1, config: BTreeMap::new() };
        let first = topics.create("t", &new).await.unwrap();
        topics.append_command("t");
        assert_eq!(topics.scan("t", &first.id, None).await, Ok(Scan::None { next: 1 }));
        topics.delete("t", None).await.unwrap();
        assert_eq!(topics.topic("t").await, Ok(None));
        assert_ne!(topics.create("t", &new).await.unwrap().id, first.id);
        topics.set_away(true);
        assert_eq!(topics.brokers().await.unwrap_err().reason(), "KafkaUnreachable");
    }
}
