//! The two versions of an autoscaler. `autoscaling/v1` has fields for the use of the processor alone and keeps the rest in
//! annotations: metrics in the form that they had in that version, the behavior as the API server's own types print it.
//! Source: `pkg/apis/autoscaling/v1/conversion.go` of Kubernetes v1.35.

use crate::validation::{shown, shown_list};
use crate::walk::{At, get_mut, set, unset};
use kinds::quantity::Quantity;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
/// Where v1 keeps what only later versions have in the spec.
pub(crate) const OF_SPEC: [&str; 2] = [METRICS, BEHAVIOR];
/// The same for the status.
pub(crate) const OF_STATUS: [&str; 2] = [CONDITIONS, CURRENT];
/// Annotations that are no part of an object but of its form in `autoscaling/v1`.
const OURS: [&str; 6] = [
    METRICS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
    CURRENT,
    CONDITIONS,
];
/// Fields of a metric that hold what it measures.
const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];
/// Fields of a behavior and below, for texts that write them otherwise: Go reads them all the same.
const BEHAVIOR_FIELDS: [&str; 9] = [
    "scaleUp",
    "scaleDown",
    "stabilizationWindowSeconds",
    "selectPolicy",
    "policies",
    "tolerance",
    "type",
    "value",
    "periodSeconds",
];

/// Takes the annotations away that only `autoscaling/v1` has.
pub(crate) fn drop_annotations(object: &mut Value) {
    let Some(Value::Object(annotations)) = get_mut(object, "metadata.annotations") else {
        return;
    };
    annotations.retain(|name, _| !OURS.contains(&name.as_str()));
    if annotations.is_empty() {
        unset(object, "metadata.annotations");
    }
}

fn annotated(object: &Value, name: &str) -> Option<Value> {
    let text = object.at("metadata.annotations").get(name)?.as_str()?;
    serde_json::from_str(text).ok()
}

fn take(object: &mut Value, path: &str) -> Value {
    let value = object.at(path).clone();
    unset(object, path);
    value
}

/// Puts a value there unless there is none.
fn put(object: &mut Value, path: &str, value: &Value) {
    if !value.is_null() {
        set(object, path, value.clone());
    }
}

/// An amount as it is always written; what is none stays as it is.
fn amount(value: &Value) -> Value {
    match Quantity::from_json(value) {
        Ok(amount) if !value.is_null() => amount.to_string().into(),
        _ => value.clone(),
    }
}

fn or_zero(value: &Value) -> Value {
    match value {
        Value::Null => "0".into(),
        value => amount(value),
    }
}

/// Writes an autoscaler of `autoscaling/v1` as one of `autoscaling/v2`.
pub fn autoscaler_to_v2(mut object: Value) -> Value {
    let percent = take(&mut object, "spec.targetCPUUtilizationPercentage");
    let mut metrics = list(annotated(&object, METRICS), metric_to_v2).unwrap_or_default();
    if !percent.is_null() {
        metrics.push(of_cpu(
            "target",
            json!({"type": "Utilization", "averageUtilization": percent}),
        ));
    }
    if metrics.is_empty() {
        metrics.push(of_cpu(
            "target",
            json!({"type": "Utilization", "averageUtilization": 80}),
        ));
    }
    set(&mut object, "spec.metrics", metrics);
    if let Some(behavior) = annotated(&object, BEHAVIOR) {
        let behavior = known_names(behavior);
        if behavior.has("scaleUp") || behavior.has("scaleDown") {
            set(&mut object, "spec.behavior", behavior);
        }
    }
    let current = take(&mut object, "status.currentCPUUtilizationPercentage");
    let current = match current {
        Value::Null => None,
        current => Some(vec![of_cpu("current", json!({"averageUtilization": current}))]),
    };
    if let Some(current) = list(annotated(&object, CURRENT), status_to_v2).or(current) {
        set(&mut object, "status.currentMetrics", current);
    }
    if let Some(Value::Array(conditions)) = annotated(&object, CONDITIONS) {
        set(&mut object, "status.conditions", conditions);
    }
    drop_annotations(&mut object);
    object
}

fn of_cpu(field: &str, amount: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", field: amount}})
}

/// The metrics of a text, unless it has something else in it.
fn list(text: Option<Value>, one: fn(&Value) -> Value) -> Option<Vec<Value>> {
    match text? {
        Value::Array(items) if items.iter().all(Value::is_object) => Some(items.iter().map(one).collect()),
        _ => None,
    }
}

