//! Messages to JSON.
//!
//! Unknown fields are skipped, as Go's decoders do. A zero that only says "not set" is left out, see `table`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::table::{Field, Message, Shape, Type, table};
use super::{Content, MAX_DEPTH, ProtobufError, Reader};

/// The JSON form of a message that is not special.
pub(super) fn object(message: &Message, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut object = Map::new();
    fields(message, bytes, depth, &mut object)?;
    Ok(Value::Object(object))
}

/// Adds the fields of a message to an object.
pub(super) fn fields(
    message: &Message,
    bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((tag, content)) = reader.field()? {
        let Some(field) = message.field(tag) else { continue };
        match field.shape {
            Shape::Single if field.inline => {
                if let (Type::Message(index), Content::Bytes(bytes)) = (field.ty, content) {
                    fields(table().get(index), bytes, depth + 1, object)?;
                }
            }
            Shape::Single => {
                let value = value(field, content, depth)?;
                if field.keeps_zero && !value.is_null() || !is_zero(field, &value) {
                    object.insert(field.json.to_owned(), value);
                }
            }
            Shape::Repeated => {
                let list = object.entry(field.json).or_insert_with(|| json!([]));
                let Some(list) = list.as_array_mut() else { continue };
                match (field.ty, content) {
                    // Numbers may come packed.
                    (Type::Integer, Content::Bytes(packed)) => {
                        let mut packed = Reader::new(packed);
                        while let Some(number) = packed.packed()? {
                            list.push(json!(number as i64));
                        }
                    }
                    _ => list.push(value(field, content, depth)?),
                }
            }
            Shape::Map => {
                let (key, value) = entry(field, content, depth)?;
                let map = object.entry(field.json).or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(())
}

fn value(field: &Field, content: Content<'_>, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match (field.ty, content) {
        (Type::Text, Content::Bytes(bytes)) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
        (Type::Bytes, Content::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        // Negative numbers of either width come sign-extended to 64 bits.
        (Type::Integer, Content::Varint(number)) => json!(number as i64),
        (Type::Boolean, Content::Varint(number)) => json!(number != 0),
        (Type::Double, Content::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Type::Message(index), Content::Bytes(bytes)) => {
            let message = table().get(index);
            match message.special {
                Some(special) => special.decode(bytes, depth)?,
                None => object(message, bytes, depth + 1)?,
            }
        }
        _ => return Err(ProtobufError::WrongWireType(field.json.to_owned())),
    })
}

/// An entry of a map is a message: key 1, value 2, either left out when zero.
fn entry(field: &Field, content: Content<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Content::Bytes(bytes) = content else {
        return Err(ProtobufError::WrongWireType(field.json.to_owned()));
    };
    let mut key = String::new();
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some((tag, content)) = reader.field()? {
        match (tag, content) {
            (1, Content::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, content) => found = Some(value(field, content, depth)?),
            _ => {}
        }
    }
    let value = match found {
        Some(value) => value,
        None => value(field, Content::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn is_zero(field: &Field, value: &Value) -> bool {
    match (field.ty, value) {
        (Type::Text | Type::Bytes, Value::String(text)) => text.is_empty(),
        (Type::Integer, value) => *value == json!(0),
        (Type::Boolean, value) => *value == json!(false),
        (Type::Message(index), value) => table()
            .get(index)
            .special
            .is_some_and(|special| special.is_zero(value)),
        _ => false,
    }
}
