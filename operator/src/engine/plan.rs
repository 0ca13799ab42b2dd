//! Step 3: from what is wanted and what is there, what to do. Pure.

pub mod group;
pub mod log;
pub mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use decree_crds::engine::status::{LogStatus, SettingsStatus, TopicStatus};
use decree_crds::labels;
use decree_kafka::Connection;
use decree_wire::PROTOCOL_LEVEL;
use decree_wire::document::Document;
use decree_wire::settings::Settings;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use self::log::Known;
use self::settings::Step;
use super::fetch::Fetched;
use super::ledger::Ledger;
use super::notes::Found;
use super::problem::{Alert, Problem};
use crate::care::outdated;
use crate::credentials::Data;
use crate::detector::heartbeats::{Followed, Source};
use crate::group::call::Agent;
use crate::render;
use crate::render::document::Log;
use crate::spec::{Engine, Kafka, Order};
use crate::topics::{NewTopic, Topic};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write the Secret with the document.
    ApplySecret(Box<Secret>),
    /// Write a Service.
    ApplyService(Box<Service>),
    /// Delete a Service that the spec no longer has.
    DeleteService {
        /// Its name.
        name: String,
        /// This one and no other of that name.
        uid: String,
    },
    /// Make the log.
    CreateLog(NewTopic),
    /// Make another topic.
    CreateTopic(String, NewTopic),
    /// Put back a topic's configuration.
    SetConfig(String, BTreeMap<String, String>),
    /// Begin the log, or change what governs it from here on.
    AppendSettings(Box<Settings>),
    /// Read the log for settings entries.
    ReadSettings {
        /// Of this incarnation.
        id: String,
        /// From here.
        from: u64,
    },
    /// Read a group's log for the settings entry that it begins with.
    FindSettings {
        /// Of this incarnation.
        id: String,
        /// From here; none: from its start.
        from: Option<u64>,
    },
}

/// What to do, in order, and what is known already.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What needs no Kafka first.
    pub actions: Vec<Action>,
    /// Why the engine is not ready.
    pub problems: Vec<Problem>,
    /// What a person should know all the same.
    pub alerts: Vec<Alert>,
    /// The log that is this engine's, as the status shall remember it.
    pub topic: Option<TopicStatus>,
    /// The group's log, likewise.
    pub log: Option<LogStatus>,
    /// Who leads the group.
    pub leader: Option<Agent>,
    /// Which heartbeats to listen to.
    pub follow: Option<Followed>,
    /// The operator's way to the brokers.
    pub connection: Option<Connection>,
    /// Kafka has not been asked, or has not said enough.
    pub waiting: Option<&'static str>,
}

/// What to do for an engine.
#[must_use]
pub fn plan(engine: &Engine, fetched: &Fetched) -> Plan {
    let mut plan = Plan::default();
    let mut order = Vec::new();
    let source = match &engine.order {
        Order::Kafka(kafka) => of_kafka(engine, kafka, fetched, &mut plan, &mut order),
        Order::Group(name) => {
            of_group(engine, name, fetched, &mut plan, &mut order);
            Some(Source::Leader(plan.leader.clone()))
        }
    };
    credentials(engine, fetched, &mut plan);
    secret(engine, fetched, &mut plan);
    services(engine, fetched, &mut plan);
    plan.actions.append(&mut order);
    plan.follow =
        source.map(|source| Followed { source, interval: engine.heartbeat, misses: engine.suspect_after });
    plan
}

/// What Kafka has to do; where its heartbeats are heard.
fn of_kafka(
    engine: &Engine,
    kafka: &Kafka,
    fetched: &Fetched,
    plan: &mut Plan,
    actions: &mut Vec<Action>,
) -> Option<Source> {
    plan.topic = fetched.object.status.as_ref().and_then(|status| status.topic.clone());
    plan.connection = fetched.credentials.operator.as_ref().and_then(|way| way.as_ref().ok().cloned());
    match &fetched.topics {
        None => plan.waiting = Some("Kafka is being asked for the topics"),
        Some(Err(error)) => plan.problems.push(Problem::kafka(error, &kafka.servers)),
        Some(Ok(found)) => topics((engine, kafka), fetched, found, plan, actions),
    }
    let heard_before = matches!(&fetched.topics, Some(Ok(Found { heartbeats: Some(_), .. })));
    let connection = plan.connection.clone().filter(|_| plan.topic.is_some() || heard_before);
    connection.map(|connection| Source::Topic { connection, topic: kafka.heartbeats.clone() })
}

