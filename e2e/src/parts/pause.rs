//! The program in every pod's sandbox: it waits, and it reaps.

use std::process::Command;

use anyhow::Result;

use super::cache::{Order, Recipe};

const FLAGS: [&str; 3] = ["-static", "-Os", "-s"];

pub(super) fn recipe() -> Recipe {
    let files = vec![("pause.c", include_str!("../../bed/pause/pause.c"))];
    Recipe { name: "pause", version: "1", files, flags: FLAGS.map(str::to_owned).to_vec() }
}

pub(super) fn build(order: &Order<'_>) -> Result<()> {
    let (source, output) = (order.source.join("pause.c"), order.output.join("pause"));
    order.run(Command::new("cc").args(FLAGS).arg("-o").arg(output).arg(source))
}
