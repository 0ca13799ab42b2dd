//! Which engine and class a pod belongs to, if any, and which of its containers is the application.

use std::borrow::Borrow;

use decree_crds::engine::agents::Agent;
use decree_crds::{DecisionEngine, labels};
use decree_wire::pod;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;

use super::container::MESH;
use super::injection::Injection;
use super::liveness::guard;
use super::marks::Status;
use super::outlives::outliving;
use super::pinned::Pinned;
use super::refusal::Refusal;
use super::sidecar::Sidecar;
use super::volumes;

/// What is to be done with a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing.
    Skip(Skip),
    /// It may not be created.
    Refuse(Refusal),
    /// It becomes an agent.
    Inject(Box<Injection>),
}

/// Why a pod is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It does not ask for an engine.
    NotLabelled,
    /// It has its sidecar; the webhook was only called again.
    AlreadyInjected,
}

impl Skip {
    /// One word for metrics and logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotLabelled => "NotLabelled",
            Self::AlreadyInjected => "AlreadyInjected",
        }
    }
}

/// Decides about a pod that is to be created in `namespace`, whose engines are `engines`.
pub fn select<E: Borrow<DecisionEngine>>(
    pod: &Pod,
    namespace: &str,
    engines: &[E],
    installed: &Sidecar,
) -> Decision {
    let Some(wanted) = pod.labels().get(labels::ENGINE) else { return Decision::Skip(Skip::NotLabelled) };
    let named = engines.iter().map(Borrow::borrow).find(|engine| engine.name_any() == *wanted);
    let Some(engine) = named else {
        let mut engines: Vec<_> = engines.iter().map(|engine| engine.borrow().name_any()).collect();
        engines.sort();
        let (wanted, namespace) = (wanted.clone(), namespace.to_owned());
        return Decision::Refuse(Refusal::UnknownEngine { wanted, namespace, engines });
    };
    match of_engine(pod, engine, installed) {
        Err(refusal) => Decision::Refuse(refusal),
        Ok(None) => Decision::Skip(Skip::AlreadyInjected),
        Ok(Some(injection)) => Decision::Inject(Box::new(injection)),
    }
}

fn of_engine(pod: &Pod, engine: &DecisionEngine, installed: &Sidecar) -> Result<Option<Injection>, Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let agent = class(pod, engine)?;
    let ours = Status::of(pod)
        .is_some_and(|status| status.engine == engine.name_any() && status.class == agent.class);
    let again = has_container(&spec);
    if again && !ours {
        return Err(Refusal::ContainerTaken);
    }
    let version = version(pod)?;
    let application = application(&spec, engine, agent)?;
    // Asked again, too: another webhook may have added a volume meanwhile.
    let outliving = outliving(&spec, application, &agent.app.scratch);
    if !outliving.pod.is_empty() {
        let (container, engine) = (application.name.clone(), engine.name_any());
        return Err(Refusal::OutlivingVolume { container, engine, volumes: outliving.pod });
    }
    if again {
        return Ok(None);
    }
    of_linux(pod, &spec)?;
    no_clash(&spec, application)?;
    let sidecar = installed.overlaid(&engine.spec.sidecar);
    Ok(Some(Injection {
        engine: engine.name_any(),
        class: agent.class.clone(),
        version,
        application: application.name.clone(),
        replicated: agent.replicate.is_some().then_some(agent.app.port),
        guard: guard(&spec, application, &outliving),
        pinned: Pinned::new(agent, &application.name, &sidecar),
        sidecar,
    }))
}

fn class<'a>(pod: &Pod, engine: &'a DecisionEngine) -> Result<&'a Agent, Refusal> {
    let agents = engine.spec.agents.as_slice();
    let classes = || agents.iter().map(|agent| agent.class.clone()).collect();
    match (pod.labels().get(labels::CLASS), agents) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Refusal::MissingClass { engine: engine.name_any(), classes: classes() }),
        (Some(wanted), _) => agents.iter().find(|agent| agent.class == *wanted).ok_or_else(|| {
            Refusal::UnknownClass { engine: engine.name_any(), wanted: wanted.clone(), classes: classes() }
        }),
    }
}

fn version(pod: &Pod) -> Result<u32, Refusal> {
    let Some(value) = pod.annotations().get(labels::VERSION) else { return Ok(1) };
    let version = value.parse().ok().filter(|version| *version >= 1);
    version.ok_or_else(|| Refusal::InvalidVersion { value: value.clone() })
}

fn application<'a>(
    spec: &'a PodSpec,
    engine: &DecisionEngine,
    agent: &Agent,
) -> Result<&'a Container, Refusal> {
    // A mesh's proxy is never the application, whether it is a native sidecar or not.
    let candidates: Vec<_> =
        spec.containers.iter().filter(|container| !MESH.contains(&container.name.as_str())).collect();
    let (engine, class) = (engine.name_any(), agent.class.clone());
    let containers = candidates.iter().map(|container| container.name.clone()).collect();
    match (&agent.app.container, candidates.as_slice()) {
        (None, &[only]) => Ok(only),
        (None, _) => Err(Refusal::ContainerNotNamed { engine, class, containers }),
        (Some(wanted), candidates) => {
            let found = candidates.iter().find(|container| container.name == *wanted).copied();
            found.ok_or_else(|| Refusal::NoSuchContainer {
                engine,
                class,
                wanted: wanted.clone(),
                containers,
            })
        }
    }
}

fn of_linux(pod: &Pod, spec: &PodSpec) -> Result<(), Refusal> {
    // Its kubelet runs it as its file says; what the API server is told is only a picture of it.
    if pod.annotations().contains_key(labels::MIRROR) {
        return Err(Refusal::StaticPod);
    }
    let selected = spec.node_selector.as_ref().and_then(|labels| labels.get(labels::OS)).map(String::as_str);
    let stated = spec.os.as_ref().map(|os| os.name.as_str());
    if stated.or(selected) == Some("windows") {
        return Err(Refusal::Windows);
    }
    Ok(())
}

fn no_clash(spec: &PodSpec, application: &Container) -> Result<(), Refusal> {
    if spec.host_network == Some(true) {
        return Err(Refusal::HostNetwork);
    }
    for container in all_containers(spec) {
        let mut ports = container.ports.iter().flatten().map(|port| port.container_port);
        if let Some(port) = ports.find(|port| pod::port::ALL.iter().any(|own| i32::from(*own) == *port)) {
            return Err(Refusal::PortTaken { container: container.name.clone(), port });
        }
    }
    let mut names = spec.volumes.iter().flatten().map(|volume| &volume.name);
    if let Some(volume) = names.find(|name| volumes::NAMES.contains(&name.as_str())) {
        return Err(Refusal::VolumeTaken { volume: volume.clone() });
    }
    let mut mounts = application.volume_mounts.iter().flatten();
    if mounts.any(|mount| mount.mount_path.trim_end_matches('/') == pod::path::RUN) {
        return Err(Refusal::MountTaken { container: application.name.clone() });
    }
    Ok(())
}

fn has_container(spec: &PodSpec) -> bool {
    all_containers(spec).any(|container| container.name == pod::CONTAINER)
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}
