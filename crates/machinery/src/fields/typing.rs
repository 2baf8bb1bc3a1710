//! What is wrong with the types of a configuration that is applied, in the words in which upstream refuses to own it.
//! Source: sigs.k8s.io/structured-merge-diff, `typed`, which validates before it merges.

use super::shown;
use super::walk::{Shape, Walker, key};
use kinds::schema::{Definition, List, ListType, Type};
use serde_json::{Map, Value};

impl Walker<'_> {
    /// All that is wrong, each with the path to it. Nulls fit everywhere. `strays` says that fields which the schema does
    /// not name are wrong, too.
    pub(crate) fn faults(&self, config: &Value, strays: bool) -> Vec<String> {
        let mut out = Vec::new();
        if let (Shape::Struct(definition), Value::Object(fields)) = (self.root(), config) {
            self.struct_faults(definition, fields, "", strays, &mut out);
        }
        out
    }

    fn struct_faults(
        &self,
        definition: &Definition,
        fields: &Map<String, Value>,
        at: &str,
        strays: bool,
        out: &mut Vec<String>,
    ) {
        for (name, value) in fields {
            let path = format!("{at}.{name}");
            match definition.fields.get(name) {
                Some(field) => self.value_faults(&field.ty, value, &path, strays, out),
                None if strays => out.push(format!("{path}: field not declared in schema")),
                None => {}
            }
        }
    }

    fn value_faults(&self, ty: &Type, value: &Value, at: &str, strays: bool, out: &mut Vec<String>) {
        if value.is_null() || matches!(ty, Type::Any) {
            return;
        }
        let wrong = match (ty, value) {
            (Type::Ref(_) | Type::Object(_), Value::Object(fields)) => {
                if let Some(definition) = self.table().object(ty) {
                    self.struct_faults(definition, fields, at, strays, out);
                }
                return;
            }
            (Type::Map(items), Value::Object(fields)) => {
                for (name, value) in fields {
                    self.value_faults(items, value, &format!("{at}.{name}"), strays, out);
                }
                return;
            }
            (Type::List(list), Value::Array(items)) => return self.list_faults(list, items, at, strays, out),
            (Type::String(_), Value::String(_))
            | (Type::Integer | Type::Number, Value::Number(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::IntOrString | Type::Quantity, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                return;
            }
            (Type::String(_), value) => {
                format!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    plain(value)
                )
            }
            (Type::Integer | Type::Number, value) => {
                format!("expected numeric (int or float), got {}", go_kind(value))
            }
            (Type::Boolean, value) => format!("expected boolean, got &{{{}}}", plain(value)),
            (Type::List(_), value) => format!("expected list, got &{{{}}}", plain(value)),
            (Type::IntOrString | Type::Quantity, value) => {
                format!("expected any scalar, got &{{{}}}", plain(value))
            }
            (_, value) => format!("expected map, got &{{{}}}", plain(value)),
        };
        out.push(format!("{at}: {wrong}"));
    }

    fn list_faults(&self, list: &List, items: &[Value], at: &str, strays: bool, out: &mut Vec<String>) {
        let mut seen: Vec<String> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let element = match list.kind {
                ListType::Atomic => format!("i:{index}"),
                ListType::Set if item.is_null() => {
                    let why = "associative list without keys has an element that's an explicit null";
                    out.push(format!("{at}: element {index}: {why}"));
                    return;
                }
                ListType::Set => format!("v:{item}"),
                ListType::Map => {
                    let element = key(list, item);
                    let why = match item {
                        Value::Null => "associative list with keys may not have a null element".to_owned(),
                        Value::Object(_) if element == "k:{}" => {
                            let keys: Vec<String> =
                                list.map_keys.iter().map(|key| format!("{key:?}")).collect();
                            format!(
                                "associative list with keys has an element that omits all key fields [{}] (and doesn't \
                                 have default values for any key fields)",
                                keys.join(" ")
                            )
                        }
                        Value::Object(_) => String::new(),
                        _ => "associative list with keys may not have non-map elements".to_owned(),
                    };
                    if !why.is_empty() {
                        out.push(format!("{at}: element {index}: {why}"));
                        return;
                    }
                    element
                }
            };
            let path = shown(&element);
            if list.kind != ListType::Atomic && seen.contains(&element) {
                out.push(format!("{at}: duplicate entries for key {path}"));
            }
            self.value_faults(&list.items, item, &format!("{at}{path}"), strays, out);
            seen.push(element);
        }
    }
}

/// A value as Go prints it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(plain).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        _ => "<nil>",
    }
}
