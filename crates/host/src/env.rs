//! The environment and the command line of a container: `env`, `envFrom`, the downward API, Service variables, and
//! `$(NAME)` expansion, in upstream's order and with upstream's words for what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret, Service};

use crate::trust::TrustBundles;
use crate::{env_file, size};

/// Why a container cannot be configured: reason `CreateContainerConfigError`, this text as its message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// An object that is not optional does not exist.
    #[error("{kind} \"{name}\" not found")]
    NotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// The object's name.
        name: String,
    },
    /// The object has no such key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// The Pod's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field path that the downward API does not have.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// A resource reference that means nothing.
    #[error("{0}")]
    Resource(String),
    /// A Secret's value is no text.
    #[error("secret key {0} is not valid UTF-8")]
    NotText(String),
    /// A file of variables is missing, or has no such one (KEP-3721).
    #[error("{0}")]
    File(String),
}

/// The objects that a container's environment may name, by name; absent: does not exist.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// ConfigMaps of the Pod's namespace.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets of the Pod's namespace.
    pub secrets: BTreeMap<String, Secret>,
    /// Trust bundles of the cluster.
    pub trust_bundles: Arc<TrustBundles>,
    /// Files of variables in empty directories, by volume and path; none: there is no such file.
    pub files: BTreeMap<(String, String), Option<Vec<u8>>>,
    /// Services of the Pod's namespace, and `kubernetes` of `default` under that name if the namespace has none.
    pub services: Vec<Service>,
}

/// What is known about the Pod beyond its object.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The host's address.
    pub host_ip: String,
    /// The Pod's address.
    pub pod_ip: String,
    /// Allocatable CPU of the node in thousandths: what is told of a container without a limit.
    pub cpu_millis: u64,
    /// Its memory in bytes: likewise.
    pub memory_bytes: u64,
    /// Its disk in bytes: likewise.
    pub ephemeral_bytes: u64,
}

/// The names of ConfigMaps and Secrets in a container's environment.
pub fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|v| v.value_from.as_ref())
    {
        config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (config_maps, secrets)
}

/// Variables in their order: each has a name and a value.
pub type Variables = Vec<(String, String)>;

fn set(variables: &mut Variables, name: &str, value: String) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => entry.1 = value,
        None => variables.push((name.to_owned(), value)),
    }
}

/// What a container finds: what the image sets, and over it what is set for the container.
pub fn with_image(image_env: &[String], own: &Variables) -> Variables {
    let mut result = Variables::new();
    for pair in image_env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut result, name, value.to_owned());
    }
    for (name, value) in own {
        set(&mut result, name, value.clone());
    }
    result
}

/// What is set for a container, in order: Services, `envFrom`, `env` (`kubelet_pods.go`, `makeEnvironmentVariables`). By
/// this, and not by what its image sets, `$(NAME)` is replaced.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    facts: &Facts,
) -> Result<Variables, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut result = Variables::new();
    let links = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let mut service_env = service_variables(&sources.services, links);
    // Expansion sees Service variables and what was set in the manifest, not the image's.
    let mut known: BTreeMap<String, String> = service_env.iter().cloned().collect();

    let mut from_objects: BTreeMap<String, String> = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    for (key, value) in map.data.iter().flatten() {
                        from_objects.insert(format!("{prefix}{key}"), value.clone());
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    for (key, value) in secret.data.iter().flatten() {
                        let value =
                            String::from_utf8(value.0.clone()).map_err(|_| EnvError::NotText(key.clone()))?;
                        from_objects.insert(format!("{prefix}{key}"), value);
                    }
                }
                None if reference.optional == Some(true) => {}
                None => return Err(not_found("secret", &reference.name)),
            }
        }
    }
    known.extend(from_objects.clone());
    let mut own: Vec<(String, String)> = from_objects.into_iter().collect();
    for variable in container.env.iter().flatten() {
        let Some(value) = value_of(pod, container, variable, sources, facts, namespace, &known)? else {
            continue;
        };
        known.insert(variable.name.clone(), value.clone());
        own.push((variable.name.clone(), value));
    }
    // What the manifest sets wins over Service variables.
    service_env.retain(|(name, _)| !own.iter().any(|(n, _)| n == name));
    for (name, value) in service_env.into_iter().chain(own) {
        set(&mut result, &name, value);
    }
    Ok(result)
}

