//! Types: what is known of a value before it is there. From them the checker finds mistakes, and JSON takes its shape
//! (a number may be an `int` or a `double`, a text a timestamp).

use indexmap::IndexMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression or of a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
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
    /// A map from strings to one type of values.
    Map(Arc<Type>),
    /// An object with declared fields.
    Object(Arc<ObjectType>),
    /// An optional value.
    Optional(Arc<Type>),
    /// A type of a library, such as `kubernetes.Quantity`.
    Opaque(&'static str),
    /// A type as a value.
    Type,
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
            let word = RESERVED.contains(&name);
            word.then(|| self.fields.get(&format!("__{name}__"))).flatten()
        })
    }
}

impl Type {
    /// A list without keys.
    pub fn list(of: Type) -> Type {
        Type::List(Arc::new(of), ListKind::Atomic)
    }

    /// The name of the type as a result of an expression.
    pub fn formal(&self) -> String {
        match self {
            Type::Null => "null_type".into(),
            Type::Timestamp => "google.protobuf.Timestamp".into(),
            Type::Duration => "google.protobuf.Duration".into(),
            other => other.to_string(),
        }
    }

    /// Whether nothing is known before evaluation.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Type::Int | Type::Uint | Type::Double)
    }

    /// Whether a value of the one type may be a value of the other. Unknown parts fit everything.
    pub(crate) fn fits(&self, other: &Type) -> bool {
        match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            // Objects and what they hold may be null.
            (Type::Null, Type::Object(_) | Type::Timestamp | Type::Duration | Type::Optional(_))
            | (Type::Object(_) | Type::Timestamp | Type::Duration | Type::Optional(_), Type::Null) => true,
            (Type::List(a, _), Type::List(b, _)) | (Type::Map(a), Type::Map(b)) => a.fits(b),
            (Type::Optional(a), Type::Optional(b)) => a.fits(b),
            (Type::Object(a), Type::Object(b)) => a.name == b.name,
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
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
            Type::Map(of) => write!(f, "map(string, {of})"),
            Type::Object(object) => f.write_str(&object.name),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Opaque(name) => f.write_str(name),
            Type::Type => f.write_str("type"),
        }
    }
}

/// Words that are no identifiers of the language.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Escapes of characters, in the order in which they are undone.
const ESCAPES: [(&str, &str); 4] = [
    ("__", "__underscores__"),
    (".", "__dot__"),
    ("-", "__dash__"),
    ("/", "__slash__"),
];

/// The name by which expressions reach a JSON property; `None` when it cannot be written as an identifier.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
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
        && RESERVED.contains(&word)
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
