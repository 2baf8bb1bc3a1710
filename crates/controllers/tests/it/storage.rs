//! Claims and volumes against a real API server: binding, loss, protection, claims of Pods.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Plane;
use controllers::obj::{annotation, deleting, meta, text};
use serde_json::{Value, json};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "storageclasses.storage.k8s.io";

async fn plane() -> Plane {
    let plane = Plane::start(&["host-1"]).await;
    plane
        .until("the default class", |w| w.get(CLASSES, "", "datastore"))
        .await;
    plane
}

fn claim(name: &str, size: &str, more: Value) -> Value {
    let mut claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn volume(name: &str, size: &str, more: Value) -> Value {
    let mut volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "datastore.podvisor.io", "volumeHandle": name}}});
    for (key, value) in more.as_object().into_iter().flatten() {
        volume["spec"][key] = value.clone();
    }
    volume
}

async fn said(plane: &Plane, about: &str, reason: &str) -> String {
    plane
        .until(reason, |w| {
            w.list("events", "default")
                .into_iter()
                .chain(w.list("events", ""))
                .find(|e| text(e, "/involvedObject/name") == about && text(e, "/reason") == reason)
                .map(|e| text(&e, "/message").to_string())
        })
        .await
}

async fn phase(plane: &Plane, key: &'static str, name: &str, phase: &str) -> Value {
    let namespace = if key == CLAIMS { "default" } else { "" };
    plane
        .until(&format!("{name} {phase}"), |w| {
            let object = w.get(key, namespace, name)?;
            (text(&object, "/status/phase") == phase).then(|| (*object).clone())
        })
        .await
}

/// A claim that chose nothing takes the default class that comes later; one that chose none does not.
#[tokio::test]
async fn a_late_default_class_is_for_waiting_claims_too() {
    let plane = plane().await;
    let class = plane.world.get(CLASSES, "", "datastore").unwrap();
    plane.world.delete(CLASSES, &class, "Background").await.unwrap();
    plane.create(CLAIMS, claim("any", "1Gi", json!({}))).await;
    plane
        .create(CLAIMS, claim("none", "1Gi", json!({"storageClassName": ""})))
        .await;
    let why = "no persistent volumes available for this claim and no storage class is set";
    assert_eq!(said(&plane, "any", "FailedBinding").await, why);
    let late = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "p",
        "metadata": {"name": "late", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    plane.create(CLASSES, late).await;
    plane
        .until("the late class", |w| {
            let claim = w.get(CLAIMS, "default", "any")?;
            (text(&claim, "/spec/storageClassName") == "late").then_some(())
        })
        .await;
    assert_eq!(said(&plane, "none", "FailedBinding").await, why);
    let none = plane.world.get(CLAIMS, "default", "none").unwrap();
    assert_eq!(none["spec"]["storageClassName"], "");
}

#[tokio::test]
async fn static_volumes_are_bound_and_released() {
    let plane = plane().await;
    let none = json!({"storageClassName": ""});
    plane.create(CLAIMS, claim("a", "2Gi", none.clone())).await;
    assert_eq!(
        said(&plane, "a", "FailedBinding").await,
        "no persistent volumes available for this claim and no storage class is set"
    );
    phase(&plane, CLAIMS, "a", "Pending").await;
    plane.create(VOLUMES, volume("big", "9Gi", json!({}))).await;
    plane.create(VOLUMES, volume("tiny", "1Gi", json!({}))).await;
    let bound = phase(&plane, CLAIMS, "a", "Bound").await;
    assert_eq!(text(&bound, "/spec/volumeName"), "big");
    assert_eq!(text(&bound, "/status/capacity/storage"), "9Gi");
    assert_eq!(annotation(&bound, "pv.kubernetes.io/bind-completed"), "yes");
    let big = phase(&plane, VOLUMES, "big", "Bound").await;
    assert_eq!(text(&big, "/spec/claimRef/uid"), meta(&bound, "uid"));
    phase(&plane, VOLUMES, "tiny", "Available").await;

    // One that is named but does not fit.
    let mut named = none.clone();
    named["volumeName"] = json!("tiny");
    plane.create(CLAIMS, claim("b", "5Gi", named)).await;
    assert_eq!(
        said(&plane, "b", "VolumeMismatch").await,
        "Cannot bind to requested volume \"tiny\": requested PV is too small"
    );

    // Deleting a claim releases a retained volume; deleting a bound volume waits for its claim.
    plane.world.delete(VOLUMES, &big, "Background").await.unwrap();
    plane
        .until("a protected volume", |w| {
            w.get(VOLUMES, "", "big").filter(|v| deleting(v))
        })
        .await;
    plane.world.delete(CLAIMS, &bound, "Background").await.unwrap();
    plane
        .until("the volume's end", |w| {
            w.get(VOLUMES, "", "big").is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn claims_that_lost_their_volume_say_so() {
    let plane = plane().await;
    let none = json!({"storageClassName": ""});
    plane.create(VOLUMES, volume("v", "1Gi", json!({}))).await;
    plane.create(CLAIMS, claim("a", "1Gi", none)).await;
    phase(&plane, CLAIMS, "a", "Bound").await;
    let v = plane.world.get(VOLUMES, "", "v").unwrap();
    plane.world.delete(VOLUMES, &v, "Background").await.unwrap();
    plane
        .until("a volume in deletion", |w| {
            w.get(VOLUMES, "", "v").filter(|v| deleting(v))
        })
        .await;
    let v = plane.world.get(VOLUMES, "", "v").unwrap();
    let bare = json!({"metadata": {"finalizers": null}});
    plane.world.patch(VOLUMES, &v, "", &bare).await.unwrap();
    phase(&plane, CLAIMS, "a", "Lost").await;
    assert_eq!(
        said(&plane, "a", "ClaimLost").await,
        "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
    );
}

#[tokio::test]
async fn claims_of_the_default_class_wait_for_their_first_pod() {
    let plane = plane().await;
    let class = plane.world.get(CLASSES, "", "datastore").unwrap();
    assert_eq!(class["allowVolumeExpansion"], true);
    let made = plane.create(CLAIMS, claim("a", "1Gi", json!({}))).await;
    assert_eq!(text(&made, "/spec/storageClassName"), "datastore");
    assert_eq!(
        said(&plane, "a", "WaitForFirstConsumer").await,
        "waiting for first consumer to be created before binding"
    );
    // What the scheduler does, and then the host.
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "host-1"}}});
    plane.world.patch(CLAIMS, &made, "", &chosen).await.unwrap();
    let asked = plane
        .until("a provisioner", |w| {
            let claim = w.get(CLAIMS, "default", "a")?;
            let named =
                annotation(&claim, "volume.kubernetes.io/storage-provisioner") == "datastore.podvisor.io";
            named.then_some(claim)
        })
        .await;
    let mut pv = volume(
        "pvc-1",
        "1Gi",
        json!({"storageClassName": "datastore", "persistentVolumeReclaimPolicy": "Delete", "claimRef": {
            "kind": "PersistentVolumeClaim", "apiVersion": "v1",
            "namespace": "default", "name": "a", "uid": meta(&asked, "uid")}}),
    );
    pv["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "datastore.podvisor.io"});
    plane.create(VOLUMES, pv).await;
    phase(&plane, CLAIMS, "a", "Bound").await;
    // A Pod that uses the claim keeps it.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "stays"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]}});
    let pod = plane.create("pods", pod).await;
    plane
        .until("a running Pod", |w| {
            w.get("pods", "default", "p")
                .filter(|p| text(p, "/status/phase") == "Running")
        })
        .await;
    let a = plane.world.get(CLAIMS, "default", "a").unwrap();
    plane.world.delete(CLAIMS, &a, "Background").await.unwrap();
    plane
        .until("a protected claim", |w| {
            w.get(CLAIMS, "default", "a").filter(|c| deleting(c))
        })
        .await;
    plane.world.delete("pods", &pod, "Background").await.unwrap();
    plane
        .until("the claim's end", |w| {
            w.get(CLAIMS, "default", "a").is_none().then_some(())
        })
        .await;
    phase(&plane, VOLUMES, "pvc-1", "Released").await;
}

#[tokio::test]
async fn ephemeral_volumes_get_claims_of_their_own() {
    let plane = plane().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "stays"}],
            "volumes": [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"x": "y"}},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]}});
    let pod = plane.create("pods", pod).await;
    let made = plane
        .until("its claim", |w| w.get(CLAIMS, "default", "p-tmp"))
        .await;
    assert_eq!(text(&made, "/metadata/ownerReferences/0/uid"), meta(&pod, "uid"));
    assert_eq!(text(&made, "/metadata/labels/x"), "y");
    plane.world.delete("pods", &pod, "Background").await.unwrap();
    plane
        .until("the claim's end", |w| {
            w.get(CLAIMS, "default", "p-tmp").is_none().then_some(())
        })
        .await;
}

