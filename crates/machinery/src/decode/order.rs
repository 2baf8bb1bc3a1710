//! The order of faults. A parsed object has its fields by name; upstream's decoder of JSON reads on and tells its faults in
//! the order in which they stand in the body. Only a body that has faults is read again for it, and only along them.

use super::Duplicate;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What the parser knows of a body beside its value.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Keys that stand twice.
    pub duplicates: &'a [Duplicate],
    /// The body where it is JSON, empty otherwise: YAML becomes JSON with its fields by name before upstream reads it.
    pub json: &'a [u8],
}

impl<'a, const N: usize> From<&'a [Duplicate; N]> for Source<'a> {
    fn from(duplicates: &'a [Duplicate; N]) -> Self {
        Self {
            duplicates,
            json: &[],
        }
    }
}

/// One step down an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    /// What stands there in a value.
    pub(crate) fn below<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Step::Key(name) => value.get(name),
            Step::Index(index) => value.get(index),
        }
    }

    /// The same, to be changed.
    pub(crate) fn below_mut<'v>(&self, value: &'v mut Value) -> Option<&'v mut Value> {
        match self {
            Step::Key(name) => value.get_mut(name),
            Step::Index(index) => value.get_mut(index),
        }
    }
}

/// One thing to tell, and the field that it is about.
pub(super) struct Fault {
    pub(super) text: String,
    pub(super) place: Vec<Step>,
}

/// The texts in the order of the body; those that are not found there stay at the end.
pub(super) fn in_order_of(json: &[u8], faults: Vec<Fault>) -> Vec<String> {
    let mut found = vec![usize::MAX; faults.len()];
    if faults.len() > 1 && !json.is_empty() {
        let mut wanted = Wanted::default();
        for (number, fault) in faults.iter().enumerate() {
            wanted.add(&fault.place, number);
        }
        let mut seen = Seen {
            found: &mut found,
            next: 0,
        };
        let walk = Along {
            wanted: &wanted,
            seen: &mut seen,
        };
        // It has been parsed before.
        let _ = walk.deserialize(&mut serde_json::Deserializer::from_slice(json));
    }
    let mut told: Vec<(usize, String)> = found
        .into_iter()
        .zip(faults.into_iter().map(|f| f.text))
        .collect();
    told.sort_by_key(|(position, _)| *position);
    told.into_iter().map(|(_, text)| text).collect()
}

/// The places that are looked for.
#[derive(Default)]
struct Wanted {
    faults: Vec<usize>,
    below: BTreeMap<Step, Wanted>,
}

impl Wanted {
    fn add(&mut self, place: &[Step], fault: usize) {
        match place {
            [] => self.faults.push(fault),
            [first, rest @ ..] => self.below.entry(first.clone()).or_default().add(rest, fault),
        }
    }
}

struct Seen<'s> {
    found: &'s mut [usize],
    next: usize,
}

impl Seen<'_> {
    fn see(&mut self, faults: &[usize]) {
        for fault in faults {
            if let Some(position) = self.found.get_mut(*fault).filter(|p| **p == usize::MAX) {
                *position = self.next;
                self.next += 1;
            }
        }
    }
}

/// A walk over the body, where something below is looked for.
struct Along<'w, 's, 'f> {
    wanted: &'w Wanted,
    seen: &'s mut Seen<'f>,
}

impl<'de> DeserializeSeed<'de> for Along<'_, '_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        if self.wanted.below.is_empty() {
            return reader.deserialize_ignored_any(IgnoredAny).map(drop);
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Along<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = match self.wanted.below.get(&Step::Index(index)) {
                Some(wanted) => {
                    self.seen.see(&wanted.faults);
                    seq.next_element_seed(Along {
                        wanted,
                        seen: &mut *self.seen,
                    })?
                }
                None => seq.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.wanted.below.get(&Step::Key(key)) {
                Some(wanted) => {
                    self.seen.see(&wanted.faults);
                    map.next_value_seed(Along {
                        wanted,
                        seen: &mut *self.seen,
                    })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}
