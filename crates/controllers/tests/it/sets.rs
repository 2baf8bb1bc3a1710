//! StatefulSets and their claims, DaemonSets and their nodes.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Plane, template};
use controllers::obj::{items, meta, text};
use controllers::world::World;
use serde_json::{Value, json};

const SETS: &str = "statefulsets.apps";
const CLAIMS: &str = "persistentvolumeclaims";

fn stateful(replicas: i64, policy: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "db"}}, "template": template("db", "one"),
            "persistentVolumeClaimRetentionPolicy": policy,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}})
}

fn claim(world: &World, name: &str) -> Option<std::sync::Arc<Value>> {
    world.get(CLAIMS, "default", name)
}

/// The words of an event about an object.
fn told(world: &World, about: &str, reason: &str) -> Option<String> {
    let events = world.list("events", "default");
    let event = events
        .iter()
        .find(|e| text(e, "/involvedObject/name") == about && text(e, "/reason") == reason)?;
    Some(text(event, "/message").to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_pod_gets_its_claim_again() {
    // Without a host its Pod waits.
    let plane = Plane::start(&[]).await;
    plane.create(SETS, stateful(1, json!({}))).await;
    let first = plane
        .until("claim and Pod", |w| {
            w.get("pods", "default", "db-0")?;
            claim(w, "data-db-0")
        })
        .await;
    plane.world.delete(CLAIMS, &first, "Background").await.unwrap();
    plane
        .until("another claim", |w| {
            let second = claim(w, "data-db-0")?;
            (meta(&second, "uid") != meta(&first, "uid")).then_some(())
        })
        .await;
    let words = "create Pod db-0 in StatefulSet db successful";
    plane
        .until("the words of it", |w| {
            let events = w.list("events", "default");
            events.iter().find(|e| text(e, "/message") == words).map(drop)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_go_with_the_pods_they_were_for() {
    let plane = Plane::start(&["host-1"]).await;
    let policy = json!({"whenDeleted": "Delete", "whenScaled": "Delete"});
    let set = plane.create(SETS, stateful(2, policy)).await;
    let owner = |w: &World, name: &str| {
        let claim = claim(w, name)?;
        Some(text(&claim, "/metadata/ownerReferences/0/kind").to_owned())
    };
    plane
        .until("claims of the set", |w| {
            w.get("pods", "default", "db-1")?;
            let owners = [owner(w, "data-db-0")?, owner(w, "data-db-1")?];
            owners.iter().all(|kind| kind == "StatefulSet").then_some(())
        })
        .await;
    let patch = json!({"spec": {"replicas": 1}});
    plane.world.patch(SETS, &set, "", &patch).await.unwrap();
    plane
        .until("one claim", |w| claim(w, "data-db-1").is_none().then_some(()))
        .await;
    assert_eq!(owner(&plane.world, "data-db-0").as_deref(), Some("StatefulSet"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_somebody_else_holds_nothing_up() {
    let plane = Plane::start(&["host-1"]).await;
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other", "namespace": "default"}});
    let other = plane.create("configmaps", other).await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": meta(&other, "uid"),
        "controller": true});
    let theirs = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-db-0", "namespace": "default", "ownerReferences": [owner]},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    plane.create(CLAIMS, theirs).await;
    plane
        .create(SETS, stateful(2, json!({"whenDeleted": "Delete"})))
        .await;
    plane
        .until("two Pods", |w| {
            let set = w.get(SETS, "default", "db")?;
            (set["status"]["readyReplicas"] == 2).then_some(())
        })
        .await;
    let claim = claim(&plane.world, "data-db-0").unwrap();
    let owners = items(&claim, "/metadata/ownerReferences");
    assert_eq!(owners.len(), 1, "{owners:?}");
    let words = plane
        .until("the conflict", |w| told(w, "db", "ConflictingController"))
        .await;
    assert_eq!(
        words,
        "PersistentVolumeClaim data-db-0 has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_are_adopted() {
    let plane = Plane::start(&["host-1"]).await;
    let stray = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "namespace": "default",
        "labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": "one"}]}});
    plane.create("pods", stray).await;
    let named = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-0", "namespace": "default",
        "labels": {"app": "db"}}, "spec": {"containers": [{"name": "main", "image": "one"}]}});
    plane.create("pods", named).await;
    plane.create(SETS, stateful(1, json!({}))).await;
    plane
        .until("a member, mended", |w| {
            let pod = w.get("pods", "default", "db-0")?;
            let mended = text(&pod, "/metadata/labels/statefulset.kubernetes.io~1pod-name") == "db-0";
            (mended && items(&pod, "/metadata/ownerReferences").len() == 1).then_some(())
        })
        .await;
    let stray = plane.world.get("pods", "default", "stray").unwrap();
    assert!(items(&stray, "/metadata/ownerReferences").is_empty(), "{stray}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_of_one_node_has_one_pod() {
    let plane = Plane::start(&["host-1", "host-2"]).await;
    let mut of_one = template("one", "one");
    of_one["spec"]["nodeName"] = json!("host-2");
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "one", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "one"}}, "template": of_one}});
    plane.create("daemonsets.apps", set).await;
    let status = plane
        .until("one ready Pod", |w| {
            let set = w.get("daemonsets.apps", "default", "one")?;
            (set["status"]["numberAvailable"] == 1).then(|| set["status"].clone())
        })
        .await;
    assert_eq!(
        (
            &status["desiredNumberScheduled"],
            &status["updatedNumberScheduled"]
        ),
        (&json!(1), &json!(1))
    );
    let pods = plane.world.list("pods", "default");
    let [pod] = pods.as_slice() else {
        panic!("{:?}", plane.pods(""));
    };
    assert_eq!(text(pod, "/spec/nodeName"), "host-2");
    assert_eq!(text(pod, "/metadata/labels/pod-template-generation"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_introduced() {
    let plane = Plane::start(&["host-1"]).await;
    let words = plane
        .until("a greeting", |w| told(w, "host-1", "RegisteredNode"))
        .await;
    assert_eq!(words, "Node host-1 event: Registered Node host-1 in Controller");
    let node = plane.world.get("nodes", "", "host-1").unwrap();
    plane.world.delete("nodes", &node, "Background").await.unwrap();
    let words = plane
        .until("a farewell", |w| told(w, "host-1", "RemovingNode"))
        .await;
    assert_eq!(words, "Node host-1 event: Removing Node host-1 from Controller");
}
