//! What a kind does to an object before it is stored: which of its parts a request may set at all, what starts at which
//! value, and when `metadata.generation` counts on. Source: `pkg/registry/*/strategy.go` of Kubernetes v1.35.

mod gated;
pub(crate) mod pod;
mod service;

use crate::autoscaling;
use crate::defaults::name_label;
use crate::empties::Empties;
use crate::validation::pod as checks;
use crate::walk::{At, fields_mut, keep, same, set, unset};
use kinds::KindInfo;
use serde_json::{Value, json};

/// Kinds that count generations: their content is compared on each write.
fn counts_generations(kind: &KindInfo) -> bool {
    matches!(
        (kind.group, kind.kind),
        ("", "Pod" | "PodTemplate" | "ReplicationController")
            | ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
            | ("batch" | "podvisor.io", _)
            | ("discovery.k8s.io", "EndpointSlice")
            | ("policy", "PodDisruptionBudget")
            | ("networking.k8s.io", "NetworkPolicy" | "Ingress" | "IngressClass")
            | (
                "flowcontrol.apiserver.k8s.io" | "admissionregistration.k8s.io" | "apiextensions.k8s.io",
                _
            )
            | ("scheduling.k8s.io", "PriorityClass")
            | ("resource.k8s.io", "ResourceSlice" | "DeviceClass")
            | ("storage.k8s.io", "CSIDriver")
    )
}

/// Kinds whose status may be given with a new object: who registers a Node says what it has.
fn keeps_status(kind: &KindInfo) -> bool {
    matches!(
        (kind.group, kind.kind),
        (
            "",
            "Node" | "Namespace" | "PersistentVolume" | "PersistentVolumeClaim" | "Service" | "Pod"
        )
    )
}

/// Makes a new object ready to be validated and stored. `metadata.uid` must be set, since Jobs select by it.
pub fn prepare_create(kind: &KindInfo, obj: &mut Value) {
    gated::drop(kind, obj, &Value::Null);
    // That of a CSIDriver counts changes only.
    if counts_generations(kind) && kind.kind != "CSIDriver" {
        set(obj, "metadata.generation", 1);
    }
    if kind.has_status && !keeps_status(kind) && obj.has("status") {
        set(obj, "status", json!({}));
    }
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            // Who says it is believed.
            let quality = match obj.str_at("status.qosClass") {
                "" => checks::quality(obj.at("spec")).to_owned(),
                said => said.to_owned(),
            };
            set(obj, "status", json!({"phase": "Pending", "qosClass": quality}));
            // A held Pod says so from the first moment on (KEP-3521).
            if !obj.list_at("spec.schedulingGates").is_empty() {
                let held = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                    "lastTransitionTime": obj.at("metadata.creationTimestamp")}]);
                set(obj, "status.conditions", held);
            }
            pod::create(obj);
        }
        ("", "Namespace") => {
            name_label(obj);
            add_finalizer(obj, "spec.finalizers", "kubernetes");
            set(obj, "status", json!({"phase": "Active"}));
        }
        ("", "Service") => {
            set(obj, "status", json!({"loadBalancer": {}}));
            service::drop_inside_policy(obj);
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim") => {
            set(obj, "status", json!({"phase": "Pending"}));
            if kind.kind == "PersistentVolume" {
                // KEP-3762: a volume tells since when it is in its phase.
                let now = obj.at("metadata.creationTimestamp").clone();
                set(obj, "status.lastPhaseTransitionTime", now);
            }
            claim_sources(obj, None);
        }
        ("networking.k8s.io", "Ingress") => set(obj, "status", json!({"loadBalancer": {}})),
        ("", "ServiceAccount") => bare_secrets(obj),
        ("batch", "Job") => job_selector(obj),
        ("apps", "DaemonSet") => {
            set(obj, "status", json!({}));
            let given = generation_of_template(obj);
            template_generation(obj, given.max(1));
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            // Limits and values of schemas.
            crate::decode::whole_numbers(obj);
            let stored = obj.list_at("spec.versions").iter().find(|v| v.bool_at("storage"));
            let stored: Vec<Value> = stored.map(|v| v.at("name").clone()).into_iter().collect();
            set(obj, "status", json!({"storedVersions": stored}));
        }
        ("apiregistration.k8s.io", "APIService") if !obj.has("spec.service") => {
            let since = obj.at("metadata.creationTimestamp").clone();
            set(
                obj,
                "status.conditions",
                json!([{"type": "Available", "status": "True", "lastTransitionTime": since,
                "reason": "Local", "message": "Local APIServices are always available"}]),
            );
        }
        ("apps" | "batch", _) | ("", "ReplicationController") if kind.has_status => {
            set(obj, "status", json!({}));
        }
        _ => {}
    }
    crate::form::write(kind, obj);
}

