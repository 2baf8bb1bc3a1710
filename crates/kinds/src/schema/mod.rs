//! The types of all fields, by definition name.
//!
//! `upstream.json` is upstream's `definitions` without any description text, written by `cargo xtask gen-schema`;
//! `podvisor.json` has our own kinds in the same form. Both are also the raw material of the OpenAPI documents.
//! `zeros.txt` says what Go's encoder writes of a field that has its zero value, from the tags of the types in `k8s.io/api`,
//! which no schema tells: the value, or `-` where a text, number or flag is left out. Fields that it does not name (pointers
//! and lists that are `omitempty`) are left out when they are absent, and written whenever they are there.
//! `enums.txt` says which values a field may have, which upstream's schema leaves out, but not its servers.
//! Upstream's schema has no defaults; the few that list keys need stand in [`KEY_DEFAULTS`].

mod fields;
mod gotypes;

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::Value;

pub use fields::Fields;
pub use gotypes::{GoField, go_field};

/// The definitions of upstream, as JSON text.
pub const UPSTREAM: &str = include_str!("upstream.json");
/// Our own definitions, as JSON text.
pub const OURS: &str = include_str!("podvisor.json");
/// The fields of text that have a closed set of values: a line for each definition, below it a line for each field (`[]`
/// and `{}`: of its items) with the values, in order. For documents only; what is accepted is validation's to say.
pub const ENUMS: &str = include_str!("enums.txt");
const ZEROS: &str = include_str!("zeros.txt");

const OBJECT_REFERENCE: &str = "io.k8s.api.core.v1.ObjectReference";
/// Defaults of fields that are keys of lists of built-in kinds: (field, value). Both kinds of ports default their protocol;
/// a name that Go's encoder always writes is empty.
const KEY_DEFAULTS: &[(&str, &str)] = &[("protocol", "TCP"), ("name", "")];

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Text, with OpenAPI's format (`date-time`, `byte` or empty).
    String(String),
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `resource.Quantity`: text, or a number that becomes text.
    Quantity,
    /// Anything: raw extensions, JSON values.
    Any,
    /// A map with values of one type.
    Map(Box<Type>),
    /// A list.
    List(Box<List>),
    /// An object of a named definition.
    Ref(Reference),
    /// An object with fields of its own, defined in place.
    Object(Box<Definition>),
}

/// A definition by its name, and where it stands in the table, so that a walk along the types looks nothing up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    name: String,
    /// Past the end of the table where the name is unknown.
    index: usize,
}

impl Reference {
    /// The name of the definition.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// How a list is merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Type of its elements.
    pub items: Type,
    /// `x-kubernetes-list-type`.
    pub kind: ListType,
    /// `x-kubernetes-list-map-keys`.
    pub map_keys: Vec<String>,
    /// What a key is that an item leaves out, where its schema says so.
    pub key_defaults: BTreeMap<String, Value>,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// Elements are told apart by their keys.
    Map,
}

/// What Go's encoder writes of a field that has its zero value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zero {
    /// What is absent is left out, what is there is written: pointers, and kinds that are not upstream's.
    #[default]
    Absent,
    /// Left out, though it may be given: texts, numbers and flags with `omitempty`.
    LeftOut,
    /// `null`: lists, maps, pointers and times without `omitempty`.
    Null,
    /// An empty text.
    Empty,
    /// 0.
    Number,
    /// `false`.
    False,
    /// The text `"0"`: quantities.
    Nothing,
    /// A struct, with what is written of its own fields.
    Struct,
}

impl Zero {
    fn parse(word: &str) -> Zero {
        match word {
            "-" => Zero::LeftOut,
            "null" => Zero::Null,
            "\"\"" => Zero::Empty,
            "0" => Zero::Number,
            "false" => Zero::False,
            "\"0\"" => Zero::Nothing,
            "{}" => Zero::Struct,
            _ => Zero::Absent,
        }
    }

