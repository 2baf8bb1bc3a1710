//! How big a Pod's VM is: limits give vCPUs (rounded up) and memory, requests give reservations, and a Pod that says
//! nothing gets one vCPU and 512 MiB. A VM with limits has some memory more, which the host gives only when the guest uses
//! it. What a VM can grow to while it runs is in it from the start, out of use: see [`Most`].
//!
//! Containers run side by side, init containers one after another with the sidecars started before them; the sums
//! follow `k8s.io/component-helpers/resource.PodRequests` (KEP-753). On top comes what the guest itself needs.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use crate::config::Capacity;

/// Memory of a Pod that names no limit, in MiB.
pub const DEFAULT_MEMORY_MIB: u64 = 512;
/// What kernel and guest agent take, in MiB; added to the sum of the containers' limits.
pub const GUEST_MIB: u64 = 64;
/// The smallest VM that boots, in MiB.
pub const MIN_MEMORY_MIB: u64 = 96;

/// Room for resizes in place: at least so many MiB, or a quarter of what is needed.
const ROOM_MIB: u64 = 32;
/// VMs with room have a multiple of this, in MiB.
const STEP_MIB: u64 = 64;

/// The guest's kernel takes no more.
const MAX_VCPUS: u64 = 64;
/// A VM can grow to so many times the processors that it starts with, or to so many.
const VCPUS_FACTOR: u32 = 4;
const VCPUS_LEAST: u32 = 8;
/// A VM can grow to so many times the memory that it starts with, or to so many MiB.
const MEMORY_FACTOR: u64 = 16;
const MEMORY_LEAST_MIB: u64 = 32 << 10;

/// The size of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmSize {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory of the VM in MiB.
    pub memory_mib: u64,
    /// How much of it the Pod asks for, with what the guest needs, in MiB: a VM with less cannot serve it.
    pub needed_mib: u64,
    /// Reserved processor time in thousandths.
    pub cpu_request_millis: Option<u64>,
    /// Most processor time in thousandths.
    pub cpu_limit_millis: Option<u64>,
    /// Bytes for writable layers and emptyDirs.
    pub ephemeral_bytes: Option<u64>,
}

/// What a running VM can grow to.
///
/// Normally what its host has; less on large hosts, since each possible processor costs a guest some 200 KiB and each GiB of
/// possible memory costs QEMU some 100 KiB, whether they come into use or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Most {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
}

impl Most {
    /// What a VM can grow to that starts with this size on such a host.
    pub fn of(start: &VmSize, host: &Capacity) -> Self {
        let vcpus = start.vcpus.saturating_mul(VCPUS_FACTOR).max(VCPUS_LEAST);
        let memory = start
            .memory_mib
            .saturating_mul(MEMORY_FACTOR)
            .max(MEMORY_LEAST_MIB);
        Self {
            vcpus: vcpus.min(vcpus_of(host)).max(start.vcpus),
            memory_mib: memory.min(host.memory_bytes >> 20).max(start.memory_mib),
        }
    }

    /// Nothing more than this size.
    pub fn only(size: &VmSize) -> Self {
        Self {
            vcpus: size.vcpus,
            memory_mib: size.memory_mib,
        }
    }
}

/// Processors of a host.
pub fn vcpus_of(host: &Capacity) -> u32 {
    let vcpus = host.cpu_millis.div_ceil(1000).clamp(1, MAX_VCPUS);
    u32::try_from(vcpus).unwrap_or(1)
}

/// A quantity in thousandths, rounded up; more than can be counted is the most. `None` if it is no quantity or negative.
pub fn milli(quantity: &Quantity) -> Option<u64> {
    let quantity: kinds::quantity::Quantity = quantity.0.parse().ok()?;
    let milli = u128::try_from(quantity.as_milli()).ok()?;
    Some(u64::try_from(milli).unwrap_or(u64::MAX))
}

/// A quantity in whole units (bytes), rounded up; more than can be counted is the most.
pub fn whole(quantity: &Quantity) -> Option<u64> {
    let quantity: kinds::quantity::Quantity = quantity.0.parse().ok()?;
    let milli = u128::try_from(quantity.as_milli()).ok()?;
    Some(u64::try_from(milli.div_ceil(1000)).unwrap_or(u64::MAX))
}

fn limit(resources: Option<&ResourceRequirements>, name: &str) -> Option<u64> {
    milli(resources?.limits.as_ref()?.get(name)?)
}

