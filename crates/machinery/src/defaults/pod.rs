//! Defaults of Pods and of Pod templates. Source: `pkg/apis/core/v1/defaults.go` of Kubernetes v1.35. A Pod gets a few
//! that a template does not get (service links, host ports, requests from limits), so that templates do not change when
//! the defaults of Pods do.

use crate::validation::pod::together;
use crate::walk::{At, each_mut, fields_mut, get_mut, or_set, or_set_empty, set, unset};
use kinds::quantity::Quantity;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The fields that hold containers.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
/// Mode of files in volumes: 0644.
const DEFAULT_MODE: i64 = 0o644;

/// Annotations that held init containers before they were fields.
const INIT_CONTAINERS: [&str; 4] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
    "pod.alpha.kubernetes.io/init-container-statuses",
];

fn drop_old_annotations(obj: &mut Value) {
    let Some(Value::Object(annotations)) = get_mut(obj, "metadata.annotations") else {
        return;
    };
    annotations.retain(|name, _| !INIT_CONTAINERS.contains(&name.as_str()));
    if annotations.is_empty() {
        unset(obj, "metadata.annotations");
    }
}

/// Defaults of a Pod.
pub(super) fn pod(obj: &mut Value) {
    drop_old_annotations(obj);
    fields_mut(obj, "spec");
    let Some(spec) = get_mut(obj, "spec") else { return };
    pod_spec(spec);
    // Of a Pod alone: a template keeps what it says.
    if spec
        .int_at("terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
    {
        set(spec, "terminationGracePeriodSeconds", 1);
    }
    let host_network = spec.bool_at("hostNetwork");
    for list in ["initContainers", "containers"] {
        each_mut(spec, list, |c| {
            requests_from_limits(c);
            if host_network {
                each_mut(c, "ports", |port| {
                    if port.int_at("hostPort").unwrap_or(0) == 0 {
                        let same = port.at("containerPort").clone();
                        set(port, "hostPort", same);
                    }
                });
            }
        });
    }
    pod_level(spec);
    or_set(spec, "enableServiceLinks", true);
}

/// Defaults of a Pod template at a dotted path.
pub(super) fn template(obj: &mut Value, path: &str) {
    if fields_mut(obj, path).is_none() {
        return;
    }
    let Some(template) = get_mut(obj, path) else {
        return;
    };
    drop_old_annotations(template);
    fields_mut(template, "spec");
    if let Some(spec) = get_mut(template, "spec") {
        pod_spec(spec);
    }
}

/// Defaults of a Pod's spec, wherever it stands.
fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    or_set_empty(spec, "dnsPolicy", "ClusterFirst");
    or_set_empty(spec, "restartPolicy", "Always");
    or_set(spec, "securityContext", json!({}));
    or_set(spec, "terminationGracePeriodSeconds", 30);
    or_set_empty(spec, "schedulerName", "default-scheduler");
    // The old name of the field follows the new one, and fills it when it stands alone.
    match (
        spec.str_at("serviceAccountName").to_string(),
        spec.str_at("serviceAccount").to_string(),
    ) {
        (name, old) if name.is_empty() && !old.is_empty() => set(spec, "serviceAccountName", old),
        (name, old) if !name.is_empty() && name != old => set(spec, "serviceAccount", name),
        _ => {}
    }
    for list in CONTAINERS {
        each_mut(spec, list, container);
    }
    each_mut(spec, "volumes", volume);
}

fn container(c: &mut Value) {
    if !c.is_object() {
        return;
    }
    if c.is_empty_at("imagePullPolicy") {
        let policy = pull_policy(c.str_at("image"));
        set(c, "imagePullPolicy", policy);
    }
    or_set_empty(c, "terminationMessagePath", "/dev/termination-log");
    or_set_empty(c, "terminationMessagePolicy", "File");
    or_set(c, "resources", json!({}));
    each_mut(c, "ports", |p| or_set_empty(p, "protocol", "TCP"));
    each_mut(c, "env", |e| {
        let Some(source) = get_mut(e, "valueFrom") else {
            return;
        };
        field_ref(source, "fieldRef");
        if let Some(reference) = get_mut(source, "fileKeyRef") {
            or_set(reference, "optional", false);
        }
    });
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = get_mut(c, probe) {
            probe_defaults(probe);
        }
    }
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        if let Some(hook) = get_mut(c, hook) {
            http_get(hook);
        }
    }
}

/// `Always` for the tag `latest` (or none), else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    match super::image::tag(image) {
        Some("latest") => "Always",
        _ => "IfNotPresent",
    }
}

fn probe_defaults(probe: &mut Value) {
    for (field, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.int_at(field).unwrap_or(0) == 0 {
            set(probe, field, value);
        }
    }
    if probe.has("grpc") {
        or_set(probe, "grpc.service", "");
    }
    http_get(probe);
}