    /// Whether the field is written even so.
    pub fn is_written(self) -> bool {
        !matches!(self, Zero::Absent | Zero::LeftOut)
    }
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its type.
    pub ty: Type,
    /// `x-kubernetes-patch-strategy`: any of `merge`, `replace`, `retainKeys`.
    pub patch_strategy: String,
    /// `x-kubernetes-patch-merge-key`.
    pub patch_merge_key: String,
    /// `x-kubernetes-map-type: atomic`: owned as a whole by one applier.
    pub atomic: bool,
    /// `x-kubernetes-map-type: granular`: owned by its parts here, whatever its type says of itself.
    pub granular: bool,
    /// What is written of its zero value.
    pub zero: Zero,
}

/// An object type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Definition {
    /// Fields by name.
    pub fields: Fields,
    /// Names of fields that must be there.
    pub required: Vec<String>,
    /// `x-kubernetes-map-type: atomic` on the type itself.
    pub atomic: bool,
    /// Fields that are always written, with their zero values.
    pub written: Vec<(String, Zero)>,
    /// Whether it is a type of Go's, whose encoder leaves empty lists and maps out unless told otherwise.
    pub upstream: bool,
    /// What may stand there beside the fields.
    pub open: Open,
}

/// What an object may be beside its fields, as apply sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Open {
    /// The fields are all.
    #[default]
    Closed,
    /// It may have others.
    Fields,
    /// It need not be an object.
    Anything,
}

/// All definitions.
#[derive(Debug)]
pub struct SchemaTable {
    definitions: Vec<Definition>,
    names: Names,
}

/// Where each definition stands.
#[derive(Debug, Default)]
struct Names(HashMap<String, usize>);

impl Names {
    fn reference(&self, name: &str) -> Reference {
        Reference {
            name: name.to_owned(),
            index: self.0.get(name).copied().unwrap_or(usize::MAX),
        }
    }
}

/// The table of the built-in kinds, read once.
pub fn builtin() -> &'static SchemaTable {
    static TABLE: LazyLock<SchemaTable> = LazyLock::new(|| {
        // The texts are part of the program; a test reads them.
        let texts: Vec<Value> = [UPSTREAM, OURS]
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok())
            .collect();
        let all = || texts.iter().filter_map(Value::as_object).flatten();
        let names = Names(all().zip(0..).map(|((name, _), at)| (name.clone(), at)).collect());
        let mut definitions: Vec<Definition> =
            all().map(|(_, value)| parse_definition(value, &names)).collect();
        for (name, index) in &names.0 {
            definitions[*index].upstream = name.starts_with("io.k8s.");
        }
        mark_zeros(&mut definitions, &names);
        default_keys(&mut definitions);
        SchemaTable { definitions, names }
    });
    &TABLE
}

fn mark_zeros(definitions: &mut [Definition], names: &Names) {
    let mut owner = None;
    for line in ZEROS.lines() {
        let Some(line) = line.strip_prefix(' ') else {
            owner = names.0.get(line).copied();
            continue;
        };
        if let Some((name, word)) = line.split_once(' ')
            && let Some(definition) = owner.and_then(|index| definitions.get_mut(index))
            && let Some(field) = definition.fields.get_mut(name)
        {
            field.zero = Zero::parse(word);
            if field.zero.is_written() {
                definition.written.push((name.to_owned(), field.zero));
            }
        }
    }
}

/// A key that Go always writes is its zero value where it is left out, which is its default for upstream's apply.
fn default_keys(definitions: &mut [Definition]) {
    let zeros: Vec<BTreeMap<String, Value>> = definitions
        .iter()
        .map(|definition| {
            let zero = |(name, field): (&String, &Field)| match field.zero {
                Zero::Empty => Some((name.clone(), Value::from(""))),
                Zero::Number if field.ty == Type::Integer => Some((name.clone(), Value::from(0))),
                _ => None,
            };
            definition.fields.iter().filter_map(zero).collect()
        })
        .collect();
    for definition in definitions {
        for field in definition.fields.values_mut() {
            let Type::List(list) = &mut field.ty else { continue };
            let Type::Ref(of) = &list.items else { continue };
            let Some(known) = zeros.get(of.index) else {
                continue;
            };
            for key in &list.map_keys {
                if let (Some(zero), false) = (known.get(key), list.key_defaults.contains_key(key)) {
                    list.key_defaults.insert(key.clone(), zero.clone());
                }
            }
        }
    }
}

impl SchemaTable {
    /// The definition of a name.
    pub fn definition(&self, name: &str) -> Option<&Definition> {
        self.definitions.get(*self.names.0.get(name)?)
    }

