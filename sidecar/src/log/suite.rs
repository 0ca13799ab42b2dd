//! The conformance suite of every log.
