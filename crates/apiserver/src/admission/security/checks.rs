//! The checks of the Pod Security Standards, each naming what violates it in upstream's words.
//!
//! A label may ask for the standards of an earlier Kubernetes; the checks are then those of that version, which knew some of
//! them not yet, and others in another form.

use super::Level;
use crate::admission::pod::items;
use serde_json::Value;

/// Capabilities that `baseline` lets a container add.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Volume types that `restricted` allows.
const PLAIN_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Sysctls that a Pod may set, each with the minor version that began to allow it.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
];
/// SELinux types that a Pod may have, likewise.
const SELINUX_TYPES: [(&str, u32); 4] = [
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];

/// A Pod under examination, by the rules of a minor version.
struct Pod<'a> {
    spec: &'a Value,
    metadata: &'a Value,
    minor: u32,
}

type Check = fn(&Pod<'_>) -> Option<String>;

/// A check, since which minor version there is one, and since which `restricted` has another in its place.
struct Rule(Check, u32, Option<u32>);

/// In the order upstream reports them: by id within a level.
const BASELINE: [Rule; 12] = [
    Rule(app_armor, 0, None),
    Rule(capabilities_baseline, 0, Some(22)),
    Rule(host_namespaces, 0, None),
    Rule(host_path_volumes, 0, Some(0)),
    Rule(host_ports, 0, None),
    Rule(host_probes, 34, None),
    Rule(privileged, 0, None),
    Rule(proc_mount_baseline, 0, Some(35)),
    Rule(selinux, 0, None),
    Rule(seccomp_baseline, 0, Some(19)),
    Rule(sysctls, 0, None),
    Rule(host_process, 0, None),
];
/// What `restricted` checks besides.
const RESTRICTED: [Rule; 7] = [
    Rule(privilege_escalation, 8, None),
    Rule(capabilities_restricted, 22, None),
    Rule(proc_mount, 35, None),
    Rule(volume_types, 0, None),
    Rule(run_as_non_root, 0, None),
    Rule(run_as_user, 23, None),
    Rule(seccomp_restricted, 19, None),
];

/// What of a Pod violates a level as a minor version of Kubernetes knew it: `reason (detail)` each.
pub(super) fn violations(level: Level, minor: u32, spec: &Value, metadata: &Value) -> Vec<String> {
    let strict = level == Level::Restricted;
    let base = BASELINE.iter().filter(|_| level != Level::Privileged);
    let base = base.filter(|rule| !(strict && rule.2.is_some_and(|since| since <= minor)));
    let more = RESTRICTED.iter().filter(|_| strict);
    let pod = Pod {
        spec,
        metadata,
        minor,
    };
    base.chain(more)
        .filter(|rule| rule.1 <= minor)
        .filter_map(|rule| rule.0(&pod))
        .collect()
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(spec, list))
    }

    /// Names of containers for which `bad` holds.
    fn named(&self, bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| bad(c)).map(name).collect()
    }

    fn context(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    /// Whether what only Linux knows need not be said (since 1.25).
    fn is_windows(&self) -> bool {
        self.minor >= 25 && self.spec["os"]["name"] == "windows"
    }

    /// Whether root of the Pod is nobody outside it (KEP-127): since 1.35 some checks then let it be root.
    fn has_own_users(&self) -> bool {
        self.minor >= 35 && self.spec["hostUsers"] == false
    }
}

fn name(object: &Value) -> &str {
    object["name"].as_str().unwrap_or_default()
}

/// `container "a"`, `containers "a", "b"`.
fn plural(word: &str, names: &[&str]) -> String {
    let s = if names.len() == 1 { "" } else { "s" };
    format!("{word}{s} {}", quoted(names))
}

fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    let list: Vec<String> = names.iter().map(|n| format!("{:?}", n.as_ref())).collect();
    list.join(", ")
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}

fn privileged(pod: &Pod<'_>) -> Option<String> {
    let bad = pod.named(|c| c["securityContext"]["privileged"] == true);
    (!bad.is_empty()).then(|| {
        format!(
            "privileged ({} must not set securityContext.privileged=true)",
            plural("container", &bad)
        )
    })
}