    /// The type of the objects of a definition.
    pub fn reference(&self, name: &str) -> Type {
        Type::Ref(self.names.reference(name))
    }

    /// The definition that a reference names.
    pub fn resolve(&self, reference: &Reference) -> Option<&Definition> {
        self.definitions.get(reference.index)
    }

    /// The object definition that a type stands for, if it is one with known fields.
    pub fn object<'a>(&'a self, ty: &'a Type) -> Option<&'a Definition> {
        match ty {
            Type::Ref(reference) => self.resolve(reference),
            Type::Object(definition) => Some(definition),
            _ => None,
        }
    }
}

/// The type of a custom kind's objects, from the structural schema of its definition.
///
/// What the schema leaves open (`x-kubernetes-preserve-unknown-fields`, no type at all) is an object without known
/// fields, so that whoever walks along the types deduces the rest from the values.
pub fn custom(schema: &Value) -> Type {
    custom_type(schema, true, false)
}

/// `open` says that something above keeps unknown fields, and so does everything below it.
fn custom_type(schema: &Value, resource: bool, open: bool) -> Type {
    let flag = |name: &str| schema[name] == true;
    let open = open || flag("x-kubernetes-preserve-unknown-fields");
    match schema["type"].as_str() {
        Some("array") => {
            let (items, keys) = (&schema["items"], &schema["x-kubernetes-list-map-keys"]);
            let keys = keys.as_array().into_iter().flatten();
            let map_keys: Vec<String> = keys.filter_map(|k| k.as_str().map(str::to_owned)).collect();
            let default = |key: &String| {
                let default = items["properties"][key].get("default")?;
                Some((key.clone(), default.clone()))
            };
            Type::List(Box::new(List {
                items: custom_type(items, false, open),
                kind: list_type(schema),
                key_defaults: map_keys.iter().filter_map(default).collect(),
                map_keys,
            }))
        }
        // Texts of a format may be any scalar to upstream's apply, bytes excepted.
        Some("string") if !matches!(schema["format"].as_str(), None | Some("" | "byte")) => Type::IntOrString,
        Some("string" | "integer" | "number" | "boolean") => parse_type(schema, &builtin().names),
        known => {
            if let (None, Some(more @ Value::Object(_))) =
                (schema.get("properties"), schema.get("additionalProperties"))
            {
                return Type::Map(Box::new(custom_type(more, false, open)));
            }
            let fields = schema["properties"].as_object().into_iter().flatten();
            let mut fields: Fields = fields
                .map(|(name, field)| (name.clone(), custom_field(custom_type(field, false, open), field)))
                .collect();
            let more = match known {
                None => Open::Anything,
                Some(_) if open || fields.is_empty() => Open::Fields,
                Some(_) => Open::Closed,
            };
            if resource || flag("x-kubernetes-embedded-resource") {
                let meta = builtin().reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
                fields.insert("metadata".to_owned(), custom_field(meta, &Value::Null));
                for name in ["apiVersion", "kind"] {
                    let text = custom_field(Type::String(String::new()), &Value::Null);
                    fields.insert(name.to_owned(), text);
                }
            }
            Type::Object(Box::new(Definition {
                fields,
                required: Vec::new(),
                written: Vec::new(),
                upstream: false,
                atomic: schema["x-kubernetes-map-type"] == "atomic",
                open: more,
            }))
        }
    }
}

fn custom_field(ty: Type, schema: &Value) -> Field {
    Field {
        ty,
        patch_strategy: String::new(),
        patch_merge_key: String::new(),
        atomic: schema["x-kubernetes-map-type"] == "atomic",
        granular: schema["x-kubernetes-map-type"] == "granular",
        zero: Zero::Absent,
    }
}

fn list_type(value: &Value) -> ListType {
    match value["x-kubernetes-list-type"].as_str() {
        Some("map") => ListType::Map,
        Some("set") => ListType::Set,
        _ => ListType::Atomic,
    }
}

