//! Local storage against its limits, volumes of images, and resize in place, on a simulated host.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Host, NODE, condition, eventually, restarts, state};
use guest_api::v1::mount::Source;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[tokio::test]
async fn a_full_empty_dir_ends_its_pod() {
    let host = Host::start().await;
    let spec = json!({"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "cache", "mountPath": "/cache"}]}],
        "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "10Mi"}}]});
    host.create("full", spec).await;
    let pod = host.ready("full").await;
    host.guest(&pod).fill("cache", 10 << 20);
    let guest = host.guest(&pod);
    guest.fill("cache", 11 << 20);
    let pod = host.phase("full", "Failed").await;
    let status = pod.status.clone().unwrap();
    let words = "Usage of EmptyDir volume \"cache\" exceeds the limit \"10Mi\". ";
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(status.message.as_deref(), Some(words));
    // It is its own fault: nobody disrupted it.
    assert_eq!(condition(&pod, "DisruptionTarget"), "");
    let told = format!("Evicted: {words}");
    host.told("full", &told, |event| event == told).await;
}

#[tokio::test]
async fn a_full_disk_ends_the_greediest_pod() {
    // No disk has more free than it has.
    let host = Host::start_with(host::pressure::Thresholds {
        disk_percent: 101,
        disk_bytes: u64::MAX,
        inodes_percent: 0,
        memory_bytes: 0,
        ..host::pressure::Thresholds::default()
    })
    .await;
    let spec = json!({"containers": [{"name": "c", "image": "x"}]});
    host.create("late", spec).await;
    let pod = host.phase("late", "Failed").await;
    let status = pod.status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(
        status.message.as_deref(),
        Some("Pod was rejected: The node had condition: [DiskPressure]. ")
    );
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(host.admin.clone());
    eventually("the condition", async || {
        let node = nodes.get(NODE).await.unwrap();
        let conditions = node.status.unwrap().conditions.unwrap();
        let disk = conditions.iter().find(|c| c.type_ == "DiskPressure").unwrap();
        disk.status == "True" && disk.reason.as_deref() == Some("KubeletHasDiskPressure")
    })
    .await;
}

#[tokio::test]
async fn images_are_volumes_too() {
    let host = Host::start().await;
    let spec = json!({"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "volumeMounts": [{"name": "model", "mountPath": "/model"}]}],
        "volumes": [{"name": "model", "image": {"reference": "registry.example/models/small:1"}}]});
    host.create("reads", spec).await;
    let pod = host.ready("reads").await;
    let request = host.guest(&pod).request("c_0").unwrap();
    let mount = &request.mounts[0];
    assert!(matches!(&mount.source, Some(Source::DiskSerial(serial)) if *serial != request.image_serial));
    assert!(mount.read_only);
    let words = "Pulling image \"registry.example/models/small:1\"";
    host.told("reads", words, |event| event.contains(words)).await;
}

#[tokio::test]
async fn resources_change_in_place() {
    let mut host = Host::start().await;
    let resources = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "c", "image": "x", "resources": resources("500m", "128Mi"),
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]});
    host.create("grows", spec).await;
    let pod = host.ready("grows").await;
    let resize = async |host: &Host, cpu: &str, memory: &str| {
        let mut resources = resources(cpu, memory);
        resources["requests"] = resources["limits"].clone();
        let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        host.pods()
            .patch_subresource(
                "resize",
                "grows",
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await
            .unwrap();
    };
    let in_force = |pod: &Pod, name: &str| {
        let statuses = pod.status.clone().unwrap_or_default().container_statuses;
        let status = statuses.unwrap_or_default().remove(0);
        status
            .resources
            .and_then(|r| r.limits?.get(name).map(|q| q.0.clone()))
    };
    resize(&host, "800m", "128Mi").await;
    host.wait("grows", "resized", |pod| {
        in_force(pod, "cpu").as_deref() == Some("800m")
    })
    .await;
    let limits = host.guest(&pod).request("c_0").unwrap().resources.unwrap();
    assert_eq!(limits.cpu_limit_millis, 800);
    // Memory asks for a restart.
    resize(&host, "800m", "64Mi").await;
    let pod = host
        .wait("grows", "restarted", |pod| {
            restarts(pod) == 1 && state(pod, "c") == "running"
        })
        .await;
    let limits = host.guest(&pod).request("c_1").unwrap().resources.unwrap();
    assert_eq!(limits.memory_limit, 64 << 20);
    // More than its host can ever give: refused, across agents, until it is taken back.
    resize(&host, "5", "64Mi").await;
    let pod = host
        .wait("grows", "told", |pod| {
            condition(pod, "PodResizePending") == "True"
        })
        .await;
    assert_eq!(in_force(&pod, "cpu").as_deref(), Some("800m"));
    let infeasible = "Pod resize Infeasible";
    host.told("grows", infeasible, |event| event.contains(infeasible))
        .await;
    host.restart_agent().await;
    resize(&host, "900m", "64Mi").await;
    let pod = host
        .wait("grows", "resized", |pod| {
            let done = condition(pod, "PodResizePending").is_empty();
            done && in_force(pod, "cpu").as_deref() == Some("900m")
        })
        .await;
    assert_eq!(restarts(&pod), 1);
}

