//! Which engine and class a pod belongs to, if any, and which of its containers is the application.

use std::borrow::Borrow;

use decree_crds::engine::agents::Agent;
use decree_crds::{DecisionEngine, labels};
use decree_wire::pod;
use decree_wire::probe::Restart;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use kube::ResourceExt;

use super::container::MESH;
use super::injection::Injection;
use super::liveness::{Guard, guard};
use super::marks::Status;
use super::outlives::{Outliving, outliving};
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
    /// It is one, and what was said of its restart holds no longer: this does.
    Amend(Box<Status>),
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
    of_engine(pod, engine, installed).unwrap_or_else(Decision::Refuse)
}

fn of_engine(pod: &Pod, engine: &DecisionEngine, installed: &Sidecar) -> Result<Decision, Refusal> {
    let spec = pod.spec.clone().unwrap_or_default();
    let agent = class(pod, engine)?;
    if has_container(&spec) {
        let ours = |status: &Status| status.engine == engine.name_any() && status.class == agent.class;
        let status = Status::of(pod).filter(ours).ok_or(Refusal::ContainerTaken)?;
        return again(&spec, engine, agent, &status);
    }
    let version = version(pod)?;
    let application = application(&spec, engine, agent)?;
    of_linux(pod, &spec)?;
    no_clash(&spec, application)?;
    let mut sidecar = installed.overlaid(&engine.spec.sidecar);
    let pinned = Pinned::new(agent, &application.name, &sidecar);
    if spec.resources.is_some() && engine.spec.sidecar.resources.is_none() {
        // The whole pod's hold for the sidecar too; with some of its own beside them the pod could be invalid.
        sidecar.resources = ResourceRequirements::default();
    }
    Ok(Decision::Inject(Box::new(Injection {
        engine: engine.name_any(),
        class: agent.class.clone(),
        version,
        application: application.name.clone(),
        replicated: agent.replicate.is_some().then_some(agent.app.port),
        member: engine.spec.consensus_group.is_some(),
        guard: guard(&spec, application, &kept(&spec, application, engine, agent)?),
        pinned,
        sidecar,
    })))
}

/// Another webhook may have changed the pod since the injection: given the application a volume, say.
fn again(
    spec: &PodSpec,
    engine: &DecisionEngine,
    agent: &Agent,
    status: &Status,
) -> Result<Decision, Refusal> {
    let application = spec.containers.iter().find(|container| container.name == status.application);
    let Some(application) = application else { return Ok(Decision::Skip(Skip::AlreadyInjected)) };
    Ok(match guard(spec, application, &kept(spec, application, engine, agent)?) {
        Guard::User { because } if status.restart == Restart::Container => {
            Decision::Amend(Box::new(Status {
                restart: Restart::Pod,
                because: Some(because),
                ..status.clone()
            }))
        }
        Guard::User { .. } | Guard::Sidecar { .. } => Decision::Skip(Skip::AlreadyInjected),
    })
}

/// What the application's container leaves behind; nothing may outlive the pod.
fn kept(
    spec: &PodSpec,
    application: &Container,
    engine: &DecisionEngine,
    agent: &Agent,
) -> Result<Outliving, Refusal> {
    let outliving = outliving(spec, application, &agent.app.scratch);
    if outliving.pod.is_empty() {
        return Ok(outliving);
    }
    let (container, engine) = (application.name.clone(), engine.name_any());
    Err(Refusal::OutlivingVolume { container, engine, volumes: outliving.pod })
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
