//! Three Kafka brokers that are controllers too, with every kind of listener, and Kafka's own tools.

mod tools;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::cluster::{BROKERS, Bed, broker_address, broker_name};
use crate::log_file;
use crate::pki::{Authority, Subject};
use crate::process::{self, Program};

/// Ports of the listeners. Those with SASL know SCRAM-SHA-512 and PLAIN.
pub const PLAINTEXT: u16 = 9092;
pub const TLS: u16 = 9093;
pub const MUTUAL_TLS: u16 = 9094;
pub const SASL: u16 = 9095;
pub const SASL_TLS: u16 = 9096;

/// Users of the SASL listeners, with passwords: the first may do everything, the second what lists of access allow.
pub const ADMIN: (&str, &str) = ("admin", "admin-secret");
pub const USER: (&str, &str) = ("decree", "decree-secret");

const CLUSTER_ID: &str = "DecreeBedKafka00000001";
const START_LIMIT: Duration = Duration::from_secs(90);

/// Prepares the brokers' certificates, settings and disks.
pub(crate) fn create(bed: &Bed) -> Result<()> {
    let authority = Authority::create(bed, "kafka/pki")?;
    let client = Subject { name: USER.0, ..Subject::default() };
    authority.sign("client", &client)?;
    for broker in 1..=BROKERS {
        let name = format!("kafka-{broker}.kafka");
        let domains = ["", ".svc", ".svc.cluster.local"].map(|domain| format!("{name}{domain}"));
        let hosts = domains.into_iter().chain([broker_address(broker)]).collect();
        authority.sign(&broker_name(broker), &Subject { name: &name, hosts, ..Subject::default() })?;
        let file = settings_file(bed, broker);
        fs::write(&file, settings(bed, broker)).with_context(|| format!("write {}", file.display()))?;
    }
    format_disks(bed)
}

/// All names that a broker can be asked for: this machine's and the brokers'.
fn write_hosts(bed: &Bed) -> Result<PathBuf> {
    let file = bed.dir().join("kafka/hosts");
    let own = fs::read_to_string("/proc/sys/kernel/hostname").context("read the machine's name")?;
    let brokers = (1..=BROKERS).map(|broker| format!("{} kafka-{broker}.kafka\n", broker_address(broker)));
    let text = format!("127.0.0.1 localhost {own}{}", brokers.collect::<String>());
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

impl Bed {
    /// Another certificate for the listeners with TLS, as `client.crt` and `client.key` are but with this file name.
    pub fn sign_kafka_client(&self, file: &str) -> Result<()> {
        Authority::open(self, "kafka/pki")?.sign(file, &Subject { name: USER.0, ..Subject::default() })
    }
}

/// Formats the first broker's disk; the others' differ from it in two lines, and a format costs a JVM each.
fn format_disks(bed: &Bed) -> Result<()> {
    let scram = |(name, password): (&str, &str)| format!("SCRAM-SHA-512=[name={name},password={password}]");
    let config = settings_file(bed, 1).display().to_string();
    let users = [ADMIN, USER].into_iter().flat_map(|user| ["--add-scram".to_owned(), scram(user)]);
    Program::new("kafka-format", broker_name(1), "java")
        .args(tools::java(bed))
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config", &config])
        .args(users)
        .run(bed)?;

    let first = disk(bed, 1);
    let properties = fs::read_to_string(first.join("meta.properties")).context("read a formatted disk")?;
    for broker in 2..=BROKERS {
        let lines = properties.lines().map(|line| match line.split_once('=') {
            Some(("node.id", _)) => format!("node.id={broker}\n"),
            Some(("directory.id", id)) => format!("directory.id={}\n", sibling_id(id, broker)),
            _ => format!("{line}\n"),
        });
        let disk = disk(bed, broker);
        fs::create_dir_all(&disk)?;
        fs::write(disk.join("meta.properties"), lines.collect::<String>())?;
        fs::copy(first.join("bootstrap.checkpoint"), disk.join("bootstrap.checkpoint"))?;
    }
    Ok(())
}

/// Another id of a directory: its first character changed, in an alphabet of 64.
fn sibling_id(id: &str, broker: usize) -> String {
    let replacement =
        ["Q", "R", "S", "T", "U"].into_iter().filter(|letter| !id.starts_with(letter)).nth(broker % 4);
    format!("{}{}", replacement.unwrap_or("V"), id.get(1..).unwrap_or_default())
}

fn disk(bed: &Bed, broker: usize) -> PathBuf {
    bed.dir().join("kafka").join(broker_name(broker))
}

fn settings_file(bed: &Bed, broker: usize) -> PathBuf {
    bed.dir().join("kafka").join(format!("{}.properties", broker_name(broker)))
}

fn settings(bed: &Bed, broker: usize) -> String {
    let address = broker_address(broker);
    let voters: Vec<String> =
        (1..=BROKERS).map(|voter| format!("{voter}@{}:9090", broker_address(voter))).collect();
    let clients = format!(
        "PLAINTEXT://{address}:{PLAINTEXT},TLS://{address}:{TLS},MUTUAL://{address}:{MUTUAL_TLS},\
         SASL://{address}:{SASL},SASLTLS://{address}:{SASL_TLS}"
    );
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\" user_{}=\"{}\";",
        ADMIN.0, ADMIN.1, USER.0, USER.1
    );
    let sasl: String = ["sasl", "sasltls"]
        .map(|listener| {
            format!(
                "listener.name.{listener}.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.{listener}.plain.sasl.jaas.config={plain}
listener.name.{listener}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"
            )
        })
        .concat();
    format!(
        "process.roles=broker,controller
node.id={broker}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=CONTROLLER://{address}:9090,{clients}
advertised.listeners={clients}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASL:SASL_PLAINTEXT,SASLTLS:SASL_SSL
inter.broker.listener.name=PLAINTEXT
{sasl}ssl.keystore.type=PEM
ssl.keystore.location={key}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
# Nobody in particular is the brokers themselves, on the plain listener.
super.users=User:ANONYMOUS;User:{admin}

log.dirs={disk}
auto.create.topics.enable=false
default.replication.factor=3
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=3
offsets.topic.replication.factor=3
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
share.coordinator.state.topic.num.partitions=3
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
# Small: three brokers share two cores and a little memory.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
",
        voters = voters.join(","),
        key = bed.dir().join(format!("kafka/pki/{}.pem", broker_name(broker))).display(),
        ca = bed.dir().join("kafka/pki/ca.crt").display(),
        admin = ADMIN.0,
        disk = disk(bed, broker).display(),
    )
}

