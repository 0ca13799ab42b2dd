//! Step 2: the raw spec becomes an engine that can be provisioned, or all its faults are named together. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use decree_crds::engine::agents::{Agent, Digest, Reads};
use decree_crds::engine::kafka::{self, DeletionPolicy};
use decree_crds::{DecisionEngine, labels};
use decree_wire::document::{Mechanism, Mode, Reads as WireReads, Rule};
use decree_wire::pod::port;
use decree_wire::position::EngineName;
use decree_wire::record::MAX_VALUE;
use decree_wire::settings::{ClassSettings, DigestOf, IdempotentRule};

use super::problem::Problem;
use crate::credentials;
use crate::spec::{Class, Engine, Kafka, Order, Service};

/// What Kafka takes for a topic's name.
const TOPIC_LENGTH: usize = 249;

/// The engine, or why it can't be one. The API server's rules say most of this sooner; an operator that is newer or
/// older than the definition must not trust them.
///
/// # Errors
/// Every fault that was found, in one message.
pub fn validate(object: &DecisionEngine) -> Result<Engine, Problem> {
    let mut faults = Faults::default();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let spec = &object.spec;
    let classes: Vec<Class> = spec.agents.iter().filter_map(|agent| class(agent, &mut faults)).collect();
    faults.unless(!spec.agents.is_empty(), "spec.agents is empty; name one class at least");
    unique(classes.iter().map(|class| &class.name), "spec.agents[].class", &mut faults);
    let services = classes.iter().filter_map(|class| class.service.as_ref()).map(|service| &service.name);
    unique(services, "spec.agents[].replicate.service.name", &mut faults);
    let heartbeat = Duration::from(spec.failure_detection.heartbeat);
    faults.unless(
        !spec.failure_detection.heartbeat.is_negative() && heartbeat >= Duration::from_millis(100),
        "spec.failureDetection.heartbeat must be 100ms or more",
    );
    let engine = Engine {
        order: order(object, &namespace, &name, &mut faults),
        name: EngineName { namespace, name },
        uid: object.metadata.uid.clone().unwrap_or_default(),
        classes,
        heartbeat,
        suspect_after: u32::try_from(spec.failure_detection.suspect_after).unwrap_or(3).max(2),
        max_unavailable: usize::try_from(spec.failure_detection.restart.max_unavailable).unwrap_or(1).max(1),
    };
    faults.judge(engine)
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, fine: bool, fault: impl Into<String>) {
        if !fine {
            self.0.push(fault.into());
        }
    }

    fn judge(self, engine: Engine) -> Result<Engine, Problem> {
        if self.0.is_empty() { Ok(engine) } else { Err(Problem::person("InvalidSpec", self.0.join("; "))) }
    }
}

/// One of both; what stands there where there is none, or too much, is never used.
fn order(object: &DecisionEngine, namespace: &str, name: &str, faults: &mut Faults) -> Order {
    let (kafka, group) = (object.spec.kafka.as_ref(), object.spec.consensus_group.as_ref());
    faults.unless(
        kafka.is_some() || group.is_some(),
        "one of spec.kafka and spec.consensusGroup is needed; set spec.consensusGroup.name, or spec.kafka.bootstrapServers",
    );
    faults.unless(
        kafka.is_none() || group.is_none(),
        "spec.kafka beside spec.consensusGroup is not supported yet; remove one of them",
    );
    match kafka {
        Some(spec) => Order::Kafka(Box::new(topics(spec, namespace, name, faults))),
        None => {
            let group = group.map(|group| group.name.clone()).unwrap_or_default();
            faults.unless(!group.is_empty(), "spec.consensusGroup.name is empty; name a ConsensusGroup");
            Order::Group(group)
        }
    }
}

