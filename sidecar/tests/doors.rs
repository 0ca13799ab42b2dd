//! Each door of an agent keeps its word, over real HTTP on localhost, with the log in memory and a scripted application.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so

mod doors {
    pub(crate) mod agent;
    pub(crate) mod http;
    mod http_replication;
    mod local_api;
    mod malformed;
    mod patience;
    pub(crate) mod raw;
}
