//! The names of CloudEvents attributes and of Decree's own headers, in Kafka records and in HTTP.
//!
//! Binary mode of the CloudEvents 1.0 Kafka and HTTP protocol bindings: the attribute `id` is the record header
//! `ce_id` and the HTTP header `ce-id`.

/// What precedes an attribute's name in a record header.
pub const RECORD_PREFIX: &str = "ce_";
/// What precedes an attribute's name in an HTTP header.
pub const HTTP_PREFIX: &str = "ce-";
/// What precedes a replicated request's own header in a record header.
pub const REQUEST_HEADER_PREFIX: &str = "http_";

/// The one CloudEvents version that is written.
pub const SPEC_VERSION: &str = "1.0";

/// CloudEvents attribute names, and Decree's extensions of them.
pub mod name {
    /// The CloudEvents version.
    pub const SPECVERSION: &str = "specversion";
    /// The command's id.
    pub const ID: &str = "id";
    /// The proposer.
    pub const SOURCE: &str = "source";
    /// What kind of command it is, in the application's words.
    pub const TYPE: &str = "type";
    /// When the client says that it happened. Decides nothing.
    pub const TIME: &str = "time";
    /// The command's version (extension).
    pub const VERSION: &str = "decreeversion";
    /// The head that the sidecar knew when it accepted the command (extension).
    pub const HEAD: &str = "decreehead";
    /// A replicated request's method (extension).
    pub const METHOD: &str = "decreemethod";
    /// A replicated request's path and query (extension).
    pub const TARGET: &str = "decreetarget";
    /// What every extension of Decree's own begins with.
    pub const RESERVED: &str = "decree";
}

/// The media type of the payload, in records and in HTTP.
pub const CONTENT_TYPE: &str = "content-type";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace context.
pub const TRACESTATE: &str = "tracestate";

/// What every `ce_type` of Decree's own begins with.
pub const TYPE_RESERVED: &str = "dev.decree.";
/// The `ce_type` of a replicated HTTP request.
pub const TYPE_HTTP: &str = "dev.decree.http";
/// The `ce_type` of a command whose proposer named none.
pub const TYPE_COMMAND: &str = "dev.decree.command";
/// What precedes a control entry's kind in its `ce_type`.
pub const TYPE_CONTROL_PREFIX: &str = "dev.decree.control.";

/// HTTP headers of Decree's own.
pub mod header {
    /// An entry's position.
    pub const POSITION: &str = "decree-position";
    /// A command's id, in answers.
    pub const ID: &str = "decree-id";
    /// `true` on the answer to a command that was there already.
    pub const DUPLICATE: &str = "decree-duplicate";
    /// Log time: the orderer's clock, RFC 3339 with milliseconds.
    pub const TIME: &str = "decree-time";
    /// Sixteen hexadecimal digits, the same in every agent.
    pub const SEED: &str = "decree-seed";
    /// The command's version.
    pub const VERSION: &str = "decree-version";
    /// `barrier` or `local`, on a read through HTTP replication.
    pub const READ: &str = "decree-read";
    /// What every header of Decree's own begins with.
    pub const RESERVED: &str = "decree-";
    /// The same as `ce-id` for clients that know nothing of CloudEvents.
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
}