/// What the group's leader has to do.
fn of_group(engine: &Engine, name: &str, fetched: &Fetched, plan: &mut Plan, actions: &mut Vec<Action>) {
    plan.log = fetched.object.status.as_ref().and_then(|status| status.log.clone());
    let none = Ledger::default();
    let ledger = fetched.group.as_ref().unwrap_or(&none);
    let verdict = group::judge(engine, &fetched.cluster, name, ledger);
    if let group::Verdict::Refused(problem) = verdict {
        plan.problems.push(problem);
        return;
    }
    plan.leader.clone_from(&ledger.leader);
    let Some(begun) = &ledger.begun else { return };
    let id = begun.incarnation.0.clone();
    // Of another incarnation nothing is remembered.
    let settings = plan.log.take().filter(|log| log.incarnation == id).and_then(|log| log.settings);
    let settings = match verdict {
        group::Verdict::Settled(position, first) => {
            in_force(engine, fetched, (position, &first), (&id, settings), plan, actions)
        }
        group::Verdict::Unsettled => {
            actions.push(Action::AppendSettings(Box::new(engine.settings(&fetched.cluster))));
            settings
        }
        group::Verdict::Reading(from) => {
            actions.push(Action::FindSettings { id: id.clone(), from });
            settings
        }
        group::Verdict::Unled | group::Verdict::Refused(_) => settings,
    };
    plan.log = Some(LogStatus { incarnation: id, settings });
}

fn topics(
    (engine, of): (&Engine, &Kafka),
    fetched: &Fetched,
    found: &Found,
    plan: &mut Plan,
    kafka: &mut Vec<Action>,
) {
    let wanted = render::topics::log(of);
    let known = Known {
        remembered: plan.topic.as_ref(),
        found: found.log.as_ref(),
        start: found.start,
        accepted: fetched.object.annotations().get(labels::ACCEPT_NEW_LOG).map(String::as_str),
    };
    let verdict = log::judge(&engine.name, of, &fetched.cluster, &known);
    let replication = usize::try_from(of.replication).unwrap_or(usize::MAX);
    let missing = matches!(verdict, log::Verdict::Absent) || found.heartbeats.is_none();
    if missing && found.brokers < replication {
        plan.problems.push(Problem::time(
            "InsufficientBrokers",
            format!(
                "spec.kafka.replicationFactor is {replication} and the cluster has {} brokers; add brokers, or make the \
                 engine anew with a smaller factor",
                found.brokers
            ),
        ));
        return;
    }
    let usable = matches!(verdict, log::Verdict::Absent | log::Verdict::Ours { .. });
    match &found.heartbeats {
        _ if !usable => {}
        None => kafka.push(Action::CreateTopic(of.heartbeats.clone(), render::topics::heartbeats(of))),
        Some(topic) => {
            let wanted = render::topics::heartbeats(of);
            let drift = render::topics::drift(&wanted.config, &topic.config);
            // Made by this engine it was made so: what differs before there is a log of ours is somebody else's.
            let ours =
                plan.topic.is_some() || matches!(verdict, log::Verdict::Ours { settings: Some(_), .. });
            if topic.partitions != 1 || (!ours && !drift.is_empty()) {
                plan.problems.push(Problem::person(
                    "TopicConflict",
                    format!(
                        "topic {} exists and is not of this engine, which would keep its heartbeats there and drop what \
                         is older than an hour; delete it, or make the engine anew with another spec.kafka.topic.name",
                        of.heartbeats
                    ),
                ));
                return;
            }
            keep(&of.heartbeats, &wanted, topic, kafka);
        }
    }
    match verdict {
        log::Verdict::Absent => kafka.push(Action::CreateLog(wanted)),
        log::Verdict::Reading(_) => plan.waiting = Some("the topic is being read for its settings entry"),
        log::Verdict::Refused(problem) => plan.problems.push(problem),
        log::Verdict::Ours { topic, settings } => {
            plan.topic = Some(topic);
            if let Some((log, _)) = &found.log {
                keep(&of.topic, &wanted, log, kafka);
                plan.alerts.extend(replication_drift(of, log));
            }
            match settings {
                None => kafka.push(Action::AppendSettings(Box::new(engine.settings(&fetched.cluster)))),
                Some((position, first)) => {
                    let Some(TopicStatus { id, settings, .. }) = plan.topic.clone() else { return };
                    let known = (id.as_str(), settings);
                    let settings = in_force(engine, fetched, (position, &first), known, plan, kafka);
                    plan.topic.iter_mut().for_each(|topic| topic.settings.clone_from(&settings));
                }
            }
        }
    }
}

