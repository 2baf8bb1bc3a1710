//! The check for kinds without hand-written ones: what the schema calls required must be there. Status is left out, since
//! it is the server's own.

use super::errors::Errors;
use crate::walk::At;
use kinds::KindInfo;
use kinds::field::Path;
use kinds::schema::{self, Definition, Type};
use serde_json::Value;

/// Levels that are followed; recursive types (JSON schemas) go deeper than that only in objects made to hurt.
const MAX_DEPTH: usize = 32;

/// Checks an object against the required fields of its kind.
pub(super) fn check(kind: &KindInfo, obj: &Value, errors: &mut Errors) {
    if let Some(definition) = schema::builtin().definition(kind.schema) {
        fields(definition, obj, &Path::root(), 0, errors);
    }
}

fn fields(definition: &Definition, value: &Value, at: &Path, depth: usize, errors: &mut Errors) {
    for name in &definition.required {
        if !value.has(name) {
            errors.required(&at.child(name), "");
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        if depth == 0 && matches!(name.as_str(), "status" | "metadata") {
            continue;
        }
        if let Some(field) = definition.fields.get(name) {
            below(&field.ty, value, &at.child(name), depth + 1, errors);
        }
    }
}

fn below(ty: &Type, value: &Value, at: &Path, depth: usize, errors: &mut Errors) {
    if depth > MAX_DEPTH {
        return;
    }
    match (ty, value) {
        (Type::Ref(_) | Type::Object(_), Value::Object(_)) => {
            if let Some(definition) = schema::builtin().object(ty) {
                fields(definition, value, at, depth, errors);
            }
        }
        (Type::List(list), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                below(&list.items, item, &at.index(i), depth + 1, errors);
            }
        }
        (Type::Map(values), Value::Object(entries)) => {
            for (key, value) in entries {
                below(values, value, &at.key(key), depth + 1, errors);
            }
        }
        _ => {}
    }
}
