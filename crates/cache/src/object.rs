//! One object as the cache holds it: the bytes that clients get, and what selectors ask for.
//!
//! The encoding is ours to choose and always begins `{"apiVersion":…,"kind":…,"metadata":{`. That makes two things
//! cheap: the revision, known only after the commit, is spliced in behind that brace; and list items, which upstream
//! sends without `apiVersion` and `kind`, are a suffix of the same bytes.

use crate::json::{write, write_entry};
pub use crate::pluck::Uid;
use crate::pluck::{Links, Plucker};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock};

const METADATA: &[u8] = br#""metadata":{"#;

/// An object at one revision.
pub struct Object {
    /// `namespace/name`, or `name` for cluster-scoped objects.
    key: Box<str>,
    namespace_len: u32,
    /// Offset of `"metadata":` in `bytes`.
    head: u32,
    revision: u64,
    bytes: Bytes,
    labels: Box<[(Box<str>, Box<str>)]>,
    links: Links,
    /// Values of the resource's selectable fields, in their order.
    fields: Box<[Box<str>]>,
    /// The decoded form, kept only where it is asked for again and again (see `keep_decoded`).
    decoded: Option<OnceLock<Arc<Value>>>,
}

/// Why stored bytes could not be understood.
#[derive(Debug, thiserror::Error)]
#[error("the stored object {key} is damaged: {why}")]
pub struct Damaged {
    key: String,
    why: String,
}

impl Object {
    /// Builds the cached form of stored bytes, splicing in the revision.
    pub fn from_stored(
        namespace: &str,
        name: &str,
        stored: &[u8],
        revision: u64,
        plucker: &Plucker,
        keep_decoded: bool,
    ) -> Result<Object, Damaged> {
        let key = object_key(namespace, name);
        let damaged = |why: String| Damaged {
            key: key.clone(),
            why,
        };
        let head = find(stored, METADATA).ok_or_else(|| damaged("no metadata".into()))?;
        let plucked = plucker.pluck(stored).map_err(|e| damaged(e.to_string()))?;
        Ok(Object {
            namespace_len: namespace.len() as u32,
            head: head as u32,
            revision,
            bytes: splice(stored, head, revision),
            labels: plucked.labels.into_boxed_slice(),
            links: plucked.links,
            fields: plucked.fields.into_boxed_slice(),
            decoded: keep_decoded.then(OnceLock::new),
            key: key.into_boxed_str(),
        })
    }

    /// The same object shown at a later revision: what a deletion event carries.
    pub fn at_revision(&self, revision: u64) -> Object {
        let head = self.head as usize;
        let start = head + METADATA.len();
        let old = format!(r#""resourceVersion":"{}","#, self.revision);
        let rest = &self.bytes[start..];
        let rest = rest.strip_prefix(old.as_bytes()).unwrap_or(rest);
        let mut bytes = BytesMut::with_capacity(self.bytes.len() + 8);
        bytes.put_slice(&self.bytes[..start]);
        put_revision(&mut bytes, revision);
        bytes.put_slice(rest);
        Object {
            key: self.key.clone(),
            namespace_len: self.namespace_len,
            head: self.head,
            revision,
            bytes: bytes.freeze(),
            labels: self.labels.clone(),
            links: self.links.clone(),
            fields: self.fields.clone(),
            decoded: None,
        }
    }

    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The namespace, empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        &self.key[..self.namespace_len as usize]
    }

    /// The name.
    pub fn name(&self) -> &str {
        match self.namespace_len {
            0 => &self.key,
            n => &self.key[n as usize + 1..],
        }
    }

    /// The revision that wrote it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The whole object as JSON.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The object without its leading brace, `apiVersion` and `kind`: put `{` before it.
    pub fn item_tail(&self) -> &[u8] {
        &self.bytes[self.head as usize..]
    }

    /// Labels in key order of the encoding.
    pub fn labels(&self) -> &[(Box<str>, Box<str>)] {
        &self.labels
    }

    /// The value of a label, if it has one.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|(k, _)| **k == *key).map(|(_, v)| &**v)
    }

    /// Uid, owners, and whether it is going.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Whether its JSON has this text in it: a cheap first look before it is decoded.
    pub fn mentions(&self, text: &str) -> bool {
        memchr::memmem::find(&self.bytes, text.as_bytes()).is_some()
    }

    /// A selectable field by its place, see [`fields`](crate::fields); empty when it is absent.
    pub fn field(&self, at: usize) -> &str {
        self.fields.get(at).map_or("", |v| v)
    }

    /// Values of the selectable fields of the resource.
    pub fn fields(&self) -> &[Box<str>] {
        &self.fields
    }

    /// The decoded object.
    pub fn value(&self) -> Arc<Value> {
        // The bytes are our own encoding; that they parse was checked when the index was built.
        let decode = || Arc::new(serde_json::from_slice(&self.bytes).unwrap_or(Value::Null));
        match &self.decoded {
            Some(kept) => kept.get_or_init(decode).clone(),
            None => decode(),
        }
    }

    /// Bytes of memory this object takes, about.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.key.len() + 200
    }
}