/// What the log's settings are, and what they should be; gives what is to be remembered of them.
fn in_force(
    engine: &Engine,
    fetched: &Fetched,
    first: (u64, &Settings),
    (id, remembered): (&str, Option<SettingsStatus>),
    plan: &mut Plan,
    actions: &mut Vec<Action>,
) -> Option<SettingsStatus> {
    let wanted = engine.settings(&fetched.cluster);
    match settings::step(&wanted, first, remembered.as_ref(), fetched.read.as_ref()) {
        Step::Settled => {}
        Step::Remember(status) => return Some(status),
        Step::Read(from) => actions.push(Action::ReadSettings { id: id.to_owned(), from }),
        Step::Append if level(fetched) < PROTOCOL_LEVEL => plan.alerts.push(Alert {
            reason: "SettingsPending",
            message: "the spec says something else than the log's settings entry in force, which stays in force until every \
                      agent's sidecar understands a new one; restart the pods that the condition SidecarsOutdated names"
                .to_owned(),
        }),
        Step::Append => actions.push(Action::AppendSettings(Box::new(wanted))),
        Step::Refused(problem) => plan.problems.push(problem),
    }
    remembered
}

/// What every agent understands.
fn level(fetched: &Fetched) -> u32 {
    let written = fetched.secret.as_ref().and_then(render::secret::level);
    outdated::level(&fetched.view, &fetched.pods, written)
}

fn keep(name: &str, wanted: &NewTopic, topic: &Topic, kafka: &mut Vec<Action>) {
    let drift = render::topics::drift(&wanted.config, &topic.config);
    if !drift.is_empty() {
        kafka.push(Action::SetConfig(name.to_owned(), drift));
    }
}

fn replication_drift(kafka: &Kafka, log: &Topic) -> Option<Alert> {
    (log.replication != kafka.replication).then(|| Alert {
        reason: "ReplicationDrift",
        message: format!(
            "spec.kafka.replicationFactor is {} and topic {} has {} copies; Decree does not move them: use Kafka's \
             reassignment tool, or set the field to what the topic has",
            kafka.replication, kafka.topic, log.replication
        ),
    })
}

/// What is wrong with the agents' credentials; the operator's own were told with what Kafka answered.
fn credentials(engine: &Engine, fetched: &Fetched, plan: &mut Plan) {
    let told =
        |plan: &Plan, problem: &Problem| plan.problems.iter().any(|each| each.message == problem.message);
    for problem in &fetched.credentials.problems {
        if !told(plan, problem) {
            plan.problems.push(problem.clone());
        }
    }
    if engine.kafka().is_some_and(|kafka| kafka.admin.is_none() && kafka.access.has_name()) {
        plan.alerts.push(Alert {
            reason: "AdminCredentialsShared",
            message: "spec.kafka.admin is not set, so the operator makes topics with the agents' credentials, and every \
                      pod of the engine could delete them; give the operator credentials of its own there"
                .into(),
        });
    }
    if let Some(why) = &fetched.deaf {
        plan.alerts.push(Alert { reason: "HeartbeatsUnheard", message: why.clone() });
    }
}