fn request(resources: Option<&ResourceRequirements>, name: &str) -> Option<u64> {
    let resources = resources?;
    resources
        .requests
        .as_ref()
        .and_then(|requests| requests.get(name))
        // Without a request, the limit is the request (as defaulting writes it).
        .or_else(|| resources.limits.as_ref()?.get(name))
        .and_then(milli)
}

/// The limit that a container has of processors or memory, or else its Pod, in thousandths.
pub fn limit_of(pod: &Pod, container: &Container, name: &str) -> Option<u64> {
    let own = limit(container.resources.as_ref(), name).filter(|limit| *limit > 0);
    let pods = || limit(pod.spec.as_ref()?.resources.as_ref(), name);
    own.or_else(pods)
}

/// Whether an init container is a sidecar (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The Pod's total of one resource. With `all`, `None` as soon as one container names none: it is unlimited.
fn total(
    spec: &PodSpec,
    all: bool,
    of: impl Fn(Option<&ResourceRequirements>) -> Option<u64>,
) -> Option<u64> {
    if let Some(pod_level) = of(spec.resources.as_ref()) {
        return Some(pod_level);
    }
    let mut named = false;
    let mut unlimited = false;
    let mut sum = 0u64;
    for container in &spec.containers {
        match of(container.resources.as_ref()) {
            Some(value) => {
                named = true;
                sum = sum.saturating_add(value);
            }
            None => unlimited = true,
        }
    }
    let mut sidecars = 0u64;
    let mut highest_init = 0u64;
    for container in spec.init_containers.iter().flatten() {
        let value = of(container.resources.as_ref());
        named |= value.is_some();
        let value = value.unwrap_or(0);
        if is_sidecar(container) {
            sidecars = sidecars.saturating_add(value);
            highest_init = highest_init.max(sidecars);
        } else {
            highest_init = highest_init.max(sidecars.saturating_add(value));
        }
    }
    if !named || (all && unlimited) {
        return None;
    }
    Some(sum.saturating_add(sidecars).max(highest_init))
}

/// What a Pod asks for of a resource, with its overhead, in thousandths.
pub fn requested(spec: &PodSpec, name: &str) -> u64 {
    let overhead = spec.overhead.as_ref().and_then(|overhead| overhead.get(name));
    let containers = total(spec, false, |resources| request(resources, name)).unwrap_or(0);
    containers.saturating_add(overhead.and_then(milli).unwrap_or(0))
}

/// What the containers of a Pod may take of a resource together, in whole units; none if nobody is limited. Those without a
/// limit count nothing (`k8s.io/component-helpers/resource.PodLimits`).
pub fn limited(spec: &PodSpec, name: &str) -> Option<u64> {
    total(spec, false, |resources| limit(resources, name)).map(|milli| milli.div_ceil(1000))
}

/// The memory that a Pod may take in bytes, if all of its containers are limited.
pub fn memory_limit(spec: &PodSpec) -> Option<u64> {
    total(spec, true, |resources| limit(resources, "memory")).map(|milli| milli.div_ceil(1000))
}

impl VmSize {
    /// The size for a Pod.
    pub fn of(spec: &PodSpec) -> Self {
        let cpu_limit = total(spec, true, |r| limit(r, "cpu"));
        let cpu_request = total(spec, false, |r| request(r, "cpu"));
        let memory_limit = total(spec, true, |r| limit(r, "memory"));
        let memory_request = total(spec, false, |r| request(r, "memory"));
        let mib = |milli: u64| milli.div_ceil(1000 << 20);
        let needed_mib = match (memory_limit, memory_request) {
            (Some(limit), _) => mib(limit).saturating_add(GUEST_MIB),
            // A request without a limit still has to fit.
            (None, Some(request)) => DEFAULT_MEMORY_MIB.max(mib(request).saturating_add(GUEST_MIB)),
            (None, None) => DEFAULT_MEMORY_MIB,
        };
        let vcpus = cpu_limit
            .or(cpu_request)
            .unwrap_or(1000)
            .div_ceil(1000)
            .clamp(1, MAX_VCPUS);
        Self {
            vcpus: u32::try_from(vcpus).unwrap_or(1),
            memory_mib: match needed_mib {
                DEFAULT_MEMORY_MIB => needed_mib,
                needed => with_room(needed),
            },
            needed_mib: needed_mib.max(MIN_MEMORY_MIB),
            cpu_request_millis: cpu_request,
            cpu_limit_millis: cpu_limit,
            ephemeral_bytes: total(spec, true, |r| limit(r, "ephemeral-storage")).map(|v| v.div_ceil(1000)),
        }
    }
}

