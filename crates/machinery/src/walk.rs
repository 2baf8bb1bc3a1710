//! Reading and changing JSON objects by dotted path, in the way typed Kubernetes code reads structs: what is absent, null
//! or of another type reads as the zero value. Defaulting, validation and strategies are written on top of this, so that
//! they stay as short as their upstream originals and never panic on odd input.

use serde_json::{Map, Value};

/// A JSON object's fields.
pub(crate) type Fields = Map<String, Value>;

static NULL: Value = Value::Null;

/// Zero-value reads.
pub(crate) trait At {
    /// The value at a dotted path, null when absent.
    fn at(&self, path: &str) -> &Value;
    /// The string at a path, empty when absent.
    fn str_at(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or("")
    }
    /// The integer at a path, if there is one.
    fn int_at(&self, path: &str) -> Option<i64> {
        self.at(path).as_i64()
    }
    /// The boolean at a path, false when absent.
    fn bool_at(&self, path: &str) -> bool {
        self.at(path).as_bool().unwrap_or(false)
    }
    /// The list at a path, empty when absent.
    fn list_at(&self, path: &str) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }
    /// The entries of the map at a path, none when absent.
    fn entries_at(&self, path: &str) -> Vec<(&String, &Value)> {
        self.at(path)
            .as_object()
            .map(|m| m.iter().collect())
            .unwrap_or_default()
    }
    /// The strings of a list at a path.
    fn strings_at(&self, path: &str) -> Vec<&str> {
        self.list_at(path).iter().filter_map(Value::as_str).collect()
    }
    /// Whether something other than null is at a path.
    fn has(&self, path: &str) -> bool {
        !self.at(path).is_null()
    }
    /// Whether the value at a path is absent, an empty string, list or map: what Go's `len(x) == 0` means.
    fn is_empty_at(&self, path: &str) -> bool {
        match self.at(path) {
            Value::Null => true,
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(m) => m.is_empty(),
            _ => false,
        }
    }
}

/// The first step of a dotted path, and the rest. Steps are short and this is asked some hundred times an object, which is
/// where a loop over bytes is faster than what the library has for texts of any length.
fn first_step(path: &str) -> (&str, Option<&str>) {
    match path.bytes().position(|byte| byte == b'.') {
        Some(dot) => (&path[..dot], Some(&path[dot + 1..])),
        None => (path, None),
    }
}

/// A dotted path without its last step, and that step.
fn holder_and_field(path: &str) -> (&str, &str) {
    match path.bytes().rposition(|byte| byte == b'.') {
        Some(dot) => (&path[..dot], &path[dot + 1..]),
        None => ("", path),
    }
}

impl At for Value {
    fn at(&self, path: &str) -> &Value {
        let (mut here, mut left) = (self, path);
        loop {
            let (step, rest) = first_step(left);
            let Some(next) = here.as_object().and_then(|fields| fields.get(step)) else {
                return &NULL;
            };
            let Some(rest) = rest else {
                return next;
            };
            (here, left) = (next, rest);
        }
    }
}

/// The fields of an object at a dotted path, made when absent. None when something there is no object.
pub(crate) fn fields_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Fields> {
    let mut here = value;
    let mut left = Some(path).filter(|path| !path.is_empty());
    while let Some(path) = left {
        let (step, rest) = first_step(path);
        let map = here.as_object_mut()?;
        // Twice looked for where it is not there, and no name made where it is.
        if !map.contains_key(step) {
            map.insert(step.to_owned(), Value::Null);
        }
        let next = map.get_mut(step)?;
        if next.is_null() {
            *next = Value::Object(Fields::new());
        }
        (here, left) = (next, rest);
    }
    here.as_object_mut()
}

/// The value at a dotted path, when there is one that is not null.
pub(crate) fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    let (mut here, mut left) = (value, Some(path));
    while let Some(path) = left {
        let (step, rest) = first_step(path);
        here = here.as_object_mut()?.get_mut(step)?;
        left = rest;
    }
    (!here.is_null()).then_some(here)
}

/// Goes over all fields and takes out those that are not to be kept: as `retain`, but faster where nearly all are.
pub(crate) fn keep_where(fields: &mut Fields, mut keep: impl FnMut(&String, &mut Value) -> bool) {
    let all = fields.iter_mut();
    let gone: Vec<String> = all
        .filter_map(|(name, value)| (!keep(name, value)).then(|| name.clone()))
        .collect();
    for name in gone {
        fields.remove(&name);
    }
}

/// Each element of the list at a dotted path.
pub(crate) fn each_mut(value: &mut Value, path: &str, mut f: impl FnMut(&mut Value)) {
    if let Some(Value::Array(list)) = get_mut(value, path) {
        list.iter_mut().for_each(&mut f);
    }
}

/// Sets a field at a dotted path, making the objects on the way.
pub(crate) fn set(value: &mut Value, path: &str, new: impl Into<Value>) {
    let (parent, field) = holder_and_field(path);
    if let Some(map) = fields_mut(value, parent) {
        map.insert(field.to_string(), new.into());
    }
}

/// Sets a field at a dotted path when it is absent or null, as defaulting of a Go pointer does.
pub(crate) fn or_set(value: &mut Value, path: &str, new: impl Into<Value>) {
    if !value.has(path) {
        set(value, path, new);
    }
}

/// Sets a field at a dotted path when it is absent, null or empty, as defaulting of a Go string, list or map does.
pub(crate) fn or_set_empty(value: &mut Value, path: &str, new: impl Into<Value>) {
    if value.is_empty_at(path) {
        set(value, path, new);
    }
}

/// Removes a field at a dotted path.
pub(crate) fn unset(value: &mut Value, path: &str) {
    let (parent, field) = holder_and_field(path);
    let holder = if parent.is_empty() {
        Some(value)
    } else {
        get_mut(value, parent)
    };
    if let Some(map) = holder.and_then(Value::as_object_mut) {
        map.remove(field);
    }
}

/// Makes the field at a path of `new` what it is in `old`: copied, or removed when `old` has none.
pub(crate) fn keep(new: &mut Value, old: &Value, path: &str) {
    match old.at(path) {
        Value::Null => unset(new, path),
        value => set(new, path, value.clone()),
    }
}

/// Takes an affinity away that says nothing any more, where there was none before.
pub(crate) fn without_empty_affinity(new: &mut Value, old: &Value, at: &str) {
    if new.has(at) && new.is_empty_at(at) && !old.has(at) {
        unset(new, at);
    }
}

/// Whether two values in the form of Go's encoder ([`crate::form`]) are equal as upstream's semantic equality holds: what is
/// absent is null. An empty list or map that means nothing is not written in that form; where one stands it is a struct, or
/// a text behind a pointer, whose being there is something.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter().all(|(k, v)| same(v, y.get(k).unwrap_or(&NULL)))
                && y.iter().all(|(k, v)| v.is_null() || x.contains_key(k))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}
