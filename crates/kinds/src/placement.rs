//! Whether a node is one that a Pod asks for and may stay on: node selectors, taints. Used by the scheduler, by
//! DaemonSets, by storage, and by a host that was handed a Pod past the scheduler.

use serde_json::Value;

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("")
}

/// Whether a node fits one term of a node selector.
pub fn term(term: &Value, node: &Value) -> bool {
    let (expressions, fields) = (items(term, "matchExpressions"), items(term, "matchFields"));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node["metadata"]["labels"][key].as_str();
    let field = |key: &str| (key == "metadata.name").then(|| text(&node["metadata"], "name"));
    expressions.iter().all(|e| expression(e, label(text(e, "key"))))
        && fields.iter().all(|e| expression(e, field(text(e, "key"))))
}

fn expression(expression: &Value, has: Option<&str>) -> bool {
    let values = items(expression, "values");
    let one_of = || has.is_some_and(|has| values.iter().any(|value| value == has));
    let compare = |holds: fn(i64, i64) -> bool| {
        let right = values.first().and_then(Value::as_str);
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        matches!((number(has), number(right)), (Some(left), Some(right)) if holds(left, right))
    };
    match text(expression, "operator") {
        "In" => one_of(),
        "NotIn" => !one_of(),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}

/// `nodeSelector` and required node affinity of a Pod or a Pod template.
pub fn affine(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selector = pod["spec"]["nodeSelector"].as_object();
    let mut plain = selector
        .into_iter()
        .flatten()
        .map(|(key, value)| labels.get(key).is_some_and(|label| label == value));
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    plain.all(|fits| fits)
        && (required.is_null() || items(required, "nodeSelectorTerms").iter().any(|t| term(t, node)))
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let (key, effect) = (text(toleration, "key"), text(toleration, "effect"));
    let exists = text(toleration, "operator") == "Exists";
    (effect.is_empty() || taint["effect"] == effect)
        && (taint["key"] == key || (key.is_empty() && exists))
        && (exists || text(toleration, "value") == text(taint, "value"))
}

/// A taint of the node with this effect that the Pod does not tolerate.
pub fn untolerated<'n>(pod: &Value, node: &'n Value, effect: &str) -> Option<&'n Value> {
    let tolerations = items(&pod["spec"], "tolerations");
    let mut taints = items(&node["spec"], "taints").iter();
    taints.find(|taint| taint["effect"] == effect && !tolerations.iter().any(|t| tolerates(t, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_and_nodes() {
        let node = json!({"metadata": {"name": "one", "labels": {"zone": "a", "cores": "8"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoExecute"}]}});
        let required = |terms: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": terms}}}})
        };
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeSelector": {"zone": "a"}}), true),
            (json!({"nodeSelector": {"zone": "b"}}), false),
            (json!({"nodeSelector": {"none": ""}}), false),
            (required(json!([{}])), false),
            (
                required(
                    json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}]),
                ),
                true,
            ),
            (
                required(
                    json!([{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["8"]}]}]),
                ),
                false,
            ),
            (
                required(
                    json!([{"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["9"]},
                    {"key": "none", "operator": "DoesNotExist"}]}]),
                ),
                true,
            ),
            (
                required(
                    json!([{"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]},
                    {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]),
                ),
                true,
            ),
        ] {
            assert_eq!(affine(&json!({"spec": spec}), &node), expected, "{spec}");
        }
        for (toleration, expected) in [
            (json!({}), false),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "gpu", "operator": "Equal", "value": "yes"}), true),
            (
                json!({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}),
                false,
            ),
        ] {
            let pod = json!({"spec": {"tolerations": [toleration]}});
            let found = untolerated(&pod, &node, "NoExecute");
            assert_eq!(found.is_none(), expected, "{toleration}");
        }
        assert!(untolerated(&json!({}), &node, "NoSchedule").is_none());
    }
}
