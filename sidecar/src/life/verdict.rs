//! Whether the application's state is known, and what is done where it is not: pure decisions from what the journal says
//! and what listens now.

use decree_wire::heartbeat::CallsFor;
use decree_wire::position::Position;
use decree_wire::probe::Restart;

use super::{Error, Incarnation};

/// What the journal says of the application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The life that holds what was applied; none as long as nothing was.
    pub life: Option<Incarnation>,
    /// A delivery that was begun and not ended.
    pub begun: Option<Begun>,
    /// What was applied before the machine started anew may be there still, and what it was is forgotten.
    pub haunted: bool,
}

/// A delivery that was begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Of what.
    pub position: Position,
    /// To whom.
    pub life: Incarnation,
    /// To have it twice does the application no harm, as the settings say.
    pub idempotent: bool,
}

/// What can be seen of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing listens: it has ended, or has not begun.
    Nobody,
    /// This life listens.
    Life(Incarnation),
    /// Nobody can say.
    Hidden,
}

impl Seen {
    /// What a look at the application gave.
    #[must_use]
    pub fn of(current: Result<Option<Incarnation>, Error>) -> Self {
        match current {
            Ok(Some(life)) => Self::Life(life),
            Ok(None) => Self::Nobody,
            Err(error) => {
                tracing::warn!(%error, "the application's life can't be seen: a new connection counts as a new one");
                Self::Hidden
            }
        }
    }
}

/// Whether the application's state is known; if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stands after exactly the entries that were applied, or will when it is there.
    Known,
    /// Another life listens than the one that holds what was applied: it is empty.
    New(String),
    /// The life that has, or may have, more than is known listens still.
    Alive(String),
    /// That life listens no longer, and the next one not yet.
    Gone(String),
    /// Whether it restarted can't be seen.
    Hidden(String),
}

/// Judges what is seen now.
#[must_use]
pub fn verdict(standing: &Standing, seen: &Seen) -> Verdict {
    if standing.haunted {
        return Verdict::New(
            "the machine started anew, and what the application wrote before may be there".into(),
        );
    }
    if let Some(begun) = &standing.begun {
        let why = format!(
            "the delivery of position {} was begun, and nobody can say whether the application acted on it",
            begun.position
        );
        return match seen {
            Seen::Life(now) if *now == begun.life && begun.idempotent => Verdict::Known,
            Seen::Life(now) if now.succeeds(&begun.life) => Verdict::New(why),
            // Whoever comes, nobody will ever be able to say that it is another one.
            Seen::Life(_) if begun.life.is_unseen() => Verdict::Hidden(why),
            Seen::Life(_) => Verdict::Alive(why),
            Seen::Nobody => Verdict::Gone(why),
            Seen::Hidden => Verdict::Hidden(why),
        };
    }
    match (&standing.life, seen) {
        // Nothing was ever applied: any life is as empty as the next.
        (None, _) => Verdict::Known,
        (Some(life), Seen::Life(now)) if life == now => Verdict::Known,
        (Some(life), Seen::Life(now)) if now.succeeds(life) => Verdict::New(format!(
            "the application restarted and lost what was applied to it ({life} before, {now} now)"
        )),
        (Some(life), Seen::Life(_)) if life.is_unseen() => Verdict::Hidden(String::from(
            "the life of the application that holds what was applied could not be seen, so none can be told from it",
        )),
        (Some(life), Seen::Life(now)) => Verdict::Alive(format!(
            "only some of the application's listeners are what they were ({life} before, {now} now)"
        )),
        // Whoever connects next decides.
        (Some(_), Seen::Nobody) => Verdict::Known,
        (Some(_), Seen::Hidden) => Verdict::Hidden(String::from(
            "the application's connection was lost, and whether it restarted can't be seen on this machine",
        )),
    }
}

/// What is done about a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// The next command may be delivered.
    GoOn,
    /// The application is empty: the log is replayed to it, for this reason.
    Rebuild(String),
    /// The next life has to show itself.
    Wait(String),
    /// The cluster has to give it another life first.
    Call(CallsFor, String),
}

