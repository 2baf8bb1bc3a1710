//! PodDisruptionBudgets: what they allow, and that evictions keep to it, whoever owns the Pods.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Plane, template};
use controllers::obj::{condition, deleting, int, meta, text};
use controllers::world::World;
use serde_json::{Value, json};

const BUDGETS: &str = "poddisruptionbudgets.policy";

fn budget(name: &str, app: &str, rule: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": app}}});
    spec.as_object_mut()
        .unwrap()
        .extend(rule.as_object().unwrap().clone());
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec})
}

/// Waits until a budget says so many: expected, desired, healthy, allowed.
async fn says(plane: &Plane, name: &str, wanted: [i64; 4]) {
    let numbers = |w: &World| {
        let budget = w.get(BUDGETS, "default", name)?;
        let of = |field: &str| int(&budget, &format!("/status/{field}"), -1);
        let shown = [
            "expectedPods",
            "desiredHealthy",
            "currentHealthy",
            "disruptionsAllowed",
        ]
        .map(of);
        (shown == wanted).then_some(())
    };
    plane
        .until(&format!("budget {name} at {wanted:?}"), numbers)
        .await;
}

async fn evict(plane: &Plane, name: &str) -> Result<Value, String> {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"}});
    let answer = plane
        .world
        .post_sub("pods", "default", name, "eviction", &eviction)
        .await;
    answer.map_err(|error| format!("{} {}", error.code(), error.message()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_follow_the_owners_of_the_pods() {
    let plane = Plane::start(&["host-1"]).await;
    plane
        .create(
            "deployments.apps",
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
                "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": template("web", "one")}}),
        )
        .await;
    let cases = [
        ("most", json!({"maxUnavailable": 1}), [4, 3, 4, 1]),
        ("share", json!({"minAvailable": "50%"}), [4, 2, 4, 2]),
        ("least", json!({"minAvailable": 4}), [4, 4, 4, 0]),
        ("nothing", json!({}), [0, 0, 4, 0]),
    ];
    for (name, rule, _) in &cases {
        plane.create(BUDGETS, budget(name, "web", rule.clone())).await;
    }
    for (name, _, wanted) in cases {
        says(&plane, name, wanted).await;
    }
    // A Pod guarded by several budgets is nobody's to take.
    let pod = meta(&plane.world.list("pods", "default")[0], "name").to_owned();
    let refused = evict(&plane, &pod).await.unwrap_err();
    assert!(
        refused.ends_with(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        ),
        "{refused}"
    );
    for name in ["share", "least", "nothing"] {
        let budget = plane.world.get(BUDGETS, "default", name).unwrap();
        plane.world.delete(BUDGETS, &budget, "Background").await.unwrap();
    }
    // One may go; the next has to wait until another has taken its place.
    assert!(evict(&plane, &pod).await.is_ok());
    says(&plane, "most", [4, 3, 4, 1]).await;
    let strict = plane.world.get(BUDGETS, "default", "most").unwrap();
    let none = json!({"spec": {"maxUnavailable": 0}});
    plane.world.patch(BUDGETS, &strict, "", &none).await.unwrap();
    says(&plane, "most", [4, 4, 4, 0]).await;
    // One that goes already is let go, whatever the budget says.
    let pods = plane.world.list("pods", "default");
    let stays = pods.iter().find(|pod| !deleting(pod)).unwrap();
    let refused = evict(&plane, meta(stays, "name")).await.unwrap_err();
    assert_eq!(
        refused,
        "429 Cannot evict pod as it would violate the pod's disruption budget."
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_of_any_kind_count_by_their_scale() {
    let plane = Plane::start(&["host-1"]).await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let scale = json!({"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"});
    for (kind, plural, subresources) in [
        ("Fleet", "fleets", json!({"scale": scale})),
        ("Lone", "lones", json!({})),
    ] {
        plane
            .create(
                "customresourcedefinitions.apiextensions.k8s.io",
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                    "metadata": {"name": format!("{plural}.x.example.com")},
                    "spec": {"group": "x.example.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
                        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": subresources,
                            "schema": {"openAPIV3Schema": schema}}]}}),
            )
            .await;
        let key = format!("{plural}.x.example.com");
        plane
            .until("the kind", |w| {
                let crd = w.get("customresourcedefinitions.apiextensions.k8s.io", "", &key)?;
                (condition(&crd, "Established")?["status"] == "True").then_some(())
            })
            .await;
        plane.world.know(controllers::world::Resource {
            group: "x.example.com".into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced: true,
        });
        let owner = plane
            .create(
                &key,
                json!({"apiVersion": "x.example.com/v1", "kind": kind,
                    "metadata": {"name": "one", "namespace": "default"}, "spec": {"replicas": 3}}),
            )
            .await;
        let reference = controllers::obj::owner_ref(&owner);
        for n in 0..2 {
            let mut pod = template(plural, "one");
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"]["name"] = json!(format!("{plural}-{n}"));
            pod["metadata"]["namespace"] = json!("default");
            pod["metadata"]["ownerReferences"] = json!([reference]);
            plane.create("pods", pod).await;
        }
        plane
            .create(BUDGETS, budget(plural, plural, json!({"maxUnavailable": 2})))
            .await;
    }
    says(&plane, "fleets", [3, 1, 2, 1]).await;
    // A kind is served a moment before discovery lists it: until then the words are others.
    let why = "x.example.com/v1, Resource=lones does not implement the scale subresource";
    plane
        .until(why, |w| {
            let budget = w.get(BUDGETS, "default", "lones")?;
            let condition = condition(&budget, "DisruptionAllowed")?;
            (condition["reason"] == "SyncFailed" && text(condition, "/message") == why).then_some(())
        })
        .await;
    let words = format!("Failed to calculate the number of expected pods: {why}");
    plane
        .until(&words, |w| {
            let events = w.list("events", "default");
            let mut told = events
                .iter()
                .filter(|e| e["reason"] == "CalculateExpectedPodCountFailed");
            told.any(|e| e["message"] == *words).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_announcement_that_nothing_follows_is_taken_back() {
    let plane = Plane::start(&["host-1"]).await;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod"});
    pod["spec"] = template("web", "one")["spec"].clone();
    for name in ["evicted", "host-knows"] {
        pod["metadata"] = json!({"name": name, "namespace": "default"});
        plane.create("pods", pod.clone()).await;
    }
    let running = |name: &'static str| {
        move |w: &World| {
            let pod = w.get("pods", "default", name)?;
            (text(&pod, "/status/phase") == "Running").then_some(pod)
        }
    };
    for (name, reason) in [
        ("host-knows", "TerminationByKubelet"),
        ("evicted", "EvictionByEvictionAPI"),
    ] {
        let pod = plane.until("a running Pod", running(name)).await;
        let mut status = pod["status"].clone();
        let announced = json!({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "soon",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        status["conditions"].as_array_mut().unwrap().push(announced);
        plane.world.update_status("pods", &pod, &status).await.unwrap();
    }
    let taken_back = plane
        .until("it taken back", |w: &World| {
            let pod = w.get("pods", "default", "evicted")?;
            let told = condition(&pod, "DisruptionTarget")?;
            (told["status"] == "False").then(|| told.clone())
        })
        .await;
    assert_eq!(taken_back["reason"], Value::Null);
    assert_ne!(taken_back["lastTransitionTime"], "2026-01-01T00:00:00Z");
    let other = plane.world.get("pods", "default", "host-knows").unwrap();
    assert_eq!(condition(&other, "DisruptionTarget").unwrap()["status"], "True");
}