fn host_namespaces(pod: &Pod<'_>) -> Option<String> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|f| pod.spec[**f] == true)
        .map(|f| format!("{f}=true"))
        .collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<String> {
    let bad: Vec<&str> = items(pod.spec, "volumes")
        .filter(|v| v.get("hostPath").is_some_and(|p| !p.is_null()))
        .map(name)
        .collect();
    (!bad.is_empty()).then(|| format!("hostPath volumes ({})", plural("volume", &bad)))
}

fn host_ports(pod: &Pod<'_>) -> Option<String> {
    let mut ports = Vec::new();
    let bad = pod.named(|c| items(c, "ports").any(|p| p["hostPort"].as_i64().unwrap_or(0) != 0));
    for container in pod.containers() {
        ports.extend(
            items(container, "ports")
                .filter_map(|p| p["hostPort"].as_i64())
                .filter(|p| *p != 0),
        );
    }
    if bad.is_empty() {
        return None;
    }
    ports.sort_unstable();
    ports.dedup();
    let list: Vec<String> = ports.iter().map(i64::to_string).collect();
    let (verb, s) = (
        if bad.len() == 1 { "uses" } else { "use" },
        if list.len() == 1 { "" } else { "s" },
    );
    Some(format!(
        "hostPort ({} {verb} hostPort{s} {})",
        plural("container", &bad),
        list.join(", ")
    ))
}

fn host_probes(pod: &Pod<'_>) -> Option<String> {
    let has_host = |handler: &Value| {
        ["httpGet", "tcpSocket"]
            .iter()
            .any(|k| handler[*k]["host"].as_str().is_some_and(|h| !h.is_empty()))
    };
    let bad = pod.named(|c| {
        ["livenessProbe", "readinessProbe", "startupProbe"]
            .iter()
            .any(|p| has_host(&c[*p]))
            || ["postStart", "preStop"]
                .iter()
                .any(|h| has_host(&c["lifecycle"][*h]))
    });
    (!bad.is_empty()).then(|| {
        format!(
            "probe or lifecycle host ({} must not set a host in probes or lifecycle hooks)",
            plural("container", &bad)
        )
    })
}

fn host_process(pod: &Pod<'_>) -> Option<String> {
    let set = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let mut parts = Vec::new();
    if set(pod.context()) {
        parts.push("pod".to_string());
    }
    let bad = pod.named(|c| set(&c["securityContext"]));
    if !bad.is_empty() {
        parts.push(plural("container", &bad));
    }
    (!parts.is_empty()).then(|| {
        format!(
            "hostProcess ({} must not set securityContext.windowsOptions.hostProcess=true)",
            parts.join(" and ")
        )
    })
}

fn app_armor(pod: &Pod<'_>) -> Option<String> {
    let mut bad = Vec::new();
    let prefix = "container.apparmor.security.beta.kubernetes.io/";
    for (key, value) in pod.metadata["annotations"].as_object().into_iter().flatten() {
        let profile = value.as_str().unwrap_or_default();
        let fine = profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
        if key.starts_with(prefix) && !fine {
            bad.push(format!("{key}={profile:?}"));
        }
    }
    let unconfined = |context: &Value| context["appArmorProfile"]["type"] == "Unconfined";
    if unconfined(pod.context()) {
        bad.push("pod must not set AppArmor profile type to \"Unconfined\"".into());
    }
    let containers = pod.named(|c| unconfined(&c["securityContext"]));
    if !containers.is_empty() {
        bad.push(format!(
            "{} must not set AppArmor profile type to \"Unconfined\"",
            plural("container", &containers)
        ));
    }
    let s = if bad.len() == 1 { "" } else { "s" };
    (!bad.is_empty()).then(|| format!("forbidden AppArmor profile{s} ({})", bad.join(", ")))
}

fn added(container: &Value) -> impl Iterator<Item = &str> {
    items(&container["securityContext"]["capabilities"], "add").filter_map(Value::as_str)
}

fn forbidden_capabilities(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = pod.named(|c| added(c).any(|cap| !allowed.contains(&cap)));
    let caps = pod
        .containers()
        .flat_map(added)
        .filter(|cap| !allowed.contains(cap));
    let caps = sorted(caps.map(str::to_string).collect());
    (!bad.is_empty()).then(|| {
        format!(
            "{} must not include {} in securityContext.capabilities.add",
            plural("container", &bad),
            quoted(&caps)
        )
    })
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<String> {
    let detail = forbidden_capabilities(pod, &DEFAULT_CAPABILITIES)?;
    Some(format!("non-default capabilities ({detail})"))
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let keeps = |c: &Value| !items(&c["securityContext"]["capabilities"], "drop").any(|cap| cap == "ALL");
    let missing = pod.named(keeps);
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            plural("container", &missing)
        ));
    }
    parts.extend(forbidden_capabilities(pod, &["NET_BIND_SERVICE"]));
    (!parts.is_empty()).then(|| format!("unrestricted capabilities ({})", parts.join("; ")))
}

fn proc_mount_baseline(pod: &Pod<'_>) -> Option<String> {
    if pod.has_own_users() {
        return None;
    }
    proc_mount(pod)
}

fn proc_mount(pod: &Pod<'_>) -> Option<String> {
    let kind = |c: &Value| {
        c["securityContext"]["procMount"]
            .as_str()
            .unwrap_or("Default")
            .to_string()
    };
    let bad = pod.named(|c| kind(c) != "Default");
    let kinds = sorted(pod.containers().map(kind).filter(|k| k != "Default").collect());
    (!bad.is_empty()).then(|| {
        format!(
            "procMount ({} must not set securityContext.procMount to {})",
            plural("container", &bad),
            quoted(&kinds)
        )
    })
}

