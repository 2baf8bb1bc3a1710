//! The operations of a JSON Patch as upstream's library does them, which is more lenient than RFC 6902 and has words of its
//! own: a field that is not there can be replaced, copied (as null) and found to be null; an index may be negative, which
//! counts from the end; what stands before the first slash of a path does not matter.

use serde_json::Value;

/// Bytes that all `copy` operations of one patch may add (CVE-2019-1002100): that of the largest body.
const MAX_COPIED: usize = 3 * 1024 * 1024;

const MISSING: &str = "missing value";
const BAD_INDEX: &str = "invalid index referenced";
const TEST_FAILED: &str = "test failed";

/// An operation that cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Undone {
    words: String,
    /// It is a test that did not come out.
    pub is_test: bool,
}

impl From<String> for Undone {
    fn from(words: String) -> Undone {
        Undone {
            words,
            is_test: false,
        }
    }
}

/// Applies all operations of a patch, a list of objects.
///
/// # Errors
/// What the library says of the first operation that cannot be done.
pub fn apply(doc: &Value, operations: &[Value]) -> Result<Value, Undone> {
    let mut out = doc.clone();
    let mut copied = 0;
    for operation in operations {
        match operation["op"].as_str().unwrap_or("unknown") {
            "add" => add(&mut out, operation)?,
            "remove" => remove(&mut out, operation)?,
            "replace" => replace(&mut out, operation)?,
            "move" => relocate(&mut out, operation)?,
            "test" => test(&mut out, operation)?,
            "copy" => copy(&mut out, operation, &mut copied)?,
            other => return Err(format!("Unexpected kind: {other}").into()),
        }
    }
    Ok(out)
}

/// What holds the end of a path.
enum Place<'d> {
    Fields(&'d mut serde_json::Map<String, Value>),
    Items(&'d mut Vec<Value>),
}

/// The holder of the end of a path, and the key in it.
fn find<'d>(doc: &'d mut Value, path: &str) -> Option<(Place<'d>, String)> {
    let parts: Vec<&str> = path.split('/').collect();
    let (key, above) = parts.get(1..)?.split_last()?;
    let mut at = doc;
    for part in above {
        let name = unescaped(part);
        at = match at {
            Value::Object(fields) => fields.get_mut(&name)?,
            Value::Array(items) => {
                let index = existing(&name, items.len()).ok()?;
                items.get_mut(index)?
            }
            _ => return None,
        };
    }
    let place = match at {
        Value::Object(fields) => Place::Fields(fields),
        Value::Array(items) => Place::Items(items),
        _ => return None,
    };
    Some((place, unescaped(key)))
}

/// A part of a path as the name that it stands for; a tilde that escapes nothing is a tilde.
fn unescaped(part: &str) -> String {
    let mut out = String::new();
    let mut rest = part;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        let (written, meant) = match rest.as_bytes().get(at + 1) {
            Some(b'0') => (2, '~'),
            Some(b'1') => (2, '/'),
            _ => (1, '~'),
        };
        out.push(meant);
        rest = &rest[at + written..];
    }
    out.push_str(rest);
    out
}

/// A number as Go reads one.
fn number(key: &str) -> Result<i64, String> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match key.parse() {
        Ok(number) if well_formed => Ok(number),
        _ if well_formed => Err(format!("strconv.Atoi: parsing {key:?}: value out of range")),
        _ => Err(format!("strconv.Atoi: parsing {key:?}: invalid syntax")),
    }
}

/// The index that a key means among `count` places; a negative one counts from the end.
fn place(index: i64, count: usize) -> Result<usize, String> {
    let from_start = match index < 0 {
        true => i64::try_from(count).unwrap_or(i64::MAX).saturating_add(index),
        false => index,
    };
    usize::try_from(from_start)
        .ok()
        .filter(|at| *at < count)
        .ok_or_else(|| format!("Unable to access invalid index: {index}: {BAD_INDEX}"))
}

/// The index of an item that is there.
fn existing(key: &str, count: usize) -> Result<usize, String> {
    place(number(key)?, count)
}

