//! What a schema must look like to be served: structural (KEP-1111's rules), with defaults that fit it and rules that
//! compile.
//!
//! Values beside the structure (`anyOf` and the like) are looked at by [`super::junctors`].

use super::{defaults, junctors, lists, rules, shown};
use kinds::field::{FieldError, Path};
use serde_json::Value;

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Types that a schema may have.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// Formats that nobody checks, in the order of a definition: each gets a warning.
pub fn unrecognized_formats(crd: &Value) -> Vec<String> {
    fn collect(schema: &Value, found: &mut Vec<String>) {
        let format = text(schema, "format");
        if !format.is_empty() && super::formats::of(schema).is_empty() {
            found.push(format.to_owned());
        }
        for (name, value) in schema.as_object().into_iter().flatten() {
            match name.as_str() {
                "properties" => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, property)| collect(property, found)),
                "items" | "additionalProperties" | "not" => collect(value, found),
                "allOf" | "anyOf" | "oneOf" => value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|one| collect(one, found)),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    for version in list(&crd["spec"], "versions") {
        collect(&version["schema"]["openAPIV3Schema"], &mut found);
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|format| seen.insert(format.clone()));
    found
}

/// Checks the schema of a version, or that of all of them, which stands in `holder`; by stages, as upstream does: what is
/// not structural has no defaults to speak of, and rules are not compiled about types that are not clear.
pub(super) fn check(holder: &Value, at: &Path, has_status: bool, errors: &mut Vec<FieldError>) {
    let (schema, at) = (&holder["openAPIV3Schema"], at.child("openAPIV3Schema"));
    if !schema.is_object() {
        return;
    }
    let mut found = Vec::new();
    shown::check_root(schema, &at, has_status, &mut found);
    let mut faults = Vec::new();
    let unsupported = unsupported(schema);
    if unsupported.is_none() {
        structure(schema, &at, Level::Root, &mut faults);
        junctors::complete(schema, &at, &mut faults);
        faults.sort_by_cached_key(ToString::to_string);
        if faults.is_empty() {
            defaults::check(schema, &at, &mut faults);
        }
    }
    let is_clear = unsupported.is_none() && faults.is_empty();
    found.append(&mut faults);
    published(schema, &at, Within::default(), true, &mut faults);
    let of_rules = match is_clear {
        true => rules::check(schema, &at, &faults),
        false => Vec::new(),
    };
    found.append(&mut faults);
    found.extend(of_rules);
    if let Some(why) = unsupported.filter(|_| found.is_empty()) {
        found.push(FieldError::invalid(&at, Value::from(""), why));
    }
    errors.append(&mut found);
}

/// What a schema says that no structural one can; upstream makes no more of it then.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    let is_said = |field: &str| match &schema[field] {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty() || field == "additionalItems",
        _ => true,
    };
    let named = [
        ("id", "id"),
        ("$schema", "schema"),
        ("$ref", "$ref"),
        ("patternProperties", "patternProperties"),
        ("dependencies", "dependencies"),
        ("additionalItems", "additionalItems"),
        ("definitions", "definitions"),
    ];
    if let Some((_, name)) = named.into_iter().find(|(field, _)| is_said(field)) {
        return Some(format!("OpenAPIV3Schema '{name}' is not supported"));
    }
    if schema[PRESERVE] == false {
        return Some(format!("internal error: '{PRESERVE}' must be true or undefined"));
    }
    if schema["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".into());
    }
    let one = ["items", "additionalProperties", "not"].map(|field| &schema[field]);
    let several = ["allOf", "anyOf", "oneOf"].map(|field| list(schema, field));
    let properties = schema["properties"].as_object().into_iter().flatten();
    several
        .into_iter()
        .flatten()
        .chain(one)
        .chain(properties.map(|(_, property)| property))
        .filter(|part| part.is_object())
        .find_map(unsupported)
}

/// Whether a schema says anything that no structural one can.
pub(super) fn has_unsupported(schema: &Value) -> bool {
    unsupported(schema).is_some()
}

/// Whether a schema has a default anywhere.
pub(super) fn has_default(schema: &Value) -> bool {
    let one = ["items", "additionalProperties", "not"].map(|field| &schema[field]);
    let several = ["allOf", "anyOf", "oneOf"].map(|field| list(schema, field));
    let properties = schema["properties"].as_object().into_iter().flatten();
    !schema["default"].is_null()
        || one
            .into_iter()
            .chain(several.into_iter().flatten())
            .chain(properties.map(|(_, property)| property))
            .filter(|part| part.is_object())
            .any(has_default)
}