/// The key of an object within its resource.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_string()
    } else {
        format!("{namespace}/{name}")
    }
}

/// Encodes an object for the store: known start, no resourceVersion.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    out.extend_from_slice(b"{\"apiVersion\":");
    write(&mut out, fields.get("apiVersion").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"kind\":");
    write(&mut out, fields.get("kind").unwrap_or(&Value::Null));
    out.extend_from_slice(b",\"metadata\":{");
    let mut first = true;
    for (name, value) in fields
        .get("metadata")
        .and_then(Value::as_object)
        .unwrap_or(&empty)
    {
        if name == "resourceVersion" || name == "selfLink" {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_entry(&mut out, name, value);
    }
    out.push(b'}');
    for (name, value) in fields {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            out.push(b',');
            write_entry(&mut out, name, value);
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

/// Stored bytes with their revision, as clients get them.
pub fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    match find(stored, METADATA) {
        Some(head) => splice(stored, head, revision),
        None => Bytes::copy_from_slice(stored),
    }
}

/// An object that has a revision already, with another one: that of its end.
pub fn at_revision(bytes: &[u8], revision: u64) -> Bytes {
    const FIELD: &[u8] = b"\"resourceVersion\":\"";
    let Some(start) = find(bytes, METADATA).map(|head| head + METADATA.len()) else {
        return Bytes::copy_from_slice(bytes);
    };
    let digits = bytes[start..].strip_prefix(FIELD);
    let Some(end) = digits.and_then(|digits| digits.iter().position(|b| *b == b'"')) else {
        return with_revision(bytes, revision);
    };
    let mut rest = &bytes[start + FIELD.len() + end + 1..];
    let mut out = BytesMut::with_capacity(bytes.len() + 20);
    out.put_slice(&bytes[..start]);
    put_revision(&mut out, revision);
    match rest.strip_prefix(b",") {
        Some(more) => rest = more,
        None => out.truncate(out.len() - 1),
    }
    out.put_slice(rest);
    out.freeze()
}

fn splice(stored: &[u8], head: usize, revision: u64) -> Bytes {
    let start = head + METADATA.len();
    let mut bytes = BytesMut::with_capacity(stored.len() + 42);
    bytes.put_slice(&stored[..start]);
    put_revision(&mut bytes, revision);
    if stored.get(start) == Some(&b'}') {
        bytes.truncate(bytes.len() - 1);
    }
    bytes.put_slice(&stored[start..]);
    bytes.freeze()
}

fn put_revision(out: &mut BytesMut, revision: u64) {
    out.put_slice(b"\"resourceVersion\":\"");
    out.put_slice(revision.to_string().as_bytes());
    out.put_slice(b"\",");
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn revision_goes_in_and_kind_comes_off() {
        let object = json!({"kind":"Pod","spec":{"a":1},"apiVersion":"v1",
            "metadata":{"name":"x","resourceVersion":"7","labels":{"l":"v"}}});
        let stored = encode(&object);
        let expected =
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"l":"v"},"name":"x"},"spec":{"a":1}}"#;
        assert_eq!(stored, expected);
        let cached = Object::from_stored("ns", "x", &stored, 42, &Plucker::new(&["spec.a"]), false).unwrap();
        assert_eq!(
            (cached.namespace(), cached.name(), cached.key()),
            ("ns", "x", "ns/x")
        );
        assert_eq!(cached.value()["metadata"]["resourceVersion"], "42");
        assert_eq!(&*cached.fields()[0], "1");
        assert_eq!(cached.labels()[0], ("l".into(), "v".into()));
        assert!(
            cached
                .item_tail()
                .starts_with(br#""metadata":{"resourceVersion":"42","labels":{"l":"v"},"name":"x""#)
        );
        let later = cached.at_revision(43);
        assert_eq!(later.bytes().len(), cached.bytes().len());
        assert_eq!(later.value()["metadata"]["resourceVersion"], "43");
        assert_eq!(with_revision(&stored, 42), cached.bytes());
    }
}
