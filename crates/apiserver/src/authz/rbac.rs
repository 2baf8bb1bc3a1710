//! RBAC: bindings compiled into an index by subject, rebuilt when a role or binding changes.
//!
//! A request looks up the bindings of its user and groups only, so its cost does not grow with the number of tenants.
//! Aggregated ClusterRoles are resolved here, whatever a controller may have written into their `rules`.

use super::rules::Rule;
use crate::authn::service_account;
use crate::authorize::{Decision, NonResourceRule, ResourceRule, Rules};
use crate::request::Attributes;
use crate::user::User;
use crate::view::{GroupResource, View};
use kinds::selector::LabelSelector;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The four resources everything is compiled from.
const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// The RBAC evaluator of one API server.
pub struct Rbac {
    view: Arc<dyn View>,
    sources: [GroupResource; 4],
    compiled: Mutex<Arc<Compiled>>,
}

/// A subject as the index spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount(String, String),
}

struct Binding {
    /// `None` for ClusterRoleBindings.
    namespace: Option<String>,
    /// `ClusterRoleBinding "x" of ClusterRole "y"`, for the audit log.
    description: String,
    /// `None` when the role does not exist.
    rules: Option<Arc<Vec<Rule>>>,
    /// Kind and name of the role.
    role: (String, String),
}

#[derive(Default)]
struct Compiled {
    revisions: [u64; 4],
    ready: bool,
    index: HashMap<Subject, Vec<usize>>,
    bindings: Vec<Binding>,
}

impl Rbac {
    /// Reads roles and bindings from `view`.
    pub fn new(view: Arc<dyn View>) -> Rbac {
        Rbac {
            view,
            sources: RESOURCES.map(|r| GroupResource::new(GROUP, r)),
            compiled: Mutex::default(),
        }
    }

    /// Whether a binding of the user allows the request.
    pub fn authorize(&self, user: &User, attributes: &Attributes) -> Decision {
        let compiled = self.compiled();
        let mut errors: Vec<String> = Vec::new();
        for (binding, subject) in compiled.of(user, &attributes.namespace) {
            match &binding.rules {
                Some(rules) if rules.iter().any(|r| r.allows(attributes)) => {
                    return Decision::Allow(format!(
                        "RBAC: allowed by {} to {}",
                        binding.description,
                        describe(&subject)
                    ));
                }
                Some(_) => {}
                None => {
                    let (kind, name) = &binding.role;
                    let error = format!("{}.{GROUP} {name:?} not found", kind.to_lowercase());
                    if !errors.contains(&error) {
                        errors.push(error);
                    }
                }
            }
        }
        match errors.len() {
            0 => Decision::NoOpinion(String::new()),
            1 => Decision::NoOpinion(format!("RBAC: {}", errors[0])),
            _ => Decision::NoOpinion(format!("RBAC: [{}]", errors.join(", "))),
        }
    }

    /// All rules of a user in a namespace (`""`: cluster-wide ones only).
    pub fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let compiled = self.compiled();
        let bindings = compiled.of(user, namespace);
        bindings
            .iter()
            .filter_map(|(b, _)| b.rules.as_deref())
            .flatten()
            .cloned()
            .collect()
    }

    /// The rules of the role a binding in `namespace` refers to; `None` when it does not exist.
    pub fn role_rules(&self, kind: &str, namespace: Option<&str>, name: &str) -> Option<Vec<Rule>> {
        if kind == "ClusterRole" {
            let roles = ClusterRoles::read(self.view.as_ref());
            return roles.rules(name).map(|r| r.to_vec());
        }
        let role = self
            .view
            .get(&GroupResource::new(GROUP, "roles"), namespace, name)?;
        Some(Rule::parse_all(&role))
    }

    /// The rules of a user as `SelfSubjectRulesReview` lists them.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        let mut rules = Rules::default();
        for rule in self.rules_of(user, namespace) {
            if !rule.resources.is_empty() {
                let found = ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups,
                    resources: rule.resources,
                    resource_names: rule.resource_names,
                };
                if !rules.resource_rules.contains(&found) {
                    rules.resource_rules.push(found);
                }
            }
            if !rule.non_resource_urls.is_empty() {
                let found = NonResourceRule {
                    verbs: rule.verbs,
                    non_resource_urls: rule.non_resource_urls,
                };
                if !rules.non_resource_rules.contains(&found) {
                    rules.non_resource_rules.push(found);
                }
            }
        }
        rules
    }

    fn compiled(&self) -> Arc<Compiled> {
        let now = std::array::from_fn(|i| self.view.resource_revision(&self.sources[i]));
        let mut slot = self.compiled.lock();
        // The revisions are read before the objects: a change in between makes the next request compile again.
        if !slot.ready || slot.revisions != now {
            *slot = Arc::new(self.compile(now));
        }
        slot.clone()
    }

    fn compile(&self, revisions: [u64; 4]) -> Compiled {
        let view = self.view.as_ref();
        let cluster_roles = ClusterRoles::read(view);
        let mut resolved: HashMap<String, Option<Arc<Vec<Rule>>>> = HashMap::new();
        let mut compiled = Compiled {
            revisions,
            ready: true,
            ..Compiled::default()
        };
        let [_, roles, cluster_bindings, bindings] = &self.sources;
        let all = view
            .list(cluster_bindings, None)
            .into_iter()
            .chain(view.list(bindings, None));
        for object in all {
            let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let name = text("/metadata/name");
            let namespace = text("/metadata/namespace");
            let (role_kind, role_name) = (text("/roleRef/kind"), text("/roleRef/name"));
            let rules = match role_kind {
                "ClusterRole" => resolved
                    .entry(role_name.to_string())
                    .or_insert_with(|| cluster_roles.rules(role_name).map(Arc::new))
                    .clone(),
                _ => view
                    .get(roles, Some(namespace), role_name)
                    .map(|role| Arc::new(Rule::parse_all(&role))),
            };
            let description = match namespace.is_empty() {
                true => format!("ClusterRoleBinding {name:?} of {role_kind} {role_name:?}"),
                false => {
                    let full = format!("{name}/{namespace}");
                    format!("RoleBinding {full:?} of {role_kind} {role_name:?}")
                }
            };
            let at = compiled.bindings.len();
            compiled.bindings.push(Binding {
                namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
                description,
                rules,
                role: (role_kind.to_string(), role_name.to_string()),
            });
            for subject in object["subjects"].as_array().into_iter().flatten() {
                if let Some(subject) = parse_subject(subject, namespace) {
                    compiled.index.entry(subject).or_default().push(at);
                }
            }
        }
        compiled
    }
}

