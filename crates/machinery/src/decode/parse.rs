//! JSON and YAML parsers for foreign bytes. One visitor builds the value of JSON and notes keys that stand twice in one object
//! (the last one wins, as in upstream's decoder); YAML has a reader of its own (`crate::yaml`). Depth, nodes and aliases are
//! bounded: a YAML bomb (CVE-2019-11253) or a tower of brackets is refused before it costs memory.

use super::fault::json_fault;
use super::numbers;
use crate::yaml;
use kinds::status::Status;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Levels of nesting that a body may have. It is also what `serde_json` allows.
const MAX_DEPTH: usize = 127;
/// Stack of the YAML reader, in bytes; memory is only taken for what is used.
const YAML_STACK: usize = 4 << 20;
/// Duplicate keys that are listed before the rest is left out.
const MAX_DUPLICATES: usize = 100;

/// What is said in front of a fault of JSON.
const UNREADABLE: &str = "couldn't get version/kind; json parse error: ";

/// A key that stands twice in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Where it stands, such as `spec.replicas`.
    pub path: String,
    /// The key itself: of YAML as Go shows it, in quotes where it is a text.
    pub key: String,
    /// The line of the second one's value, from 1, where the body was YAML.
    pub line: Option<u64>,
}

impl Duplicate {
    /// What upstream's decoders say: that of YAML names the line, that of JSON the path.
    pub fn fault(&self) -> String {
        match self.line {
            Some(line) => format!("line {line}: key {} already set in map", self.key),
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
    let parsed = parse_json_body(bytes)?;
    match parsed.out_of_range {
        Some(why) => Err(Status::bad_request(format!("{UNREADABLE}{why}"))),
        None => Ok((parsed.value, parsed.duplicates)),
    }
}

/// A JSON body of which it is not known yet what it is.
#[derive(Debug)]
pub struct Parsed {
    /// The value.
    pub value: Value,
    /// Keys that stand twice.
    pub duplicates: Vec<Duplicate>,
    /// What is wrong where a number is out of range of all types and its field has none: in the value stands the largest.
    pub out_of_range: Option<String>,
}

/// Parses a JSON body as [`parse_json_checked`], but lets numbers pass that are out of range: fields that know their type refuse
/// them, and others may not be known at all.
///
/// # Errors
/// 400 for bytes that are no JSON.
pub fn parse_json_body(bytes: &[u8]) -> Result<Parsed, Status> {
    let as_it_is = parse_json(bytes).map(|(value, notes)| (value, notes, None));
    let (value, notes, out_of_range) = as_it_is.or_else(|refusal| {
        let is_json = json_fault(bytes).is_none();
        let Some((tame, literal)) = is_json.then(|| numbers::tamed(bytes)).flatten() else {
            return Err(refusal);
        };
        let (value, notes) = parse_json(&tame)?;
        Ok((value, notes, Some(numbers::out_of_range(&literal))))
    })?;
    Ok(Parsed {
        value,
        duplicates: notes.duplicates,
        out_of_range,
    })
}

fn parse_json(bytes: &[u8]) -> Result<(Value, Notes), Status> {
    let mut notes = Notes::default();
    let bad = |e: serde_json::Error| {
        // What is well-formed all the same is too deep or has a number that is none.
        let why = json_fault(bytes).unwrap_or_else(|| e.to_string());
        Status::bad_request(format!("{UNREADABLE}{why}"))
    };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let root = Node {
        place: None,
        depth: 0,
        notes: &mut notes,
    };
    let value = root.deserialize(&mut reader).map_err(bad)?;
    reader.end().map_err(bad)?;
    Ok((value, notes))
}

/// Parses a YAML body, of several documents the first, into the JSON value it stands for. Duplicates as in [`parse_json_checked`].
///
/// # Errors
/// 400 for bytes that are no YAML or exceed the bounds on depth, nodes and aliases.
pub fn parse_yaml_checked(bytes: &[u8]) -> Result<(Value, Vec<Duplicate>), Status> {
    // JSON is YAML, and most that comes as YAML is JSON, whose parser is the faster one. Only of what YAML takes otherwise, or
    // tells of with its line, it knows nothing.
    if bytes.trim_ascii_start().starts_with(b"{")
        && !has_escapes_of_json(bytes)
        && let Ok((value, notes)) = parse_json(bytes)
        && notes.duplicates.is_empty()
        && !notes.has_floats
    {
        return Ok((value, notes.duplicates));
    }
    // The reader takes some kilobytes of stack a level in a build without optimisation, and the depth that we allow does not
    // fit into what is left of a worker's. YAML is rare: clients send JSON.
    let read = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(YAML_STACK);
        let reading = builder.spawn_scoped(scope, || yaml::read(bytes)).ok()?;
        reading.join().ok()
    });
    let read = read.ok_or_else(|| Status::internal("the body could not be parsed"))?;
    let read = read.map_err(Status::bad_request)?;
    Ok((read.value, read.duplicates))
}

/// Whether a text has `\/`, or half a character, which are escapes in JSON alone.
fn has_escapes_of_json(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|c| *c == b'\\') {
        match &rest[at + 1..] {
            [b'/', ..] | [b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', ..] => return true,
            [_, after @ ..] => rest = after,
            [] => break,
        }
    }
    false
}

/// What is noticed of a body beside its value.
#[derive(Debug, Default)]
struct Notes {
    duplicates: Vec<Duplicate>,
    /// Whether a number has a fraction or an exponent.
    has_floats: bool,
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
    notes: &'d mut Notes,
}

impl<'p> Node<'p, '_> {
    fn enter<'n>(&'n mut self, place: &'n Place<'n>) -> Node<'n, 'n> {
        Node {
            place: Some(place),
            depth: self.depth + 1,
            notes: self.notes,
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
        self.notes.has_floats = true;
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
        while let Some(key) = map.next_key::<String>()? {
            let place = Place {
                parent: self.place,
                step: Step::Key(&key),
            };
            let value = map.next_value_seed(self.enter(&place))?;
            match fields.entry(key) {
                Entry::Vacant(free) => drop(free.insert(value)),
                Entry::Occupied(mut taken) => {
                    if self.notes.duplicates.len() < MAX_DUPLICATES {
                        let key = taken.key().clone();
                        let place = Place {
                            parent: self.place,
                            step: Step::Key(&key),
                        };
                        let path = place.to_string();
                        self.notes.duplicates.push(Duplicate {
                            path,
                            key,
                            line: None,
                        });
                    }
                    taken.insert(value);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}