/// A container that begins anew for its new limits is not squeezed into them before.
#[tokio::test]
async fn who_restarts_for_a_resize_is_not_squeezed() {
    let mut host = Host::start().await;
    let resources = |memory: &str| {
        let list = json!({"cpu": "500m", "memory": memory});
        json!({"limits": list, "requests": list})
    };
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "c", "image": "x", "resources": resources("128Mi"),
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]});
    host.create("shrinks", spec).await;
    let pod = host.ready("shrinks").await;
    host.guest(&pod).set_unyielding("it uses more than that");
    resize(&host, "shrinks", resources("64Mi")).await;
    let pod = host
        .wait("shrinks", "restarted, and done", |pod| {
            let done = condition(pod, "PodResizeInProgress").is_empty();
            restarts(pod) == 1 && state(pod, "c") == "running" && done
        })
        .await;
    let limits = host.guest(&pod).request("c_1").unwrap().resources.unwrap();
    assert_eq!(limits.memory_limit, 64 << 20);
    // An agent that dies meanwhile leaves nobody with the limits of before.
    let spec = json!({"terminationGracePeriodSeconds": 2, "containers": [
        {"name": "c", "image": "x", "args": ["stubborn"], "resources": resources("128Mi"),
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}]});
    host.create("slow", spec).await;
    host.ready("slow").await;
    resize(&host, "slow", resources("64Mi")).await;
    eventually("the event", async || {
        let killing = "Killing: Container c resize requires restart";
        host.events("slow").await.iter().any(|event| event == killing)
    })
    .await;
    host.restart_agent().await;
    let pod = host
        .wait("slow", "restarted", |pod| {
            restarts(pod) == 1 && state(pod, "c") == "running"
        })
        .await;
    let limits = host.guest(&pod).request("c_1").unwrap().resources.unwrap();
    assert_eq!(limits.memory_limit, 64 << 20);
}

/// What a volume says of a Pod's resources follows a resize.
#[tokio::test]
async fn volumes_tell_the_resources_in_force() {
    let host = Host::start().await;
    let resources = |cpu: &str| {
        let list = json!({"cpu": cpu, "memory": "64Mi"});
        json!({"limits": list, "requests": list})
    };
    let field = json!({"containerName": "c", "resource": "limits.cpu", "divisor": "1m"});
    let spec = json!({"terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": "x", "resources": resources("500m"),
            "volumeMounts": [{"name": "info", "mountPath": "/info"}]}],
        "volumes": [{"name": "info", "downwardAPI": {"items": [{"path": "cpu", "resourceFieldRef": field}]}}]});
    host.create("tells", spec).await;
    let pod = host.ready("tells").await;
    let guest = host.guest(&pod);
    let told = || guest.volume("info").unwrap()[0].data.clone();
    assert_eq!(told(), b"500");
    resize(&host, "tells", resources("800m")).await;
    eventually("the new limit", async || told() == b"800").await;
    assert_eq!(restarts(&host.pods().get("tells").await.unwrap()), 0);
}

/// Gives the container `c` of a Pod other resources.
async fn resize(host: &Host, pod: &str, resources: serde_json::Value) {
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let pods = host.pods();
    pods.patch_subresource("resize", pod, &params, &patch)
        .await
        .unwrap();
}

/// Memory is as scarce as time.
#[tokio::test]
async fn a_resize_waits_for_memory() {
    let host = Host::start().await;
    let spec = |request: &str| {
        json!({"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": "x", "resources": {"requests": {"memory": request}}}]})
    };
    host.create("wants", spec("1Gi")).await;
    host.create("has", spec("6700Mi")).await;
    host.ready("wants").await;
    host.ready("has").await;
    let pending = |pod: &Pod| {
        let conditions = pod.status.clone().unwrap().conditions.unwrap();
        let found = conditions.into_iter().find(|c| c.type_ == "PodResizePending");
        found.map(|c| (c.reason.unwrap_or_default(), c.message.unwrap_or_default()))
    };
    resize(&host, "wants", json!({"requests": {"memory": "1200Mi"}})).await;
    let pod = host.wait("wants", "put off", |pod| pending(pod).is_some()).await;
    let capacity = (8_u64 << 30) - (8_u64 << 30) / 20;
    let words = format!(
        "Node didn't have enough resource: memory, requested: {}, used: {}, capacity: {capacity}",
        1200 << 20,
        6700_u64 << 20
    );
    assert_eq!(pending(&pod), Some(("Deferred".to_owned(), words)));
    host.delete("has", Some(0)).await;
    let in_force = |pod: &Pod| {
        let status = pod.status.clone().unwrap().container_statuses.unwrap().remove(0);
        status
            .resources
            .and_then(|all| all.requests?.get("memory").map(|memory| memory.0.clone()))
    };
    host.wait("wants", "resized", |pod| {
        in_force(pod).as_deref() == Some("1200Mi")
    })
    .await;
}

