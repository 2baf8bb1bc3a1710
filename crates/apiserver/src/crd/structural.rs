//! What a definition must look like to be served: a structural schema (KEP-1111's rules), defaults that fit it, and the
//! parts around it — printer columns, scale, selectable fields, conversion, approval of protected groups.
//!
//! Values beside the structure (`anyOf` and the like) are looked at by [`super::junctors`]. Places are named as upstream's
//! internal form has them: what all versions share stands at the spec.

use super::{defaults, junctors, lists, rules, shown};
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// Types that a schema may have.
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
/// Types of printer columns.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// Formats of printer columns.
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// How many selectable fields a version may have.
const MAX_SELECTABLE: usize = 8;
/// The annotation that groups of the Kubernetes project must have.
const APPROVED: &str = "api-approved.kubernetes.io";

/// Checks a whole definition.
pub fn check(crd: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Path::new("spec");
    conversion(&crd["spec"]["conversion"], &spec.child("conversion"), &mut errors);
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let versions: Vec<&Value> = versions.into_iter().flatten().collect();
    let shared = |field: &str| versions.windows(2).all(|pair| pair[0][field] == pair[1][field]);
    for (i, version) in versions.iter().enumerate() {
        let own = spec.child("versions").index(i);
        let place = |field: &str| if shared(field) { spec.clone() } else { own.clone() };
        // What is shared is looked at once.
        let new = |field: &str| i == 0 || !shared(field);
        if let Some(schema) = version
            .pointer("/schema/openAPIV3Schema")
            .filter(|_| new("schema"))
        {
            let at = match shared("schema") {
                true => spec.child("validation"),
                false => own.child("schema"),
            };
            let has_status = |version: &&Value| version.pointer("/subresources/status").is_some();
            let has_status = match shared("schema") {
                true => versions.iter().any(has_status),
                false => has_status(version),
            };
            whole(schema, &at.child("openAPIV3Schema"), has_status, &mut errors);
        }
        if new("additionalPrinterColumns") {
            let at = place("additionalPrinterColumns").child("additionalPrinterColumns");
            columns(&version["additionalPrinterColumns"], &at, &mut errors);
        }
        if new("subresources") {
            let at = place("subresources").child("subresources").child("scale");
            scale(&version["subresources"]["scale"], &at, &mut errors);
        }
        deprecation(version, &own.child("deprecationWarning"), &mut errors);
        let at = place("selectableFields").child("selectableFields");
        if new("selectableFields") {
            selectable(version, &at, &mut errors);
        }
    }
    errors
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// What the annotation of a group of the Kubernetes project says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// It is not there.
    Missing,
    /// It is neither an address nor a reason.
    Invalid,
    /// The group says why it does without.
    Bypassed,
    /// It says where the group was approved.
    Approved,
}

/// The approval of a definition, in words; of groups that need none, nothing.
pub fn approval_of(crd: &Value) -> Option<(Approval, String)> {
    let group = text(&crd["spec"], "group");
    let owned = |suffix: &str| group == suffix || group.ends_with(&format!(".{suffix}"));
    if !owned("k8s.io") && !owned("kubernetes.io") {
        return None;
    }
    let given = text(&crd["metadata"]["annotations"], APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    Some(if given.is_empty() {
        let why = format!("protected groups must have approval annotation {APPROVED:?}, {see}");
        (Approval::Missing, why)
    } else if given.starts_with("unapproved") {
        (Approval::Bypassed, format!("not approved: {given:?}"))
    } else if given.contains("://") {
        (Approval::Approved, format!("approved in {given}"))
    } else {
        let why = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
             \"unapproved\", {see}"
        );
        (Approval::Invalid, why)
    })
}

