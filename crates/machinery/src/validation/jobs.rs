//! Validation of Jobs. Source: `pkg/apis/batch/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::workloads::MISMATCH;
use super::{internal, names, pod, selectors};
use crate::walk::{At, keep, same, without_empty_affinity};
use kinds::field::{FieldError, Path};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Bytes of the name of a Job's manager.
const MOST_MANAGER: usize = 63;
/// Rules of a policy, and conditions of a rule.
const MOST_RULES: usize = 20;
/// Exit codes of a rule.
const MOST_CODES: usize = 255;
/// Bytes of a set of indexes.
const MOST_INDEXES: usize = 64 * 1024;

/// Checks a Job.
pub(super) fn job(obj: &Value, errors: &mut Errors) {
    generated_selector(obj, errors);
    spec_again(obj, errors);
    hostnames(obj, errors);
}

/// The part of it that upstream looks at twice when a Job changes.
pub(super) fn spec_again(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), &Path::new("spec"));
    job_spec(spec, at, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.required(&at.child("selector"), "");
    } else {
        selectors::label_selector(selector, &at.child("selector"), errors);
    }
    let labels = spec.at("template.metadata.labels");
    // None selects nothing.
    if selector.is_null() || selectors::understood(selector) && !selectors::matches(selector, labels) {
        let place = at.child("template").child("metadata").child("labels");
        errors.invalid(&place, labels.clone(), MISMATCH);
    }
}

/// Pods of an indexed Job have their number behind its name as their hostname: that of the last one is the longest.
fn hostnames(job: &Value, errors: &mut Errors) {
    let completions = job.int_at("spec.completions").unwrap_or(0);
    if job.str_at("spec.completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = job.str_at("metadata.name");
    let last = format!("{name}-{}", completions - 1);
    if !names::dns_label(&last).is_empty() {
        let text = format!("will not able to create pod with invalid DNS label: {last}");
        errors.invalid(&Path::new("metadata").child("name"), name, text);
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
        let place = Path::new("spec").child("selector");
        errors.invalid_shown(
            &place,
            &selectors::shown(selector),
            "`selector` not auto-generated",
        );
    }
}

pub(super) fn job_spec(spec: &Value, at: &Path, errors: &mut Errors) {
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
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let text = "when maxFailedIndexes is specified";
        errors.required(&at.child("backoffLimitPerIndex"), text);
    }
    if spec.has("managedBy") {
        managed_by(spec.str_at("managedBy"), &at.child("managedBy"), errors);
    }
    let (mode, modes) = (spec.str_at("completionMode"), ["NonIndexed", "Indexed"]);
    if spec.has("completionMode") && !modes.contains(&mode) {
        errors.not_supported_in_order(&at.child("completionMode"), mode, &modes);
    }
    if mode == "Indexed" {
        indexed(spec, at, errors);
    } else if mode == "NonIndexed" || !spec.has("completionMode") {
        let text = "requires indexed completion mode";
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                errors.invalid(&at.child(field), spec.at(field).clone(), text);
            }
        }
    }
    if spec.has("podFailurePolicy") {
        failure_policy(spec, &at.child("podFailurePolicy").child("rules"), errors);
    }
    if spec.has("successPolicy") {
        success_policy(spec, &at.child("successPolicy"), errors);
    }
    if spec.has("podReplacementPolicy") {
        let (place, policy) = (
            at.child("podReplacementPolicy"),
            spec.str_at("podReplacementPolicy"),
        );
        let known = ["Failed", "TerminatingOrFailed"];
        // Who tells failures apart waits for their end.
        let known = if spec.has("podFailurePolicy") {
            &known[..1]
        } else {
            &known
        };
        if !known.contains(&policy) {
            errors.not_supported(&place, policy, known);
        }
    }
    let place = at.child("template");
    pod::template(spec.at("template"), &place, errors);
    let restarts = place.child("spec").child("restartPolicy");
    match spec.str_at("template.spec.restartPolicy") {
        "OnFailure" if spec.has("podFailurePolicy") => {
            let text = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.invalid(&restarts, "OnFailure", text);
        }
        "OnFailure" | "Never" => {}
        "" | "Always" => errors.required(&restarts, "valid values: \"OnFailure\", \"Never\""),
        other => errors.not_supported_in_order(&restarts, other, &["OnFailure", "Never"]),
    }
}

fn managed_by(manager: &str, at: &Path, errors: &mut Errors) {
    match manager.split_once('/') {
        _ if manager.is_empty() => errors.required(at, ""),
        Some((domain, name)) if !domain.is_empty() && !name.is_empty() => {
            errors.each(at, domain, names::dns_subdomain(domain));
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
            if !name.bytes().all(plain) {
                let text = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                errors.invalid(at, name, text);
            }
        }
        _ => {
            let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(at, manager, text);
        }
    }
    if manager.len() > MOST_MANAGER {
        errors.too_long(at, MOST_MANAGER);
    }
}