fn selinux(pod: &Pod<'_>) -> Option<String> {
    let allowed = |wanted: &str| {
        let mut types = SELINUX_TYPES.iter();
        types.any(|(name, since)| *name == wanted && *since <= pod.minor)
    };
    let is_bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        let text = |key: &str| options[key].as_str().filter(|s| !s.is_empty());
        text("type").is_some_and(|t| !allowed(t)) || text("user").is_some() || text("role").is_some()
    };
    let mut parts = Vec::new();
    if is_bad(pod.context()) {
        parts.push("pod".to_string());
    }
    let bad = pod.named(|c| is_bad(&c["securityContext"]));
    if !bad.is_empty() {
        parts.push(plural("container", &bad));
    }
    (!parts.is_empty()).then(|| {
        format!(
            "seLinuxOptions ({} set forbidden securityContext.seLinuxOptions)",
            parts.join(" and ")
        )
    })
}

fn seccomp_type(context: &Value) -> Option<&str> {
    context["seccompProfile"]["type"].as_str()
}

/// Parts about profiles that are set to something forbidden.
fn bad_seccomp(pod: &Pod<'_>) -> Vec<String> {
    let bad = |t: Option<&str>| t.is_some_and(|t| t != "RuntimeDefault" && t != "Localhost");
    let mut parts = Vec::new();
    if bad(seccomp_type(pod.context())) {
        let shown = seccomp_type(pod.context()).unwrap_or_default();
        parts.push(format!(
            "pod must not set securityContext.seccompProfile.type to {shown:?}"
        ));
    }
    let containers = pod.named(|c| bad(seccomp_type(&c["securityContext"])));
    if !containers.is_empty() {
        let types = pod
            .containers()
            .filter_map(|c| seccomp_type(&c["securityContext"]))
            .filter(|t| bad(Some(t)));
        let types = sorted(types.map(str::to_string).collect());
        parts.push(format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            plural("container", &containers),
            quoted(&types)
        ));
    }
    parts
}

/// Before 1.19 profiles were annotations.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<String> {
    const OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let fine = |profile: &str| {
        ["runtime/default", "docker/default", ""].contains(&profile) || profile.starts_with("localhost/")
    };
    let annotations = pod.metadata["annotations"].as_object().into_iter().flatten();
    let bad = annotations.filter_map(|(key, value)| {
        let profile = value.as_str().unwrap_or_default();
        let ours = key == OF_POD || key.starts_with(OF_CONTAINER);
        (ours && !fine(profile)).then(|| format!("{key}={profile:?}"))
    });
    let bad = sorted(bad.collect());
    let s = if bad.len() == 1 { "" } else { "s" };
    (!bad.is_empty()).then(|| format!("seccompProfile (forbidden annotation{s} {})", bad.join(", ")))
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<String> {
    if pod.minor < 19 {
        return seccomp_annotations(pod);
    }
    let parts = bad_seccomp(pod);
    (!parts.is_empty()).then(|| format!("seccompProfile ({})", parts.join("; ")))
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let mut parts = bad_seccomp(pod);
    if parts.is_empty() && seccomp_type(pod.context()).is_none() {
        let missing = pod.named(|c| seccomp_type(&c["securityContext"]).is_none());
        if !missing.is_empty() {
            parts.push(format!(
                "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                plural("container", &missing)
            ));
        }
    }
    (!parts.is_empty()).then(|| format!("seccompProfile ({})", parts.join("; ")))
}

