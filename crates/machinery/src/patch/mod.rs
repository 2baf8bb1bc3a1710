//! The three patches that are pure functions of document and patch: JSON Patch (RFC 6902), JSON merge patch (RFC 7396)
//! and Kubernetes' strategic merge patch (`strategic`). Server-side apply has a module of its own.

mod operations;
mod strategic;

use crate::yaml::float_text;
use kinds::status::Status;
use serde_json::Value;

pub use operations::apply as apply_operations;
pub use strategic::strategic_merge_patch;

/// What stands before the faults of a patch whose fields are judged.
const DECODING: &str = "error decoding patch: ";

/// Applies a JSON Patch. `strict` when its fields are judged, for which upstream reads it once more before.
///
/// # Errors
/// 400 for a patch that is none, 422 for one that does not apply.
pub fn json_patch(doc: &Value, patch: &Value, strict: bool) -> Result<Value, Status> {
    let bad = |found: &Value, as_judged: &str, as_applied: &str| {
        let found = go_name(found);
        Status::bad_request(match strict {
            true => format!("{DECODING}json: cannot unmarshal {found} into Go {as_judged}"),
            false => format!("json: cannot unmarshal {found} into Go {as_applied}"),
        })
    };
    let list = match patch {
        // To Go, null is the empty list.
        Value::Null => return Ok(doc.clone()),
        Value::Array(list) => list,
        other => {
            let (judged, applied) = (
                "value of type []handlers.jsonPatchOp",
                "value of type jsonpatch.Patch",
            );
            return Err(bad(other, judged, applied));
        }
    };
    for operation in list {
        let Value::Object(fields) = operation else {
            if operation.is_null() {
                continue;
            }
            let (judged, applied) = (
                "value of type handlers.jsonPatchOp",
                "value of type jsonpatch.Operation",
            );
            return Err(bad(operation, judged, applied));
        };
        for name in ["op", "path", "from"] {
            if let Some(value) = fields
                .get(name)
                .filter(|v| strict && !v.is_string() && !v.is_null())
            {
                let judged = format!("struct field jsonPatchOp.{name} of type string");
                return Err(bad(value, &judged, ""));
            }
        }
    }
    operations::apply(doc, list).map_err(|_| refused())
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
        Value::Number(number) if number.is_f64() => float_text(number.as_f64().unwrap_or_default()),
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

/// The 422 for an operation that cannot be done; upstream does not tell more.
fn refused() -> Status {
    let mut status = Status::invalid("", "", "", Vec::new());
    status.message = "the server rejected our request due to an error in our request".into();
    status
}

/// Applies a JSON merge patch: objects are merged, null removes, everything else replaces. `strict` when its fields are judged,
/// for which upstream reads it once more before.
///
/// # Errors
/// 400 for a patch that is no object.
pub fn merge_patch(doc: &Value, patch: &Value, strict: bool) -> Result<Value, Status> {
    if patch.is_array() && !strict {
        let mut list = patch.clone();
        drop_nulls(&mut list);
        return Ok(list);
    }
    if patch.is_null() || !strict && !patch.is_object() {
        return Err(Status::bad_request("Invalid JSON Patch"));
    }
    if !patch.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_name(patch)
        )));
    }
    let mut out = doc.clone();
    merge(&mut out, patch);
    Ok(out)
}

/// Merges as upstream's library does: what takes the place of nothing, or of what is no object, loses its nulls, also those
/// of objects in its lists.
fn merge(doc: &mut Value, patch: &Value) {
    let (Value::Object(fields), Value::Object(patches)) = (doc, patch) else {
        return;
    };
    for (name, new) in patches {
        match fields.get_mut(name) {
            _ if new.is_null() => {
                fields.remove(name);
            }
            Some(old @ Value::Object(_)) if new.is_object() => merge(old, new),
            Some(old @ Value::Object(_)) => *old = new.clone(),
            _ => {
                let mut new = new.clone();
                drop_nulls(&mut new);
                fields.insert(name.clone(), new);
            }
        }
    }
}

/// Takes the fields that are null out of a value.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
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
            false,
        );
        assert_eq!(
            done.unwrap(),
            json!({"spec": {"replicas": 3, "list": ["a", "b"]}})
        );
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
            assert_eq!(json_patch(&json!({}), &patch, true).unwrap_err().message, words);
        }
        for (patch, code) in [
            (json!({"op": "add"}), 400),
            (json!([{"op": "no", "path": "/a"}]), 422),
            (json!([{"op": "replace", "path": "", "value": 1}]), 422),
            (json!([{"op": "remove", "path": "/nothing"}]), 422),
            (json!([{"op": "test", "path": "/spec/replicas", "value": 2}]), 422),
        ] {
            assert_eq!(json_patch(&doc, &patch, true).unwrap_err().code, code, "{patch}");
        }
    }

    #[test]
    fn merge_patches() {
        let doc = json!({"a": 1});
        let doc = merge_patch(&doc, &json!({"a": null, "b": {"c": 1, "d": null}}), true).unwrap();
        assert_eq!(doc, json!({"b": {"c": 1}}));
        let lists = merge_patch(
            &doc,
            &json!({"list": [{"n": null, "x": [null]}], "b": [{"n": null}]}),
            true,
        )
        .unwrap();
        assert_eq!(lists, json!({"list": [{"x": [null]}], "b": [{"n": null}]}));
        for (patch, strict, outcome) in [
            (
                json!([1]),
                true,
                Err(
                    "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
                ),
            ),
            (json!([{"a": null}]), false, Ok(json!([{}]))),
            (json!("x"), false, Err("Invalid JSON Patch")),
            (json!(null), true, Err("Invalid JSON Patch")),
        ] {
            let done = merge_patch(&doc, &patch, strict).map_err(|status| status.message);
            assert_eq!(done, outcome.map_err(str::to_owned), "{patch}");
        }
    }
}
