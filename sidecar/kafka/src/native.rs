//! What rdkafka does not wrap, called through librdkafka's C interface: the only `unsafe` code of Decree.
#![allow(unsafe_code)]

mod call;
mod cluster;
mod config;
mod consume;
mod groups;
mod topics;

pub(crate) use cluster::brokers;
pub(crate) use config::{set_topic_config, topic_config};
pub(crate) use consume::{Event, EventQueue, message_status, poll_main, watermarks};
pub(crate) use groups::committed;
pub(crate) use topics::{create_topic, describe_topic};

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};

use rdkafka::types::RDKafkaErrorCode as Code;

/// A code and what librdkafka or the broker said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl Refusal {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl From<std::ffi::NulError> for Refusal {
    fn from(error: std::ffi::NulError) -> Self {
        Self::new(Code::InvalidArgument, error.to_string())
    }
}

/// A copy of a C string; empty for none.
///
/// # Safety
/// `text` is null or points to a NUL-terminated string that lives as long as the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and terminated by the contract above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Entries as C takes them.
fn strings(entries: &BTreeMap<String, String>) -> Result<Vec<(CString, CString)>, Refusal> {
    entries
        .iter()
        .map(|(key, value)| Ok((CString::new(key.as_str())?, CString::new(value.as_str())?)))
        .collect()
}
