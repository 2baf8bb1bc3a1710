//! The flow schemas and priority levels that every cluster has: their specs are fixed, but for what is lent of `exempt`.
//! Source: `k8s.io/api/flowcontrol` as `pkg/apis/flowcontrol/internalbootstrap` has it.

use super::errors::Errors;
use super::internal;
use crate::walk::At;
use kinds::field::Path;
use serde_json::{Value, json};

/// Names of both kinds of them.
pub const NAMES: [&str; 2] = ["exempt", "catch-all"];

/// The spec that one of them must have.
pub fn mandatory_spec(kind: &str, name: &str) -> Option<Value> {
    let to_everything = |groups: &[&str]| {
        let group = |name: &&str| json!({"kind": "Group", "group": {"name": name}});
        json!([{"subjects": groups.iter().map(group).collect::<Vec<_>>(),
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true,
                "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}])
    };
    Some(match (kind, name) {
        ("FlowSchema", "exempt") => {
            json!({"matchingPrecedence": 1, "priorityLevelConfiguration": {"name": name},
            "rules": to_everything(&["system:masters"])})
        }
        ("FlowSchema", "catch-all") => {
            json!({"matchingPrecedence": 10_000, "priorityLevelConfiguration": {"name": name},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": to_everything(&["system:unauthenticated", "system:authenticated"])})
        }
        ("PriorityLevelConfiguration", "exempt") => {
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})
        }
        ("PriorityLevelConfiguration", "catch-all") => json!({"type": "Limited",
            "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        _ => return None,
    })
}

/// Refuses another spec than the fixed one.
pub(super) fn check(kind: &str, obj: &Value, errors: &mut Errors) {
    let name = obj.str_at("metadata.name");
    let Some(mut fixed) = mandatory_spec(kind, name) else {
        return;
    };
    let spec = obj.at("spec");
    let free = kind == "PriorityLevelConfiguration" && name == "exempt";
    if free {
        fixed["exempt"] = spec.at("exempt").clone();
    }
    if bare(spec) == bare(&fixed) {
        return;
    }
    let but = if free {
        " except the 'spec.exempt' field"
    } else {
        ""
    };
    let shown = internal::line(&format!("{kind}Spec"), spec);
    let text = format!("spec of '{name}'{but} must equal the fixed value");
    errors.invalid_shown(&Path::new("spec"), &shown, &text);
}

/// Without what only says "nothing".
fn bare(value: &Value) -> Value {
    let says = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) | Value::Bool(true) => true,
    };
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| says(value));
            fields.map(|(name, value)| (name.clone(), bare(value))).collect()
        }
        Value::Array(list) => list.iter().map(bare).collect(),
        other => other.clone(),
    }
}
