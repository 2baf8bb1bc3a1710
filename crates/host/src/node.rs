//! The Node object of this host: registration, status, and the Lease that says that the agent lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dataplane::Ipv4Net;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Capacity;
use crate::datastore::PROVISIONER;
use crate::events;
use crate::podvm::Context;
use crate::podvm::handler::HANDLERS;

/// How often the Lease is renewed; it lasts four times as long (kubelet: `nodeLeaseDurationSeconds` 40).
pub const RENEW: Duration = Duration::from_secs(10);
pub const LEASE_SECONDS: i32 = 40;
/// How long a status without changes stays (kubelet: `nodeStatusReportFrequency`).
pub const REPORT: Duration = Duration::from_secs(300);
/// Between attempts while the API is away or the Node has no block of addresses yet.
const RETRY: Duration = Duration::from_millis(500);
/// Images that the status lists (kubelet: `nodeStatusMaxImages`).
pub const MAX_IMAGES: usize = 50;
/// Names of one image in the status (kubelet: `MaxNamesPerImageInNodeStatus`).
const MAX_NAMES: usize = 5;
/// The label by which a volume is tied to its host.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Every kubelet's Node has it, wherever a controller attaches disks.
const ATTACH_DETACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Measured overhead is rounded up to this, so that the Node does not change with every page. Bytes.
const OVERHEAD_STEP: u64 = 64 << 20;
/// The version that `kubectl get nodes` shows.
pub const VERSION: &str = concat!("v1.35.0+podvisor-", env!("CARGO_PKG_VERSION"));

/// Registers the Node and keeps its Lease and status until cancelled.
pub async fn run(context: Arc<Context>, port: u16, cancel: CancellationToken) {
    let nodes: Api<Node> = Api::all(context.deps.client.clone());
    let leases: Api<Lease> = Api::namespaced(context.deps.client.clone(), "kube-node-lease");
    // By the monotonic clock: a host whose wall clock is set back does not fall silent.
    let mut reported: Option<(Value, Instant)> = None;
    let mut last_lease: Option<Instant> = None;
    let mut cordoned = false;
    // The Node, by its uid, that has everything that stands beside its status.
    let mut registered: Option<String> = None;
    let mut greeted = false;
    let tell = |reason: &'static str, message: String| {
        let object = events::node(&context.config.node_name);
        context
            .recorder
            .record(object, events::Kind::Normal, reason, message);
    };
    tell("Starting", "Starting kubelet.".to_owned());
    tell(
        "NodeAllocatableEnforced",
        "Updated Node Allocatable limit across pods".to_owned(),
    );
    loop {
        let ready = context.ipam.ready();
        let result = async {
            let node = match nodes.get_opt(&context.config.node_name).await? {
                Some(node) => node,
                None => nodes.create(&PostParams::default(), &fresh(&context)).await?,
            };
            if registered != node.metadata.uid {
                match complete(&context, &nodes, &node).await {
                    Ok(()) => registered.clone_from(&node.metadata.uid),
                    // The Lease and the status do not wait for it.
                    Err(error) => tracing::warn!(%error, "the Node is not complete yet"),
                }
            }
            take_block(&context, &node);
            let known = json!({
                "metadata": {"name": node.metadata.name, "labels": node.metadata.labels},
                "spec": {"taints": node.spec.as_ref().and_then(|spec| spec.taints.as_ref())},
                "status": {"allocatable": node.status.as_ref().and_then(|status| status.allocatable.as_ref())},
            });
            *context.node.write() = Some(Arc::new(known));
            let now = Timestamp::now();
            let status = status(&context, port, &node);
            let due = match &reported {
                Some((before, at)) => *before != status || at.elapsed() > REPORT,
                None => true,
            };
            if !std::mem::replace(&mut greeted, true)
                && let Some(message) = rebooted(&node, &status)
            {
                let object = events::node(&context.config.node_name);
                let kind = events::Kind::Warning;
                context.recorder.record(object, kind, "Rebooted", message);
            }
            if due {
                let with_times = heartbeat(status.clone(), &node, now);
                nodes
                    .patch_status(
                        &context.config.node_name,
                        &PatchParams::default(),
                        &Patch::Strategic(json!({"status": with_times})),
                    )
                    .await?;
                let name = &context.config.node_name;
                for change in changes(&node, &status) {
                    tell(change, format!("Node {name} status is now: {change}"));
                }
                reported = Some((status, Instant::now()));
            }
            let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
            if std::mem::replace(&mut cordoned, unschedulable) != unschedulable {
                let change = if unschedulable {
                    "NodeNotSchedulable"
                } else {
                    "NodeSchedulable"
                };
                let name = &context.config.node_name;
                tell(change, format!("Node {name} status is now: {change}"));
            }
            if last_lease.is_none_or(|at| at.elapsed() >= Duration::from_secs(9)) {
                renew(&leases, &node, now).await?;
                last_lease = Some(Instant::now());
            }
            Ok::<(), kube::Error>(())
        }
        .await;
        if let Err(error) = &result {
            tracing::warn!(%error, node = context.config.node_name, "the Node cannot be reported");
            reported = None;
        }
        let pause = if result.is_ok() && ready { RENEW } else { RETRY };
        if cancel
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return;
        }
    }
}

