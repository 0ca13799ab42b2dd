//! What Decree promises, on a real cluster: one promise a file.
//!
//! They run inside a bed on which Decree is installed; `cargo verify` sees to that. Each works in a namespace of its
//! own, so that they can run side by side.

mod promises {
    pub(crate) mod load;

    mod admission;
    mod apply;
    mod care;
    mod credentials;
    mod deletion;
    mod exactly_once;
    mod group;
    mod healing;
    mod jobs;
    mod kafka_clients;
    mod poison;
    mod probes;
    mod readiness;
    mod refusals;
    mod replicate;
    mod rights;
    mod rollout;
    mod settings;
    mod sidecar_crash;
    mod suspect;
    mod vanished_logs;
    mod volumes;
    mod webhook_rotation;
}
