//! A schema as upstream's API server has it inside, which is how errors show a whole one; and what of it may stand at the
//! root when the status is a subresource (`allowedFieldsAtRootSchema` of `apiextensions/validation`).

use kinds::field::{FieldError, Path, json_text};
use serde_json::{Value, json};

/// What a field holds, by how it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    Flag,
    /// A value, or a list of some, that is null when it is not there.
    Plain,
    Schema,
    Schemas,
    Named,
    /// One schema, or a list of some.
    Items,
    /// A schema, or whether anything goes.
    More,
    Rules,
    /// For each name a schema, or a list of names.
    Dependencies,
    Docs,
}
use Holds::{Dependencies, Docs, Flag, Items, More, Named, Plain, Rules, Schema, Schemas, Text};

/// The fields in order: their name inside, their name in a schema, what they hold, whether they may stand at such a root.
const FIELDS: [(&str, &str, Holds, bool); 43] = [
    ("ID", "id", Text, false),
    ("Schema", "$schema", Text, false),
    ("Ref", "$ref", Plain, false),
    ("Description", "description", Text, true),
    ("Type", "type", Text, true),
    ("Nullable", "nullable", Flag, false),
    ("Format", "format", Text, true),
    ("Title", "title", Text, true),
    ("Default", "default", Plain, false),
    ("Maximum", "maximum", Plain, true),
    ("ExclusiveMaximum", "exclusiveMaximum", Flag, true),
    ("Minimum", "minimum", Plain, true),
    ("ExclusiveMinimum", "exclusiveMinimum", Flag, true),
    ("MaxLength", "maxLength", Plain, true),
    ("MinLength", "minLength", Plain, true),
    ("Pattern", "pattern", Text, true),
    ("MaxItems", "maxItems", Plain, true),
    ("MinItems", "minItems", Plain, true),
    ("UniqueItems", "uniqueItems", Flag, true),
    ("MultipleOf", "multipleOf", Plain, true),
    ("Enum", "enum", Plain, false),
    ("MaxProperties", "maxProperties", Plain, false),
    ("MinProperties", "minProperties", Plain, false),
    ("Required", "required", Plain, true),
    ("Items", "items", Items, true),
    ("AllOf", "allOf", Schemas, false),
    ("OneOf", "oneOf", Schemas, false),
    ("AnyOf", "anyOf", Schemas, false),
    ("Not", "not", Schema, false),
    ("Properties", "properties", Named, true),
    ("AdditionalProperties", "additionalProperties", More, false),
    ("PatternProperties", "patternProperties", Named, false),
    ("Dependencies", "dependencies", Dependencies, false),
    ("AdditionalItems", "additionalItems", More, false),
    ("Definitions", "definitions", Named, false),
    ("ExternalDocs", "externalDocs", Docs, true),
    ("Example", "example", Plain, true),
    (
        "XPreserveUnknownFields",
        "x-kubernetes-preserve-unknown-fields",
        Plain,
        true,
    ),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", Flag, false),
    ("XIntOrString", "x-kubernetes-int-or-string", Flag, false),
    ("XListMapKeys", "x-kubernetes-list-map-keys", Plain, false),
    ("XListType", "x-kubernetes-list-type", Plain, false),
    ("XMapType", "x-kubernetes-map-type", Plain, false),
];
/// The last field, which every schema may have.
const RULES: (&str, &str, Holds, bool) = ("XValidations", "x-kubernetes-validations", Rules, true);

/// A rule on one line.
pub(super) fn rule(rule: &Value) -> String {
    let text = |field: &str| json_text(&json!(rule[field].as_str().unwrap_or("")));
    format!(
        "{{\"Rule\":{},\"Message\":{},\"MessageExpression\":{},\"Reason\":{},\"FieldPath\":{},\"OptionalOldSelf\":{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        json_text(&rule["reason"]),
        text("fieldPath"),
        rule["optionalOldSelf"],
    )
}

/// Versions on one line, each with what it has by itself of what versions may share (`definition::SHARED`).
pub(super) fn versions<'v>(all: impl Iterator<Item = (&'v Value, [&'v Value; 4])>) -> String {
    let all = all.map(|(version, [schema, subresources, columns, selectable])| {
        let flag = |field: &str| version[field] == true;
        format!(
            "{{\"Name\":{},\"Served\":{},\"Storage\":{},\"Deprecated\":{},\"DeprecationWarning\":{},\"Schema\":{},\
             \"Subresources\":{},\"AdditionalPrinterColumns\":{},\"SelectableFields\":{}}}",
            part(&version["name"], Text),
            flag("served"),
            flag("storage"),
            flag("deprecated"),
            json_text(&version["deprecationWarning"]),
            validation(schema),
            self::subresources(subresources),
            listed(columns, column),
            listed(selectable, |field| format!("{{\"JSONPath\":{}}}", part(&field["jsonPath"], Text))),
        )
    });
    format!("[{}]", all.collect::<Vec<_>>().join(","))
}