/// Checks the approval of a definition; one that is as it was before, `old`, is left alone.
pub fn approval(crd: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let at = Path::new("metadata").child("annotations").key(APPROVED);
    let state = |crd: &Value| approval_of(crd).map(|(state, _)| state);
    let before = old.map(state);
    match approval_of(crd) {
        Some((state, _)) if before == Some(Some(state)) => Vec::new(),
        Some((Approval::Missing, why)) => vec![FieldError::required(&at, why)],
        Some((Approval::Invalid, why)) => {
            let given = text(&crd["metadata"]["annotations"], APPROVED);
            vec![FieldError::invalid(&at, Value::from(given), why)]
        }
        _ => Vec::new(),
    }
}

/// What a deprecated version says of itself.
fn deprecation(version: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let mut invalid = |why: &str| errors.push(FieldError::invalid(at, Value::from(warning), why));
    if version["deprecated"] != true {
        invalid("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        invalid("must be <= 256 characters long");
    }
    if warning.is_empty() {
        invalid("must not be an empty string");
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let why = "must only contain printable UTF-8 characters; non-printable character found at index";
        invalid(&format!("{why} {i}"));
    }
}

fn conversion(conversion: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    match text(conversion, "strategy") {
        "" if conversion.is_object() => {
            errors.push(FieldError::required(&at.child("strategy"), ""));
        }
        "" | "None" => {
            for (field, given) in [
                (
                    "webhookClientConfig",
                    conversion["webhook"]["clientConfig"].is_object(),
                ),
                (
                    "conversionReviewVersions",
                    list(&conversion["webhook"], "conversionReviewVersions")
                        .next()
                        .is_some(),
                ),
            ] {
                if given {
                    let why = "should not be set when strategy is not set to Webhook";
                    errors.push(FieldError::forbidden(&at.child(field), why));
                }
            }
        }
        "Webhook" => {
            let hook = &conversion["webhook"];
            if !hook["clientConfig"].is_object() {
                let why = "required when strategy is set to Webhook";
                errors.push(FieldError::required(&at.child("webhookClientConfig"), why));
            }
            let at = at.child("conversionReviewVersions");
            let known = |v: &Value| v == "v1" || v == "v1beta1";
            if list(hook, "conversionReviewVersions").next().is_none() {
                errors.push(FieldError::required(&at, ""));
            }
            review_versions(hook, &at, errors);
            if list(hook, "conversionReviewVersions").next().is_some()
                && !list(hook, "conversionReviewVersions").any(known)
            {
                let why = "must include at least one of v1, v1beta1";
                errors.push(FieldError::invalid(
                    &at,
                    hook["conversionReviewVersions"].clone(),
                    why,
                ));
            }
        }
        other => {
            let at = at.child("strategy");
            errors.push(FieldError::not_supported(
                &at,
                Value::from(other),
                &["None", "Webhook"],
            ));
        }
    }
}

/// Versions of reviews that a converter understands: names, each said once.
fn review_versions(hook: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let versions: Vec<&str> = list(hook, "conversionReviewVersions")
        .filter_map(Value::as_str)
        .collect();
    for (i, version) in versions.iter().enumerate() {
        let faults = if versions[..i].contains(version) {
            vec!["duplicate version".to_owned()]
        } else {
            machinery::dns_1035_label(version)
        };
        for fault in faults {
            errors.push(FieldError::invalid(&at.index(i), Value::from(*version), fault));
        }
    }
}

fn columns(columns: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (i, column) in columns.as_array().into_iter().flatten().enumerate() {
        let at = at.index(i);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let kind = text(column, "type");
        let place = at.child("type");
        if kind.is_empty() {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(FieldError::required(&place, why));
        } else if !COLUMN_TYPES.contains(&kind) {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(FieldError::invalid(&place, Value::from(kind), why));
        }
        let format = text(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), Value::from(format), why));
        }
        let path = text(column, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at.child("JSONPath"), ""));
        } else if !path.starts_with('.') {
            errors.push(not_simple(&at.child("JSONPath"), path));
        }
    }
}