fn take_block(context: &Context, node: &Node) {
    let block = node
        .spec
        .as_ref()
        .and_then(|spec| spec.pod_cidr.as_deref())
        .and_then(|cidr| cidr.parse::<Ipv4Net>().ok());
    if let Some(block) = block {
        context.ipam.set_block(block);
    }
}

/// Labels that every node has, and has again after they were lost (kubelet: `updateDefaultLabels`).
fn default_labels(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), name.to_owned()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), architecture().to_owned()),
    ])
}

fn fresh(context: &Context) -> Node {
    let mut labels = default_labels(&context.config.node_name);
    labels.insert("beta.kubernetes.io/os".to_owned(), "linux".to_owned());
    labels.insert("beta.kubernetes.io/arch".to_owned(), architecture().to_owned());
    labels.extend(context.config.labels.clone());
    let mut node = Node::default();
    node.metadata.name = Some(context.config.node_name.clone());
    node.metadata.labels = Some(labels);
    node.metadata.annotations = Some(BTreeMap::from([(ATTACH_DETACH.to_owned(), "true".to_owned())]));
    node
}

/// What a Node that is there already lacks of that, as a patch.
fn mending(node: &Node, configured: &BTreeMap<String, String>) -> Option<Value> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let mut labels = default_labels(name);
    labels.retain(|key, value| {
        let has = node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        // What the host was told to be is its own affair.
        !configured.contains_key(key) && has != Some(value)
    });
    let annotations = node.metadata.annotations.as_ref();
    let annotated = annotations.is_some_and(|all| all.get(ATTACH_DETACH).is_some_and(|v| v == "true"));
    if labels.is_empty() && annotated {
        return None;
    }
    Some(json!({"metadata": {"labels": labels, "annotations": {ATTACH_DETACH: "true"}}}))
}

/// Gives a Node its labels and annotation, and the CSINode that names the driver of its volumes (kubelet:
/// `tryRegisterWithAPIServer`; pkg/volume/csi/nodeinfomanager).
async fn complete(context: &Context, nodes: &Api<Node>, node: &Node) -> Result<(), kube::Error> {
    let name = &context.config.node_name;
    if let Some(patch) = mending(node, &context.config.labels) {
        nodes
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
    }
    let drivers: Api<CSINode> = Api::all(context.deps.client.clone());
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid});
    let driver = json!({"name": PROVISIONER, "nodeID": name, "topologyKeys": [HOSTNAME]});
    let wanted =
        json!({"metadata": {"name": name, "ownerReferences": [owner]}, "spec": {"drivers": [driver]}});
    match drivers.get_opt(name).await? {
        None => {
            let object = serde_json::from_value(wanted).map_err(kube::Error::SerdeError)?;
            drivers.create(&PostParams::default(), &object).await?;
        }
        Some(_) => {
            // Others' drivers stay, and an owner that is gone does not take it along.
            drivers
                .patch(name, &PatchParams::default(), &Patch::Strategic(&wanted))
                .await?;
        }
    }
    Ok(())
}

/// The words about a host that was started anew since its Node last told of it.
fn rebooted(node: &Node, status: &Value) -> Option<String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    let before = info.map(|info| info.boot_id.as_str()).unwrap_or_default();
    let now = status["nodeInfo"]["bootID"].as_str().unwrap_or_default();
    (!before.is_empty() && before != now).then(|| format!("Node {name} has been rebooted, boot id: {now}"))
}

pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn quantities(capacity: &Capacity) -> Value {
    use kinds::quantity::Quantity;
    json!({
        "cpu": Quantity::from_milli(capacity.cpu_millis.into()).to_string(),
        "memory": format!("{}Ki", capacity.memory_bytes / 1024),
        "pods": capacity.pods.to_string(),
        "ephemeral-storage": format!("{}Ki", capacity.ephemeral_bytes / 1024),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
    })
}

/// Extended resources (`example.com/dongle`) are told by whoever has them, as capacity; all of it can be given out.
fn with_extended(mut quantities: Value, node: &Node) -> Value {
    let capacity = node.status.as_ref().and_then(|status| status.capacity.as_ref());
    let before = node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.as_ref());
    for name in before.into_iter().flatten().map(|(name, _)| name) {
        if name.contains('/') {
            // Taken out, unless it is still told.
            quantities[name] = Value::Null;
        }
    }
    for (name, quantity) in capacity.into_iter().flatten() {
        if name.contains('/') {
            quantities[name] = json!(quantity);
        }
    }
    quantities
}

/// The status without its times.
fn status(context: &Context, port: u16, node: &Node) -> Value {
    let config = &context.config;
    let accel = context.deps.hypervisor.accel();
    let condition = |kind: &str, truth: bool, reason: &str, message: &str| json!({"type": kind, "status": if truth { "True" } else { "False" }, "reason": reason, "message": message});
    let (low_memory, low_disk) = context.pressure.state(&config.pressure);
    let mut conditions = vec![
        match low_memory {
            true => condition(
                "MemoryPressure",
                true,
                "KubeletHasInsufficientMemory",
                "kubelet has insufficient memory available",
            ),
            false => condition(
                "MemoryPressure",
                false,
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
        },
        match low_disk {
            true => condition(
                "DiskPressure",
                true,
                "KubeletHasDiskPressure",
                "kubelet has disk pressure",
            ),
            false => condition(
                "DiskPressure",
                false,
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
        },
        condition(
            "PIDPressure",
            false,
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        if node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some()) {
            condition("Ready", true, "KubeletReady", "kubelet is posting ready status")
        } else {
            condition(
                "Ready",
                false,
                "KubeletNotReady",
                "the Node has no block of Pod addresses yet",
            )
        },
    ];
    // Without hardware virtualisation a VM is no security boundary: to be seen, not in small print.
    let words = accel
        .warning
        .as_deref()
        .unwrap_or("guests run on the processor's virtualization extensions");
    conditions.push(condition(
        "HardwareVirtualization",
        accel.name == "kvm",
        accel.name,
        words,
    ));
    let mut images: Vec<Value> = context
        .deps
        .images
        .list()
        .iter()
        .map(|(image, names)| {
            let names = image_names(&image.repo_digest, names);
            json!({"names": names, "sizeBytes": image.size_bytes})
        })
        .collect();
    images.sort_by_key(|image| std::cmp::Reverse(image["sizeBytes"].as_u64()));
    images.truncate(MAX_IMAGES);
    let text = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    json!({
        "capacity": quantities(&config.capacity),
        "allocatable": with_extended(quantities(&allocatable(context)), node),
        "conditions": conditions,
        "addresses": [
            {"type": "InternalIP", "address": config.node_ip.to_string()},
            {"type": "Hostname", "address": config.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": text("/etc/machine-id"),
            "systemUUID": text("/etc/machine-id"),
            "bootID": text("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": rustix::system::uname().release().to_string_lossy(),
            "osImage": os_image(),
            "containerRuntimeVersion": format!("podvisor://{}", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": architecture(),
        },
        "images": images,
        "runtimeHandlers": HANDLERS.map(|name| {
            json!({"name": name, "features": {"recursiveReadOnlyMounts": true, "userNamespaces": true}})
        }),
        "features": {"supplementalGroupsPolicy": true},
    })
}

/// The names of an image: its digest, then its tags, as far as there is room.
fn image_names(digest: &str, tags: &[String]) -> Vec<String> {
    let tags = tags.iter().map(String::as_str);
    let names = std::iter::once(digest).chain(tags).take(MAX_NAMES);
    names.map(str::to_owned).collect()
}

/// What is left for the requests of Pods: without what VMs cost beyond what their containers use, as it is measured, so
/// that the scheduler counts it too.
pub(crate) fn allocatable(context: &Context) -> Capacity {
    let mut left = context.config.capacity.allocatable();
    let overhead = context.overhead_bytes.load(std::sync::atomic::Ordering::Relaxed);
    left.memory_bytes = left
        .memory_bytes
        .saturating_sub(overhead.next_multiple_of(OVERHEAD_STEP));
    left
}

fn os_image() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// What is new in the conditions, as events name it (kubelet: `nodestatus/setters.go`).
fn changes(before: &Node, status: &Value) -> Vec<&'static str> {
    let old = before
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let names = [
        (
            "MemoryPressure",
            "NodeHasInsufficientMemory",
            "NodeHasSufficientMemory",
        ),
        ("DiskPressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure"),
        ("PIDPressure", "NodeHasInsufficientPID", "NodeHasSufficientPID"),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let now = |kind: &str| {
        let conditions = status["conditions"].as_array();
        let found = conditions.into_iter().flatten().find(|new| new["type"] == kind);
        found.and_then(|new| new["status"].as_str())
    };
    let changed = names.into_iter().filter_map(|(kind, truth, falsehood)| {
        let now = now(kind)?;
        let known = old
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == kind);
        let same = known.is_some_and(|condition| condition.status == now);
        (!same).then_some(if now == "True" { truth } else { falsehood })
    });
    changed.collect()
}

/// Adds the times to conditions: a transition only where the truth changed.
fn heartbeat(mut status: Value, node: &Node, now: Timestamp) -> Value {
    let before = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let since = before
            .into_iter()
            .flatten()
            .find(|old| condition["type"] == old.type_.as_str() && condition["status"] == old.status.as_str())
            .and_then(|old| old.last_transition_time.clone());
        condition["lastHeartbeatTime"] = json!(Time(now));
        condition["lastTransitionTime"] = json!(since.unwrap_or(Time(now)));
    }
    status
}

async fn renew(leases: &Api<Lease>, node: &Node, now: Timestamp) -> Result<(), kube::Error> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let spec = json!({
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": MicroTime(now),
    });
    let patch = json!({"spec": spec});
    match leases
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let lease = json!({
                "metadata": {"name": name, "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node.metadata.uid}
                ]},
                "spec": spec,
            });
            let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            leases.create(&PostParams::default(), &lease).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(metadata: Value, boot: &str) -> Node {
        let info = json!({"architecture": "", "bootID": boot, "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
            "systemUUID": ""});
        let node = json!({"metadata": metadata, "status": {"nodeInfo": info}});
        serde_json::from_value(node).expect("a Node")
    }

    #[test]
    fn lost_labels_come_back() {
        let whole = || {
            let mut labels = default_labels("h1");
            labels.insert("example.com/own".to_owned(), "x".to_owned());
            json!({"name": "h1", "labels": labels, "annotations": {ATTACH_DETACH: "true"}})
        };
        let none = BTreeMap::new();
        assert_eq!(mending(&node(whole(), ""), &none), None);
        let mut lost = whole();
        lost["labels"]["kubernetes.io/os"] = Value::Null;
        lost["labels"]
            .as_object_mut()
            .expect("labels")
            .remove("kubernetes.io/os");
        lost["labels"]["kubernetes.io/hostname"] = json!("other");
        let annotations = json!({ATTACH_DETACH: "true"});
        assert_eq!(
            mending(&node(lost.clone(), ""), &none),
            Some(json!({"metadata": {"annotations": annotations,
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": "h1"}}}))
        );
        let configured = BTreeMap::from([(HOSTNAME.to_owned(), "other".to_owned())]);
        assert_eq!(
            mending(&node(lost, ""), &configured),
            Some(json!({"metadata": {"annotations": annotations, "labels": {"kubernetes.io/os": "linux"}}}))
        );
    }

    #[test]
    fn a_reboot_is_told() {
        let status = json!({"nodeInfo": {"bootID": "two"}});
        let named = |boot| rebooted(&node(json!({"name": "h1"}), boot), &status);
        assert_eq!(
            named("one").as_deref(),
            Some("Node h1 has been rebooted, boot id: two")
        );
        assert_eq!((named("two"), named("")), (None, None));
    }

    #[test]
    fn digests_stand_first() {
        let tags: Vec<String> = (1..=6).map(|n| format!("x:{n}")).collect();
        assert_eq!(
            image_names("x@sha256:0", &tags).join(" "),
            "x@sha256:0 x:1 x:2 x:3 x:4"
        );
    }
}