/// An account knows its Secrets by name alone.
fn bare_secrets(account: &mut Value) {
    let Some(secrets) = account.get_mut("secrets").and_then(Value::as_array_mut) else {
        return;
    };
    for secret in secrets.iter_mut().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

/// The annotation by which clients of old versions know which template a DaemonSet has.
pub(crate) const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn generation_of_template(obj: &Value) -> i64 {
    let given = obj.at("metadata.annotations").get(TEMPLATE_GENERATION);
    given.and_then(|v| v.as_str()?.parse().ok()).unwrap_or_default()
}

fn template_generation(obj: &mut Value, generation: i64) {
    if let Some(annotations) = fields_mut(obj, "metadata.annotations") {
        annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
    }
}

fn add_finalizer(obj: &mut Value, path: &str, name: &str) {
    let mut list = obj.list_at(path).to_vec();
    if !list.iter().any(|v| v == name) {
        list.push(name.into());
        set(obj, path, list);
    }
}

/// The two fields that name a claim's source of data follow each other within a namespace (KEP-1495).
fn claim_sources(obj: &mut Value, before: Option<&Value>) {
    let has_source = |claim: &Value| claim.has("spec.dataSource") || claim.has("spec.dataSourceRef");
    let source = obj.at("spec.dataSource");
    let named = (source.str_at("apiGroup"), source.str_at("kind"));
    let copied = [
        ("", "PersistentVolumeClaim"),
        ("snapshot.storage.k8s.io", "VolumeSnapshot"),
    ];
    if !before.is_some_and(has_source) && !obj.has("spec.dataSourceRef") && !copied.contains(&named) {
        // The older field has never said anything of other kinds.
        unset(obj, "spec.dataSource");
    }
    let (old, new) = (
        obj.at("spec.dataSource").clone(),
        obj.at("spec.dataSourceRef").clone(),
    );
    if !old.is_null() && new.is_null() {
        set(obj, "spec.dataSourceRef", old);
    } else if old.is_null() && !new.is_null() && new.is_empty_at("namespace") {
        set(obj, "spec.dataSource", new);
    }
}

/// A Job selects its Pods by its uid, unless it brings a selector of its own.
fn job_selector(obj: &mut Value) {
    set(obj, "status", json!({}));
    if obj.bool_at("spec.manualSelector") {
        return;
    }
    let (uid, name) = (obj.at("metadata.uid").clone(), obj.at("metadata.name").clone());
    let given = obj.at("metadata.labels").as_object().cloned().unwrap_or_default();
    let before = obj.at("spec.template.metadata.labels").clone();
    if let Some(labels) = fields_mut(obj, "spec.template.metadata.labels") {
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            // What its writer says stays, to be judged.
            labels.entry(key).or_insert_with(|| value.clone());
        }
    }
    // A Job without labels of its own has those of its Pods.
    let labels = obj.at("spec.template.metadata.labels").clone();
    if given.is_empty() || same(&Value::Object(given), &before) {
        set(obj, "metadata.labels", labels);
    }
    if let Some(labels) = fields_mut(obj, "spec.selector.matchLabels") {
        labels.entry("batch.kubernetes.io/controller-uid").or_insert(uid);
    }
}

