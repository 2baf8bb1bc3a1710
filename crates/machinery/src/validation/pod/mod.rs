//! Validation of Pods and Pod templates, in upstream's order and words. Source: `ValidatePodSpec` and its kin in
//! `pkg/apis/core/validation/validation.go` of Kubernetes v1.35. One file for each part of the spec; this one has what
//! belongs to the Pod as a whole.

mod affinity;
mod annotations;
mod container;
mod env;
mod persistent;
mod probe;
mod resize;
mod resources;
mod security;
mod sources;
mod status;
mod update;
mod volume;
mod windows;

use super::errors::Errors;
use super::{metadata, names};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

pub(super) use affinity::selector_term;
pub(super) use persistent::persistent_sources;
pub(crate) use resize::quality;
pub(super) use resize::resize;
pub(crate) use resources::{container_resource, is_exact, together};
pub(super) use resources::{parse as parse_quantity, quantity, resource_amount, resource_name};
pub(super) use status::status_update;
pub(super) use update::{ephemeral_containers, spec_update};

/// The good volumes of a Pod, by which mounts are judged.
pub(super) type Volumes<'a> = BTreeMap<&'a str, &'a Value>;

/// What a spec is the spec of.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    /// The metadata of the Pod; null for a template.
    pub(super) meta: &'a Value,
    /// The spec that it replaces; null for a new one. What it did wrong already it may do on.
    pub(super) old: &'a Value,
}

impl Of<'_> {
    /// Whether this is a Pod itself.
    fn is_pod(&self) -> bool {
        !self.meta.is_null()
    }
}

const NOTHING: &Value = &Value::Null;
/// Containers in the order in which upstream visits them.
const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a spec, with their places.
fn all_containers<'p>(spec: &'p Value, at: &Path) -> impl Iterator<Item = (&'p Value, Path)> {
    let at = at.clone();
    LISTS.into_iter().flat_map(move |list| {
        let at = at.child(list);
        let containers = spec.list_at(list).iter().enumerate();
        containers.map(move |(i, container)| (container, at.index(i)))
    })
}

