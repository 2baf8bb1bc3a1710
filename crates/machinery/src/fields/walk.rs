//! Walks over objects along their schema that make, compare, merge and prune by field sets. How a value is taken apart
//! depends on its type: structs and maps by field, keyed lists by key, sets by value; atomic lists and maps, raw JSON and
//! scalars are one field. What the schema does not know is deduced: maps by field, lists atomic.
//! Source: sigs.k8s.io/structured-merge-diff, `typed`.

use super::Set;
use crate::form;
use kinds::KindInfo;
use kinds::schema::{self, Definition, List, ListType, SchemaTable, Type};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What one object has that another has not, by path.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Comparison {
    pub(crate) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn attach(&mut self, element: String, below: Comparison) {
        let changed = !below.modified.is_empty() || !below.removed.is_empty();
        if changed {
            self.modified.attach(element.as_str(), below.modified);
            self.removed.attach(element.as_str(), below.removed);
        }
        self.added.attach(element, below.added);
    }
}

/// How a value is taken apart.
#[derive(Clone, Copy)]
pub(super) enum Shape<'a> {
    Leaf,
    Struct(&'a Definition),
    Map(Option<&'a Type>),
    Set,
    Keyed(&'a List),
}

/// A kind with the type of its objects: built-in kinds have theirs in the table, custom ones bring it.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    /// The kind.
    pub kind: &'a KindInfo,
    /// The type of a custom kind's objects (`kinds::schema::custom`).
    pub custom: Option<&'a Type>,
}

impl<'a> From<&'a KindInfo> for Typed<'a> {
    fn from(kind: &'a KindInfo) -> Self {
        Typed { kind, custom: None }
    }
}

/// The walker of one kind.
pub(crate) struct Walker<'t> {
    table: &'static SchemaTable,
    root: Cow<'t, Type>,
    /// An item without a key has been met.
    keyless: Cell<bool>,
}

impl<'t> Walker<'t> {
    pub(crate) fn new(of: Typed<'t>) -> Self {
        let kind = of.kind;
        let table = schema::builtin();
        let root = if let Some(custom) = of.custom {
            return Self {
                table,
                root: Cow::Borrowed(custom),
                keyless: Cell::new(false),
            };
        } else if table.definition(kind.schema).is_some() {
            table.reference(kind.schema)
        } else {
            // A custom kind: its metadata is known, the rest deduced.
            let mut fields = schema::Fields::default();
            let meta = schema::Field {
                ty: table.reference(OBJECT_META),
                patch_strategy: String::new(),
                patch_merge_key: String::new(),
                atomic: false,
                granular: false,
                zero: schema::Zero::Absent,
            };
            fields.insert("metadata".to_string(), meta);
            Type::Object(Box::new(Definition {
                fields,
                ..Definition::default()
            }))
        };
        Self {
            table,
            root: Cow::Owned(root),
            keyless: Cell::new(false),
        }
    }

    /// Whether an item of a keyed list that says nothing of one of the keys has been met: nobody can own it.
    pub(crate) fn met_keyless(&self) -> bool {
        self.keyless.get()
    }

