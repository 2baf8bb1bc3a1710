//! The create-only kinds of authorization: SubjectAccessReview, its Self and Local forms, SelfSubjectRulesReview.
//!
//! Each takes the decoded object and fills in its `status`; nothing is stored.

use crate::authorize::{Authorizer, Decision};
use crate::request::Attributes;
use crate::user::User;
use kinds::field::{FieldError, Path};
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
    let attributes = attributes("SelfSubjectAccessReview", object)?;
    object["status"] = answer(authorizer.authorize(user, &attributes).await);
    Ok(())
}

/// `POST …/subjectaccessreviews`: may they?
pub async fn subject_access_review(object: &mut Value, authorizer: &dyn Authorizer) -> Result<(), Status> {
    let kind = "SubjectAccessReview";
    let attributes = attributes(kind, object)?;
    let user = subject(kind, object)?;
    object["status"] = answer(authorizer.authorize(&user, &attributes).await);
    Ok(())
}

/// `POST …/namespaces/NAMESPACE/localsubjectaccessreviews`: may they, here?
pub async fn local_subject_access_review(
    object: &mut Value,
    namespace: &str,
    authorizer: &dyn Authorizer,
) -> Result<(), Status> {
    let kind = "LocalSubjectAccessReview";
    let attributes = attributes(kind, object)?;
    let at = Path::new("spec").child("resourceAttributes");
    if !attributes.is_resource {
        let at = Path::new("spec").child("nonResourceAttributes");
        let shown = object["spec"]["nonResourceAttributes"].clone();
        let error = FieldError::invalid(&at, shown, "disallowed on this kind of request");
        return Err(Status::invalid(kind, GROUP, "", vec![error]));
    }
    if attributes.namespace != namespace {
        let error = FieldError::invalid(
            &at.child("namespace"),
            json!(attributes.namespace),
            "must match metadata.namespace",
        );
        return Err(Status::invalid(kind, GROUP, "", vec![error]));
    }
    let user = subject(kind, object)?;
    object["status"] = answer(authorizer.authorize(&user, &attributes).await);
    Ok(())
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
    Ok(())
}

fn answer(decision: Decision) -> Value {
    let mut status = json!({ "allowed": decision.is_allowed() });
    if matches!(decision, Decision::Deny(_)) {
        status["denied"] = true.into();
    }
    if !decision.reason().is_empty() {
        status["reason"] = decision.reason().into();
    }
    status
}

/// What is asked about.
fn attributes(kind: &str, object: &Value) -> Result<Attributes, Status> {
    let spec = &object["spec"];
    let at = Path::new("spec");
    let resource = spec.get("resourceAttributes").filter(|v| !v.is_null());
    let path = spec.get("nonResourceAttributes").filter(|v| !v.is_null());
    match (resource, path) {
        (Some(r), None) => {
            let text = |key: &str| r[key].as_str().unwrap_or_default().to_string();
            Ok(Attributes {
                verb: text("verb"),
                group: text("group"),
                version: text("version"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                is_resource: true,
                field_selector: field_selector(r),
                ..Attributes::default()
            })
        }
        (None, Some(p)) => Ok(Attributes {
            verb: p["verb"].as_str().unwrap_or_default().to_string(),
            path: p["path"].as_str().unwrap_or_default().to_string(),
            ..Attributes::default()
        }),
        (None, None) => {
            let error = FieldError::invalid(
                &at.child("resourceAttributes"),
                Value::Null,
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            Err(Status::invalid(kind, GROUP, "", vec![error]))
        }
        (Some(_), Some(p)) => {
            let error = FieldError::invalid(
                &at.child("nonResourceAttributes"),
                p.clone(),
                "cannot be specified in combination with resourceAttributes",
            );
            Err(Status::invalid(kind, GROUP, "", vec![error]))
        }
    }
}

/// The field selector of a review, raw or as `In` requirements of one value (KEP-4601).
fn field_selector(resource: &Value) -> String {
    let selector = &resource["fieldSelector"];
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_string();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms: Vec<String> = requirements
        .filter(|r| r["operator"] == "In")
        .filter_map(|r| {
            let values = r["values"].as_array().filter(|v| v.len() == 1)?;
            Some(format!("{}={}", r["key"].as_str()?, values[0].as_str()?))
        })
        .collect();
    terms.join(",")
}

fn subject(kind: &str, object: &Value) -> Result<User, Status> {
    let spec = &object["spec"];
    let name = spec["user"].as_str().unwrap_or_default().to_string();
    let groups = strings(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let error = FieldError::invalid(
            &Path::new("spec").child("user"),
            json!(""),
            "at least one of user or group must be specified",
        );
        return Err(Status::invalid(kind, GROUP, "", vec![error]));
    }
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.to_lowercase(), strings(values)))
        .collect();
    Ok(User {
        name,
        uid: spec["uid"].as_str().unwrap_or_default().to_string(),
        groups,
        extra,
    })
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|v| v.as_str().map(str::to_string)).collect()
}
