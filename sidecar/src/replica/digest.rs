//! The digest: a hash chained over positions and outcomes. Equal positions must have equal digests.
//!
//! Every outcome is chained, a 4xx too: one application that refuses what another takes has diverged. What the
//! application never saw is not: control entries, void ones, repeats.

use decree_wire::heartbeat;
use decree_wire::position::Position;
use decree_wire::settings::DigestOf;
use sha2::{Digest, Sha256};

use super::rows::Chain;
use crate::app::Outcome;

/// Digests are reported at the first entry past each multiple of this.
const STRIDE: u64 = 256;

impl Chain {
    /// Chains a command whose outcome says nothing: where it may be delivered twice, the second answer can be another.
    pub(super) fn unheard(&mut self, position: Position, of: DigestOf) {
        if of != DigestOf::None {
            self.hash = Sha256::new()
                .chain_update(self.hash)
                .chain_update(position.0.to_be_bytes())
                .finalize()
                .into();
        }
    }

    /// Chains an outcome.
    pub(super) fn outcome(&mut self, position: Position, outcome: &Outcome, of: DigestOf) {
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(position.0.to_be_bytes());
        match of {
            DigestOf::None => return,
            DigestOf::Status => hash.update(outcome.status.to_be_bytes()),
            DigestOf::Outcome => {
                hash.update(outcome.status.to_be_bytes());
                hash.update(match &outcome.omitted {
                    Some(omitted) => omitted.sha256,
                    None => Sha256::digest(&outcome.body).into(),
                });
            }
        }
        self.hash = hash.finalize().into();
    }

    /// Takes note of an entry of any kind, after its outcome was chained.
    pub(super) fn passed(&mut self, before: Option<Position>, position: Position) {
        if before.is_none_or(|before| before.0 / STRIDE != position.0 / STRIDE) {
            self.compared = Some(self.at(position));
        }
    }

    /// The digest as it is reported.
    pub(super) fn at(&self, position: Position) -> heartbeat::Digest {
        let digits = self.hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let mut hash = String::with_capacity(64);
        hash.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
        heartbeat::Digest { position, hash }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::app::Omitted;

    fn outcome(status: u16, body: &'static str) -> Outcome {
        Outcome { status, headers: vec![], body: Bytes::from_static(body.as_bytes()), omitted: None }
    }

    fn chain(of: DigestOf, entries: &[(u64, u16, &'static str)]) -> [u8; 32] {
        let mut chain = Chain::default();
        for (position, status, body) in entries {
            chain.outcome(Position(*position), &outcome(*status, body), of);
        }
        chain.hash
    }

    #[test]
    fn it_covers_what_the_settings_say() {
        let (a, b, c) = ([(0, 200, "a")], [(0, 200, "b")], [(0, 201, "a")]);
        assert_ne!(chain(DigestOf::Outcome, &a), chain(DigestOf::Outcome, &b));
        assert_eq!(chain(DigestOf::Status, &a), chain(DigestOf::Status, &b));
        assert_ne!(chain(DigestOf::Status, &a), chain(DigestOf::Status, &c));
        assert_eq!(chain(DigestOf::None, &a), chain(DigestOf::None, &c));
        assert_ne!(chain(DigestOf::Status, &a), chain(DigestOf::Status, &[(1, 200, "a")]));
    }

    #[test]
    fn a_body_that_was_omitted_counts_as_itself() {
        let large = Omitted { bytes: 1, sha256: Sha256::digest(b"a").into() };
        let mut chained = Chain::default();
        let omitted = Outcome { body: Bytes::new(), omitted: Some(large), ..outcome(200, "") };
        chained.outcome(Position(0), &omitted, DigestOf::Outcome);
        assert_eq!(chained.hash, chain(DigestOf::Outcome, &[(0, 200, "a")]));
    }

    #[test]
    fn it_is_reported_at_the_first_entry_past_each_multiple() {
        let mut chain = Chain::default();
        let mut before = None;
        let mut reported = vec![];
        for position in [0, 1, 255, 300, 301, 1024] {
            chain.passed(before, Position(position));
            before = Some(Position(position));
            reported.push(chain.compared.as_ref().unwrap().position.0);
        }
        assert_eq!(reported, [0, 0, 0, 300, 300, 1024]);
    }
}
