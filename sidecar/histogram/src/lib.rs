//! The part of base2histogram that openraft uses, for statistics that are never shown.
//!
//! The crate of that name keeps tables of 26.7 MB for sixteen widths of buckets, more than a whole sidecar may take.
//! Here a value falls into one of four buckets for each power of two, and there is nothing else.

use std::fmt;
use std::marker::PhantomData;

/// Four buckets for each power of two.
const BUCKETS: usize = 64 * 4;

/// How often values of each size were seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Box<[u64]>,
    _slots: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into(), _slots: PhantomData }
    }

    /// A value was seen.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// A value was seen so many times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let seen = &mut self.counts[bucket(value)];
        *seen = seen.saturating_add(count);
    }

    /// How many values were seen.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The least value of the bucket at or below which this share of the values lies.
    #[must_use]
    pub fn percentile(&self, share: f64) -> u64 {
        // Rounding is no matter: what is asked for is a bucket.
        let wanted = (self.total() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.map_or(0, least)
    }

    /// The usual shares.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total(),
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

/// Values below four have a bucket each; above, the two bits behind the first one choose it.
fn bucket(value: u64) -> usize {
    match value.checked_ilog2() {
        Some(power) if power >= 2 => (power as usize - 1) * 4 + (value >> (power - 2) & 3) as usize,
        _ => value as usize,
    }
}

fn least(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64,
        _ => (4 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

/// What the usual shares of the values are at or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p50, p90, p99, .. } = self;
        write!(f, "[samples: {samples}, P50: {p50}, P90: {p90}, P99: {p99}]")
    }
}

/// Histograms side by side, as lines of text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl AsciiChart {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add<T>(mut self, name: impl Into<String>, histogram: Histogram<T>) -> Self {
        self.0.push((name.into(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(f, "{name}: {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_the_bucket_that_begins_at_or_below_it() {
        let edges = (0..64).flat_map(|power| [1_u64 << power, (1_u64 << power) - 1, (1_u64 << power) + 1]);
        for value in edges.chain([0, 5, 6, 7, 1000, u64::MAX]) {
            let bucket = bucket(value);
            assert!(bucket < BUCKETS && least(bucket) <= value, "{value} in {bucket}");
            let next = bucket + 1;
            assert!(next >= BUCKETS - 4 || least(next) > value, "{value} in {bucket}");
        }
    }

    #[test]
    fn shares_are_about_right() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p50, 0);
        (1..=1000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1000);
        assert!((384..=500).contains(&stats.p50) && (768..=990).contains(&stats.p99), "{stats:?}");
    }
}