fn topics(kafka: &kafka::Kafka, namespace: &str, name: &str, faults: &mut Faults) -> Kafka {
    let replication = kafka.replication_factor;
    faults.unless(!kafka.bootstrap_servers.is_empty(), "spec.kafka.bootstrapServers is empty");
    faults.unless(replication >= 1, "spec.kafka.replicationFactor must be 1 or more");
    let topic = kafka.topic.name.clone().unwrap_or_else(|| labels::default_topic(namespace, name));
    let heartbeats = labels::heartbeats_topic(&topic);
    faults.unless(
        heartbeats.len() <= TOPIC_LENGTH && !topic.chars().all(|c| c == '.'),
        "spec.kafka.topic.name is no name that Kafka takes, with .heartbeats behind it; choose a shorter one",
    );
    faults.unless(
        !topic.ends_with(&labels::heartbeats_topic("")),
        "spec.kafka.topic.name ends with .heartbeats, which is how the topics of heartbeats are called; choose another",
    );
    let in_sync = kafka.topic.config.get("min.insync.replicas").map(|value| value.parse::<i32>());
    faults.unless(
        in_sync.is_none_or(|value| value.is_ok_and(|value| (1..=replication).contains(&value))),
        "spec.kafka.topic.config[min.insync.replicas] must be from 1 to replicationFactor, or nothing could be written",
    );
    let largest = kafka.topic.config.get("max.message.bytes").map(|value| value.parse::<usize>());
    faults.unless(
        largest.is_none_or(|value| value.is_ok_and(|value| value <= MAX_VALUE)),
        format!(
            "spec.kafka.topic.config[max.message.bytes] must be {MAX_VALUE} at most: agents hold what they fetch in memory, \
             and take a larger command for void"
        ),
    );
    let (servers, config) = (kafka.bootstrap_servers.clone(), kafka.topic.config.clone());
    let (access, admin) = credentials::accesses(kafka);
    for (access, field) in [(Some(&access), "spec.kafka"), (admin.as_ref(), "spec.kafka.admin")] {
        let open = access
            .is_some_and(|access| access.tls.is_none() && matches!(access.sasl, Some((Mechanism::Plain, _))));
        faults.unless(
            !open,
            format!("{field}.sasl.mechanism PLAIN sends the password itself; set {field}.tls too"),
        );
    }
    let (adopt, delete) = (kafka.topic.adopt, kafka.deletion_policy == DeletionPolicy::Delete);
    faults.unless(
        !(adopt && delete),
        "spec.kafka.deletionPolicy Delete does not go with topic.adopt: a topic that Decree did not make is never deleted; \
         use Retain",
    );
    Kafka { servers, access, admin, replication, topic, heartbeats, config, adopt, delete }
}

fn class(agent: &Agent, faults: &mut Faults) -> Option<Class> {
    let name = &agent.class;
    let app = &agent.app;
    let number = u16::try_from(app.port).unwrap_or(0);
    faults.unless(
        number != 0 && !port::ALL.contains(&number),
        format!("spec.agents[{name}].app.port must be a port, and none of the sidecar's own (7070 to 7073)"),
    );
    faults.unless(
        !app.overdue_after.is_negative(),
        format!("spec.agents[{name}].app.overdueAfter must be positive"),
    );
    let mode = match (&agent.replicate, &agent.apply) {
        (Some(replicate), None) => Mode::Replicate {
            rules: replicate
                .rules
                .iter()
                .map(|rule| Rule { methods: rule.methods.clone(), path_prefix: rule.path_prefix.clone() })
                .collect(),
            reads: match replicate.reads {
                Reads::Local => WireReads::Local,
                Reads::Barrier => WireReads::Barrier,
            },
        },
        (None, Some(apply)) => Mode::Apply { path: apply.path.clone() },
        (Some(_), Some(_)) | (None, None) => {
            faults.unless(false, format!("spec.agents[{name}] must have exactly one of replicate and apply"));
            return None;
        }
    };
    let service = agent.replicate.as_ref().and_then(|replicate| replicate.service.as_ref());
    let service = service.map(|service| Service {
        name: service.name.clone(),
        port: u16::try_from(service.port).unwrap_or(0),
    });
    faults.unless(
        service.as_ref().is_none_or(|service| service.port != 0),
        format!("spec.agents[{name}].replicate.service.port must be a port"),
    );
    Some(Class {
        name: name.clone(),
        port: number,
        health_path: app.health.as_ref().map(|health| health.path.clone()),
        overdue_after: app.overdue_after.into(),
        mode,
        deliver_headers: app.deliver_headers.as_ref().map(|headers| headers.secret.name.clone()),
        service,
        isolate: agent.replicate.as_ref().is_some_and(|replicate| replicate.isolate),
        settings: settings(agent),
    })
}