/// A value with the names that its fields have in the API.
fn known_names(value: Value) -> Value {
    let name = |name: String| {
        let known = BEHAVIOR_FIELDS
            .iter()
            .find(|known| known.eq_ignore_ascii_case(&name));
        known.map_or(name, |known| (*known).to_owned())
    };
    match value {
        Value::Array(items) => items.into_iter().map(known_names).collect(),
        Value::Object(fields) => {
            let given = fields.into_iter().filter(|(_, value)| !value.is_null());
            given
                .map(|(field, value)| (name(field), known_names(value)))
                .collect()
        }
        value => value,
    }
}

/// What a metric is called, and which of that name are meant.
fn identity(source: &Value, selector: &str) -> Value {
    let mut metric = json!({"name": source.str_at("metricName")});
    put(&mut metric, "selector", source.at(selector));
    metric
}

fn metric_to_v2(metric: &Value) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for kind in SOURCES.into_iter().filter(|kind| metric.has(kind)) {
        let source = metric.at(kind);
        let (average, used) = (
            &amount(source.at("targetAverageValue")),
            source.at("targetAverageUtilization"),
        );
        let mut target = json!({});
        let mut converted = json!({});
        let goal = match kind {
            "resource" | "containerResource" => {
                set(&mut converted, "name", source.str_at("name"));
                if kind == "containerResource" {
                    set(&mut converted, "container", source.str_at("container"));
                }
                put(&mut target, "averageValue", average);
                put(&mut target, "averageUtilization", used);
                if used.is_null() {
                    "AverageValue"
                } else {
                    "Utilization"
                }
            }
            "pods" => {
                set(&mut converted, "metric", identity(source, "selector"));
                set(&mut target, "averageValue", or_zero(average));
                "AverageValue"
            }
            "external" => {
                set(&mut converted, "metric", identity(source, "metricSelector"));
                put(&mut target, "value", &amount(source.at("targetValue")));
                put(&mut target, "averageValue", average);
                if source.has("targetValue") {
                    "Value"
                } else {
                    "AverageValue"
                }
            }
            _ => {
                set(&mut converted, "metric", identity(source, "selector"));
                set(&mut converted, "describedObject", source.at("target").clone());
                put(&mut target, "averageValue", &amount(source.at("averageValue")));
                let value = or_zero(source.at("targetValue"));
                let by_average = source.has("averageValue");
                // The older version cannot leave the value out.
                let zero = value == "0";
                if !(by_average && zero) {
                    set(&mut target, "value", value);
                }
                if by_average { "AverageValue" } else { "Value" }
            }
        };
        set(&mut target, "type", goal);
        set(&mut converted, "target", target);
        set(&mut out, kind, converted);
    }
    out
}

fn status_to_v2(metric: &Value) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for kind in SOURCES.into_iter().filter(|kind| metric.has(kind)) {
        let source = metric.at(kind);
        let average = &amount(source.at("currentAverageValue"));
        let mut current = json!({});
        let mut converted = json!({});
        match kind {
            "resource" | "containerResource" => {
                set(&mut converted, "name", source.str_at("name"));
                if kind == "containerResource" {
                    set(&mut converted, "container", source.str_at("container"));
                }
                set(&mut current, "averageValue", or_zero(average));
                put(
                    &mut current,
                    "averageUtilization",
                    source.at("currentAverageUtilization"),
                );
            }
            "pods" => {
                set(&mut converted, "metric", identity(source, "selector"));
                set(&mut current, "averageValue", or_zero(average));
            }
            "external" => {
                set(&mut converted, "metric", identity(source, "metricSelector"));
                set(&mut current, "value", or_zero(source.at("currentValue")));
                put(&mut current, "averageValue", average);
            }
            _ => {
                set(&mut converted, "metric", identity(source, "selector"));
                set(&mut converted, "describedObject", source.at("target").clone());
                set(&mut current, "value", or_zero(source.at("currentValue")));
                put(&mut current, "averageValue", &amount(source.at("averageValue")));
            }
        }
        set(&mut converted, "current", current);
        set(&mut out, kind, converted);
    }
    out
}

/// Whether a metric is what the older version has a field for.
fn is_cpu(metric: &Value) -> bool {
    metric.str_at("type") == "Resource" && metric.str_at("resource.name") == "cpu"
}

