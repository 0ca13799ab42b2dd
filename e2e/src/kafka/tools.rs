//! Kafka's own command-line tools, run from its jars.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Bed;
use crate::finish::finish;

/// A tool starts within seconds, also on a busy machine, and its own requests end after a minute.
const LIMIT: Duration = Duration::from_secs(180);

/// Tools by the names of their scripts; what those run; whether they take `--bootstrap-server`.
const TOOLS: [(&str, &str, bool); 13] = [
    ("kafka-acls", "org.apache.kafka.tools.AclCommand", true),
    ("kafka-configs", "kafka.admin.ConfigCommand", true),
    ("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer", true),
    ("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer", true),
    ("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", true),
    ("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand", true),
    ("kafka-dump-log", "org.apache.kafka.tools.DumpLogSegments", false),
    ("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell", true),
    ("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand", true),
    ("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand", true),
    ("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", true),
    ("kafka-topics", "org.apache.kafka.tools.TopicCommand", true),
    ("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand", true),
];

impl Bed {
    /// Runs a tool of Kafka's to its end and gives what it printed. The brokers' plain listeners are its servers
    /// unless the arguments name others.
    pub fn kafka_tool(&self, tool: &str, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let what = format!("{tool} {}", arguments.join(" "));
        let output =
            finish(&what, &mut self.kafka_command(tool, arguments)?, input.unwrap_or_default(), LIMIT)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "{what} ended with {}: {}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// The command that runs a tool of Kafka's, for who wants it in the background.
    pub fn kafka_command(&self, tool: &str, arguments: &[&str]) -> Result<Command> {
        let (_, class, connects) = TOOLS
            .iter()
            .find(|(name, ..)| *name == tool)
            .with_context(|| format!("no tool of Kafka's is {tool}"))?;
        let mut command = self.command_inside("java");
        command.args(java(self)).arg(class);
        if *connects && !arguments.contains(&"--bootstrap-server") {
            command.args(["--bootstrap-server", &self.kafka_bootstrap()]);
        }
        command.args(arguments);
        Ok(command)
    }
}

/// The JVM of a tool: quick to start, small, and quiet, or its clients' logs are megabytes.
pub(super) fn java(bed: &Bed) -> Vec<String> {
    let jars = format!("{}/*", bed.parts.kafka.display());
    let quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=error";
    let options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", quiet];
    options.into_iter().chain(["-cp", &jars]).map(str::to_owned).collect()
}
