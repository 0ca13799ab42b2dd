//! What this crate promises, against a real Kafka named by `DECREE_KAFKA`, and against librdkafka's own mock for faults.
// The lint knows tests by their attribute, and takes what they call for production code.
#![allow(clippy::panic)]

mod bed;

mod faults;
mod incarnation;
mod multi;
mod produce;
mod range;
mod read;
mod security;
mod topics;
mod transactions;