    /// The items of a keyed list by their keys.
    pub(super) fn keyed<'v>(&self, list: &List, items: &'v [Value]) -> BTreeMap<String, Vec<&'v Value>> {
        let mut out: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for (element, item) in self.elements(list, items) {
            out.entry(element).or_default().push(item);
        }
        out
    }

    /// The items of a keyed list behind their path elements, in their own order.
    pub(super) fn elements<'v>(
        &self,
        list: &List,
        items: &'v [Value],
    ) -> impl Iterator<Item = (String, &'v Value)> {
        items.iter().map(move |item| {
            let (element, whole) = element(list, item);
            if !whole {
                self.keyless.set(true);
            }
            (element, item)
        })
    }

    pub(super) fn shape<'a>(&'a self, ty: Option<&'a Type>, atomic: bool) -> Shape<'a> {
        let Some(ty) = ty else { return Shape::Map(None) };
        match ty {
            _ if atomic => Shape::Leaf,
            Type::Map(values) => Shape::Map(Some(values)),
            Type::List(list) => match list.kind {
                ListType::Atomic => Shape::Leaf,
                ListType::Set => Shape::Set,
                ListType::Map => Shape::Keyed(list),
            },
            Type::Ref(_) | Type::Object(_) => match self.table.object(ty) {
                Some(definition) if definition.atomic => Shape::Leaf,
                Some(definition) => Shape::Struct(definition),
                None => Shape::Map(None),
            },
            _ => Shape::Leaf,
        }
    }

    /// The shape of a field, and whether the schema names it.
    pub(super) fn field<'a>(&'a self, shape: Shape<'a>, name: &str) -> (Shape<'a>, bool) {
        match shape {
            Shape::Struct(definition) => match definition.fields.get(name) {
                Some(field) => {
                    let whole = self.shape(Some(&field.ty), field.atomic);
                    let parts = self.table.object(&field.ty).filter(|_| field.granular);
                    (parts.map_or(whole, Shape::Struct), true)
                }
                None => (Shape::Map(None), false),
            },
            Shape::Map(values) => (self.shape(values, false), false),
            _ => (Shape::Leaf, false),
        }
    }

    /// What an object of this kind has from the first moment on.
    pub(super) fn blank(&self) -> Value {
        match (&*self.root, self.table.object(&self.root)) {
            (Type::Ref(_), Some(definition)) => Value::Object(form::blank(self.table, definition)),
            _ => Value::Null,
        }
    }

    pub(super) fn table(&self) -> &'static SchemaTable {
        self.table
    }

    pub(super) fn root(&self) -> Shape<'_> {
        self.shape(Some(&*self.root), false)
    }

    /// All fields that an object gives.
    pub(crate) fn set_of(&self, object: &Value) -> Set {
        self.set_at(self.root(), object)
    }

    fn set_at(&self, shape: Shape, value: &Value) -> Set {
        let mut out = Set::default();
        match (shape, value) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
                for (name, value) in fields {
                    let element = field_element(name);
                    let (shape, named) = self.field(shape, name);
                    match (shape, value) {
                        // Of a list with parts only the parts are owned; an empty one has none.
                        (Shape::Keyed(_) | Shape::Set, Value::Array(items)) if items.is_empty() && named => {}
                        _ if is_leaf(shape, value) => out.insert(element),
                        // What no schema names is owned itself beside its parts.
                        _ if !named => {
                            out.insert(element.as_str());
                            out.attach(element, self.set_at(shape, value));
                        }
                        _ => out.attach(element, self.set_at(shape, value)),
                    }
                }
            }
            (Shape::Set, Value::Array(items)) => {
                items.iter().for_each(|item| out.insert(format!("v:{item}")))
            }
            (Shape::Keyed(list), Value::Array(items)) => {
                for (element, alike) in self.keyed(list, items) {
                    out.insert(element.as_str());
                    // Items that share a key are owned together, as a whole.
                    let [item] = alike.as_slice() else { continue };
                    out.attach(element, self.set_at(self.shape(Some(&list.items), false), item));
                }
            }
            _ => {}
        }
        out
    }

    /// The fields of an object that are owned as a whole although they have parts.
    pub(crate) fn wholes(&self, object: &Value) -> Set {
        self.wholes_at(self.root(), object)
    }

    fn wholes_at(&self, shape: Shape, value: &Value) -> Set {
        let mut out = Set::default();
        let mut take = |element: &str, shape: Shape, value: &Value| match (shape, value) {
            (Shape::Leaf, Value::Object(_) | Value::Array(_)) => out.insert(element),
            _ => out.attach(element, self.wholes_at(shape, value)),
        };
        match (shape, value) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
                for (name, value) in fields {
                    take(&field_element(name), self.field(shape, name).0, value);
                }
            }
            (Shape::Keyed(list), Value::Array(items)) => {
                let shape = self.shape(Some(&list.items), false);
                items.iter().for_each(|item| take(&key(list, item), shape, item));
            }
            _ => {}
        }
        out
    }

    /// What is added, changed and removed on the way from one object to another.
    pub(crate) fn compare(&self, old: &Value, new: &Value) -> Comparison {
        let mut out = Comparison::default();
        self.compare_fields(self.root(), Some(old), Some(new), &mut out);
        out
    }

    fn compare_fields(&self, shape: Shape, old: Option<&Value>, new: Option<&Value>, out: &mut Comparison) {
        let nothing = Map::new();
        let old = old.and_then(Value::as_object).unwrap_or(&nothing);
        let new = new.and_then(Value::as_object).unwrap_or(&nothing);
        for name in old.keys().chain(new.keys().filter(|n| !old.contains_key(*n))) {
            let (below, _) = self.field(shape, name);
            self.compare_one(field_element(name), below, old.get(name), new.get(name), out);
        }
    }

    /// Compares what stands at one element.
    fn compare_one(
        &self,
        element: String,
        shape: Shape,
        old: Option<&Value>,
        new: Option<&Value>,
        out: &mut Comparison,
    ) {
        if old == new {
            return;
        }
        let leaf = |v: Option<&Value>| v.is_none_or(|v| is_leaf(shape, v));
        if leaf(old) && leaf(new) {
            match (old, new) {
                (None, _) => out.added.insert(element),
                (_, None) => out.removed.insert(element),
                _ => out.modified.insert(element),
            }
            return;
        }
        let mut below = Comparison::default();
        match shape {
            Shape::Keyed(list) => {
                let (old, mut new) = (self.keyed(list, items(old)), self.keyed(list, items(new)));
                for (key, before) in old {
                    let after = new.remove(&key).unwrap_or_default();
                    self.compare_items(list, key, &before, &after, &mut below);
                }
                for (key, after) in new {
                    self.compare_items(list, key, &[], &after, &mut below);
                }
            }
            Shape::Set => {
                let (old, new) = (items(old), items(new));
                old.iter()
                    .filter(|v| !new.contains(v))
                    .for_each(|v| below.removed.insert(format!("v:{v}")));
                new.iter()
                    .filter(|v| !old.contains(v))
                    .for_each(|v| below.added.insert(format!("v:{v}")));
            }
            _ => self.compare_fields(shape, old, new, &mut below),
        }
        if old.is_none() {
            out.added.insert(element.as_str());
        }
        if new.is_none() {
            out.removed.insert(element.as_str());
        }
        // What has parts and what has none take each other's place, where anything may stand.
        if let (Some(old), Some(new)) = (old, new)
            && [old, new].iter().all(|value| !value.is_null())
            && std::mem::discriminant(old) != std::mem::discriminant(new)
        {
            out.modified.insert(element.as_str());
        }
        out.attach(element, below);
    }

    /// Compares the items of one key. More than one are one field, whose parts nobody owns.
    fn compare_items(&self, list: &List, key: String, old: &[&Value], new: &[&Value], out: &mut Comparison) {
        let shape = self.shape(Some(&list.items), false);
        let mut single = |old: Option<&&Value>, new: Option<&&Value>| {
            self.compare_one(key.clone(), shape, old.copied(), new.copied(), out);
        };
        match (old, new) {
            ([] | [_], [] | [_]) => single(old.first(), new.first()),
            ([_, _, ..], [_, _, ..]) if old == new => {}
            ([_, _, ..], [_, _, ..]) => out.modified.insert(key),
            ([_, _, ..], _) => {
                single(None, new.first());
                out.removed.insert(key);
            }
            (_, _) => {
                single(old.first(), None);
                out.added.insert(key);
            }
        }
    }

    /// The live object with everything that the applied one says.
    pub(crate) fn merge(&self, live: &Value, applied: &Value) -> Value {
        self.merge_at(self.root(), live, applied)
    }

    fn merge_at(&self, shape: Shape, live: &Value, applied: &Value) -> Value {
        match (shape, live, applied) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(live), Value::Object(applied)) => {
                let mut out = live.clone();
                for (name, value) in applied {
                    let merged = match live.get(name) {
                        Some(before) => self.merge_at(self.field(shape, name).0, before, value),
                        None => value.clone(),
                    };
                    out.insert(name.clone(), merged);
                }
                Value::Object(out)
            }
            (Shape::Set, Value::Array(live), Value::Array(applied)) => {
                Value::Array(merge_items(live, applied, Value::to_string, |_, item| {
                    item.clone()
                }))
            }
            (Shape::Keyed(list), Value::Array(live), Value::Array(applied)) => {
                let items = self.shape(Some(&list.items), false);
                let merge = |live: &Value, item: &Value| self.merge_at(items, live, item);
                Value::Array(merge_items(live, applied, |item| key(list, item), merge))
            }
            // Null adds nothing to what has parts.
            (Shape::Struct(_) | Shape::Map(_) | Shape::Set | Shape::Keyed(_), live, Value::Null)
                if !is_leaf(shape, live) =>
            {
                live.clone()
            }
            _ => applied.clone(),
        }
    }

    /// The object without the fields of a set.
    pub(crate) fn remove(&self, object: &Value, gone: &Set) -> Value {
        self.remove_at(self.root(), object, gone)
    }

    fn remove_at(&self, shape: Shape, value: &Value, gone: &Set) -> Value {
        match (shape, value) {
            (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
                let mut out = Map::new();
                for (name, value) in fields {
                    let element = field_element(name);
                    if gone.has(&element) {
                        continue;
                    }
                    match gone.below(&element) {
                        None => {
                            out.insert(name.clone(), value.clone());
                        }
                        Some(below) => {
                            // What has lost all its parts stays, empty.
                            let left = self.remove_at(self.field(shape, name).0, value, below);
                            out.insert(name.clone(), left);
                        }
                    }
                }
                Value::Object(out)
            }
            (Shape::Set, Value::Array(items)) => Value::Array(
                items
                    .iter()
                    .filter(|v| !gone.has(&format!("v:{v}")))
                    .cloned()
                    .collect(),
            ),
            (Shape::Keyed(list), Value::Array(values)) => {
                let items = self.shape(Some(&list.items), false);
                let kept = values.iter().filter_map(|item| {
                    let element = key(list, item);
                    if gone.has(&element) {
                        return None;
                    }
                    Some(
                        gone.below(&element)
                            .map_or_else(|| item.clone(), |below| self.remove_at(items, item, below)),
                    )
                });
                Value::Array(kept.collect())
            }
            _ => value.clone(),
        }
    }

    /// The set with every struct field on the way counted in: who owns `spec.replicas` holds `spec` too.
    pub(crate) fn with_structs(&self, set: &Set) -> Set {
        self.with_structs_at(self.root(), set)
    }

    fn with_structs_at(&self, shape: Shape, set: &Set) -> Set {
        let mut out = set.clone();
        for element in set.elements() {
            let Some(below) = set.below(element) else { continue };
            let next = match (shape, element.strip_prefix("f:")) {
                (Shape::Keyed(list), _) => self.shape(Some(&list.items), false),
                (_, Some(name)) => {
                    let (next, named) = self.field(shape, name);
                    if named {
                        out.insert(element);
                    }
                    next
                }
                _ => Shape::Leaf,
            };
            out.attach(element, self.with_structs_at(next, below));
        }
        out
    }
}

