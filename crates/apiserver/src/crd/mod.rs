//! CustomResourceDefinitions: what a served version of one is, and the parts that serve it.
//!
//! [`controller`] follows the definitions, keeps the registry in step and writes their conditions. A served version
//! carries its structural schema ([`schema`]), its columns ([`columns`]) and its subresources.

pub mod columns;
pub mod controller;
pub use controller::{is_terminating, terminating};
pub mod conversion;
mod defaults;
pub mod definition;
mod fieldpath;
pub mod formats;
mod jsonpath;
mod junctors;
mod lists;
mod names;
mod numbers;
pub mod openapi;
mod parts;
pub mod rules;
pub mod schema;
mod shown;
pub mod structural;
mod unique;

use crate::discovery::priority;
use crate::rest::set_meta;
use crate::wire::options::FieldValidation;
use columns::Column;
use conversion::Conversion;
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use machinery::tables::IncludeObject;
use machinery::{Duplicate, Mismatch};
use serde_json::{Value, json};
use std::sync::Arc;

pub use controller::start;

/// Finalizer that holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// One served version of a custom resource.
pub struct CustomVersion {
    /// The structural schema, an empty object when the version preserves everything.
    schema: Value,
    types: kinds::schema::Type,
    patterns: schema::Patterns,
    rules: Option<rules::Node>,
    columns: Vec<Column>,
    /// Paths of the fields that selectors may name, without the leading dot.
    selectable: Vec<String>,
    status: bool,
    scale: Option<(String, String, Option<String>)>,
    /// Kind and plural, for messages.
    kind: String,
    conversion: Arc<Conversion>,
    /// What everybody is told who uses the version.
    deprecation: Option<String>,
    /// Somewhere in the schema is a default.
    defaults: bool,
    /// Somewhere in the schema is a resource within the object.
    embeds: bool,
    /// Schemas with defaults of the other versions, by their apiVersion: what was stored in one of them is shown with its.
    others: Vec<(String, Value)>,
    /// The schema of the version in which objects are stored, where that is another.
    stored: Option<Value>,
    /// Objects may be stored in other versions than the one that is stored now.
    mixed: bool,
}

impl CustomVersion {
    /// Reads a version of a definition.
    pub fn new(
        crd: &Value,
        version: &Value,
        kind: &str,
        conversion: Arc<Conversion>,
        mixed: bool,
    ) -> CustomVersion {
        let schema = version
            .pointer("/schema/openAPIV3Schema")
            .cloned()
            .unwrap_or_else(|| json!({}));
        let scale = version.pointer("/subresources/scale").map(|scale| {
            let pointer = |f: &str| scale.get(f).and_then(Value::as_str).map(|p| p.replace('.', "/"));
            (
                pointer("specReplicasPath").unwrap_or_default(),
                pointer("statusReplicasPath").unwrap_or_default(),
                pointer("labelSelectorPath"),
            )
        });
        CustomVersion {
            deprecation: deprecation(&crd["spec"], version),
            defaults: schema::has_defaults(&schema),
            embeds: schema::embeds(&schema),
            others: others(crd, version),
            stored: stored(crd, version),
            types: kinds::schema::custom(&schema),
            patterns: schema::patterns(&schema),
            rules: rules::Node::new(&schema, true),
            columns: columns::columns(version),
            selectable: selectable(version),
            status: version.pointer("/subresources/status").is_some(),
            scale,
            schema,
            kind: kind.to_string(),
            conversion,
            mixed,
        }
    }

    /// The fields that selectors may name.
    pub fn selectable(&self) -> &[String] {
        &self.selectable
    }

    /// How objects get from one version to another.
    pub fn conversion(&self) -> &Conversion {
        &self.conversion
    }

    /// What everybody is told who uses the version, when it is deprecated.
    pub fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    /// Whether objects may lack what they are shown with.
    pub fn has_defaults(&self) -> bool {
        self.defaults
    }

    /// Whether objects may be stored in more than one version.
    pub fn is_mixed(&self) -> bool {
        self.mixed
    }

    /// Prunes what came from another version.
    pub fn adopt(&self, object: &mut Value) {
        schema::prune(object, &self.schema, true, "", &mut Vec::new(), &mut Vec::new());
        self.drop_nulls(object);
    }

    /// Prunes what goes from this version into the one that is stored.
    pub fn adopt_stored(&self, object: &mut Value) {
        if let Some(schema) = &self.stored {
            schema::prune(object, schema, true, "", &mut Vec::new(), &mut Vec::new());
            schema::drop_nulls(object, schema);
        }
    }

    /// Completes what is stored in this version: prunes it, and fills in defaults that it was stored without.
    pub fn complete(&self, object: &mut Value) {
        self.adopt(object);
        self.default(object);
    }

