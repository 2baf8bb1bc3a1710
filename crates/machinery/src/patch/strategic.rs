//! Strategic merge patch: a merge patch that knows which lists are sets or are keyed by a field of their elements, and
//! that carries directives beside the data:
//!
//! - `$patch: replace | delete | merge` in an object, or in an element of a keyed list;
//! - `$retainKeys: [...]` drops the fields that are not named;
//! - `$deleteFromPrimitiveList/FIELD: [...]` takes values out of a set;
//! - `$setElementOrder/FIELD: [...]` orders a merged list; without it the patch's own list is the order, so that new
//!   elements come before those that only the document has.
//!
//! Behaviour: `k8s.io/apimachinery/pkg/util/strategicpatch`. Lists that the schema does not mark are replaced.

use kinds::schema::{self, Definition, Field, SchemaTable, Type};
use kinds::status::Status;
use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

type Fields = Map<String, Value>;

/// Merges a patch into a document of the type `schema` (a definition's name).
///
/// # Errors
/// 400 for a malformed patch. For most of what else is wrong (unknown directives, elements without their merge key, an order
/// that is not the patch's) upstream has no code, which makes it a 500.
pub fn strategic_merge_patch(schema: &str, doc: &Value, patch: &Value) -> Result<Value, Status> {
    // To Go, null is the empty map.
    let nothing = Fields::new();
    let patch = if patch.is_null() {
        Some(&nothing)
    } else {
        patch.as_object()
    }
    .ok_or(patch);
    let (Some(doc), Ok(patch)) = (doc.as_object(), patch) else {
        let found = patch.err().map_or("null", super::go_name);
        return Err(Status::bad_request(format!(
            "json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    };
    let merger = Merger {
        table: schema::builtin(),
    };
    let ty = merger.table.reference(schema);
    merger.map(doc.clone(), patch, Some(&ty)).map(Value::Object)
}

struct Merger {
    table: &'static SchemaTable,
}

impl Merger {
    fn definition<'a>(&'a self, ty: Option<&'a Type>) -> Option<&'a Definition> {
        ty.and_then(|ty| self.table.object(ty))
    }

    /// What the schema says of a field; nothing in maps and in raw JSON.
    fn field<'a>(&'a self, ty: Option<&'a Type>, name: &str) -> Option<&'a Field> {
        self.definition(ty)?.fields.get(name)
    }

    fn map(&self, mut doc: Fields, patch: &Fields, ty: Option<&Type>) -> Result<Fields, Status> {
        match patch.get(PATCH).map(directive).as_deref() {
            None => {}
            Some("delete") => return Ok(Fields::new()),
            Some("replace") => {
                // As it is, nulls and all.
                let mut out = patch.clone();
                out.remove(PATCH);
                return Ok(out);
            }
            Some(other) => return Err(unknown_directive(other, patch)),
        }
        if let Some(retained) = patch.get(RETAIN_KEYS) {
            retain_keys(&mut doc, patch, retained)?;
        }
        for (name, order) in patch
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(ORDER)?, v)))
        {
            self.ordered(&mut doc, patch, name, order, ty)?;
        }
        for (name, gone) in patch
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(DELETE_FROM)?, v)))
        {
            match (doc.get_mut(name), gone) {
                (Some(_), Value::Null) => {
                    doc.remove(name);
                }
                (Some(Value::Array(list)), Value::Array(gone)) => {
                    same_types(list, gone)?;
                    list.retain(|v| !gone.contains(v));
                }
                _ => {}
            }
        }
        for (name, new) in patch {
            let directive = [PATCH, RETAIN_KEYS].contains(&name.as_str());
            if directive || name.starts_with(DELETE_FROM) || name.starts_with(ORDER) {
                continue;
            }
            if patch.contains_key(&format!("{ORDER}{name}")) {
                continue;
            }
            if new.is_null() {
                doc.remove(name);
                continue;
            }
            let merged = match doc.get_mut(name) {
                None => fresh(new),
                Some(old) => {
                    let old = old.take();
                    self.value(old, new, self.field(ty, name), ty)?
                }
            };
            match merged {
                Value::Null => doc.remove(name),
                merged => doc.insert(name.clone(), merged),
            };
        }
        Ok(doc)
    }

    /// Merges a value that both sides have. `outer` is the type of the object that holds it.
    fn value(
        &self,
        old: Value,
        new: &Value,
        field: Option<&Field>,
        outer: Option<&Type>,
    ) -> Result<Value, Status> {
        let strategy = field.map_or("", |f| f.patch_strategy.as_str());
        match (old, new) {
            // Who replaces, replaces by what is there, directives and all.
            (Value::Object(_), Value::Object(_)) if strategy.split(',').any(|s| s == "replace") => {
                Ok(new.clone())
            }
            (Value::Object(old), Value::Object(new)) => {
                // The values of a map have the type of the map's values.
                let ty = match (field, outer) {
                    (Some(field), _) => Some(&field.ty),
                    (None, Some(Type::Map(values))) => Some(values.as_ref()),
                    _ => None,
                };
                self.map(old, new, ty).map(Value::Object)
            }
            (Value::Array(old), Value::Array(new)) if strategy.split(',').any(|s| s == "merge") => {
                let (items, key) = (
                    field.and_then(items),
                    field.map_or("", |f| f.patch_merge_key.as_str()),
                );
                self.list(old, new, items, key).map(Value::Array)
            }
            (Value::Array(_), Value::Array(_)) => Ok(new.clone()),
            (_, new) => Ok(fresh(new)),
        }
    }

    /// Merges a set or a keyed list, and arranges it by the patch.
    fn list(
        &self,
        mut old: Vec<Value>,
        new: &[Value],
        items: Option<&Type>,
        key: &str,
    ) -> Result<Vec<Value>, Status> {
        same_types(&old, new)?;
        let before: Vec<Value> = old.iter().map(|v| id(v, key)).collect();
        let order: Vec<Value> = new.iter().map(|v| id(v, key)).collect();
        if old.iter().chain(new).all(|v| !v.is_object()) {
            for value in new {
                if !old.contains(value) {
                    old.push(value.clone());
                }
            }
            return Ok(arrange(old, &before, &order, key));
        }
        let mut patches: Vec<&Fields> = Vec::new();
        let mut replace = false;
        for element in new.iter().filter_map(Value::as_object) {
            match element.get(PATCH).map(directive).as_deref() {
                None => patches.push(element),
                Some("replace") => replace = true,
                Some("delete") => {
                    let id = key_of(element, key)?;
                    old.retain(|o| o.get(key) != Some(id));
                }
                Some("merge") => {
                    return Err(Status::plain(
                        "merging lists cannot yet be specified in the patch",
                    ));
                }
                Some(other) => return Err(unknown_directive(other, element)),
            }
        }
        if replace {
            return Ok(patches.into_iter().map(|p| Value::Object(p.clone())).collect());
        }
        for patch in patches {
            let id = key_of(patch, key)?;
            match old.iter_mut().find(|o| o.get(key) == Some(id)) {
                Some(place) => {
                    let element = match place.take() {
                        Value::Object(element) => element,
                        _ => Fields::new(),
                    };
                    *place = Value::Object(self.map(element, patch, items)?);
                }
                None => old.push(Value::Object(patch.clone())),
            }
        }
        Ok(arrange(old, &before, &order, key))
    }

    /// Merges a list that comes with its order.
    fn ordered(
        &self,
        doc: &mut Fields,
        patch: &Fields,
        name: &str,
        order: &Value,
        ty: Option<&Type>,
    ) -> Result<(), Status> {
        let Value::Array(order) = order else {
            return Err(no_list(order));
        };
        for list in [doc.get(name), patch.get(name)].into_iter().flatten() {
            if !list.is_array() {
                return Err(no_list(list));
            }
        }
        let field = self.field(ty, name);
        if let (None, Some(Type::Ref(definition))) = (field, ty) {
            let holder = definition.name().rsplit('.').next().unwrap_or_default();
            return Err(Status::plain(format!(
                "unable to find api field in struct {holder} for the json field {name:?}"
            )));
        }
        let merges = field.is_some_and(|f| f.patch_strategy.split(',').any(|s| s == "merge"));
        let key = field.map_or("", |f| f.patch_merge_key.as_str());
        let new = patch
            .get(name)
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if !merges {
            if let Some(list) = patch.get(name) {
                let list = match doc.contains_key(name) {
                    true => list.clone(),
                    false => undirected(list).unwrap_or_default(),
                };
                doc.insert(name.to_string(), list);
            }
            return Ok(());
        }
        check_order(new, order, key)?;
        let order: Vec<Value> = order.iter().map(|v| id(v, key)).collect();
        let old = match doc.get_mut(name).map(Value::take) {
            Some(Value::Array(old)) => old,
            _ if new.is_empty() => {
                doc.remove(name);
                return Ok(());
            }
            _ => Vec::new(),
        };
        let before: Vec<Value> = old.iter().map(|v| id(v, key)).collect();
        let merged = self.list(old, new, field.and_then(items), key)?;
        let arranged = arrange(merged, &before, &order, key);
        doc.insert(name.to_string(), Value::Array(arranged));
        Ok(())
    }
}

