//! The operator's door: what it asks of this agent's member, a route each.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use decree_wire::control::Control;
use decree_wire::group::MemberId;
use decree_wire::heartbeat::Told;
use decree_wire::member::{
    HandOver, Initialize, Join, Learner, LogId, Member, Ordered, Place, Promote, Remove, Role, Scan, Scanned,
    Settle, path,
};
use decree_wire::settings::Settings;
use http::StatusCode;
use serde::de::DeserializeOwned;

use super::Seat;
use super::refused::Refused;
use super::say::say;
use crate::heartbeat::heard::Heard;
use crate::log::raft::RaftLog;
use crate::log::raft::membership::Change;
use crate::log::raft::types;
use crate::log::{Log, NewEntry};

/// The log opens within this once it is decided to which group it belongs.
const OPENS: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
struct Door {
    seat: Seat,
    heard: Heard,
}

type Answer<T> = Result<T, Refused>;

/// The routes.
pub fn router(seat: Seat, heard: Heard) -> Router {
    Router::new()
        .route(path::MEMBER, get(member))
        .route(path::INITIALIZE, post(initialize))
        .route(path::JOIN, post(join))
        .route(path::LEARNER, post(learner))
        .route(path::PROMOTE, post(promote))
        .route(path::REMOVE, post(remove))
        .route(path::SETTLE, post(settle))
        .route(path::HAND_OVER, post(hand_over))
        .route(path::SCAN, post(scan))
        .route(path::SETTINGS, post(settings))
        .route(path::HEARTBEATS, get(heartbeats))
        .with_state(Door { seat, heard })
}

async fn member(State(door): State<Door>) -> Json<Member> {
    Json(say(&door.seat))
}

async fn initialize(State(Door { seat, .. }): State<Door>, body: Bytes) -> Answer<()> {
    let Initialize { genesis, place } = read(&body)?;
    if genesis.first != seat.id() {
        let (first, own) = (genesis.first, seat.id());
        return Err(Refused::conflict(format!("the group begins with member {first}, this is {own}")));
    }
    seat.decide(genesis.into()).await?;
    let log = seat.taken(OPENS).await.ok_or_else(|| Refused::unavailable("the log is being opened"))?;
    Ok(log.initialize(found(place)).await?)
}

async fn join(State(Door { seat, .. }): State<Door>, body: Bytes) -> Answer<()> {
    let Join { genesis } = read(&body)?;
    seat.decide(genesis.into()).await?;
    seat.taken(OPENS).await.map(drop).ok_or_else(|| Refused::unavailable("the log is being opened"))
}

async fn learner(State(door): State<Door>, body: Bytes) -> Answer<()> {
    let Learner { seen, id, place } = read(&body)?;
    door.change(seen, Change::Add(id.0, found(place))).await
}

async fn promote(State(door): State<Door>, body: Bytes) -> Answer<()> {
    let Promote { seen, id, instead_of } = read(&body)?;
    door.change(seen, Change::Promote { id: id.0, instead_of: instead_of.map(|id| id.0) }).await
}

async fn remove(State(door): State<Door>, body: Bytes) -> Answer<()> {
    let Remove { seen, id, stays } = read(&body)?;
    door.change(seen, Change::Remove { id: id.0, stays }).await
}

async fn settle(State(door): State<Door>, body: Bytes) -> Answer<()> {
    let Settle { seen } = read(&body)?;
    door.change(seen, Change::Settle).await
}

async fn hand_over(State(door): State<Door>, body: Bytes) -> Answer<()> {
    let HandOver { to: MemberId(to) } = read(&body)?;
    Ok(door.log()?.hand_over_to(to).await?)
}

async fn scan(State(door): State<Door>, body: Bytes) -> Answer<Json<Scanned>> {
    let Scan { from } = read(&body)?;
    Ok(Json(door.log()?.scan(from).await?))
}

async fn settings(State(door): State<Door>, body: Bytes) -> Answer<Json<Ordered>> {
    let settings: Settings = read(&body)?;
    let position = door.led()?.append(&NewEntry::Control(Control::Settings(settings))).await?;
    Ok(Json(Ordered { position }))
}

async fn heartbeats(State(door): State<Door>) -> Answer<Json<Vec<Told>>> {
    door.led()?;
    Ok(Json(door.heard.all()))
}

impl Door {
    fn log(&self) -> Answer<&RaftLog> {
        self.seat.log().ok_or_else(|| Refused::conflict("this member has no log of a group yet"))
    }

    /// The log of a member that leads, or thinks so.
    fn led(&self) -> Answer<&RaftLog> {
        let log = self.log()?;
        let view = log.view();
        if view.role == Role::Leader { Ok(log) } else { Err(Refused::not_leader(view.leader)) }
    }

    async fn change(&self, seen: LogId, change: Change) -> Answer<()> {
        let log = self.log()?;
        let halved = log.view().voters.len() > 1 && change != Change::Settle;
        if halved {
            return Err(Refused::conflict(
                "a change of the membership is under way, and has to be settled first",
            ));
        }
        let at = types::LogId::new(types::CommittedLeaderId::new(seen.term), seen.index);
        Ok(log.change(Some(at), change).await?)
    }
}

fn found(place: Place) -> types::Member {
    let Place { pod, address, zone } = place;
    types::Member { agent: pod, address, zone }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Answer<T> {
    serde_json::from_slice(body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("read what is asked: {error}")))
}
