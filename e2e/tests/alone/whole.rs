//! The bed made whole again after a test that broke parts of it.

use anyhow::Result;
use decree_e2e::cluster::{BROKERS, NODES};
use decree_e2e::install::{NAMESPACE, RELEASE};
use decree_e2e::{Bed, Namespace};

/// Runs a test in a namespace of its own on a whole bed, and mends the bed however the test ends.
pub(crate) fn in_namespace(prefix: &str, test: impl FnOnce(&Namespace) -> Result<()>) -> Result<()> {
    let bed = Bed::of_test()?;
    let _mend = Mend(&bed);
    bed.in_namespace(prefix, |namespace| {
        let result = test(namespace);
        // Before the namespace is deleted: with brokers away that takes its time.
        let mended = mend(&bed);
        result.and(mended)
    })
}

/// Also where a test panics.
#[derive(Debug)]
struct Mend<'a>(&'a Bed);

impl Drop for Mend<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = mend(self.0)
        {
            eprintln!("the bed is not whole: {error:#}");
        }
    }
}

fn mend(bed: &Bed) -> Result<()> {
    for broker in 1..=BROKERS {
        bed.heal_broker(broker)?;
        bed.start_broker(broker)?;
    }
    for node in 1..=NODES {
        bed.kubectl(&["uncordon", &format!("node{node}")])?;
    }
    let operator = format!("deployment/{RELEASE}");
    bed.kubectl(&["-n", NAMESPACE, "rollout", "status", &operator, "--timeout=120s"]).map(drop)
}