fn with_room(needed_mib: u64) -> u64 {
    let room = ROOM_MIB.max(needed_mib / 4);
    needed_mib
        .max(MIN_MEMORY_MIB)
        .saturating_add(room)
        .checked_next_multiple_of(STEP_MIB)
        .unwrap_or(needed_mib)
}

/// The quality-of-service class of a Pod, as the API server computes it at creation.
pub fn qos_class(spec: &PodSpec) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        for name in ["cpu", "memory"] {
            let resources = container.resources.as_ref();
            let limit = limit(resources, name);
            let request = request(resources, name);
            any |= limit.is_some_and(|v| v > 0) || request.is_some_and(|v| v > 0);
            guaranteed &= limit.is_some_and(|v| v > 0) && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The quality-of-service class of a Pod, as its status has it.
pub fn class_of(pod: &Pod) -> &str {
    let known = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    let reckoned = || pod.spec.as_ref().map_or("BestEffort", qos_class);
    known.unwrap_or_else(reckoned)
}

/// Scores of the kernel's choice among processes when memory runs out (kubelet: `qos/policy.go`).
const OOM_LAST: i32 = -997;
const OOM_FIRST: i32 = 1000;

/// The score of a container's processes: the less memory it has asked for of all that the host has, the sooner they go.
pub fn oom_score(pod: &Pod, container: &Container, memory_bytes: u64) -> i32 {
    let Some(spec) = &pod.spec else { return 0 };
    if spec.priority_class_name.as_deref() == Some("system-node-critical") {
        return OOM_LAST;
    }
    match class_of(pod) {
        "Guaranteed" => return OOM_LAST,
        "BestEffort" => return OOM_FIRST,
        _ => {}
    }
    let asked = |resources: Option<&ResourceRequirements>| {
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        requests.and_then(|requests| whole(requests.get("memory")?))
    };
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
    let lasting: Vec<&Container> = spec.containers.iter().chain(sidecars).collect();
    let sum = lasting.iter().filter_map(|c| asked(c.resources.as_ref())).sum();
    // What the Pod has asked for beyond its containers is for all of them.
    let spare = asked(spec.resources.as_ref()).map_or(0, |all| all.saturating_sub(sum))
        / (lasting.len().max(1) as u64);
    let of = |container: &Container| {
        asked(container.resources.as_ref())
            .unwrap_or(0)
            .saturating_add(spare)
    };
    let mut bytes = of(container);
    if is_sidecar(container) {
        // A sidecar outlives those that it serves.
        bytes = bytes.max(spec.containers.iter().map(of).min().unwrap_or(0));
    }
    let share = u128::from(bytes) * 1000 / u128::from(memory_bytes.max(1));
    let score = OOM_FIRST - i32::try_from(share).unwrap_or(OOM_FIRST);
    score.clamp(OOM_FIRST + OOM_LAST, OOM_FIRST - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_first() {
        let pod = |spec: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"spec": spec})).expect("a Pod")
        };
        let container = |requests: &str, limits: &str| {
            let list = |memory: &str| match memory {
                "" => serde_json::json!({}),
                memory => serde_json::json!({"cpu": "1", "memory": memory}),
            };
            serde_json::json!({"name": "c", "resources": {"requests": list(requests), "limits": list(limits)}})
        };
        let (small, large) = (container("256Mi", ""), container("512Mi", ""));
        let mut sidecar = small.clone();
        sidecar["restartPolicy"] = serde_json::json!("Always");
        let all = serde_json::json!({"requests": {"memory": "512Mi"}});
        // The Pod, which of its containers, and the score on a host with one GiB.
        let cases = [
            (serde_json::json!({"containers": [container("", "")]}), 0, 1000),
            (
                serde_json::json!({"containers": [container("1Gi", "1Gi")]}),
                0,
                -997,
            ),
            (serde_json::json!({"containers": [small, large]}), 0, 750),
            (serde_json::json!({"containers": [small, large]}), 1, 500),
            (serde_json::json!({"containers": [container("1Ki", "")]}), 0, 999),
            (serde_json::json!({"containers": [container("2Gi", "")]}), 0, 3),
            (
                serde_json::json!({"containers": [large], "initContainers": [sidecar]}),
                1,
                500,
            ),
            (
                serde_json::json!({"containers": [small], "resources": all}),
                0,
                500,
            ),
            (
                serde_json::json!({"containers": [small], "priorityClassName": "system-node-critical"}),
                0,
                -997,
            ),
        ];
        for (spec, which, expected) in cases {
            let pod = pod(spec.clone());
            let spec_of = pod.spec.as_ref().expect("a spec");
            let mut all = spec_of
                .containers
                .iter()
                .chain(spec_of.init_containers.iter().flatten());
            let container = all.nth(which).expect("a container");
            assert_eq!(oom_score(&pod, container, 1 << 30), expected, "{spec} {which}");
        }
    }

    #[test]
    fn what_a_vm_can_grow_to() {
        // Processors and GiB of a host; what a VM starts with; what it can grow to.
        let cases = [
            ((2, 24), (1, 192), (2, 24 << 10)),
            ((2, 24), (4, 192), (4, 24 << 10)),
            ((2, 1), (1, 2048), (2, 2048)),
            ((128, 512), (1, 192), (8, 32 << 10)),
            ((128, 512), (4, 4096), (16, 64 << 10)),
            ((128, 512), (32, 64 << 10), (64, 512 << 10)),
        ];
        for ((cores, gib), (vcpus, memory_mib), (most_vcpus, most_memory)) in cases {
            let host = Capacity {
                cpu_millis: cores * 1000,
                memory_bytes: gib << 30,
                pods: 1,
                ephemeral_bytes: 0,
            };
            let start = VmSize {
                vcpus,
                memory_mib,
                ..VmSize::of(&PodSpec::default())
            };
            let expected = Most {
                vcpus: most_vcpus,
                memory_mib: most_memory,
            };
            assert_eq!(Most::of(&start, &host), expected, "{host:?} {start:?}");
        }
    }

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).expect("a Pod spec")
    }

    #[test]
    fn quantities() {
        let cases = [
            ("100m", Some(100)),
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("128Mi", Some((128 << 20) * 1000)),
            ("1e3", Some(1_000_000)),
            ("2G", Some(2_000_000_000_000)),
            ("10n", Some(1)),
            ("-1", None),
            ("x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text}");
        }
    }

    #[test]
    fn sizes() {
        let c = |resources: serde_json::Value| serde_json::json!({"name": "c", "resources": resources});
        let cases = [
            (
                serde_json::json!([c(serde_json::json!({}))]),
                serde_json::json!([]),
                1,
                (512, 512),
                None,
                None,
            ),
            (
                serde_json::json!([c(
                    serde_json::json!({"limits": {"cpu": "1500m", "memory": "256Mi"}})
                )]),
                serde_json::json!([]),
                2,
                (256 + GUEST_MIB, 448),
                Some(1500),
                Some(1500),
            ),
            (
                serde_json::json!([c(
                    serde_json::json!({"requests": {"cpu": "100m", "memory": "1Gi"}})
                )]),
                serde_json::json!([]),
                1,
                (1024 + GUEST_MIB, 1408),
                Some(100),
                None,
            ),
            // One container without a limit: the Pod has none.
            (
                serde_json::json!([
                    c(serde_json::json!({"limits": {"cpu": "1", "memory": "100Mi"}})),
                    c(serde_json::json!({})),
                ]),
                serde_json::json!([]),
                1,
                (512, 512),
                Some(1000),
                None,
            ),
            // Init containers run before: the highest counts.
            (
                serde_json::json!([c(serde_json::json!({"limits": {"cpu": "1", "memory": "64Mi"}}))]),
                serde_json::json!([c(serde_json::json!({"limits": {"cpu": "3", "memory": "32Mi"}}))]),
                3,
                (64 + GUEST_MIB, 192),
                Some(3000),
                Some(3000),
            ),
        ];
        for (containers, init, vcpus, memory, request, limit) in cases {
            let size = VmSize::of(&spec(
                serde_json::json!({"containers": containers, "initContainers": init}),
            ));
            assert_eq!(
                (
                    size.vcpus,
                    (size.needed_mib, size.memory_mib),
                    size.cpu_request_millis,
                    size.cpu_limit_millis
                ),
                (vcpus, memory, request, limit),
                "{containers}"
            );
        }
    }

    #[test]
    fn qos() {
        let pod =
            |r: serde_json::Value| spec(serde_json::json!({"containers": [{"name": "c", "resources": r}]}));
        assert_eq!(qos_class(&pod(serde_json::json!({}))), "BestEffort");
        assert_eq!(
            qos_class(&pod(serde_json::json!({"requests": {"cpu": "1"}}))),
            "Burstable"
        );
        assert_eq!(
            qos_class(&pod(serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}))),
            "Guaranteed"
        );
    }
}
