//! What Decree promises when parts fail that all share: brokers, nodes, the operator.
//!
//! Nothing else may run on the bed meanwhile, so `cargo verify` runs these after all others and one after the other;
//! they are known by their module's name. A test that fails leaves the bed whole: what it broke is mended in any case.

mod alone {
    pub(crate) mod whole;

    mod brokers;
    mod drain;
    mod webhook_outage;
}