fn process_name(broker: usize) -> String {
    format!("kafka-{broker}")
}

/// Starts brokers and waits until each of them takes part.
pub(crate) fn start(bed: &Bed, brokers: impl IntoIterator<Item = usize>) -> Result<()> {
    let started: Result<Vec<_>> = brokers.into_iter().map(|broker| start_one(bed, broker)).collect();
    for (name, before) in started? {
        let log = bed.logs().join(format!("{name}.log"));
        process::wait_ready(bed, &[&name], START_LIMIT, || {
            let said = log_file::read_from(&log, before);
            ensure!(said.contains("Kafka Server started"), "it has not joined the others");
            Ok(())
        })?;
    }
    Ok(())
}

/// Starts a broker; gives its name and how long its log was before.
fn start_one(bed: &Bed, broker: usize) -> Result<(String, usize)> {
    let name = process_name(broker);
    let before = log_file::length(&bed.logs().join(format!("{name}.log")));
    if process::is_alive(bed, &name) {
        return Ok((name, 0));
    }
    Program::new(&name, broker_name(broker), "java")
        // With SASL a broker looks its own name up for each connection, in the thread that serves all of them; no
        // name server can be reached from here, and to learn that can take five seconds each time.
        .arg(format!("-Djdk.net.hosts.file={}", write_hosts(bed)?.display()))
        .args(["-Xms96m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:-UsePerfData"])
        .args(["-cp".to_owned(), format!("{}/*", bed.parts.kafka.display()), "kafka.Kafka".to_owned()])
        .arg(settings_file(bed, broker).display().to_string())
        .start(bed)?;
    Ok((name, before))
}

/// Ends a broker: with SIGTERM in its own order, with SIGKILL at once.
pub(crate) fn stop(bed: &Bed, broker: usize, signal: Signal) -> Result<()> {
    ensure!((1..=BROKERS).contains(&broker), "there is no broker {broker}, only 1 to {BROKERS}");
    process::stop(bed, &process_name(broker), signal, Duration::from_secs(60))
}