/// Checks what a schema says of the parts that every object has.
fn resource(schema: &Value, at: &Path, is_root: bool, errors: &mut Vec<FieldError>) {
    for (field, wanted) in [
        ("apiVersion", "string"),
        ("kind", "string"),
        ("metadata", "object"),
    ] {
        let Some(own) = schema["properties"].get(field) else {
            continue;
        };
        let place = at.child("properties").key(field);
        let kind = text(own, "type");
        if kind != wanted {
            let why = format!("must be {wanted}");
            errors.push(FieldError::invalid(&place.child("type"), Value::from(kind), why));
        }
        if is_root && field == "metadata" && !bounds_names(own) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&place, why));
        }
    }
}

/// Whether a schema of metadata says nothing but how names are made.
fn bounds_names(schema: &Value) -> bool {
    let said = |(field, value): (&String, &Value)| match field.as_str() {
        "type" | "default" => false,
        "properties" => {
            let mut names = value.as_object().into_iter().flatten().map(|(name, _)| name);
            names.any(|name| name != "name" && name != "generateName")
        }
        // Upstream's structural form has these apart, and looks only whether something else is left.
        _ => !matches!(value, Value::Null | Value::Bool(false)),
    };
    !schema.as_object().into_iter().flatten().any(said)
}

/// Where a schema stands in the structure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
}

/// The schemas below one, with their places.
fn below<'s>(schema: &'s Value, at: &Path) -> Vec<(&'s Value, Path, Level)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let properties =
        properties.map(|(name, property)| (property, at.child("properties").key(name), Level::Field));
    let others = [("additionalProperties", Level::Field), ("items", Level::Item)];
    let others = others.map(|(field, level)| (&schema[field], at.child(field), level));
    let others = others.into_iter().filter(|(schema, ..)| schema.is_object());
    properties.chain(others).collect()
}

/// Checks the structure of a schema and of those below it. Source: `validateStructuralInvariants`.
fn structure(schema: &Value, at: &Path, level: Level, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    let kind = text(schema, "type");
    let type_at = at.child("type");
    let free = flag(INT_OR_STRING) || flag(PRESERVE) || flag(EMBEDDED);
    if kind.is_empty() && !free {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Field => "must not be empty for specified object fields",
            Level::Item => "must not be empty for specified array items",
        };
        errors.push(FieldError::required(&type_at, why));
    }
    if level == Level::Root {
        if !["", "object"].contains(&kind) {
            let why = "must be object at the root";
            errors.push(FieldError::invalid(&type_at, Value::from(kind), why));
        }
        if !schema["additionalProperties"].is_null() {
            let why = "must not be used at the root";
            errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
        }
    }
    if level == Level::Root || flag(EMBEDDED) {
        resource(schema, at, level == Level::Root, errors);
    }
    let pattern = text(schema, "pattern");
    if let Some(why) = pattern_fault(pattern) {
        let why = format!("must be a valid regular expression, but isn't: error parsing regexp: {why}");
        errors.push(FieldError::invalid(
            &at.child("pattern"),
            Value::from(pattern),
            why,
        ));
    }
    for (schema, place, level) in below(schema, at) {
        structure(schema, &place, level, errors);
    }
    if kind == "array" && schema["items"].is_null() {
        errors.push(FieldError::required(&at.child("items"), "must be specified"));
    }
    extended(schema, kind, at, errors);
    junctors::check(schema, at, errors);
}

/// What is around a schema that is published.
#[derive(Clone, Copy, Default)]
struct Within {
    /// It is inside of what every resource has.
    resource: bool,
    /// Why no default may stand here.
    no_default: Option<&'static str>,
}

impl Within {
    /// Below a property of a schema; `resource`: that of a whole resource, `root`: of the object itself.
    fn property(self, name: &str, resource: bool, root: bool) -> Within {
        let top = match name {
            "metadata" => "in top-level metadata",
            "apiVersion" => "in top-level apiVersion",
            "kind" => "in top-level kind",
            _ => return self,
        };
        match resource {
            true => Within {
                resource: true,
                no_default: if root { Some(top) } else { self.no_default },
            },
            false => self,
        }
    }
}