#[tokio::test]
async fn claims_show_the_attributes_of_their_volume() {
    let plane = plane().await;
    let gold = json!({"volumeAttributesClassName": "gold"});
    plane.create(VOLUMES, volume("v", "1Gi", gold)).await;
    let wish = json!({"storageClassName": "", "volumeAttributesClassName": "gold"});
    plane.create(CLAIMS, claim("a", "1Gi", wish)).await;
    let bound = phase(&plane, CLAIMS, "a", "Bound").await;
    assert_eq!(text(&bound, "/status/currentVolumeAttributesClassName"), "gold");
}

#[tokio::test]
async fn released_paths_of_nodes_are_not_deleted() {
    let plane = plane().await;
    let mut path = volume("path", "1Gi", json!({"persistentVolumeReclaimPolicy": "Delete"}));
    path["spec"]["csi"] = Value::Null;
    path["spec"]["hostPath"] = json!({"path": "/srv/data"});
    plane.create(VOLUMES, path).await;
    plane
        .create(CLAIMS, claim("a", "1Gi", json!({"storageClassName": ""})))
        .await;
    let bound = phase(&plane, CLAIMS, "a", "Bound").await;
    plane.world.delete(CLAIMS, &bound, "Background").await.unwrap();
    assert_eq!(
        said(&plane, "path", "VolumeFailedDelete").await,
        "host_path deleter only supports /tmp/.+ but received provided /srv/data"
    );
    phase(&plane, VOLUMES, "path", "Failed").await;
}

#[tokio::test]
async fn all_pods_that_wait_for_a_claim_are_named() {
    // Without a host nobody is bound.
    let plane = Plane::start(&[]).await;
    for name in ["p", "q"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "stays"}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}]}});
        plane.create("pods", pod).await;
    }
    plane
        .until("the default class", |w| w.get(CLASSES, "", "datastore"))
        .await;
    plane.create(CLAIMS, claim("a", "1Gi", json!({}))).await;
    assert_eq!(
        said(&plane, "a", "WaitForPodScheduled").await,
        "waiting for pods p,q to be scheduled"
    );
}