fn secret(engine: &Engine, fetched: &Fetched, plan: &mut Plan) {
    let log = match (&engine.order, &fetched.group) {
        (Order::Group(name), Some(found)) => Log::Group(Box::new(found.document(name))),
        _ => Log::Topic(plan.topic.as_ref().map(|topic| topic.id.clone())),
    };
    let document = render::document::document(engine, &fetched.cluster, log, level(fetched));
    let mut desired = match render::secret::secret(engine, &document, &files(&document, fetched)) {
        Ok(desired) => desired,
        Err(error) => {
            plan.problems
                .push(Problem::person("InvalidSpec", format!("write the sidecars' document: {error}")));
            return;
        }
    };
    let before = fetched.secret.as_ref().and_then(|secret| secret.metadata.owner_references.as_deref());
    let owners = desired.metadata.owner_references.get_or_insert_default();
    owners.extend(keepers(&fetched.pods));
    // As they stand: the API server keeps their order.
    owners.sort_by_key(|owner| {
        before.and_then(|before| before.iter().position(|old| old.uid == owner.uid)).unwrap_or(usize::MAX)
    });
    match &fetched.secret {
        Some(existing) if !render::is_of(&existing.metadata, &engine.name.name) => {
            plan.problems.push(Problem::person("SecretConflict", conflict("Secret", &existing.name_any())));
        }
        Some(existing) if render::is_as(&desired, existing) => {}
        Some(_) | None => plan.actions.push(Action::ApplySecret(Box::new(desired))),
    }
}

/// What lies beside the document: what cannot be had now stays as it was.
fn files(document: &Document, fetched: &Fetched) -> Data {
    let written = fetched.secret.as_ref().and_then(|secret| secret.data.as_ref());
    let file = |name: &String| {
        let kept = || written?.get(name).map(|bytes| bytes.0.clone());
        Some((name.clone(), fetched.credentials.files.get(name).cloned().or_else(kept)?))
    };
    document.files().filter_map(file).collect()
}

/// Who else owns the Secret: it stays while one of them is there, so that agents of an engine that was deleted can start
/// again. Not each pod, or every pod would be a write.
fn keepers(pods: &[Arc<Pod>]) -> Vec<OwnerReference> {
    let mut owners = BTreeMap::new();
    for pod in agents(pods) {
        let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true)).cloned();
        let owner = controller.or_else(|| pod.owner_ref(&())).map(|owner| OwnerReference {
            controller: None,
            block_owner_deletion: None,
            ..owner
        });
        owners.extend(owner.map(|owner| (owner.uid.clone(), owner)));
    }
    owners.into_values().collect()
}

fn services(engine: &Engine, fetched: &Fetched, plan: &mut Plan) {
    let mut wanted = Vec::new();
    for desired in engine.classes.iter().filter_map(|class| render::service::service(engine, class)) {
        let name = desired.name_any();
        match fetched.services.iter().find(|service| service.name_any() == name) {
            Some(existing) if !render::is_of(&existing.metadata, &engine.name.name) => {
                plan.problems.push(Problem::person("ServiceConflict", conflict("Service", &name)));
            }
            Some(existing) if render::is_as(&desired, existing) => {}
            Some(_) | None => plan.actions.push(Action::ApplyService(Box::new(desired))),
        }
        wanted.push(name);
    }
    for service in &fetched.services {
        let name = service.name_any();
        if render::is_of(&service.metadata, &engine.name.name) && !wanted.contains(&name) {
            plan.actions.push(Action::DeleteService { name, uid: service.uid().unwrap_or_default() });
        }
    }
}

fn conflict(kind: &str, name: &str) -> String {
    let field = match kind {
        "Service" => "or choose another replicate.service.name",
        _ => "or give the engine another name",
    };
    format!("{kind} {name} exists and is not this engine's; delete it, {field}; it is left as it is")
}

