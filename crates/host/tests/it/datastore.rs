//! Claims from the first Pod to the deleted file, on a simulated host under the real controllers and scheduler.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Host, NODE, await_limited, eventually, object};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

struct Storage {
    host: Host,
    claims: Api<PersistentVolumeClaim>,
    volumes: Api<PersistentVolume>,
    stop: CancellationToken,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Storage {
    async fn start() -> Self {
        let host = Host::start().await;
        let stop = CancellationToken::new();
        let world = |name: &str| {
            let user = apiserver::user::User::new(name, &["system:authenticated"]);
            let client = kube::Client::new(host.api.local_service(user), "default");
            controllers::world::World::new(client, host.api.view())
        };
        let config = controllers::Config {
            pod_cidr: "10.244.0.0/16".into(),
            node_block_prefix: 24,
            root_ca_pem: "PEM".into(),
            vip_pool: Vec::new(),
            signer: None,
            tokens: None,
        };
        let manager = controllers::Manager::new(world("system:kube-controller-manager"), config);
        tokio::spawn(manager.run(stop.clone()));
        let (for_scheduler, stopped) = (world("system:kube-scheduler"), stop.clone());
        tokio::spawn(async move { scheduler::run(&for_scheduler, stopped).await });
        let classes: Api<k8s_openapi::api::storage::v1::StorageClass> = Api::all(host.admin.clone());
        await_limited(await_condition(classes, "datastore", |class: Option<&_>| {
            class.is_some()
        }))
        .await
        .unwrap();
        Self {
            claims: Api::namespaced(host.admin.clone(), "default"),
            volumes: Api::all(host.admin.clone()),
            host,
            stop,
        }
    }

    async fn claim(&self, name: &str, more: Value) {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Mi"}}});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        let claim = object(json!({"metadata": {"name": name}, "spec": spec}));
        self.claims.create(&PostParams::default(), &claim).await.unwrap();
    }

    async fn pod(&self, name: &str, claim: &str) -> Pod {
        let pod = object(json!({"metadata": {"name": name}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}}));
        self.host
            .pods()
            .create(&PostParams::default(), &pod)
            .await
            .unwrap()
    }

    async fn bound(&self, name: &str) -> PersistentVolumeClaim {
        let phase = |claim: Option<&PersistentVolumeClaim>| {
            claim.is_some_and(|c| c.status.as_ref().unwrap().phase.as_deref() == Some("Bound"))
        };
        await_limited(await_condition(self.claims.clone(), name, phase))
            .await
            .unwrap()
            .unwrap()
    }

    fn file(&self, claim: &PersistentVolumeClaim) -> std::path::PathBuf {
        let volume = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
        self.host
            .directory
            .path()
            .join("data/volumes")
            .join(format!("{volume}.img"))
    }

    async fn said(&self, about: &str, reason: &str) -> String {
        let events: Api<Event> = Api::namespaced(self.host.admin.clone(), "default");
        let mut found = String::new();
        eventually(reason, async || {
            let list = events.list(&ListParams::default()).await.unwrap();
            let event = list.into_iter().find(|e| {
                e.involved_object.name.as_deref() == Some(about) && e.reason.as_deref() == Some(reason)
            });
            found = event.as_ref().and_then(|e| e.message.clone()).unwrap_or_default();
            event.is_some()
        })
        .await;
        found
    }
}

