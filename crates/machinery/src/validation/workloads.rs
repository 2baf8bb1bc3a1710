//! Validation of the kinds that make Pods. Sources: `pkg/apis/apps/validation` and `pkg/apis/batch/validation` of
//! Kubernetes v1.35.

use super::errors::Errors;
use super::{names, pod, selectors};
use crate::walk::{At, keep, same};
use kinds::field::Path;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MISMATCH: &str = "`selector` does not match template `labels`";
/// Longest name of a CronJob: its Jobs append eleven characters.
const MAX_CRON_NAME: usize = 52;

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
            errors.invalid(
                &place,
                selector.clone(),
                format!("empty selector is invalid for {what}"),
            );
        }
    }
    let template = spec.at("template");
    // What cannot be understood is said, and the template is left alone; but for a DaemonSet's.
    if !selectors::understood(selector) {
        match what {
            "deployment" => errors.invalid(&place, selector.clone(), "invalid label selector"),
            "statefulset" => errors.invalid(&place, selector.clone(), ""),
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
        other => errors.not_supported(&strategy, other, &["Recreate", "RollingUpdate"]),
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
                errors.invalid(&place, text.as_str(), "must not exceed 100%");
            }
            errors.each(&place, text, bad);
        }
        Value::Number(_) => errors.not_negative(holder, field, at),
        _ => {}
    }
}

fn is_zero(value: &Value) -> bool {
    value.is_null() || value == &json!(0) || value.as_str().is_some_and(|s| s.trim_end_matches('%') == "0")
}

pub(super) fn daemon_set(spec: &Value, at: &Path, errors: &mut Errors) {
    selector_and_template(spec, "daemonset", at, errors);
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
        other => errors.not_supported(&place, other, &["OnDelete", "RollingUpdate"]),
    }
    errors.not_negative(spec, "minReadySeconds", at);
    errors.not_negative(spec, "revisionHistoryLimit", at);
}