/// Checks a new Pod.
pub(super) fn create(obj: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (spec, annotations) = (obj.at("spec"), obj.at("metadata.annotations"));
    let place = Path::new("metadata").child("annotations");
    annotations::check(annotations, NOTHING, spec, &place, errors);
    let of = Of {
        meta: obj.at("metadata"),
        old: NOTHING,
    };
    spec_checks(spec, of, &at, errors);
    pod_alone(spec, &at, errors);
    if !spec.is_empty_at("ephemeralContainers") {
        errors.forbidden(&at.child("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.is_empty_at("nodeName") && !spec.is_empty_at("schedulingGates") {
        errors.forbidden(
            &at.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        );
    }
    annotations::profiles(annotations, spec, &at, errors);
}

/// What templates may leave to whoever makes Pods of them.
fn pod_alone(spec: &Value, at: &Path, errors: &mut Errors) {
    for (i, volume) in spec.list_at("volumes").iter().enumerate() {
        let place = at.child("volumes").index(i).child("projected").child("sources");
        for (j, source) in volume.list_at("projected.sources").iter().enumerate() {
            if source.has("serviceAccountToken") && spec.is_empty_at("serviceAccountName") {
                errors.forbidden(
                    &place.index(j).child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                );
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, c) in spec.list_at(list).iter().enumerate() {
            container::trimmed_image(c, &at.child(list).index(i), errors);
        }
    }
}

/// Checks labels and annotations of a Pod template.
pub(super) fn template_metadata(template: &Value, at: &Path, errors: &mut Errors) {
    let (spec, annotations) = (template.at("spec"), template.at("metadata.annotations"));
    metadata::labels(template.at("metadata.labels"), &at.child("labels"), errors);
    metadata::annotations(annotations, &at.child("annotations"), errors);
    annotations::check(annotations, NOTHING, spec, &at.child("annotations"), errors);
}

/// Checks a Pod template: labels, annotations and the spec.
pub(super) fn template(template: &Value, at: &Path, errors: &mut Errors) {
    let (spec, annotations) = (template.at("spec"), template.at("metadata.annotations"));
    template_metadata(template, at, errors);
    let of = Of {
        meta: NOTHING,
        old: NOTHING,
    };
    spec_checks(spec, of, &at.child("spec"), errors);
    annotations::profiles(annotations, spec, &at.child("spec"), errors);
    if !spec.is_empty_at("ephemeralContainers") {
        errors.forbidden(
            &at.child("spec").child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// Checks a Pod's spec.
fn spec_checks(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&at.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = sources::volumes(spec.list_at("volumes"), of, &at.child("volumes"), errors);
    resource_claims(spec, of, &at.child("resourceClaims"), errors);
    container::containers(spec, of, &volumes, at, errors);
    resources::pod_level(spec, of, at, errors);
    container::ports_of_the_host(spec, of, at, errors);
    let valid = ["Always", "OnFailure", "Never"];
    errors.one_of_in_order(spec, "restartPolicy", at, &valid);
    let valid = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.one_of_in_order(spec, "dnsPolicy", at, &valid);
    metadata::labels(spec.at("nodeSelector"), &at.child("nodeSelector"), errors);
    security::pod(spec, of, at, errors);
    affinity::affinity(spec.at("affinity"), of, &at.child("affinity"), errors);
    dns(spec, at, errors);
    readiness_gates(spec, at, errors);
    scheduling_gates(spec, at, errors);
    let place = at.child("topologySpreadConstraints");
    affinity::spread(spec.at("topologySpreadConstraints"), of, &place, errors);
    windows::host_processes(spec, at, errors);
    security::users(spec, of, at, errors);
    hostname_override(spec, at, errors);
    name(spec, "serviceAccountName", names::dns_subdomain, at, errors);
    name(spec, "nodeName", names::dns_subdomain, at, errors);
    if let Some(seconds) = spec.int_at("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let text = names::range(1, i64::from(i32::MAX));
        errors.invalid(&at.child("activeDeadlineSeconds"), seconds, text);
    }
    name(spec, "hostname", names::dns_label, at, errors);
    name(spec, "subdomain", names::dns_label, at, errors);
    tolerations(spec.at("tolerations"), &at.child("tolerations"), errors);
    host_aliases(spec, at, errors);
    name(spec, "priorityClassName", names::dns_subdomain, at, errors);
    if spec.has("runtimeClassName") {
        let class = spec.str_at("runtimeClassName");
        errors.each(&at.child("runtimeClassName"), class, names::dns_subdomain(class));
    }
    if spec.has("preemptionPolicy") {
        let valid = ["PreemptLowerPriority", "Never"];
        errors.one_of_in_order(spec, "preemptionPolicy", at, &valid);
    }
    if spec.has("overhead") {
        let limits = serde_json::json!({"limits": spec.at("overhead")});
        resources::requirements(&limits, &[], of, &at.child("overhead"), errors);
    }
    windows::operating_system(spec, at, errors);
    env::files(spec, at, errors);
}

/// What a Pod of a class costs beside its containers. Upstream judges it as limits.
pub(super) fn overhead(amounts: &Value, at: &Path, errors: &mut Errors) {
    let of = Of {
        meta: &Value::Null,
        old: &Value::Null,
    };
    resources::requirements(&serde_json::json!({"limits": amounts}), &[], of, at, errors);
}

fn name(spec: &Value, field: &str, rule: fn(&str) -> Vec<String>, at: &Path, errors: &mut Errors) {
    let value = spec.str_at(field);
    if !value.is_empty() {
        errors.each(&at.child(field), value, rule(value));
    }
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
    const MAX_SERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    const MAX_CHARACTERS: usize = 2048;
    let config = spec.at("dnsConfig");
    let place = at.child("dnsConfig");
    let servers = config.strings_at("nameservers");
    if spec.str_at("dnsPolicy") == "None" {
        if config.is_null() {
            return errors.required(&place, "must provide `dnsConfig` when `dnsPolicy` is None");
        } else if servers.is_empty() {
            let text = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&place.child("nameservers"), text);
        }
    }
    if servers.len() > MAX_SERVERS {
        let text = format!("must not have more than {MAX_SERVERS} nameservers");
        errors.invalid(
            &place.child("nameservers"),
            config.at("nameservers").clone(),
            text,
        );
    }
    for (i, server) in servers.iter().enumerate() {
        errors.each(
            &place.child("nameservers").index(i),
            server,
            names::legacy_ip(server),
        );
    }
    let searches = config.strings_at("searches");
    let shown = config.at("searches");
    if searches.len() > MAX_SEARCHES {
        let text = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.invalid(&place.child("searches"), shown.clone(), text);
    }
    if searches.join(" ").len() > MAX_CHARACTERS {
        let text = format!(
            "must not have more than {MAX_CHARACTERS} characters (including spaces) in the search list"
        );
        errors.invalid(&place.child("searches"), shown.clone(), text);
    }
    for (i, search) in searches
        .into_iter()
        .enumerate()
        .filter(|(_, search)| *search != ".")
    {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.each(
            &place.child("searches").index(i),
            search,
            names::search_domain(search),
        );
    }
    for (i, option) in config.list_at("options").iter().enumerate() {
        if option.is_empty_at("name") {
            errors.required(&place.child("options").index(i), "must not be empty");
        }
    }
}

/// Claims of devices: each has a name, and is there already or made from a template.
fn resource_claims(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, claim) in spec.list_at("resourceClaims").iter().enumerate() {
        if of.meta.at("annotations").get(annotations::MIRROR).is_some() {
            errors.forbidden(
                &Path::root().key(""),
                "static pods do not support resource claims",
            );
            continue;
        }
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
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.invalid(&place.child("operator"), value, wrong.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(
                    &place.child("operator"),
                    value,
                    "value must be empty when `operator` is 'Exists'",
                );
            }
            "Exists" => {}
            // Comparisons are of a feature that v1.35 has switched off, and of which it tells all the same.
            "Lt" | "Gt" => {
                let valid = ["Equal", "Exists", "Lt", "Gt"];
                errors.not_supported_in_order(&place.child("operator"), operator, &valid);
            }
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
        errors.each(&place.child("ip"), ip, names::legacy_ip(ip));
        for (j, name) in alias.strings_at("hostnames").into_iter().enumerate() {
            errors.each(
                &place.child("hostnames").index(j),
                name,
                names::dns_subdomain(name),
            );
        }
    }
}