/// Pods that count as agents: not ending, not ended.
pub fn agents(pods: &[Arc<Pod>]) -> impl Iterator<Item = &Pod> {
    pods.iter().map(AsRef::as_ref).filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
    })
}

#[cfg(test)]
mod tests {
    use decree_crds::DecisionEngine;
    use serde_json::json;

    use super::*;
    use crate::detector::suspect::View;
    use crate::engine::notes::Read;
    use crate::spec::{example, example_kafka};
    use crate::topics::{Error, Scan};

    pub(super) fn fetched(topics: Option<Result<Found, Error>>) -> Fetched {
        let object = json!({
            "apiVersion": "decree.dev/v1alpha1", "kind": "DecisionEngine",
            "metadata": {"name": "policy", "namespace": "shop", "uid": "engine-uid"},
            "spec": {"kafka": {"bootstrapServers": ["kafka-0.kafka:9092"]}, "agents": []},
        });
        let object: DecisionEngine = serde_json::from_value(object).unwrap();
        let (pods, services, view) = (vec![], vec![], View::default());
        let credentials = crate::credentials::of(&object.spec, &[].into());
        let (secret, cluster, deaf, group) = (None, "cluster".into(), None, None);
        let read = Some(Read { end: true, next: 1, ..Read::default() });
        Fetched { object, cluster, pods, secret, services, credentials, topics, group, view, deaf, read }
    }

    fn provisioned() -> Found {
        let kafka = example_kafka();
        let topic = |id: &str, new: NewTopic| Topic {
            id: id.into(),
            partitions: 1,
            replication: new.replication,
            config: new.config,
        };
        let log = topic("one", render::topics::log(&kafka));
        let settings = Scan::Settings { position: 0, settings: Box::new(example().settings("cluster")) };
        let heartbeats = Some(topic("two", render::topics::heartbeats(&kafka)));
        Found { brokers: 3, start: 0, log: Some((log, settings)), heartbeats }
    }