    /// Fills in the defaults of the version, another one, that an object is stored in.
    pub fn complete_other(&self, object: &mut Value) {
        let found = self.others.iter().find(|(of, _)| object["apiVersion"] == *of);
        if let Some((_, schema)) = found {
            schema::prune(object, schema, true, "", &mut Vec::new(), &mut Vec::new());
            schema::drop_nulls(object, schema);
            schema::default(object, schema);
        }
    }

    /// Drops nulls that the schema does not allow, from all but applied configurations, whose nulls are their owner's.
    pub fn drop_nulls(&self, object: &mut Value) {
        schema::drop_nulls(object, &self.schema);
    }

    /// The schema as the definition gives it.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// The types that the schema gives, for server-side apply.
    pub fn types(&self) -> &kinds::schema::Type {
        &self.types
    }

    /// JSON pointers of replicas in spec and status, and of the selector text.
    pub fn scale_paths(&self) -> Option<(String, String, Option<String>)> {
        self.scale.clone()
    }

    /// Prunes unknown fields and reports them as the mode wants.
    pub fn decode_check(
        &self,
        value: &mut Value,
        duplicates: &[Duplicate],
        mode: FieldValidation,
    ) -> Result<Vec<String>, Status> {
        let (kind, version) = (&self.kind, value["apiVersion"].as_str().unwrap_or(""));
        let version = version.rsplit('/').next().unwrap_or("").to_string();
        let refuse = |why: &str| {
            Status::bad_request(format!(
                "{kind} in version {version:?} cannot be handled as a {kind}: {why}"
            ))
        };
        let found = self
            .decode_faults(value, duplicates)
            .map_err(|why| refuse(&why.json))?;
        match mode {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Strict if !found.is_empty() => Err(refuse(&machinery::strict_text(&found))),
            FieldValidation::Warn | FieldValidation::Strict => Ok(found),
        }
    }

    /// Prunes unknown fields and tells of them: first what stands twice, then what is unknown, by its path; metadata of
    /// resources within the object last.
    pub fn decode_faults(
        &self,
        value: &mut Value,
        duplicates: &[Duplicate],
    ) -> Result<Vec<String>, Mismatch> {
        let (mut dropped, mut embedded) = (Vec::new(), Vec::new());
        schema::prune(value, &self.schema, true, "", &mut dropped, &mut embedded);
        dropped.sort();
        embedded.sort();
        let mut found: Vec<String> = duplicates.iter().map(Duplicate::fault).collect();
        found.extend(machinery::metadata_faults(value)?);
        if self.embeds
            && let Some(odd) = schema::mistyped(value, &self.schema, &Path::root())
        {
            return Err(odd.to_string().into());
        }
        found.extend(
            dropped
                .iter()
                .chain(&embedded)
                .map(|d| format!("unknown field {d:?}")),
        );
        Ok(found)
    }

    /// Fills in defaults.
    pub fn default(&self, value: &mut Value) {
        schema::default(value, &self.schema);
    }

    /// A new object: generation 1, no status where that is a subresource.
    pub fn prepare_create(&self, object: &mut Value) {
        set_meta(object, "generation", 1);
        if self.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
    }

