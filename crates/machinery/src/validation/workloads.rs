//! Validation of the kinds that keep Pods running. Source: `pkg/apis/apps/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::{names, pod, selectors, storage};
use crate::walk::{At, keep, or_set, same};
use kinds::field::{FieldError, Path};
use serde_json::{Value, json};

pub(super) const MISMATCH: &str = "`selector` does not match template `labels`";

/// Selector and template of a kind that keeps Pods running. `what` names the kind in messages.
fn selector_and_template(spec: &Value, what: &str, at: &Path, errors: &mut Errors) {
    let selector = spec.at("selector");
    let place = at.child("selector");
    if selector.is_null() {
        // Upstream asks no DaemonSet for one, whose template then does not match.
        if what != "daemonset" {
            errors.required(&place, "");
        }
    } else {
        selectors::label_selector(selector, &place, errors);
        if selectors::is_empty(selector) {
            let text = format!("empty selector is invalid for {what}");
            errors.invalid_shown(&place, &selectors::shown(selector), &text);
        }
    }
    let template = spec.at("template");
    // What cannot be understood is said, and the template is left alone; but for a DaemonSet's.
    if !selectors::understood(selector) {
        match what {
            "deployment" => {
                errors.invalid_shown(&place, &selectors::shown(selector), "invalid label selector");
            }
            "statefulset" => {
                errors.invalid_shown(&place, &selectors::shown(selector), "");
                restarted(template, "StatefulSet", &at.child("template"), errors);
            }
            _ => running_template(template, "DaemonSet", &at.child("template"), errors),
        }
        return;
    }
    let labels = template.at("metadata.labels");
    // A selector that is not there selects nothing, an empty one everything.
    let nothing = selector.is_null();
    if nothing || !selectors::is_empty(selector) && !selectors::matches(selector, labels) {
        errors.invalid(
            &at.child("template").child("metadata").child("labels"),
            labels.clone(),
            MISMATCH,
        );
    }
    let owner = match what {
        "deployment" => "ReplicaSet",
        "statefulset" => "StatefulSet",
        _ => "DaemonSet",
    };
    running_template(template, owner, &at.child("template"), errors);
}

/// A template whose Pods are always restarted.
fn running_template(template: &Value, owner: &str, at: &Path, errors: &mut Errors) {
    pod::template(template, at, errors);
    if owner == "StatefulSet" {
        pod::template_metadata(template, at, errors);
    }
    restarted(template, owner, at, errors);
}