impl Place<'_> {
    /// What stands at a key. A field that is not there is nothing, and no error.
    fn get(&self, key: &str) -> Result<Option<&Value>, String> {
        match self {
            Place::Fields(fields) => Ok(fields.get(key)),
            Place::Items(items) => Ok(items.get(existing(key, items.len())?)),
        }
    }

    fn add(&mut self, key: &str, value: Value) -> Result<(), String> {
        match self {
            Place::Fields(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Place::Items(items) if key == "-" => items.push(value),
            Place::Items(items) => {
                let index = number(key)
                    .map_err(|why| format!("value was not a proper array index: '{key}': {why}"))?;
                let at = place(index, items.len() + 1)?;
                items.insert(at, value);
            }
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<Value, String> {
        match self {
            Place::Fields(fields) => fields
                .remove(key)
                .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}")),
            Place::Items(items) => {
                let at = existing(key, items.len())?;
                Ok(items.remove(at))
            }
        }
    }

    /// Puts a value in the place of one that has been looked up.
    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        match self {
            Place::Fields(fields) => {
                fields.insert(key.to_owned(), value);
            }
            Place::Items(items) => {
                let at = existing(key, items.len())?;
                items[at] = value;
            }
        }
        Ok(())
    }
}

fn path<'o>(operation: &'o Value, what: &str) -> Result<&'o str, String> {
    operation["path"].as_str().ok_or_else(|| {
        let why = match what {
            "add" | "remove" => MISSING.to_owned(),
            _ => format!("operation missing path field: {MISSING}"),
        };
        format!("{what} operation failed to decode path: {why}")
    })
}

fn from<'o>(operation: &'o Value, what: &str) -> Result<&'o str, String> {
    operation["from"].as_str().ok_or_else(|| {
        format!("{what} operation failed to decode from: operation, missing from field: {MISSING}")
    })
}

fn add(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = path(operation, "add")?;
    let (mut holder, key) = find(doc, path)
        .ok_or_else(|| format!("add operation does not apply: doc is missing path: \"{path}\": {MISSING}"))?;
    holder
        .add(&key, operation["value"].clone())
        .map_err(|why| format!("error in add for path: '{path}': {why}"))
}

fn remove(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = path(operation, "remove")?;
    let (mut holder, key) = find(doc, path).ok_or_else(|| {
        format!("remove operation does not apply: doc is missing path: \"{path}\": {MISSING}")
    })?;
    let removed = holder.remove(&key);
    removed
        .map(drop)
        .map_err(|why| format!("error in remove for path: '{path}': {why}"))
}

fn replace(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let path = path(operation, "replace")?;
    let value = &operation["value"];
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array: %!w(<nil>)".to_owned());
        }
        *doc = value.clone();
        return Ok(());
    }
    let (mut holder, key) = find(doc, path)
        .ok_or_else(|| format!("replace operation does not apply: doc is missing path: {path}: {MISSING}"))?;
    if holder.get(&key).is_err() {
        return Err(format!(
            "replace operation does not apply: doc is missing key: {path}: {MISSING}"
        ));
    }
    holder
        .set(&key, value.clone())
        .map_err(|why| format!("error in remove for path: '{path}': {why}"))
}

/// `move`.
fn relocate(doc: &mut Value, operation: &Value) -> Result<(), String> {
    let from = from(operation, "move")?;
    let (mut holder, key) = find(doc, from).ok_or_else(|| {
        format!("move operation does not apply: doc is missing from path: {from}: {MISSING}")
    })?;
    let moved = holder
        .remove(&key)
        .map_err(|why| format!("error in move for path: '{key}': {why}"))?;
    let path = path(operation, "move")?;
    let (mut holder, key) = find(doc, path).ok_or_else(|| {
        format!("move operation does not apply: doc is missing destination path: {path}: {MISSING}")
    })?;
    holder
        .add(&key, moved)
        .map_err(|why| format!("error in move for path: '{path}': {why}"))
}

fn test(doc: &mut Value, operation: &Value) -> Result<(), Undone> {
    let path = path(operation, "test")?;
    let wanted = &operation["value"];
    let failed = || Undone {
        words: format!("testing value {path} failed: {TEST_FAILED}"),
        is_test: true,
    };
    if path.is_empty() {
        return if doc == wanted { Ok(()) } else { Err(failed()) };
    }
    let (holder, key) = find(doc, path)
        .ok_or_else(|| format!("test operation does not apply: is missing path: {path}: {MISSING}"))?;
    let found = holder
        .get(&key)
        .map_err(|why| format!("error in test for path: '{path}': {why}"))?;
    if found.unwrap_or(&Value::Null) == wanted {
        Ok(())
    } else {
        Err(failed())
    }
}