/// Whether a value is one field: by its type, by being of another form than the type says, or by being empty.
pub(super) fn is_leaf(shape: Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => fields.is_empty(),
        (Shape::Set | Shape::Keyed(_), Value::Array(items)) => items.is_empty(),
        _ => true,
    }
}

/// The path element of a field.
pub(super) fn field_element(name: &str) -> String {
    let mut element = String::with_capacity(2 + name.len());
    element.push_str("f:");
    element.push_str(name);
    element
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The path element of an item of a keyed list.
pub(super) fn key(list: &List, item: &Value) -> String {
    element(list, item).0
}

/// The path element of an item of a keyed list, and whether the item says something of each key or need not. A key that is
/// left out has its default; one that is null is that.
fn element(list: &List, item: &Value) -> (String, bool) {
    let mut whole = true;
    let mut out = String::with_capacity(48);
    out.push_str("k:{");
    let mut write_key = |name: &str| {
        let Some(value) = item.get(name).or_else(|| list.key_defaults.get(name)) else {
            whole = false;
            return;
        };
        if !out.ends_with('{') {
            out.push(',');
        }
        // Names of fields need no escapes.
        for part in ["\"", name, "\":"] {
            out.push_str(part);
        }
        match value {
            Value::String(text) if text.bytes().all(is_plain) => {
                for part in ["\"", text, "\""] {
                    out.push_str(part);
                }
            }
            // Writing into a string cannot fail.
            value => drop(write!(out, "{value}")),
        }
    };
    match list.map_keys.as_slice() {
        [name] => write_key(name),
        names => {
            let mut names: Vec<&String> = names.iter().collect();
            names.sort();
            names.into_iter().for_each(|name| write_key(name));
        }
    }
    out.push('}');
    (out, whole)
}

/// What JSON shows as it is.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Items that only the live list has keep their place before the next shared one; the rest is in the applied order.
fn merge_items(
    live: &[Value],
    applied: &[Value],
    key: impl Fn(&Value) -> String,
    merge: impl Fn(&Value, &Value) -> Value,
) -> Vec<Value> {
    let before: HashMap<String, &Value> = live.iter().map(|item| (key(item), item)).collect();
    let asked: Vec<String> = applied.iter().map(&key).collect();
    let mut rest = live.iter().peekable();
    let mut out = Vec::new();
    let mut taken = 0;
    loop {
        while let Some(item) = rest.next_if(|item| !asked.contains(&key(item))) {
            out.push(item.clone());
        }
        if taken == applied.len() {
            // What is left of the live list is shared and has been taken, or is its own.
            match rest.next() {
                Some(_) => continue,
                None => return out,
            }
        }
        let item = &applied[taken];
        out.push(match before.get(&asked[taken]) {
            Some(live) => {
                rest.next();
                merge(live, item)
            }
            None => item.clone(),
        });
        taken += 1;
    }
}
