//! Priority and fairness as clients see it: the default FlowSchemas and PriorityLevelConfigurations, and which of them a
//! request belongs to, told in two headers of every answer (KEP-1040).
//!
//! How many requests one user may have in work is bounded elsewhere ([`crate::limits`]); the levels here are a description.

use crate::request::Attributes;
use crate::rest::{meta, now};
use crate::server::ApiServer;
use crate::user::User;
use crate::view::{GroupResource, View};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

mod objects;
pub use objects::{bootstrap_objects, renewed};

/// The API group of both kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// Tells of every schema whether the level that it names is there.
pub async fn settle(server: &Arc<ApiServer>) {
    let schemas = GroupResource::new(GROUP, "flowschemas");
    let Some(served) = server.resource_of(&schemas) else {
        return;
    };
    let levels = server
        .caches
        .list(&GroupResource::new(GROUP, "prioritylevelconfigurations"), None);
    for schema in server.caches.list(&schemas, None) {
        let level = schema["spec"]["priorityLevelConfiguration"]["name"]
            .as_str()
            .unwrap_or_default();
        let there = levels.iter().any(|known| meta(known, "name") == level);
        let words = "This FlowSchema references the PriorityLevelConfiguration object named";
        let (status, reason, message) = match there {
            true => ("False", "Found", format!("{words} {level:?} and it exists")),
            false => (
                "True",
                "NotFound",
                format!("{words} {level:?} but there is no such object"),
            ),
        };
        let tell = |schema: &Value| {
            let told = list(&schema["status"], "conditions").find(|c| c["type"] == "Dangling");
            if told.is_some_and(|c| c["status"] == status && c["message"] == message.as_str()) {
                return Ok(schema.clone());
            }
            let condition = json!({"type": "Dangling", "status": status, "reason": reason,
                "message": message, "lastTransitionTime": now()});
            let wanted = json!({
                "apiVersion": schema["apiVersion"], "kind": schema["kind"],
                "metadata": {"name": meta(schema, "name")},
                "status": {"conditions": [condition]},
            });
            let (typed, by) = (served.typed(), "api-priority-and-fairness-config-consumer-v1");
            machinery::apply::apply(typed, Some(schema), &wanted, by, true, Some("status"), &now())
        };
        if let Err(status) = server.edit(&served, "", meta(&schema, "name"), tell).await
            && !matches!(status.code, 404 | 409)
        {
            tracing::warn!(schema = meta(&schema, "name"), error = %status, "the state of a flow schema could not be written");
        }
    }
}

/// The schema and the level of a request.
#[derive(Clone)]
pub struct Flow {
    schema: HeaderValue,
    level: HeaderValue,
    /// Of both.
    names: Arc<(String, String)>,
}

impl Flow {
    /// The names of schema and level.
    pub fn names(&self) -> &Arc<(String, String)> {
        &self.names
    }

    /// Tells the client.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.schema.clone());
        headers.insert(LEVEL_UID, self.level.clone());
    }
}

struct Schema {
    flow: Flow,
    rules: Vec<Rule>,
}

struct Rule {
    users: Vec<String>,
    groups: Vec<String>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

struct Resources {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

struct Paths {
    verbs: Vec<String>,
    urls: Vec<String>,
}

/// Revisions of the two resources, and the schemas in the order of their precedence at them.
type Read = ((u64, u64), Arc<Vec<Schema>>);

/// The schemas of one server, read once for every state.
#[derive(Default)]
pub struct Flows {
    read: Mutex<Option<Read>>,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn list<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = &'v Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Flows {
    /// The flow of a request; none while no schema matches.
    pub fn of(&self, view: &dyn View, user: &User, attributes: &Attributes) -> Option<Flow> {
        let schemas = self.schemas(view);
        let matching = schemas.iter().find(|schema| {
            let rules = &schema.rules;
            rules.iter().any(|rule| rule.matches(user, attributes))
        });
        matching.map(|schema| schema.flow.clone())
    }

