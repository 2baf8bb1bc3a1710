//! Messages whose JSON form is not an object of their fields: times, quantities, raw JSON, and unions of types.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::table::{Message, table};
use super::{Content, MAX_DEPTH, PREFIX, ProtobufError, Reader, Writer, decode, decode_within, encode};

/// How the JSON form of such a message is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// RFC 3339 to the second; microseconds are kept by one of the two types only.
    Time { micro: bool },
    /// A length of time as Go writes it, such as `1m30s`; nanoseconds on the wire.
    Duration,
    /// The text of its one field.
    Quantity,
    /// A number or a text.
    IntOrString,
    /// Any JSON, as bytes in its one field.
    RawJson,
    /// A list of texts.
    Texts,
    /// A schema, or schemas.
    SchemaOrArray,
    /// A schema, or whether anything is allowed.
    SchemaOrBool,
    /// A schema, or names of fields.
    SchemaOrTexts,
}

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

impl Special {
    pub(super) fn of(name: &str) -> Option<Self> {
        let short = name.strip_prefix("io.k8s.").unwrap_or(name);
        let short = short.strip_prefix("apimachinery.pkg.").unwrap_or(short);
        let short = short
            .strip_prefix("apiextensions-apiserver.pkg.apis.")
            .unwrap_or(short);
        Some(match short {
            "apis.meta.v1.Time" | "apis.meta.v1.Timestamp" => Self::Time { micro: false },
            "apis.meta.v1.MicroTime" => Self::Time { micro: true },
            "apis.meta.v1.Duration" => Self::Duration,
            "api.resource.Quantity" => Self::Quantity,
            "util.intstr.IntOrString" => Self::IntOrString,
            "runtime.RawExtension" | "apis.meta.v1.FieldsV1" | "apiextensions.v1.JSON" => Self::RawJson,
            "apis.meta.v1.Verbs"
            | "api.authentication.v1.ExtraValue"
            | "api.authorization.v1.ExtraValue"
            | "api.certificates.v1.ExtraValue" => Self::Texts,
            "apiextensions.v1.JSONSchemaPropsOrArray" => Self::SchemaOrArray,
            "apiextensions.v1.JSONSchemaPropsOrBool" => Self::SchemaOrBool,
            "apiextensions.v1.JSONSchemaPropsOrStringArray" => Self::SchemaOrTexts,
            _ => return None,
        })
    }

    /// The JSON form; null for what Go calls a zero time or an empty extension.
    pub(super) fn decode(self, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let mut reader = Reader::new(bytes);
        let (mut numbers, mut texts, mut lists) = ([0_u64; 4], [None; 4], Vec::new());
        while let Some((tag, content)) = reader.field()? {
            let slot = tag as usize;
            match content {
                Content::Varint(number) if slot < 4 => numbers[slot] = number,
                Content::Bytes(bytes) if slot < 4 => {
                    texts[slot] = Some(bytes);
                    lists.push((tag, bytes));
                }
                _ => {}
            }
        }
        let text = |slot: usize| {
            texts[slot]
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
                .unwrap_or_default()
        };
        let items = |wanted: u32| {
            lists
                .iter()
                .filter(move |(tag, _)| *tag == wanted)
                .map(|(_, bytes)| *bytes)
        };
        Ok(match self {
            Self::Time { .. } if bytes.is_empty() => Value::Null,
            Self::Time { micro } => {
                let nanos = if micro { numbers[2] as i32 } else { 0 };
                let time = Timestamp::new(numbers[1] as i64, nanos);
                let time = time.map_err(|error| ProtobufError::WrongValue(error.to_string()))?;
                Value::String(if micro {
                    format!("{time:.6}")
                } else {
                    format!("{time:.0}")
                })
            }
            Self::Duration => json!(go_duration(numbers[1] as i64)),
            Self::Quantity => json!(match text(1) {
                text if text.is_empty() => "0".to_owned(),
                text => text,
            }),
            Self::IntOrString if numbers[1] == 0 => json!(numbers[2] as i64),
            Self::IntOrString => json!(text(3)),
            Self::RawJson => match texts[1] {
                None | Some([]) => Value::Null,
                Some(raw) if raw.starts_with(PREFIX) && depth < MAX_DEPTH => decode_within(raw, depth + 1)?,
                Some(raw) => {
                    serde_json::from_slice(raw).map_err(|error| ProtobufError::BadJson(error.to_string()))?
                }
            },
            Self::Texts => items(1)
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect(),
            Self::SchemaOrArray => match texts[1] {
                Some(schema) => decode_schema(schema, depth)?,
                None => items(2)
                    .map(|schema| decode_schema(schema, depth))
                    .collect::<Result<_, _>>()?,
            },
            Self::SchemaOrBool => match texts[2] {
                Some(schema) => decode_schema(schema, depth)?,
                None => json!(numbers[1] != 0),
            },
            Self::SchemaOrTexts => match texts[1] {
                Some(schema) => decode_schema(schema, depth)?,
                None => items(2)
                    .map(|text| String::from_utf8_lossy(text).into_owned())
                    .collect(),
            },
        })
    }

