//! Validation of `metadata`, which every kind has: the name by the rule of its kind, labels, annotations, owners,
//! finalizers, and what an update must leave alone. Source: `apimachinery/pkg/api/validation/objectmeta.go`.

use super::errors::{Errors, IMMUTABLE};
use super::names;
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::{Path, quoted};
use serde_json::Value;

/// Bytes that all annotations of an object may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;
/// Finalizers that need no domain prefix.
pub(super) const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// The rule for a name of a kind.
pub(super) fn name_rule(kind: &KindInfo) -> fn(&str) -> Vec<String> {
    match (kind.group, kind.kind) {
        ("", "Namespace") | ("podvisor.io", "SupervisorNamespace") | ("apps", "StatefulSet") => {
            names::dns_label
        }
        ("", "Service") => names::dns_1035_label,
        ("rbac.authorization.k8s.io", _)
        | ("podvisor.io", "User" | "Group")
        | ("apiregistration.k8s.io", "APIService")
        | ("certificates.k8s.io", "CertificateSigningRequest")
        | ("", "Event") => names::path_segment,
        ("networking.k8s.io", "IPAddress") => crate::ip::strict_address,
        // Its name depends on its signer (`certificates::trust_bundle`).
        ("certificates.k8s.io", "ClusterTrustBundle") => |_| Vec::new(),
        _ => names::dns_subdomain,
    }
}

/// The name that an object must have by what it says, where its kind wants one, and how that is told.
fn own_name(kind: &KindInfo, obj: &Value) -> Option<(String, String)> {
    match (kind.group, kind.kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let name = format!("{}.{}", obj.str_at("spec.names.plural"), obj.str_at("spec.group"));
            Some((name, "must be spec.names.plural+\".\"+spec.group".to_owned()))
        }
        ("apiregistration.k8s.io", "APIService") => {
            let name = format!("{}.{}", obj.str_at("spec.version"), obj.str_at("spec.group"));
            let text = format!("must be `spec.version+\".\"+spec.group`: {name:?}");
            Some((name, text))
        }
        _ => None,
    }
}

/// Checks the metadata of an object of a kind.
pub(super) fn create(kind: &KindInfo, obj: &Value, errors: &mut Errors) {
    let own = own_name(kind, obj);
    let rule = |name: &str, checked: &str| {
        let mut faults = name_rule(kind)(checked);
        // Of what cannot be the name of an APIService nothing else is said.
        let is_other = own.as_ref().filter(|(own, _)| own != name);
        if let Some((_, text)) = is_other.filter(|_| faults.is_empty() || kind.kind != "APIService") {
            faults.push(text.clone());
        }
        faults
    };
    checked(
        obj.at("metadata"),
        kind.namespaced,
        rule,
        &Path::new("metadata"),
        errors,
    );
}

/// Checks metadata wherever it stands (claim templates, ephemeral volumes).
pub(super) fn check(
    meta: &Value,
    namespaced: bool,
    rule: fn(&str) -> Vec<String>,
    at: &Path,
    errors: &mut Errors,
) {
    checked(meta, namespaced, |_, name| rule(name), at, errors);
}

/// The rule is given a name as it is and as it will be: a prefix may end as no name does.
fn checked(
    meta: &Value,
    namespaced: bool,
    rule: impl Fn(&str, &str) -> Vec<String>,
    at: &Path,
    errors: &mut Errors,
) {
    let (name, base) = (meta.str_at("name"), meta.str_at("generateName"));
    if !base.is_empty() {
        errors.each(&at.child("generateName"), base, rule(base, &names::masked(base)));
    }
    if name.is_empty() {
        errors.required(&at.child("name"), "name or generateName is required");
    } else {
        errors.each(&at.child("name"), name, rule(name, name));
    }
    let namespace = meta.str_at("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.required(&at.child("namespace"), ""),
        (true, false) => errors.each(&at.child("namespace"), namespace, names::dns_label(namespace)),
        (false, false) => errors.forbidden(&at.child("namespace"), "not allowed on this type"),
        (false, true) => {}
    }
    if let Some(generation) = meta.int_at("generation")
        && generation < 0
    {
        errors.invalid(&at.child("generation"), generation, super::errors::NEGATIVE);
    }
    labels(meta.at("labels"), &at.child("labels"), errors);
    annotations(meta.at("annotations"), &at.child("annotations"), errors);
    owners(meta.at("ownerReferences"), &at.child("ownerReferences"), errors);
    finalizers(meta, &at.child("finalizers"), errors);
}

/// Checks a map of labels.
pub(super) fn labels(labels: &Value, at: &Path, errors: &mut Errors) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.each(at, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or("");
        errors.each(at, value, names::label_value(value));
    }
}

/// Checks a map of annotations: keys and the total size.
pub(super) fn annotations(annotations: &Value, at: &Path, errors: &mut Errors) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.each(at, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.too_long(at, MAX_ANNOTATIONS);
    }
}

