//! A tree to the JSON value that it stands for, aliases and merged keys written out, with the keys that stand twice.

use super::plain::{Plain, float_text, json_number, meaning};
use super::tree::{Content, Id, MAX_DEPTH, Node, tree};
use super::words::Fault;
use crate::decode::Duplicate;
use base64::Engine;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

/// Nodes that aliases may repeat in all. Upstream allows more; honest documents repeat a few.
const MAX_REPEATED: usize = 100_000;
/// Bytes of scalars that aliases may repeat: in upstream's memory they are there but once.
const MAX_REPEATED_BYTES: usize = 8 << 20;
/// Keys that stand twice and are listed before the rest is left out.
const MAX_DUPLICATES: usize = 100;

const EXCESSIVE: &str = "document contains excessive aliasing";
const NO_MERGE: &str = "map merge requires map or sequence of maps as the value";

/// What a text stands for.
#[derive(Debug)]
pub(crate) struct Read {
    pub value: Value,
    /// Keys that stand twice, of which the last one counts.
    pub duplicates: Vec<Duplicate>,
}

/// Reads a text; what is wrong with it is told in upstream's words.
///
/// # Errors
/// It is no YAML, means what JSON cannot hold, or exceeds the bounds on depth, nodes and aliases.
pub(crate) fn read(bytes: &[u8]) -> Result<Read, String> {
    let tree = tree(bytes).map_err(|fault| fault.to_string())?;
    let mut reader = Reader {
        nodes: &tree.nodes,
        path: Vec::new(),
        open: HashSet::new(),
        duplicates: Vec::new(),
        decoded: 0,
        repeated: 0,
        repeated_bytes: 0,
        no_key: None,
        no_number: None,
    };
    let value = match tree.root {
        Some(root) => reader.value(root, 0).map_err(|fault| fault.to_string())?,
        None => Value::Null,
    };
    match reader.no_key.or(reader.no_number) {
        Some(words) => Err(words),
        None => Ok(Read {
            value,
            duplicates: reader.duplicates,
        }),
    }
}

struct Reader<'t> {
    nodes: &'t [Node],
    /// Keys and indexes up to the node that is read.
    path: Vec<Step>,
    /// Aliases that are being written out.
    open: HashSet<Id>,
    duplicates: Vec<Duplicate>,
    decoded: usize,
    repeated: usize,
    repeated_bytes: usize,
    /// The first key that JSON cannot have.
    no_key: Option<String>,
    /// The first number that JSON cannot have.
    no_number: Option<String>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

/// A key, which Go tells from another by its type as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    of: KeyType,
    /// Its text in JSON.
    text: String,
    /// How Go shows it.
    shown: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum KeyType {
    Text,
    Bool,
    Int,
    Float,
    /// Null and what is beyond the signed integers, which are no keys in JSON.
    None,
}

/// The fields of a mapping so far.
#[derive(Debug, Default)]
struct Fields {
    map: Map<String, Value>,
    /// Keys that are no texts, and have become some in the map.
    others: HashSet<Key>,
    /// Texts that such a key was equal to.
    hidden: HashSet<String>,
}

impl Fields {
    fn has(&self, key: &Key) -> bool {
        if key.of == KeyType::Text {
            self.map.contains_key(&key.text) && !self.hidden.contains(&key.text)
        } else {
            self.others.contains(key)
        }
    }

    fn set(&mut self, key: Key, value: Value) {
        if key.of != KeyType::Text {
            if !self.map.contains_key(&key.text) {
                self.hidden.insert(key.text.clone());
            }
            self.map.insert(key.text.clone(), value);
            self.others.insert(key);
        } else {
            if !self.hidden.is_empty() {
                self.hidden.remove(&key.text);
            }
            self.map.insert(key.text, value);
        }
    }
}

/// A scalar with its type.
enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
}

