//! Takes labels, links and a few fields out of encoded JSON without decoding the rest.
//!
//! Every object that enters the cache passes here, so this skips what it does not want instead of building it.

use crate::scan::{Fault, Scanner};
use std::hash::{Hash, Hasher};

/// What was found.
#[derive(Debug, Default)]
pub struct Plucked {
    /// `metadata.labels`.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// What ties it to other objects.
    pub links: Links,
    /// The values of the wanted paths, empty where absent.
    pub fields: Vec<Box<str>>,
}

/// What the collector of garbage asks of every object.
#[derive(Debug, Default, Clone)]
pub struct Links {
    /// `metadata.uid`.
    pub uid: Uid,
    /// The uids of `metadata.ownerReferences`.
    pub owners: Box<[Uid]>,
    /// One of them is its controller.
    pub controlled: bool,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers` is not empty.
    pub finalizers: bool,
}

/// A uid in sixteen bytes: a UUID as it is, everything else as a digest. Good for finding, not for trusting: whoever
/// acts on it compares the text.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    /// The short form of a uid; of nothing for the empty one.
    pub fn of(text: &str) -> Uid {
        if text.is_empty() {
            return Uid(0);
        }
        let digits = text.bytes().filter(|b| *b != b'-');
        let number = (text.len() == 36).then(|| {
            digits.clone().try_fold(0u128, |sum, digit| {
                Some(sum << 4 | u128::from(char::from(digit).to_digit(16)?))
            })
        });
        Uid(number.flatten().unwrap_or_else(|| {
            let half = |salt: u8| {
                let mut hasher = std::hash::DefaultHasher::new();
                (salt, text).hash(&mut hasher);
                u128::from(hasher.finish())
            };
            half(0) << 64 | half(1)
        }))
    }
}

/// What a place in the object is to us, beside the fields that were asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Sense {
    #[default]
    Nothing,
    Labels,
    Uid,
    Owners,
    Owner,
    Controller,
    Deletion,
    Finalizers,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(Box<str>, Node)>,
    slot: Option<usize>,
    sense: Sense,
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
    /// Wants the labels, the links and the given dotted paths.
    pub fn new<S: AsRef<str>>(paths: &[S]) -> Plucker {
        let mut root = Node::default();
        let metadata = root.child("metadata");
        for (name, sense) in [
            ("labels", Sense::Labels),
            ("uid", Sense::Uid),
            ("deletionTimestamp", Sense::Deletion),
            ("finalizers", Sense::Finalizers),
            ("ownerReferences", Sense::Owners),
        ] {
            metadata.child(name).sense = sense;
        }
        let owners = metadata.child("ownerReferences");
        owners.child("uid").sense = Sense::Owner;
        owners.child("controller").sense = Sense::Controller;
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
    pub(crate) fn pluck(&self, json: &[u8]) -> Result<Plucked, Fault> {
        let mut reading = Reading {
            json: Scanner::new(json),
            out: Plucked {
                fields: vec!["".into(); self.count],
                ..Plucked::default()
            },
            owners: Vec::new(),
        };
        reading.value(&self.root)?;
        reading.json.end()?;
        reading.out.links.owners = reading.owners.into();
        Ok(reading.out)
    }
}

/// What is being put together.
struct Reading<'j> {
    json: Scanner<'j>,
    out: Plucked,
    owners: Vec<Uid>,
}

impl Reading<'_> {
    fn value(&mut self, node: &Node) -> Result<(), Fault> {
        match (self.json.peek()?, node.sense) {
            (b'{', Sense::Labels) => {
                self.json.open(b'{')?;
                while let Some(name) = self.json.entry()? {
                    let value = match self.json.peek()? {
                        b'"' => self.json.text()?,
                        _ => self.json.word().map(|_| "".into())?,
                    };
                    self.out.labels.push((name.into(), value.into()));
                }
            }
            (b'{', _) => {
                self.json.open(b'{')?;
                while let Some(name) = self.json.entry()? {
                    match node.children.iter().find(|(child, _)| **child == *name) {
                        Some((_, child)) => self.value(child)?,
                        None => self.json.skip()?,
                    }
                }
            }
            (b'[', sense) => {
                self.json.open(b'[')?;
                while self.json.item()? {
                    self.out.links.finalizers |= sense == Sense::Finalizers;
                    match sense {
                        Sense::Owners => self.value(node)?,
                        _ => self.json.skip()?,
                    }
                }
            }
            (b'"', _) => {
                let text = self.json.text()?;
                self.put(node, &text);
            }
            _ => {
                let word = self.json.word()?;
                self.out.links.controlled |= word == "true" && node.sense == Sense::Controller;
                if word != "null" {
                    self.put(node, word);
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, node: &Node, text: &str) {
        match node.sense {
            Sense::Uid => self.out.links.uid = Uid::of(text),
            Sense::Owner => self.owners.push(Uid::of(text)),
            Sense::Deletion => self.out.links.deleting = true,
            _ => {}
        }
        if let Some(slot) = node.slot {
            self.out.fields[slot] = text.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        let json = format!(
            r#"{{"metadata":{{"uid":"{uid}","deletionTimestamp":"t","finalizers":["f"],
                "ownerReferences":[{{"kind":"A","uid":"odd one"}},{{"uid":"{uid}","controller":true}}]}},"spec":{{"uid":"no"}}}}"#
        );
        let links = Plucker::new(&["metadata.name"])
            .pluck(json.as_bytes())
            .unwrap()
            .links;
        assert_eq!(links.uid, Uid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        assert_eq!(*links.owners, [Uid::of("odd one"), links.uid]);
        assert!(links.deleting && links.finalizers && links.controlled);
        let links = Plucker::new::<&str>(&[])
            .pluck(br#"{"metadata":{"ownerReferences":[{"uid":"a","controller":false}]},"controller":true}"#)
            .unwrap()
            .links;
        assert!(!links.controlled && links.owners.len() == 1);
        let links = Plucker::new::<&str>(&[])
            .pluck(br#"{"metadata":{"finalizers":[]}}"#)
            .unwrap()
            .links;
        assert!(!links.deleting && !links.finalizers && links.owners.is_empty());
        assert_eq!(links.uid, Uid::of(""));
        assert_ne!(Uid::of("a"), Uid::of("b"));
    }
}