#[tokio::test]
async fn a_resize_waits_for_room() {
    let host = Host::start().await;
    let spec = |request: &str| {
        json!({"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "c", "image": "x", "resources": {"requests": {"cpu": request}, "limits": {"cpu": "4"}}}]})
    };
    host.create("wants", spec("500m")).await;
    host.create("has", spec("2500m")).await;
    host.ready("wants").await;
    host.ready("has").await;
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    host.pods()
        .patch_subresource(
            "resize",
            "wants",
            &PatchParams::default(),
            &Patch::Strategic(patch),
        )
        .await
        .unwrap();
    let allocated = |pod: &Pod| {
        let statuses = pod.status.clone().unwrap_or_default().container_statuses;
        statuses
            .unwrap_or_default()
            .remove(0)
            .allocated_resources
            .unwrap()["cpu"]
            .0
            .clone()
    };
    let pod = host
        .wait("wants", "put off", |pod| {
            condition(pod, "PodResizePending") == "True"
        })
        .await;
    let conditions = pod.status.clone().unwrap().conditions.unwrap();
    let pending = conditions.iter().find(|c| c.type_ == "PodResizePending").unwrap();
    assert_eq!(pending.reason.as_deref(), Some("Deferred"));
    assert_eq!(
        pending.message.as_deref(),
        Some("Node didn't have enough resource: cpu, requested: 2000, used: 2500, capacity: 3900")
    );
    assert_eq!(allocated(&pod), "500m");
    host.delete("has", Some(0)).await;
    let pod = host
        .wait("wants", "resized", |pod| {
            condition(pod, "PodResizePending").is_empty()
        })
        .await;
    assert_eq!(allocated(&pod), "2");
    for words in [
        "ResizeDeferred: Pod resize Deferred: {",
        "ResizeCompleted: Pod resize completed: {",
    ] {
        eventually("the event", async || {
            host.events("wants").await.iter().any(|e| e.starts_with(words))
        })
        .await;
    }
}

#[tokio::test]
async fn pods_that_come_past_the_scheduler_must_fit() {
    let host = Host::start().await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(host.admin.clone());
    let spec = |more: serde_json::Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "x"}]});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    let picky = spec(json!({"nodeSelector": {"disk": "fast"}}));
    host.create("picky", picky.clone()).await;
    let greedy = json!([{"name": "c", "image": "x", "resources": {"requests": {"memory": "1Ei"}}}]);
    host.create("greedy", spec(json!({"containers": greedy}))).await;
    let words = |pod: &Pod| {
        let status = pod.status.clone().unwrap();
        // Nothing else is told of them: so clients see the reason.
        assert_eq!((&status.container_statuses, &status.host_ip), (&None, &None));
        assert_eq!(status.observed_generation, pod.metadata.generation);
        assert_eq!(condition(pod, "Ready"), "");
        let message = status.message.unwrap_or_default();
        format!("{}: {message}", status.reason.unwrap_or_default())
    };
    assert_eq!(
        words(&host.phase("picky", "Failed").await),
        "NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    let greedy = words(&host.phase("greedy", "Failed").await);
    assert!(
        greedy.starts_with(
            "OutOfmemory: Pod was rejected: Node didn't have enough resource: memory, requested: "
        ),
        "{greedy}"
    );
    // What others do with the node counts at once.
    let change = json!({"metadata": {"labels": {"disk": "fast"}},
        "spec": {"taints": [{"key": "gpu", "effect": "NoExecute"}]}});
    nodes
        .patch(NODE, &PatchParams::default(), &Patch::Strategic(change))
        .await
        .unwrap();
    let toleration = json!([{"key": "gpu", "operator": "Exists"}]);
    let mut tolerant = picky.clone();
    tolerant["tolerations"] = toleration;
    host.create("tolerant", tolerant).await;
    host.ready("tolerant").await;
}

/// What a Pod had is free as soon as the API says that it has ended or is gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_next_finds_room() {
    let host = Host::start().await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(host.admin.clone());
    let mut allocatable = None;
    eventually("what the node has", async || {
        let status = nodes.get(NODE).await.unwrap().status;
        allocatable = status.and_then(|status| status.allocatable);
        allocatable.is_some()
    })
    .await;
    let cpu = &allocatable.unwrap()["cpu"];
    let spec = |args: &[&str]| {
        json!({"restartPolicy": "Never", "containers": [
            {"name": "c", "image": "x", "args": args, "resources": {"requests": {"cpu": cpu}}}]})
    };
    for number in 0..10 {
        let (ends, stays) = (format!("ends-{number}"), format!("stays-{number}"));
        host.create(&ends, spec(&["exit=0"])).await;
        host.phase(&ends, "Succeeded").await;
        host.create(&stays, spec(&["serve"])).await;
        host.phase(&stays, "Running").await;
        host.delete(&stays, None).await;
    }
}