    /// One word an action.
    pub(super) fn deeds(plan: &Plan) -> Vec<&'static str> {
        let word = |action: &Action| match action {
            Action::ApplySecret(_) => "secret",
            Action::ApplyService(_) => "service",
            Action::DeleteService { .. } => "delete service",
            Action::CreateLog(_) => "log",
            Action::CreateTopic(..) => "topic",
            Action::SetConfig(..) => "config",
            Action::AppendSettings(_) => "settings",
            Action::ReadSettings { .. } => "read",
            Action::FindSettings { .. } => "find",
        };
        plan.actions.iter().map(word).collect()
    }

    /// What the API server holds after the plan.
    fn carried_out(plan: &Plan, mut fetched: Fetched) -> Fetched {
        for action in &plan.actions {
            match action {
                Action::ApplySecret(secret) => fetched.secret = Some(secret.as_ref().clone()),
                Action::ApplyService(service) => fetched.services.push(Arc::new(service.as_ref().clone())),
                _ => {}
            }
        }
        fetched
    }

    #[test]
    fn what_needs_no_kafka_comes_first_and_happens_without_it() {
        let first = plan(&example(), &fetched(None));
        assert_eq!(deeds(&first), ["secret", "service"]);
        assert!(first.waiting.is_some() && first.problems.is_empty());
        let away = plan(&example(), &fetched(Some(Err(Error::Unreachable("x".into())))));
        assert_eq!(deeds(&away), ["secret", "service"]);
        assert_eq!(away.problems[0].reason, "KafkaUnreachable");
        assert!(away.problems[0].message.contains("kafka-0.kafka:9092"));
    }

    #[test]
    fn a_log_is_made_begun_and_then_left_alone() {
        let none = Found { brokers: 3, start: 0, log: None, heartbeats: None };
        let state = fetched(Some(Ok(none)));
        let made = plan(&example(), &state);
        assert_eq!(deeds(&made), ["secret", "service", "topic", "log"]);

        let mut found = provisioned();
        found.log.as_mut().unwrap().1 = Scan::None { next: 0 };
        let state = Fetched { topics: Some(Ok(found)), ..carried_out(&made, state) };
        let begun = plan(&example(), &state);
        assert_eq!(deeds(&begun), ["secret", "settings"], "the document now has the topic's id");

        let state = Fetched { topics: Some(Ok(provisioned())), ..carried_out(&begun, state) };
        let settled = plan(&example(), &state);
        assert_eq!(settled.actions, []);
        assert!(settled.problems.is_empty() && settled.alerts.is_empty() && settled.waiting.is_none());
        let followed = settled.follow.unwrap().source;
        assert!(matches!(followed, Source::Topic { topic, .. } if topic == "decree.shop.policy.heartbeats"));
    }

    #[test]
    fn too_few_brokers_make_nothing_and_leave_what_is_there() {
        let none = Found { brokers: 1, start: 0, log: None, heartbeats: None };
        let few = plan(&example(), &fetched(Some(Ok(none))));
        assert_eq!(few.problems[0].reason, "InsufficientBrokers");
        assert_eq!(deeds(&few), ["secret", "service"]);
        let one_is_down = Found { brokers: 2, ..provisioned() };
        assert!(plan(&example(), &fetched(Some(Ok(one_is_down)))).problems.is_empty());
    }

    #[test]
    fn next_to_somebody_elses_topic_nothing_is_made() {
        let mut found = Found { heartbeats: None, ..provisioned() };
        found.log.as_mut().unwrap().0.partitions = 2;
        let refused = plan(&example(), &fetched(Some(Ok(found))));
        assert_eq!(refused.problems[0].reason, "TopicConflict");
        assert_eq!(deeds(&refused), ["secret", "service"]);
    }

    #[test]
    fn somebody_elses_topic_of_heartbeats_is_not_touched() {
        let mut heartbeats = provisioned().heartbeats;
        heartbeats.as_mut().unwrap().config.insert("retention.ms".into(), "-1".into());
        let foreign = Found { brokers: 3, start: 0, log: None, heartbeats: heartbeats.clone() };
        let refused = plan(&example(), &fetched(Some(Ok(foreign))));
        assert_eq!(refused.problems[0].reason, "TopicConflict");
        assert_eq!(deeds(&refused), ["secret", "service"]);
        let drifted = Found { heartbeats, ..provisioned() };
        let ours = plan(&example(), &fetched(Some(Ok(drifted))));
        assert_eq!(deeds(&ours), ["secret", "service", "config"], "beside a log of ours it is ours");
    }

    #[test]
    fn drift_is_put_back_and_copies_are_reported() {
        let mut found = provisioned();
        let log = &mut found.log.as_mut().unwrap().0;
        log.config.insert("retention.ms".into(), "1000".into());
        log.replication = 1;
        let drifted = plan(&example(), &fetched(Some(Ok(found))));
        assert_eq!(deeds(&drifted), ["secret", "service", "config"]);
        assert_eq!(drifted.alerts[0].reason, "ReplicationDrift");
    }

    #[test]
    fn what_is_somebody_elses_is_left_and_what_is_ours_and_unwanted_goes() {
        let service = |name: &str, labels: serde_json::Value| {
            let service =
                json!({"metadata": {"name": name, "namespace": "shop", "uid": name, "labels": labels}});
            Arc::new(serde_json::from_value::<Service>(service).unwrap())
        };
        let ours = json!({"app.kubernetes.io/managed-by": "decree", "decree.dev/engine": "policy"});
        let services = vec![service("policy", json!({})), service("old", ours)];
        let secret = serde_json::from_value(json!({"metadata": {"name": "decree-policy"}})).unwrap();
        let state = Fetched { services, secret: Some(secret), ..fetched(None) };
        let conflicted = plan(&example(), &state);
        let reasons: Vec<_> = conflicted.problems.iter().map(|problem| problem.reason).collect();
        assert_eq!(reasons, ["SecretConflict", "ServiceConflict"]);
        assert_eq!(conflicted.actions, [Action::DeleteService { name: "old".into(), uid: "old".into() }]);
    }
}