impl Reader<'_> {
    fn count(&mut self, node: &Node, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        self.decoded += 1;
        if self.open.is_empty() {
            return Ok(());
        }
        self.repeated += 1;
        if let Content::Scalar { text, .. } = &node.content {
            self.repeated_bytes += text.len();
        }
        // Upstream lets 99 of 100 come from aliases in what is not large. The comparison is its own, in whole numbers.
        let is_most = self.repeated > 100 && self.decoded > 1000 && self.repeated * 100 > self.decoded * 99;
        if is_most || self.repeated > MAX_REPEATED || self.repeated_bytes > MAX_REPEATED_BYTES {
            return Err(Fault::new(EXCESSIVE));
        }
        Ok(())
    }

    fn value(&mut self, id: Id, depth: usize) -> Result<Value, Fault> {
        let nodes = self.nodes;
        let node = &nodes[id];
        self.count(node, depth)?;
        match &node.content {
            Content::Scalar { text, is_plain } => {
                let scalar = scalar(text, *is_plain, &node.tag)?;
                Ok(self.json(scalar))
            }
            Content::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    list.push(self.value(*item, depth + 1)?);
                    self.path.pop();
                }
                Ok(Value::Array(list))
            }
            Content::Mapping(entries) => {
                let mut fields = Fields::default();
                self.entries(entries, &mut fields, depth)?;
                Ok(Value::Object(fields.map))
            }
            Content::Alias { name, of } => {
                self.enter(id, name)?;
                // An alias is no level of its own.
                let value = self.value(*of, depth)?;
                self.open.remove(&id);
                Ok(value)
            }
        }
    }

    fn enter(&mut self, alias: Id, name: &str) -> Result<(), Fault> {
        if !self.open.insert(alias) {
            return Err(Fault::new(format!("anchor '{name}' value contains itself")));
        }
        Ok(())
    }

    fn json(&mut self, scalar: Scalar) -> Value {
        match scalar {
            Scalar::Null => Value::Null,
            Scalar::Bool(flag) => flag.into(),
            Scalar::Int(whole) => whole.into(),
            Scalar::Uint(whole) => whole.into(),
            Scalar::Text(text) => text.into(),
            Scalar::Float(float) => match json_number(float) {
                Some(number) => number.into(),
                None => {
                    let shown = if float.is_nan() {
                        "NaN"
                    } else if float > 0.0 {
                        "+Inf"
                    } else {
                        "-Inf"
                    };
                    self.no_number
                        .get_or_insert_with(|| format!("json: unsupported value: {shown}"));
                    Value::Null
                }
            },
        }
    }

    fn entries(&mut self, entries: &[(Id, Id)], fields: &mut Fields, depth: usize) -> Result<(), Fault> {
        for (key, value) in entries {
            if self.is_merge(*key) {
                self.merge(*value, fields, depth)?;
                continue;
            }
            let key = self.key(*key, depth)?;
            self.path.push(Step::Key(key.text));
            let line = self.nodes[*value].line;
            let read = self.value(*value, depth + 1)?;
            let Some(Step::Key(text)) = self.path.pop() else {
                continue;
            };
            let key = Key { text, ..key };
            if key.of == KeyType::None {
                let value = if read.is_null() {
                    "<nil>".into()
                } else {
                    shown(&read)
                };
                let shown = format!("{}, value: {value}", key.shown);
                self.no_key.get_or_insert_with(|| {
                    format!("unsupported map key of type: {}, key: {shown}", key.text)
                });
            }
            if fields.has(&key) && self.duplicates.len() < MAX_DUPLICATES {
                let path = self.path_to(&key.text);
                self.duplicates.push(Duplicate {
                    path,
                    key: key.shown.clone(),
                    line: Some(line as u64 + 1),
                });
            }
            fields.set(key, read);
        }
        Ok(())
    }

    fn path_to(&self, key: &str) -> String {
        let mut path = String::new();
        for step in &self.path {
            let _ = match step {
                Step::Key(key) if path.is_empty() => write!(path, "{key}"),
                Step::Key(key) => write!(path, ".{key}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        if !path.is_empty() {
            path.push('.');
        }
        path + key
    }

    fn is_merge(&self, key: Id) -> bool {
        let Node { content, tag, .. } = &self.nodes[key];
        matches!(content, Content::Scalar { text, is_plain } if text == "<<" && (*is_plain || is_short(tag, "merge")))
    }

    /// Adds the fields of another mapping, or of several, the first of which counts most.
    fn merge(&mut self, id: Id, fields: &mut Fields, depth: usize) -> Result<(), Fault> {
        let nodes = self.nodes;
        match &nodes[id].content {
            Content::Sequence(items) => {
                for item in items.iter().rev() {
                    if let Content::Sequence(_) = &nodes[*item].content {
                        return Err(Fault::new(NO_MERGE));
                    }
                    self.merge_one(*item, fields, depth)?;
                }
                Ok(())
            }
            _ => self.merge_one(id, fields, depth),
        }
    }

    fn merge_one(&mut self, id: Id, fields: &mut Fields, depth: usize) -> Result<(), Fault> {
        let nodes = self.nodes;
        let node = &nodes[id];
        match &node.content {
            Content::Mapping(entries) => {
                self.count(node, depth)?;
                self.entries(entries, fields, depth + 1)
            }
            Content::Alias { name, of } => {
                let Content::Mapping(entries) = &nodes[*of].content else {
                    return Err(Fault::new(NO_MERGE));
                };
                self.count(node, depth)?;
                self.enter(id, name)?;
                self.count(&nodes[*of], depth)?;
                self.entries(entries, fields, depth + 1)?;
                self.open.remove(&id);
                Ok(())
            }
            _ => Err(Fault::new(NO_MERGE)),
        }
    }

    /// A key. The text of one that JSON cannot have is the name of its type.
    fn key(&mut self, id: Id, depth: usize) -> Result<Key, Fault> {
        let nodes = self.nodes;
        let mut at = id;
        // An alias of an alias does not occur: anchors name what is written out.
        if let Content::Alias { of, .. } = &nodes[at].content {
            self.count(&nodes[at], depth)?;
            at = *of;
        }
        let Content::Scalar { text, is_plain } = &nodes[at].content else {
            let value = self.value(id, depth + 1)?;
            return Err(Fault::new(format!("invalid map key: {}", shown(&value))));
        };
        self.count(&nodes[at], depth)?;
        let scalar = scalar(text, *is_plain, &nodes[at].tag)?;
        let (of, text, shown) = match scalar {
            Scalar::Text(text) => {
                let shown = kinds::field::quoted(&text);
                (KeyType::Text, text, shown)
            }
            Scalar::Bool(flag) => (KeyType::Bool, flag.to_string(), flag.to_string()),
            Scalar::Int(whole) => (KeyType::Int, whole.to_string(), whole.to_string()),
            Scalar::Float(float) => (KeyType::Float, float_key(float), go_float(float)),
            Scalar::Uint(whole) => (KeyType::None, "uint64".into(), format!("{whole:#x}")),
            Scalar::Null => (KeyType::None, "%!s(<nil>)".into(), "<nil>".into()),
        };
        Ok(Key { of, text, shown })
    }
}

/// The text of a float as a key, for which it is rounded to single precision.
fn float_key(float: f64) -> String {
    match float {
        float if float.is_nan() => ".nan".into(),
        float if float.is_infinite() && float > 0.0 => ".inf".into(),
        float if float.is_infinite() => "-.inf".into(),
        float => {
            let short = format!("{:e}", float as f32);
            // The shortest digits of single precision are those of a double that is written so.
            short.parse().map_or(short, float_text)
        }
    }
}

fn go_float(float: f64) -> String {
    match float {
        float if float.is_nan() => "NaN".into(),
        float if float.is_infinite() && float > 0.0 => "+Inf".into(),
        float if float.is_infinite() => "-Inf".into(),
        float => float_text(float),
    }
}

/// A value as Go shows it for people who debug; keys that are no texts are shown as such.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::String(text) => kinds::field::quoted(text),
        Value::Array(list) => {
            let items: Vec<_> = list.iter().map(shown).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let items: Vec<_> = sorted
                .into_iter()
                .map(|(key, value)| format!("{}:{}", kinds::field::quoted(key), shown(value)))
                .collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn is_short(tag: &str, name: &str) -> bool {
    tag.strip_prefix("tag:yaml.org,2002:") == Some(name)
}

/// A scalar by its tag or, without one, by its text.
fn scalar(text: &str, is_plain: bool, tag: &str) -> Result<Scalar, Fault> {
    if tag.is_empty() && !is_plain {
        return Ok(Scalar::Text(text.to_owned()));
    }
    let short = tag.strip_prefix("tag:yaml.org,2002:");
    let plain = match short {
        Some("str") => Plain::Text,
        // Dates are only looked for where nothing else is wanted.
        Some("bool" | "int" | "float" | "null") => match meaning(text) {
            Plain::Time => Plain::Text,
            plain => plain,
        },
        Some("timestamp") => meaning(text),
        Some("binary") => return binary(text).map(Scalar::Text),
        _ if !tag.is_empty() => return Ok(Scalar::Text(text.to_owned())),
        _ => meaning(text),
    };
    let found = match plain {
        Plain::Null => "null",
        Plain::Bool(_) => "bool",
        Plain::Int(_) | Plain::Uint(_) => "int",
        Plain::Float(_) => "float",
        Plain::Time => "timestamp",
        Plain::Text => "str",
    };
    let plain = match (short, plain) {
        (Some("float"), Plain::Int(whole)) => Plain::Float(whole as f64),
        (Some(wanted), _) if wanted != found => {
            return Err(Fault::new(format!(
                "cannot decode !!{found} `{text}` as a !!{wanted}"
            )));
        }
        _ => plain,
    };
    Ok(match plain {
        Plain::Null => Scalar::Null,
        Plain::Bool(flag) => Scalar::Bool(flag),
        Plain::Int(whole) => Scalar::Int(whole),
        Plain::Uint(whole) => Scalar::Uint(whole),
        Plain::Float(float) => Scalar::Float(float),
        Plain::Time | Plain::Text => Scalar::Text(text.to_owned()),
    })
}

fn binary(text: &str) -> Result<String, Fault> {
    let packed: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(packed)
        .map_err(|_| Fault::new("!!binary value contains invalid base64 data"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
