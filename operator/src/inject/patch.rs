//! Pod to JSON patch: field by field, so that those which this build doesn't know stay as they are.

use std::collections::BTreeMap;

use decree_crds::labels;
use decree_wire::pod::{CONTAINER, env, port};
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use k8s_openapi::api::core::v1::{Container, Pod, PodReadinessGate};
use serde::Serialize;
use serde_json::{Value, json};

use super::container::{container, place};
use super::injection::Injection;
use super::liveness::Guard;
use super::marks::Status;
use super::{marks, ports, volumes};

/// The patch that makes `pod` the agent that `injection` describes.
#[must_use]
pub fn patch(pod: &Pod, injection: &Injection) -> Patch {
    let spec = pod.spec.as_ref();
    let mut edit = Edit::default();

    edit.insert_all(["metadata", "labels"], pod.metadata.labels.is_some(), marks::labels(pod, injection));
    let annotations = marks::annotations(pod, injection);
    edit.insert_all(["metadata", "annotations"], pod.metadata.annotations.is_some(), annotations);

    let has_volumes = spec.is_some_and(|spec| spec.volumes.is_some());
    edit.append(&["spec", "volumes"], has_volumes, volumes::of_pod(&injection.engine, injection.member));
    if injection.member {
        let has_gates = spec.is_some_and(|spec| spec.readiness_gates.is_some());
        let gate = PodReadinessGate { condition_type: labels::MEMBER_GATE.to_owned() };
        edit.append(&["spec", "readinessGates"], has_gates, vec![gate]);
    }

    if spec.is_some_and(|spec| spec.init_containers.is_some()) {
        let index = place(pod).to_string();
        edit.add(&["spec", "initContainers", &index], container(injection));
    } else {
        edit.add(&["spec", "initContainers"], [container(injection)]);
    }

    let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let application = containers.iter().enumerate().find(|(_, c)| c.name == injection.application);
    if let Some((index, application)) = application {
        edit.application(&["spec", "containers", &index.to_string()], application, injection);
    }
    Patch(edit.0)
}

/// The patch that has an agent's sidecar and annotation say what `status` says of the application's restart.
#[must_use]
pub fn amend(pod: &Pod, status: &Status) -> Patch {
    let mut edit = Edit::default();
    edit.add(&["metadata", "annotations", labels::STATUS], status.text());
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let sidecar = init.iter().position(|container| container.name == CONTAINER);
    let variables = |index: usize| init[index].env.iter().flatten();
    let found =
        sidecar.and_then(|index| Some((index, variables(index).position(|v| v.name == env::RESTART)?)));
    if let Some((index, variable)) = found {
        let at = ["spec", "initContainers", &index.to_string(), "env", &variable.to_string(), "value"];
        edit.add(&at, status.restart.as_str());
    }
    Patch(edit.0)
}

#[derive(Default)]
struct Edit(Vec<PatchOperation>);

impl Edit {
    fn application(&mut self, at: &[&str], application: &Container, injection: &Injection) {
        let mounts = [at, &["volumeMounts"]].concat();
        self.append(&mounts, application.volume_mounts.is_some(), vec![volumes::of_application()]);
        if let Some(port) = injection.replicated {
            for (index, _) in ports::moved(application, port) {
                let index = index.to_string();
                self.add(&[at, &["ports", &index, "containerPort"]].concat(), port::REPLICATE);
            }
            for reference in ports::references(application, port) {
                self.add(&[at, &reference].concat(), port);
            }
        }
        // Last: in place of the whole probe, whatever was changed in it above.
        if let Guard::Sidecar { probe, .. } = &injection.guard {
            self.add(&[at, &["livenessProbe"]].concat(), probe);
        }
    }

    /// What is there already is replaced.
    fn add(&mut self, path: &[&str], value: impl Serialize) {
        let path = PointerBuf::from_tokens(path.iter().copied());
        self.0.push(PatchOperation::Add(AddOperation { path, value: json!(value) }));
    }

    /// At a list's end; the list is made where there is none.
    fn append(&mut self, list: &[&str], exists: bool, values: Vec<impl Serialize>) {
        if !exists {
            return self.add(list, values);
        }
        for value in values {
            self.add(&[list, &["-"]].concat(), value);
        }
    }

    /// Into a map; the map is made where there is none.
    fn insert_all<const N: usize>(&mut self, map: [&str; N], exists: bool, set: BTreeMap<String, String>) {
        if !exists && !set.is_empty() {
            return self.add(&map, set);
        }
        for (key, value) in set {
            self.add(&[map.as_slice(), &[&key]].concat(), Value::String(value));
        }
    }
}
