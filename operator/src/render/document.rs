//! The sidecars' document.

use std::time::Duration;

use decree_wire::document::group::Group;
use decree_wire::document::{Class, ClientCertificate, Document, Kafka, Sasl, Tls, file};

use crate::spec::{self, Engine};

/// The log that the sidecars are to follow.
#[derive(Clone, Debug)]
pub enum Log {
    /// The engine's topic, with its id; without it they wait for it.
    Topic(Option<String>),
    /// The log of a group.
    Group(Box<Group>),
}

/// What the sidecars of an engine are told, in words of `level`.
#[must_use]
pub fn document(engine: &Engine, cluster: &str, log: Log, level: u32) -> Document {
    let Engine { name, uid: _, order: _, classes, heartbeat, suspect_after: _, max_unavailable: _ } = engine;
    let (topic_id, group) = match log {
        Log::Topic(id) => (id, None),
        Log::Group(group) => (None, Some(*group)),
    };
    Document {
        level,
        engine: name.clone(),
        cluster: cluster.to_owned(),
        kafka: engine.kafka().map(|kafka| topics(kafka, topic_id)),
        group,
        classes: classes.iter().map(class).collect(),
        heartbeat_ms: milliseconds(*heartbeat),
    }
}

fn topics(kafka: &spec::Kafka, topic_id: Option<String>) -> Kafka {
    Kafka {
        bootstrap_servers: kafka.servers.clone(),
        topic: kafka.topic.clone(),
        topic_id,
        heartbeats: kafka.heartbeats.clone(),
        tls: kafka.access.tls.as_ref().map(tls),
        sasl: kafka.access.sasl.as_ref().map(|(mechanism, _)| Sasl {
            mechanism: *mechanism,
            username: file::USERNAME.into(),
            password: file::PASSWORD.into(),
        }),
    }
}

fn tls(tls: &spec::Tls) -> Tls {
    let client = tls.client.as_ref().map(|_| ClientCertificate {
        certificate: file::CLIENT_CERTIFICATE.into(),
        key: file::CLIENT_KEY.into(),
    });
    Tls { ca: tls.ca.as_ref().map(|_| file::CA.into()), client }
}

fn class(class: &spec::Class) -> Class {
    let spec::Class {
        name,
        port,
        health_path,
        overdue_after,
        mode,
        deliver_headers,
        service: _,
        isolate: _,
        settings: _,
    } = class;
    Class {
        name: name.clone(),
        port: *port,
        health_path: health_path.clone(),
        overdue_after_ms: milliseconds(*overdue_after),
        mode: mode.clone(),
        deliver_headers: deliver_headers.as_ref().map(|_| file::deliver_headers(name)),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