/// Checks a StatefulSet; `old` is null for a new one, the name of whose Service is looked at.
pub(super) fn stateful_set(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let service = spec.str_at("serviceName");
    if !service.is_empty() && old.is_null() {
        errors.each(&at.child("serviceName"), service, names::dns_label(service));
    }
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
            errors.invalid_shown(
                &place.child("rollingUpdate"),
                &shown_rolling(spec),
                "only allowed for updateStrategy 'RollingUpdate'",
            );
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
            let rolling = match spec.has("updateStrategy.rollingUpdate") {
                true => shown_rolling(spec),
                false => "null".into(),
            };
            let shown = format!(
                "{{\"Type\":{},\"RollingUpdate\":{rolling}}}",
                kinds::field::json_text(&other.into())
            );
            errors.invalid_shown(&place, &shown, "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
    for field in ["whenDeleted", "whenScaled"] {
        let policy = spec.at("persistentVolumeClaimRetentionPolicy");
        let place = at.child("persistentVolumeClaimRetentionPolicy");
        if !policy.is_empty_at(field) {
            errors.one_of_in_order(policy, field, &place, &["Retain", "Delete"]);
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(spec, field, at);
    }
    errors.not_negative(spec.at("ordinals"), "start", &at.child("ordinals"));
    // What was stored before is left alone: claims cannot be changed.
    if old.is_null() {
        for (i, template) in spec.list_at("volumeClaimTemplates").iter().enumerate() {
            let place = at.child("volumeClaimTemplates").index(i).child("spec");
            super::storage::claim_spec(template.at("spec"), &place, errors);
        }
    }
    selector_and_template(&with_claims(spec), "statefulset", at, errors);
}

/// The parameters of rolling updates, as upstream has them inside.
fn shown_rolling(spec: &Value) -> String {
    let rolling = spec.at("updateStrategy.rollingUpdate");
    format!(
        "{{\"Partition\":{},\"MaxUnavailable\":{}}}",
        rolling.at("partition"),
        rolling.at("maxUnavailable")
    )
}

/// The spec with the volumes that its Pods will have: containers may mount those of claim templates.
fn with_claims(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mut volumes = spec.list_at("template.spec.volumes").to_vec();
    for template in spec.list_at("volumeClaimTemplates") {
        let name = template.str_at("metadata.name");
        let known = volumes.iter().any(|volume| volume.str_at("name") == name);
        if !name.is_empty() && !known {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    if !volumes.is_empty() && spec.at("template.spec").is_object() {
        spec["template"]["spec"]["volumes"] = json!(volumes);
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

/// Checks a Job.
pub(super) fn job(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), &Path::new("spec"));
    generated_selector(obj, errors);
    job_spec(spec, at, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&at.child("selector"), "");
        return;
    }
    selectors::label_selector(selector, &at.child("selector"), errors);
    let labels = spec.at("template.metadata.labels");
    if !selectors::matches(selector, labels) {
        let place = at.child("template").child("metadata").child("labels");
        errors.invalid(&place, labels.clone(), MISMATCH);
    }
}

/// A Job that does not select by hand has the labels of its own uid and name on its Pods, and a selector that means these.
fn generated_selector(obj: &Value, errors: &mut Errors) {
    let selector = obj.at("spec.selector");
    if obj.bool_at("spec.manualSelector") || selector.is_null() {
        return;
    }
    let labels = obj.at("spec.template.metadata.labels");
    let place = Path::new("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let (uid, name) = (obj.str_at("metadata.uid"), obj.str_at("metadata.name"));
    let expected = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    for (key, value) in expected {
        let text = format!("must be '{value}'");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.required(&place.key(key), text),
            Some(given) if given != value => errors.invalid(&place.key(key), labels.clone(), text),
            _ => {}
        }
    }
    if selectors::understood(selector) && !selectors::matches(selector, &json!(BTreeMap::from(expected))) {
        errors.invalid(
            &Path::new("spec").child("selector"),
            selector.clone(),
            "`selector` not auto-generated",
        );
    }
}

fn job_spec(spec: &Value, at: &Path, errors: &mut Errors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in counts {
        errors.not_negative(spec, field, at);
    }
    if !spec.is_empty_at("completionMode") {
        errors.one_of_in_order(spec, "completionMode", at, &["NonIndexed", "Indexed"]);
    }
    let manager = spec.str_at("managedBy");
    if spec.has("managedBy") {
        let place = at.child("managedBy");
        match manager.split_once('/') {
            Some((domain, name)) if !domain.is_empty() && !name.is_empty() => {
                errors.each(&place, manager, names::dns_subdomain(domain));
            }
            _ => {
                let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.invalid(&place, manager, text);
            }
        }
    }
    if spec.str_at("completionMode") == "Indexed" {
        if !spec.has("completions") {
            errors.required(&at.child("completions"), "when completion mode is Indexed");
        }
        if let Some(parallelism) = spec.int_at("parallelism")
            && parallelism > 100_000
        {
            let text = "must be less than or equal to 100000 when completion mode is Indexed";
            errors.invalid(&at.child("parallelism"), parallelism, text);
        }
    } else {
        let text = "requires indexed completion mode";
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                errors.invalid(&at.child(field), spec.at(field).clone(), text);
            }
        }
    }
    if !spec.has("podFailurePolicy") {
        let known = ["Failed", "TerminatingOrFailed"];
        errors.one_of_if_set(spec, "podReplacementPolicy", at, &known);
    }
    let place = at.child("template");
    pod::template(spec.at("template"), &place, errors);
    let restarts = place.child("spec").child("restartPolicy");
    match spec.str_at("template.spec.restartPolicy") {
        "OnFailure" | "Never" => {}
        "" | "Always" => errors.required(&restarts, "valid values: \"OnFailure\", \"Never\""),
        other => errors.not_supported_in_order(&restarts, other, &["OnFailure", "Never"]),
    }
    if spec.has("podFailurePolicy") {
        if spec.str_at("template.spec.restartPolicy") == "OnFailure" {
            let text = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&place.child("spec").child("restartPolicy"), "OnFailure", text);
        }
        let replacement = spec.str_at("podReplacementPolicy");
        if !replacement.is_empty() && replacement != "Failed" {
            errors.not_supported(&at.child("podReplacementPolicy"), replacement, &["Failed"]);
        }
        failure_policy(spec, &at.child("podFailurePolicy").child("rules"), errors);
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let text = "when maxFailedIndexes is specified";
        errors.required(&at.child("backoffLimitPerIndex"), text);
    }
    if spec.has("successPolicy") {
        success_policy(spec, &at.child("successPolicy"), errors);
    }
}

/// Rules of one success policy.
const MAX_SUCCESS_RULES: usize = 20;

