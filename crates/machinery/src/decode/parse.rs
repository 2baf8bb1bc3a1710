//! JSON and YAML parsers for foreign bytes. One visitor builds the value and notes keys that stand twice in one object
//! (the last one wins, as in upstream's decoder). Depth, nodes and aliases are bounded: a YAML bomb (CVE-2019-11253) or
//! a tower of brackets is refused before it costs memory.

use super::documents;
use super::fault::{json_fault, yaml_fault};
use kinds::status::Status;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use serde_saphyr::{DuplicateKeyPolicy, Options};
use std::fmt;

/// Levels of nesting that a body may have. It is also what `serde_json` allows.
const MAX_DEPTH: usize = 127;
/// Nodes that a YAML document may have, aliases expanded.
const MAX_YAML_NODES: usize = 500_000;
/// Parser events that aliases may repeat in all: honest documents repeat a few, and each costs as much as a written one.
const MAX_YAML_REPEATED: usize = 20_000;
/// Aliases that a YAML document may use.
const MAX_YAML_ALIASES: usize = 1_000;
/// Stack of the YAML parser, in bytes; memory is only taken for what is used.
const YAML_STACK: usize = 16 << 20;
/// Duplicate keys that are listed before the rest is left out.
const MAX_DUPLICATES: usize = 100;

/// A key that stands twice in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Where it stands, such as `spec.replicas`.
    pub path: String,
    /// The key itself, which may hold dots.
    pub key: String,
    /// The line of the second one, from 1, where the body was YAML.
    pub line: Option<u64>,
}

impl Duplicate {
    /// What upstream's decoders say: that of YAML names the line, that of JSON the path.
    pub fn fault(&self) -> String {
        match self.line {
            Some(line) => format!("line {line}: key {:?} already set in map", self.key),
            None => format!("duplicate field {:?}", self.path),
        }
    }
}

impl From<&str> for Duplicate {
    fn from(path: &str) -> Self {
        Duplicate {
            path: path.to_owned(),
            key: path.rsplit('.').next().unwrap_or(path).to_owned(),
            line: None,
        }
    }
}

/// Parses a JSON body. Answers the value, and the keys that stand twice.
///
/// # Errors
/// 400 for bytes that are no JSON, worded as the API server's codec does.
pub fn parse_json_checked(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), Status> {
    let mut duplicates = Vec::new();
    let bad = |e: serde_json::Error| {
        // What is well-formed all the same is too deep or has a number that is none.
        let why = json_fault(bytes).unwrap_or_else(|| e.to_string());
        Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let root = Node {
        place: None,
        depth: 0,
        lines: false,
        duplicates: &mut duplicates,
    };
    let value = root.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)?;
    Ok((value, duplicates))
}

/// Parses a YAML body, of several documents the first, into the JSON value it stands for. Duplicates as in [`parse_json_checked`].
///
/// # Errors
/// 400 for bytes that are no YAML or exceed the bounds on depth, nodes and aliases.
pub fn parse_yaml_checked(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), Status> {
    // JSON is YAML; its parser is the faster one and knows no aliases, but neither on which line a key stands again.
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok((value, duplicates)) = parse_json_checked(bytes)
        && duplicates.is_empty()
    {
        return Ok((value, duplicates));
    }
    // The YAML parser takes some ten kilobytes of stack a level in a build without optimisation, and the depth that we
    // allow does not fit into the stack of a worker thread. YAML is rare: clients send JSON.
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(YAML_STACK);
        let parsing = builder.spawn_scoped(scope, || parse_yaml(bytes));
        let failed = || Status::internal("the body could not be parsed");
        parsing.map_err(|_| failed())?.join().map_err(|_| failed())?
    })
}

fn parse_yaml(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), Status> {
    let bad = |e: &dyn fmt::Display| Status::bad_request(yaml_fault(&e.to_string(), bytes));
    let text = std::str::from_utf8(bytes).map_err(|_| bad(&"the body is not UTF-8"))?;
    let text = documents::first(text).map_err(|why| bad(&why))?;
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.with_snippet = false;
    options.alias_limits.max_total_replayed_events = MAX_YAML_REPEATED;
    if let Some(budget) = options.budget.as_mut() {
        budget.max_depth = MAX_DEPTH;
        budget.max_nodes = MAX_YAML_NODES;
        budget.max_aliases = MAX_YAML_ALIASES;
    }
    let mut duplicates = Vec::new();
    let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |reader| {
        Node {
            place: None,
            depth: 0,
            lines: true,
            duplicates: &mut duplicates,
        }
        .deserialize(reader)
    })
    .map_err(|e| bad(&e))?;
    Ok((value, duplicates))
}

/// Where a value stands; the path text is made only when something is to be said about it.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Key(key) if self.parent.is_some() => write!(f, ".{key}"),
            Step::Key(key) => f.write_str(key),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

struct Node<'p, 'd> {
    place: Option<&'p Place<'p>>,
    depth: usize,
    /// Whether the reader knows the lines of keys.
    lines: bool,
    duplicates: &'d mut Vec<Duplicate>,
}

impl<'p> Node<'p, '_> {
    fn enter<'n>(&'n mut self, place: &'n Place<'n>) -> Node<'n, 'n> {
        Node {
            place: Some(place),
            depth: self.depth + 1,
            lines: self.lines,
            duplicates: self.duplicates,
        }
    }

    fn check_depth<E: Error>(&self) -> Result<(), E> {
        if self.depth > MAX_DEPTH {
            return Err(E::custom("exceeded max depth"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number that JSON cannot hold"))
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_string()))
    }
    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        loop {
            let place = Place {
                parent: self.place,
                step: Step::Index(list.len()),
            };
            match seq.next_element_seed(self.enter(&place))? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut fields = Map::new();
        loop {
            let (key, line) = if self.lines {
                let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? else {
                    break;
                };
                (key.value, Some(key.referenced.line()))
            } else {
                let Some(key) = map.next_key::<String>()? else {
                    break;
                };
                (key, None)
            };
            let place = Place {
                parent: self.place,
                step: Step::Key(&key),
            };
            let value = map.next_value_seed(self.enter(&place))?;
            match fields.entry(key) {
                Entry::Vacant(free) => drop(free.insert(value)),
                Entry::Occupied(mut taken) => {
                    if self.duplicates.len() < MAX_DUPLICATES {
                        let key = taken.key().clone();
                        let place = Place {
                            parent: self.place,
                            step: Step::Key(&key),
                        };
                        let path = place.to_string();
                        self.duplicates.push(Duplicate { path, key, line });
                    }
                    taken.insert(value);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}
