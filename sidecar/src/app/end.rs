//! What a delivery's end means: one table, pure.

use super::End;

/// How commands reach the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each is POSTed to an endpoint made for it: a 5xx promises "not applied".
    Apply,
    /// Requests are replayed as they were: a 5xx is an answer like any other.
    Replicate,
}

/// What a delivery's end means for the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The application dealt with it. The log moves on.
    Outcome,
    /// It was not processed: again, with back-off. The log waits.
    Again(Counted),
    /// Nobody can say whether the application acted on it.
    InDoubt,
}

/// Whether an end counts as a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It is not the command's fault.
    No,
    /// Unless the application's health check fails too: then it is the application's fault.
    UnlessUnwell,
    /// It may be the command's fault.
    Yes,
}

/// What `end` (a status, or how it ended without one) means.
#[must_use]
pub fn meaning(way: Way, end: Result<u16, &End>) -> Meaning {
    match (way, end) {
        (_, Err(End::NotConnected(_)) | Ok(408 | 429)) => Meaning::Again(Counted::No),
        (_, Ok(503)) => Meaning::Again(Counted::UnlessUnwell),
        (Way::Apply, Ok(500..=599)) => Meaning::Again(Counted::Yes),
        (Way::Apply | Way::Replicate, Ok(_)) => Meaning::Outcome,
        (_, Err(End::Lost(_))) => Meaning::InDoubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use Counted::{No, UnlessUnwell, Yes};
        use Meaning::{Again, InDoubt, Outcome};
        let (gone, lost) = (End::NotConnected(String::new()), End::Lost(String::new()));
        let table: [(Result<u16, &End>, Meaning, Meaning); 14] = [
            // end                apply                 replicate
            (Ok(200), Outcome, Outcome),
            (Ok(204), Outcome, Outcome),
            (Ok(304), Outcome, Outcome),
            (Ok(400), Outcome, Outcome),
            (Ok(404), Outcome, Outcome),
            (Ok(409), Outcome, Outcome),
            (Ok(408), Again(No), Again(No)),
            (Ok(429), Again(No), Again(No)),
            (Ok(503), Again(UnlessUnwell), Again(UnlessUnwell)),
            (Ok(500), Again(Yes), Outcome),
            (Ok(502), Again(Yes), Outcome),
            (Ok(599), Again(Yes), Outcome),
            (Err(&gone), Again(No), Again(No)),
            (Err(&lost), InDoubt, InDoubt),
        ];
        for (end, apply, replicate) in table {
            assert_eq!(meaning(Way::Apply, end), apply, "apply {end:?}");
            assert_eq!(meaning(Way::Replicate, end), replicate, "replicate {end:?}");
        }
    }
}
