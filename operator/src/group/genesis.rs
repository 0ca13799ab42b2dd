//! A genesis as the status holds it. Pure.

use decree_crds::group::status::{DurabilityStatus, GenesisStatus};
use decree_wire::group::{Durability, Genesis, MemberId};
use decree_wire::position::{Incarnation, Position};

/// As the status holds it before anybody was asked to begin with it.
#[must_use]
pub fn written(genesis: &Genesis) -> GenesisStatus {
    let Genesis { incarnation, base, first, durability } = genesis;
    GenesisStatus {
        incarnation: incarnation.0.clone(),
        base: i64::try_from(base.0).unwrap_or(i64::MAX),
        first: first.to_string(),
        durability: match durability {
            Durability::Quorum => DurabilityStatus::Quorum,
        },
        asked: 0,
    }
}

/// What the status holds.
///
/// # Errors
/// If that is no genesis, in words.
pub fn read(status: &GenesisStatus) -> Result<Genesis, String> {
    let GenesisStatus { incarnation, base, first, durability, asked: _ } = status;
    if incarnation.is_empty() {
        return Err("it names no incarnation".to_owned());
    }
    Ok(Genesis {
        incarnation: Incarnation(incarnation.clone()),
        base: Position(u64::try_from(*base).map_err(|_| format!("its base {base} is no position"))?),
        first: first.parse::<MemberId>().map_err(|error| format!("its first member: {error}"))?,
        durability: match durability {
            DurabilityStatus::Quorum => Durability::Quorum,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let genesis = Genesis {
            incarnation: Incarnation("one".into()),
            base: Position(7),
            first: MemberId(31),
            durability: Durability::Quorum,
        };
        let status = written(&genesis);
        assert_eq!(read(&status), Ok(genesis));
        for bad in [
            GenesisStatus { base: -1, ..status.clone() },
            GenesisStatus { first: "31".into(), ..status.clone() },
            GenesisStatus { incarnation: String::new(), ..status },
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