fn validation(holder: &Value) -> String {
    match holder {
        Value::Null => "null".to_owned(),
        holder => format!(
            "{{\"OpenAPIV3Schema\":{}}}",
            part(&holder["openAPIV3Schema"], Schema)
        ),
    }
}

fn subresources(all: &Value) -> String {
    if all.is_null() {
        return "null".to_owned();
    }
    let scale = match &all["scale"] {
        Value::Null => "null".to_owned(),
        scale => format!(
            "{{\"SpecReplicasPath\":{},\"StatusReplicasPath\":{},\"LabelSelectorPath\":{}}}",
            part(&scale["specReplicasPath"], Text),
            part(&scale["statusReplicasPath"], Text),
            json_text(&scale["labelSelectorPath"]),
        ),
    };
    format!("{{\"Status\":{},\"Scale\":{scale}}}", json_text(&all["status"]))
}

fn column(column: &Value) -> String {
    let texts = ["name", "type", "format", "description", "jsonPath"];
    let [name, kind, format, description, path] = texts.map(|field| part(&column[field], Text));
    let priority = column["priority"].as_i64().unwrap_or(0);
    format!(
        "{{\"Name\":{name},\"Type\":{kind},\"Format\":{format},\"Description\":{description},\"Priority\":{priority},\
         \"JSONPath\":{path}}}"
    )
}

/// The items of a list on one line.
pub(super) fn items(value: &Value) -> String {
    part(value, Items)
}

fn listed(value: &Value, of: impl Fn(&Value) -> String) -> String {
    match value.as_array() {
        Some(list) => format!("[{}]", list.iter().map(of).collect::<Vec<_>>().join(",")),
        None => "null".to_owned(),
    }
}

/// A schema on one line.
fn schema(value: &Value) -> String {
    let parts = FIELDS.iter().chain([&RULES]);
    let parts = parts.map(|(name, field, holds, _)| format!("\"{name}\":{}", part(&value[*field], *holds)));
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

fn part(value: &Value, holds: Holds) -> String {
    let list = |of: fn(&Value) -> String| listed(value, of);
    match (holds, value) {
        (Text, value) => json_text(&json!(value.as_str().unwrap_or(""))),
        (Flag, value) => (*value == true).to_string(),
        (Plain, value) => json_text(value),
        (_, Value::Null) => "null".to_owned(),
        (Schema, value) => schema(value),
        (Schemas, _) => list(schema),
        (Rules, _) => list(rule),
        (Named, value) => {
            let fields = value.as_object().into_iter().flatten();
            let fields = fields.map(|(name, value)| format!("{}:{}", json_text(&json!(name)), schema(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        (Items, Value::Array(_)) => format!("{{\"Schema\":null,\"JSONSchemas\":{}}}", list(schema)),
        (Items, value) => format!("{{\"Schema\":{},\"JSONSchemas\":null}}", schema(value)),
        (Dependencies, value) => {
            let all = value.as_object().into_iter().flatten();
            let all = all.map(|(name, value)| {
                let (schema, names) = match value.is_object() {
                    true => (schema(value), "null".to_owned()),
                    false => ("null".to_owned(), json_text(value)),
                };
                format!(
                    "{}:{{\"Schema\":{schema},\"Property\":{names}}}",
                    json_text(&json!(name))
                )
            });
            format!("{{{}}}", all.collect::<Vec<_>>().join(","))
        }
        (Docs, value) => format!(
            "{{\"Description\":{},\"URL\":{}}}",
            part(&value["description"], Text),
            part(&value["url"], Text)
        ),
        (More, Value::Bool(goes)) => format!("{{\"Allows\":{goes},\"Schema\":null}}"),
        (More, value) => format!("{{\"Allows\":true,\"Schema\":{}}}", schema(value)),
    }
}

/// Checks what only the root must not say: with the status apart, it could not be held against all of it.
pub(super) fn check_root(root: &Value, at: &Path, has_status: bool, errors: &mut Vec<FieldError>) {
    let fields = FIELDS.iter().chain([&RULES]).filter(|_| has_status);
    let is_said = |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && *value != "";
    for (name, field, _, allowed) in fields.filter(|(_, field, _, _)| is_said(&root[*field])) {
        if *name == "Type" && root["type"] != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            errors.push(FieldError::invalid(&at.child(field), root["type"].clone(), why));
            break;
        }
        if !allowed {
            let known = FIELDS
                .iter()
                .chain([&RULES])
                .filter(|(_, _, _, allowed)| *allowed);
            let known: Vec<&str> = known.map(|(name, _, _, _)| *name).collect();
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                known.join(" ")
            );
            errors.push(FieldError::invalid_shown(at, &schema(root), &why));
            break;
        }
    }
    if root["nullable"] == true {
        let why = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&at.child("nullable"), why));
    }
}
