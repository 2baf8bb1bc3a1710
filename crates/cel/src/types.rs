//! Types: what is known of a value before it is there. From them the checker finds mistakes, and JSON takes its shape
//! (a number may be an `int` or a `double`, a text a timestamp).

use indexmap::IndexMap;
use kinds::names::is_cel_word;
use std::fmt;
use std::sync::Arc;

/// The type of an expression or of a JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Type {
    /// Known only when evaluated.
    #[default]
    Dyn,
    /// `google.protobuf.Any`: known only when evaluated, too, but nothing to walk through.
    Any,
    /// `null_type`.
    Null,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `uint`.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`; base64 text in JSON.
    Bytes,
    /// `google.protobuf.Timestamp`; RFC 3339 text (or a date) in JSON.
    Timestamp,
    /// `google.protobuf.Duration`; text such as `1h30m` in JSON.
    Duration,
    /// A list of one type of elements.
    List(Arc<Type>, ListKind),
    /// A map from keys of one type to values of one type.
    Map(Arc<Type>, Arc<Type>),
    /// An object with declared fields.
    Object(Arc<ObjectType>),
    /// An optional value.
    Optional(Arc<Type>),
    /// A type of a library, such as `kubernetes.Quantity`.
    Opaque(&'static str),
    /// A type as a value; the type of all types when it is not said which.
    Type(Option<Arc<Type>>),
    /// Of what is wrong; no good expression has it.
    Error,
    /// Not settled yet; no expression has it when all is checked.
    Open(usize),
}

/// How the elements of a list are told apart (`x-kubernetes-list-type`): it decides equality and `+`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListKind {
    /// By place.
    #[default]
    Atomic,
    /// By value.
    Set,
    /// By these keys.
    Map(Vec<String>),
}

/// An object with declared fields.
#[derive(Debug, PartialEq, Default)]
pub struct ObjectType {
    /// Its name, for messages.
    pub name: String,
    /// Fields by the name that expressions use (see [`escape`]).
    pub fields: IndexMap<String, Field>,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The name in JSON.
    pub json: String,
    /// Its type.
    pub ty: Type,
}

impl ObjectType {
    /// The field that an expression names. A reserved word may stand for its field unescaped, too.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.get(name).or_else(|| {
            let word = is_cel_word(name);
            word.then(|| self.fields.get(&format!("__{name}__"))).flatten()
        })
    }
}

impl Type {
    /// A list without keys.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of), ListKind::Atomic)
    }

    /// A map with texts as keys, as objects of JSON are.
    pub fn map(of: Type) -> Type {
        Type::Map(Arc::new(Type::String), Arc::new(of))
    }

    /// The name of the type as a result of an expression.
    pub fn formal(&self) -> String {
        match self {
            Type::List(of, _) => format!("list({})", of.formal()),
            Type::Map(by, of) => format!("map({}, {})", by.formal(), of.formal()),
            Type::Optional(of) => format!("optional_type({})", of.formal()),
            Type::Type(Some(of)) => format!("type({})", of.formal()),
            other => other.name(),
        }
    }

    /// The name without what the type is made of.
    pub(crate) fn name(&self) -> String {
        match self {
            Type::Any => "google.protobuf.Any".into(),
            Type::Null => "null_type".into(),
            Type::Timestamp => "google.protobuf.Timestamp".into(),
            Type::Duration => "google.protobuf.Duration".into(),
            Type::List(..) => "list".into(),
            Type::Map(..) => "map".into(),
            Type::Optional(_) => "optional_type".into(),
            Type::Type(_) => "type".into(),
            other => other.to_string(),
        }
    }

    /// What is known of a value that has a name of its own, as the variables of policies have: of objects and optional values
    /// nothing.
    #[must_use]
    pub fn declared(&self) -> Type {
        let of = |ty: &Arc<Type>| Arc::new(ty.declared());
        match self {
            Type::List(items, kind) => Type::List(of(items), kind.clone()),
            Type::Map(keys, values) => Type::Map(of(keys), of(values)),
            Type::Object(_) | Type::Optional(_) | Type::Opaque(_) | Type::Type(_) => Type::Dyn,
            known => known.clone(),
        }
    }

    /// Whether nothing is known before evaluation.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    /// Whether two types are one, however the elements of their lists are told apart.
    pub(crate) fn is_same(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::List(a, _), Type::List(b, _)) | (Type::Optional(a), Type::Optional(b)) => a.is_same(b),
            (Type::Map(a, x), Type::Map(b, y)) => a.is_same(b) && x.is_same(y),
            (Type::Type(a), Type::Type(b)) => match (a, b) {
                (Some(a), Some(b)) => a.is_same(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Any => f.write_str("any"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(of, _) => write!(f, "list({of})"),
            Type::Map(by, of) => write!(f, "map({by}, {of})"),
            Type::Object(object) => f.write_str(&object.name),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Opaque(name) => f.write_str(name),
            Type::Type(Some(of)) => write!(f, "type({of})"),
            Type::Type(None) => f.write_str("type"),
            Type::Error => f.write_str("!error!"),
            Type::Open(0) => f.write_str("A"),
            Type::Open(1) => f.write_str("B"),
            Type::Open(number) => write!(f, "_var{}", number - 2),
        }
    }
}

/// Escapes of characters, in the order in which they are undone.
const ESCAPES: [(&str, &str); 4] = [
    ("__", "__underscores__"),
    (".", "__dot__"),
    ("-", "__dash__"),
    ("/", "__slash__"),
];

/// The name by which expressions reach a JSON property; `None` when it cannot be written as an identifier.
pub fn escape(name: &str) -> Option<String> {
    if is_cel_word(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            Some((plain, escaped)) => {
                out.push_str(escaped);
                rest = &rest[plain.len()..];
            }
            None if c.is_ascii_alphanumeric() || c == '_' => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
            None => return None,
        }
    }
    let starts_well = out.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well.then_some(out)
}

/// The JSON property that an escaped name stands for.
pub fn unescape(name: &str) -> String {
    let inner = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"));
    if let Some(word) = inner
        && is_cel_word(word)
    {
        return word.to_string();
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match ESCAPES.iter().find(|(_, escaped)| rest.starts_with(escaped)) {
            Some((plain, escaped)) => {
                out.push_str(plain);
                rest = &rest[escaped.len()..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}
