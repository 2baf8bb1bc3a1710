//! The form in which Go's encoder writes an object: upstream decodes a body into structs, stores those and encodes them
//! again, so that fields without `omitempty` are always there (`rules: null`, `status: {}`, `serviceName: ""`), and texts,
//! numbers and flags with it are left out while they are zero. What the tags say stands in the schema table
//! ([`kinds::schema::Zero`]).

use crate::decode::{PROPS, schemas_below};
use crate::empties::is_no_item;
use crate::walk::keep_where;
use kinds::KindInfo;
use kinds::quantity::Quantity;
use kinds::schema::{self, Definition, SchemaTable, Type, Zero};
use serde_json::{Map, Value};

/// Writes an object of a built-in kind as Go's encoder would. Idempotent.
pub fn write(kind: &KindInfo, object: &mut Value) {
    let table = schema::builtin();
    if let (Some(definition), Value::Object(fields)) = (table.definition(kind.schema), object) {
        write_fields(table, definition, fields);
    }
}

/// What Go's encoder writes of an object that nobody has put anything into.
pub(crate) fn blank(table: &SchemaTable, definition: &Definition) -> Map<String, Value> {
    let written = definition.written.iter();
    written
        .map(|(name, zero)| (name.clone(), zero_value(table, definition, name, *zero)))
        .collect()
}

/// What RuntimeClasses say their Pods cost, which is nowhere defaulted and keeps its fractions.
const OF_CLASSES: &str = "podFixed";

fn zero_value(table: &SchemaTable, definition: &Definition, name: &str, zero: Zero) -> Value {
    match zero {
        Zero::Absent | Zero::LeftOut | Zero::Null => Value::Null,
        Zero::Empty => "".into(),
        Zero::Number => 0.into(),
        Zero::False => false.into(),
        Zero::Nothing => "0".into(),
        Zero::Struct => {
            let field = definition.fields.get(name);
            let below = field.and_then(|field| table.object(&field.ty));
            Value::Object(below.map(|below| blank(table, below)).unwrap_or_default())
        }
    }
}

fn write_fields(table: &SchemaTable, definition: &Definition, fields: &mut Map<String, Value>) {
    keep_where(fields, |name, value| {
        let Some(field) = definition.fields.get(name) else {
            return true;
        };
        let zero = field.zero;
        let nothing = match zero {
            Zero::LeftOut => is_zero(value),
            // What may be anything may be null.
            Zero::Absent if value.is_null() => !matches!(field.ty, Type::Any),
            // Who sends an empty list of owners forgets them, which is seen to when the object is written.
            Zero::Absent if name == "managedFields" => false,
            Zero::Absent => definition.upstream && is_no_item(&field.ty, value),
            _ => false,
        };
        if nothing {
            return false;
        }
        if zero.is_written() && (value.is_null() || zero == Zero::Null && is_no_item(&field.ty, value)) {
            *value = zero_value(table, definition, name, zero);
        } else if name != OF_CLASSES {
            write_value(table, &field.ty, value);
        }
        if matches!(field.ty, Type::Any)
            && let Some(schema) = table.definition(PROPS).filter(|of| std::ptr::eq(*of, definition))
        {
            for below in schemas_below(name, value)
                .into_iter()
                .filter_map(Value::as_object_mut)
            {
                write_fields(table, schema, below);
            }
        }
        true
    });
    for (name, zero) in &definition.written {
        if !fields.contains_key(name) {
            fields.insert(name.clone(), zero_value(table, definition, name, *zero));
        }
    }
}

fn write_value(table: &SchemaTable, ty: &Type, value: &mut Value) {
    match (ty, value) {
        (Type::Ref(_) | Type::Object(_), Value::Object(fields)) => {
            if let Some(definition) = table.object(ty) {
                write_fields(table, definition, fields);
            }
        }
        (Type::List(list), Value::Array(items)) if holds_structs(&list.items) => {
            for item in items {
                write_value(table, &list.items, item);
            }
        }
        // What is asked for and offered counts in thousandths (`SetDefaults_ResourceList`).
        (Type::Map(items), Value::Object(fields)) if matches!(**items, Type::Quantity) => {
            for value in fields.values_mut() {
                round_up(value);
            }
        }
        (Type::Map(items), Value::Object(fields)) if holds_structs(items) => {
            for value in fields.values_mut() {
                write_value(table, items, value);
            }
        }
        _ => {}
    }
}

fn round_up(value: &mut Value) {
    // Only these have less than thousandths when they are written in the canonical way.
    let small = |text: &&str| text.ends_with(['n', 'u']) || text.contains("e-");
    let Some(text) = value.as_str().filter(small) else {
        return;
    };
    if let Ok(amount) = text.parse::<Quantity>() {
        *value = Value::String(amount.up_to_milli().to_string());
    }
}

fn holds_structs(ty: &Type) -> bool {
    matches!(ty, Type::Ref(_) | Type::Object(_) | Type::List(_) | Type::Map(_))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
        _ => false,
    }
}
