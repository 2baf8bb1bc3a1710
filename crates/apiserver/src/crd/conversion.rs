//! Conversion of custom objects between the versions of their definition: by name only, or by a webhook
//! (`ConversionReview` of `apiextensions.k8s.io/v1` or `v1beta1`).

use super::go_type;
use crate::outbound::Target;
use crate::registry::api_version;
use crate::registry::convert::is_of;
use crate::server::ApiServer;
use kinds::KindInfo;
use kinds::status::Status;
use serde_json::{Value, json};
use std::time::Duration;

/// Time for a conversion (upstream's).
const LIMIT: Duration = Duration::from_secs(30);

/// The conversion of one definition.
pub enum Conversion {
    /// Only `apiVersion` changes.
    None,
    /// A webhook is asked.
    Webhook {
        /// Where it is.
        target: Target,
        /// The version of ConversionReview it gets.
        version: Option<String>,
    },
}

impl Conversion {
    /// Reads `spec.conversion`.
    pub fn new(conversion: &Value) -> Conversion {
        if conversion["strategy"] != "Webhook" {
            return Conversion::None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array();
        let known = versions
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find(|v| matches!(*v, "v1" | "v1beta1"));
        Conversion::Webhook {
            target: Target::from_client_config(&webhook["clientConfig"]),
            version: known.map(String::from),
        }
    }

    /// Whether a webhook is asked.
    pub fn is_webhook(&self) -> bool {
        matches!(self, Conversion::Webhook { .. })
    }

    /// Converts objects; those that are of the wanted version already stay as they are. An empty list asks nobody.
    pub async fn convert(
        &self,
        server: &ApiServer,
        mut objects: Vec<Value>,
        to: &KindInfo,
    ) -> Result<Vec<Value>, Status> {
        match self {
            Conversion::None => Ok(objects
                .into_iter()
                .map(|mut object| {
                    object["apiVersion"] = json!(api_version(to));
                    object
                })
                .collect()),
            Conversion::Webhook { target, version } => {
                let wanted = api_version(to);
                let others: Vec<usize> = (0..objects.len())
                    .filter(|at| !is_of(&objects[*at], &wanted))
                    .collect();
                let Some(first) = others.first() else {
                    return Ok(objects);
                };
                let from = objects[*first]["apiVersion"].as_str().unwrap_or_default();
                let about = format!("conversion webhook for {from}, Kind={}", to.kind);
                let sent: Vec<&Value> = others.iter().map(|at| &objects[*at]).collect();
                let converted = ask(server, target, version.as_deref(), &sent, to).await;
                let converted = converted.map_err(|why| Status::plain(format!("{about} {why}")))?;
                for (at, converted) in others.into_iter().zip(converted) {
                    // Each object is told of as by itself, as upstream asks for them one by one.
                    objects[at] = restored(&objects[at], converted, to)
                        .map_err(|why| Status::plain(format!("{about} returned invalid {why}")))?;
                }
                Ok(objects)
            }
        }
    }
}

async fn ask(
    server: &ApiServer,
    target: &Target,
    version: Option<&str>,
    objects: &[&Value],
    to: &KindInfo,
) -> Result<Vec<Value>, String> {
    let version = version.ok_or("failed: does not accept known ConversionReview versions (v1, v1beta1)")?;
    let uid = uuid::Uuid::new_v4().to_string();
    let review = json!({
        "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": api_version(to), "objects": objects},
    });
    let limit = format!("timeout={}s", LIMIT.as_secs());
    let answered = server
        .outbound
        .post(&*server.caches, target, &limit, review.to_string().into(), LIMIT)
        .await;
    let (code, bytes) = answered.map_err(|why| format!("failed: {why}"))?;
    if !(200..300).contains(&code) {
        return Err(format!("failed: {}", crate::outbound::refusal(code, &bytes)));
    }
    let review: Value = serde_json::from_slice(&bytes).map_err(|e| format!("failed: {e}"))?;
    let response = answered_well(&review, version, &uid).map_err(|why| format!("failed: {why}"))?;
    let converted = response["convertedObjects"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if converted.len() != objects.len() {
        return Err(format!(
            "returned {} objects, expected {}",
            converted.len(),
            objects.len()
        ));
    }
    Ok(converted)
}

/// The response of a review, when it is one and tells of success (upstream's `getConvertedObjectsFromResponse`).
fn answered_well<'r>(review: &'r Value, version: &str, uid: &str) -> Result<&'r Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let wanted = "apiextensions.k8s.io/v1, Kind=ConversionReview";
    let got = format!("{}, Kind={}", text(&review["apiVersion"]), text(&review["kind"]));
    if version == "v1" && got != wanted {
        return Err(format!("expected webhook response of {wanted}, got {got}"));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("no response provided".into());
    }
    let answered = text(&response["uid"]);
    if version == "v1" && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (status, message) = (
        text(&response["result"]["status"]),
        text(&response["result"]["message"]),
    );
    match (status.as_str(), message.is_empty()) {
        ("Success", _) => Ok(response),
        (_, false) => Err(message),
        (status, true) => Err(format!("response.result.status was '{status}', not 'Success'")),
    }
}

/// Of metadata a webhook may change labels and annotations only.
fn restored(original: &Value, mut converted: Value, to: &KindInfo) -> Result<Value, String> {
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (wanted, got) = (api_version(to), text(&converted["apiVersion"]));
    if got != wanted {
        return Err(format!(
            "object at index 0: invalid groupVersion (expected {wanted}, received {got})"
        ));
    }
    let (wanted, got) = (text(&original["kind"]), text(&converted["kind"]));
    if got != wanted {
        return Err(format!(
            "object at index 0: invalid kind (expected {wanted}, received {got})"
        ));
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let of = |object: &Value| text(&object["metadata"][field]);
        let (before, after) = (of(original), of(&converted));
        if before != after {
            return Err(format!("object: must have the same {name}: {before} != {after}"));
        }
    }
    let told = match &converted["metadata"] {
        Value::Object(told) => told,
        Value::Null => return Err("metadata: missing metadata in converted object".into()),
        other => {
            let of = go_type(other);
            return Err(format!(
                "metadata: invalid metadata of type {of} in converted object"
            ));
        }
    };
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        let value = told.get(field).filter(|value| !value.is_null());
        if let Some(value) = value {
            changed(field, value, &metadata[field]).map_err(|why| format!("metadata: {why}"))?;
        }
        super::put(&mut metadata, field, value.cloned());
    }
    converted["metadata"] = metadata;
    Ok(converted)
}

/// Checks labels or annotations that a webhook gives: texts, and, where they are not what they were, good ones.
fn changed(field: &str, value: &Value, before: &Value) -> Result<(), String> {
    let Some(texts) = value.as_object() else {
        let of = go_type(value);
        return Err(format!(
            "invalid metadata.{field} of type {of} in converted object"
        ));
    };
    if let Some((name, odd)) = texts.iter().find(|(_, text)| !text.is_string()) {
        let of = go_type(odd);
        return Err(format!(
            "metadata.{field}[{name}] must be a string, but is {of} in converted object"
        ));
    }
    if value == before {
        return Ok(());
    }
    let faults = machinery::validate_metadata(&json!({"metadata": {"name": "a", field: value}}));
    // So upstream spells the place.
    let told = faults.iter().map(ToString::to_string);
    let told: Vec<String> = told
        .map(|fault| fault.replacen("metadata.annotations", "metadata.annotation", 1))
        .collect();
    match told.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}
