//! Node selectors: whether a node is one that a Pod asks for. Used by the scheduler and by DaemonSets.

use crate::obj::{items, label, meta, text};
use serde_json::Value;

/// One term of a node selector.
pub fn term(term: &Value, node: &Value) -> bool {
    let (expressions, fields) = (items(term, "/matchExpressions"), items(term, "/matchFields"));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let labels = |key: &str| node["metadata"]["labels"][key].as_str().map(str::to_string);
    let field = |key: &str| (key == "metadata.name").then(|| meta(node, "name").to_string());
    expressions.iter().all(|e| expression(e, labels(text(e, "/key"))))
        && fields.iter().all(|e| expression(e, field(text(e, "/key"))))
}

fn expression(e: &Value, has: Option<String>) -> bool {
    let values = items(e, "/values");
    let one_of = || has.as_deref().is_some_and(|h| values.iter().any(|v| v == h));
    let compare = |f: fn(i64, i64) -> bool| {
        let right = values
            .first()
            .and_then(Value::as_str)
            .and_then(|v| v.parse().ok());
        matches!((has.as_deref().and_then(|h| h.parse().ok()), right), (Some(l), Some(r)) if f(l, r))
    };
    match text(e, "/operator") {
        "In" => one_of(),
        "NotIn" => !one_of(),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => compare(|l, r| l > r),
        "Lt" => compare(|l, r| l < r),
        _ => false,
    }
}

/// `nodeSelector` and required node affinity of a Pod or a Pod template.
pub fn affine(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    let mut plain = selector
        .map(|(k, v)| v.as_str() == Some(label(node, k)) && node["metadata"]["labels"].get(k).is_some());
    let required = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    let terms = pod.pointer(required).filter(|r| !r.is_null());
    plain.all(|ok| ok) && terms.is_none_or(|r| items(r, "/nodeSelectorTerms").iter().any(|t| term(t, node)))
}
