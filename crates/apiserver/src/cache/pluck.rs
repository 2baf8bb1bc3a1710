//! Takes labels and a few fields out of encoded JSON without decoding the rest.
//!
//! Every object that enters the cache passes here, so this skips what it does not want instead of building it.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What was found.
#[derive(Debug, Default)]
pub struct Plucked {
    /// `metadata.labels`.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The values of the wanted paths, empty where absent.
    pub fields: Vec<Box<str>>,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, Node)>,
    slot: Option<usize>,
    labels: bool,
}

impl Node {
    fn child(&mut self, name: &str) -> &mut Node {
        let at = self
            .children
            .iter()
            .position(|(n, _)| **n == *name)
            .unwrap_or_else(|| {
                self.children.push((name.into(), Node::default()));
                self.children.len() - 1
            });
        &mut self.children[at].1
    }
}

/// The paths wanted of one resource, as a tree.
#[derive(Debug)]
pub struct Plucker {
    root: Node,
    count: usize,
}

impl Plucker {
    /// Wants the labels and the given dotted paths.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Plucker {
        let mut root = Node::default();
        root.child("metadata").child("labels").labels = true;
        for (slot, path) in paths.iter().enumerate() {
            let leaf = path
                .as_ref()
                .split('.')
                .filter(|p| !p.is_empty())
                .fold(&mut root, |n, p| n.child(p));
            leaf.slot = Some(slot);
        }
        Plucker {
            root,
            count: paths.len(),
        }
    }

    /// Reads one object.
    pub fn pluck(&self, json: &[u8]) -> Result<Plucked, serde_json::Error> {
        let mut out = Plucked {
            labels: Vec::new(),
            fields: vec!["".into(); self.count],
        };
        let mut reader = serde_json::Deserializer::from_slice(json);
        Seed {
            node: &self.root,
            out: &mut out,
        }
        .deserialize(&mut reader)?;
        reader.end()?;
        Ok(out)
    }
}

struct Seed<'a> {
    node: &'a Node,
    out: &'a mut Plucked,
}

impl Seed<'_> {
    fn put(self, text: impl Into<Box<str>>) {
        if let Some(slot) = self.node.slot {
            self.out.fields[slot] = text.into();
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.node.labels {
            while let Some((k, v)) = map.next_entry::<Box<str>, Option<Box<str>>>()? {
                self.out.labels.push((k, v.unwrap_or_default()));
            }
            return Ok(());
        }
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.node.children.iter().find(|(name, _)| **name == *key) {
                Some((_, node)) => map.next_value_seed(Seed { node, out: self.out })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.put(v);
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.put(v.to_string());
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.put(v.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.put(v.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.put(v.to_string());
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
