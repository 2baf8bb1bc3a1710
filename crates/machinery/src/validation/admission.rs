//! Validation of what extends admission: webhooks, policies and their bindings; expressions are compiled elsewhere.
//! Source: `pkg/apis/admissionregistration/validation` of v1.35.

use super::errors::Errors;
use super::web_address::WebAddress;
use super::{names, selectors};
use crate::walk::At;
use kinds::KindInfo;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// Conditions of one webhook or policy.
const MAX_CONDITIONS: usize = 64;

pub(super) fn webhooks(obj: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, hook) in obj.list_at("webhooks").iter().enumerate() {
        let at = Path::new("webhooks").index(i);
        let name = hook.str_at("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            let faults = names::dns_subdomain(name);
            if !faults.is_empty() {
                errors.invalid(&at.child("name"), name, faults.join(","));
            } else if name.split('.').count() < 3 {
                let text = "should be a domain with at least three segments separated by dots";
                errors.invalid(&at.child("name"), name, text);
            }
        }
        for (i, one) in hook.list_at("rules").iter().enumerate() {
            rule(one, &at.child("rules").index(i), errors);
        }
        errors.one_of_given(hook, "failurePolicy", &at, &["Fail", "Ignore"]);
        errors.one_of_given(hook, "matchPolicy", &at, &["Equivalent", "Exact"]);
        if !hook.has("sideEffects") {
            errors.required(&at.child("sideEffects"), "must specify one of None, NoneOnDryRun");
        }
        errors.one_of_given(hook, "sideEffects", &at, &["None", "NoneOnDryRun"]);
        if let Some(seconds) = hook.int_at("timeoutSeconds")
            && !(1..=30).contains(&seconds)
        {
            let text = "the timeout value must be between 1 and 30 seconds";
            errors.invalid(&at.child("timeoutSeconds"), seconds, text);
        }
        for field in ["namespaceSelector", "objectSelector"] {
            selectors::label_selector(hook.at(field), &at.child(field), errors);
        }
        // Only mutating webhooks have the field.
        errors.one_of_given(hook, "reinvocationPolicy", &at, &["IfNeeded", "Never"]);
        client_config(hook.at("clientConfig"), &at.child("clientConfig"), errors);
        conditions(hook, &at, errors);
        review_versions(hook, &at.child("admissionReviewVersions"), errors);
        if !name.is_empty() && !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    }
}

fn review_versions(hook: &Value, at: &Path, errors: &mut Errors) {
    let versions = hook.strings_at("admissionReviewVersions");
    if versions.is_empty() {
        errors.required(at, "must specify one of v1, v1beta1");
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().enumerate() {
        if !seen.insert(version) {
            errors.invalid(&at.index(i), *version, "duplicate version");
            continue;
        }
        errors.each(&at.index(i), version, names::dns_1035_label(version));
    }
    if !versions.iter().any(|v| REVIEW_VERSIONS.contains(v)) {
        let given = hook.at("admissionReviewVersions").clone();
        errors.invalid(at, given, "must include at least one of v1, v1beta1");
    }
}

/// Where a webhook is: a URL or a Service.
pub(super) fn client_config(config: &Value, at: &Path, errors: &mut Errors) {
    match (config.has("url"), config.has("service")) {
        (true, true) | (false, false) => errors.required(at, "exactly one of url or service is required"),
        (true, false) => url(config.str_at("url"), &at.child("url"), errors),
        (false, true) => service(config.at("service"), &at.child("service"), errors),
    }
}

fn url(url: &str, at: &Path, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let address = match WebAddress::parse(url) {
        Ok(address) => address,
        Err(why) => return errors.required(at, format!("url must be a valid URL: {why}{FORM}")),
    };
    if address.scheme != "https" {
        let text = format!("'https' is the only allowed URL scheme{FORM}");
        errors.invalid(at, address.scheme.as_str(), text);
    }
    if address.host.is_empty() {
        errors.invalid(at, "", format!("host must be specified{FORM}"));
    }
    if let Some(user) = address.user {
        errors.invalid(at, user, "user information is not permitted in the URL");
    }
    if !address.fragment.is_empty() {
        errors.invalid(at, address.fragment, "fragments are not permitted in the URL");
    }
    if !address.query.is_empty() {
        errors.invalid(at, address.query, "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, at: &Path, errors: &mut Errors) {
    // Upstream has them the wrong way round.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if service.is_empty_at(field) {
            errors.required(&at.child(told), "");
        }
    }
    let port = service.int_at("port").unwrap_or(443);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let text = format!("port is not valid: {}", wrong.join(", "));
        errors.invalid(&at.child("port"), port, text);
    }
    let (path, at) = (service.str_at("path"), at.child("path"));
    match path {
        "" | "/" => return,
        "//" => return errors.invalid(&at, path, "segment[0] may not be empty"),
        _ => {}
    }
    if !path.starts_with('/') {
        errors.invalid(&at, path, "must start with a '/'");
    }
    // The first byte goes, whatever it is; half a letter is as wrong as all of it.
    let below = path.get(1..).unwrap_or(path);
    let below = below.strip_suffix('/').unwrap_or(below);
    for (i, segment) in below.split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(&at, path, format!("segment[{i}] may not be empty"));
            continue;
        }
        for why in names::dns_subdomain(segment) {
            errors.invalid(&at, path, format!("segment[{i}]: {why}"));
        }
    }
}

