//! Values of expressions. JSON is borrowed and takes its typed shape only where an expression looks at it.

use crate::types::{ListKind, ObjectType, Type, escape};
use base64::Engine;
use indexmap::IndexMap;
use jiff::Timestamp;
use kinds::quantity::Quantity;
use serde_json::{Map as Fields, Value as Json};
use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// The type of JSON that nothing is known of.
pub(crate) static DYN: Type = Type::Dyn;

/// Text, borrowed or shared.
#[derive(Clone)]
pub enum Str<'a> {
    /// Of the JSON.
    Borrowed(&'a str),
    /// Made by the expression.
    Shared(Arc<str>),
}

impl Deref for Str<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        match self {
            Str::Borrowed(text) => text,
            Str::Shared(text) => text,
        }
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Str::Shared(text.into())
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

impl PartialEq for Str<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl Eq for Str<'_> {}
impl std::hash::Hash for Str<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// `true`, `false`.
    Bool(bool),
    /// A whole number, signed or not.
    Int(i128),
    /// Text.
    String(Str<'a>),
}

/// What the surroundings lend to expressions, such as the authorizer: an object with functions.
pub trait Host: fmt::Debug + Send + Sync {
    /// Name of its type.
    fn type_name(&self) -> &'static str;
    /// Calls a member function; `None` when it has none of that name and shape.
    fn call(&self, function: &str, args: &[Value<'_>]) -> Option<Result<Value<'static>, String>>;
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `uint`.
    Uint(u64),
    /// `double`.
    Double(f64),
    /// `string`.
    String(Str<'a>),
    /// `bytes`.
    Bytes(Arc<[u8]>),
    /// `list`.
    List(List<'a>),
    /// `map`, or an object.
    Map(Map<'a>),
    /// A point in time.
    Timestamp(Timestamp),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A type.
    Type(Arc<str>),
    /// An optional value.
    Optional(Option<Arc<Value<'a>>>),
    /// `kubernetes.Quantity`.
    Quantity(Arc<Quantity>),
    /// `kubernetes.URL`.
    Url(Arc<crate::library::Url>),
    /// `net.IP`.
    Ip(IpAddr),
    /// `net.CIDR`: address and bits of the prefix.
    Cidr(IpAddr, u8),
    /// `kubernetes.NamedFormat`.
    Format(&'static str),
    /// `kubernetes.Semver`.
    Semver(Arc<crate::library::Semver>),
    /// An object of the surroundings.
    Host(Arc<dyn Host>),
}

/// A list.
#[derive(Debug, Clone)]
pub enum List<'a> {
    /// Made by the expression.
    Own(Arc<Vec<Value<'a>>>),
    /// Of the JSON, with the type of its elements.
    Json(&'a [Json], &'a Type, &'a ListKind),
}

/// A map.
#[derive(Debug, Clone)]
pub enum Map<'a> {
    /// Made by the expression.
    Own(Arc<IndexMap<Key<'a>, Value<'a>>>),
    /// Of the JSON: a map with values of one type, an object with fields, or anything.
    Json(&'a serde_json::Map<String, Json>, &'a Type),
}

impl<'a> List<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            List::Own(items) => items.len(),
            List::Json(items, ..) => items.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An element.
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Own(items) => items.get(index).cloned(),
            List::Json(items, ty, _) => items.get(index).map(|item| Value::json(item, ty)),
        }
    }

    /// All elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    fn kind(&self) -> &ListKind {
        match self {
            List::Own(_) => &ListKind::Atomic,
            List::Json(_, _, kind) => kind,
        }
    }
}

impl<'a> Map<'a> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Map::Own(entries) => entries.len(),
            Map::Json(..) => self.keys().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value.
    pub fn get(&self, key: &Key<'_>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Own(entries), _) => entries.iter().find(|(k, _)| *k == key).map(|(_, v)| v.clone()),
            (Map::Json(fields, ty), Key::String(name)) => match ty {
                Type::Map(_, of) => fields.get(&**name).map(|v| Value::json(v, of)),
                Type::Object(object) => {
                    let field = object.field(name)?;
                    // A null in a declared object is as good as absent.
                    let value = fields.get(&field.json).filter(|v| !v.is_null())?;
                    Some(Value::json(value, &field.ty))
                }
                _ => fields.get(&**name).map(|v| Value::json(v, &DYN)),
            },
            _ => None,
        }
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Own(entries) => entries.keys().cloned().collect(),
            Map::Json(fields, ty) => match ty {
                Type::Object(object) => object
                    .fields
                    .iter()
                    .filter(|(_, field)| fields.get(&field.json).is_some_and(|v| !v.is_null()))
                    .map(|(name, _)| Key::String(Str::Borrowed(name)))
                    .collect(),
                _ => fields.keys().map(|k| Key::String(Str::Borrowed(k))).collect(),
            },
        }
    }
}

