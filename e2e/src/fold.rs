//! An oracle for replicas: the engine's topic, read with Kafka's own tools and folded into what must have been applied.
//!
//! The log holds what it holds; of records with one identity the first counts. What an agent's application was given
//! must be just that, in this order.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use decree_wire::attributes::{RECORD_PREFIX, TYPE_CONTROL_PREFIX, name};
use serde_json::Value;

use crate::agents::Agent;
use crate::cluster::Bed;

/// Between the parts of a record, and between its headers, as the console consumer is told to print them.
const PART: &str = "<|>";
const HEADER: &str = "<,>";

/// A record of the topic that is a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    pub position: u64,
    pub source: Option<String>,
    /// None of a plain record, which is a command of its own.
    pub id: Option<String>,
    pub body: String,
}

/// What replicas of a log must have applied.
#[derive(Debug)]
pub struct Fold {
    /// In order, each identity once.
    pub commands: Vec<Folded>,
    /// Records that repeat one of them.
    pub repeats: usize,
}

impl Fold {
    /// Reads a topic from its start to its end of now. What is in it has no line breaks.
    pub fn of_topic(bed: &Bed, topic: &str) -> Result<Self> {
        let (start, end) = (offset(bed, topic, "earliest")?, offset(bed, topic, "latest")?);
        if start == end {
            return Ok(Self::of_records(Vec::new()));
        }
        let count = (end - start).to_string();
        let (part, header) = (format!("key.separator={PART}"), format!("headers.separator={HEADER}"));
        let arguments = [
            ["--topic", topic],
            ["--partition", "0"],
            ["--offset", "earliest"],
            ["--max-messages", &count],
            ["--timeout-ms", "30000"],
            ["--property", "print.offset=true"],
            ["--property", "print.headers=true"],
            ["--property", &part],
            ["--property", &header],
        ];
        let text = bed.kafka_tool("kafka-console-consumer", arguments.as_flattened(), None)?;
        let records =
            text.lines().map(read).collect::<Result<Vec<_>>>().with_context(|| format!("read {topic}"))?;
        ensure!(
            records.len() as u64 == end - start,
            "{topic} has {count} records, {} were read",
            records.len()
        );
        Ok(Self::of_records(records.into_iter().flatten().collect()))
    }

    fn of_records(records: Vec<Folded>) -> Self {
        let (mut seen, all) = (BTreeSet::new(), records.len());
        let commands: Vec<Folded> = records
            .into_iter()
            .filter(|record| record.id.is_none() || seen.insert((record.source.clone(), record.id.clone())))
            .collect();
        Self { repeats: all - commands.len(), commands }
    }

    /// How often this id was ordered as a command of its own: once, whoever repeated it, or never.
    pub fn times(&self, id: &str) -> usize {
        self.commands.iter().filter(|command| command.id.as_deref() == Some(id)).count()
    }

    /// Fails unless an agent's recorder was given just these commands, in this order.
    pub fn ensure_recorded(&self, agent: &Agent) -> Result<()> {
        self.ensure_matches(&agent.recorded()?).with_context(|| format!("compare {} with the log", agent.pod))
    }

    fn ensure_matches(&self, recorded: &[Value]) -> Result<()> {
        for (number, (command, given)) in self.commands.iter().zip(recorded).enumerate() {
            let same = given["position"] == command.position
                && command.id.as_deref().is_none_or(|id| given["id"] == id)
                && given["body"] == command.body.as_str();
            ensure!(same, "command {number} must be {command:?} and is {given}");
        }
        let (ordered, given) = (self.commands.len(), recorded.len());
        ensure!(ordered == given, "the log has {ordered} commands, {given} were applied");
        Ok(())
    }
}

/// The offset that `kafka-get-offsets` gives for `earliest` or `latest`.
pub fn offset(bed: &Bed, topic: &str, which: &str) -> Result<u64> {
    let text = bed.kafka_tool("kafka-get-offsets", &["--topic", topic, "--time", which], None)?;
    let number = text.trim().rsplit(':').next().unwrap_or_default();
    number.parse().with_context(|| format!("read the {which} offset of {topic} in {text:?}"))
}

/// One line of the console consumer; none for a control entry.
fn read(line: &str) -> Result<Option<Folded>> {
    let mut parts = line.splitn(3, PART);
    let mut part = || parts.next().with_context(|| format!("find three parts in {line:?}"));
    let (offset, headers, body) = (part()?, part()?, part()?);
    let position = offset.trim_start_matches("Offset:").parse();
    let header = |wanted: &str| {
        let wanted = format!("{RECORD_PREFIX}{wanted}:");
        headers.split(HEADER).find_map(|header| header.strip_prefix(&wanted)).map(str::to_owned)
    };
    if header(name::TYPE).is_some_and(|kind| kind.starts_with(TYPE_CONTROL_PREFIX)) {
        return Ok(None);
    }
    Ok(Some(Folded {
        position: position.with_context(|| format!("read an offset in {line:?}"))?,
        source: header(name::SOURCE),
        id: header(name::ID),
        body: body.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fold(lines: &[&str]) -> Fold {
        Fold::of_records(lines.iter().filter_map(|line| read(line).unwrap()).collect())
    }

    const LOG: [&str; 5] = [
        "Offset:0<|>ce_specversion:1.0<,>ce_type:dev.decree.control.settings<|>{}",
        "Offset:1<|>ce_specversion:1.0<,>ce_id:a<,>ce_type:dev.decree.http<|>{\"n\":1}",
        "Offset:2<|>NO_HEADERS<|>{\"n\":2}",
        "Offset:3<|>ce_specversion:1.0<,>ce_id:a<,>ce_type:dev.decree.http<|>{\"n\":1}",
        "Offset:4<|>NO_HEADERS<|>{\"n\":2}",
    ];

    #[test]
    fn an_identity_counts_once_and_a_plain_record_always() {
        let fold = fold(&LOG);
        assert_eq!(fold.commands.iter().map(|each| each.position).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!((fold.repeats, fold.times("a"), fold.times("b")), (1, 1, 0));
    }

    #[test]
    fn what_was_applied_must_be_the_log_and_nothing_else() {
        let given = |position: u64, id: Option<&str>, body: &str| json!({"position": position, "id": id, "body": body});
        let (one, two, three) =
            (given(1, Some("a"), "{\"n\":1}"), given(2, None, "{\"n\":2}"), given(4, None, "{\"n\":2}"));
        let fold = fold(&LOG);
        fold.ensure_matches(&[one.clone(), two.clone(), three.clone()]).unwrap();
        for wrong in [vec![one.clone(), two.clone()], vec![two, one.clone(), three.clone()], vec![one, three]]
        {
            fold.ensure_matches(&wrong).unwrap_err();
        }
    }
}