fn not_found(kind: &'static str, name: &str) -> EnvError {
    EnvError::NotFound {
        kind,
        name: name.to_owned(),
    }
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    facts: &Facts,
    namespace: &str,
    known: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), known)));
    };
    if let Some(field) = &from.field_ref {
        return field_value(pod, &field.field_path, facts)
            .map(Some)
            .ok_or_else(|| EnvError::Field(field.field_path.clone()));
    }
    if let Some(reference) = &from.resource_field_ref {
        let target = match &reference.container_name {
            Some(name) => all_containers(pod)
                .find(|c| &c.name == name)
                .ok_or_else(|| EnvError::Resource(format!("container {name} not found")))?,
            None => container,
        };
        return resource_value(
            pod,
            target,
            &reference.resource,
            reference.divisor.as_ref(),
            facts,
        )
        .map(Some);
    }
    let no_key = |kind, name: &str, key: &str| EnvError::NoKey {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        key: key.to_owned(),
    };
    if let Some(reference) = &from.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(not_found("configmap", &reference.name))
            };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(no_key("ConfigMap", &reference.name, &reference.key)),
        };
    }
    if let Some(reference) = &from.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = sources.secrets.get(&reference.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(not_found("secret", &reference.name))
            };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => String::from_utf8(value.0.clone())
                .map(Some)
                .map_err(|_| EnvError::NotText(reference.key.clone())),
            None if optional => Ok(None),
            None => Err(no_key("Secret", &reference.name, &reference.key)),
        };
    }
    if let Some(reference) = &from.file_key_ref {
        let place = (reference.volume_name.clone(), reference.path.clone());
        let file = sources.files.get(&place).ok_or_else(|| {
            let volume = &reference.volume_name;
            EnvError::File(format!(
                "cannot find the volume {volume:?} referenced by FileKeyRef"
            ))
        })?;
        // A file that is not there counts as one that makes no sense, a variable without a value as none.
        let unread = || EnvError::File("couldn't parse env file".to_owned());
        let value = env_file::value(file.as_deref().ok_or_else(unread)?, &reference.key);
        let value = value.map_err(|_| unread())?.filter(|value| !value.is_empty());
        if value.is_some() || reference.optional == Some(true) {
            return Ok(value);
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let path = format!(
            "/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/{}/{}",
            reference.volume_name, reference.path
        );
        return Err(EnvError::File(format!(
            "environment variable key {:?} not found in file {path:?}",
            reference.key
        )));
    }
    Ok(Some(String::new()))
}

/// All containers of a Pod that the downward API can name.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    spec.into_iter()
        .flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

