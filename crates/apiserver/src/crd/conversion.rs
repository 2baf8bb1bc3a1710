//! Conversion of custom objects between the versions of their definition: by name only, or by a webhook
//! (`ConversionReview` of `apiextensions.k8s.io/v1` or `v1beta1`).

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
                let converted = converted.map_err(|why| failed(format!("{about} {why}")))?;
                for (i, (at, converted)) in others.into_iter().zip(converted).enumerate() {
                    objects[at] = restored(&objects[at], converted, to)
                        .map_err(|why| failed(format!("{about} returned invalid {why} at index {i}")))?;
                }
                Ok(objects)
            }
        }
    }
}

/// A 500 in the conversion's own words.
fn failed(message: String) -> Status {
    let mut status = Status::internal("");
    status.reason = "".into();
    status.message = message;
    status.details = None;
    status
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
    let response = &review["response"];
    let invalid = |why: String| format!("returned an invalid response: {why}");
    if !response.is_object() {
        return Err(invalid("no response provided".into()));
    }
    let answered = response["uid"].as_str().unwrap_or("");
    if version == "v1" && answered != uid {
        return Err(invalid(format!(
            "expected response.uid={uid:?}, got {answered:?}"
        )));
    }
    let result = &response["result"];
    if result["status"] != "Success" {
        return Err(match result["message"].as_str().unwrap_or("") {
            "" => "failed: ".to_string(),
            message => format!("failed: {message}"),
        });
    }
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

/// Of metadata a webhook may change labels and annotations only.
fn restored(original: &Value, mut converted: Value, to: &KindInfo) -> Result<Value, String> {
    let wanted = api_version(to);
    let got = converted["apiVersion"].as_str().unwrap_or("").to_string();
    if got != wanted {
        return Err(format!(
            "converted object: invalid groupVersion (expected {wanted}, got {got})"
        ));
    }
    if converted["kind"] != original["kind"] {
        let (want, got) = (&original["kind"], &converted["kind"]);
        return Err(format!(
            "converted object: invalid kind (expected {want}, got {got})"
        ));
    }
    if !converted["metadata"].is_object() {
        return Err("converted object: metadata is missing".into());
    }
    for field in ["name", "namespace", "uid"] {
        let (before, after) = (&original["metadata"][field], &converted["metadata"][field]);
        if before != after {
            return Err(format!(
                "metadata: must not change {field} (was {before}, now {after})"
            ));
        }
    }
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        match converted["metadata"].get(field).filter(|v| !v.is_null()) {
            Some(value) => metadata[field] = value.clone(),
            None => {
                if let Some(fields) = metadata.as_object_mut() {
                    fields.remove(field);
                }
            }
        }
    }
    converted["metadata"] = metadata;
    Ok(converted)
}
