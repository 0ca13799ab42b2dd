//! What the injection and the sidecar agree on inside a pod: names, paths, ports and environment.

/// The injected container's name.
pub const CONTAINER: &str = "decree";

/// The program's argument that begins the drain, for the container's `preStop`.
pub const PRE_STOP: &str = "pre-stop";

/// The sidecar's ports.
pub mod port {
    /// The application's local API; bound to localhost.
    pub const API: u16 = 7070;
    /// `/livez`, `/readyz`, `/metrics`, `/status`; bound to the pod.
    pub const HEALTH: u16 = 7071;
    /// HTTP replication; bound to the pod.
    pub const REPLICATE: u16 = 7072;
    /// Peers and the operator; bound to the pod, where a group orders. An application must not listen there anyhow.
    pub const PEERS: u16 = 7073;
    /// All of them: an application that listens on one of these can't be an agent.
    pub const ALL: [u16; 4] = [API, HEALTH, REPLICATE, PEERS];
}

/// Where things are mounted.
pub mod path {
    /// The engine's Secret, as a folder.
    pub const DOCUMENT: &str = "/etc/decree";
    /// The journal and the dedup window; survives the container, not the pod.
    pub const STATE: &str = "/var/lib/decree";
    /// The folder of the Unix socket, in the application's containers too.
    pub const RUN: &str = "/run/decree";
    /// The program, in its image.
    pub const PROGRAM: &str = "/decree-sidecar";
    /// The pod's projected token, by which the operator knows who asks for a certificate.
    pub const TOKEN: &str = "/var/run/secrets/decree.dev/token";
    /// The local API's Unix socket.
    pub const SOCKET: &str = "/run/decree/decree.sock";
}

/// The sidecar's environment.
pub mod env {
    /// The pod's name.
    pub const POD: &str = "DECREE_POD";
    /// The pod's uid.
    pub const UID: &str = "DECREE_POD_UID";
    /// The pod's namespace.
    pub const NAMESPACE: &str = "DECREE_NAMESPACE";
    /// The agent class.
    pub const CLASS: &str = "DECREE_CLASS";
    /// The newest command version that the application understands.
    pub const VERSION: &str = "DECREE_VERSION";
    /// The pod's address, where the kubelet would ask the application.
    pub const IP: &str = "DECREE_POD_IP";
    /// The pod's `terminationGracePeriodSeconds`. Absent: 30, which is Kubernetes' own default.
    pub const GRACE: &str = "DECREE_GRACE_SECONDS";
    /// What gives the application an empty state again: [`crate::probe::Restart`].
    pub const RESTART: &str = "DECREE_RESTART";
    /// The user's own liveness check, as JSON: [`crate::probe::Liveness`]. Absent where there is none, or where the
    /// kubelet goes on asking it itself.
    pub const LIVENESS: &str = "DECREE_LIVENESS";
}