/// What tells an element from others: its merge key, or all of it.
fn id(element: &Value, key: &str) -> Value {
    match element.is_object() {
        true => element.get(key).cloned().unwrap_or(Value::Null),
        false => element.clone(),
    }
}

/// Arranges a merged list: elements named in the order stand in it, and those that only the document has (`before`: its
/// elements) keep their place relative to those that the document had already.
fn arrange(merged: Vec<Value>, before: &[Value], order: &[Value], key: &str) -> Vec<Value> {
    let position = |v: &Value| order.iter().position(|o| *o == id(v, key));
    let rank = |v: &Value| before.iter().position(|b| *b == id(v, key));
    let (mut named, rest): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|v| position(v).is_some());
    named.sort_by_key(|v| position(v));
    let (mut named, mut rest) = (named.into_iter().peekable(), rest.into_iter().peekable());
    let mut out = Vec::new();
    loop {
        let rest_first = match (rest.peek(), named.peek()) {
            (Some(r), Some(n)) => matches!((rank(r), rank(n)), (Some(r), Some(n)) if r < n),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return out,
        };
        out.extend(if rest_first { rest.next() } else { named.next() });
    }
}

/// The patched elements must be named in the order, and stand in it as the patch has them.
fn check_order(new: &[Value], order: &[Value], key: &str) -> Result<(), Status> {
    if order.is_empty() || new.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for element in new.iter().filter(|v| v.get(PATCH).is_none()) {
        loop {
            let Some(named) = places.next() else {
                return Err(Status::plain(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                    super::go_text(&Value::Array(new.to_vec())),
                    super::go_text(&Value::Array(order.to_vec()))
                )));
            };
            let same = match (key.is_empty(), element, named) {
                (true, ..) => element == named,
                (false, Value::Object(element), Value::Object(named)) => {
                    key_of(element, key)? == key_of(named, key)?
                }
                (false, Value::Object(_), other) | (false, other, _) => {
                    return Err(Status::plain(format!(
                        "expected a map[string]interface {{}}, but received a {}",
                        go_type(other)
                    )));
                }
            };
            if same {
                break;
            }
        }
    }
    Ok(())
}