/// Writes an autoscaler of `autoscaling/v2` as one of `autoscaling/v1`.
pub fn autoscaler_to_v1(mut object: Value) -> Value {
    drop_annotations(&mut object);
    let mut annotations = Map::new();
    let metrics = take(&mut object, "spec.metrics");
    let metrics = metrics.as_array().cloned().unwrap_or_default();
    let by_cpu = |metric: &&Value| is_cpu(metric) && metric.has("resource.target.averageUtilization");
    if let Some(cpu) = metrics.iter().find(by_cpu) {
        let percent = cpu.at("resource.target.averageUtilization").clone();
        set(&mut object, "spec.targetCPUUtilizationPercentage", percent);
    }
    let others: Vec<Value> = metrics.iter().filter(|m| !by_cpu(m)).map(metric_to_v1).collect();
    if !others.is_empty() {
        let text = shown_list("autoscaling.MetricSpec", &Value::Array(others));
        annotations.insert(METRICS.to_owned(), text.into());
    }
    let current = take(&mut object, "status.currentMetrics");
    let current = current.as_array().cloned().unwrap_or_default();
    let used = |metric: &&Value| is_cpu(metric) && metric.has("resource.current.averageUtilization");
    if let Some(cpu) = current.iter().rfind(used) {
        let percent = cpu.at("resource.current.averageUtilization").clone();
        set(&mut object, "status.currentCPUUtilizationPercentage", percent);
    }
    if !current.is_empty() {
        let current: Vec<Value> = current.iter().map(status_to_v1).collect();
        let text = shown_list("autoscaling.MetricStatus", &Value::Array(current));
        annotations.insert(CURRENT.to_owned(), text.into());
    }
    let behavior = take(&mut object, "spec.behavior");
    if !behavior.is_null() {
        let text = shown("autoscaling.Behavior", &behavior);
        annotations.insert(BEHAVIOR.to_owned(), text.into());
    }
    let conditions = take(&mut object, "status.conditions");
    if conditions
        .as_array()
        .is_some_and(|conditions| !conditions.is_empty())
    {
        let text = shown_list("autoscaling.Condition", &conditions);
        annotations.insert(CONDITIONS.to_owned(), text.into());
    }
    if !annotations.is_empty() {
        let mut all = object
            .at("metadata.annotations")
            .as_object()
            .cloned()
            .unwrap_or_default();
        all.extend(annotations);
        set(&mut object, "metadata.annotations", all);
    }
    object
}

fn metric_to_v1(metric: &Value) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for kind in SOURCES.into_iter().filter(|kind| metric.has(kind)) {
        let source = metric.at(kind);
        let target = source.at("target");
        let (value, average) = (target.at("value"), target.at("averageValue"));
        let converted = match kind {
            "resource" | "containerResource" => json!({
                "name": source.at("name"), "container": source.at("container"),
                "targetAverageUtilization": target.at("averageUtilization"), "targetAverageValue": average,
            }),
            "external" => json!({
                "metricName": source.at("metric.name"), "metricSelector": source.at("metric.selector"),
                "targetValue": value, "targetAverageValue": average,
            }),
            "pods" => json!({
                "metricName": source.at("metric.name"), "selector": source.at("metric.selector"),
                "targetAverageValue": average,
            }),
            _ => json!({
                "metricName": source.at("metric.name"), "selector": source.at("metric.selector"),
                "target": source.at("describedObject"), "targetValue": value, "averageValue": average,
            }),
        };
        set(&mut out, kind, converted);
    }
    out
}

fn status_to_v1(metric: &Value) -> Value {
    let mut out = json!({"type": metric.str_at("type")});
    for kind in SOURCES.into_iter().filter(|kind| metric.has(kind)) {
        let source = metric.at(kind);
        let current = source.at("current");
        let (value, average) = (current.at("value"), current.at("averageValue"));
        let converted = match kind {
            "resource" | "containerResource" => json!({
                "name": source.at("name"), "container": source.at("container"),
                "currentAverageUtilization": current.at("averageUtilization"), "currentAverageValue": average,
            }),
            "external" => json!({
                "metricName": source.at("metric.name"), "metricSelector": source.at("metric.selector"),
                "currentValue": value, "currentAverageValue": average,
            }),
            "pods" => json!({
                "metricName": source.at("metric.name"), "selector": source.at("metric.selector"),
                "currentAverageValue": average,
            }),
            _ => json!({
                "metricName": source.at("metric.name"), "selector": source.at("metric.selector"),
                "target": source.at("describedObject"), "currentValue": value, "averageValue": average,
            }),
        };
        set(&mut out, kind, converted);
    }
    out
}
