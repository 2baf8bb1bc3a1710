//! Protobuf in both directions for built-in kinds: bytes of a request to JSON, JSON to bytes of an answer.
//!
//! The messages are data (`tags.txt`, written by `cargo xtask gen-protobuf`), so one transcoder serves them all. An
//! object travels in an envelope (`k8s\0`, then a `runtime.Unknown` with apiVersion, kind and the message), a watch event
//! in a frame of its own. Kinds without messages, such as custom resources and our own, only speak JSON.

mod decode;
mod encode;
mod special;
mod table;
mod wire;

use kinds::KindInfo;
use serde_json::{Map, Value};

use table::{Message, table};

pub use wire::{Content, Reader, WireError, Writer};

/// What every envelope begins with.
const PREFIX: &[u8; 4] = b"k8s\0";
/// Messages inside messages; JSON has a like bound.
const MAX_DEPTH: usize = 100;

/// Why there is no other form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes do not begin as they must.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    /// No message is known for the object.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\" in the protobuf scheme")]
    NoMessage {
        /// `apiVersion` of the object.
        api_version: String,
        /// `kind` of the object.
        kind: String,
    },
    /// The bytes are no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A field has another wire type than its message says.
    #[error("proto: wrong wireType for field {0}")]
    WrongWireType(String),
    /// A value has another JSON type than its message says.
    #[error("field {0} has a value that its protobuf type cannot hold")]
    WrongValue(String),
    /// JSON inside the message is no JSON.
    #[error("field of raw JSON: {0}")]
    BadJson(String),
    /// Messages inside messages without end.
    #[error("proto: exceeded maximum recursion depth of {MAX_DEPTH}")]
    TooDeep,
    /// An envelope whose content is compressed or otherwise wrapped.
    #[error("the protobuf envelope has the unsupported content encoding \"{0}\"")]
    Encoding(String),
}

/// Whether objects of a kind have a protobuf form.
pub fn has(kind: &KindInfo) -> bool {
    table().find(kind.schema).is_some()
}

/// The object in an envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    decode_within(bytes, 0)
}

/// `depth`: how deep the envelope itself lies in others, by way of raw extensions.
fn decode_within(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let body = bytes.strip_prefix(PREFIX).ok_or(ProtobufError::NoPrefix)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((tag, content)) = reader.field()? {
        match (tag, content) {
            (1, Content::Bytes(meta)) => {
                let mut meta = Reader::new(meta);
                while let Some((tag, content)) = meta.field()? {
                    match (tag, content) {
                        (1, Content::Bytes(text)) => api_version = String::from_utf8_lossy(text).into_owned(),
                        (2, Content::Bytes(text)) => kind = String::from_utf8_lossy(text).into_owned(),
                        _ => {}
                    }
                }
            }
            (2, Content::Bytes(bytes)) => raw = bytes,
            (3, Content::Bytes(text)) if !text.is_empty() => {
                return Err(ProtobufError::Encoding(
                    String::from_utf8_lossy(text).into_owned(),
                ));
            }
            _ => {}
        }
    }
    let message = message_of(&api_version, &kind)?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(api_version));
    object.insert("kind".to_owned(), Value::String(kind));
    decode::fields(message, raw, depth, &mut object)?;
    Ok(Value::Object(object))
}

/// An object in an envelope; its `apiVersion` and `kind` say which message it is.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Writer::default();
    write_envelope(&mut out, object)?;
    Ok(out.finish())
}

fn write_envelope(out: &mut Writer, object: &Value) -> Result<(), ProtobufError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let message = message_of(api_version, kind)?;
    out.raw(PREFIX);
    out.message(1, |meta| {
        meta.text(1, api_version);
        meta.text(2, kind);
    });
    out.try_message(2, |raw| encode::fields(message, object, raw, 0))
}

/// A watch event as a frame of a stream: its length in four bytes, then a `WatchEvent` around the object's envelope.
pub fn encode_watch_frame(event: &str, object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Writer::default();
    out.raw(&[0; 4]);
    out.text(1, event);
    out.try_message(2, |extension| {
        extension.try_message(1, |raw| write_envelope(raw, object))
    })?;
    let mut frame = out.finish();
    // Objects are bounded far below 4 GiB.
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// The message of an object: that of its kind; of the list of its kind; a body of `io.k8s.api`; a type of the machinery,
/// which clients send under the version of whatever they are talking to.
fn message_of(api_version: &str, kind: &str) -> Result<&'static Message, ProtobufError> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let of_kind = |kind: &str| kinds::find_kind(group, version, kind).map(|info| info.schema.to_owned());
    let of_list = || Some(format!("{}List", of_kind(kind.strip_suffix("List")?)?));
    let short = if group.is_empty() {
        "core"
    } else {
        group.split('.').next().unwrap_or(group)
    };
    let names = [
        of_kind(kind),
        of_list(),
        Some(format!("io.k8s.api.{short}.{version}.{kind}")),
        Some(format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")),
    ];
    let found = names.into_iter().flatten().find_map(|name| table().find(&name));
    found.ok_or_else(|| ProtobufError::NoMessage {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}
