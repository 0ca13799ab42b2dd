//! Whether the application's state is known: a pure decision from what the journal says and what listens now.

use decree_wire::position::Position;

use super::Incarnation;

/// What the journal says of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The life that holds what was applied; none as long as nothing was.
    pub life: Option<Incarnation>,
    /// A delivery that was begun and not ended.
    pub begun: Option<Position>,
}

/// Whether the application's state is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands after exactly the entries that were applied.
    Known,
    /// It is not, and why. It has to be rebuilt before it gets another command, or a read.
    Unknown(String),
}

/// Judges the life that listens now; none where it can't be seen, which counts as a new life.
#[must_use]
pub fn verdict(standing: &Standing, now: Option<&Incarnation>) -> Verdict {
    if let Some(position) = standing.begun {
        return Verdict::Unknown(format!(
            "the delivery of position {position} was begun, and nobody can say whether the application acted on it"
        ));
    }
    match (&standing.life, now) {
        // Nothing was ever applied: any life is as empty as the next.
        (None, _) => Verdict::Known,
        (Some(life), Some(now)) if life == now => Verdict::Known,
        (Some(life), Some(now)) => Verdict::Unknown(format!(
            "the application restarted and lost what was applied to it ({life} before, {now} now)"
        )),
        (Some(_), None) => Verdict::Unknown(String::from(
            "the application's connection was lost, and whether it restarted can't be seen on this machine",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn life(inode: u32) -> Incarnation {
        Incarnation { boot: "b".into(), listeners: BTreeSet::from([inode]) }
    }

    #[test]
    fn any_life_will_do_before_the_first_command() {
        let standing = Standing::default();
        assert_eq!(verdict(&standing, Some(&life(1))), Verdict::Known);
        assert_eq!(verdict(&standing, None), Verdict::Known);
    }

    #[test]
    fn after_it_only_the_same_life() {
        let standing = Standing { life: Some(life(1)), begun: None };
        assert_eq!(verdict(&standing, Some(&life(1))), Verdict::Known);
        assert!(matches!(verdict(&standing, Some(&life(2))), Verdict::Unknown(_)));
        let more = Incarnation { boot: "b".into(), listeners: BTreeSet::from([1, 2]) };
        assert!(matches!(verdict(&standing, Some(&more)), Verdict::Unknown(_)));
        assert!(matches!(verdict(&standing, None), Verdict::Unknown(_)));
    }

    #[test]
    fn a_delivery_begun_and_not_ended_is_in_doubt_whoever_listens() {
        for now in [1, 2] {
            let standing = Standing { life: Some(life(1)), begun: Some(Position(3)) };
            assert!(matches!(verdict(&standing, Some(&life(now))), Verdict::Unknown(_)));
        }
    }
}