/// A Job whose Pods have numbers. With very many of them, what may run and fail at a time is less (KEP-3850).
fn indexed(spec: &Value, at: &Path, errors: &mut Errors) {
    const MANY: i64 = 100_000;
    const MOST_OF_MANY: i64 = 10_000;
    if !spec.has("completions") {
        errors.required(&at.child("completions"), "when completion mode is Indexed");
    }
    let [completions, parallelism, failed] =
        ["completions", "parallelism", "maxFailedIndexes"].map(|field| spec.int_at(field));
    let (parallelism_at, failed_at) = (at.child("parallelism"), at.child("maxFailedIndexes"));
    if let Some(number) = parallelism.filter(|number| *number > MANY) {
        let text = format!("must be less than or equal to {MANY} when completion mode is Indexed");
        errors.invalid(&parallelism_at, number, text);
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        errors.invalid(&failed_at, failed, "must be less than or equal to completions");
    }
    if let Some(number) = failed.filter(|number| *number > MANY) {
        errors.invalid(
            &failed_at,
            number,
            format!("must be less than or equal to {MANY}"),
        );
    }
    if completions.is_none_or(|number| number <= MANY) || !spec.has("backoffLimitPerIndex") {
        return;
    }
    if failed.is_none() {
        let text = format!("must be specified when completions is above {MANY}");
        errors.required(&failed_at, text);
    }
    for (number, place) in [(parallelism, parallelism_at), (failed, failed_at)] {
        if let Some(number) = number.filter(|number| *number > MOST_OF_MANY) {
            let text = format!(
                "must be less than or equal to {MOST_OF_MANY} when completions are above {MANY} and used with backoff \
                 limit per index"
            );
            errors.invalid(&place, number, text);
        }
    }
}

/// When a Job has succeeded before all its indexes have (KEP-3998).
fn success_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    let (policy, place) = (spec.at("successPolicy"), at.child("rules"));
    if spec.str_at("completionMode") != "Indexed" {
        let error = FieldError::invalid(at, policy.clone(), "requires indexed completion mode");
        errors.0.push(error.shown_as(policy_text(policy)));
        return;
    }
    let rules = policy.list_at("rules");
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.required(&place, text);
    }
    if rules.len() > MOST_RULES {
        errors.too_many(&place, rules.len(), MOST_RULES);
    }
    let completions = spec.int_at("completions").unwrap_or(0);
    for (i, rule) in rules.iter().enumerate() {
        let place = place.index(i);
        if !rule.has("succeededCount") && !rule.has("succeededIndexes") {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.required(&place, text);
        }
        let mut among = None;
        if let Some(text) = rule.at("succeededIndexes").as_str() {
            let place = place.child("succeededIndexes");
            if text.len() > MOST_INDEXES {
                errors.too_long(&place, MOST_INDEXES);
            }
            let found = match super::status::intervals(text, completions) {
                Ok(found) => found,
                Err(why) => {
                    errors.invalid(&place, text, format!("error parsing succeededIndexes: {why}"));
                    Vec::new()
                }
            };
            among = Some(found.iter().map(|(first, last)| last - first + 1).sum::<i64>());
        }
        let place = place.child("succeededCount");
        errors.not_negative(rule, "succeededCount", &at.child("rules").index(i));
        let Some(count) = rule.int_at("succeededCount") else {
            continue;
        };
        let bounds = [
            (Some(completions), "the number of specified completions"),
            (
                among,
                "the number of indexes in the specified succeededIndexes field",
            ),
        ];
        for (bound, what) in bounds {
            if let Some(bound) = bound.filter(|bound| count > *bound) {
                let text = format!("must be less than or equal to {bound} ({what})");
                errors.invalid(&place, count, text);
            }
        }
    }
}

/// A success policy as upstream's own types print it.
fn policy_text(policy: &Value) -> String {
    let rule = |rule: &Value| {
        format!(
            "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
            rule.at("succeededIndexes"),
            rule.at("succeededCount")
        )
    };
    if policy.is_null() {
        return "null".to_owned();
    }
    let Value::Array(rules) = policy.at("rules") else {
        return "{\"Rules\":null}".to_owned();
    };
    let rules: Vec<String> = rules.iter().map(rule).collect();
    format!("{{\"Rules\":[{}]}}", rules.join(","))
}