fn not_simple(at: &Path, path: &str) -> FieldError {
    FieldError::invalid(
        at,
        Value::from(path),
        "must be a simple json path starting with .",
    )
}

fn scale(scale: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    if !scale.is_object() {
        return;
    }
    for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = text(scale, field);
        let place = at.child(field);
        if path.is_empty() {
            errors.push(FieldError::required(&place, ""));
        } else if !path.starts_with('.') {
            errors.push(not_simple(&place, path));
        } else if !path.starts_with(below) {
            let why = format!("should be a json path under {}", below.trim_end_matches('.'));
            errors.push(FieldError::invalid(&place, Value::from(path), why));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    if !selector.is_empty() && !selector.starts_with('.') {
        errors.push(not_simple(&at.child("labelSelectorPath"), selector));
    } else if !selector.is_empty() && !selector.starts_with(".status.") && !selector.starts_with(".spec.") {
        let why = "should be a json path under either .spec or .status";
        let place = at.child("labelSelectorPath");
        errors.push(FieldError::invalid(&place, Value::from(selector), why));
    }
}

/// Selectable fields are simple paths to scalars of the schema.
fn selectable(version: &Value, list_at: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    if list(version, "selectableFields").next().is_some() && !version["schema"].is_object() {
        let why = "may only be set when validations.schema is included";
        return errors.push(FieldError::invalid(list_at, Value::from(""), why));
    }
    for (i, field) in list(version, "selectableFields").enumerate() {
        let path = text(field, "jsonPath");
        let at = list_at.index(i).child("jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let invalid = |why: String| FieldError::invalid(&at, Value::from(path), why);
        let Some(steps) = path.strip_prefix('.') else {
            let why = "is an invalid path: expected [ or . but got: ";
            errors.push(invalid(format!("{why}{}", path.split('.').next().unwrap_or(""))));
            continue;
        };
        if steps.split('.').next() == Some("metadata") {
            errors.push(invalid("must not point to fields in metadata".into()));
            continue;
        }
        let mut here = version.pointer("/schema/openAPIV3Schema");
        for step in steps.split('.') {
            here = here.and_then(|schema| schema["properties"].get(step));
        }
        match here.map(|schema| text(schema, "type")) {
            Some("string" | "boolean" | "integer") => {}
            Some(_) => errors.push(invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed."
                    .into(),
            )),
            None if steps.contains('[') => {
                errors.push(invalid("is an invalid path: array notation is not allowed".into()));
                continue;
            }
            None => {
                errors.push(invalid("is an invalid path: does not refer to a valid field".into()));
                continue;
            }
        }
        if seen.contains(&path) {
            errors.push(FieldError::duplicate(&at, Value::from(path)));
        } else {
            seen.push(path);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(list_at, seen.len(), MAX_SELECTABLE));
    }
}

/// Formats that nobody checks, in the order of a definition: each gets a warning.
pub fn unrecognized_formats(crd: &Value) -> Vec<String> {
    fn collect(schema: &Value, found: &mut Vec<String>) {
        let format = text(schema, "format");
        let known = match text(schema, "type") {
            "" | "string" => super::formats::known(format),
            "integer" => ["int32", "int64"].contains(&format),
            "number" => ["float", "double"].contains(&format),
            _ => false,
        };
        if !format.is_empty() && !known {
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

/// Checks a schema by stages, as upstream does: what is not structural has no defaults to speak of, and rules are not
/// compiled about types that are not clear.
fn whole(schema: &Value, at: &Path, has_status: bool, errors: &mut Vec<FieldError>) {
    shown::check_root(schema, at, has_status, errors);
    let mut below = schema.clone();
    // What the server says about metadata stands; a schema may bound names only.
    if let Some(properties) = below.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("metadata");
    }
    let mut faults = Vec::new();
    let is_understood = !has_unsupported(schema);
    if is_understood {
        root(schema, at, &mut faults);
        structure(&below, at, None, &mut faults);
        if faults.is_empty() {
            defaults::check(schema, at, &mut faults);
        }
    }
    let is_clear = is_understood && faults.is_empty();
    errors.append(&mut faults);
    published(&below, at, &mut faults);
    resources(schema, at, true, &mut faults);
    rules::check(schema, at, is_clear, &mut faults);
    errors.append(&mut faults);
}

/// Whether a schema says anything that no structural one can, which is told by itself: upstream makes no more of it then.
pub(super) fn has_unsupported(schema: &Value) -> bool {
    let is_said = |field: &str| match schema.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
        Some(_) => true,
    };
    let named = [
        "id",
        "$schema",
        "$ref",
        "patternProperties",
        "dependencies",
        "definitions",
    ];
    let more = schema.get("additionalItems").is_some_and(|more| !more.is_null());
    if more || schema["items"].is_array() || named.into_iter().any(is_said) {
        return true;
    }
    let one = ["items", "additionalProperties", "not"].map(|field| &schema[field]);
    let several = ["allOf", "anyOf", "oneOf"].map(|field| list(schema, field));
    let properties = schema["properties"].as_object().into_iter().flatten();
    one.into_iter()
        .chain(several.into_iter().flatten())
        .chain(properties.map(|(_, property)| property))
        .any(|part| part.is_object() && has_unsupported(part))
}

fn root(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let place = at.child("type");
    match text(schema, "type") {
        "" => errors.push(FieldError::required(&place, "must not be empty at the root")),
        "object" => {}
        other => {
            let why = "must be object at the root";
            errors.push(FieldError::invalid(&place, Value::from(other), why));
        }
    }
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
        if field == "metadata" && !bounds_names(own) {
            let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&place, why));
        }
    }
    if schema["additionalProperties"].is_object() || schema["additionalProperties"] == true {
        let why = "must not be used at the root";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
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

/// The schemas below one, with their places, and what a type there is for.
fn below<'s>(schema: &'s Value, at: &Path) -> Vec<(&'s Value, Path, &'static str)> {
    let properties = schema["properties"].as_object().into_iter().flatten();
    let properties =
        properties.map(|(name, property)| (property, at.child("properties").key(name), "object fields"));
    let others = [
        ("additionalProperties", "object fields"),
        ("items", "array items"),
    ];
    let others = others.map(|(field, of)| (&schema[field], at.child(field), of));
    properties
        .chain(others.into_iter().filter(|(schema, ..)| schema.is_object()))
        .collect()
}