    /// A changed object: status and the rest keep apart, a change of the rest is a new generation.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, sub: Option<&str>) {
        let generation = old
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(1);
        set_meta(new, "generation", generation);
        if !self.status {
            if content(new) != content(old) {
                set_meta(new, "generation", generation + 1);
            }
            return;
        }
        if sub == Some("status") {
            let status = new.get("status").cloned();
            let managed = new.pointer("/metadata/managedFields").cloned();
            *new = old.clone();
            put(new, "status", status);
            match managed {
                Some(managed) => set_meta(new, "managedFields", managed),
                None => {
                    if let Some(Value::Object(metadata)) = new.get_mut("metadata") {
                        metadata.remove("managedFields");
                    }
                }
            }
            return;
        }
        put(new, "status", old.get("status").cloned());
        if content(new) != content(old) {
            set_meta(new, "generation", generation + 1);
        }
    }

    /// Checks a new object.
    pub fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = machinery::validate_metadata(object);
        self.check(object, None, &mut errors);
        if let Some(rules) = &self.rules {
            rules.validate(object, None, &mut errors);
        }
        errors
    }

    /// Checks a changed object; what was wrong before and did not change is forgiven, with a warning. By way of the status
    /// only that is held against the schema.
    pub fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        sub: Option<&str>,
    ) -> (Vec<FieldError>, Vec<String>) {
        let mut errors = machinery::validate_metadata_update(new, old);
        match sub {
            Some("status") => self.check_status(new, old, &mut errors),
            _ => self.check(new, Some(old), &mut errors),
        }
        let mut warnings = match &self.rules {
            Some(rules) => rules.validate(new, Some(old), &mut errors),
            None => Vec::new(),
        };
        if errors.is_empty() {
            warnings.extend(self.finalizer_warnings(new, Some(old)));
        }
        (errors, warnings)
    }

    /// Finalizers that came and have a name that others may also use.
    pub fn finalizer_warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let list = |object: &Value| -> std::collections::BTreeSet<String> {
            let names = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            let names = names.into_iter().flatten().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        };
        let before = old.map(list).unwrap_or_default();
        const STANDARD: [&str; 3] = ["foregroundDeletion", "kubernetes", "orphan"];
        const AVOID: &str = "to avoid accidental conflicts with other finalizer writers";
        list(new)
            .into_iter()
            .filter(|name| {
                !before.contains(name) && !name.contains('/') && !STANDARD.contains(&name.as_str())
            })
            .map(|name| {
                let path = if name.contains('.') {
                    " including a path (/)"
                } else {
                    ""
                };
                format!(
                    "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name{path} {AVOID}"
                )
            })
            .collect()
    }

    fn check(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        let mut found = Vec::new();
        schema::validate(
            object,
            old,
            &self.schema,
            &Path::root(),
            &self.patterns,
            &mut found,
        );
        schema::once(&mut found);
        errors.append(&mut found);
        if self.embeds {
            schema::validate_resources(object, &self.schema, &Path::root(), errors);
        }
        self.check_scale(object, errors);
        self.check_unique(object, old, errors);
    }

    fn check_unique(&self, object: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
        // Where anything stood twice before, say since the keys of a list are others now, it may everywhere.
        let mut before = Vec::new();
        if let Some(old) = old {
            unique::check(old, &self.schema, &Path::root(), &mut before);
        }
        if before.is_empty() {
            unique::check(object, &self.schema, &Path::root(), errors);
        }
    }

    fn check_status(&self, object: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let schema = self.schema.pointer("/properties/status");
        if let (Some(status), Some(schema)) = (object.get("status"), schema) {
            let (at, mut found) = (Path::new("status"), Vec::new());
            // The status is the whole body here, which the words of a fault begin at.
            let (old, root) = (old.get("status"), Path::root());
            schema::validate(status, old, schema, &root, &self.patterns, &mut found);
            schema::once(&mut found);
            schema::placed(&at, &mut found);
            errors.append(&mut found);
        }
        self.check_scale(object, errors);
        self.check_unique(object, Some(old), errors);
    }

    /// Counts and the selector of a scale are what autoscalers read: they must be of the right kind.
    fn check_scale(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let Some((spec, status, selector)) = &self.scale else {
            return;
        };
        for pointer in [spec, status] {
            let at = Path::new(&pointer.replace('/', "."));
            let value = match found(object, pointer) {
                Ok(None) => continue,
                Ok(Some(value)) => value,
                Err(why) => {
                    errors.push(FieldError::invalid(&at, 0.into(), why));
                    continue;
                }
            };
            let why = match value.as_i64() {
                None => {
                    let of = go_type(value);
                    let shown = machinery::go_text(value);
                    format!("{at} accessor error: {shown} is of the type {of}, expected int64")
                }
                Some(n) if n < 0 => "should be a non-negative integer".to_owned(),
                Some(n) if n > i64::from(i32::MAX) => {
                    format!("should be less than or equal to {}", i32::MAX)
                }
                Some(_) => continue,
            };
            errors.push(FieldError::invalid(&at, value.as_i64().unwrap_or(0).into(), why));
        }
        if let Some(pointer) = selector
            && let Some(value) = object.pointer(pointer).filter(|v| !v.is_string())
        {
            let at = Path::new(&pointer.replace('/', "."));
            let why = format!(
                "{at} accessor error: {} is of the type {}, expected string",
                machinery::go_text(value),
                go_type(value)
            );
            errors.push(FieldError::invalid(&at, "".into(), why));
        }
    }

    /// The objects as a Table.
    pub fn table(&self, objects: &[Value], include: IncludeObject) -> Value {
        columns::table(&self.columns, objects, include)
    }

    /// The kind's name.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

/// The schemas with defaults of all versions but one, by their apiVersion.
fn others(crd: &Value, own: &Value) -> Vec<(String, Value)> {
    let group = crd["spec"]["group"].as_str().unwrap_or("");
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    let others = versions.filter(|version| version["name"] != own["name"]);
    others
        .filter_map(|version| {
            let schema = version.pointer("/schema/openAPIV3Schema")?;
            let name = version["name"].as_str()?;
            schema::has_defaults(schema).then(|| (format!("{group}/{name}"), schema.clone()))
        })
        .collect()
}