    /// Writes the fields of the message. `field` is for errors.
    pub(super) fn encode(
        self,
        value: &Value,
        field: &str,
        out: &mut Writer,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let wrong = || ProtobufError::WrongValue(field.to_owned());
        match (self, value) {
            (Self::Time { micro }, Value::String(text)) => {
                let time: Timestamp = text.parse().map_err(|_| wrong())?;
                // Go's zero time is the year 1; an empty message stands for it.
                out.varint(1, time.as_second() as u64);
                let micros = if micro {
                    time.subsec_nanosecond() / 1000 * 1000
                } else {
                    0
                };
                out.varint(2, i64::from(micros) as u64);
            }
            (Self::Duration, Value::String(text)) => {
                let length: SignedDuration = text.parse().map_err(|_| wrong())?;
                let nanos = i64::try_from(length.as_nanos()).map_err(|_| wrong())?;
                out.varint(1, nanos as u64);
            }
            (Self::Quantity, Value::String(text)) => out.text(1, text),
            (Self::Quantity, Value::Number(number)) => out.text(1, &number.to_string()),
            (Self::IntOrString, Value::Number(number)) => {
                out.varint(1, 0);
                out.varint(2, number.as_i64().ok_or_else(wrong)? as u64);
                out.bytes(3, b"");
            }
            (Self::IntOrString, Value::String(text)) => {
                out.varint(1, 1);
                out.varint(2, 0);
                out.bytes(3, text.as_bytes());
            }
            (Self::RawJson, value) => out.bytes(1, value.to_string().as_bytes()),
            (Self::Texts, Value::Array(items)) => texts(items, 1, out).ok_or_else(wrong)?,
            (Self::SchemaOrArray, Value::Array(schemas)) => {
                for schema in schemas {
                    encode_schema(schema, 2, out, depth)?;
                }
            }
            (Self::SchemaOrBool, Value::Bool(allows)) => out.varint(1, u64::from(*allows)),
            (Self::SchemaOrBool, schema @ Value::Object(_)) => {
                out.varint(1, 1);
                encode_schema(schema, 2, out, depth)?;
            }
            (Self::SchemaOrTexts, Value::Array(items)) => texts(items, 2, out).ok_or_else(wrong)?,
            (Self::SchemaOrArray | Self::SchemaOrTexts, schema @ Value::Object(_)) => {
                encode_schema(schema, 1, out, depth)?;
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// Whether a message of this type that stands alone may be left out: what JSON would write for Go's zero value.
    pub(super) fn is_zero(self, value: &Value) -> bool {
        value.is_null() || (self == Self::IntOrString && (*value == json!(0) || *value == json!("")))
    }
}

/// Nanoseconds as Go's `time.Duration` prints them.
fn go_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        format!("{}{point}{digits}", value / unit)
    };
    let text = match magnitude {
        0 => "0s".to_owned(),
        1..1_000 => format!("{magnitude}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(magnitude, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(magnitude, 1_000_000)),
        _ => {
            let minutes = magnitude / 60_000_000_000;
            let seconds = fraction(magnitude % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

fn texts(items: &[Value], tag: u32, out: &mut Writer) -> Option<()> {
    for item in items {
        out.bytes(tag, item.as_str()?.as_bytes());
    }
    Some(())
}

fn schema_message() -> Result<&'static Message, ProtobufError> {
    table().find(SCHEMA).ok_or_else(|| ProtobufError::NoMessage {
        api_version: String::new(),
        kind: SCHEMA.to_owned(),
    })
}

fn decode_schema(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    decode::object(schema_message()?, bytes, depth + 1)
}

fn encode_schema(schema: &Value, tag: u32, out: &mut Writer, depth: usize) -> Result<(), ProtobufError> {
    let message = schema_message()?;
    out.try_message(tag, |inner| encode::fields(message, schema, inner, depth + 1))
}
