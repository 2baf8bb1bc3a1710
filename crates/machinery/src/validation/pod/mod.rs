//! Validation of Pods and Pod templates, in upstream's order and words. Source: `ValidatePodSpec` and its kin in
//! `pkg/apis/core/validation/validation.go` of Kubernetes v1.35. One file for each part of the spec; this one has what
//! belongs to the Pod as a whole.

mod affinity;
mod container;
mod env;
mod probe;
mod resources;
mod security;
mod update;
mod volume;
mod windows;

use super::errors::Errors;
use super::{metadata, names};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) use affinity::node_term;
pub(crate) use resources::container_resource;
pub(super) use resources::{node_resource_name, parse as parse_quantity, quantity, resource_name};
pub(crate) use update::quality;
pub(super) use update::{ephemeral_containers, resize, spec_update};
pub(super) use volume::{volume_modes, volume_sources};

/// The volumes of a Pod by which mounts are judged.
pub(super) struct Volumes {
    names: BTreeSet<String>,
    claims: BTreeSet<String>,
    empty_dirs: BTreeSet<String>,
}

/// Checks a new Pod.
pub(super) fn create(obj: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let spec = obj.at("spec");
    spec_checks(spec, &at, errors);
    // Templates may leave it to whoever makes Pods of them.
    for (i, volume) in spec.list_at("volumes").iter().enumerate() {
        if volume.has("image") && volume.is_empty_at("image.reference") {
            let place = at.child("volumes").index(i).child("image");
            errors.required(&place.child("reference"), "");
        }
    }
    if !spec.is_empty_at("ephemeralContainers") {
        errors.forbidden(&at.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.is_empty_at("nodeName") && !spec.is_empty_at("schedulingGates") {
        errors.forbidden(
            &at.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
}

/// Checks a Pod template: labels, annotations and the spec.
pub(super) fn template(template: &Value, at: &Path, errors: &mut Errors) {
    metadata::labels(template.at("metadata.labels"), &at.child("labels"), errors);
    metadata::annotations(
        template.at("metadata.annotations"),
        &at.child("annotations"),
        errors,
    );
    spec_checks(template.at("spec"), &at.child("spec"), errors);
    if !template.is_empty_at("spec.ephemeralContainers") {
        errors.forbidden(
            &at.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Checks a Pod's spec.
pub(super) fn spec_checks(spec: &Value, at: &Path, errors: &mut Errors) {
    let volumes = volume::volumes(spec.at("volumes"), &at.child("volumes"), errors);
    container::containers(spec, &volumes, at, errors);
    match spec.str_at("restartPolicy") {
        "" => errors.required(&at.child("restartPolicy"), ""),
        "Always" | "OnFailure" | "Never" => {}
        other => {
            let valid = ["Always", "OnFailure", "Never"];
            errors.not_supported_in_order(&at.child("restartPolicy"), other, &valid);
        }
    }
    dns(spec, at, errors);
    metadata::labels(spec.at("nodeSelector"), &at.child("nodeSelector"), errors);
    security::pod(spec, at, errors);
    security::users(spec, at, errors);
    resource_claims(spec, &at.child("resourceClaims"), errors);
    affinity::affinity(spec.at("affinity"), &at.child("affinity"), errors);
    readiness_gates(spec, at, errors);
    affinity::spread(
        spec.at("topologySpreadConstraints"),
        &at.child("topologySpreadConstraints"),
        errors,
    );
    scheduling_gates(spec, at, errors);
    resources::pod_level(spec, at, errors);
    for (field, rule) in [
        ("schedulerName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
    ] {
        let value = spec.str_at(field);
        if !value.is_empty() {
            errors.each(&at.child(field), value, rule(value));
        }
    }
    if let Some(seconds) = spec.int_at("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(
            &at.child("activeDeadlineSeconds"),
            seconds,
            names::range(1, i64::from(i32::MAX)),
        );
    }
    tolerations(spec.at("tolerations"), &at.child("tolerations"), errors);
    host_aliases(spec, at, errors);
    errors.one_of_if_set(spec, "preemptionPolicy", at, &["Never", "PreemptLowerPriority"]);
    for (name, value) in spec.entries_at("overhead") {
        let place = at.child("overhead").key(name);
        resource_name(name, &place, errors);
        quantity(value, &place, errors);
    }
    operating_system(spec, at, errors);
    hostname_override(spec, at, errors);
}

fn hostname_override(spec: &Value, at: &Path, errors: &mut Errors) {
    if !spec.has("hostnameOverride") {
        return;
    }
    let (place, name) = (at.child("hostnameOverride"), spec.str_at("hostnameOverride"));
    if spec.bool_at("setHostnameAsFQDN") {
        errors.forbidden(&place, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.bool_at("hostNetwork") {
        errors.forbidden(&place, "may not be specified when hostNetwork is true");
    }
    if name.len() > 64 {
        errors.too_long(&place, 64);
    }
    errors.each(&place, name, names::dns_subdomain(name));
}

fn dns(spec: &Value, at: &Path, errors: &mut Errors) {
    match spec.str_at("dnsPolicy") {
        "" => errors.required(&at.child("dnsPolicy"), ""),
        "ClusterFirstWithHostNet" | "ClusterFirst" | "Default" | "None" => {}
        other => {
            let valid = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
            errors.not_supported_in_order(&at.child("dnsPolicy"), other, &valid);
        }
    }
    let config = spec.at("dnsConfig");
    let place = at.child("dnsConfig");
    let servers = config.strings_at("nameservers");
    if spec.str_at("dnsPolicy") == "None" {
        if config.is_null() {
            errors.required(&place, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            errors.required(
                &place.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
        }
    }
    if servers.len() > 3 {
        let text = "must not have more than 3 nameservers";
        errors.invalid(
            &place.child("nameservers"),
            config.at("nameservers").clone(),
            text,
        );
    }
    for (i, server) in servers.iter().enumerate() {
        errors.each(&place.child("nameservers").index(i), server, names::ip(server));
    }
    let searches = config.strings_at("searches");
    if searches.len() > 32 {
        let text = format!("must not have more than 32 search paths, got {}", searches.len());
        errors.invalid(&place.child("searches"), config.at("searches").clone(), text);
    }
    for (i, search) in searches.iter().enumerate() {
        // A trailing dot, underscores and a lone dot are what resolvers accept too.
        let plain = search.strip_suffix('.').unwrap_or(search).replace('_', "a");
        if !plain.is_empty() {
            errors.each(
                &place.child("searches").index(i),
                search,
                names::dns_subdomain(&plain),
            );
        }
    }
    for (i, option) in config.list_at("options").iter().enumerate() {
        if option.is_empty_at("name") {
            errors.required(&place.child("options").index(i), "must not be empty");
        }
    }
}

/// Claims of devices: each has a name, and is there already or made from a template.
fn resource_claims(spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.list_at("resourceClaims").iter().enumerate() {
        let (name, place) = (claim.str_at("name"), at.index(i));
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&place.child("name"), name);
        } else {
            errors.each(&place.child("name"), name, names::dns_label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        let shown = || {
            serde_json::json!({"Name": claim.at("name"), "ResourceClaimName": claim.at(sources[0]),
                "ResourceClaimTemplateName": claim.at(sources[1])})
        };
        match sources.iter().filter(|source| claim.has(source)).count() {
            0 => {
                let text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&place, shown(), text);
            }
            1 => {}
            _ => {
                let text =
                    "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&place, shown(), text);
            }
        }
        for source in sources.into_iter().filter(|source| claim.has(source)) {
            let name = claim.str_at(source);
            errors.each(&place.child(source), name, names::dns_subdomain(name));
        }
    }
}

fn readiness_gates(spec: &Value, at: &Path, errors: &mut Errors) {
    for (i, gate) in spec.list_at("readinessGates").iter().enumerate() {
        let kind = gate.str_at("conditionType");
        let place = at.child("readinessGates").index(i).child("conditionType");
        errors.each(&place, kind, names::qualified_name(kind));
    }
}

fn scheduling_gates(spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, gate) in spec.list_at("schedulingGates").iter().enumerate() {
        let (name, place) = (gate.str_at("name"), at.child("schedulingGates").index(i));
        errors.each(&place, name, names::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&place, name);
        }
    }
}

/// Checks tolerations, of Pods and of runtime classes.
pub(super) fn tolerations(list: &Value, at: &Path, errors: &mut Errors) {
    for (i, toleration) in list.as_array().into_iter().flatten().enumerate() {
        let place = at.index(i);
        let (key, operator) = (toleration.str_at("key"), toleration.str_at("operator"));
        if !key.is_empty() {
            errors.each(&place.child("key"), key, names::qualified_name(key));
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &place.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.has("tolerationSeconds") && toleration.str_at("effect") != "NoExecute" {
            errors.invalid(
                &place.child("effect"),
                toleration.str_at("effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        let value = toleration.str_at("value");
        match operator {
            "" | "Equal" => errors.each(&place.child("operator"), value, names::label_value(value)),
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &place.child("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            other => errors.not_supported(&place.child("operator"), other, &["Equal", "Exists"]),
        }
        if !toleration.is_empty_at("effect") {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            errors.one_of_in_order(toleration, "effect", &place, &effects);
        }
    }
}

fn host_aliases(spec: &Value, at: &Path, errors: &mut Errors) {
    for (i, alias) in spec.list_at("hostAliases").iter().enumerate() {
        let place = at.child("hostAliases").index(i);
        let ip = alias.str_at("ip");
        errors.each(&place.child("ip"), ip, names::ip(ip));
        for (j, name) in alias.strings_at("hostnames").into_iter().enumerate() {
            errors.each(
                &place.child("hostnames").index(j),
                name,
                names::dns_subdomain(name),
            );
        }
    }
}

fn operating_system(spec: &Value, at: &Path, errors: &mut Errors) {
    if !spec.has("os") {
        return;
    }
    match spec.str_at("os.name") {
        "" => errors.required(&at.child("os").child("name"), ""),
        "linux" | "windows" => {}
        other => errors.not_supported(&at.child("os"), other, &["linux", "windows"]),
    }
}
