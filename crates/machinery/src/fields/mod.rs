//! Sets of fields, the currency of server-side apply: who owns what, what an applier asked for, what a write changed.
//! A set is a tree of path elements, each written as `FieldsV1` writes it (`f:name`, `k:{"name":"x"}`, `v:"x"`, `i:0`),
//! so that encoding and decoding are plain walks. Source: sigs.k8s.io/structured-merge-diff, `fieldpath`.

mod created;
mod typing;
mod walk;

pub use walk::Typed;
pub(crate) use walk::Walker;

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A set of field paths.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Set(BTreeMap<String, Node>);

#[derive(Debug, Clone, Default, PartialEq)]
struct Node {
    /// Whether the path that ends here belongs to the set.
    member: bool,
    children: Set,
}

impl Set {
    /// Reads `fieldsV1`.
    pub(crate) fn decode(fields: &Value) -> Self {
        let mut set = Set::default();
        for (element, below) in fields.as_object().into_iter().flatten() {
            if element == "." {
                continue;
            }
            let children = Set::decode(below);
            let member = below.get(".").is_some() || children.is_empty();
            set.0.insert(canonical(element), Node { member, children });
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(crate) fn encode(self) -> Value {
        Value::Object(self.encode_into(false))
    }

    /// `itself` says that the element above is a member, too.
    fn encode_into(self, itself: bool) -> Map<String, Value> {
        let itself = itself.then(|| (".".to_owned(), Value::Object(Map::new())));
        let below = self.0.into_iter().map(|(element, node)| {
            let itself = node.member && !node.children.is_empty();
            (element, Value::Object(node.children.encode_into(itself)))
        });
        itself.into_iter().chain(below).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.values().all(|n| !n.member && n.children.is_empty())
    }

    /// Adds the path of one element.
    pub(crate) fn insert(&mut self, element: impl Into<String>) {
        self.0.entry(element.into()).or_default().member = true;
    }

    /// Whether the path of one element belongs to the set.
    pub(crate) fn has(&self, element: &str) -> bool {
        self.0.get(element).is_some_and(|n| n.member)
    }

    /// The part below an element.
    pub(crate) fn below(&self, element: &str) -> Option<&Set> {
        self.0.get(element).map(|n| &n.children).filter(|c| !c.is_empty())
    }

    /// Puts a set below an element.
    pub(crate) fn attach(&mut self, element: impl Into<String>, children: Set) {
        if !children.is_empty() {
            self.0
                .entry(element.into())
                .or_default()
                .children
                .absorb(children);
        }
    }

    /// Takes in all paths of another set; answers whether any of them is new.
    pub(crate) fn absorb(&mut self, other: Set) -> bool {
        if self.0.is_empty() {
            *self = other;
            return !self.is_empty();
        }
        let mut grown = false;
        for (element, node) in other.0 {
            let mine = self.0.entry(element).or_default();
            grown |= node.member && !mine.member;
            mine.member |= node.member;
            grown |= mine.children.absorb(node.children);
        }
        grown
    }

    /// The elements at this level.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Takes away an element with everything below it.
    pub(crate) fn cut(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [last] => {
                self.0.remove(*last);
            }
            [first, rest @ ..] => {
                if let Some(node) = self.0.get_mut(*first) {
                    node.children.cut(rest);
                    if !node.member && node.children.is_empty() {
                        self.0.remove(*first);
                    }
                }
            }
        }
    }

    /// Takes away the path of one element, and nothing below it.
    pub(crate) fn cut_itself(&mut self, element: &str) {
        if let Some(node) = self.0.get_mut(element) {
            node.member = false;
            if node.children.is_empty() {
                self.0.remove(element);
            }
        }
    }

    pub(crate) fn union(&self, other: &Set) -> Set {
        let mut out = self.clone();
        out.absorb(other.clone());
        out
    }

    /// The paths that are in both, each path by itself.
    pub(crate) fn intersection(&self, other: &Set) -> Set {
        self.combine(other, &|a, b| a && b)
    }

    /// The paths that are here and not there, each path by itself.
    pub(crate) fn difference(&self, other: &Set) -> Set {
        self.combine(other, &|a, b| a && !b)
    }

    fn combine(&self, other: &Set, keep: &dyn Fn(bool, bool) -> bool) -> Set {
        let mut out = BTreeMap::new();
        let nothing = Node::default();
        for (element, node) in &self.0 {
            let theirs = other.0.get(element).unwrap_or(&nothing);
            let member = keep(node.member, theirs.member);
            let children = node.children.combine(&theirs.children, keep);
            if member || !children.is_empty() {
                out.insert(element.clone(), Node { member, children });
            }
        }
        Set(out)
    }

    /// Whether a path is in both.
    pub(crate) fn meets(&self, other: &Set) -> bool {
        let (few, many) = match self.0.len() <= other.0.len() {
            true => (self, other),
            false => (other, self),
        };
        few.0.iter().any(|(element, node)| {
            let theirs = many.0.get(element);
            theirs.is_some_and(|t| (node.member && t.member) || node.children.meets(&t.children))
        })
    }

    /// Whether a path is in both, the other one being written as `fieldsV1` in canonical spelling.
    pub(crate) fn meets_written(&self, other: &Value) -> bool {
        self.0.iter().any(|(element, node)| {
            let theirs = other.get(element);
            theirs.is_some_and(|t| (node.member && ends_here(t)) || node.children.meets_written(t))
        })
    }

    /// Adds all paths to a set that is written as `fieldsV1` in canonical spelling; answers whether any of them is new.
    pub(crate) fn add_to_written(self, other: &mut Value) -> bool {
        let Value::Object(fields) = other else {
            *other = self.encode();
            return true;
        };
        let mut grown = false;
        for (element, node) in self.0 {
            if !node.member && node.children.is_empty() {
                continue;
            }
            let Some(theirs) = fields.get_mut(&element) else {
                let itself = node.member && !node.children.is_empty();
                fields.insert(element, Value::Object(node.children.encode_into(itself)));
                grown = true;
                continue;
            };
            let ended = ends_here(theirs);
            grown |= node.member && !ended;
            let below = !node.children.is_empty();
            grown |= below && node.children.add_to_written(theirs);
            if let Value::Object(theirs) = theirs
                && (ended || node.member)
                && !theirs.is_empty()
            {
                theirs.entry(".").or_insert_with(|| Value::Object(Map::new()));
            }
        }
        grown
    }

    /// The paths as messages show them: `.spec.containers[name="web"].image`.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, at: &str, out: &mut Vec<String>) {
        // What ends at this level comes before what lies deeper, as upstream goes through a set.
        for (element, _) in self.0.iter().filter(|(_, node)| node.member) {
            out.push(format!("{at}{}", shown(element)));
        }
        for (element, node) in &self.0 {
            node.children.collect(&format!("{at}{}", shown(element)), out);
        }
    }
}

