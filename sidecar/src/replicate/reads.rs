//! How a read is answered: as the client says, else as the engine does.

use decree_wire::attributes::header::READ;
use decree_wire::document::Reads;
use http::HeaderMap;

use crate::problem::Problem;

/// What is wanted.
///
/// # Errors
/// If the client's word is none: it might count on what it asked for.
pub(super) fn wanted(headers: &HeaderMap, engine: Reads) -> Result<Reads, Problem> {
    match headers.get(READ).map(|value| value.as_bytes().to_ascii_lowercase()).as_deref() {
        None => Ok(engine),
        Some(b"local") => Ok(Reads::Local),
        Some(b"barrier") => Ok(Reads::Barrier),
        Some(_) => Err(Problem::bad_request("decree-read is \"barrier\" or \"local\"")),
    }
}