/// Checks the structure of a schema and of those below it; `wanted` says that a type must be there, and for what.
/// Source: `ValidateStructural`.
fn structure(schema: &Value, at: &Path, wanted: Option<&str>, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    let kind = text(schema, "type");
    let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    if let Some(of) = wanted
        && kind.is_empty()
        && !free
    {
        let why = format!("must not be empty for specified {of}");
        errors.push(FieldError::required(&at.child("type"), why));
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
    for (schema, place, of) in below(schema, at) {
        structure(schema, &place, Some(of), errors);
    }
    if kind == "array" && schema["items"].is_null() {
        errors.push(FieldError::required(&at.child("items"), "must be specified"));
    }
    extended(schema, kind, at, errors);
    junctors::check(schema, at, errors);
    // So it is upstream: what stands beside the structure further below is not looked for in it.
    if wanted.is_none() {
        junctors::complete(schema, at, errors);
    }
}

/// Checks what a schema and those below it say besides, in what is published of them.
/// Source: `ValidateCustomResourceDefinitionOpenAPISchema`.
fn published(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let flag = |name: &str| schema[name] == true;
    let kind = text(schema, "type");
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&at.child("type"), why));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(
            &at.child("type"),
            Value::from(kind),
            &TYPES,
        ));
    }
    if flag("uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&at.child("uniqueItems"), why));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        let place = at.child("x-kubernetes-preserve-unknown-fields");
        let why = "must be true or undefined";
        errors.push(FieldError::invalid(&place, Value::from(false), why));
    }
    if !text(schema, "$schema").is_empty() {
        // Upstream names neither the place nor the field.
        let why = "OpenAPIV3Schema 'schema' is not supported";
        let whole = at
            .as_str()
            .find("openAPIV3Schema")
            .map_or("", |i| &at.as_str()[..i]);
        let whole = Path::new(&format!("{whole}openAPIV3Schema"));
        errors.push(FieldError::invalid(&whole, Value::from(""), why));
    }
    for (field, why) in [
        ("id", "id is not supported"),
        ("additionalItems", "additionalItems is not supported"),
        ("$ref", "$ref is not supported"),
        ("definitions", "definitions is not supported"),
        ("dependencies", "dependencies is not supported"),
        ("patternProperties", "patternProperties is not supported"),
    ] {
        if schema.get(field).is_some_and(|v| !v.is_null()) {
            errors.push(FieldError::forbidden(&at.child(field), why));
        }
    }
    let named = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
    let more = &schema["additionalProperties"];
    if named && (more.is_object() || *more == false) {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&at.child("additionalProperties"), why));
    }
    for (schema, place, _) in below(schema, at) {
        published(schema, &place, errors);
    }
    for (schema, place) in junctors::beside(schema, at) {
        published(schema, &place, errors);
    }
    if schema["items"].is_array() {
        let why = "items must be a schema object and not an array";
        errors.push(FieldError::forbidden(&at.child("items"), why));
    }
    lists::check(schema, kind, at, errors);
}