fn parse_definition(value: &Value, names: &Names) -> Definition {
    let fields = value["properties"].as_object().into_iter().flatten();
    let required = value["required"].as_array().into_iter().flatten();
    Definition {
        fields: fields
            .map(|(name, field)| (name.clone(), parse_field(field, names)))
            .collect(),
        required: required
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        atomic: value["x-kubernetes-map-type"] == "atomic",
        written: Vec::new(),
        upstream: false,
        open: Open::default(),
    }
}

fn parse_field(value: &Value, names: &Names) -> Field {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Field {
        ty: parse_type(value, names),
        patch_strategy: text("x-kubernetes-patch-strategy"),
        patch_merge_key: text("x-kubernetes-patch-merge-key"),
        atomic: value["x-kubernetes-map-type"] == "atomic",
        granular: value["x-kubernetes-map-type"] == "granular",
        zero: Zero::Absent,
    }
}

fn parse_type(value: &Value, names: &Names) -> Type {
    if let Some(reference) = value["$ref"].as_str() {
        return reference_type(reference.trim_start_matches("#/definitions/"), names);
    }
    match value["type"].as_str() {
        Some("string") => Type::String(value["format"].as_str().unwrap_or_default().to_owned()),
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        Some("array") => {
            let keys = value["x-kubernetes-list-map-keys"].as_array();
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            let map_keys: Vec<String> = keys.map(str::to_owned).collect();
            let items = parse_type(&value["items"], names);
            // A reference need not have a name, for which nothing stands then.
            let unnamed = matches!(&items, Type::Ref(of) if of.name() == OBJECT_REFERENCE);
            let known = KEY_DEFAULTS
                .iter()
                .filter(|(key, _)| map_keys.iter().any(|k| k == key) && !unnamed);
            Type::List(Box::new(List {
                kind: list_type(value),
                key_defaults: known
                    .map(|(key, v)| ((*key).to_owned(), Value::from(*v)))
                    .collect(),
                items,
                map_keys,
            }))
        }
        Some("object") if value.get("properties").is_some() => {
            Type::Object(Box::new(parse_definition(value, names)))
        }
        Some("object") if value.get("additionalProperties").is_some() => {
            Type::Map(Box::new(parse_type(&value["additionalProperties"], names)))
        }
        _ => Type::Any,
    }
}

/// Definitions that stand for a scalar or for anything.
fn reference_type(name: &str, names: &Names) -> Type {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Type::Quantity,
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Type::IntOrString,
        "io.k8s.apimachinery.pkg.apis.meta.v1.Time" | "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => {
            Type::String("date-time".to_owned())
        }
        "io.k8s.apimachinery.pkg.runtime.RawExtension" | "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1" => {
            Type::Any
        }
        name if name.ends_with(".apiextensions.v1.JSON")
            || name.ends_with(".JSONSchemaPropsOrArray")
            || name.ends_with(".JSONSchemaPropsOrBool")
            || name.ends_with(".JSONSchemaPropsOrStringArray")
            || name.ends_with(".CustomResourceSubresourceStatus") =>
        {
            Type::Any
        }
        name => Type::Ref(names.reference(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_lists_and_specials() {
        let table = builtin();
        let spec = table.definition("io.k8s.api.core.v1.PodSpec").expect("there");
        let containers = &spec.fields["containers"];
        assert_eq!(containers.patch_merge_key, "name");
        let Type::List(list) = &containers.ty else {
            panic!("a list")
        };
        assert_eq!(
            (list.kind, list.map_keys.as_slice()),
            (ListType::Map, &["name".to_owned()][..])
        );
        assert_eq!(list.items, table.reference("io.k8s.api.core.v1.Container"));
        assert_eq!(
            table.object(&list.items),
            table.definition("io.k8s.api.core.v1.Container")
        );
        assert_eq!(table.object(&table.reference("io.example.Unknown")), None);
        assert_eq!(spec.required, ["containers"]);
        let ports = &table
            .definition("io.k8s.api.core.v1.ServicePort")
            .expect("there")
            .fields;
        assert_eq!(ports["targetPort"].ty, Type::IntOrString);
        assert!(
            table
                .definition("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector")
                .expect("there")
                .atomic
        );
        for text in [UPSTREAM, OURS] {
            assert!(serde_json::from_str::<Value>(text).expect("JSON").is_object());
        }
        assert!(!UPSTREAM.contains("\"description\":\""), "no description text");
    }
}