/// A list that must be there, and in which `*` stands alone.
fn alone(of: &Value, field: &str, what: &str, at: &Path, errors: &mut Errors) {
    let (values, at) = (of.strings_at(field), at.child(field));
    if values.is_empty() {
        errors.required(&at, "");
    }
    if values.len() > 1 && values.contains(&"*") {
        let text = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&at, of.at(field).clone(), text);
    }
}

/// Which requests are meant.
fn rule(rule: &Value, at: &Path, errors: &mut Errors) {
    alone(rule, "operations", "operations", at, errors);
    for (i, operation) in rule.strings_at("operations").iter().enumerate() {
        if !OPERATIONS.contains(operation) {
            errors.not_supported(&at.child("operations").index(i), *operation, &OPERATIONS);
        }
    }
    alone(rule, "apiGroups", "API groups", at, errors);
    alone(rule, "apiVersions", "API versions", at, errors);
    for (i, version) in rule.strings_at("apiVersions").iter().enumerate() {
        if version.is_empty() {
            errors.required(&at.child("apiVersions").index(i), "");
        }
    }
    resources(rule, &at.child("resources"), errors);
    errors.one_of_given(rule, "scope", at, &["*", "Cluster", "Namespaced"]);
}

fn resources(rule: &Value, at: &Path, errors: &mut Errors) {
    let list = rule.strings_at("resources");
    if list.is_empty() {
        errors.required(at, "");
    }
    let (mut all_below, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (i, resource) in list.iter().enumerate() {
        if resource.is_empty() {
            errors.required(&at.index(i), "");
            continue;
        }
        let Some((name, sub)) = resource.split_once('/') else {
            // The last one decides: so it is upstream.
            plain = *resource != "*";
            continue;
        };
        if all_below.contains(name) {
            let text = format!("if '{name}/*' is present, must not specify {resource}");
            errors.invalid(&at.index(i), *resource, text);
        }
        if everywhere.contains(sub) {
            let text = format!("if '*/{sub}' is present, must not specify {resource}");
            errors.invalid(&at.index(i), *resource, text);
        }
        if sub == "*" {
            all_below.insert(name);
        }
        if name == "*" {
            everywhere.insert(sub);
        }
    }
    let whole = || rule.at("resources").clone();
    if list.len() > 1 && list.contains(&"*/*") {
        errors.invalid(
            at,
            whole(),
            "if '*/*' is present, must not specify other resources",
        );
    }
    if plain && list.contains(&"*") {
        let text = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(at, whole(), text);
    }
}

/// The names of match conditions; that they are there and differ is seen where they are compiled.
fn conditions(of: &Value, at: &Path, errors: &mut Errors) {
    let at = at.child("matchConditions");
    let list = of.list_at("matchConditions");
    if list.len() > MAX_CONDITIONS {
        errors.too_many(&at, list.len(), MAX_CONDITIONS);
    }
    for (i, condition) in list.iter().enumerate() {
        let name = condition.str_at("name");
        if !name.is_empty() {
            errors.each(&at.index(i).child("name"), name, names::qualified_name(name));
        }
    }
}

/// Only what is written can be changed.
pub(super) fn mutating_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    only_writes(spec, "matchConstraints", at, errors);
}

/// The same of what says which requests are meant.
fn only_writes(spec: &Value, resources: &str, at: &Path, errors: &mut Errors) {
    const KNOWN: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
    let place = at.child(resources).child("resourceRules").child("operations");
    for rule in spec.at(resources).list_at("resourceRules") {
        for operation in rule.strings_at("operations") {
            if !KNOWN.contains(&operation) {
                errors.not_supported(&place, operation, &KNOWN);
            }
        }
    }
}

/// A policy, of either sort.
pub(super) fn policy(spec: &Value, at: &Path, errors: &mut Errors) {
    match spec.has("failurePolicy") {
        true => errors.one_of_given(spec, "failurePolicy", at, &["Fail", "Ignore"]),
        false => errors.required(&at.child("failurePolicy"), ""),
    }
    if spec.has("paramKind") {
        param_kind(spec.at("paramKind"), &at.child("paramKind"), errors);
    }
    let constraints = at.child("matchConstraints");
    if !spec.has("matchConstraints") {
        errors.required(&constraints, "");
    } else {
        match_resources(spec.at("matchConstraints"), &constraints, errors);
        if spec.list_at("matchConstraints.resourceRules").is_empty() {
            errors.required(&constraints.child("resourceRules"), "");
        }
    }
    conditions(spec, at, errors);
    for (i, variable) in spec.list_at("variables").iter().enumerate() {
        let name = variable.str_at("name");
        if !name.trim().is_empty() && !is_identifier(name) {
            let place = at.child("variables").index(i).child("name");
            errors.invalid(&place, name, "name is not a valid CEL identifier");
        }
    }
    for (i, validation) in spec.list_at("validations").iter().enumerate() {
        let place = at.child("validations").index(i);
        for field in ["messageExpression", "message"] {
            let text = validation.str_at(field);
            let what = if field == "message" {
                "message must"
            } else {
                "must"
            };
            if !text.is_empty() && text.trim().is_empty() {
                errors.invalid(
                    &place.child(field),
                    text,
                    format!("{what} be non-empty if specified"),
                );
            }
        }
        let message = validation.str_at("message");
        if message.trim().contains(['\n', '\r']) {
            let text = "message must not contain line breaks";
            errors.invalid(&place.child("message"), message, text);
        }
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        errors.one_of_given(validation, "reason", &place, &reasons);
    }
}

