//! Kafka and its tools: the jars that `e2e/bed/kafka/pom.xml` names.

use std::process::Command;

use anyhow::Result;

use super::cache::{Order, Recipe};

pub(super) fn recipe() -> Recipe {
    let files = vec![("pom.xml", include_str!("../../bed/kafka/pom.xml"))];
    Recipe { name: "kafka", version: "4.1.1", files, flags: Vec::new() }
}

pub(super) fn build(order: &Order<'_>) -> Result<()> {
    order.run(
        Command::new("mvn")
            .args(["--batch-mode", "dependency:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", order.output.display()))
            .current_dir(order.source),
    )
}
