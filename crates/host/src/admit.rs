//! What a host refuses before it does anything for a Pod, with the kubelet's reasons and words: other operating systems,
//! sysctls that reach beyond the ordinary, profiles that the guest's kernel cannot enforce, and ports that other Pods have (kubelet:
//! `pkg/kubelet/sysctl/allowlist.go`, `pkg/kubelet/apparmor.go`, `pkg/kubelet/lifecycle/predicate.go`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::{AppArmorProfile, Pod};

use crate::size::is_sidecar;

/// Sysctls that any Pod may set (`SafeSysctlAllowlist`).
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The operating system of every guest, and the label by which a Pod may name another.
const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

/// Reason and message of a Pod that is refused. `unsafe_sysctls`: further ones that the host allows, each a name or the
/// beginning of one with a `*` at its end.
pub fn refusal(pod: &Pod, unsafe_sysctls: &[String]) -> Option<(String, String)> {
    let refused =
        |reason: &str, message: String| Some((reason.to_owned(), format!("Pod was rejected: {message}")));
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
    if wants_apparmor(pod) {
        let message = "Cannot enforce AppArmor: AppArmor is not enabled on the host";
        return refused("AppArmor", message.to_owned());
    }
    None
}

/// Reason and message of a Pod that wants ports of the host which others have: the scheduler knows better, but a Pod may
/// name its node itself.
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
            ("NodePorts".to_owned(), format!("Pod was rejected: {message}"))
        })
}

/// Address, protocol and number.
type HostPort<'a> = (&'a str, &'a str, i32);

fn host_ports(pod: &Pod) -> Vec<HostPort<'_>> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        spec.containers.iter().chain(sidecars)
    });
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
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
        if !SAFE.contains(&name.as_str()) && !allowed.iter().any(listed) {
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
                Some(
                    "PodOSNotSupported: Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
                ),
            ),
            (
                sysctl("kernel.msgmax"),
                Some(
                    "SysctlForbidden: Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
                ),
            ),
            (
                host,
                Some(
                    "SysctlForbidden: Pod was rejected: forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with \
                     host Net enabled",
                ),
            ),
            (armor("Unconfined"), None),
            (
                armor("RuntimeDefault"),
                Some(
                    "AppArmor: Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host",
                ),
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
