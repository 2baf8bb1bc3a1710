//! JSON to messages.
//!
//! Only what the object has is written: readers take the rest for zero. Fields without a place in the message are
//! left out, which is what upstream does with them when it decodes the JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::table::{Field, Message, Shape, Type, table};
use super::{MAX_DEPTH, ProtobufError, Writer};

/// Writes the fields of a message that is not special.
pub(super) fn fields(
    message: &Message,
    object: &Value,
    out: &mut Writer,
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let Some(map) = object.as_object() else {
        return if object.is_null() {
            Ok(())
        } else {
            Err(ProtobufError::WrongValue("of an object".to_owned()))
        };
    };
    for field in &message.fields {
        if let (true, Type::Message(index)) = (field.inline, field.ty) {
            out.try_message(field.tag, |inner| {
                fields(table().get(index), object, inner, depth + 1)
            })?;
            continue;
        }
        let Some(found) = map.get(field.json).filter(|found| !found.is_null()) else {
            continue;
        };
        match (field.shape, found) {
            (Shape::Single, found) => value(field, field.tag, found, out, depth)?,
            (Shape::Repeated, Value::Array(items)) => {
                for item in items {
                    value(field, field.tag, item, out, depth)?;
                }
            }
            (Shape::Map, Value::Object(entries)) => {
                for (key, item) in entries {
                    out.try_message(field.tag, |entry| {
                        entry.bytes(1, key.as_bytes());
                        value(field, 2, item, entry, depth)
                    })?;
                }
            }
            _ => return Err(wrong(field)),
        }
    }
    Ok(())
}

fn wrong(field: &Field) -> ProtobufError {
    ProtobufError::WrongValue(field.json.to_owned())
}

fn value(
    field: &Field,
    tag: u32,
    value: &Value,
    out: &mut Writer,
    depth: usize,
) -> Result<(), ProtobufError> {
    match (field.ty, value) {
        (Type::Text, Value::String(text)) => out.bytes(tag, text.as_bytes()),
        (Type::Bytes, Value::String(text)) => {
            out.bytes(tag, &STANDARD.decode(text).map_err(|_| wrong(field))?)
        }
        (Type::Text | Type::Bytes, Value::Null) => out.bytes(tag, b""),
        (Type::Integer, Value::Number(number)) => {
            // JSON may write whole numbers as 3.0.
            let whole = number
                .as_i64()
                .or_else(|| number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i64));
            out.varint(tag, whole.ok_or_else(|| wrong(field))? as u64);
        }
        (Type::Boolean, Value::Bool(flag)) => out.varint(tag, u64::from(*flag)),
        (Type::Double, Value::Number(number)) => {
            out.double(tag, number.as_f64().ok_or_else(|| wrong(field))?)
        }
        (Type::Message(index), value) => {
            let message = table().get(index);
            out.try_message(tag, |inner| match message.special {
                Some(_) if value.is_null() => Ok(()),
                Some(special) => special.encode(value, field.json, inner, depth),
                None => fields(message, value, inner, depth + 1),
            })?;
        }
        _ => return Err(wrong(field)),
    }
    Ok(())
}