/// Makes a changed object ready to be validated and stored: puts back what this way of writing may not change, and counts
/// the generation when the content has changed. `sub` is the subresource that the write came by.
pub fn prepare_update(kind: &KindInfo, new: &mut Value, old: &Value, sub: Option<&str>) {
    // Of slices, what is sent counts, even where nobody may set it.
    let sent_other = matches!(kind.kind, "ResourceSlice" | "EndpointSlice") && changed(kind, new, old);
    match sub {
        None => {
            gated::drop(kind, new, old);
            prepare_main(kind, new, old);
        }
        Some("status") => {
            prepare_status(kind, new, old);
            gated::drop_of_status(kind, new, old);
        }
        Some("ephemeralcontainers") => {
            let list = new.at("spec.ephemeralContainers").clone();
            only(new, old, |out| put(out, "spec.ephemeralContainers", list));
            gated::drop(kind, new, old);
        }
        Some("resize") => {
            let wanted = new.clone();
            only(new, old, |out| resized(out, &wanted));
        }
        Some("approval") => {
            let conditions = new.at("status.conditions").clone();
            for field in ["spec", "status"] {
                keep(new, old, field);
            }
            put(new, "status.conditions", conditions);
        }
        // So it is when a Namespace is finalized, too. The body of a scale has been turned into a change of the spec already.
        Some(_) => keep(new, old, "status"),
    }
    keep(new, old, "metadata.generation");
    let counts = counts_generations(kind) && sub != Some("status");
    if counts && (sent_other || changed(kind, new, old)) {
        set(
            new,
            "metadata.generation",
            old.int_at("metadata.generation").unwrap_or(0) + 1,
        );
    }
}

/// Counts the generation where upstream tells an empty list from none. Comes after [`prepare_update`].
pub fn count_empties(kind: &KindInfo, new: &mut Value, old: &Value, sub: Option<&str>, empties: &Empties) {
    let content = match (kind.group, kind.kind) {
        ("networking.k8s.io", "NetworkPolicy") => "spec",
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => "webhooks",
        _ => return,
    };
    let before = old.int_at("metadata.generation").unwrap_or(0);
    if sub.is_none() && empties.left_below(new, content) && new.int_at("metadata.generation") == Some(before)
    {
        set(new, "metadata.generation", before + 1);
    }
}

fn put(obj: &mut Value, path: &str, value: Value) {
    if value.is_null() {
        unset(obj, path)
    } else {
        set(obj, path, value)
    }
}

/// The old object with one change, and the metadata that goes with any write.
fn only(new: &mut Value, old: &Value, change: impl FnOnce(&mut Value)) {
    let mut out = old.clone();
    for field in ["managedFields", "resourceVersion"] {
        keep(&mut out, new, &format!("metadata.{field}"));
    }
    change(&mut out);
    *new = out;
}

fn resized(out: &mut Value, wanted: &Value) {
    // What is asked for the Pod as a whole is of InPlacePodLevelResourcesVerticalScaling, which is off.
    for list in ["containers", "initContainers"] {
        let at = format!("spec.{list}");
        let asked = wanted.list_at(&at);
        let name = |container: &Value| container.str_at("name").to_owned();
        if !asked.iter().map(name).eq(out.list_at(&at).iter().map(name)) {
            // Others, or in another order: the validation says so.
            put(out, &at, wanted.at(&at).clone());
            continue;
        }
        let mut asked = asked.iter();
        crate::walk::each_mut(out, &at, |container| {
            for field in ["resources", "resizePolicy"] {
                let value = asked.as_slice().first().map(|same| same.at(field).clone());
                put(container, field, value.unwrap_or_default());
            }
            asked.next();
        });
    }
}

fn prepare_main(kind: &KindInfo, new: &mut Value, old: &Value) {
    if kind.has_status {
        keep(new, old, "status");
    }
    match (kind.group, kind.kind) {
        ("", "Service") => {
            service::keep_allocated(new, old);
            service::drop_unneeded(new, old);
            service::drop_inside_policy(new);
        }
        // Finalizers of a namespace are taken away by `finalize` alone.
        ("", "Namespace") => keep(new, old, "spec.finalizers"),
        ("", "Pod") => {
            // What admission once set is not asked for again.
            for field in ["spec.priority", "spec.preemptionPolicy"] {
                if !new.has(field) {
                    keep(new, old, field);
                }
            }
        }
        ("apps", "DaemonSet") => {
            let grown = !same(new.at("spec.template"), old.at("spec.template"));
            template_generation(new, generation_of_template(old) + i64::from(grown));
        }
        ("", "PersistentVolumeClaim") => claim_sources(new, Some(old)),
        ("autoscaling", _) if kind.version == "v1" => keep_annotations(new, old, &autoscaling::OF_STATUS),
        ("", "ServiceAccount") => bare_secrets(new),
        // Objects may be stored in a new version from now on.
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            crate::decode::whole_numbers(new);
            let versions = new.list_at("spec.versions");
            let storage = versions.iter().find(|v| v.bool_at("storage"));
            let storage = storage.map(|v| v.at("name").clone());
            let mut stored = new.list_at("status.storedVersions").to_vec();
            if let Some(storage) = storage.filter(|name| !stored.contains(name)) {
                stored.push(storage);
                set(new, "status.storedVersions", Value::Array(stored));
            }
        }
        // What is asked for, and by whom, is for life.
        ("certificates.k8s.io", "CertificateSigningRequest") => keep(new, old, "spec"),
        _ => {}
    }
}

