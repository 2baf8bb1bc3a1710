//! Watch events as bytes, in the encoding and shape the client chose.

use super::{meta, render};
use crate::cache::{ChangeKind, Object};
use crate::discovery::meaning;
use crate::registry::Served;
use crate::registry::select::Converted;
use crate::server::ApiServer;
use crate::wire::negotiate::{Encoding, Shape, Wanted};
use bytes::{BufMut, Bytes, BytesMut};
use kinds::status::Status;
use machinery::tables::IncludeObject;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// Writes the frames of one watch.
pub struct Frames {
    server: Arc<ApiServer>,
    served: Arc<Served>,
    wanted: Wanted,
    include: IncludeObject,
    /// Columns are sent with the first Table only.
    columns_sent: bool,
    /// Stored bytes are what the client gets.
    raw: bool,
    /// Which converted objects are wanted, and those that the client has been told of.
    selection: Option<Selection>,
}

/// A selection by fields that only converted objects have: what comes into it is added for the client, what leaves it deleted.
struct Selection {
    terms: Converted,
    /// Keys of the objects inside.
    inside: HashSet<(String, String)>,
}

impl Selection {
    /// What a change is for the client; `None` when it is nothing.
    fn kind(&mut self, kind: ChangeKind, value: &Value) -> Option<ChangeKind> {
        let key = (
            meta(value, "namespace").to_owned(),
            meta(value, "name").to_owned(),
        );
        let was = self.inside.contains(&key);
        let is = !matches!(kind, ChangeKind::Deleted) && self.terms.matches(value);
        if is {
            self.inside.insert(key);
        } else {
            self.inside.remove(&key);
        }
        match (was, is) {
            (false, true) => Some(ChangeKind::Added),
            (true, true) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Deleted),
            (false, false) => None,
        }
    }
}

impl Frames {
    /// Frames for a resource.
    pub fn new(
        server: Arc<ApiServer>,
        served: Arc<Served>,
        wanted: Wanted,
        include: &str,
    ) -> Result<Frames, Status> {
        let raw =
            served.shows_stored() && wanted.shape == Shape::Object && wanted.encoding != Encoding::Protobuf;
        Ok(Frames {
            // Who wants no Table is not asked what goes into it.
            include: match wanted.shape {
                Shape::Table(_) => render::include_object(include)?,
                _ => IncludeObject::None,
            },
            server,
            served,
            wanted,
            columns_sent: false,
            raw,
            selection: None,
        })
    }

    /// Sends only what those terms want; the client knows `inside` already.
    pub fn select(&mut self, terms: Converted, inside: HashSet<(String, String)>) {
        self.selection = Some(Selection { terms, inside });
    }

    /// Writes one event.
    pub async fn event(&mut self, out: &mut BytesMut, kind: ChangeKind, object: &Object) {
        if self.raw {
            json_frame(out, kind.as_str(), object.bytes());
            return;
        }
        match render::decode(&self.server, &self.served, object.bytes()).await {
            Ok(value) => {
                let kind = match &mut self.selection {
                    Some(selection) => selection.kind(kind, &value),
                    None => Some(kind),
                };
                let Some(kind) = kind else {
                    return;
                };
                let shaped = self.shape(value);
                self.value(out, kind.as_str(), &shaped);
            }
            Err(status) => out.put_slice(&self.error(&status)),
        }
    }

    /// Writes a bookmark: "you have seen everything up to this revision".
    pub fn bookmark(&mut self, out: &mut BytesMut, revision: u64, end_of_initial: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({
            "kind": self.served.kind.kind,
            "apiVersion": self.served.api_version(),
            "metadata": metadata,
        });
        // Clients with types of their own want what an object of the kind always has.
        machinery::write_form(self.served.kind, &mut object);
        let shaped = self.shape(object);
        self.value(out, "BOOKMARK", &shaped);
    }

    /// The frame that ends a watch with an error.
    pub fn error(&self, status: &Status) -> Bytes {
        let mut out = BytesMut::new();
        self.value(&mut out, "ERROR", &status.to_json());
        out.freeze()
    }

    fn shape(&mut self, value: Value) -> Value {
        match self.wanted.shape {
            Shape::Object => value,
            Shape::Partial(version) => render::partial(&value, version),
            Shape::Table(version) => {
                let mut table = match &self.served.custom {
                    Some(custom) => custom.table(std::slice::from_ref(&value), self.include),
                    None => machinery::tables::table(
                        self.served.kind,
                        std::iter::once(&value),
                        jiff::Timestamp::now(),
                        self.include,
                        &meaning,
                    ),
                };
                render::of_version(&mut table, version);
                if let Some(revision) = value.pointer("/metadata/resourceVersion") {
                    table["metadata"]["resourceVersion"] = revision.clone();
                }
                if std::mem::replace(&mut self.columns_sent, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
        }
    }

    fn value(&self, out: &mut BytesMut, event: &str, object: &Value) {
        match self.wanted.encoding {
            Encoding::Protobuf => match crate::wire::protobuf::encode_watch_frame(event, object) {
                Ok(frame) => out.put_slice(&frame),
                Err(error) => tracing::error!(%error, "a watch event has no protobuf form and was left out"),
            },
            // A stream has no YAML form; JSON is YAML.
            Encoding::Json | Encoding::Yaml => {
                let bytes = serde_json::to_vec(object).unwrap_or_default();
                json_frame(out, event, &bytes);
            }
        }
    }
}

fn json_frame(out: &mut BytesMut, event: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(event.as_bytes());
    out.put_slice(b"\",\"object\":");
    out.put_slice(object);
    out.put_slice(b"}\n");
}
