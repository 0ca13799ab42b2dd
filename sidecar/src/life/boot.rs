//! The boot id.