/// When a Job has succeeded before all its indexes have (KEP-3998).
fn success_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    let (policy, place) = (spec.at("successPolicy"), at.child("rules"));
    if spec.str_at("completionMode") != "Indexed" {
        errors.invalid(at, policy.clone(), "requires indexed completion mode");
        return;
    }
    let rules = policy.list_at("rules");
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&place, text);
    }
    if rules.len() > MAX_SUCCESS_RULES {
        errors.too_many(&place, rules.len(), MAX_SUCCESS_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let place = place.index(i);
        if !rule.has("succeededCount") && !rule.has("succeededIndexes") {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&place, text);
        }
        let completions = spec.int_at("completions").unwrap_or(0);
        let mut named = None;
        if let Some(text) = rule.at("succeededIndexes").as_str() {
            match super::status::intervals(text, completions) {
                Ok(found) => named = Some(found.iter().map(|(first, last)| last - first + 1).sum::<i64>()),
                Err(why) => {
                    let why = format!("error parsing succeededIndexes: {why}");
                    errors.invalid(&place.child("succeededIndexes"), text, why);
                }
            }
        }
        if let (Some(count), Some(named)) = (rule.int_at("succeededCount"), named)
            && count > named
            && count <= completions
        {
            let text = format!(
                "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.invalid(&place.child("succeededCount"), count, text);
        }
        if let Some(count) = rule.int_at("succeededCount")
            && !(0..=completions).contains(&count)
        {
            let text = match count < 0 {
                true => "must be greater than or equal to 0".to_string(),
                false => format!(
                    "must be less than or equal to {completions} (the number of specified completions)"
                ),
            };
            errors.invalid(&place.child("succeededCount"), count, text);
        }
    }
}

/// What the failure of a Pod means for its Job (KEP-3329).
fn failure_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    let containers = spec.list_at("template.spec.containers");
    let known = containers
        .iter()
        .chain(spec.list_at("template.spec.initContainers"));
    let known: Vec<&str> = known.map(|c| c.str_at("name")).collect();
    for (i, rule) in spec.list_at("podFailurePolicy.rules").iter().enumerate() {
        let place = at.index(i);
        let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
        match rule.str_at("action") {
            "" => errors.required(
                &place.child("action"),
                "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]",
            ),
            "FailIndex" if !spec.has("backoffLimitPerIndex") => {
                let text = "requires the backoffLimitPerIndex to be set";
                errors.invalid(&place.child("action"), "FailIndex", text);
            }
            _ => errors.one_of_if_set(rule, "action", &place, &actions),
        }
        let (codes, conditions) = (rule.at("onExitCodes"), rule.list_at("onPodConditions"));
        if codes.is_null() == conditions.is_empty() {
            let text = match codes.is_null() {
                true => "specifying one of OnExitCodes and OnPodConditions is required",
                false => "specifying both OnExitCodes and OnPodConditions is not supported",
            };
            errors.invalid_itself(&place, text);
        }
        for (j, condition) in conditions.iter().enumerate() {
            let (kind, place) = (condition.str_at("type"), place.child("onPodConditions").index(j));
            errors.each(&place.child("type"), kind, names::qualified_name(kind));
            let status = condition.str_at("status");
            let known = ["False", "True", "Unknown"];
            match status {
                "" => errors.required(&place.child("status"), ""),
                status if !known.contains(&status) => {
                    errors.not_supported(&place.child("status"), status, &known);
                }
                _ => {}
            }
        }
        if codes.is_null() {
            continue;
        }
        let place = place.child("onExitCodes");
        match codes.str_at("operator") {
            "" => errors.required(&place.child("operator"), "valid values: [\"In\" \"NotIn\"]"),
            _ => errors.one_of_if_set(codes, "operator", &place, &["In", "NotIn"]),
        }
        let name = codes.str_at("containerName");
        if !name.is_empty() && !known.contains(&name) {
            let text = "must be one of the container or initContainer names in the pod template";
            errors.invalid(&place.child("containerName"), name, text);
        }
        let values: Vec<i64> = codes.list_at("values").iter().filter_map(Value::as_i64).collect();
        let place = place.child("values");
        if values.is_empty() {
            errors.invalid(
                &place,
                codes.at("values").clone(),
                "at least one value is required",
            );
        }
        if !values.is_sorted() {
            errors.invalid(&place, codes.at("values").clone(), "must be ordered");
        }
        for (i, value) in values.iter().enumerate() {
            if values[..i].contains(value) {
                errors.duplicate(&place.index(i), *value);
            }
            if *value == 0 && codes.str_at("operator") == "In" {
                errors.invalid(&place.index(i), 0, "must not be 0 for the In operator");
            }
        }
    }
}

/// A Job's work does not change under it; while it is suspended and has not begun, where its Pods go may.
pub(super) fn job_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    let (completions, parallelism) = (new_spec.int_at("completions"), new_spec.int_at("parallelism"));
    if new_spec.str_at("completionMode") != "Indexed" {
        errors.immutable(new_spec, old_spec, "completions", &at);
    } else if let Some(number) = completions
        && old_spec.int_at("completions") != completions
        && parallelism != completions
    {
        let text = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&at.child("completions"), number, text);
    }
    errors.immutable(new_spec, old_spec, "selector", &at);
    let mut template = new_spec.at("template").clone();
    if old_spec.bool_at("suspend") && !old.has("status.startTime") {
        let before = old_spec.at("template");
        for field in [
            "metadata.labels",
            "metadata.annotations",
            "spec.nodeSelector",
            "spec.affinity",
            "spec.tolerations",
            "spec.schedulingGates",
        ] {
            keep(&mut template, before, field);
        }
    }
    if !same(&template, old_spec.at("template")) {
        errors.invalid(
            &at.child("template"),
            new_spec.at("template").clone(),
            super::errors::IMMUTABLE,
        );
    }
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        errors.immutable(new_spec, old_spec, field, &at);
    }
}