fn sysctls(pod: &Pod<'_>) -> Option<String> {
    let names = items(pod.context(), "sysctls").map(name);
    let allowed = |wanted: &str| {
        let mut all = SYSCTLS.iter();
        all.any(|(name, since)| *name == wanted && *since <= pod.minor)
    };
    let bad: Vec<String> = names.filter(|n| !allowed(n)).map(str::to_string).collect();
    let bad = sorted(bad);
    (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
}

fn volume_types(pod: &Pod<'_>) -> Option<String> {
    let mut names = Vec::new();
    let mut types = Vec::new();
    for volume in items(pod.spec, "volumes") {
        let fields = volume.as_object().into_iter().flatten();
        for (kind, _) in fields.filter(|(k, v)| *k != "name" && !v.is_null()) {
            if !PLAIN_VOLUMES.contains(&kind.as_str()) {
                names.push(name(volume));
                types.push(kind.clone());
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let types = sorted(types);
    let (verb, s) = (
        if names.len() == 1 { "uses" } else { "use" },
        if types.len() == 1 { "" } else { "s" },
    );
    Some(format!(
        "restricted volume types ({} {verb} restricted volume type{s} {})",
        plural("volume", &names),
        quoted(&types)
    ))
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows() {
        return None;
    }
    let bad = pod.named(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    (!bad.is_empty()).then(|| {
        format!(
            "allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)",
            plural("container", &bad)
        )
    })
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<String> {
    if pod.has_own_users() {
        return None;
    }
    let whole = pod.context()["runAsNonRoot"].as_bool();
    let mut setters = Vec::new();
    if whole == Some(false) {
        setters.push("pod".to_string());
    }
    let set_false = pod.named(|c| c["securityContext"]["runAsNonRoot"] == false);
    if !set_false.is_empty() {
        setters.push(plural("container", &set_false));
    }
    let unset = pod.named(|c| c["securityContext"]["runAsNonRoot"].as_bool().is_none());
    let problem = if !setters.is_empty() {
        format!(
            "{} must not set securityContext.runAsNonRoot=false",
            setters.join(" and ")
        )
    } else if whole.is_none() && !unset.is_empty() {
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            plural("container", &unset)
        )
    } else {
        return None;
    };
    Some(format!("runAsNonRoot != true ({problem})"))
}

fn run_as_user(pod: &Pod<'_>) -> Option<String> {
    if pod.has_own_users() {
        return None;
    }
    let mut setters = Vec::new();
    if pod.context()["runAsUser"] == 0 {
        setters.push("pod".to_string());
    }
    let bad = pod.named(|c| c["securityContext"]["runAsUser"] == 0);
    if !bad.is_empty() {
        setters.push(plural("container", &bad));
    }
    (!setters.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", setters.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_version_has_its_checks() {
        let container = |more: Value| {
            json!({"containers": [more.as_object().map(|fields| {
                let mut all = fields.clone();
                all.insert("name".into(), json!("c"));
                Value::Object(all)
            })]})
        };
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name}]}});
        let hardened = |more: Value| {
            let mut context = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}});
            for (key, value) in more.as_object().into_iter().flatten() {
                context[key] = value.clone();
            }
            container(json!({"securityContext": context}))
        };
        let (base, strict) = (Level::Baseline, Level::Restricted);
        let probe = json!({"livenessProbe": {"tcpSocket": {"port": 1, "host": "h"}}});
        let selinux = json!({"securityContext": {"seLinuxOptions": {"type": "container_engine_t"}}});
        let mut windows = container(json!({}));
        windows["os"] = json!({"name": "windows"});
        windows["securityContext"] = json!({"runAsNonRoot": true});
        let mut mapped = hardened(json!({"runAsNonRoot": false}));
        mapped["hostUsers"] = json!(false);
        // A level, a Pod, the version before its answer changes, and the words of the answers before and after.
        let cases = [
            (base, container(probe), 33, "", "probe or lifecycle host"),
            (
                base,
                sysctl("net.ipv4.ip_local_reserved_ports"),
                26,
                "forbidden sysctls",
                "",
            ),
            (
                base,
                sysctl("net.ipv4.tcp_fin_timeout"),
                28,
                "forbidden sysctls",
                "",
            ),
            (base, sysctl("net.ipv4.tcp_rmem"), 31, "forbidden sysctls", ""),
            (base, selinux, 30, "seLinuxOptions", ""),
            (
                strict,
                hardened(json!({"allowPrivilegeEscalation": true})),
                7,
                "",
                "allowPrivilegeEscalation",
            ),
            (
                strict,
                hardened(json!({"seccompProfile": null})),
                18,
                "",
                "seccompProfile",
            ),
            (
                strict,
                hardened(json!({"capabilities": {"drop": []}})),
                21,
                "",
                "unrestricted capabilities",
            ),
            (
                strict,
                hardened(json!({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}})),
                21,
                "non-default capabilities",
                "unrestricted capabilities",
            ),
            (
                strict,
                hardened(json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}})),
                21,
                "",
                "unrestricted capabilities",
            ),
            (strict, hardened(json!({"runAsUser": 0})), 22, "", "runAsUser=0"),
            (strict, windows, 24, "allowPrivilegeEscalation", ""),
            (strict, mapped, 34, "runAsNonRoot != true", ""),
        ];
        for (level, spec, last, before, after) in cases {
            for (minor, expected) in [(last, before), (last + 1, after)] {
                let found = violations(level, minor, &spec, &Value::Null);
                let fits = match expected {
                    "" => found.is_empty(),
                    words => found.first().is_some_and(|first| first.starts_with(words)),
                };
                assert!(fits, "v1.{minor}, not {expected:?}: {found:?} of {spec}");
            }
        }
        let metadata = json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}});
        let spec = container(json!({}));
        assert_eq!(
            violations(base, 18, &spec, &metadata),
            ["seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"]
        );
        assert!(violations(base, 19, &spec, &metadata).is_empty());
    }
}
