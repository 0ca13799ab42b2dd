//! A validated engine: what every step after `validate` reads instead of the raw spec.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_wire::document::{Mechanism, Mode};
use decree_wire::position::EngineName;
use decree_wire::settings::{ClassSettings, Dedup, Settings};

/// An engine that can be provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Namespace and name.
    pub name: EngineName,
    /// `metadata.uid`: what owns the engine's objects.
    pub uid: String,
    /// What makes its order.
    pub order: Order,
    /// At least one, names unique.
    pub classes: Vec<Class>,
    /// How often each sidecar says where it is.
    pub heartbeat: Duration,
    /// So many missed in a row, and an agent is suspect.
    pub suspect_after: u32,
    /// So many agents of a class may be away at once when one is evicted.
    pub max_unavailable: usize,
}

/// What makes an engine's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The broker of one partition.
    Kafka(Box<Kafka>),
    /// A quorum of the agents: the `ConsensusGroup` of this name.
    Group(String),
}

/// The engine's topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// `host:port`, at least one.
    pub servers: Vec<String>,
    /// How the agents come in.
    pub access: Access,
    /// How the operator comes in, where that is another way.
    pub admin: Option<Access>,
    /// Copies of each topic.
    pub replication: i32,
    /// The log's name.
    pub topic: String,
    /// The heartbeats topic's name.
    pub heartbeats: String,
    /// The user's own settings of the log.
    pub config: BTreeMap<String, String>,
    /// A topic that exists and is no engine's may become the log.
    pub adopt: bool,
    /// The topics that were made go with the engine.
    pub delete: bool,
}

/// Where the credentials for Kafka are: names of Secrets, nothing secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Encryption.
    pub tls: Option<Tls>,
    /// The mechanism, and the Secret with name and password.
    pub sasl: Option<(Mechanism, String)>,
}

/// Where certificates are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Secret and key of the authorities that are trusted.
    pub ca: Option<(String, String)>,
    /// The Secret of our own certificate.
    pub client: Option<String>,
}

impl Access {
    /// Whether it says who comes in.
    #[must_use]
    pub fn has_name(&self) -> bool {
        self.sasl.is_some() || self.tls.as_ref().is_some_and(|tls| tls.client.is_some())
    }
}

/// An agent class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// The application's port.
    pub port: u16,
    /// The path that says that the application is well.
    pub health_path: Option<String>,
    /// When an agent without an answer is overdue.
    pub overdue_after: Duration,
    /// How commands reach the application.
    pub mode: Mode,
    /// The Secret with the headers that deliveries get.
    pub deliver_headers: Option<String>,
    /// The Service that leads to the class' sidecars.
    pub service: Option<Service>,
    /// Whether the application's own port is closed to everything outside of the pod.
    pub isolate: bool,
    /// What goes into the log's settings entry.
    pub settings: ClassSettings,
}

/// The Service of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: u16,
}

impl Engine {
    /// Its topics; none where a group orders.
    #[must_use]
    pub fn kafka(&self) -> Option<&Kafka> {
        match &self.order {
            Order::Kafka(kafka) => Some(kafka),
            Order::Group(_) => None,
        }
    }

    /// The settings entry that a new log of this engine begins with.
    #[must_use]
    pub fn settings(&self, cluster: &str) -> Settings {
        Settings {
            engine: self.name.clone(),
            cluster: cluster.to_owned(),
            dedup: Dedup::default(),
            classes: self.classes.iter().map(|class| (class.name.clone(), class.settings.clone())).collect(),
        }
    }
}

/// Topics for tests.
#[cfg(test)]
#[must_use]
pub(crate) fn example_kafka() -> Kafka {
    Kafka {
        servers: vec!["kafka-0.kafka:9092".into()],
        access: Access::default(),
        admin: None,
        replication: 3,
        topic: "decree.shop.policy".into(),
        heartbeats: "decree.shop.policy.heartbeats".into(),
        config: BTreeMap::new(),
        adopt: false,
        delete: false,
    }
}

/// An engine for tests.
#[cfg(test)]
#[must_use]
pub(crate) fn example() -> Engine {
    use decree_wire::document::{Reads, Rule};

    Engine {
        name: EngineName { namespace: "shop".into(), name: "policy".into() },
        uid: "engine-uid".into(),
        order: Order::Kafka(Box::new(example_kafka())),
        classes: vec![Class {
            name: "opa".into(),
            port: 8181,
            health_path: None,
            overdue_after: Duration::from_secs(30),
            mode: Mode::Replicate {
                rules: vec![Rule { methods: vec!["PUT".into()], path_prefix: "/v1/".into() }],
                reads: Reads::Local,
            },
            deliver_headers: None,
            service: Some(Service { name: "policy".into(), port: 80 }),
            isolate: false,
            settings: ClassSettings::default(),
        }],
        heartbeat: Duration::from_secs(1),
        suspect_after: 3,
        max_unavailable: 1,
    }
}
