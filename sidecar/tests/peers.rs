//! The transport between sidecars: calls are answered or accounted for, and nobody comes in who should not.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on says so

#[path = "peers/authority.rs"]
mod authority;
#[path = "peers/calls.rs"]
mod calls;
#[path = "peers/careless.rs"]
mod careless;
#[path = "peers/door.rs"]
mod door;
#[path = "peers/issuance.rs"]
mod issuance;
#[path = "peers/proxy.rs"]
mod proxy;
#[path = "peers/refusals.rs"]
mod refusals;
#[path = "peers/renewal.rs"]
mod renewal;