impl Compiled {
    /// The bindings of a user that count in `namespace`, cluster-wide ones first, with the subject that matched.
    fn of(&self, user: &User, namespace: &str) -> Vec<(&Binding, Subject)> {
        let mut subjects = vec![Subject::User(user.name.clone())];
        if let Some((namespace, name)) = service_account::split_user_name(&user.name) {
            subjects.push(Subject::ServiceAccount(namespace.to_string(), name.to_string()));
        }
        subjects.extend(user.groups.iter().cloned().map(Subject::Group));
        let mut found = BTreeMap::new();
        for subject in subjects {
            for &at in self.index.get(&subject).into_iter().flatten() {
                let counts = match &self.bindings[at].namespace {
                    None => true,
                    Some(own) => !namespace.is_empty() && own == namespace,
                };
                if counts {
                    found.entry(at).or_insert_with(|| subject.clone());
                }
            }
        }
        found
            .into_iter()
            .map(|(at, subject)| (&self.bindings[at], subject))
            .collect()
    }
}

fn parse_subject(subject: &Value, binding_namespace: &str) -> Option<Subject> {
    let text = |key: &str| subject[key].as_str().unwrap_or_default().to_string();
    match text("kind").as_str() {
        "User" => Some(Subject::User(text("name"))),
        "Group" => Some(Subject::Group(text("name"))),
        "ServiceAccount" => {
            let own = text("namespace");
            let namespace = if own.is_empty() {
                binding_namespace.to_string()
            } else {
                own
            };
            Some(Subject::ServiceAccount(namespace, text("name")))
        }
        _ => None,
    }
}

fn describe(subject: &Subject) -> String {
    match subject {
        Subject::User(name) => format!("User {name:?}"),
        Subject::Group(name) => format!("Group {name:?}"),
        Subject::ServiceAccount(namespace, name) => {
            let full = format!("{name}/{namespace}");
            format!("ServiceAccount {full:?}")
        }
    }
}

/// All ClusterRoles, with what aggregation needs.
struct ClusterRoles {
    by_name: BTreeMap<String, Arc<Value>>,
}

impl ClusterRoles {
    fn read(view: &dyn View) -> ClusterRoles {
        let roles = view.list(&GroupResource::new(GROUP, "clusterroles"), None);
        ClusterRoles {
            by_name: roles
                .into_iter()
                .filter_map(|r| Some((r["metadata"]["name"].as_str()?.to_string(), r)))
                .collect(),
        }
    }

    fn rules(&self, name: &str) -> Option<Vec<Rule>> {
        let mut rules = Vec::new();
        self.collect(self.by_name.get(name)?, &mut HashSet::new(), &mut rules);
        Some(rules)
    }

    /// Adds the rules of a role, following aggregation; a role met twice (a cycle) counts once.
    fn collect(&self, role: &Value, seen: &mut HashSet<String>, rules: &mut Vec<Rule>) {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        if !seen.insert(name.to_string()) {
            return;
        }
        let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
        let Some(selectors) = selectors.filter(|s| !s.is_empty()) else {
            rules.extend(Rule::parse_all(role));
            return;
        };
        let selectors: Vec<LabelSelector> = selectors
            .iter()
            .filter_map(|s| LabelSelector::from_json(s).ok())
            .collect();
        for other in self.by_name.values() {
            if selectors.iter().any(|s| s.matches_object(other)) {
                self.collect(other, seen, rules);
            }
        }
    }
}