fn http_get(handler: &mut Value) {
    if handler.has("httpGet") {
        or_set_empty(handler, "httpGet.path", "/");
        or_set_empty(handler, "httpGet.scheme", "HTTP");
    }
}

fn field_ref(holder: &mut Value, path: &str) {
    if holder.has(path) {
        or_set_empty(holder, &format!("{path}.apiVersion"), "v1");
    }
}

/// Defaults of a volume, which is an emptyDir when it names no source.
fn volume(v: &mut Value) {
    let Some(fields) = v.as_object() else { return };
    if !fields
        .iter()
        .any(|(name, source)| name != "name" && !source.is_null())
    {
        set(v, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if v.has(source) {
            or_set(v, &format!("{source}.defaultMode"), DEFAULT_MODE);
        }
    }
    each_mut(v, "downwardAPI.items", |item| field_ref(item, "fieldRef"));
    each_mut(v, "projected.sources", |source| {
        if source.has("serviceAccountToken") {
            or_set(source, "serviceAccountToken.expirationSeconds", 3600);
        }
        each_mut(source, "downwardAPI.items", |item| field_ref(item, "fieldRef"));
    });
    if v.has("image") && v.is_empty_at("image.pullPolicy") {
        let policy = pull_policy(v.str_at("image.reference"));
        set(v, "image.pullPolicy", policy);
    }
    if v.has("ephemeral.volumeClaimTemplate") {
        or_set(v, "ephemeral.volumeClaimTemplate.spec.volumeMode", "Filesystem");
    }
    volume_source(v);
}

/// Defaults of the volume sources that Pods and PersistentVolumes share.
pub(super) fn volume_source(v: &mut Value) {
    if v.has("hostPath") {
        or_set(v, "hostPath.type", "");
    }
    let plain: [(&str, &[(&str, &str)]); 3] = [
        ("iscsi", &[("iscsiInterface", "default")]),
        (
            "rbd",
            &[
                ("pool", "rbd"),
                ("user", "admin"),
                ("keyring", "/etc/ceph/keyring"),
            ],
        ),
        (
            "scaleIO",
            &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
        ),
    ];
    for (source, fields) in plain {
        if v.has(source) {
            for (field, value) in fields {
                or_set_empty(v, &format!("{source}.{field}"), *value);
            }
        }
    }
    if v.has("azureDisk") {
        for (field, value) in [
            ("cachingMode", "ReadWrite"),
            ("kind", "Shared"),
            ("fsType", "ext4"),
        ] {
            or_set(v, &format!("azureDisk.{field}"), value);
        }
        or_set(v, "azureDisk.readOnly", false);
    }
}

/// A limit without a request is the request too.
fn requests_from_limits(container: &mut Value) {
    let limits: Vec<(String, Value)> = container
        .entries_at("resources.limits")
        .into_iter()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = fields_mut(container, "resources.requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
}

/// What the whole Pod asks for (KEP-2837), where it says a part: huge pages within what its containers may have, and of the
/// rest what they ask for, or else all that it may have.
fn pod_level(spec: &mut Value) {
    let has = |spec: &Value, kind: &str, name: &str| spec.at("resources").at(kind).get(name).is_some();
    if ["limits", "requests"]
        .iter()
        .all(|kind| spec.at("resources").is_empty_at(kind))
    {
        return;
    }
    for name in resource_names(spec, "limits") {
        let told = has(spec, "requests", &name) || has(spec, "limits", &name);
        if name.starts_with("hugepages-") && !told {
            give(spec, "limits", &name, together(spec, "limits", &name));
        }
    }
    if spec.is_empty_at("resources.limits") {
        return;
    }
    for name in resource_names(spec, "requests") {
        if ["cpu", "memory"].contains(&name.as_str()) && !has(spec, "requests", &name) {
            give(spec, "requests", &name, together(spec, "requests", &name));
        }
    }
    let limits = spec.at("resources.limits").clone();
    for (name, limit) in limits.as_object().into_iter().flatten() {
        let supported = name == "cpu" || name == "memory" || name.starts_with("hugepages-");
        if supported && !has(spec, "requests", name) {
            give(spec, "requests", name, Quantity::from_json(limit).ok());
        }
    }
}

/// Resources that the containers speak of.
fn resource_names(spec: &Value, kind: &str) -> BTreeSet<String> {
    let lists = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec.list_at(list));
    let maps = lists.filter_map(|c| c.at("resources").at(kind).as_object());
    maps.flat_map(|map| map.keys().cloned()).collect()
}

fn give(spec: &mut Value, kind: &str, name: &str, amount: Option<Quantity>) {
    if let (Some(amount), Some(map)) = (amount, fields_mut(spec, &format!("resources.{kind}"))) {
        map.insert(name.to_owned(), amount.to_string().into());
    }
}
