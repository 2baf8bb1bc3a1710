//! The create-only kinds of authorization: SubjectAccessReview, its Self and Local forms, SelfSubjectRulesReview.
//!
//! Each takes the decoded object and fills in its `status`; nothing is stored.

mod checks;
mod selectors;

use crate::authorize::{Authorizer, Decision};
use crate::request::Attributes;
use crate::user::User;
use kinds::field::FieldError;
use kinds::status::Status;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The API group of the reviews.
pub const GROUP: &str = "authorization.k8s.io";

/// `POST …/selfsubjectaccessreviews`: may I?
pub async fn self_subject_access_review(
    object: &mut Value,
    user: &User,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let mut errors = checks::spec(&object["spec"], false);
    errors.extend(checks::metadata(&object["metadata"], None));
    refuse(errors)?;
    object["status"] = answer(object, &authorizer.authorize(user, &attributes(object)).await);
    Ok(())
}

/// `POST …/subjectaccessreviews`: may they?
pub async fn subject_access_review(object: &mut Value, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let mut errors = checks::spec(&object["spec"], true);
    errors.extend(checks::metadata(&object["metadata"], None));
    refuse(errors)?;
    let user = subject(object);
    object["status"] = answer(object, &authorizer.authorize(&user, &attributes(object)).await);
    Ok(())
}

/// `POST …/namespaces/NAMESPACE/localsubjectaccessreviews`: may they, here?
pub async fn local_subject_access_review(
    object: &mut Value,
    namespace: &str,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let mut errors = checks::spec(&object["spec"], true);
    errors.extend(checks::metadata(&object["metadata"], Some("namespace")));
    errors.extend(checks::local(&object["spec"], namespace));
    refuse(errors)?;
    let user = subject(object);
    object["status"] = answer(object, &authorizer.authorize(&user, &attributes(object)).await);
    Ok(())
}

/// Upstream names no kind in these refusals.
fn refuse(errors: Vec<FieldError>) -> Result<(), Status> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid("", GROUP, "", errors)),
    }
}

/// `POST …/selfsubjectrulesreviews`: what may I do in a namespace?
pub async fn self_subject_rules_review(
    object: &mut Value,
    user: &User,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let namespace = object["spec"]["namespace"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = authorizer.rules_for(user, &namespace).await;
    let resources = rules.resource_rules.iter().map(|r| {
        let mut rule = Map::new();
        rule.insert("verbs".into(), json!(r.verbs));
        for (key, list) in [
            ("apiGroups", &r.api_groups),
            ("resources", &r.resources),
            ("resourceNames", &r.resource_names),
        ] {
            if !list.is_empty() {
                rule.insert(key.into(), json!(list));
            }
        }
        Value::Object(rule)
    });
    let paths = rules
        .non_resource_rules
        .iter()
        .map(|r| json!({ "verbs": r.verbs, "nonResourceURLs": r.non_resource_urls }));
    let mut status = json!({
        "resourceRules": resources.collect::<Vec<_>>(),
        "nonResourceRules": paths.collect::<Vec<_>>(),
        "incomplete": rules.incomplete,
    });
    if !rules.evaluation_error.is_empty() {
        status["evaluationError"] = rules.evaluation_error.into();
    }
    object["status"] = status;
    // Upstream answers with the rules alone.
    object["metadata"] = json!({});
    object["spec"] = json!({});
    Ok(())
}

/// The status of a review.
fn answer(object: &Value, decision: &Decision) -> Value {
    let mut status = json!({ "allowed": decision.is_allowed() });
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    let ignored = selectors::evaluation_error(&object["spec"]["resourceAttributes"]);
    if !ignored.is_empty() {
        status["evaluationError"] = ignored.into();
    }
    status
}

/// What is asked about.
fn attributes(object: &Value) -> Attributes {
    let spec = &object["spec"];
    if let Some(r) = spec.get("resourceAttributes").filter(|v| !v.is_null()) {
        let text = |key: &str| r[key].as_str().unwrap_or_default().to_string();
        return Attributes {
            verb: text("verb"),
            group: text("group"),
            version: text("version"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            is_resource: true,
            field_selector: selectors::field_selector(r),
            ..Attributes::default()
        };
    }
    let p = &spec["nonResourceAttributes"];
    Attributes {
        verb: p["verb"].as_str().unwrap_or_default().to_string(),
        path: p["path"].as_str().unwrap_or_default().to_string(),
        ..Attributes::default()
    }
}

fn subject(object: &Value) -> User {
    let spec = &object["spec"];
    let name = spec["user"].as_str().unwrap_or_default().to_string();
    let groups = strings(&spec["groups"]);
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), strings(values)))
        .collect();
    User {
        name,
        uid: spec["uid"].as_str().unwrap_or_default().to_string(),
        groups,
        extra,
    }
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_string)).collect()
}