/// Whether the path to a part of a written set belongs to it.
fn ends_here(written: &Value) -> bool {
    let fields = written.as_object();
    fields.is_none_or(|fields| fields.is_empty() || fields.contains_key("."))
}

/// An element in its canonical spelling: keys sorted, no spaces.
fn canonical(element: &str) -> String {
    let Some(keys) = element.strip_prefix("k:") else {
        return element.to_string();
    };
    // One key and no space anywhere, as nearly all are.
    if keys.matches("\":").count() == 1 && !keys.contains(char::is_whitespace) {
        return element.to_string();
    }
    match serde_json::from_str::<BTreeMap<String, Value>>(keys) {
        Ok(keys) => format!("k:{}", json!(keys)),
        _ => element.to_string(),
    }
}

fn shown(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let shown: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("[{}]", shown.join(","))
        }
        Some(("v", value)) => format!("[={value}]"),
        Some((_, index)) => format!("[{index}]"),
        None => element.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_set_grows_as_a_read_one_does() {
        let sets = [
            json!({}),
            json!({"f:a": {}}),
            json!({"f:a": {"f:b": {}}}),
            json!({"f:a": {".": {}, "f:b": {}}}),
            json!({"f:a": {"f:b": {"k:{\"name\":\"x\"}": {".": {}, "f:c": {}}}}, "f:d": {}}),
            json!({"f:a": {"f:b": {"k:{\"name\":\"x\"}": {"f:e": {}}}}, "f:g": {"v:1": {}}}),
        ];
        for one in &sets {
            for more in &sets {
                let mut read = Set::decode(one);
                let grown = read.absorb(Set::decode(more));
                let mut written = one.clone();
                let told = Set::decode(more).add_to_written(&mut written);
                assert_eq!((&written, told), (&read.encode(), grown), "{one} and {more}");
                assert_eq!(
                    Set::decode(more).meets_written(one),
                    Set::decode(more).meets(&Set::decode(one)),
                    "{one} and {more}"
                );
            }
        }
    }
}
