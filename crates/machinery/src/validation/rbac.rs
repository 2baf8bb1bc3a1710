//! Validation of roles and bindings. Source: `pkg/apis/rbac/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::{names, selectors};
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn role(kind: &KindInfo, obj: &Value, errors: &mut Errors) {
    for (i, rule) in obj.list_at("rules").iter().enumerate() {
        let at = Path::new("rules").index(i);
        if rule.is_empty_at("verbs") {
            errors.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        if !rule.is_empty_at("nonResourceURLs") {
            let urls = rule.at("nonResourceURLs").clone();
            if kind.namespaced {
                let text = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&at.child("nonResourceURLs"), urls.clone(), text);
            }
            if ["apiGroups", "resources", "resourceNames"]
                .iter()
                .any(|f| !rule.is_empty_at(f))
            {
                let text = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at.child("nonResourceURLs"), urls, text);
            }
            continue;
        }
        if rule.is_empty_at("apiGroups") {
            errors.required(
                &at.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if rule.is_empty_at("resources") {
            errors.required(
                &at.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
    if obj.has("aggregationRule") {
        let at = Path::new("aggregationRule").child("clusterRoleSelectors");
        if obj.is_empty_at("aggregationRule.clusterRoleSelectors") {
            errors.required(
                &at,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for (i, selector) in obj
            .list_at("aggregationRule.clusterRoleSelectors")
            .iter()
            .enumerate()
        {
            let before = errors.0.len();
            selectors::label_selector(selector, &at.index(i), errors);
            if errors.0.len() > before {
                // Upstream tells it of the whole once more, of which it has nothing to show.
                errors.invalid(&at.index(i), Value::Null, "invalid label selector.");
            }
        }
    }
}

pub(super) fn binding(kind: &KindInfo, obj: &Value, errors: &mut Errors) {
    let at = Path::new("roleRef");
    let group = obj.str_at("roleRef.apiGroup");
    if group != GROUP {
        errors.not_supported(&at.child("apiGroup"), group, &[GROUP]);
    }
    let valid: &[&str] = if kind.namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let role = obj.str_at("roleRef.kind");
    if !valid.contains(&role) {
        errors.not_supported_in_order(&at.child("kind"), role, valid);
    }
    let name = obj.str_at("roleRef.name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.each(&at.child("name"), name, names::path_segment(name));
    }
    for (i, subject) in obj.list_at("subjects").iter().enumerate() {
        check_subject(subject, kind.namespaced, &Path::new("subjects").index(i), errors);
    }
}

fn check_subject(subject: &Value, namespaced: bool, at: &Path, errors: &mut Errors) {
    let (name, group) = (subject.str_at("name"), subject.str_at("apiGroup"));
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    match subject.str_at("kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.each(&at.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&at.child("apiGroup"), group, &[""]);
            }
            if !namespaced && subject.is_empty_at("namespace") {
                errors.required(&at.child("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.not_supported(&at.child("apiGroup"), group, &[GROUP]);
            }
        }
        other => {
            let known = ["ServiceAccount", "User", "Group"];
            errors.not_supported_in_order(&at.child("kind"), other, &known);
        }
    }
}

/// What a binding grants is for life.
pub(super) fn binding_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.at("roleRef"), old.at("roleRef")) {
        let role = new.at("roleRef");
        let [group, kind, name] = ["apiGroup", "kind", "name"].map(|field| role.str_at(field));
        let shown = format!("{{\"APIGroup\":{group:?},\"Kind\":{kind:?},\"Name\":{name:?}}}");
        let error = FieldError::invalid(&Path::new("roleRef"), role.clone(), "cannot change roleRef");
        errors.0.push(error.shown_as(shown));
    }
}
