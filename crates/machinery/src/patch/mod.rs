//! The three patches that are pure functions of document and patch: JSON Patch (RFC 6902), JSON merge patch (RFC 7396)
//! and Kubernetes' strategic merge patch (`strategic`). Server-side apply has a module of its own.

mod strategic;

use json_patch::PatchOperation;
use kinds::status::Status;
use serde_json::Value;

pub use strategic::strategic_merge_patch;

/// Bytes that all `copy` operations of one patch may add (CVE-2019-1002100): that of the largest body.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON Patch.
///
/// # Errors
/// 400 for a patch that is none, 422 for one that does not apply, 413 for one that copies without end.
pub fn json_patch(doc: &Value, patch: &Value) -> Result<Value, Status> {
    // To Go, null is the empty list.
    if patch.is_null() {
        return Ok(doc.clone());
    }
    let Value::Array(list) = patch else {
        let found = match patch {
            Value::Object(_) => "object",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            _ => "number",
        };
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    let operations: Vec<PatchOperation> = list
        .iter()
        .map(|operation| serde_json::from_value(operation.clone()))
        .collect::<Result<_, _>>()
        .map_err(|_| refused())?;
    let mut out = doc.clone();
    let mut copied = 0;
    for operation in &operations {
        if let PatchOperation::Copy(copy) = operation {
            copied += out.pointer(copy.from.as_str()).map_or(0, size);
            if copied > MAX_COPIED {
                return Err(Status::request_entity_too_large(format!(
                    "unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the \
                     limit {MAX_COPIED}"
                )));
            }
        }
        json_patch::patch(&mut out, std::slice::from_ref(operation)).map_err(|_| refused())?;
    }
    Ok(out)
}

/// A rough length of a value's JSON text.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|v| size(v) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(k, v)| k.len() + size(v) + 4).sum::<usize>(),
        _ => 5,
    }
}

/// The 422 for an operation that cannot be done; upstream does not tell more.
fn refused() -> Status {
    let mut status = Status::invalid("", "", "", Vec::new());
    status.message = "the server rejected our request due to an error in our request".into();
    status
}

/// Applies a JSON merge patch: objects are merged, null removes, everything else replaces.
///
/// # Errors
/// 400 for a patch that is no object.
pub fn merge_patch(doc: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ));
    }
    let mut out = doc.clone();
    json_patch::merge(&mut out, patch);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_patches() {
        let doc = json!({"spec": {"replicas": 1, "list": ["a"]}});
        let done = json_patch(
            &doc,
            &json!([{"op": "test", "path": "/spec/replicas", "value": 1},
                {"op": "replace", "path": "/spec/replicas", "value": 3}, {"op": "add", "path": "/spec/list/-", "value": "b"}]),
        );
        assert_eq!(
            done.unwrap(),
            json!({"spec": {"replicas": 3, "list": ["a", "b"]}})
        );
        for (patch, code) in [
            (json!({"op": "add"}), 400),
            (json!([{"op": "no", "path": "/a"}]), 422),
            (json!([{"op": "remove", "path": "/nothing"}]), 422),
            (json!([{"op": "test", "path": "/spec/replicas", "value": 2}]), 422),
        ] {
            assert_eq!(json_patch(&doc, &patch).unwrap_err().code, code, "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let mut doc = json!({"a": ["x".repeat(1000)]});
        let copies: Vec<Value> = (0..30)
            .map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"}))
            .collect();
        assert_eq!(json_patch(&doc, &Value::Array(copies)).unwrap_err().code, 413);
        doc = merge_patch(&doc, &json!({"a": null, "b": {"c": 1, "d": null}})).unwrap();
        assert_eq!(doc, json!({"b": {"c": 1}}));
        assert_eq!(merge_patch(&doc, &json!([1])).unwrap_err().code, 400);
    }
}