fn owners(owners: &Value, at: &Path, errors: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let api_version = owner.str_at("apiVersion");
        let (group, version) = match api_version.split_once('/') {
            // What cannot be read is neither.
            Some((_, rest)) if rest.contains('/') => ("", ""),
            Some(both) => both,
            None => ("", api_version),
        };
        if version.is_empty() {
            errors.invalid(&at.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if owner.is_empty_at(field) {
                errors.invalid(&at.child(field), "", "must not be empty");
            }
        }
        if (group, owner.str_at("kind")) == ("", "Event") {
            let text = "/v1, Kind=Event is disallowed from being an owner";
            errors.invalid_shown(at, &owner_text(owner), text);
        }
        if owner.bool_at("controller") {
            let this = format!("{}/{}", owner.str_at("kind"), owner.str_at("name"));
            match &controller {
                Some(first) => {
                    let text = "Only one reference can have Controller set to true. Found \"true\" in references for";
                    let all = owners.as_array().into_iter().flatten().map(owner_text);
                    let shown = format!("[{}]", all.collect::<Vec<_>>().join(","));
                    errors.invalid_shown(at, &shown, &format!("{text} {first} and {this}"));
                }
                None => controller = Some(this),
            }
        }
    }
}

/// Checks the metadata of what a template makes: labels and annotations, and nothing else.
pub(super) fn of_template(meta: &Value, place: &Path, errors: &mut Errors) {
    annotations(meta.at("annotations"), &place.child("annotations"), errors);
    labels(meta.at("labels"), &place.child("labels"), errors);
    for (field, shown) in [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ] {
        // Behind a pointer, zero is something; an empty list has been written.
        let nothing = match meta.at(field) {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            value => field == "generation" && value == &Value::from(0),
        };
        if !nothing {
            errors.forbidden(&place.child(shown), "cannot be set");
        }
    }
}

/// An owner with its fields in upstream's order.
fn owner_text(owner: &Value) -> String {
    const FIELDS: [&str; 6] = [
        "apiVersion",
        "kind",
        "name",
        "uid",
        "controller",
        "blockOwnerDeletion",
    ];
    let there = |field: &&str| owner.has(field) || FIELDS[..4].contains(field);
    let one = |field: &str| match owner.at(field) {
        Value::Null => format!("{field:?}:\"\""),
        value => format!("{field:?}:{value}"),
    };
    let fields = FIELDS.into_iter().filter(there).map(one);
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn finalizers(meta: &Value, at: &Path, errors: &mut Errors) {
    let list = meta.strings_at("finalizers");
    for name in &list {
        errors.each(at, name, names::qualified_name(name));
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        errors.invalid(
            at,
            meta.at("finalizers").clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// Groups that take any qualified name as a finalizer, as custom resources do: their validation is no part of upstream's core.
const FREE_FINALIZERS: [&str; 6] = [
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "coordination.k8s.io",
    "node.k8s.io",
    "podvisor.io",
];

/// Finalizers of built-in kinds have a domain, or are those of the system.
pub(super) fn builtin_finalizers(group: &str, obj: &Value, errors: &mut Errors) {
    if FREE_FINALIZERS.contains(&group) {
        return;
    }
    let at = Path::new("metadata").child("finalizers");
    for (i, name) in obj
        .at("metadata")
        .strings_at("finalizers")
        .into_iter()
        .enumerate()
    {
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&at.index(i), name, why);
        }
    }
}

/// Checks what an update of any kind does to metadata, whatever the kind itself looks at.
pub(super) fn any_update(new: &Value, old: &Value, namespaced: bool, errors: &mut Errors) {
    let at = Path::new("metadata");
    check(new.at("metadata"), namespaced, names::path_segment, &at, errors);
    update(new, old, errors);
}

/// Checks what an update does to metadata.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("metadata");
    let (new_meta, old_meta) = (new.at("metadata"), old.at("metadata"));
    if old_meta.has("deletionTimestamp") {
        let had = old_meta.strings_at("finalizers");
        let mut added = new_meta.strings_at("finalizers");
        added.retain(|name| !had.contains(name));
        added.sort_unstable();
        added.dedup();
        let added: Vec<String> = added.into_iter().map(quoted).collect();
        if !added.is_empty() {
            let text = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden(&at.child("finalizers"), text);
        }
    }
    if let (Some(new), Some(old)) = (new_meta.int_at("generation"), old_meta.int_at("generation"))
        && new < old
    {
        errors.invalid(&at.child("generation"), new, "must not be decremented");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if !same(new_meta.at(field), old_meta.at(field)) {
            errors.invalid(&at.child(field), new_meta.at(field).clone(), IMMUTABLE);
        }
    }
    labels(new_meta.at("labels"), &at.child("labels"), errors);
    annotations(new_meta.at("annotations"), &at.child("annotations"), errors);
    owners(
        new_meta.at("ownerReferences"),
        &at.child("ownerReferences"),
        errors,
    );
}
