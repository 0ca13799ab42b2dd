//! Forms a group whose members are written down, and gives its log the first settings.

use std::collections::BTreeMap;
use std::time::Duration;

use decree_wire::control::Control;
use decree_wire::document::group::{Fixed, FixedMember};
use decree_wire::entry::Body;
use decree_wire::settings::Settings;
use futures::future::join_all;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::fixed::{Facts, Member, Step, step};
use super::standing;
use crate::log::raft::membership::{CAUGHT_UP, Change};
use crate::log::raft::{RaftLog, membership, types};
use crate::log::refusals::{Refusals, Way};
use crate::log::{self, Log, NewEntry};
use crate::member::Seat;
use crate::peers::Target;
use crate::peers::client::Peers;

/// Between two looks while something is to be done, and while all is well.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A batch of the log comes within this, or later.
const WAIT: Duration = Duration::from_secs(1);

/// One agent's part in it.
pub(super) struct Forming {
    pub(super) own: String,
    pub(super) fixed: Fixed,
    pub(super) seat: Seat,
    pub(super) log: RaftLog,
    pub(super) peers: Peers,
    pub(super) refusals: Refusals,
}

impl Forming {
    /// Does this member's part until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut settled = false;
            loop {
                let pause = self.look(&mut settled).await;
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// One look and one step; how long to wait then.
    async fn look(&self, settled: &mut bool) -> Duration {
        let facts = self.facts().await;
        let next = step(&self.own, &self.fixed.members, &facts);
        let why = if let Step::Wait(why) = &next { Some(why.clone()) } else { None };
        self.refusals.note(Way::Group, why);
        if facts.leads && !*settled {
            match settle(&self.log, &self.fixed.settings).await {
                Ok(()) => *settled = true,
                Err(error) => tracing::debug!(%error, "can't give the log its settings yet"),
            }
        }
        if next == Step::Rest && (*settled || !facts.leads) {
            return PACE.1;
        }
        if let Err(error) = self.obey(&next).await {
            tracing::info!(?next, %error, "a step of the group's forming was not made");
        }
        PACE.0
    }

    async fn facts(&self) -> Facts {
        let view = self.log.view();
        let own = standing::own(&self.seat);
        let others = self.fixed.members.iter().filter(|member| member.pod != self.own);
        let asked = others.map(|FixedMember { pod, address }| async move {
            let target = Target { pod: pod.clone(), address: address.clone() };
            Some((pod.clone(), standing::ask(&self.peers, &target).await?))
        });
        let mut known: BTreeMap<_, _> = join_all(asked).await.into_iter().flatten().collect();
        known.insert(self.own.clone(), own);
        let (members, committed) = (view.members.into_iter(), view.committed);
        Facts {
            begun: own.begun,
            leads: view.leader == Some(view.id),
            members: members
                .map(|seen| {
                    let fit = seen.matched.is_some_and(|matched| matched + CAUGHT_UP >= committed);
                    (seen.id, Member { agent: seen.member.agent, votes: seen.voter, fit })
                })
                .collect(),
            known,
        }
    }

    async fn obey(&self, step: &Step) -> Result<(), membership::Error> {
        match step {
            Step::Begin => {
                tracing::info!(incarnation = %self.fixed.incarnation, "begins the group");
                let own = self.fixed.members.iter().find(|member| member.pod == self.own);
                let own =
                    own.ok_or_else(|| membership::Error::Refused("this pod is not written down".into()))?;
                self.log.initialize(found(own)).await
            }
            Step::Add(id, member) => {
                tracing::info!(id, pod = member.pod, "adds a member to the group");
                self.log.change(None, Change::Add(*id, found(member))).await
            }
            Step::Promote(id) => {
                tracing::info!(id, "lets a member vote");
                self.log.change(None, Change::Promote { id: *id, instead_of: None }).await
            }
            Step::Remove(id) => {
                tracing::info!(id, "removes a member whose disk is gone");
                self.log.change(None, Change::Remove { id: *id, stays: false }).await
            }
            Step::Wait(_) | Step::Rest => Ok(()),
        }
    }
}

fn found(FixedMember { pod, address }: &FixedMember) -> types::Member {
    types::Member { agent: pod.clone(), address: address.clone(), zone: String::new() }
}

/// Appends the settings unless the log has some: they are at its start, or nowhere.
async fn settle(log: &RaftLog, settings: &Settings) -> Result<(), log::Error> {
    let head = log.head().await?;
    let mut reader = log.read(log.earliest().await?).await?;
    let mut next = log.earliest().await?;
    while next < head {
        let batch = reader.next(WAIT).await?;
        let is_settings =
            |stored: &log::Stored| matches!(stored.entry.body, Body::Control(Control::Settings(_)));
        if batch.entries.iter().any(is_settings) {
            return Ok(());
        }
        next = batch.next;
    }
    let position = log.append(&NewEntry::Control(Control::Settings(settings.clone()))).await?;
    tracing::info!(%position, "gave the log its first settings");
    Ok(())
}