#[tokio::test]
async fn a_claim_becomes_a_disk_and_goes_with_it() {
    let storage = Storage::start().await;
    storage.claim("data", json!({})).await;
    storage.pod("one", "data").await;
    let claim = storage.bound("data").await;
    storage.host.ready("one").await;
    let name = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
    assert_eq!(
        storage.said("data", "ProvisioningSucceeded").await,
        format!("Successfully provisioned volume {name}")
    );
    let file = storage.file(&claim);
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 20 << 20);
    let volume = storage.volumes.get(&name).await.unwrap();
    let text = serde_json::to_string(&volume.spec.unwrap().node_affinity).unwrap();
    assert!(text.contains(NODE), "{text}");

    // A second VM would destroy the file system: it waits until the first one has gone.
    storage.pod("two", "data").await;
    assert_eq!(
        storage.said("two", "FailedAttachVolume").await,
        format!("Multi-Attach error for volume \"{name}\" Volume is already used by pod(s) one")
    );
    // The claim grows under the running VM.
    let grow = json!({"spec": {"resources": {"requests": {"storage": "30Mi"}}}});
    storage
        .claims
        .patch("data", &PatchParams::default(), &Patch::Merge(grow))
        .await
        .unwrap();
    storage.said("data", "FileSystemResizeSuccessful").await;
    assert_eq!(std::fs::metadata(&file).unwrap().len(), 30 << 20);
    let grown = storage.claims.get("data").await.unwrap().status.unwrap();
    assert_eq!(grown.capacity.unwrap()["storage"].0, "30Mi");
    assert_eq!(grown.allocated_resources.unwrap()["storage"].0, "30Mi");
    assert_eq!(grown.allocated_resource_statuses, None);

    storage.host.delete("one", None).await;
    storage.host.ready("two").await;
    // In use it stays, whoever deletes it.
    storage
        .claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    assert!(
        storage
            .claims
            .get("data")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    storage.host.delete("two", None).await;
    await_limited(await_condition(
        storage.volumes.clone(),
        &name,
        |volume: Option<&PersistentVolume>| volume.is_none(),
    ))
    .await
    .unwrap();
    assert!(!file.exists(), "the file is deleted with its volume");
}