/// What every replica of the class has to do alike.
fn settings(agent: &Agent) -> ClassSettings {
    let rules = agent.replicate.as_ref().map_or(&[][..], |replicate| &replicate.rules);
    let idempotent_rules = rules.iter().map(|rule| IdempotentRule {
        methods: rule.methods.clone(),
        path_prefix: rule.path_prefix.clone(),
        idempotent: rule.idempotent,
    });
    ClassSettings {
        digest: digest(agent.digest),
        max_attempts: u32::try_from(agent.app.max_attempts).unwrap_or(1),
        idempotent: agent.apply.as_ref().is_some_and(|apply| apply.idempotent),
        idempotent_rules: if rules.iter().any(|rule| rule.idempotent) {
            idempotent_rules.collect()
        } else {
            Vec::new()
        },
    }
}

fn digest(digest: Digest) -> DigestOf {
    match digest {
        Digest::Outcome => DigestOf::Outcome,
        Digest::Status => DigestOf::Status,
        Digest::None => DigestOf::None,
    }
}

fn unique<'a>(names: impl Iterator<Item = &'a String>, field: &str, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for name in names {
        faults.unless(seen.insert(name), format!("{field} {name} is there twice; names must differ"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(spec: &str) -> DecisionEngine {
        let spec: serde_json::Value = serde_yaml::from_str(spec).unwrap();
        let mut object = DecisionEngine::new("policy", serde_json::from_value(spec).unwrap());
        object.metadata.namespace = Some("shop".into());
        object.metadata.uid = Some("engine-uid".into());
        object
    }

    #[test]
    fn the_example_of_the_tests_is_what_this_spec_means() {
        let object = object(
            "
kafka: {bootstrapServers: [kafka-0.kafka:9092]}
agents:
- class: opa
  app: {port: 8181}
  replicate: {rules: [{methods: [PUT], pathPrefix: /v1/}], service: {name: policy}}
",
        );
        assert_eq!(validate(&object).unwrap(), crate::spec::example());
    }

    #[test]
    fn one_thing_orders() {
        let agents = "agents: [{class: a, app: {port: 80}, apply: {path: /}}]";
        let order = |of: &str| validate(&object(&format!("{of}\n{agents}"))).map(|engine| engine.order);
        let group = order("consensusGroup: {name: policy}").unwrap();
        assert_eq!(group, Order::Group("policy".into()));
        let both = "consensusGroup: {name: policy}\nkafka: {bootstrapServers: [a:1]}";
        assert!(order(both).unwrap_err().message.contains("not supported yet"));
        assert!(order("").unwrap_err().message.contains("is needed"));
    }

    #[test]
    fn all_faults_are_named_together() {
        let object = object(
            "
kafka: {bootstrapServers: [a:1], replicationFactor: 1, topic: {config: {min.insync.replicas: '2', max.message.bytes: '16777217'}}}
agents:
- {class: a, app: {port: 7072}, apply: {path: /}}
- {class: a, app: {port: 80}, apply: {path: /}}
- {class: b, app: {port: 80}}
",
        );
        let problem = validate(&object).unwrap_err();
        assert_eq!(problem.reason, "InvalidSpec");
        for part in [
            "min.insync.replicas",
            "max.message.bytes",
            "a].app.port",
            "class a is there twice",
            "exactly one of",
        ] {
            assert!(problem.message.contains(part), "{part} in {}", problem.message);
        }
    }
}