/// The schema of the version that is stored, if that is not this one.
fn stored(crd: &Value, own: &Value) -> Option<Value> {
    let versions = crd["spec"]["versions"].as_array()?;
    let stored = versions.iter().find(|version| version["storage"] == true)?;
    let schema = stored.pointer("/schema/openAPIV3Schema")?;
    (stored["name"] != own["name"]).then(|| schema.clone())
}

/// Paths of the selectable fields of a version of a definition, without the leading dot.
fn selectable(version: &Value) -> Vec<String> {
    let fields = version.get("selectableFields").and_then(Value::as_array);
    let paths = fields
        .into_iter()
        .flatten()
        .filter_map(|f| f["jsonPath"].as_str());
    paths.map(|p| p.trim_start_matches('.').to_string()).collect()
}

/// The value at a pointer; an error, in Go's words, where what should hold it holds nothing by name.
fn found<'v>(object: &'v Value, pointer: &str) -> Result<Option<&'v Value>, String> {
    let (mut here, mut at) = (object, String::new());
    for name in pointer.split('/').skip(1) {
        at.extend([".", name]);
        let fields = match here {
            Value::Null => return Ok(None),
            Value::Object(fields) => fields,
            other => {
                return Err(format!(
                    "{at} accessor error: {} is of the type {}, expected map[string]interface{{}}",
                    machinery::go_text(other),
                    go_type(other)
                ));
            }
        };
        match fields.get(name) {
            Some(value) => here = value,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// Go's name of a value's type, as it stands in messages.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Everything of an object that counts for its generation: the status, too, where it is no subresource.
fn content(object: &Value) -> Value {
    let mut content = object.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("metadata");
    }
    content
}

fn put(object: &mut Value, field: &str, value: Option<Value>) {
    match value {
        Some(value) => object[field] = value,
        None => {
            if let Some(fields) = object.as_object_mut() {
                fields.remove(field);
            }
        }
    }
}

/// The kind of a served version, as the rest of the server knows kinds.
///
/// The table of kinds is made of static text; a custom kind becomes static by being leaked, some hundred bytes for
/// every distinct shape that a definition ever had in this process ([`controller`] reuses unchanged ones).
pub fn kind_info(crd: &Value, version: &Value) -> &'static KindInfo {
    let text = |p: &str| crd.pointer(p).and_then(Value::as_str).unwrap_or("").to_string();
    let list = |p: &str| -> &'static [&'static str] {
        let items = crd.pointer(p).and_then(Value::as_array);
        let items: Vec<&'static str> = items
            .into_iter()
            .flatten()
            .filter_map(|i| i.as_str().map(|s| leak(s.to_string())))
            .collect();
        Vec::leak(items)
    };
    let (group, kind) = (leak(text("/spec/group")), leak(text("/spec/names/kind")));
    let name = leak(
        version
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_string(),
    );
    let mut subresources = Vec::new();
    const CHANGES: &[&str] = &["get", "patch", "update"];
    if version.pointer("/subresources/status").is_some() {
        subresources.push(kinds::Subresource {
            name: "status",
            verbs: CHANGES,
            group,
            version: name,
            kind,
        });
    }
    if version.pointer("/subresources/scale").is_some() {
        subresources.push(kinds::Subresource {
            name: "scale",
            verbs: CHANGES,
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
        });
    }
    let list_kind = match text("/spec/names/listKind") {
        empty if empty.is_empty() => format!("{kind}List"),
        given => given,
    };
    let singular = match text("/spec/names/singular") {
        empty if empty.is_empty() => kind.to_lowercase(),
        given => given,
    };
    Box::leak(Box::new(KindInfo {
        group,
        version: name,
        kind,
        list_kind: leak(list_kind),
        plural: leak(text("/spec/names/plural")),
        singular: leak(singular),
        short_names: list("/spec/names/shortNames"),
        categories: list("/spec/names/categories"),
        namespaced: text("/spec/scope") == "Namespaced",
        verbs: &[
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "create",
            "update",
            "watch",
        ],
        subresources: Vec::leak(subresources),
        schema: leak(openapi::definition_name(group, name, kind)),
        has_status: version.pointer("/subresources/status").is_some(),
    }))
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// The warning of a deprecated version: its author's, or one that names the best version after it.
fn deprecation(spec: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
    let named = |version: &Value| {
        let name = text(&version["name"]);
        (priority(&name), name)
    };
    let mine = named(version);
    let better = spec["versions"].as_array().into_iter().flatten();
    let better = better.filter(|other| other["served"] == true && other["deprecated"] != true);
    // Of what is no version of Kubernetes' form, the first by name comes first.
    let best = better
        .map(named)
        .filter(|(rank, name)| *rank > mine.0 || (*rank == mine.0 && *name < mine.1))
        .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
    let told = format!("{group}/{} {kind} is deprecated", mine.1);
    Some(match best {
        Some((_, name)) => format!("{told}; use {group}/{name} {kind}"),
        None => told,
    })
}
