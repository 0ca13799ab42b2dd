//! Who sidecars are to each other: certificates that the operator issues to pods that show their token.
//!
//! ```text
//!  sidecar ──HTTPS: token, signing request──▶ route ─▶ witness ──TokenReview, Pod──▶ API server
//!                                               └────▶ issue ◀─ keeper ◀─ the authority's Secret
//! ```
//! A key never leaves its pod, and what a certificate says of its pod is what the API server said a moment before.

pub mod issue;
pub mod keeper;
pub mod route;
pub mod witness;
