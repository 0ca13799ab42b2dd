//! What no crate wraps of librdkafka and of the C library, called through their C interfaces: the only `unsafe` code of
//! Decree.
#![allow(unsafe_code)]

mod call;
mod cluster;
mod config;
mod consume;
mod groups;
mod memory;
mod refusal;
mod topics;

pub(crate) use cluster::brokers;
pub(crate) use config::{set_topic_config, topic_config};
pub(crate) use consume::{Event, EventQueue, message_status, poll_main, watermarks};
pub(crate) use groups::{committed, groups};
pub use memory::trim;
pub(crate) use refusal::Refusal;
pub(crate) use topics::{create_topic, describe_topic, is_taken};