/// Decides what is done, where `restart` gives the application an empty state again.
#[must_use]
pub fn course(verdict: Verdict, restart: Restart) -> Course {
    match (verdict, restart) {
        (Verdict::Known, _) => Course::GoOn,
        (Verdict::New(why), Restart::Container) => Course::Rebuild(why),
        (Verdict::Alive(why), Restart::Container) => Course::Call(CallsFor::ContainerRestart, why),
        (Verdict::Gone(why), Restart::Container) => Course::Wait(why),
        // A restart could not be seen either.
        (Verdict::Hidden(why), _) => Course::Call(CallsFor::Eviction, why),
        (Verdict::New(why) | Verdict::Alive(why) | Verdict::Gone(why), Restart::Pod) => {
            Course::Call(CallsFor::Eviction, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn life(inodes: &[u32]) -> Incarnation {
        Incarnation { boot: "b".into(), listeners: BTreeSet::from_iter(inodes.iter().copied()) }
    }

    fn seen(inodes: &[u32]) -> Seen {
        Seen::Life(life(inodes))
    }

    #[test]
    fn any_life_will_do_before_the_first_command() {
        let standing = Standing::default();
        for now in [seen(&[1]), Seen::Hidden, Seen::Nobody] {
            assert_eq!(verdict(&standing, &now), Verdict::Known);
        }
        let haunted = Standing { haunted: true, ..standing };
        assert!(matches!(verdict(&haunted, &seen(&[1])), Verdict::New(_)));
    }

    #[test]
    fn after_it_only_the_same_life() {
        let standing = Standing { life: Some(life(&[1])), ..Standing::default() };
        assert_eq!(verdict(&standing, &seen(&[1])), Verdict::Known);
        assert_eq!(verdict(&standing, &Seen::Nobody), Verdict::Known);
        assert!(matches!(verdict(&standing, &seen(&[2])), Verdict::New(_)));
        assert!(matches!(verdict(&standing, &Seen::Hidden), Verdict::Hidden(_)));
    }

    #[test]
    fn a_life_of_which_a_part_goes_on_is_not_empty() {
        let standing = Standing { life: Some(life(&[1, 2])), ..Standing::default() };
        for now in [&[1][..], &[2, 3], &[1, 2, 3]] {
            assert!(matches!(verdict(&standing, &seen(now)), Verdict::Alive(_)), "{now:?}");
        }
        let hidden = Standing { life: Some(Incarnation::unseen()), ..Standing::default() };
        // It may be the same, and no restart of the container would ever show another one: the pod has to go.
        assert!(matches!(verdict(&hidden, &seen(&[1])), Verdict::Hidden(_)));
        let begun = Begun { position: Position(3), life: Incarnation::unseen(), idempotent: false };
        let doubt = Standing { begun: Some(begun), ..Standing::default() };
        assert!(matches!(verdict(&doubt, &seen(&[1])), Verdict::Hidden(_)));
        let boot = Incarnation { boot: "c".into(), ..life(&[1]) };
        assert!(matches!(verdict(&standing, &Seen::Life(boot)), Verdict::New(_)));
    }

    #[test]
    fn a_delivery_begun_and_not_ended_is_in_doubt_until_another_life() {
        let begun = |idempotent| Begun { position: Position(3), life: life(&[1]), idempotent };
        let standing = Standing { begun: Some(begun(false)), ..Standing::default() };
        assert!(matches!(verdict(&standing, &seen(&[1])), Verdict::Alive(_)));
        assert!(matches!(verdict(&standing, &Seen::Nobody), Verdict::Gone(_)));
        assert!(matches!(verdict(&standing, &seen(&[2])), Verdict::New(_)));
        let harmless = Standing { begun: Some(begun(true)), ..Standing::default() };
        assert_eq!(verdict(&harmless, &seen(&[1])), Verdict::Known);
        assert!(matches!(verdict(&harmless, &seen(&[2])), Verdict::New(_)));
    }

    #[test]
    fn what_outlives_the_container_is_left_to_the_cluster() {
        use CallsFor::{ContainerRestart, Eviction};
        let why = String::new;
        let of = |verdict, restart| match course(verdict, restart) {
            Course::Call(what, _) => Some(what),
            Course::GoOn | Course::Rebuild(_) | Course::Wait(_) => None,
        };
        for (verdict, container, pod) in [
            (Verdict::Known, None, None),
            (Verdict::New(why()), None, Some(Eviction)),
            (Verdict::Gone(why()), None, Some(Eviction)),
            (Verdict::Alive(why()), Some(ContainerRestart), Some(Eviction)),
            (Verdict::Hidden(why()), Some(Eviction), Some(Eviction)),
        ] {
            assert_eq!(of(verdict.clone(), Restart::Container), container, "{verdict:?}");
            assert_eq!(of(verdict.clone(), Restart::Pod), pod, "{verdict:?}");
        }
        assert_eq!(course(Verdict::New(why()), Restart::Container), Course::Rebuild(why()));
    }
}