/// Annotations that stand for a part of the object that is not written.
fn keep_annotations(new: &mut Value, old: &Value, names: &[&str]) {
    for name in names {
        let before = old.at("metadata.annotations").get(*name).cloned();
        let has = new.at("metadata.annotations").get(*name).is_some();
        if !has && before.is_none() {
            continue;
        }
        if let Some(annotations) = fields_mut(new, "metadata.annotations") {
            match before {
                Some(value) => annotations.insert((*name).to_owned(), value),
                None => annotations.remove(*name),
            };
        }
    }
    if new.is_empty_at("metadata.annotations") {
        unset(new, "metadata.annotations");
    }
}

fn prepare_status(kind: &KindInfo, new: &mut Value, old: &Value) {
    // Everything but the status and what kubectl may annotate is that of the stored object.
    let status = new.at("status").clone();
    let (annotations, labels) = (
        new.at("metadata.annotations").clone(),
        new.at("metadata.labels").clone(),
    );
    let finalizers = new.at("metadata.finalizers").clone();
    let owners = new.at("metadata.ownerReferences").clone();
    let [base, uid, end, grace] = [
        "generateName",
        "uid",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ]
    .map(|field| new.at("metadata").at(field).clone());
    only(new, old, |out| {
        put(out, "status", status);
        if kind.group == "flowcontrol.apiserver.k8s.io" {
            // Of its metadata nothing comes by this way.
            return;
        }
        put(out, "metadata.generateName", base);
        // What clients say of these is refused, not dropped.
        put(out, "metadata.uid", uid);
        put(out, "metadata.deletionGracePeriodSeconds", grace);
        if crate::apply::status_alone(kind) {
            // Not by the common way of resetting metadata, which takes the end back as well.
            if kind.kind == "APIService" {
                put(out, "metadata.deletionTimestamp", end);
            }
            return;
        }
        put(out, "metadata.annotations", annotations);
        put(out, "metadata.finalizers", finalizers);
        put(out, "metadata.deletionTimestamp", end);
        // Old kubelets sent wrong ones.
        if (kind.group, kind.kind) != ("", "Pod") {
            put(out, "metadata.ownerReferences", owners);
        }
        if !matches!((kind.group, kind.kind), ("apps", "Deployment")) {
            put(out, "metadata.labels", labels);
        }
    });
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            pod::status(new, old);
            gated::drop_pod_status(new, old);
        }
        ("apps", "DaemonSet") => template_generation(new, generation_of_template(old)),
        // Whoever reads a Job without labels finds those of its template.
        ("batch", "Job") => crate::defaults::job_labels(new),
        ("autoscaling", _) if kind.version == "v1" => keep_annotations(new, old, &autoscaling::OF_SPEC),
        ("resource.k8s.io", "ResourceClaim") => {
            gated::drop(kind, new, old);
            drop_given_back(new, old);
        }
        _ => {}
    }
}

/// Of devices that a claim no longer has, nothing is told (KEP-4817).
fn drop_given_back(new: &mut Value, old: &Value) {
    let devices = |claim: &Value| -> Vec<[Value; 4]> {
        let results = claim.list_at("status.allocation.devices.results").iter();
        results.map(device_id).collect()
    };
    let (had, has) = (devices(old), devices(new));
    let mut told = new.list_at("status.devices").to_vec();
    let before = told.len();
    told.retain(|device| {
        let id = device_id(device);
        has.contains(&id) || !had.contains(&id)
    });
    if told.is_empty() {
        unset(new, "status.devices");
    } else if told.len() < before {
        set(new, "status.devices", told);
    }
}