/// Whether a name may stand in an expression.
fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && letters.all(|c| c.is_ascii_alphanumeric() || c == '_') && !kinds::names::is_cel_word(name)
}

fn param_kind(kind: &Value, at: &Path, errors: &mut Errors) {
    let (text, place) = (kind.str_at("apiVersion"), at.child("apiVersion"));
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [""] => errors.required(&place, ""),
        [_] | [_, _] => {
            let (group, version) = text.split_once('/').unwrap_or(("", text));
            let wrong = names::dns_subdomain(group);
            if !group.is_empty() && !wrong.is_empty() {
                errors.invalid(&place, group, wrong.join(","));
            }
            let wrong = names::dns_1035_label(version);
            if version.is_empty() {
                errors.invalid(&place, text, "version must be specified");
            } else if !wrong.is_empty() {
                errors.invalid(&place, version, wrong.join(","));
            }
        }
        _ => errors.invalid(&place, text, format!("unexpected GroupVersion string: {text}")),
    }
    let name = kind.str_at("kind");
    let wrong = names::dns_1035_label(&name.to_lowercase());
    if name.is_empty() {
        errors.required(&at.child("kind"), "");
    } else if !wrong.is_empty() {
        let text = format!(
            "may have mixed case, but should otherwise match: {}",
            wrong.join(",")
        );
        errors.invalid(&at.child("kind"), name, text);
    }
}

fn match_resources(of: &Value, at: &Path, errors: &mut Errors) {
    if !of.has("matchPolicy") {
        errors.required(&at.child("matchPolicy"), "");
    }
    errors.one_of_given(of, "matchPolicy", at, &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        if of.has(field) {
            selectors::label_selector(of.at(field), &at.child(field), errors);
        } else {
            errors.required(&at.child(field), "");
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (i, one) in of.list_at(field).iter().enumerate() {
            let place = at.child(field).index(i);
            let mut seen = BTreeSet::new();
            for (i, name) in one.strings_at("resourceNames").into_iter().enumerate() {
                let place = place.child("resourceNames").index(i);
                errors.each(&place, name, names::path_segment(name));
                if !seen.insert(name) {
                    errors.duplicate(&place, name);
                }
            }
            rule(one, &place, errors);
        }
    }
}

/// What binds a policy to resources and parameters.
pub(super) fn binding(kind: &KindInfo, spec: &Value, at: &Path, errors: &mut Errors) {
    let policy = spec.str_at("policyName");
    if policy.is_empty() {
        errors.required(&at.child("policyName"), "");
    } else {
        errors.each(&at.child("policyName"), policy, names::dns_subdomain(policy));
    }
    if spec.has("paramRef") {
        param_ref(spec.at("paramRef"), &at.child("paramRef"), errors);
    }
    if spec.has("matchResources") {
        match_resources(spec.at("matchResources"), &at.child("matchResources"), errors);
    }
    match kind.kind {
        "ValidatingAdmissionPolicyBinding" => actions(spec, &at.child("validationActions"), errors),
        _ => only_writes(spec, "matchResources", at, errors),
    }
}

fn param_ref(of: &Value, at: &Path, errors: &mut Errors) {
    let name = of.str_at("name");
    if !name.is_empty() {
        errors.each(&at.child("name"), name, names::path_segment(name));
        if of.has("selector") {
            errors.forbidden(&at.child("name"), "name and selector are mutually exclusive");
        }
    }
    if of.has("selector") {
        selectors::label_selector(of.at("selector"), &at.child("selector"), errors);
        if !name.is_empty() {
            errors.forbidden(&at.child("selector"), "name and selector are mutually exclusive");
        }
    }
    if name.is_empty() && !of.has("selector") {
        errors.required(at, "one of name or selector must be specified");
    }
    errors.one_of_in_order(of, "parameterNotFoundAction", at, &["Deny", "Allow"]);
}

fn actions(spec: &Value, at: &Path, errors: &mut Errors) {
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let list = spec.strings_at("validationActions");
    let mut seen = BTreeSet::new();
    for (i, action) in list.iter().enumerate() {
        if !ACTIONS.contains(action) {
            errors.not_supported(&at.index(i), *action, &ACTIONS);
        }
        if !seen.insert(*action) {
            errors.duplicate(&at.index(i), *action);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let text = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                    response and headers serves no purpose)";
        errors.invalid(at, spec.at("validationActions").clone(), text);
    }
    if seen.is_empty() {
        errors.required(at, "at least one validation action is required");
    }
}
