//! The bed: a real Kubernetes cluster and a real Kafka on one machine, for the tests and the demo, as a library.
//!
//! ```text
//!   decree-<bed>-switch (network namespace, no uplink)
//!   ┌──────────────────────────────────────────────────────────────┐
//!   │ etcd  kube-apiserver  controller-manager  scheduler          │
//!   │ CoreDNS  kube-proxy  and whoever calls `Bed::enter`          │
//!   │                    br0  10.77.0.1                            │
//!   └──┬─────────┬─────────┬──────────┬─────────┬─────────┬────────┘
//!    node1     node2     node3      kafka1    kafka2    kafka3     a network namespace each
//!    .101      .102      .103       .11       .12       .13
//!    containerd, kubelet, kube-proxy    a broker that is a controller too
//!    pods 10.78.<node>.0/24
//! ```
//!
//! A bed is made of [`parts`], built once into a cache. [`Bed::up`] starts them, [`Bed::attach`] finds a running one,
//! [`Bed::down`] leaves nothing. A test takes a [`namespace::Namespace`] of its own and works through [`kubectl`],
//! [`kafka`], [`images`] and [`faults`]. It puts engines and applications there from [`manifests`], speaks to them with
//! a [`client`] and through [`agents`], and has what it heard judged by a [`history`], or by a [`fold`] over the log.

mod finish;
mod log_file;
pub mod wait;

pub mod parts;

mod cgroup;
pub mod cluster;
pub mod foreign;
mod network;
mod pki;
mod process;

mod control_plane;
mod dns;
pub mod images;
pub mod kafka;
pub mod kubectl;
mod node;
mod proxy;

mod bring_up;
mod teardown;

pub mod faults;
pub mod install;
pub mod namespace;

pub mod dice;
pub mod history;

pub mod client;

pub mod agents;
pub mod door;
pub mod forward;
pub mod manifests;

pub mod fold;
pub mod posting;

pub use cluster::Bed;
pub use images::Image;
pub use namespace::Namespace;
