//! What one more object costs: controllers look at what it concerns, however many others there are.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Plane, template};
use controllers::obj::{int, items, meta, text};
use controllers::world::World;
use serde_json::{Value, json};

/// So many of each kind are at rest.
const MANY: usize = 300;
/// So often at most a controller may look at something for what a round of [`make_and_mark`] makes, its own writes included.
const FEW: u64 = 30;

/// A kind: its key, one of it, and whether the controllers are done with it.
struct Kind {
    key: &'static str,
    one: fn(&str) -> Value,
    settled: fn(&World, &Value) -> bool,
}

fn workload(api: &str, kind: &str, name: &str, mut more: Value) -> Value {
    more["selector"] = json!({"matchLabels": {"app": name}});
    more["template"] = template(name, "one");
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": more})
}

fn job() -> Value {
    json!({"suspend": true, "template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "main", "image": "one"}]}}})
}

/// Its controller has written the status of this generation.
fn observed(_: &World, object: &Value) -> bool {
    int(object, "/status/observedGeneration", 0) == int(object, "/metadata/generation", 1)
}

const KINDS: [Kind; 7] = [
    Kind {
        key: "deployments.apps",
        one: |name| workload("apps/v1", "Deployment", name, json!({"replicas": 0})),
        settled: |world, object| {
            let conditions = items(object, "/status/conditions");
            let sets = world.select("replicasets.apps", "default", |set| {
                set.label("app") == Some(meta(object, "name"))
            });
            conditions.iter().any(|c| c["reason"] == "NewReplicaSetAvailable")
                && sets.iter().any(|set| observed(world, set))
        },
    },
    Kind {
        key: "statefulsets.apps",
        one: |name| {
            workload(
                "apps/v1",
                "StatefulSet",
                name,
                json!({"replicas": 0, "serviceName": "s"}),
            )
        },
        settled: observed,
    },
    Kind {
        key: "daemonsets.apps",
        one: |name| workload("apps/v1", "DaemonSet", name, json!({})),
        settled: observed,
    },
    Kind {
        key: "jobs.batch",
        one: |name| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
                "spec": job()})
        },
        settled: |_, object| !items(object, "/status/conditions").is_empty(),
    },
    Kind {
        key: "cronjobs.batch",
        one: |name| {
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "default"},
                "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job()}}})
        },
        settled: |_, _| true,
    },
    Kind {
        key: "poddisruptionbudgets.policy",
        one: |name| {
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}}})
        },
        settled: observed,
    },
    Kind {
        key: "services",
        one: |name| {
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
        },
        settled: |world, object| {
            let name = meta(object, "name");
            has_slice(world, name) && world.get("endpoints", "default", name).is_some()
        },
    },
];

/// The controllers that choose what they look at.
const CONTROLLERS: [&str; 12] = [
    "deployment",
    "replicaset-controller",
    "replication-controller",
    "statefulset",
    "daemonset",
    "job",
    "cronjob",
    "disruption budgets",
    "endpoints",
    "endpoint slice mirroring",
    "load balancer",
    "serviceaccount",
];

fn has_slice(world: &World, service: &str) -> bool {
    let of = |slice: &cache::Object| slice.label("kubernetes.io/service-name") == Some(service);
    !world
        .entries("endpointslices.discovery.k8s.io", "default", of)
        .is_empty()
}

async fn make(plane: &Plane, name: &str) {
    let all = KINDS.iter().map(|kind| plane.create(kind.key, (kind.one)(name)));
    futures::future::join_all(all).await;
}

async fn until_settled(plane: &Plane, names: &[String]) {
    let mut left: Vec<(&Kind, &String)> = KINDS
        .iter()
        .flat_map(|kind| names.iter().map(move |name| (kind, name)))
        .collect();
    plane
        .until("everything at rest", |world| {
            while let Some((kind, name)) = left.last() {
                let object = world.get(kind.key, "default", name);
                if !object.is_some_and(|object| (kind.settled)(world, &object)) {
                    return None;
                }
                left.pop();
            }
            Some(())
        })
        .await;
}

/// Makes one more of each kind, and something that shows of every controller that it has seen all that came before.
async fn make_and_mark(plane: &Plane, name: &str) {
    make(plane, name).await;
    until_settled(plane, &[name.to_owned()]).await;
    let (balanced, by_hand) = (format!("{name}-balanced"), format!("{name}-by-hand"));
    let service = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": kind, "ports": [{"port": 80}]}})
    };
    plane.create("services", service(&balanced, "LoadBalancer")).await;
    plane.create("services", service(&by_hand, "ClusterIP")).await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": by_hand, "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}]});
    plane.create("endpoints", endpoints).await;
    // A day that never comes, of which it complains.
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": format!("{name}-never"), "namespace": "default"},
        "spec": {"schedule": "0 0 31 2 *", "jobTemplate": {"spec": job()}}});
    plane.create("cronjobs.batch", cron).await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    plane.create("namespaces", namespace).await;
    plane
        .until("the marks", |world| {
            let service = world.get("services", "default", &balanced)?;
            let events = world.list("events", "default");
            let complains = |event: &Value| {
                text(event, "/involvedObject/name") == format!("{name}-never")
                    && text(event, "/reason") == "InvalidSchedule"
            };
            let marked = !items(&service, "/status/loadBalancer/ingress").is_empty()
                && has_slice(world, &by_hand)
                && events.iter().any(|event| complains(event))
                && world.get("configmaps", name, "kube-root-ca.crt").is_some();
            marked.then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_more_object_is_looked_at_alone() {
    let plane = Plane::start(&[]).await;
    let names: Vec<String> = (0..MANY).map(|n| format!("at-rest-{n}")).collect();
    for some in names.chunks(30) {
        futures::future::join_all(some.iter().map(|name| make(&plane, name))).await;
        until_settled(&plane, some).await;
    }
    // Whoever is done with one that came after all others has seen their last changes.
    make_and_mark(&plane, "last").await;
    let before = CONTROLLERS.map(|name| plane.queues.looks(name));
    make_and_mark(&plane, "one-more").await;
    let looks = CONTROLLERS.map(|name| plane.queues.looks(name));
    for ((name, before), after) in CONTROLLERS.iter().zip(before).zip(looks) {
        let looks = after - before;
        assert!(looks <= FEW, "{name} has looked at {looks} objects");
        let idle = *name == "replication-controller";
        assert!(idle || looks > 0, "{name} has not looked");
        let all = !idle && *name != "serviceaccount";
        assert!(!all || after as usize >= MANY, "{name} has not looked at all");
    }
}
