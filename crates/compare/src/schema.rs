//! What our OpenAPI document (version 2) says: kinds, the paths they are made at, and their fields.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

/// Kinds whose objects are questions, or change who may ask: they are answered and not stored, or not by the path alone.
const NOT_STORED: [&str; 7] = [
    "Binding",
    "TokenReview",
    "SelfSubjectReview",
    "SubjectAccessReview",
    "SelfSubjectAccessReview",
    "LocalSubjectAccessReview",
    "SelfSubjectRulesReview",
];
/// Objects of these would change what the server does with those that follow.
const FAR_REACHING: [&str; 2] = ["Namespace", "APIService"];

/// A kind that can be made.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its name, e.g. `Pod`.
    pub kind: String,
    /// Its group and version, as `apiVersion` has them.
    pub api_version: String,
    /// Where it is made, e.g. `/api/v1/namespaces/default/pods`.
    pub path: String,
    /// It has a subresource `status`.
    pub status: bool,
    /// Name of its definition.
    pub definition: String,
}

/// The document.
pub struct Schemas {
    definitions: Map<String, Value>,
    /// Kinds that can be made, by path.
    pub kinds: Vec<Kind>,
}

impl Schemas {
    /// Reads our document; `theirs` is the other server's, which has all these kinds, too. `only` names the wanted ones, all
    /// when empty.
    pub fn of(document: &Value, theirs: &Value, only: &[String]) -> Result<Schemas> {
        let definitions = document["definitions"].as_object().context("no definitions")?;
        let paths = document["paths"].as_object().context("no paths")?;
        let mut kinds = Vec::new();
        for (path, item) in paths {
            let post = &item["post"];
            let Some(kind) = post["x-kubernetes-group-version-kind"]["kind"].as_str() else {
                continue;
            };
            let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
            let subresource = parts.contains(&"{name}");
            let shared = theirs["paths"][path]["post"].is_object();
            let left_out = !shared || NOT_STORED.contains(&kind) || FAR_REACHING.contains(&kind);
            if subresource || left_out || !(only.is_empty() || only.iter().any(|k| k == kind)) {
                continue;
            }
            let body = post["parameters"].as_array().into_iter().flatten();
            let reference = body
                .filter_map(|parameter| parameter["schema"]["$ref"].as_str())
                .next();
            let Some(definition) = reference.and_then(name_of) else {
                continue;
            };
            // What limits the others lives elsewhere.
            let namespace = match kind {
                "LimitRange" | "ResourceQuota" => "kube-public",
                _ => "default",
            };
            let gvk = &post["x-kubernetes-group-version-kind"];
            let (group, version) = (
                gvk["group"].as_str().unwrap_or_default(),
                gvk["version"].as_str().unwrap_or_default(),
            );
            kinds.push(Kind {
                kind: kind.to_owned(),
                api_version: match group {
                    "" => version.to_owned(),
                    group => format!("{group}/{version}"),
                },
                status: paths.contains_key(&format!("{path}/{{name}}/status")),
                path: path.replace("{namespace}", namespace),
                definition: definition.to_owned(),
            });
        }
        ensure!(!kinds.is_empty(), "no such kind can be made: {only:?}");
        Ok(Schemas {
            definitions: definitions.clone(),
            kinds,
        })
    }

    /// The kind of an object.
    pub fn kind_of(&self, object: &Value) -> Option<&Kind> {
        let of = |kind: &&Kind| object["kind"] == *kind.kind && object["apiVersion"] == *kind.api_version;
        self.kinds.iter().find(of)
    }

    /// A definition by name.
    pub fn definition(&self, name: &str) -> &Value {
        self.definitions.get(name).unwrap_or(&Value::Null)
    }

    /// A schema, by its reference if it is one.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> (&'a Value, &'a str) {
        match schema["$ref"].as_str().and_then(name_of) {
            Some(name) => (self.definition(name), name),
            None => (schema, ""),
        }
    }

    /// The schema at a place of a value of `schema`: keys and indexes, one by one.
    pub fn at<'a>(&'a self, schema: &'a Value, place: &[String]) -> &'a Value {
        let mut schema = self.resolve(schema).0;
        for step in place {
            let next = match schema["type"].as_str() {
                Some("array") => &schema["items"],
                _ => match &schema["properties"][step] {
                    Value::Null => &schema["additionalProperties"],
                    property => property,
                },
            };
            schema = self.resolve(next).0;
        }
        schema
    }
}

fn name_of(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/definitions/")
}
