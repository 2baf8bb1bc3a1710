//! What is wrong with the types of an object for upstream's apply, in the words in which it refuses to own its fields.
//! Source: sigs.k8s.io/structured-merge-diff, `typed`, which validates before it merges.

use super::shown;
use super::walk::{Shape, Walker, key};
use crate::patch::go_text;
use kinds::schema::{Definition, List, ListType, Open, Type};
use serde_json::{Map, Value};

/// The way to a value; it is only written out when something is to be said about it.
struct Way<'w> {
    above: Option<&'w Way<'w>>,
    step: Step<'w>,
}

enum Step<'w> {
    Field(&'w str),
    Element(&'w str),
}

impl Way<'_> {
    fn text(&self) -> String {
        let mut text = self.above.map(Way::text).unwrap_or_default();
        match self.step {
            Step::Field(name) => text.extend([".", name]),
            Step::Element(element) => text.push_str(&shown(element)),
        }
        text
    }
}

/// What has been found so far.
struct Faults {
    found: Vec<String>,
    /// Whether items of a list may share their key.
    alike: bool,
}

impl Faults {
    fn tell(&mut self, at: &Way, what: impl AsRef<str>) {
        self.found.push(format!("{}: {}", at.text(), what.as_ref()));
    }
}

impl Walker<'_> {
    /// All that is wrong, each with the path to it. Nulls fit everywhere. `alike` allows items of a list to share their key, as
    /// in what is stored.
    pub(crate) fn faults(&self, object: &Value, alike: bool) -> Vec<String> {
        let mut out = Faults {
            found: Vec::new(),
            alike,
        };
        if let (Shape::Struct(definition), Value::Object(fields)) = (self.root(), object) {
            self.struct_faults(definition, fields, None, &mut out);
        }
        out.found
    }

    fn struct_faults(
        &self,
        definition: &Definition,
        fields: &Map<String, Value>,
        above: Option<&Way>,
        out: &mut Faults,
    ) {
        for (name, value) in fields {
            let way = Way {
                above,
                step: Step::Field(name),
            };
            match definition.fields.get(name) {
                Some(field) => self.value_faults(&field.ty, value, &way, out),
                None if definition.open == Open::Closed => out.tell(&way, "field not declared in schema"),
                None => {}
            }
        }
    }

    fn value_faults(&self, ty: &Type, value: &Value, at: &Way, out: &mut Faults) {
        if value.is_null() || matches!(ty, Type::Any) {
            return;
        }
        let wrong = match (ty, value) {
            (Type::Ref(_) | Type::Object(_), Value::Object(fields)) => {
                if let Some(definition) = self.table().object(ty) {
                    self.struct_faults(definition, fields, Some(at), out);
                }
                return;
            }
            (Type::Object(definition), _) if definition.open == Open::Anything => return,
            (Type::Map(items), Value::Object(fields)) => {
                for (name, value) in fields {
                    let way = Way {
                        above: Some(at),
                        step: Step::Field(name),
                    };
                    self.value_faults(items, value, &way, out);
                }
                return;
            }
            (Type::List(list), Value::Array(items)) => return self.list_faults(list, items, at, out),
            (Type::String(_), Value::String(_))
            | (Type::Integer | Type::Number, Value::Number(_))
            | (Type::Boolean, Value::Bool(_))
            | (Type::IntOrString | Type::Quantity, Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                return;
            }
            // Times may be any scalar, until they are read.
            (Type::String(format), Value::Number(_) | Value::Bool(_)) if format == "date-time" => return,
            (Type::String(format), value) if format == "date-time" => any_scalar(value),
            (Type::String(_), value) => {
                format!(
                    "expected string, got &value.valueUnstructured{{Value:{}}}",
                    syntax(value)
                )
            }
            (Type::Integer | Type::Number, value) => {
                format!("expected numeric (int or float), got {}", go_kind(value))
            }
            (Type::Boolean, value) => format!("expected boolean, got &{{{}}}", go_text(value)),
            (Type::List(_), value) => format!("expected list, got &{{{}}}", go_text(value)),
            (Type::IntOrString | Type::Quantity, value) => any_scalar(value),
            (_, value) => format!("expected map, got &{{{}}}", go_text(value)),
        };
        out.tell(at, wrong);
    }

    fn list_faults(&self, list: &List, items: &[Value], at: &Way, out: &mut Faults) {
        let mut seen: Vec<String> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let element = match list.kind {
                ListType::Atomic => format!("i:{index}"),
                ListType::Set => format!("v:{item}"),
                ListType::Map => key(list, item),
            };
            if let Some(why) = no_element(list, item, &element) {
                // Upstream looks at no more of such a list.
                return out.tell(at, format!("element {index}: {why}"));
            }
            if list.kind != ListType::Atomic && !out.alike {
                if seen.contains(&element) {
                    out.tell(at, format!("duplicate entries for key {}", shown(&element)));
                }
                seen.push(element.clone());
            }
            let way = Way {
                above: Some(at),
                step: Step::Element(&element),
            };
            self.value_faults(&list.items, item, &way, out);
        }
    }
}

/// Why an item cannot be told from the others of its list.
fn no_element(list: &List, item: &Value, element: &str) -> Option<String> {
    let why = match (list.kind, item) {
        (ListType::Atomic, _) => return None,
        (ListType::Set, Value::Null) => {
            "associative list without keys has an element that's an explicit null"
        }
        (ListType::Set, Value::Object(_)) => "associative list without keys has an element that's a map type",
        (ListType::Set, Value::Array(_)) => "not supported: associative list with lists as elements",
        (ListType::Set, _) => return None,
        (ListType::Map, Value::Null) => "associative list with keys may not have a null element",
        (ListType::Map, Value::Object(_)) if element == "k:{}" => {
            let keys: Vec<String> = list.map_keys.iter().map(|key| format!("{key:?}")).collect();
            return Some(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for \
                 any key fields)",
                keys.join(" ")
            ));
        }
        (ListType::Map, Value::Object(_)) => return None,
        (ListType::Map, _) => "associative list with keys may not have non-map elements",
    };
    Some(why.to_owned())
}

fn any_scalar(value: &Value) -> String {
    format!("expected any scalar, got &{{{}}}", go_text(value))
}

/// A value in the syntax of Go (`%#v`).
fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => format!("{text:?}"),
        Value::Bool(_) | Value::Number(_) => go_text(value),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name:?}:{}", syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
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