impl<'a> Key<'a> {
    /// The value as a key; doubles that are whole numbers count as such.
    pub fn of(value: &Value<'a>) -> Option<Key<'a>> {
        match value {
            Value::Bool(b) => Some(Key::Bool(*b)),
            Value::Int(n) => Some(Key::Int(i128::from(*n))),
            Value::Uint(n) => Some(Key::Int(i128::from(*n))),
            Value::Double(n) if n.fract() == 0.0 => Some(Key::Int(*n as i128)),
            Value::String(text) => Some(Key::String(text.clone())),
            _ => None,
        }
    }

    /// The key as a value.
    pub fn value(&self) -> Value<'a> {
        match self {
            Key::Bool(b) => Value::Bool(*b),
            Key::Int(n) => i64::try_from(*n).map_or_else(|_| Value::Uint(*n as u64), Value::Int),
            Key::String(text) => Value::String(text.clone()),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(b) => write!(f, "{b}"),
            Key::Int(n) => write!(f, "{n}"),
            Key::String(text) => f.write_str(text),
        }
    }
}

impl<'a> Value<'a> {
    /// Text of one's own.
    pub fn text(text: impl Into<String>) -> Value<'a> {
        Value::String(Str::from(text.into()))
    }

    /// A list of one's own.
    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Own(Arc::new(items)))
    }

    /// An optional value that is there.
    pub fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// JSON of a type.
    pub fn json(json: &'a Json, ty: &'a Type) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(number) => match (number.as_i64(), ty) {
                (_, Type::Double) | (None, _) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                (Some(n), _) => Value::Int(n),
            },
            Json::String(text) => match ty {
                Type::Timestamp => match time(text) {
                    Some(at) => Value::Timestamp(at),
                    None => Value::String(Str::Borrowed(text)),
                },
                Type::Duration => match crate::library::parse_span(text) {
                    Some(nanos) => Value::Duration(nanos),
                    None => Value::String(Str::Borrowed(text)),
                },
                Type::Bytes => match base64::engine::general_purpose::STANDARD.decode(text) {
                    Ok(bytes) => Value::Bytes(Arc::from(bytes)),
                    Err(_) => Value::String(Str::Borrowed(text)),
                },
                _ => Value::String(Str::Borrowed(text)),
            },
            Json::Array(items) => match ty {
                Type::List(of, kind) => Value::List(List::Json(items, of, kind)),
                _ => Value::List(List::Json(items, &DYN, &ListKind::Atomic)),
            },
            Json::Object(fields) => Value::Map(Map::Json(fields, ty)),
        }
    }

    /// The value as JSON; none for what JSON cannot say (types, errors, objects of the surroundings).
    pub fn to_json(&self) -> Option<Json> {
        Some(match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Uint(n) => Json::from(*n),
            // A whole number stays one: JSON objects know integers alone.
            Value::Double(n) if n.fract() == 0.0 && n.abs() < 1e15 => Json::from(*n as i64),
            Value::Double(n) => Json::from(*n),
            Value::String(text) => Json::from(&**text),
            Value::Bytes(data) => Json::from(base64::engine::general_purpose::STANDARD.encode(data)),
            Value::Timestamp(at) => Json::from(at.to_string()),
            Value::List(list) => list
                .iter()
                .map(|v| v.to_json())
                .collect::<Option<Vec<_>>>()?
                .into(),
            Value::Map(map) => {
                let mut out = serde_json::Map::new();
                for key in map.keys() {
                    // Fields of declared objects go by their own names.
                    let name = match (map, &key) {
                        (Map::Json(_, Type::Object(object)), Key::String(name)) => {
                            object.fields.get(&**name).map(|f| f.json.clone())
                        }
                        (_, Key::String(name)) => Some(name.to_string()),
                        _ => None,
                    };
                    out.insert(name?, map.get(&key)?.to_json()?);
                }
                Json::Object(out)
            }
            Value::Optional(Some(inner)) => inner.to_json()?,
            _ => return None,
        })
    }

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(Map::Json(_, Type::Object(object))) => &object.name,
            Value::Map(_) => "map",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(..) => "net.CIDR",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Host(host) => host.type_name(),
        }
    }

    /// Text, when it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// How large the value is, for the cost of what walks it.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(data) => data.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Ip(IpAddr::V4(_)) | Value::Cidr(IpAddr::V4(_), _) => 4,
            Value::Ip(IpAddr::V6(_)) | Value::Cidr(IpAddr::V6(_), _) => 16,
            _ => 1,
        }
    }

    /// Equality, across types of numbers.
    pub fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => **a == **b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Value::Quantity(a), Value::Quantity(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a, n), Value::Cidr(b, m)) => a == b && n == m,
            (Value::Format(a), Value::Format(b)) => a == b,
            (Value::Semver(a), Value::Semver(b)) => a == b,
            (Value::List(a), Value::List(b)) => lists_equal(a, b),
            (Value::Map(a), Value::Map(b)) => maps_equal(a, b),
            (a, b) => compare_numbers(a, b) == Some(Ordering::Equal),
        }
    }

    /// Order, where there is one.
    pub fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (a, b) => compare_numbers(a, b),
        }
    }
}