/// The 500 for a list of several types, which upstream cannot merge, and the 422 for one of lists.
fn same_types(old: &[Value], new: &[Value]) -> Result<(), Status> {
    let mut all = old.iter().chain(new);
    let Some(first) = all.next() else {
        return Ok(());
    };
    if first.is_array() {
        return Err(super::refused());
    }
    if all.any(|v| go_type(v) != go_type(first)) {
        let text = |list: &[Value]| super::go_text(&Value::Array(list.to_vec()));
        return Err(Status::plain(format!(
            "list element types are not identical: [{} {}]",
            text(old),
            text(new)
        )));
    }
    Ok(())
}

/// The type of a decoded value as Go prints it (`%s` of a `reflect.Type`).
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn no_list(found: &Value) -> Status {
    Status::plain(format!(
        "expected a []interface {{}}, but received a {}",
        go_type(found)
    ))
}

/// A directive as Go prints it for a text (`%s`).
fn directive(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "%!s(<nil>)".to_owned(),
        other => format!("%!s({}={})", go_type(other), super::go_text(other)),
    }
}

fn unknown_directive(directive: &str, fields: &Fields) -> Status {
    let shown = super::go_text(&Value::Object(fields.clone()));
    Status::plain(format!("unknown patch type: {directive} in map: {shown}"))
}

fn items(field: &Field) -> Option<&Type> {
    match &field.ty {
        Type::List(list) => Some(&list.items),
        _ => None,
    }
}

fn key_of<'a>(element: &'a Fields, key: &str) -> Result<&'a Value, Status> {
    element.get(key).ok_or_else(|| {
        let shown = super::go_text(&Value::Object(element.clone()));
        Status::plain(format!("map: {shown} does not contain declared merge key: {key}"))
    })
}

fn retain_keys(doc: &mut Fields, patch: &Fields, retained: &Value) -> Result<(), Status> {
    let wrong = || Status::bad_request("invalid patch format of retainKeys");
    let retained: Vec<&str> = retained
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let exempt = |name: &str| name == RETAIN_KEYS || name.starts_with(DELETE_FROM) || name.starts_with(ORDER);
    let stray = patch
        .iter()
        .any(|(name, value)| !exempt(name) && !value.is_null() && !retained.contains(&name.as_str()));
    if stray {
        return Err(wrong());
    }
    doc.retain(|name, _| retained.contains(&name.as_str()));
    Ok(())
}

/// A patch's value where the document has none: without nulls in its objects, and without what `$patch` stands in, which has
/// nothing to work on here. Other directives are fields that nobody knows.
fn fresh(value: &Value) -> Value {
    undirected(&without_nulls(value)).unwrap_or_default()
}

/// A value without those objects in it that have `$patch`; none if it is one.
fn undirected(value: &Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(PATCH) => None,
        Value::Object(fields) => {
            let kept = fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), undirected(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(undirected).collect())),
        other => Some(other.clone()),
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(name, value)| (name.clone(), without_nulls(value)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
