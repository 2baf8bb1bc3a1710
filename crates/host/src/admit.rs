//! What a host refuses before it does anything for a Pod, with the kubelet's reasons and words: other operating systems,
//! sysctls that reach beyond the ordinary, profiles that the guest's kernel cannot enforce, devices; and, since a Pod may name its
//! node itself and so come past the scheduler, a host without room, with other labels, with taints, or whose ports others
//! have (kubelet: `pkg/kubelet/sysctl/allowlist.go`, `pkg/kubelet/apparmor.go`, `pkg/kubelet/lifecycle/predicate.go`).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{AppArmorProfile, ContainerPort, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kinds::{placement, sysctls};
use serde_json::Value;

use crate::config::Capacity;
use crate::size::{self, is_sidecar};

/// The operating system of every guest, and the label by which a Pod may name another.
const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

/// Reason and message of a Pod that is refused. `unsafe_sysctls`: further ones that the host allows, each a name or the
/// beginning of one with a `*` at its end.
pub fn refusal(pod: &Pod, unsafe_sysctls: &[String]) -> Option<(String, String)> {
    let refused = |reason: &str, message: String| Some((reason.to_owned(), message));
    let labels = pod.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(OS_LABEL))
        .is_some_and(|os| os != OS)
    {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return refused("PodOSSelectorNodeLabelDoesNotMatch", message.to_owned());
    }
    let os = pod.spec.as_ref().and_then(|spec| spec.os.as_ref());
    if os.is_some_and(|os| os.name != OS) {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return refused("PodOSNotSupported", message.to_owned());
    }
    if let Some(problem) = sysctls(pod, unsafe_sysctls) {
        return refused("SysctlForbidden", format!("forbidden sysctl: {problem}"));
    }
    let claims = pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_ref());
    if claims.is_some_and(|claims| !claims.is_empty()) {
        // Nothing here could hand out a device, and without it the Pod must not run.
        let message = "Predicate DynamicResources failed: cannot allocate all claims";
        return refused("DynamicResources", message.to_owned());
    }
    if wants_apparmor(pod) {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return refused("AppArmor", message.to_owned());
    }
    None
}

/// Extended resources (`example.com/dongle`) that a Node has, and how many of each. Others are nobody's to count here, as
/// with the kubelet, which leaves them to the scheduler (`removeMissingExtendedResources`).
pub fn extended(node: &Value) -> BTreeMap<String, u64> {
    let all = node["status"]["allocatable"].as_object();
    let amounts = all.into_iter().flatten().filter(|(name, _)| name.contains('/'));
    let count = |text: &str| size::whole(&Quantity(text.to_owned()));
    amounts
        .filter_map(|(name, amount)| Some((name.clone(), count(amount.as_str()?)?)))
        .collect()
}

/// Reason and message of a Pod for which there is no room beside the others; `extended` are further resources of the host.
pub fn no_room(
    pod: &Pod,
    others: &[Arc<Pod>],
    allocatable: &Capacity,
    extended: &BTreeMap<String, u64>,
) -> Option<(String, String)> {
    let refuse = |resource: &str, requested: u64, used: u64, capacity: u64| {
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Some((format!("OutOf{resource}"), message))
    };
    let count = others.len() as u64;
    if count + 1 > u64::from(allocatable.pods) {
        return refuse("pods", 1, count, allocatable.pods.into());
    }
    // Bytes are counted in whole ones, processors in thousandths.
    let ordinary = [
        ("cpu", 1, allocatable.cpu_millis),
        ("memory", 1000, allocatable.memory_bytes),
        ("ephemeral-storage", 1000, allocatable.ephemeral_bytes),
    ];
    let extended = extended
        .iter()
        .map(|(name, amount)| (name.as_str(), 1000, *amount));
    for (resource, unit, capacity) in ordinary.into_iter().chain(extended) {
        let asks = |pod: &Pod| {
            let asked = pod.spec.as_ref().map(|spec| size::requested(spec, resource));
            asked.unwrap_or(0).div_ceil(unit)
        };
        let (wanted, used) = (asks(pod), others.iter().map(|other| asks(other)).sum::<u64>());
        if wanted > 0 && used.saturating_add(wanted) > capacity {
            return refuse(resource, wanted, used, capacity);
        }
    }
    None
}

