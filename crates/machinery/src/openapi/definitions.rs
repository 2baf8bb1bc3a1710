//! The definitions that a set of kinds reaches, in the dialect of v2 or v3.
//!
//! The table's text is split into one raw slice per definition; only reached ones are parsed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kinds::KindInfo;
use kinds::schema::{OURS, UPSTREAM};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Which OpenAPI version is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `#/definitions/…`, siblings of `$ref` allowed.
    V2,
    /// `#/components/schemas/…`, siblings of `$ref` only beside `allOf`.
    V3,
}

/// All definitions, not yet parsed.
#[derive(Clone)]
pub(super) struct Definitions {
    raw: HashMap<String, &'static RawValue>,
    /// Lists of kinds whose source has only the element.
    made: BTreeMap<String, Value>,
}

impl Definitions {
    pub(super) fn read() -> Self {
        let mut raw = HashMap::new();
        for text in [UPSTREAM, OURS] {
            // The texts are part of the program; a test of the table reads them.
            raw.extend(serde_json::from_str::<HashMap<String, &'static RawValue>>(text).unwrap_or_default());
        }
        Self {
            raw,
            made: BTreeMap::new(),
        }
    }

    /// Adds a definition of the list of each kind that has none.
    pub(super) fn add_lists(&mut self, kinds: &[&'static KindInfo]) {
        for kind in kinds.iter().filter(|kind| kind.has_verb("list")) {
            let name = list_definition(kind);
            if self.raw.contains_key(&name) {
                continue;
            }
            let list = json!({
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "items": {"type": "array", "items": {"$ref": format!("#/definitions/{}", kind.schema)}},
                    "kind": {"type": "string"},
                    "metadata": {"$ref": format!("#/definitions/{META}.ListMeta")},
                },
                "x-kubernetes-group-version-kind":
                    [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
            });
            self.made.insert(name, list);
        }
    }

    /// The roots and all that they refer to, sorted by name.
    pub(super) fn closure(&self, roots: Vec<String>, dialect: Dialect) -> Map<String, Value> {
        let mut open = roots;
        let mut seen = BTreeSet::new();
        let mut closed = BTreeMap::new();
        while let Some(name) = open.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            let Some(definition) = self.get(&name) else {
                continue;
            };
            let mut written =
                special(&name, dialect).unwrap_or_else(|| translate(definition, dialect, &mut open, false));
            super::enums::add(&name, &mut written);
            if dialect == Dialect::V3 {
                super::defaults::add(&name, &mut written);
            }
            closed.insert(name, written);
        }
        closed.into_iter().collect()
    }

    fn get(&self, name: &str) -> Option<Value> {
        if let Some(made) = self.made.get(name) {
            return Some(made.clone());
        }
        serde_json::from_str(self.raw.get(name)?.get()).ok()
    }
}

/// Definition name of the list of a kind.
pub(super) fn list_definition(kind: &KindInfo) -> String {
    format!("{}List", kind.schema)
}

/// Scalars that v3 can say more exactly.
fn special(name: &str, dialect: Dialect) -> Option<Value> {
    match (dialect, name) {
        (Dialect::V3, "io.k8s.apimachinery.pkg.api.resource.Quantity") => {
            Some(json!({"oneOf": [{"type": "string"}, {"type": "number"}]}))
        }
        (Dialect::V3, "io.k8s.apimachinery.pkg.util.intstr.IntOrString") => {
            Some(json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}))
        }
        _ => None,
    }
}

/// Rewrites references and notes their targets. `named`: the keys are names of fields, not words of the schema
/// (JSONSchemaProps has a field called `$ref`).
fn translate(value: Value, dialect: Dialect, open: &mut Vec<String>, named: bool) -> Value {
    match value {
        Value::Object(map) => {
            let mut written = Map::new();
            for (key, value) in map {
                if let (false, "$ref", Some(target)) = (named, key.as_str(), value.as_str()) {
                    let name = target.trim_start_matches("#/definitions/").to_owned();
                    let reference = match dialect {
                        Dialect::V2 => target.to_owned(),
                        Dialect::V3 => format!("#/components/schemas/{name}"),
                    };
                    open.push(name);
                    written.insert(key, Value::String(reference));
                    continue;
                }
                let fields = !named && key == "properties";
                written.insert(key, translate(value, dialect, open, fields));
            }
            let lone = written.len() == 1;
            if dialect == Dialect::V3 && !named && !lone && written.get("$ref").is_some_and(Value::is_string)
            {
                let reference = written.remove("$ref");
                written.insert("allOf".to_owned(), json!([{"$ref": reference}]));
            }
            Value::Object(written)
        }
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .map(|item| translate(item, dialect, open, false))
                .collect(),
        ),
        other => other,
    }
}