    fn schemas(&self, view: &dyn View) -> Arc<Vec<Schema>> {
        let schemas = GroupResource::new(GROUP, "flowschemas");
        let levels = GroupResource::new(GROUP, "prioritylevelconfigurations");
        let revision = (view.resource_revision(&schemas), view.resource_revision(&levels));
        let mut read = self.read.lock();
        if let Some((at, found)) = &*read
            && *at == revision
        {
            return found.clone();
        }
        let levels = view.list(&levels, None);
        let mut all = view.list(&schemas, None);
        all.sort_by_key(|schema| {
            let name = schema["metadata"]["name"].as_str().unwrap_or("").to_owned();
            (
                schema["spec"]["matchingPrecedence"].as_i64().unwrap_or(1000),
                name,
            )
        });
        let found: Arc<Vec<Schema>> = Arc::new(
            all.iter()
                .filter_map(|schema| Schema::new(schema, levels.iter().map(|level| &**level)))
                .collect(),
        );
        *read = Some((revision, found.clone()));
        found
    }
}

impl Schema {
    /// None without its level: such a schema is dangling and matches nothing.
    fn new<'v>(schema: &Value, mut levels: impl Iterator<Item = &'v Value>) -> Option<Schema> {
        let level = &schema["spec"]["priorityLevelConfiguration"]["name"];
        let level = levels.find(|l| l["metadata"]["name"] == *level)?;
        let uid = |object: &Value| HeaderValue::from_str(object["metadata"]["uid"].as_str()?).ok();
        Some(Schema {
            flow: Flow {
                schema: uid(schema)?,
                level: uid(level)?,
                names: Arc::new((meta(schema, "name").to_owned(), meta(level, "name").to_owned())),
            },
            rules: list(&schema["spec"], "rules").map(Rule::new).collect(),
        })
    }
}

impl Rule {
    fn new(rule: &Value) -> Rule {
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for subject in list(rule, "subjects") {
            let text = |pointer: &str| {
                subject
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or("")
                    .to_owned()
            };
            match text("/kind").as_str() {
                "User" => users.push(text("/user/name")),
                "Group" => groups.push(text("/group/name")),
                "ServiceAccount" => match (text("/serviceAccount/namespace"), text("/serviceAccount/name")) {
                    (namespace, all) if all == "*" => {
                        groups.push(format!("system:serviceaccounts:{namespace}"))
                    }
                    (namespace, name) => users.push(format!("system:serviceaccount:{namespace}:{name}")),
                },
                _ => {}
            }
        }
        Rule {
            users,
            groups,
            resources: list(rule, "resourceRules")
                .map(|r| Resources {
                    verbs: texts(r, "verbs"),
                    groups: texts(r, "apiGroups"),
                    resources: texts(r, "resources"),
                    cluster: r["clusterScope"] == true,
                    namespaces: texts(r, "namespaces"),
                })
                .collect(),
            paths: list(rule, "nonResourceRules")
                .map(|r| Paths {
                    verbs: texts(r, "verbs"),
                    urls: texts(r, "nonResourceURLs"),
                })
                .collect(),
        }
    }

    fn matches(&self, user: &User, a: &Attributes) -> bool {
        let subject =
            has(&self.users, &user.name) || user.groups.iter().any(|group| has(&self.groups, group));
        subject
            && match a.is_resource {
                true => self.resources.iter().any(|r| r.matches(a)),
                false => self.paths.iter().any(|p| p.matches(a)),
            }
    }
}

impl Resources {
    fn matches(&self, a: &Attributes) -> bool {
        let resource = match a.subresource.as_str() {
            "" => has(&self.resources, &a.resource),
            sub => has(&self.resources, &format!("{}/{sub}", a.resource)),
        };
        let place = match a.namespace.as_str() {
            "" => self.cluster,
            namespace => has(&self.namespaces, namespace),
        };
        has(&self.verbs, &a.verb) && has(&self.groups, &a.group) && resource && place
    }
}

impl Paths {
    fn matches(&self, a: &Attributes) -> bool {
        let covers = |url: &String| match url.strip_suffix("/*") {
            Some(above) => a.path.starts_with(&format!("{above}/")),
            None => url == "*" || *url == a.path,
        };
        has(&self.verbs, &a.verb) && self.urls.iter().any(covers)
    }
}
