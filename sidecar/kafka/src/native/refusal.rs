//! What librdkafka refuses, and the strings that pass between it and here.

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
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
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
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and terminated by the contract above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Entries as C takes them.
pub(super) fn strings(entries: &BTreeMap<String, String>) -> Result<Vec<(CString, CString)>, Refusal> {
    entries
        .iter()
        .map(|(key, value)| Ok((CString::new(key.as_str())?, CString::new(value.as_str())?)))
        .collect()
}