fn restarted(template: &Value, owner: &str, at: &Path, errors: &mut Errors) {
    let policy = template.str_at("spec.restartPolicy");
    let spec = at.child("spec");
    if !policy.is_empty() && policy != "Always" {
        errors.not_supported(&spec.child("restartPolicy"), policy, &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        errors.forbidden(
            &spec.child("activeDeadlineSeconds"),
            format!("activeDeadlineSeconds in {owner} is not Supported"),
        );
    }
}

pub(super) fn replica_set(spec: &Value, at: &Path, errors: &mut Errors) {
    errors.not_negative(spec, "replicas", at);
    errors.not_negative(spec, "minReadySeconds", at);
    selector_and_template(spec, "deployment", at, errors);
}

pub(super) fn replication_controller(spec: &Value, at: &Path, errors: &mut Errors) {
    errors.not_negative(spec, "minReadySeconds", at);
    if spec.is_empty_at("selector") {
        errors.required(&at.child("selector"), "");
    }
    errors.not_negative(spec, "replicas", at);
    if !spec.has("template") {
        errors.required(&at.child("template"), "");
        return;
    }
    let labels = spec.at("template.metadata.labels");
    let matched = spec
        .entries_at("selector")
        .into_iter()
        .all(|(k, v)| labels.get(k) == Some(v));
    if !matched {
        errors.invalid(
            &at.child("template").child("metadata").child("labels"),
            labels.clone(),
            MISMATCH,
        );
    }
    running_template(
        spec.at("template"),
        "ReplicationController",
        &at.child("template"),
        errors,
    );
}

pub(super) fn deployment(spec: &Value, at: &Path, errors: &mut Errors) {
    errors.not_negative(spec, "replicas", at);
    selector_and_template(spec, "deployment", at, errors);
    let strategy = at.child("strategy");
    match spec.str_at("strategy.type") {
        "Recreate" => {
            if spec.has("strategy.rollingUpdate") {
                errors.forbidden(
                    &strategy.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
        }
        "RollingUpdate" => {
            let (rolling, place) = (spec.at("strategy.rollingUpdate"), strategy.child("rollingUpdate"));
            if rolling.is_null() {
                errors.required(&place, "this should be defaulted and never be nil");
            } else {
                amount(rolling, "maxUnavailable", &place, true, errors);
                amount(rolling, "maxSurge", &place, false, errors);
                if is_zero(rolling.at("maxUnavailable")) && is_zero(rolling.at("maxSurge")) {
                    let value = rolling.at("maxUnavailable").clone();
                    errors.invalid(
                        &place.child("maxUnavailable"),
                        value,
                        "may not be 0 when `maxSurge` is 0",
                    );
                }
            }
        }
        other => {
            let error = FieldError::not_supported(&strategy, other.into(), &["Recreate", "RollingUpdate"]);
            let fields = ["maxUnavailable", "maxSurge"];
            let shown = strategy_shown(spec.at("strategy"), &fields, &fields);
            errors.0.push(error.shown_as(shown));
        }
    }
    for field in [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        errors.not_negative(spec, field, at);
    }
    if let Some(deadline) = spec.int_at("progressDeadlineSeconds")
        && deadline <= spec.int_at("minReadySeconds").unwrap_or(0)
    {
        let text = "must be greater than minReadySeconds";
        errors.invalid(&at.child("progressDeadlineSeconds"), deadline, text);
    }
}

/// A number of Pods or a share of them.
pub(super) fn amount(holder: &Value, field: &str, at: &Path, capped: bool, errors: &mut Errors) {
    let place = at.child(field);
    match holder.at(field) {
        Value::String(text) => {
            let bad = names::percent(text);
            let share: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            if bad.is_empty() && capped && share > 100 {
                errors.invalid(&place, text.as_str(), "must not be greater than 100%");
            }
            errors.each(&place, text, bad);
        }
        Value::Number(_) => errors.not_negative(holder, field, at),
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    let share = |text: &str| text.strip_suffix('%').unwrap_or(text).parse().unwrap_or(0_i64);
    value.is_null() || value == &json!(0) || value.as_str().is_some_and(|text| share(text) == 0)
}

pub(super) fn daemon_set(spec: &Value, at: &Path, errors: &mut Errors) {
    selector_and_template(spec, "daemonset", at, errors);
    errors.not_negative(spec, "minReadySeconds", at);
    let place = at.child("updateStrategy");
    match spec.str_at("updateStrategy.type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, place) = (
                spec.at("updateStrategy.rollingUpdate"),
                place.child("rollingUpdate"),
            );
            amount(rolling, "maxUnavailable", &place, true, errors);
            amount(rolling, "maxSurge", &place, true, errors);
            match (
                is_zero(rolling.at("maxUnavailable")),
                is_zero(rolling.at("maxSurge")),
            ) {
                (true, true) => {
                    errors.required(&place.child("maxUnavailable"), "cannot be 0 when maxSurge is 0")
                }
                (false, false) => {
                    let value = rolling.at("maxSurge").clone();
                    errors.invalid(
                        &place.child("maxSurge"),
                        value,
                        "may not be set when maxUnavailable is non-zero",
                    );
                }
                _ => {}
            }
        }
        other => {
            let error =
                FieldError::not_supported_in_order(&place, other.into(), &["RollingUpdate", "OnDelete"]);
            let fields = ["maxUnavailable", "maxSurge"];
            let shown = strategy_shown(spec.at("updateStrategy"), &fields, &fields);
            errors.0.push(error.shown_as(shown));
        }
    }
    errors.not_negative(spec, "revisionHistoryLimit", at);
}

/// Checks a StatefulSet; `old` is null for a new one, the name of whose Service is looked at.
pub(super) fn stateful_set(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let service = spec.str_at("serviceName");
    match spec.str_at("podManagementPolicy") {
        "" => errors.required(&at.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            errors.invalid(
                &at.child("podManagementPolicy"),
                other,
                "must be 'OrderedReady' or 'Parallel'",
            );
        }
    }
    let place = at.child("updateStrategy");
    match spec.str_at("updateStrategy.type") {
        "" => errors.required(&place, ""),
        "OnDelete" if spec.has("updateStrategy.rollingUpdate") => {
            let rolling = spec.at("updateStrategy.rollingUpdate");
            let text = "only allowed for updateStrategy 'RollingUpdate'";
            let mut rolling = rolling.clone();
            or_set(&mut rolling, "partition", 0);
            let shown = shown(&rolling, &["partition", "maxUnavailable"]);
            errors.invalid_shown(&place.child("rollingUpdate"), &shown, text);
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = spec.at("updateStrategy.rollingUpdate");
            errors.not_negative(rolling, "partition", &place.child("rollingUpdate"));
            amount(
                rolling,
                "maxUnavailable",
                &place.child("rollingUpdate"),
                true,
                errors,
            );
        }
        other => {
            let text = "must be 'RollingUpdate' or 'OnDelete'";
            let error = FieldError::invalid(&place, other.into(), text);
            let fields = ["partition", "maxUnavailable"];
            let shown = strategy_shown(spec.at("updateStrategy"), &fields, &fields[..1]);
            errors.0.push(error.shown_as(shown));
        }
    }
    for field in ["whenDeleted", "whenScaled"] {
        let policy = spec.at("persistentVolumeClaimRetentionPolicy");
        let place = at.child("persistentVolumeClaimRetentionPolicy");
        if !policy.is_empty_at(field) {
            errors.one_of_in_order(policy, field, &place, &["Retain", "Delete"]);
        }
    }
    if old.is_null() {
        for (i, template) in spec.list_at("volumeClaimTemplates").iter().enumerate() {
            let place = at.child("volumeClaimTemplates").index(i).child("spec");
            storage::claim_spec(template.at("spec"), &place, errors);
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(spec, field, at);
    }
    errors.not_negative(spec.at("ordinals"), "start", &at.child("ordinals"));
    if !service.is_empty() && old.is_null() {
        errors.each(&at.child("serviceName"), service, names::dns_label(service));
    }
    selector_and_template(&with_claims(spec), "statefulset", at, errors);
}

/// Some fields of an object in the order and under the names of upstream's own type.
fn shown(object: &Value, fields: &[&str]) -> String {
    if object.is_null() {
        return "null".to_owned();
    }
    let one = |field: &&str| {
        let (first, rest) = field.split_at(1);
        format!("\"{}{rest}\":{}", first.to_uppercase(), object.at(field))
    };
    format!("{{{}}}", fields.iter().map(one).collect::<Vec<_>>().join(","))
}

/// The same of a strategy, whose parts are those of its rolling update. Those that are `never_missing` are zero at least.
fn strategy_shown(strategy: &Value, parts: &[&str], never_missing: &[&str]) -> String {
    let mut rolling = strategy.at("rollingUpdate").clone();
    for part in never_missing.iter().filter(|_| strategy.has("rollingUpdate")) {
        or_set(&mut rolling, part, 0);
    }
    let rolling = shown(&rolling, parts);
    format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", strategy.at("type"))
}

/// The spec as its Pods will have it: containers may mount the volumes of claim templates.
fn with_claims(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mut volumes: Vec<Value> = Vec::new();
    let named = |volumes: &[Value], name: &str| volumes.iter().any(|volume| volume.str_at("name") == name);
    for template in spec.list_at("volumeClaimTemplates") {
        let name = template.str_at("metadata.name");
        if !named(&volumes, name) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    let claims = volumes.clone();
    let own = spec.list_at("template.spec.volumes").iter();
    volumes.extend(
        own.filter(|volume| !named(&claims, volume.str_at("name")))
            .cloned(),
    );
    if !volumes.is_empty() && spec.at("template.spec").is_object() {
        spec["template"]["spec"]["volumes"] = json!(volumes);
    }
    // Each Pod is told its own.
    for field in ["hostname", "subdomain"] {
        crate::walk::unset(&mut spec, &format!("template.spec.{field}"));
    }
    spec
}

/// All but a few fields of a StatefulSet are for life.
pub(super) fn stateful_set_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let mut allowed = new.clone();
    let free = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "persistentVolumeClaimRetentionPolicy",
        "revisionHistoryLimit",
    ];
    for field in free {
        keep(&mut allowed, old, field);
    }
    if !same(&allowed, old) {
        errors.forbidden(
            at,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}