/// What the failure of a Pod means for its Job (KEP-3329).
fn failure_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    let containers = spec.list_at("template.spec.containers").iter();
    let known = containers.chain(spec.list_at("template.spec.initContainers"));
    let known: Vec<&str> = known.map(|container| container.str_at("name")).collect();
    let rules = spec.list_at("podFailurePolicy.rules");
    if rules.len() > MOST_RULES {
        errors.too_many(at, rules.len(), MOST_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
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
        if !codes.is_null() {
            exit_codes(codes, &known, &place.child("onExitCodes"), errors);
        }
        pod_conditions(conditions, &place.child("onPodConditions"), errors);
        if codes.is_null() == conditions.is_empty() {
            let text = match codes.is_null() {
                true => "specifying one of OnExitCodes and OnPodConditions is required",
                false => "specifying both OnExitCodes and OnPodConditions is not supported",
            };
            errors.invalid_itself(&place, text);
        }
    }
}

fn pod_conditions(conditions: &[Value], at: &Path, errors: &mut Errors) {
    if conditions.len() > MOST_RULES {
        errors.too_many(at, conditions.len(), MOST_RULES);
    }
    for (i, condition) in conditions.iter().enumerate() {
        let (kind, place) = (condition.str_at("type"), at.index(i));
        errors.each(&place.child("type"), kind, names::qualified_name(kind));
        let known = ["False", "True", "Unknown"];
        match condition.str_at("status") {
            "" => errors.required(
                &place.child("status"),
                "valid values: [\"False\" \"True\" \"Unknown\"]",
            ),
            status if !known.contains(&status) => {
                errors.not_supported(&place.child("status"), status, &known);
            }
            _ => {}
        }
    }
}

fn exit_codes(codes: &Value, known: &[&str], at: &Path, errors: &mut Errors) {
    match codes.str_at("operator") {
        "" => errors.required(&at.child("operator"), "valid values: [\"In\" \"NotIn\"]"),
        _ => errors.one_of_if_set(codes, "operator", at, &["In", "NotIn"]),
    }
    let name = codes.str_at("containerName");
    if codes.has("containerName") && !known.contains(&name) {
        let text = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.child("containerName"), name, text);
    }
    let values: Vec<i64> = codes.list_at("values").iter().filter_map(Value::as_i64).collect();
    let place = at.child("values");
    if values.is_empty() {
        errors.invalid(
            &place,
            codes.at("values").clone(),
            "at least one value is required",
        );
    } else if values.len() > MOST_CODES {
        errors.too_many(&place, values.len(), MOST_CODES);
    }
    for (i, value) in values.iter().enumerate() {
        if *value == 0 && codes.str_at("operator") == "In" {
            errors.invalid(&place.index(i), 0, "must not be 0 for the In operator");
        }
        if values[..i].contains(value) {
            errors.duplicate(&place.index(i), *value);
        }
    }
    if !values.is_sorted() {
        errors.invalid(&place, codes.at("values").clone(), "must be ordered");
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
    selectors::immutable(new_spec, old_spec, &at, errors);
    let mut template = new_spec.at("template").clone();
    if old_spec.bool_at("suspend") && !old.has("status.startTime") {
        let before = old_spec.at("template");
        for field in [
            "metadata.labels",
            "metadata.annotations",
            "spec.nodeSelector",
            "spec.affinity.nodeAffinity",
            "spec.tolerations",
            "spec.schedulingGates",
        ] {
            keep(&mut template, before, field);
        }
        without_empty_affinity(&mut template, before, "spec.affinity");
    }
    if !same(&template, old_spec.at("template")) {
        let shown = internal::template_line(new_spec.at("template"));
        errors.invalid_shown(&at.child("template"), &shown, super::errors::IMMUTABLE);
    }
    errors.immutable(new_spec, old_spec, "completionMode", &at);
    let policy = new_spec.at("podFailurePolicy");
    if !same(policy, old_spec.at("podFailurePolicy")) {
        let shown = match policy {
            Value::Null => "null".to_owned(),
            policy => internal::line("PodFailurePolicy", policy),
        };
        errors.invalid_shown(&at.child("podFailurePolicy"), &shown, super::errors::IMMUTABLE);
    }
    for field in ["backoffLimitPerIndex", "managedBy"] {
        errors.immutable(new_spec, old_spec, field, &at);
    }
    let (policy, before) = (new_spec.at("successPolicy"), old_spec.at("successPolicy"));
    if !same(policy, before) {
        let error = FieldError::invalid(
            &at.child("successPolicy"),
            policy.clone(),
            super::errors::IMMUTABLE,
        );
        errors.0.push(error.shown_as(policy_text(policy)));
    }
}