/// What the parts that every object has must not say, where the schema describes one: the definition's own at its root,
/// others where it embeds them.
fn resources(schema: &Value, at: &Path, root: bool, errors: &mut Vec<FieldError>) {
    let embedded = schema["x-kubernetes-embedded-resource"] == true;
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let place = at.child("properties").key(name);
        let own = (root || embedded) && ["apiVersion", "kind", "metadata"].contains(&name.as_str());
        match own {
            true => inside(property, &place, root && name == "metadata", false, errors),
            false => resources(property, &place, false, errors),
        }
    }
    for below in ["items", "additionalProperties"]
        .into_iter()
        .filter(|below| schema[*below].is_object())
    {
        resources(&schema[below], &at.child(below), false, errors);
    }
}

/// Below a part that every object has. `top`: of the object itself; `keyed`: in a map of its metadata.
fn inside(schema: &Value, at: &Path, top: bool, keyed: bool, errors: &mut Vec<FieldError>) {
    const EMBEDDED: &str = "x-kubernetes-embedded-resource";
    if schema[EMBEDDED] == true {
        let why = "must not be used inside of resource meta";
        errors.push(FieldError::forbidden(&at.child(EMBEDDED), why));
    }
    let why = match (top, keyed) {
        (true, _) => Some("must not be set in top-level metadata"),
        (false, true) => Some("must not be set inside additionalProperties applying to object metadata"),
        (false, false) => None,
    };
    if let (false, Some(why)) = (schema["default"].is_null(), why) {
        errors.push(FieldError::forbidden(&at.child("default"), why));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        inside(property, &at.child("properties").key(name), top, keyed, errors);
    }
    for (below, keyed) in [("items", keyed), ("additionalProperties", true)] {
        if schema[below].is_object() {
            inside(&schema[below], &at.child(below), top, keyed, errors);
        }
    }
}

/// Fields that are objects of their own, and those that are numbers or texts.
fn extended(schema: &Value, kind: &str, at: &Path, errors: &mut Vec<FieldError>) {
    const EMBEDDED: &str = "x-kubernetes-embedded-resource";
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    let flag = |name: &str| schema[name] == true;
    if flag("x-kubernetes-int-or-string") {
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