#[tokio::test]
async fn a_retained_volume_outlives_its_claim_and_a_restart_of_the_agent() {
    let mut storage = Storage::start().await;
    let class = json!({"metadata": {"name": "keep"}, "provisioner": "datastore.podvisor.io",
        "reclaimPolicy": "Retain", "volumeBindingMode": "Immediate", "allowVolumeExpansion": true});
    let classes: Api<k8s_openapi::api::storage::v1::StorageClass> = Api::all(storage.host.admin.clone());
    classes
        .create(&PostParams::default(), &object(class))
        .await
        .unwrap();
    storage
        .claim("data", json!({"storageClassName": "keep", "volumeMode": "Block"}))
        .await;
    let claim = storage.bound("data").await;
    let pod = object(json!({"metadata": {"name": "one"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "volumeDevices": [{"name": "v", "devicePath": "/dev/disk"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}));
    storage
        .host
        .pods()
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
    storage.host.ready("one").await;
    storage.host.restart_agent().await;
    // The next agent knows who has the disk.
    let other = object(json!({"metadata": {"name": "two"}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "volumeDevices": [{"name": "v", "devicePath": "/dev/disk"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}));
    storage
        .host
        .pods()
        .create(&PostParams::default(), &other)
        .await
        .unwrap();
    storage.said("two", "FailedAttachVolume").await;
    storage.host.delete("two", None).await;
    storage.host.delete("one", None).await;
    storage
        .claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    let name = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
    let released = |volume: Option<&PersistentVolume>| {
        volume.is_some_and(|v| v.status.as_ref().unwrap().phase.as_deref() == Some("Released"))
    };
    await_limited(await_condition(storage.volumes.clone(), &name, released))
        .await
        .unwrap();
    assert!(storage.file(&claim).exists(), "what is retained stays");
}

#[tokio::test]
async fn what_cannot_be_made_is_said() {
    let storage = Storage::start().await;
    let block = json!({"accessModes": ["ReadWriteMany"], "volumeMode": "Block"});
    storage.claim("many", block).await;
    storage.pod("one", "many").await;
    assert_eq!(
        storage.said("many", "ProvisioningFailed").await,
        "failed to provision volume with StorageClass \"datastore\": access mode ReadWriteMany is not supported with \
         volumeMode Block: VMs share directories, not disks"
    );
    storage
        .claim("huge", json!({"resources": {"requests": {"storage": "1Ei"}}}))
        .await;
    storage.pod("two", "huge").await;
    let words = storage.said("huge", "ProvisioningFailed").await;
    assert!(words.contains("not enough free space"), "{words}");
}

#[tokio::test]
async fn several_pods_share_a_claim() {
    let storage = Storage::start().await;
    storage
        .claim("many", json!({"accessModes": ["ReadWriteMany"]}))
        .await;
    for name in ["one", "two"] {
        storage.pod(name, "many").await;
        storage.host.ready(name).await;
    }
    let claim = storage.bound("many").await;
    let directory = storage.file(&claim).with_extension("mnt");
    assert!(directory.is_dir());
    // It goes when the last one has gone.
    storage.host.delete("one", None).await;
    assert!(directory.is_dir());
    storage.host.delete("two", None).await;
    eventually("the end of the mount", async || !directory.exists()).await;
    storage
        .claims
        .delete("many", &DeleteParams::default())
        .await
        .unwrap();
    let file = storage.file(&claim);
    eventually("the end of the file", async || !file.exists()).await;
}

/// A class may have it that Pods of one host share what is for one node: a Deployment rolls out over it.
#[tokio::test]
async fn pods_follow_each_other_where_the_class_shares() {
    let storage = Storage::start().await;
    let classes: Api<k8s_openapi::api::storage::v1::StorageClass> = Api::all(storage.host.admin.clone());
    let class = json!({"metadata": {"name": "shared"}, "provisioner": "datastore.podvisor.io",
        "parameters": {"shared": "true"}, "volumeBindingMode": "WaitForFirstConsumer"});
    classes
        .create(&PostParams::default(), &object(class))
        .await
        .unwrap();
    storage.claim("data", json!({"storageClassName": "shared"})).await;
    for name in ["old", "new"] {
        storage.pod(name, "data").await;
        storage.host.ready(name).await;
    }
    let claim = storage.bound("data").await;
    assert_eq!(claim.spec.unwrap().access_modes.unwrap(), ["ReadWriteOnce"]);
}

/// One that comes past the scheduler is told what it would have told.
#[tokio::test]
async fn a_volume_for_one_pod_is_no_second_ones() {
    let storage = Storage::start().await;
    storage
        .claim("data", json!({"accessModes": ["ReadWriteOncePod"]}))
        .await;
    storage.pod("one", "data").await;
    storage.host.ready("one").await;
    let claim = storage.bound("data").await;
    let volume = claim.spec.unwrap().volume_name.unwrap();
    let spec = json!({"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]});
    storage.host.create("two", spec).await;
    assert_eq!(
        storage.said("two", "FailedMount").await,
        format!(
            "MountVolume.SetUp failed for volume \"{volume}\" : volume uses the ReadWriteOncePod access mode and is \
             already in use by another pod"
        )
    );
}

/// Volumes made by hand: a path of the node's file system, for as many Pods as want it.
#[tokio::test]
async fn paths_of_the_node_are_volumes_too() {
    let storage = Storage::start().await;
    let here = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE, "elsewhere"]}]}]}});
    let sources = [
        (
            "path",
            json!({"hostPath": {"path": "/srv/path", "type": "DirectoryOrCreate"}}),
        ),
        (
            "local",
            json!({"local": {"path": "/srv/local"}, "nodeAffinity": here}),
        ),
    ];
    for (name, mut spec) in sources {
        spec["accessModes"] = json!(["ReadWriteOnce"]);
        spec["capacity"] = json!({"storage": "20Mi"});
        spec["storageClassName"] = json!("");
        let volume = object(json!({"metadata": {"name": name}, "spec": spec}));
        storage
            .volumes
            .create(&PostParams::default(), &volume)
            .await
            .unwrap();
        storage
            .claim(name, json!({"volumeName": name, "storageClassName": ""}))
            .await;
        storage.bound(name).await;
        storage.pod(name, name).await;
    }
    storage.pod("second", "path").await;
    let source = async |pod: &str| {
        let pod = storage.host.ready(pod).await;
        let request = storage.host.guest(&pod).request("c_0").unwrap();
        let mount = request.mounts.into_iter().find(|mount| mount.destination == "/v");
        match mount.unwrap().source.unwrap() {
            guest_api::v1::mount::Source::HostPath(path) => (path.path, path.r#type),
            other => panic!("{other:?}"),
        }
    };
    let made = ("/srv/path".to_owned(), "DirectoryOrCreate".to_owned());
    assert_eq!(source("path").await, made);
    assert_eq!(source("second").await, made);
    // A local volume is not made.
    assert_eq!(
        storage.said("local", "FailedMount").await,
        "MountVolume.SetUp failed for volume \"local\" : path \"/srv/local\" does not exist"
    );
    std::fs::create_dir_all(storage.host.directory.path().join("data/node/srv/local")).unwrap();
    assert_eq!(source("local").await, ("/srv/local".to_owned(), String::new()));
}