fn copy(doc: &mut Value, operation: &Value, copied: &mut usize) -> Result<(), String> {
    let from = from(operation, "copy")?;
    let (holder, key) = find(doc, from).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing from path: {from}: {MISSING}")
    })?;
    let value = holder
        .get(&key)
        .map_err(|why| format!("error in copy for from: '{from}': {why}"))?
        .cloned();
    let path = path(operation, "copy")?;
    let (mut holder, key) = find(doc, path).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing destination path: {path}: {MISSING}")
    })?;
    *copied += value.as_ref().map_or(0, size);
    if *copied > MAX_COPIED {
        return Err(format!(
            "unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
        ));
    }
    holder
        .add(&key, value.unwrap_or_default())
        .map_err(|why| format!("error while adding value during copy: {why}"))
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

#[cfg(test)]
mod tests {
    use super::apply;
    use serde_json::{Value, json};

    fn patched(doc: &Value, patch: &Value) -> Result<Value, String> {
        apply(doc, patch.as_array().expect("a list")).map_err(|undone| undone.to_string())
    }

    /// Where upstream's library and the RFC agree, and where they do not.
    #[test]
    fn operations() {
        let doc = json!({"a": {"b": [1, 2, 3]}, "n": null});
        for (patch, wanted) in [
            (
                json!([{"op": "replace", "path": "/a/b/-1", "value": 9}]),
                json!({"a": {"b": [1, 2, 9]}, "n": null}),
            ),
            (
                json!([{"op": "add", "path": "/a/b/-1", "value": 9}, {"op": "add", "path": "/a/b/-5", "value": 0}]),
                json!({"a": {"b": [0, 1, 2, 3, 9]}, "n": null}),
            ),
            (
                json!([{"op": "remove", "path": "/a/b/-3"}, {"op": "remove", "path": "elsewhere/n"}]),
                json!({"a": {"b": [2, 3]}}),
            ),
            (
                json!([{"op": "move", "from": "/a/b/0", "path": "/m"}, {"op": "copy", "from": "/none", "path": "/c"}]),
                json!({"a": {"b": [2, 3]}, "n": null, "m": 1, "c": null}),
            ),
            (
                json!([{"op": "replace", "path": "/new", "value": 1}, {"op": "add", "path": "/a~2b"}]),
                json!({"a": {"b": [1, 2, 3]}, "n": null, "new": 1, "a~2b": null}),
            ),
            (
                json!([{"op": "test", "path": "/none", "value": null}, {"op": "test", "path": "/n"},
                    {"op": "replace", "path": "", "value": {"x": 1}}, {"op": "test", "path": "", "value": {"x": 1}}]),
                json!({"x": 1}),
            ),
        ] {
            assert_eq!(patched(&doc, &patch).unwrap(), wanted, "{patch}");
        }
        for (patch, words) in [
            (json!([{"op": "no", "path": "/a"}]), "Unexpected kind: no"),
            (
                json!([{"op": "add", "value": 1}]),
                "add operation failed to decode path: missing value",
            ),
            (
                json!([{"op": "add", "path": "", "value": 1}]),
                "add operation does not apply: doc is missing path: \"\": missing value",
            ),
            (
                json!([{"op": "add", "path": "/a/b/4", "value": 1}]),
                "error in add for path: '/a/b/4': Unable to access invalid index: 4: invalid index referenced",
            ),
            (
                json!([{"op": "remove", "path": "/a/b/x"}]),
                "error in remove for path: '/a/b/x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                json!([{"op": "remove", "path": "/none"}]),
                "error in remove for path: '/none': Unable to remove nonexistent key: none: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/n/x", "value": 1}]),
                "replace operation does not apply: doc is missing path: /n/x: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/a/b/3", "value": 1}]),
                "replace operation does not apply: doc is missing key: /a/b/3: missing value",
            ),
            (
                json!([{"op": "test", "path": "/a/b/0", "value": 2}]),
                "testing value /a/b/0 failed: test failed",
            ),
            (
                json!([{"op": "copy", "path": "/a"}]),
                "copy operation failed to decode from: operation, missing from field: missing value",
            ),
        ] {
            assert_eq!(patched(&doc, &patch).unwrap_err(), words, "{patch}");
        }
    }

    #[test]
    fn copies_are_bounded() {
        let doc = json!({"a": ["x".repeat(1000)]});
        let copies: Vec<Value> = (0..30)
            .map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"}))
            .collect();
        let refused = apply(&doc, &copies).unwrap_err().to_string();
        assert!(refused.contains("exceeding the limit 3145728"), "{refused}");
    }
}