/// Reason and message of a Pod that asks for another node than this one, or does not bear its taints.
pub fn misplaced(pod: &Value, node: &Value) -> Option<(String, String)> {
    let (reason, words) = if !placement::affine(pod, node) {
        (
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        )
    } else if placement::untolerated(pod, node, "NoExecute").is_some() {
        (
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        )
    } else {
        return None;
    };
    let message = format!("Predicate {reason} failed: {words}");
    Some((reason.to_owned(), message))
}

/// Reason and message of a Pod that wants ports of the host which others have.
pub fn ports_taken(pod: &Pod, others: &[Arc<Pod>]) -> Option<(String, String)> {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
    let clash = |(ip, protocol, port): &HostPort, other: &HostPort| {
        *protocol == other.1 && *port == other.2 && (*ip == other.0 || any(ip) || any(other.0))
    };
    let wanted = host_ports(pod);
    let mut taken = others.iter().flat_map(|other| host_ports(other));
    taken
        .any(|other| wanted.iter().any(|port| clash(port, &other)))
        .then(|| {
            let message =
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
            ("NodePorts".to_owned(), message.to_owned())
        })
}

/// Address, protocol and number.
type HostPort<'a> = (&'a str, &'a str, i32);

/// The ports of all containers that go on while the Pod runs.
pub fn ports(pod: &Pod) -> impl Iterator<Item = &ContainerPort> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        spec.containers.iter().chain(sidecars)
    });
    containers.flat_map(|container| container.ports.iter().flatten())
}

fn host_ports(pod: &Pod) -> Vec<HostPort<'_>> {
    ports(pod)
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            Some((port.host_ip.as_deref().unwrap_or(""), protocol, number))
        })
        .collect()
}

fn sysctls(pod: &Pod, allowed: &[String]) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let context = spec.security_context.as_ref()?;
    for sysctl in context.sysctls.iter().flatten() {
        let name = dotted(&sysctl.name);
        let listed = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        if !sysctls::SAFE.contains(&name.as_str()) && !allowed.iter().any(listed) {
            return Some(format!("{name:?} not allowlisted"));
        }
        let shared = match name.split('.').next() {
            Some("net") if spec.host_network == Some(true) => "Net",
            Some("kernel" | "fs") if spec.host_ipc == Some(true) => "IPC",
            _ => continue,
        };
        return Some(format!("{name:?} not allowed with host {shared} enabled"));
    }
    None
}