#[tokio::test]
async fn snapshots_come_fill_claims_and_go() {
    let storage = Storage::start().await;
    storage.claim("data", json!({})).await;
    storage.pod("one", "data").await;
    let claim = storage.bound("data").await;
    storage.host.ready("one").await;
    std::fs::write(storage.file(&claim), vec![7; 20 << 20]).unwrap();

    let kind = |kind: &str, plural: &str| kube::api::ApiResource {
        group: "snapshot.storage.k8s.io".into(),
        version: "v1".into(),
        api_version: "snapshot.storage.k8s.io/v1".into(),
        kind: kind.into(),
        plural: plural.into(),
    };
    let snapshots: Api<kube::api::DynamicObject> = Api::namespaced_with(
        storage.host.admin.clone(),
        "default",
        &kind("VolumeSnapshot", "volumesnapshots"),
    );
    let contents: Api<kube::api::DynamicObject> = Api::all_with(
        storage.host.admin.clone(),
        &kind("VolumeSnapshotContent", "volumesnapshotcontents"),
    );
    let snapshot = |name: &str, from: &str| {
        object(
            json!({"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
            "metadata": {"name": name}, "spec": {"source": {"persistentVolumeClaimName": from}}}),
        )
    };
    let mut made = false;
    eventually("the kinds of snapshots", async || {
        made = made
            || snapshots
                .create(&PostParams::default(), &snapshot("first", "data"))
                .await
                .is_ok();
        made
    })
    .await;
    let status = async |name: &str| snapshots.get(name).await.unwrap().data["status"].clone();
    eventually("the snapshot", async || {
        status("first").await["readyToUse"] == true
    })
    .await;
    assert_eq!(status("first").await["restoreSize"], "20Mi");
    assert_eq!(
        storage.said("first", "SnapshotReady").await,
        "Snapshot default/first is ready to use."
    );

    // What is made of it, and of the claim itself, has what was there.
    let group = "snapshot.storage.k8s.io";
    let restore = json!({"dataSource": {"apiGroup": group, "kind": "VolumeSnapshot", "name": "first"}});
    storage.claim("restored", restore).await;
    let clone = json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "data"},
        "resources": {"requests": {"storage": "24Mi"}}});
    storage.claim("cloned", clone).await;
    for (pod, name, size) in [("two", "restored", 20), ("three", "cloned", 24)] {
        storage.pod(pod, name).await;
        let claim = storage.bound(name).await;
        let bytes = std::fs::read(storage.file(&claim)).unwrap();
        assert_eq!(bytes.len(), size << 20, "{name}");
        assert!(bytes[..20 << 20].iter().all(|byte| *byte == 7), "{name}");
        storage.host.ready(pod).await;
    }
    let small = json!({"dataSource": {"apiGroup": group, "kind": "VolumeSnapshot", "name": "first"},
        "resources": {"requests": {"storage": "16Mi"}}});
    storage.claim("small", small).await;
    storage.pod("four", "small").await;
    let words = storage.said("small", "ProvisioningFailed").await;
    assert!(
        words.ends_with(
            "requested volume size 16777216 is less than the size 20971520 for the source snapshot first"
        ),
        "{words}"
    );
    storage
        .claims
        .delete("small", &DeleteParams::default())
        .await
        .unwrap();
    storage.host.delete("four", None).await;

    snapshots
        .create(&PostParams::default(), &snapshot("wrong", "nothing"))
        .await
        .unwrap();
    let words = storage.said("wrong", "SnapshotContentCreationFailed").await;
    assert!(words.contains("persistentvolumeclaim"), "{words}");
    assert_eq!(status("wrong").await["error"]["message"], words.as_str());

    let volumes = storage.host.directory.path().join("data/volumes");
    let copies = || {
        let names = std::fs::read_dir(&volumes).unwrap().flatten();
        names
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("snapshot-"))
            .count()
    };
    assert_eq!(copies(), 1);
    for name in ["first", "wrong"] {
        snapshots.delete(name, &DeleteParams::default()).await.unwrap();
        await_limited(await_condition(
            snapshots.clone(),
            name,
            |snapshot: Option<&kube::api::DynamicObject>| snapshot.is_none(),
        ))
        .await
        .unwrap();
    }
    assert_eq!(copies(), 0);
    assert!(
        contents
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}
