//! What both ends of Decree do with Kafka: topics and their ids, offsets, producing to and reading partition 0.
//!
//! ```text
//!   connection ─▶ client (configuration, logs) ─┬─▶ admin ── topics, offsets
//!                                               ├─▶ producer
//!        native (the only `unsafe`)             └─▶ consumer ─▶ reader, multi
//! ```
//!
//! The crate knows neither Kubernetes nor Decree's entries: a record here is a key, a value and headers. Every call has
//! a limit, every queue a bound. Handles cost threads and buffers, so [`Admin`], [`Producer`] and [`MultiReader`] are
//! made to be shared by everything that uses the same brokers and credentials.

mod connection;
mod error;
mod record;
mod topic;

mod client;
mod native;
mod trouble;

mod admin;
mod everywhere;
mod offsets;
mod topics;

mod consumer;
mod multi;
mod producer;
mod reader;

pub use admin::Admin;
pub use connection::{ClientCertificate, Connection, Mechanism, ProducerSettings, Sasl, Tls};
pub use error::{Error, Result};
pub use everywhere::Everywhere;
pub use multi::{Heard, MultiReader, Start};
pub use native::trim;
pub use offsets::Watermarks;
pub use producer::{Delivery, Producer};
pub use reader::{Fetched, Reader, ReaderSettings, read_one};
pub use record::{Header, MAX_HEADERS, MAX_VALUE, NewRecord, Record, Sent};
pub use topic::{ConfigEntry, NewTopic, Topic};

/// The partition that Decree uses: an engine's topics have one.
pub const PARTITION: i32 = 0;