fn device_id(device: &Value) -> [Value; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| device.at(field).clone())
}

/// Verdicts on a request for a certificate that were there stay as they were, whatever is sent of them with its status.
pub fn keep_verdicts(kind: &KindInfo, new: &mut Value, old: &Value) {
    if (kind.group, kind.kind) != ("certificates.k8s.io", "CertificateSigningRequest") {
        return;
    }
    for ty in ["Approved", "Denied"] {
        let of = |c: &&Value| c.str_at("type") == ty;
        let before: Vec<Value> = old
            .list_at("status.conditions")
            .iter()
            .filter(of)
            .cloned()
            .collect();
        if before.len() != new.list_at("status.conditions").iter().filter(of).count() {
            continue;
        }
        let mut before = before.into_iter();
        crate::walk::each_mut(new, "status.conditions", |condition| {
            if condition.str_at("type") == ty
                && let Some(own) = before.next()
            {
                *condition = own;
            }
        });
    }
}

/// Gives a status its times, where who wrote it left them out: the conditions of a request for a certificate, and the phase
/// of a volume. `now` is the time of the write in RFC 3339.
pub fn stamp(kind: &KindInfo, new: &mut Value, old: &Value, now: &str) {
    match (kind.group, kind.kind) {
        ("certificates.k8s.io", "CertificateSigningRequest") => stamp_conditions(new, old, now),
        ("", "PersistentVolume") => stamp_phase(new, old, now),
        _ => {}
    }
}

/// KEP-3762
fn stamp_phase(new: &mut Value, old: &Value, now: &str) {
    const TIME: &str = "status.lastPhaseTransitionTime";
    let stays = new.str_at("status.phase") == old.str_at("status.phase");
    if stays && !new.has(TIME) {
        keep(new, old, TIME);
    } else if !stays && (!new.has(TIME) || new.at(TIME) == old.at(TIME)) {
        set(new, TIME, now);
    }
}

fn stamp_conditions(new: &mut Value, old: &Value, now: &str) {
    crate::walk::each_mut(new, "status.conditions", |condition| {
        let same = |c: &&Value| {
            ["type", "status"]
                .iter()
                .all(|f| c.str_at(f) == condition.str_at(f))
        };
        let before = old.list_at("status.conditions").iter().find(same);
        let since = before.map_or(&Value::Null, |c| c.at("lastTransitionTime"));
        let since = since.as_str().unwrap_or(now).to_owned();
        for (field, time) in [("lastUpdateTime", now), ("lastTransitionTime", since.as_str())] {
            if !condition.has(field) {
                set(condition, field, time);
            }
        }
    });
}

/// Whether the content that a generation stands for has changed.
fn changed(kind: &KindInfo, new: &Value, old: &Value) -> bool {
    match (kind.group, kind.kind) {
        // Deployments hand their annotations down to ReplicaSets.
        ("apps", "Deployment") => {
            !same(new.at("spec"), old.at("spec"))
                || !same(new.at("metadata.annotations"), old.at("metadata.annotations"))
        }
        ("scheduling.k8s.io", "PriorityClass") => false,
        ("discovery.k8s.io", "EndpointSlice") => {
            let parts = ["addressType", "endpoints", "ports", "metadata.labels"];
            parts.iter().any(|part| !same(new.at(part), old.at(part)))
        }
        _ => {
            let content =
                |name: &&String| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind");
            let gone = keys(old).filter(|name| new.get(name.as_str()).is_none());
            let mut all = keys(new).chain(gone).filter(content);
            all.any(|name| new[name] != old[name] && !same(&new[name], &old[name]))
        }
    }
}

fn keys(object: &Value) -> impl Iterator<Item = &String> {
    object.as_object().into_iter().flat_map(serde_json::Map::keys)
}

/// The quality-of-service class of a Pod's spec, as its status shows it.
pub fn pod_quality_of_service(spec: &Value) -> &'static str {
    checks::quality(spec)
}