fn compare_numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |v: &Value<'_>| match v {
        Value::Int(n) => Some(i128::from(*n)),
        Value::Uint(n) => Some(i128::from(*n)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), other) => a.partial_cmp(&(whole(other)? as f64)),
        (other, Value::Double(b)) => (whole(other)? as f64).partial_cmp(b),
        _ => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn lists_equal(a: &List<'_>, b: &List<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.kind(), b.kind()) {
        (ListKind::Atomic, ListKind::Atomic) => a.iter().zip(b.iter()).all(|(a, b)| a.equals(&b)),
        // Sets and keyed lists have no order.
        _ => a.iter().all(|a| b.iter().any(|b| a.equals(&b))),
    }
}

fn maps_equal(a: &Map<'_>, b: &Map<'_>) -> bool {
    if let (Map::Json(a, Type::Object(object)), Map::Json(b, Type::Object(_))) = (a, b) {
        return objects_equal(a, b, object);
    }
    let keys = a.keys();
    keys.len() == b.len()
        && keys
            .iter()
            .all(|key| matches!((a.get(key), b.get(key)), (Some(a), Some(b)) if a.equals(&b)))
}

/// Equality of objects, of whose fields some are declared. Upstream looks at all there are, though only at those of one of them.
fn objects_equal(a: &Fields<String, Json>, b: &Fields<String, Json>, object: &ObjectType) -> bool {
    // The version of an object is what it was until the change is written.
    const VERSION: &str = "resourceVersion";
    let count = |fields: &Fields<String, Json>| fields.keys().filter(|name| *name != VERSION).count();
    count(a) == count(b)
        && a.iter().all(|(name, value)| {
            let declared = escape(name).and_then(|name| object.fields.get(&name));
            match (declared, b.get(name)) {
                (Some(field), Some(other)) => {
                    Value::json(value, &field.ty).equals(&Value::json(other, &field.ty))
                }
                (Some(_), None) => false,
                (None, Some(other)) => value == other || name == VERSION,
                (None, None) => true,
            }
        })
}

/// `+` of two lists: one after the other; sets are united, keyed lists merged by key.
pub(crate) fn join<'a>(a: &List<'a>, b: &List<'a>) -> List<'a> {
    let mut out: Vec<Value<'a>> = a.iter().collect();
    match a.kind() {
        ListKind::Atomic => out.extend(b.iter()),
        ListKind::Set => {
            for item in b.iter() {
                if !out.iter().any(|o| o.equals(&item)) {
                    out.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            let same = |a: &Value<'a>, b: &Value<'a>| match (a, b) {
                (Value::Map(a), Value::Map(b)) => keys.iter().all(|key| {
                    let key = Key::String(Str::Borrowed(key));
                    matches!((a.get(&key), b.get(&key)), (Some(a), Some(b)) if a.equals(&b))
                }),
                _ => false,
            };
            for item in b.iter() {
                match out.iter().position(|o| same(o, &item)) {
                    Some(at) => out[at] = item,
                    None => out.push(item),
                }
            }
        }
    }
    // The result is a list like the first one only in what it holds; its order counts from here on.
    List::Own(Arc::new(out))
}

/// RFC 3339, or a date.
pub(crate) fn time(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse() {
        return Some(at);
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(midnight.timestamp())
}
