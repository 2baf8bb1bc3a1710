//! Conversion between the versions of resources that are served in more than one: Events and autoscalers.
//!
//! Both directions keep everything that both versions can say, as upstream's conversion functions do.

use crate::registry::{Served, api_version};
use crate::server::ApiServer;
use kinds::KindInfo;
use kinds::status::Status;
use serde_json::{Map, Value, json};

/// Annotations in which `autoscaling/v1` keeps what it has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";

/// Converts an object; `from` and `to` are versions of one built-in resource.
pub fn convert(object: Value, from: &KindInfo, to: &KindInfo) -> Result<Value, Status> {
    let converted = match (from.group, from.version, to.group, to.version) {
        ("", "v1", "events.k8s.io", "v1") => rename(object, &EVENT_FIELDS, false),
        ("events.k8s.io", "v1", "", "v1") => rename(object, &EVENT_FIELDS, true),
        ("autoscaling", "v1", "autoscaling", "v2") => scaler_to_v2(object),
        ("autoscaling", "v2", "autoscaling", "v1") => scaler_to_v1(object),
        _ => {
            return Err(Status::internal(format!(
                "no conversion from {} to {} of {}",
                api_version(from),
                api_version(to),
                to.kind
            )));
        }
    };
    let mut converted = converted;
    converted["apiVersion"] = json!(api_version(to));
    converted["kind"] = json!(to.kind);
    machinery::write_form(to, &mut converted);
    Ok(converted)
}

impl ApiServer {
    /// Converts an object of a resource from one of its versions to another.
    pub async fn convert(
        &self,
        served: &Served,
        object: Value,
        from: &KindInfo,
        to: &KindInfo,
    ) -> Result<Value, Status> {
        let mut converted = self.convert_all(served, vec![object], from, to).await?;
        converted
            .pop()
            .ok_or_else(|| Status::internal("a conversion lost its object"))
    }

    /// Converts objects of a resource from one of its versions to another. Custom objects tell their version themselves:
    /// some may have been stored when their definition stored another one.
    pub async fn convert_all(
        &self,
        served: &Served,
        objects: Vec<Value>,
        from: &KindInfo,
        to: &KindInfo,
    ) -> Result<Vec<Value>, Status> {
        let alike = (from.group, from.version) == (to.group, to.version);
        let stays = match &served.custom {
            Some(custom) if custom.is_mixed() => objects.iter().all(|object| is_of(object, &api_version(to))),
            _ => alike,
        };
        if stays || objects.is_empty() {
            let custom = served.custom.as_ref().filter(|c| c.has_defaults());
            let Some(custom) = custom.filter(|_| to.version == served.kind.version) else {
                return Ok(objects);
            };
            let mut objects = objects;
            objects.iter_mut().for_each(|object| custom.complete(object));
            return Ok(objects);
        }
        match &served.custom {
            None => objects
                .into_iter()
                .map(|object| convert(object, from, to))
                .collect(),
            Some(custom) => {
                let is_read = to.version == served.kind.version;
                let mut objects = objects;
                if is_read {
                    // Defaults are those of the version that is stored. In a mixed list some are of this one already.
                    for object in &mut objects {
                        match is_of(object, &api_version(to)) {
                            true => custom.complete(object),
                            false => custom.complete_other(object),
                        }
                    }
                }
                let mut converted = custom.conversion().convert(self, objects, to).await?;
                if is_read {
                    // What the version does not know goes.
                    converted.iter_mut().for_each(|object| custom.adopt(object));
                }
                Ok(converted)
            }
        }
    }
}

/// Whether an object is of a version already.
pub fn is_of(object: &Value, api_version: &str) -> bool {
    object["apiVersion"]
        .as_str()
        .is_none_or(|version| version == api_version)
}

/// Names of Event fields: in core/v1, in events.k8s.io/v1.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn rename(object: Value, names: &[(&str, &str)], back: bool) -> Value {
    let Value::Object(fields) = object else {
        return object;
    };
    let renamed: Map<String, Value> = fields
        .into_iter()
        .map(|(key, value)| {
            let other = names.iter().find_map(|(a, b)| {
                let (from, to) = if back { (b, a) } else { (a, b) };
                (*from == key).then(|| to.to_string())
            });
            (other.unwrap_or(key), value)
        })
        .collect();
    Value::Object(renamed)
}

