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
        let found = go_name(patch);
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        )));
    };
    for operation in list {
        typed(operation)?;
    }
    let operations: Vec<PatchOperation> = list
        .iter()
        .map(|operation| serde_json::from_value(as_understood(operation)))
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
        if lenient(&mut out, operation) {
            continue;
        }
        json_patch::patch(&mut out, std::slice::from_ref(operation)).map_err(|_| refused())?;
    }
    Ok(out)
}

/// Refuses what is no operation by its JSON types.
fn typed(operation: &Value) -> Result<(), Status> {
    let wrong = |found: &Value, into: &str| {
        let found = go_name(found);
        Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {found} into Go {into}"
        ))
    };
    match operation {
        Value::Null => Ok(()),
        Value::Object(fields) => {
            for name in ["op", "path", "from"] {
                if let Some(value) = fields.get(name)
                    && !value.is_string()
                    && !value.is_null()
                {
                    return Err(wrong(
                        value,
                        &format!("struct field jsonPatchOp.{name} of type string"),
                    ));
                }
            }
            // The root itself can be neither replaced nor looked at.
            let nowhere = |name: &str| fields.get(name).and_then(Value::as_str) == Some("");
            match nowhere("path") || nowhere("from") {
                true => Err(refused()),
                false => Ok(()),
            }
        }
        other => Err(wrong(other, "value of type handlers.jsonPatchOp")),
    }
}

/// An operation as upstream's library reads it: a tilde that escapes nothing is a tilde, and no value is null.
fn as_understood(operation: &Value) -> Value {
    let mut operation = operation.clone();
    let wants_value = matches!(operation["op"].as_str(), Some("add" | "replace" | "test"));
    if let Some(fields) = operation.as_object_mut() {
        if wants_value {
            fields.entry("value").or_insert(Value::Null);
        }
        for name in ["path", "from"] {
            if let Some(Value::String(path)) = fields.get_mut(name) {
                let mut parts = path.split('~');
                let mut out = parts.next().unwrap_or("").to_owned();
                for part in parts {
                    out.push_str(if part.starts_with(['0', '1']) { "~" } else { "~0" });
                    out.push_str(part);
                }
                *path = out;
            }
        }
    }
    operation
}

/// Does what upstream's library does although the RFC forbids it: a field that is not there can be replaced, copied (as
/// null) and found to be null. Whether that was all of the operation.
fn lenient(doc: &mut Value, operation: &PatchOperation) -> bool {
    fn free<'d>(doc: &'d mut Value, path: &str) -> Option<(&'d mut serde_json::Map<String, Value>, String)> {
        let (above, name) = path.rsplit_once('/')?;
        let name = name.replace("~1", "/").replace("~0", "~");
        let fields = doc.pointer_mut(above)?.as_object_mut()?;
        (!fields.contains_key(&name)).then_some((fields, name))
    }
    match operation {
        PatchOperation::Replace(replace) => match free(doc, replace.path.as_str()) {
            Some((fields, name)) => {
                fields.insert(name, replace.value.clone());
                true
            }
            None => false,
        },
        PatchOperation::Test(test) => test.value.is_null() && free(doc, test.path.as_str()).is_some(),
        PatchOperation::Copy(copy) if free(doc, copy.from.as_str()).is_some() => {
            match free(doc, copy.path.as_str()) {
                Some((fields, name)) => {
                    fields.insert(name, Value::Null);
                    true
                }
                None => false,
            }
        }
        _ => false,
    }
}

/// The name of a value's type in Go's messages.
fn go_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as Go prints it (`%v`).
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_text).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut entries: Vec<(&String, &Value)> = fields.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            let entries: Vec<String> = entries
                .iter()
                .map(|(n, v)| format!("{n}:{}", go_text(v)))
                .collect();
            format!("map[{}]", entries.join(" "))
        }
    }
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
    if patch.is_null() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    if !patch.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_name(patch)
        )));
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
        // What the RFC forbids and upstream's library does.
        for (patch, wanted) in [
            (
                json!([{"op": "replace", "path": "/new", "value": 1}]),
                json!({"new": 1}),
            ),
            (json!([{"op": "add", "path": "/new"}]), json!({"new": null})),
            (
                json!([{"op": "copy", "from": "/none", "path": "/new"}]),
                json!({"new": null}),
            ),
            (
                json!([{"op": "test", "path": "/none", "value": null}, {"op": "add", "path": "/a~2b", "value": 1}]),
                json!({"a~2b": 1}),
            ),
        ] {
            assert_eq!(json_patch(&json!({}), &patch).unwrap(), wanted, "{patch}");
        }
        for (patch, words) in [
            (
                json!([1]),
                "error decoding patch: json: cannot unmarshal number into Go value of type handlers.jsonPatchOp",
            ),
            (
                json!([{"op": 1}]),
                "error decoding patch: json: cannot unmarshal number into Go struct field jsonPatchOp.op of type string",
            ),
        ] {
            assert_eq!(json_patch(&json!({}), &patch).unwrap_err().message, words);
        }
        for (patch, code) in [
            (json!({"op": "add"}), 400),
            (json!([{"op": "no", "path": "/a"}]), 422),
            (json!([{"op": "replace", "path": "", "value": {}}]), 422),
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
