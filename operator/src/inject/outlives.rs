//! Which of the application's volumes outlive its container, or even its pod: what is on them is not empty in a new life.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use super::volumes::NAMES;

/// The volumes that the application's container can write to and whose content counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outliving {
    /// Gone with the pod: name and kind, as `cache` and `emptyDir`.
    pub container: BTreeMap<String, &'static str>,
    /// Still there in the next pod: name and kind, as `data` and `persistentVolumeClaim`.
    pub pod: BTreeMap<String, &'static str>,
}

/// How long what is written to a volume stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    /// Nobody can write to it.
    ReadOnly,
    /// As long as the pod.
    WithPod(&'static str),
    /// Longer than the pod, or nobody knows.
    Beyond(&'static str),
}

/// What `application` writes to, but for the volumes named in `scratch` and the injection's own.
#[must_use]
pub fn outliving(spec: &PodSpec, application: &Container, scratch: &[String]) -> Outliving {
    let mut found = Outliving::default();
    for name in writable(application) {
        if scratch.iter().any(|scratch| scratch == name) || NAMES.contains(&name) {
            continue;
        }
        // A name that is no volume's is refused by the API server.
        let Some(volume) = spec.volumes.iter().flatten().find(|volume| volume.name == name) else { continue };
        match lives(volume) {
            Lives::ReadOnly => {}
            Lives::WithPod(kind) => drop(found.container.insert(name.to_owned(), kind)),
            Lives::Beyond(kind) => drop(found.pod.insert(name.to_owned(), kind)),
        }
    }
    found
}

/// A block device has no read-only form of its own: only its claim has.
fn writable(application: &Container) -> impl Iterator<Item = &str> {
    let mounts = application.volume_mounts.iter().flatten().filter(|mount| mount.read_only != Some(true));
    let devices = application.volume_devices.iter().flatten();
    mounts.map(|mount| mount.name.as_str()).chain(devices.map(|device| device.name.as_str()))
}

fn lives(volume: &Volume) -> Lives {
    // Whole, so that a kind that Kubernetes adds is not forgotten.
    let Volume {
        name: _,
        config_map,
        downward_api,
        image,
        projected,
        secret,
        empty_dir,
        ephemeral,
        git_repo,
        aws_elastic_block_store,
        azure_disk,
        azure_file,
        cephfs,
        cinder,
        csi,
        fc,
        flex_volume,
        flocker,
        gce_persistent_disk,
        glusterfs,
        host_path,
        iscsi,
        nfs,
        persistent_volume_claim,
        photon_persistent_disk,
        portworx_volume,
        quobyte,
        rbd,
        scale_io,
        storageos,
        vsphere_volume,
    } = volume;
    if config_map.is_some()
        || downward_api.is_some()
        || image.is_some()
        || projected.is_some()
        || secret.is_some()
    {
        return Lives::ReadOnly;
    }
    // A generic ephemeral volume's claim belongs to the pod: a StatefulSet's next pod of that name gets a new one.
    let with_pod = [
        (empty_dir.is_some(), "emptyDir"),
        (ephemeral.is_some(), "ephemeral"),
        (git_repo.is_some(), "gitRepo"),
    ];
    if let Some((_, kind)) = with_pod.into_iter().find(|(is, _)| *is) {
        return Lives::WithPod(kind);
    }
    // An inline CSI volume is made for the pod, but what the driver mounts there may be a share that stays.
    let beyond = [
        (aws_elastic_block_store.as_ref().map(|it| it.read_only), "awsElasticBlockStore"),
        (azure_disk.as_ref().map(|it| it.read_only), "azureDisk"),
        (azure_file.as_ref().map(|it| it.read_only), "azureFile"),
        (cephfs.as_ref().map(|it| it.read_only), "cephfs"),
        (cinder.as_ref().map(|it| it.read_only), "cinder"),
        (csi.as_ref().map(|it| it.read_only), "csi"),
        (fc.as_ref().map(|it| it.read_only), "fc"),
        (flex_volume.as_ref().map(|it| it.read_only), "flexVolume"),
        (flocker.as_ref().map(|_| None), "flocker"),
        (gce_persistent_disk.as_ref().map(|it| it.read_only), "gcePersistentDisk"),
        (glusterfs.as_ref().map(|it| it.read_only), "glusterfs"),
        (host_path.as_ref().map(|_| None), "hostPath"),
        (iscsi.as_ref().map(|it| it.read_only), "iscsi"),
        (nfs.as_ref().map(|it| it.read_only), "nfs"),
        (persistent_volume_claim.as_ref().map(|it| it.read_only), "persistentVolumeClaim"),
        (photon_persistent_disk.as_ref().map(|_| None), "photonPersistentDisk"),
        (portworx_volume.as_ref().map(|it| it.read_only), "portworxVolume"),
        (quobyte.as_ref().map(|it| it.read_only), "quobyte"),
        (rbd.as_ref().map(|it| it.read_only), "rbd"),
        (scale_io.as_ref().map(|it| it.read_only), "scaleIO"),
        (storageos.as_ref().map(|it| it.read_only), "storageos"),
        (vsphere_volume.as_ref().map(|_| None), "vsphereVolume"),
    ];
    let found = beyond.into_iter().find_map(|(is, kind)| is.map(|read_only| (read_only, kind)));
    match found {
        Some((Some(true), _)) => Lives::ReadOnly,
        Some((_, kind)) => Lives::Beyond(kind),
        None => Lives::Beyond("of a kind that this operator does not know"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lives_as(volume: Value) -> Lives {
        let mut named = volume;
        named["name"] = json!("v");
        lives(&serde_json::from_value(named).unwrap())
    }

    #[test]
    fn every_kind_of_volume_is_known() {
        let read_only = ["configMap", "downwardAPI", "image", "projected", "secret"];
        let with_pod = ["emptyDir", "ephemeral", "gitRepo"];
        let beyond = [
            ("awsElasticBlockStore", json!({"volumeID": "v"})),
            ("azureDisk", json!({"diskName": "d", "diskURI": "u"})),
            ("azureFile", json!({"secretName": "s", "shareName": "s"})),
            ("cephfs", json!({"monitors": ["m"]})),
            ("cinder", json!({"volumeID": "v"})),
            ("csi", json!({"driver": "d"})),
            ("fc", json!({})),
            ("flexVolume", json!({"driver": "d"})),
            ("flocker", json!({})),
            ("gcePersistentDisk", json!({"pdName": "p"})),
            ("glusterfs", json!({"endpoints": "e", "path": "p"})),
            ("hostPath", json!({"path": "/p"})),
            ("iscsi", json!({"targetPortal": "t", "iqn": "i", "lun": 0})),
            ("nfs", json!({"server": "s", "path": "/p"})),
            ("persistentVolumeClaim", json!({"claimName": "c"})),
            ("photonPersistentDisk", json!({"pdID": "p"})),
            ("portworxVolume", json!({"volumeID": "v"})),
            ("quobyte", json!({"registry": "r", "volume": "v"})),
            ("rbd", json!({"monitors": ["m"], "image": "i"})),
            ("scaleIO", json!({"gateway": "g", "system": "s", "secretRef": {}})),
            ("storageos", json!({})),
            ("vsphereVolume", json!({"volumePath": "p"})),
        ];
        let no_read_only_form = ["flocker", "hostPath", "photonPersistentDisk", "vsphereVolume"];
        for kind in read_only {
            assert_eq!(lives_as(json!({kind: {"repository": "r"}})), Lives::ReadOnly, "{kind}");
        }
        for kind in with_pod {
            assert_eq!(lives_as(json!({kind: {"repository": "r"}})), Lives::WithPod(kind));
        }
        for (kind, mut source) in beyond {
            assert_eq!(lives_as(json!({kind: source})), Lives::Beyond(kind));
            source["readOnly"] = json!(true);
            let as_read_only = lives_as(json!({kind: source}));
            assert_eq!(as_read_only == Lives::ReadOnly, !no_read_only_form.contains(&kind), "{kind}");
        }
        assert!(matches!(lives_as(json!({"kindOfTheFuture": {}})), Lives::Beyond(_)));
    }

    #[test]
    fn only_what_the_application_itself_writes_to_counts() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "block", "persistentVolumeClaim": {"claimName": "d"}},
                {"name": "cache", "emptyDir": {"medium": "Memory"}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "others", "hostPath": {"path": "/p"}}
            ]
        }))
        .unwrap();
        let application: Container = serde_json::from_value(json!({
            "name": "app",
            "volumeMounts": [
                {"name": "data", "mountPath": "/in", "readOnly": true},
                {"name": "data", "mountPath": "/out", "subPath": "out"},
                {"name": "cache", "mountPath": "/cache"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "nobodys", "mountPath": "/n"}
            ],
            "volumeDevices": [{"name": "block", "devicePath": "/dev/x"}]
        }))
        .unwrap();
        let found = outliving(&spec, &application, &["tmp".to_owned()]);
        assert_eq!(found.container.into_iter().collect::<Vec<_>>(), [("cache".to_owned(), "emptyDir")]);
        assert_eq!(found.pod.keys().collect::<Vec<_>>(), ["block", "data"]);

        let all = ["block", "data", "tmp", "cache"].map(str::to_owned);
        assert_eq!(outliving(&spec, &application, &all), Outliving::default());
    }
}