/// A sysctl's name with dots between its parts: where the first separator is a slash, dots and slashes change places
/// (`NormalizeName`).
pub fn dotted(name: &str) -> String {
    if name.find(['.', '/']).is_none_or(|at| name[at..].starts_with('.')) {
        return name.to_owned();
    }
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

fn wants_apparmor(pod: &Pod) -> bool {
    let confined = |profile: &AppArmorProfile| profile.type_ != "Unconfined";
    let spec = pod.spec.as_ref();
    let of_pod = spec.and_then(|spec| spec.security_context.as_ref()?.app_armor_profile.as_ref());
    let of_containers = crate::env::all_containers(pod)
        .filter_map(|container| container.security_context.as_ref()?.app_armor_profile.as_ref());
    of_pod.into_iter().chain(of_containers).any(confined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_of_the_host() {
        let pod = |port: serde_json::Value| -> Pod {
            let spec = json!({"containers": [{"name": "c", "ports": [port]}]});
            serde_json::from_value(json!({"spec": spec})).expect("a Pod")
        };
        let taken = |wanted, other| ports_taken(&pod(wanted), &[Arc::new(pod(other))]).is_some();
        let http = json!({"containerPort": 80, "hostPort": 80});
        let cases = [
            (http.clone(), true),
            (json!({"containerPort": 80}), false),
            (
                json!({"containerPort": 8080, "hostPort": 80, "protocol": "TCP"}),
                true,
            ),
            (
                json!({"containerPort": 80, "hostPort": 80, "protocol": "UDP"}),
                false,
            ),
            (
                json!({"containerPort": 80, "hostPort": 80, "hostIP": "192.0.2.1"}),
                true,
            ),
        ];
        for (wanted, expected) in cases {
            assert_eq!(taken(wanted.clone(), http.clone()), expected, "{wanted}");
        }
        let at = |ip: &str| json!({"containerPort": 80, "hostPort": 80, "hostIP": ip});
        assert!(!taken(at("192.0.2.1"), at("192.0.2.2")));
        assert!(taken(at("0.0.0.0"), at("192.0.2.2")));
    }

    #[test]
    fn room_beside_others() {
        let allocatable = Capacity {
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            pods: 3,
            ephemeral_bytes: 10 << 30,
        };
        let pod = |requests: Value| -> Arc<Pod> {
            let spec = json!({"containers": [{"name": "c", "resources": {"requests": requests}}],
                "overhead": {"memory": "1Mi"}});
            Arc::new(serde_json::from_value(json!({"spec": spec})).expect("a Pod"))
        };
        let there = [pod(
            json!({"cpu": "600m", "memory": "511Mi", "example.com/dongle": "1"}),
        )];
        let dongles = extended(&json!({"status": {"allocatable": {"cpu": "1", "example.com/dongle": "2"}}}));
        let words = |resource: &str, numbers: [u64; 3]| {
            let [requested, used, capacity] = numbers;
            format!(
                "OutOf{resource}: Node didn't have enough resource: {resource}, requested: \
                 {requested}, used: {used}, capacity: {capacity}"
            )
        };
        let gib = 1 << 30;
        for (requests, expected) in [
            (json!({}), None),
            (
                json!({"cpu": "400m", "memory": "511Mi", "ephemeral-storage": "10Gi"}),
                None,
            ),
            (json!({"cpu": "500m"}), Some(words("cpu", [500, 600, 1000]))),
            (
                json!({"memory": "512Mi"}),
                Some(words("memory", [513 << 20, gib / 2, gib])),
            ),
            (
                json!({"ephemeral-storage": "11Gi"}),
                Some(words("ephemeral-storage", [11 * gib, 0, 10 * gib])),
            ),
            (json!({"example.com/dongle": "1"}), None),
            (
                json!({"example.com/dongle": "2"}),
                Some(words("example.com/dongle", [2, 1, 2])),
            ),
            (json!({"example.com/nowhere": "5"}), None),
        ] {
            let found = no_room(&pod(requests.clone()), &there, &allocatable, &dongles);
            let found = found.map(|(reason, message)| format!("{reason}: {message}"));
            assert_eq!(found, expected, "{requests}");
        }
        let three = [there[0].clone(), pod(json!({})), pod(json!({}))];
        let found = no_room(&pod(json!({})), &three, &allocatable, &dongles).map(|(reason, _)| reason);
        assert_eq!(found.as_deref(), Some("OutOfpods"));
    }

    #[test]
    fn names_of_sysctls() {
        for (name, expected) in [
            ("kernel/shm_rmid_forced", "kernel.shm_rmid_forced"),
            (
                "net.ipv4.conf.eth0/100.rp_filter",
                "net.ipv4.conf.eth0/100.rp_filter",
            ),
            (
                "net/ipv4/conf/eth0.100/rp_filter",
                "net.ipv4.conf.eth0/100.rp_filter",
            ),
            ("kernel", "kernel"),
        ] {
            assert_eq!(dotted(name), expected);
        }
    }

    #[test]
    fn refusals() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "containers": []});
        let armor = |kind: &str| json!({"containers": [{"name": "c", "securityContext": {"appArmorProfile": {"type": kind}}}]});
        let mut host = sysctl("net.ipv4.tcp_syncookies");
        host["hostNetwork"] = json!(true);
        let cases = [
            (json!({"containers": []}), None),
            (sysctl("kernel.shm_rmid_forced"), None),
            (sysctl("net/ipv4/tcp_syncookies"), None),
            (sysctl("net.core.somaxconn"), None),
            (json!({"containers": [], "os": {"name": "linux"}}), None),
            (
                json!({"containers": [], "os": {"name": "windows"}}),
                Some("PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"),
            ),
            (
                sysctl("kernel.msgmax"),
                Some("SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted"),
            ),
            (
                host,
                Some(
                    "SysctlForbidden: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with \
                     host Net enabled",
                ),
            ),
            (
                json!({"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}]}),
                Some("DynamicResources: Predicate DynamicResources failed: cannot allocate all claims"),
            ),
            (armor("Unconfined"), None),
            (
                armor("RuntimeDefault"),
                Some("AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host"),
            ),
        ];
        for (spec, expected) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("a Pod");
            let found =
                refusal(&pod, &["net.core.*".to_owned()]).map(|(reason, words)| format!("{reason}: {words}"));
            assert_eq!(found.as_deref(), expected, "{spec}");
        }
        let labelled = json!({"metadata": {"labels": {"kubernetes.io/os": "windows"}}});
        let pod: Pod = serde_json::from_value(labelled).expect("a Pod");
        let reason = refusal(&pod, &[]).map(|(reason, _)| reason);
        assert_eq!(reason.as_deref(), Some("PodOSSelectorNodeLabelDoesNotMatch"));
    }
}