/// The value of a downward-API field (`fieldPath`).
pub fn field_value(pod: &Pod, path: &str, facts: &Facts) -> Option<String> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let subscript = |base: &str| {
        path.strip_prefix(base)?
            .strip_prefix("['")?
            .strip_suffix("']")
            .map(str::to_owned)
    };
    if let Some(key) = subscript("metadata.labels") {
        return Some(
            metadata
                .labels
                .as_ref()
                .and_then(|m| m.get(&key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    if let Some(key) = subscript("metadata.annotations") {
        return Some(
            metadata
                .annotations
                .as_ref()
                .and_then(|m| m.get(&key))
                .cloned()
                .unwrap_or_default(),
        );
    }
    Some(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec?.node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec?.service_account_name.clone().unwrap_or_default(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.clone(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.clone(),
        _ => return None,
    })
}

/// `key="value"` lines, as downward-API files show labels and annotations.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        // `{:?}` escapes as Go's `%q` does for everything that occurs here.
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`. What a container has no limit of, its Pod may have, and else the node (kubelet:
/// `defaultPodLimitsForDownwardAPI`).
pub fn resource_value(
    pod: &Pod,
    container: &Container,
    resource: &str,
    divisor: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    facts: &Facts,
) -> Result<String, EnvError> {
    let (list, name) = resource
        .split_once('.')
        .ok_or_else(|| EnvError::Resource(format!("unsupported container resource : {resource}")))?;
    let resources = container.resources.as_ref();
    let map = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => {
            return Err(EnvError::Resource(format!(
                "unsupported container resource : {resource}"
            )));
        }
    };
    let own = map.and_then(|m| m.get(name)).and_then(size::milli);
    let value = match (list, name) {
        ("limits", "cpu") => size::limit_of(pod, container, name).unwrap_or(facts.cpu_millis),
        ("limits", "memory") => {
            size::limit_of(pod, container, name).unwrap_or(facts.memory_bytes.saturating_mul(1000))
        }
        ("limits", "ephemeral-storage") => {
            let own = own.filter(|limit| *limit > 0);
            own.unwrap_or(facts.ephemeral_bytes.saturating_mul(1000))
        }
        _ => own.unwrap_or(0),
    };
    let divisor = divisor.and_then(size::milli).filter(|d| *d > 0).unwrap_or(1000);
    Ok(value.div_ceil(divisor).to_string())
}

/// `NAME_SERVICE_HOST` and its relatives for every Service with a cluster IP (`pkg/kubelet/envvars`).
fn service_variables(services: &[Service], links: bool) -> Vec<(String, String)> {
    let mut result = Vec::new();
    for service in services {
        let (Some(name), Some(spec)) = (&service.metadata.name, &service.spec) else {
            continue;
        };
        let in_default = service.metadata.namespace.as_deref() == Some("default") && name == "kubernetes";
        if !links && !in_default {
            continue;
        }
        let Some(ip) = spec
            .cluster_ip
            .as_deref()
            .filter(|ip| !ip.is_empty() && *ip != "None")
        else {
            continue;
        };
        let name = name.to_uppercase().replace('-', "_");
        let Some(ports) = spec.ports.as_ref().filter(|ports| !ports.is_empty()) else {
            continue;
        };
        result.push((format!("{name}_SERVICE_HOST"), ip.to_owned()));
        result.push((format!("{name}_SERVICE_PORT"), ports[0].port.to_string()));
        for port in ports {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                let port_name = port_name.to_uppercase().replace('-', "_");
                result.push((format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string()));
            }
        }
        // Docker's link variables.
        for (index, port) in ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{ip}:{}", port.port);
            let prefix = format!("{name}_PORT_{}_{protocol}", port.port);
            if index == 0 {
                result.push((format!("{name}_PORT"), url.clone()));
            }
            result.push((prefix.clone(), url));
            result.push((format!("{prefix}_PROTO"), lower));
            result.push((format!("{prefix}_PORT"), port.port.to_string()));
            result.push((format!("{prefix}_ADDR"), ip.to_owned()));
        }
    }
    result
}

/// Replaces `$(NAME)` by its value where it is known; `$$` is a dollar sign (`third_party/forked/golang/expansion`).
pub fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    expand_with(text, known, &mut |_| {})
}

/// Likewise, but every name must be known.
///
/// # Errors
/// Names a variable that has no value, in the words of `ExpandContainerVolumeMounts`.
pub fn expand_all(text: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    let mut missing = None;
    let result = expand_with(text, known, &mut |name| {
        missing.get_or_insert_with(|| format!("missing value for {name:?}"));
    });
    missing.map_or(Ok(result), Err)
}

fn expand_with(text: &str, known: &BTreeMap<String, String>, unknown: &mut dyn FnMut(&str)) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match known.get(name) {
                Some(value) => result.push_str(value),
                None => {
                    unknown(name);
                    result.push_str("$(");
                    result.push_str(name);
                    result.push(')');
                }
            }
            rest = after;
        } else {
            result.push('$');
            rest = tail;
        }
    }
    result.push_str(rest);
    result
}

/// The words to run: `command` replaces the entry point, and then the image's `cmd` counts no more.
pub fn command_line(
    container: &Container,
    image: &images::ImageConfig,
    environment: &Variables,
) -> Vec<String> {
    let known: BTreeMap<String, String> = environment.iter().cloned().collect();
    let expand_all = |words: &[String]| words.iter().map(|w| expand(w, &known)).collect::<Vec<_>>();
    let command = container.command.as_deref().filter(|c| !c.is_empty());
    let args = container.args.as_deref().filter(|a| !a.is_empty());
    let mut words = match command {
        Some(command) => expand_all(command),
        None => image.entrypoint.clone(),
    };
    match args {
        Some(args) => words.extend(expand_all(args)),
        None if command.is_none() => words.extend(image.cmd.iter().cloned()),
        None => {}
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expansion() {
        let known = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "$(A)".to_owned()),
        ]);
        let cases = [
            ("$(A)", "1"),
            ("x$(A)y$(B)", "x1y$(A)"),
            ("$$(A)", "$(A)"),
            ("$(NO)", "$(NO)"),
            ("$A $(A", "$A $(A"),
            ("$", "$"),
            ("$$$(A)", "$1"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"app": "web", "tier": "a\"b"}},
            "spec": {"nodeName": "h1", "serviceAccountName": "default", "containers": [
                {"name": "c", "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "250m"}},
                 "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "none", "optional": true}}],
                 "env": [
                    {"name": "PLAIN", "value": "$(P_key)-$(REDIS_MASTER_SERVICE_HOST)"},
                    {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                    {"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1Gi"}}},
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "PATH", "value": "/bin"},
                 ]},
            ]}
        }))
        .expect("a Pod")
    }

    fn sources() -> Sources {
        Sources {
            config_maps: BTreeMap::from([(
                "cm".to_owned(),
                serde_json::from_value(json!({"data": {"key": "value"}})).expect("a ConfigMap"),
            )]),
            secrets: BTreeMap::from([(
                "s".to_owned(),
                serde_json::from_value(json!({"data": {"k": "c2VjcmV0"}})).expect("a Secret"),
            )]),
            services: vec![
                serde_json::from_value(json!({
                    "metadata": {"name": "redis-master", "namespace": "shop"},
                    "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 6379, "name": "db"}]}
                }))
                .expect("a Service"),
            ],
            files: BTreeMap::from([(
                ("v".to_owned(), "a.env".to_owned()),
                Some(b"KEY='by file'\n".to_vec()),
            )]),
            ..Sources::default()
        }
    }

    #[test]
    fn environment_in_order() {
        let pod = pod();
        let container = &pod.spec.as_ref().expect("spec").containers[0];
        let facts = Facts {
            host_ip: "192.0.2.1".into(),
            pod_ip: "10.244.0.5".into(),
            cpu_millis: 2000,
            memory_bytes: 1 << 30,
            ephemeral_bytes: 10 << 30,
        };
        let own = environment(&pod, container, &sources(), &facts).expect("complete");
        assert!(own.iter().all(|(name, _)| name != "X"), "{own:?}");
        let env = with_image(&["PATH=/usr/bin".into(), "X=y".into()], &own);
        let text: Vec<String> = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        PATH=/bin
        X=y
        REDIS_MASTER_SERVICE_HOST=10.96.0.9
        REDIS_MASTER_SERVICE_PORT=6379
        REDIS_MASTER_SERVICE_PORT_DB=6379
        REDIS_MASTER_PORT=tcp://10.96.0.9:6379
        REDIS_MASTER_PORT_6379_TCP=tcp://10.96.0.9:6379
        REDIS_MASTER_PORT_6379_TCP_PROTO=tcp
        REDIS_MASTER_PORT_6379_TCP_PORT=6379
        REDIS_MASTER_PORT_6379_TCP_ADDR=10.96.0.9
        P_key=value
        PLAIN=value-10.96.0.9
        NAME=web
        APP=web
        IP=10.244.0.5
        MEM=64
        CPU=1
        DISK=10
        SECRET=secret
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        let pod = pod();
        let container = &pod.spec.as_ref().expect("spec").containers[0];
        let facts = Facts::default();
        let mut without_map = sources();
        without_map.config_maps.clear();
        let mut without_key = sources();
        without_key.secrets.insert("s".into(), Secret::default());
        let cases = [
            (without_map, "configmap \"cm\" not found"),
            (without_key, "couldn't find key k in Secret shop/s"),
        ];
        for (sources, expected) in cases {
            let error = environment(&pod, container, &sources, &facts).expect_err("incomplete");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn limits_that_nobody_set() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"resources": {"limits": {"memory": "64Mi"}},
            "containers": [{"name": "none"}, {"name": "own", "resources": {"limits": {"memory": "16Mi", "cpu": "1"}}}]}}))
        .expect("a Pod");
        let facts = Facts {
            cpu_millis: 3900,
            memory_bytes: 1 << 30,
            ephemeral_bytes: 7,
            ..Facts::default()
        };
        let containers = &pod.spec.as_ref().expect("spec").containers;
        let of =
            |container, resource| resource_value(&pod, container, resource, None, &facts).expect("a value");
        for (resource, none, own) in [
            ("limits.memory", "67108864", "16777216"),
            ("limits.cpu", "4", "1"),
            ("limits.ephemeral-storage", "7", "7"),
            ("requests.memory", "0", "0"),
        ] {
            assert_eq!(of(&containers[0], resource), none, "{resource}");
            assert_eq!(of(&containers[1], resource), own, "{resource}");
        }
    }

    #[test]
    fn files_of_variables() {
        let container = |key: &str, path: &str, optional: bool| -> Container {
            let reference = json!({"volumeName": "v", "path": path, "key": key, "optional": optional});
            let variable = json!({"name": "V", "valueFrom": {"fileKeyRef": reference}});
            serde_json::from_value(json!({"name": "c", "env": [variable]})).expect("a container")
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u1"}})).expect("a Pod");
        let mut sources = sources();
        let place = |path: &str| ("v".to_owned(), path.to_owned());
        sources
            .files
            .insert(place("a.env"), Some(b"KEY='by file'\nEMPTY=''\n".to_vec()));
        sources
            .files
            .insert(place("bad.env"), Some(b"nothing\n".to_vec()));
        sources.files.insert(place("no.env"), None);
        let missing = |key: &str| {
            format!(
                "environment variable key {key:?} not found in file \
                 \"/var/lib/kubelet/pods/u1/volumes/kubernetes.io~empty-dir/v/a.env\""
            )
        };
        let unread = || "couldn't parse env file".to_owned();
        for (key, path, optional, expected) in [
            ("KEY", "a.env", false, Ok(Some("by file"))),
            ("NO", "a.env", true, Ok(None)),
            ("NO", "a.env", false, Err(missing("NO"))),
            ("EMPTY", "a.env", false, Err(missing("EMPTY"))),
            ("KEY", "bad.env", false, Err(unread())),
            ("KEY", "no.env", true, Err(unread())),
        ] {
            let container = container(key, path, optional);
            let found = environment(&pod, &container, &sources, &Facts::default());
            let value = |all: Variables| {
                all.into_iter()
                    .find(|(name, _)| name == "V")
                    .map(|(_, value)| value)
            };
            let found = found.map(value).map_err(|error| error.to_string());
            assert_eq!(
                found,
                expected.map(|value| value.map(str::to_owned)),
                "{key} {path}"
            );
        }
    }

    #[test]
    fn command_lines() {
        let image = images::ImageConfig {
            entrypoint: vec!["entry".into()],
            cmd: vec!["cmd".into()],
            ..Default::default()
        };
        let cases = [
            (json!({"name": "c"}), vec!["entry", "cmd"]),
            (json!({"name": "c", "args": ["a"]}), vec!["entry", "a"]),
            (json!({"name": "c", "command": ["b"]}), vec!["b"]),
            (
                json!({"name": "c", "command": ["b", "$(V)"], "args": ["a"]}),
                vec!["b", "1", "a"],
            ),
        ];
        for (container, expected) in cases {
            let container: Container = serde_json::from_value(container).expect("a container");
            assert_eq!(
                command_line(&container, &image, &vec![("V".into(), "1".into())]),
                expected
            );
        }
    }

    #[test]
    fn maps_as_files() {
        assert_eq!(
            field_value(&pod(), "metadata.labels", &Facts::default()).as_deref(),
            Some("app=\"web\"\ntier=\"a\\\"b\"")
        );
    }
}
