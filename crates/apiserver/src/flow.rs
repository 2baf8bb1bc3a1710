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

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
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
            let mut next = schema.clone();
            let told = list(&schema["status"], "conditions").find(|c| c["type"] == "Dangling");
            if told.is_some_and(|c| c["status"] == status && c["message"] == message.as_str()) {
                return Ok(next);
            }
            let kept = list(&schema["status"], "conditions").filter(|c| c["type"] != "Dangling");
            let mut conditions: Vec<Value> = kept.cloned().collect();
            conditions.push(json!({"type": "Dangling", "status": status, "reason": reason,
                "message": message, "lastTransitionTime": now()}));
            next["status"]["conditions"] = json!(conditions);
            machinery::apply::update_managers(
                served.typed(),
                Some(schema),
                &mut next,
                "api-priority-and-fairness-config-consumer-v1",
                "Apply",
                Some("status"),
                &now(),
            );
            Ok(next)
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

/// Name, shares, percent that may be lent, and queues (number, hand size, length); rejects without queues.
type Level = (&'static str, u32, u32, Option<(u32, u32, u32)>);

const LEVELS: [Level; 6] = [
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// The levels and schemas that nobody can change, and that come back when they are deleted.
fn mandatory() -> Vec<Value> {
    let kinds = ["PriorityLevelConfiguration", "FlowSchema"].into_iter();
    let all = kinds.flat_map(|kind| machinery::MANDATORY_FLOWS.map(|name| (kind, name)));
    let object = |(kind, name)| {
        let spec = machinery::mandatory_spec(kind, name)?;
        Some(
            json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": spec}),
        )
    };
    all.filter_map(object).collect()
}

/// The levels and schemas that upstream makes when they are missing.
pub fn bootstrap_objects() -> Vec<Value> {
    let level = |name: &str, spec: Value| {
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": spec})
    };
    let mut objects = mandatory();
    objects.extend(LEVELS.iter().map(|(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => json!({"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}),
        };
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        level(name, json!({"type": "Limited", "limited": limited}))
    }));
    objects.extend(schemas());
    objects
}

fn schemas() -> Vec<Value> {
    let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let system_account = |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}});
    let resources = |verbs: &[&str], group: &str, resources: &[&str], namespaces: &[&str], cluster: bool| {
        let mut rule =
            json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "clusterScope": cluster});
        if !namespaces.is_empty() {
            rule["namespaces"] = json!(namespaces);
        }
        rule
    };
    let everything = |subjects: Vec<Value>| {
        json!({"subjects": subjects, "resourceRules": [resources(&["*"], "*", &["*"], &["*"], true)],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
    };
    let schema = |name: &str, precedence: u32, level: &str, by: &str, rules: Vec<Value>| {
        let mut spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level},
            "rules": rules});
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": {"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}, "spec": spec})
    };
    let all_users = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let managers = || {
        vec![
            user("system:kube-controller-manager"),
            user("system:kube-scheduler"),
        ]
    };
    let elect: &[&str] = &["get", "create", "update"];
    let lease = || resources(elect, "coordination.k8s.io", &["leases"], &["*"], false);
    let mut electing = managers();
    electing.push(system_account("*"));
    let nodes = [
        resources(&["*"], "", &["nodes", "nodes/status"], &["*"], true),
        resources(&["*"], "coordination.k8s.io", &["leases"], &["*"], false),
    ];
    vec![
        schema(
            "probes",
            2,
            "exempt",
            "",
            vec![json!({"subjects": all_users(), "nonResourceRules": [
            {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})],
        ),
        schema(
            "system-leader-election",
            100,
            "leader-election",
            "ByUser",
            vec![json!({"subjects": electing, "resourceRules": [lease()]})],
        ),
        schema(
            "endpoint-controller",
            150,
            "workload-high",
            "ByUser",
            vec![json!({
            "subjects": [user("system:kube-controller-manager"), system_account("endpoint-controller"),
                system_account("endpointslicemirroring-controller")],
            "resourceRules": [resources(elect, "", &["endpoints"], &["*"], false)]})],
        ),
        schema(
            "workload-leader-election",
            200,
            "leader-election",
            "ByUser",
            vec![json!({"subjects": [system_account("*")], "resourceRules": [lease()]})],
        ),
        schema(
            "system-node-high",
            400,
            "node-high",
            "ByUser",
            vec![json!({"subjects": [group("system:nodes")], "resourceRules": nodes})],
        ),
        schema(
            "system-nodes",
            500,
            "system",
            "ByUser",
            vec![everything(vec![group("system:nodes")])],
        ),
        schema(
            "kube-controller-manager",
            800,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![user("system:kube-controller-manager")])],
        ),
        schema(
            "kube-scheduler",
            800,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![user("system:kube-scheduler")])],
        ),
        schema(
            "kube-system-service-accounts",
            900,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![system_account("*")])],
        ),
        schema(
            "service-accounts",
            9000,
            "workload-low",
            "ByUser",
            vec![everything(vec![group("system:serviceaccounts")])],
        ),
        schema(
            "global-default",
            9900,
            "global-default",
            "ByUser",
            vec![everything(all_users())],
        ),
    ]
}