pub(super) fn cron_job(obj: &Value, errors: &mut Errors) {
    let name = obj.str_at("metadata.name");
    if name.len() > MAX_CRON_NAME {
        let text = format!("must be no more than {MAX_CRON_NAME} characters");
        errors.invalid(&Path::new("metadata").child("name"), name, text);
    }
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let schedule = spec.str_at("schedule");
    if schedule.is_empty() {
        errors.required(&at.child("schedule"), "");
    } else if let Err(text) = schedule_form(schedule) {
        errors.invalid(&at.child("schedule"), schedule, text);
    }
    if schedule.contains("TZ") {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(&at.child("schedule"), schedule, text);
    }
    let zone = spec.at("timeZone");
    match zone.as_str() {
        Some("") => errors.invalid(
            &at.child("timeZone"),
            "",
            "timeZone must be nil or non-empty string",
        ),
        Some(name) if name.eq_ignore_ascii_case("Local") => {
            let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
            errors.invalid(&at.child("timeZone"), name, text);
        }
        Some(name) if jiff::tz::TimeZone::get(name).is_err() => {
            errors.invalid(&at.child("timeZone"), name, format!("unknown time zone {name}"));
        }
        _ => {}
    }
    errors.one_of(spec, "concurrencyPolicy", &at, &["Allow", "Forbid", "Replace"]);
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        errors.not_negative(spec, field, &at);
    }
    let place = at.child("jobTemplate").child("spec");
    job_spec(spec.at("jobTemplate.spec"), &place, errors);
    if spec.has("jobTemplate.spec.selector") {
        let selector = spec.at("jobTemplate.spec.selector").clone();
        errors.invalid(
            &place.child("selector"),
            selector,
            "`selector` will be auto-generated",
        );
    }
    if spec.has("jobTemplate.spec.manualSelector") && spec.bool_at("jobTemplate.spec.manualSelector") {
        errors.not_supported(&place.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// The form of a schedule: five fields of numbers, names, ranges, lists and steps; or `@daily` and the like.
fn schedule_form(schedule: &str) -> Result<(), String> {
    if let Some(word) = schedule.strip_prefix('@') {
        let known = [
            "yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly",
        ];
        let every = word.strip_prefix("every ").is_some_and(|d| !d.trim().is_empty());
        return if known.contains(&word) || every {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {schedule}"))
        };
    }
    let fields: Vec<&str> = schedule
        .split_whitespace()
        .filter(|f| !f.contains("TZ="))
        .collect();
    if fields.len() != 5 {
        let found = format!("[{}]", fields.join(" "));
        return Err(format!(
            "expected exactly 5 fields, found {}: {found}",
            fields.len()
        ));
    }
    const LIMITS: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    for (i, (field, (low, high))) in fields.into_iter().zip(LIMITS).enumerate() {
        let value = |text: &str| -> Result<i64, String> {
            let lower = text.to_lowercase();
            let named = match i {
                3 => MONTHS.iter().position(|m| *m == lower).map(|p| p as i64 + 1),
                4 => DAYS.iter().position(|d| *d == lower).map(|p| p as i64),
                _ => None,
            };
            let number = named
                .or_else(|| text.parse().ok())
                .ok_or(format!("failed to parse int from {text}"))?;
            match number {
                n if n < low => Err(format!("beginning of range ({n}) below minimum ({low}): {field}")),
                n if n > high => Err(format!("end of range ({n}) above maximum ({high}): {field}")),
                n => Ok(n),
            }
        };
        for part in field.split(',') {
            let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
            if let Some(step) = step
                && step.parse::<u32>().map_or(true, |s| s == 0)
            {
                return Err(format!("step of range should be a positive number: {part}"));
            }
            match range.split_once('-') {
                _ if range == "*" || range == "?" => {}
                Some((from, to)) => {
                    let (from, to) = (value(from)?, value(to)?);
                    if from > to {
                        return Err(format!(
                            "beginning of range ({from}) beyond end of range ({to}): {part}"
                        ));
                    }
                }
                None => {
                    value(range)?;
                }
            }
        }
    }
    Ok(())
}
