//! VMs that grow while they run, for resizes in place beyond what they were started with, on a simulated host.

#![allow(clippy::unwrap_used)]

use super::common;

use common::{Host, eventually, restarts, state};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use vmm::Hypervisor as _;

fn resources(cpu: &str, memory: &str) -> Value {
    let list = json!({"cpu": cpu, "memory": memory});
    json!({"limits": list, "requests": list})
}

fn spec(cpu: &str, memory: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [
        {"name": "c", "image": "x", "resources": resources(cpu, memory)}]})
}

async fn resize(host: &Host, pod: &str, resources: Value) {
    let patch = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    let pods = host.pods();
    pods.patch_subresource("resize", pod, &params, &patch)
        .await
        .unwrap();
}

/// Waits until a limit of CPU is in force and nothing of a resize is left to say.
async fn resized(host: &Host, pod: &str, cpu: &str) -> Pod {
    host.wait(pod, "resized", |pod| {
        let status = pod.status.clone().unwrap_or_default();
        let container = status.container_statuses.unwrap_or_default().into_iter().next();
        let limits = container.and_then(|container| container.resources?.limits);
        let now = limits.and_then(|limits| limits.get("cpu").map(|cpu| cpu.0.clone()));
        now.as_deref() == Some(cpu) && told(pod).is_none()
    })
    .await
}

/// What the Pod says of a resize that is not done.
fn told(pod: &Pod) -> Option<PodCondition> {
    let conditions = pod.status.clone()?.conditions?;
    conditions.into_iter().find(|c| c.type_.starts_with("PodResize"))
}

/// What the guest uses of its VM, and what the host lets the VM have.
fn extent(host: &Host, pod: &Pod) -> (u32, u64, u64) {
    let extent = host.guest(pod).extent();
    let limit = host.driver.memory_mib(&host.run_dir(pod)).unwrap();
    (extent.vcpus, extent.memory_mib, limit)
}

async fn has_event(host: &Host, pod: &str, begin: &str) {
    eventually("the event", async || {
        host.events(pod)
            .await
            .iter()
            .any(|event| event.starts_with(begin))
    })
    .await;
}

#[tokio::test]
async fn a_vm_grows_and_the_next_agent_knows() {
    let mut host = Host::start().await;
    host.create("grows", spec("1", "128Mi")).await;
    let pod = host.ready("grows").await;
    assert_eq!(extent(&host, &pod), (1, 256, 256));
    resize(&host, "grows", resources("2", "512Mi")).await;
    let pod = resized(&host, "grows", "2").await;
    assert_eq!(extent(&host, &pod), (2, 768, 768));
    for words in [
        "ResizeStarted: Pod resize started: {",
        "ResizeCompleted: Pod resize completed: {",
    ] {
        has_event(&host, "grows", words).await;
    }
    let limits = host.guest(&pod).request("c_0").unwrap().resources.unwrap();
    assert_eq!((limits.cpu_limit_millis, limits.memory_limit), (2000, 512 << 20));
    // The next agent begins where this one ended, and does not make smaller what has grown.
    host.restart_agent().await;
    resize(&host, "grows", resources("1", "64Mi")).await;
    let pod = resized(&host, "grows", "1").await;
    assert_eq!(extent(&host, &pod), (2, 768, 768));
    resize(&host, "grows", resources("3", "1Gi")).await;
    let pod = resized(&host, "grows", "3").await;
    assert_eq!(extent(&host, &pod), (3, 1408, 1408));
    assert_eq!(restarts(&pod), 0);
    // More than the host has is infeasible, as on any node.
    for (wanted, words) in [
        (
            resources("1", "8Gi"),
            "Node didn't have enough capacity: memory, requested: 8589934592, capacity: 8160437863",
        ),
        (
            resources("4", "1Gi"),
            "Node didn't have enough capacity: cpu, requested: 4000, capacity: 3900",
        ),
    ] {
        resize(&host, "grows", wanted).await;
        let said = |pod: &Pod| told(pod).and_then(|c| Some((c.type_, c.reason?, c.message?)));
        let expected = (
            "PodResizePending".to_owned(),
            "Infeasible".to_owned(),
            words.to_owned(),
        );
        host.wait("grows", "refused", |pod| said(pod).as_ref() == Some(&expected))
            .await;
    }
    // A new VM is made for what is agreed, whatever its predecessor had.
    resize(&host, "grows", resources("1", "128Mi")).await;
    let pod = resized(&host, "grows", "1").await;
    let vm = host.driver.adopt(&host.run_dir(&pod)).await.unwrap().unwrap();
    vm.kill().await.unwrap();
    let pod = host
        .wait("grows", "restarted", |pod| {
            restarts(pod) == 1 && state(pod, "c") == "running"
        })
        .await;
    assert_eq!(extent(&host, &pod), (1, 256, 256));
}

/// Limits are no requests: a host may promise more than it has, and then gives what it has.
#[tokio::test]
async fn limits_may_be_beyond_the_host() {
    let host = Host::start().await;
    let mut spec = spec("1", "128Mi");
    spec["containers"][0]["resources"]["requests"] = json!({"cpu": "100m", "memory": "64Mi"});
    host.create("bursts", spec).await;
    host.ready("bursts").await;
    let limits = json!({"cpu": "9", "memory": "64Gi"});
    resize(&host, "bursts", json!({"limits": limits})).await;
    let pod = resized(&host, "bursts", "9").await;
    assert_eq!(extent(&host, &pod), (4, 8192, 8192));
}

#[tokio::test]
async fn a_guest_that_cannot_grow_is_asked_again() {
    let host = Host::start().await;
    host.create("stuck", spec("1", "128Mi")).await;
    let pod = host.ready("stuck").await;
    host.guest(&pod)
        .set_unyielding("no memory for the description of memory");
    resize(&host, "stuck", resources("2", "512Mi")).await;
    let pod = host
        .wait("stuck", "told why", |pod| {
            told(pod).is_some_and(|c| c.reason.is_some_and(|reason| !reason.is_empty()))
        })
        .await;
    let said = told(&pod).unwrap();
    assert_eq!(
        (
            said.type_.as_str(),
            said.reason.as_deref(),
            said.message.as_deref()
        ),
        (
            "PodResizeInProgress",
            Some("Error"),
            Some("no memory for the description of memory")
        )
    );
    assert_eq!(host.guest(&pod).extent().memory_mib, 256);
    has_event(&host, "stuck", "ResizeError: Pod resize error: {").await;
    // What is in force is what its containers have.
    let limits = host.guest(&pod).request("c_0").unwrap().resources.unwrap();
    assert_eq!(limits.memory_limit, 128 << 20);
    // It yields, and the next attempt succeeds.
    host.guest(&pod).set_yielding();
    let pod = resized(&host, "stuck", "2").await;
    assert_eq!(extent(&host, &pod), (2, 768, 768));
}
