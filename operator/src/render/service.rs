//! The Service that leads to a class' sidecars.

use decree_crds::labels;
use decree_wire::pod::port;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::spec::{Class, Engine};

/// The Service of a class, if the class has one.
#[must_use]
pub fn service(engine: &Engine, class: &Class) -> Option<Service> {
    let wanted = class.service.as_ref()?;
    let selector = [(labels::ENGINE, &engine.name.name), (labels::CLASS, &class.name)];
    let selector = selector.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
    let mut metadata = metadata(engine, &wanted.name);
    metadata.labels.get_or_insert_default().insert(labels::CLASS.to_owned(), class.name.clone());
    Some(Service {
        metadata,
        spec: Some(ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("http".into()),
                port: wanted.port.into(),
                target_port: Some(IntOrString::Int(port::REPLICATE.into())),
                protocol: Some("TCP".into()),
                app_protocol: Some("http".into()),
                ..ServicePort::default()
            }]),
            publish_not_ready_addresses: None, // false, which the API server leaves out
            ..ServiceSpec::default()
        }),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::is_as;
    use crate::spec::example;

    #[test]
    fn it_leads_to_the_sidecars_of_its_class() {
        let engine = example();
        let service = service(&engine, &engine.classes[0]).unwrap();
        let spec = service.spec.unwrap();
        let selector = spec.selector.unwrap();
        assert_eq!(selector["decree.dev/engine"], "policy");
        assert_eq!(selector["decree.dev/class"], "opa");
        assert_eq!(spec.ports.unwrap()[0].target_port, Some(IntOrString::Int(7072)));
    }

    #[test]
    fn what_the_api_server_fills_in_is_no_difference() {
        let engine = example();
        let desired = service(&engine, &engine.classes[0]).unwrap();
        let mut existing = desired.clone();
        let spec = existing.spec.as_mut().unwrap();
        spec.cluster_ip = Some("10.0.0.1".into());
        spec.type_ = Some("ClusterIP".into());
        assert!(is_as(&desired, &existing));
        let selector = existing.spec.as_mut().unwrap().selector.as_mut().unwrap();
        selector.insert("decree.dev/class".into(), "other".into());
        assert!(!is_as(&desired, &existing));
    }
}