/// Checks what a schema and those below it say besides, in what is published of them.
/// Source: `ValidateCustomResourceDefinitionOpenAPISchema`.
fn published(schema: &Value, at: &Path, within: Within, root: bool, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    let kind = text(schema, "type");
    forbidden(schema, kind, at, within, errors);
    if flag("uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
    let named = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    let more = &schema["additionalProperties"];
    if named && (more.is_object() || *more == false) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
    }
    if more.is_object() {
        let within = match within.resource {
            true => Within {
                no_default: Some("inside additionalProperties applying to object metadata"),
                ..within
            },
            false => within,
        };
        published(more, &at.child("additionalProperties"), within, false, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let within = within.property(name, root || flag(EMBEDDED), root);
        let place = at.child("properties").key(name);
        published(property, &place, within, false, errors);
    }
    for (schema, place) in junctors::beside(schema, at) {
        published(schema, &place, within, false, errors);
    }
    for (name, definition) in schema["definitions"].as_object().into_iter().flatten() {
        let place = at.child("definitions").key(name);
        published(definition, &place, within, false, errors);
    }
    match &schema["items"] {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                published(item, &at.child("items").index(i), within, false, errors);
            }
        }
        items if items.is_object() => published(items, &at.child("items"), within, false, errors),
        _ => {}
    }
    let dependencies = schema["dependencies"].as_object().into_iter().flatten();
    for (name, dependency) in dependencies.filter(|(_, dependency)| dependency.is_object()) {
        let place = at.child("dependencies").key(name);
        published(dependency, &place, within, false, errors);
    }
    if schema[PRESERVE] == false {
        let why = "must be true or undefined";
        errors.push(FieldError::invalid(&at.child(PRESERVE), Value::from(false), why));
    }
    lists::check(schema, kind, at, errors);
    rules::check_form(schema, at, errors);
}

/// Checks a schema for what none may say.
fn forbidden(schema: &Value, kind: &str, at: &Path, within: Within, errors: &mut Vec<FieldError>) {
    let mut forbid = |field: &str, why: &str| errors.push(FieldError::forbidden(&at.child(field), why));
    if let (false, Some(why)) = (schema["default"].is_null(), within.no_default) {
        forbid("default", &format!("must not be set {why}"));
    }
    let is_said = |field: &str, value: &Value| match value {
        Value::Object(fields) => !fields.is_empty() || ["additionalItems", "dependencies"].contains(&field),
        Value::String(text) => !text.is_empty() || field == "$ref",
        value => !value.is_null(),
    };
    let fields = [
        "id",
        "additionalItems",
        "patternProperties",
        "definitions",
        "dependencies",
        "$ref",
    ];
    for field in fields.into_iter().filter(|field| is_said(field, &schema[*field])) {
        forbid(field, &format!("{field} is not supported"));
    }
    if kind == "null" {
        forbid(
            "type",
            "type cannot be set to null, use nullable as an alternative",
        );
    }
    if schema["items"].as_array().is_some_and(|items| !items.is_empty()) {
        forbid("items", "items must be a schema object and not an array");
    }
    if within.resource && schema[EMBEDDED] == true {
        forbid(EMBEDDED, "must not be used inside of resource meta");
    }
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(
            &at.child("type"),
            Value::from(kind),
            &TYPES,
        ));
    }
}

/// Fields that are objects of their own, and those that are numbers or texts.
fn extended(schema: &Value, kind: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    if flag(INT_OR_STRING) {
        for field in [PRESERVE, EMBEDDED].into_iter().filter(|field| flag(field)) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&at.child(field), Value::from(true), why));
        }
    }
    if !flag(EMBEDDED) {
        return;
    }
    let why = "must be object if x-kubernetes-embedded-resource is true";
    let place = at.child("type");
    match kind {
        "object" => {}
        "" => errors.push(FieldError::required(&place, why)),
        kind => errors.push(FieldError::invalid(&place, Value::from(kind), why)),
    }
    if schema.get("additionalProperties").is_some_and(|v| !v.is_null()) {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
    }
    let named = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    if !flag(PRESERVE) && !named {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), why));
    }
}

/// What is wrong with a pattern, in the words of Go's parser where it has words for it.
fn pattern_fault(pattern: &str) -> Option<String> {
    let unreadable = || cel::pattern::compile(pattern).err();
    cel::pattern::fault(pattern).or_else(|| unreadable().map(|_| format!("invalid pattern: `{pattern}`")))
}