fn cpu_metric(percent: &Value, field: &str) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
    field: match field {
        "target" => json!({"type": "Utilization", "averageUtilization": percent}),
        _ => json!({"averageUtilization": percent}),
    }}})
}

fn is_cpu(metric: &Value, field: &str) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"][field]["averageUtilization"].is_number()
}

fn take(object: &mut Value, parent: &str, field: &str) -> Option<Value> {
    object
        .get_mut(parent)?
        .as_object_mut()?
        .remove(field)
        .filter(|v| !v.is_null())
}

fn take_annotation(object: &mut Value, name: &str) -> Option<Value> {
    let annotations = object.pointer_mut("/metadata/annotations")?.as_object_mut()?;
    let text = annotations.remove(name)?;
    if annotations.is_empty()
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn scaler_to_v2(mut object: Value) -> Value {
    let mut metrics: Vec<Value> = Vec::new();
    if let Some(Value::Array(others)) = take_annotation(&mut object, METRICS) {
        metrics.extend(others);
    }
    if let Some(percent) = take(&mut object, "spec", "targetCPUUtilizationPercentage") {
        metrics.push(cpu_metric(&percent, "target"));
    }
    if !metrics.is_empty() {
        object["spec"]["metrics"] = Value::Array(metrics);
    }
    if let Some(behavior) = take_annotation(&mut object, BEHAVIOR) {
        object["spec"]["behavior"] = behavior;
    }
    let mut current: Vec<Value> = Vec::new();
    if let Some(percent) = take(&mut object, "status", "currentCPUUtilizationPercentage") {
        current.push(cpu_metric(&percent, "current"));
    }
    if let Some(Value::Array(more)) = take_annotation(&mut object, CURRENT) {
        current.extend(more);
    }
    if !current.is_empty() {
        object["status"]["currentMetrics"] = Value::Array(current);
    }
    if let Some(conditions) = take_annotation(&mut object, CONDITIONS) {
        object["status"]["conditions"] = conditions;
    }
    object
}

fn scaler_to_v1(mut object: Value) -> Value {
    let annotate = |object: &mut Value, name: &str, value: &Value| {
        object["metadata"]["annotations"][name] = json!(value.to_string());
    };
    for (parent, list, field, number, annotation) in [
        (
            "spec",
            "metrics",
            "target",
            "targetCPUUtilizationPercentage",
            METRICS,
        ),
        (
            "status",
            "currentMetrics",
            "current",
            "currentCPUUtilizationPercentage",
            CURRENT,
        ),
    ] {
        let Some(Value::Array(mut metrics)) = take(&mut object, parent, list) else {
            continue;
        };
        if let Some(at) = metrics.iter().position(|m| is_cpu(m, field)) {
            let cpu = metrics.remove(at);
            object[parent][number] = cpu["resource"][field]["averageUtilization"].clone();
        }
        if !metrics.is_empty() {
            annotate(&mut object, annotation, &Value::Array(metrics));
        }
    }
    if let Some(behavior) = take(&mut object, "spec", "behavior") {
        annotate(&mut object, BEHAVIOR, &behavior);
    }
    if let Some(conditions) = take(&mut object, "status", "conditions") {
        annotate(&mut object, CONDITIONS, &conditions);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalers_survive_the_round_trip() {
        let v2 = json!({
            "metadata": {"name": "x"},
            "spec": {"maxReplicas": 3, "metrics": [
                {"type":"Resource","resource":{"name":"memory","target":{"type":"Utilization","averageUtilization":70}}},
                {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}},
        });
        let v1 = scaler_to_v1(v2.clone());
        assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
        assert!(v1["spec"].get("metrics").is_none());
        assert_eq!(scaler_to_v2(v1), v2);
    }

    #[test]
    fn events_change_their_words() {
        let core = json!({"involvedObject": {"name": "p"}, "message": "m", "reason": "r", "count": 2});
        let events = rename(core.clone(), &EVENT_FIELDS, false);
        assert_eq!(
            events,
            json!({"regarding": {"name": "p"}, "note": "m", "reason": "r", "deprecatedCount": 2})
        );
        assert_eq!(rename(events, &EVENT_FIELDS, true), core);
    }
}
