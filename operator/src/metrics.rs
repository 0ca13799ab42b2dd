//! The operator's metrics: every name, and only here.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// How something ended: one word of a fixed set, never free text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Ended {
    /// `ok`, or the reason.
    pub result: &'static str,
}

/// Handles to count with; clones share the counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// `decree_operator_reconcile_total{result}`.
    pub reconciles: Family<Ended, Counter>,
    /// `decree_operator_reconcile_seconds`.
    pub reconcile_seconds: Histogram,
    /// `decree_operator_engines`.
    pub engines: Gauge,
    /// `decree_operator_group_reconcile_total{result}`.
    pub group_reconciles: Family<Ended, Counter>,
    /// `decree_operator_group_reconcile_seconds`.
    pub group_reconcile_seconds: Histogram,
    /// `decree_operator_groups`.
    pub groups: Gauge,
    /// `decree_operator_injections_total{result}`.
    pub injections: Family<Ended, Counter>,
    /// `decree_operator_identities_total{result}`.
    pub identities: Family<Ended, Counter>,
}

impl Metrics {
    /// All registered, all zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let reconciles = Family::default();
        let reconcile_seconds = Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let engines = Gauge::default();
        let group_reconciles = Family::default();
        let group_reconcile_seconds = Histogram::new(exponential_buckets(0.001, 4.0, 9));
        let groups = Gauge::default();
        let injections = Family::default();
        let identities = Family::default();
        let operator = registry.sub_registry_with_prefix("decree_operator");
        operator.register("reconcile", "Reconciliations of engines", reconciles.clone());
        operator.register("reconcile_seconds", "How long one took", reconcile_seconds.clone());
        operator.register("engines", "Engines that are looked after", engines.clone());
        operator.register("group_reconcile", "Reconciliations of groups", group_reconciles.clone());
        operator.register("group_reconcile_seconds", "How long one took", group_reconcile_seconds.clone());
        operator.register("groups", "Groups that are looked after", groups.clone());
        operator.register("injections", "Pods that the webhook was asked about", injections.clone());
        operator.register("identities", "Certificates that sidecars asked for", identities.clone());
        Self {
            registry: Arc::new(registry),
            reconciles,
            reconcile_seconds,
            engines,
            group_reconciles,
            group_reconcile_seconds,
            groups,
            injections,
            identities,
        }
    }

    /// As Prometheus reads them.
    ///
    /// # Errors
    /// If a metric can't be written.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_documentation() {
        let metrics = Metrics::new();
        metrics.reconciles.get_or_create(&Ended { result: "ok" }).inc();
        metrics.injections.get_or_create(&Ended { result: "injected" }).inc();
        metrics.identities.get_or_create(&Ended { result: "issued" }).inc();
        metrics.reconcile_seconds.observe(0.1);
        metrics.group_reconciles.get_or_create(&Ended { result: "ok" }).inc();
        metrics.group_reconcile_seconds.observe(0.1);
        let text = metrics.text().unwrap();
        for name in [
            r#"decree_operator_reconcile_total{result="ok"} 1"#,
            "decree_operator_reconcile_seconds_count 1",
            "decree_operator_engines 0",
            r#"decree_operator_group_reconcile_total{result="ok"} 1"#,
            "decree_operator_group_reconcile_seconds_count 1",
            "decree_operator_groups 0",
            r#"decree_operator_injections_total{result="injected"} 1"#,
            r#"decree_operator_identities_total{result="issued"} 1"#,
        ] {
            assert!(text.contains(name), "{name} is not in\n{text}");
        }
    }
}
