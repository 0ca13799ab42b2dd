//! How a sidecar comes by its certificate: it asks the operator, and shows its pod's token.

use serde::{Deserialize, Serialize};

/// Where the operator is asked, on the HTTPS port of its webhook: `POST` [`Request`], the token as bearer.
pub const PATH: &str = "/identity";

/// The token's audience: no other service takes it, and the operator takes no other token.
pub const AUDIENCE: &str = "decree.dev/identity";

/// A sidecar asks. Its key stays in its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// A certificate signing request, as PEM. Of it only the public key counts: who asks is what the token says.
    pub signing_request: String,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// The certificate, as PEM.
    pub certificate: String,
    /// Whom to trust from now on, as PEM: one authority or, while another takes over, several.
    pub authorities: String,
    /// When to ask for the next certificate, in seconds from now.
    pub renew_after_seconds: u64,
}
