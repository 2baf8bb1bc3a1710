//! Which requests a webhook or an admission policy is about: rules, scopes, namespace and object selectors, and the
//! other versions in which the resource of a request is served.

use crate::admit::{AdmissionRequest, Operation};
use crate::registry::Served;
use crate::view::{GroupResource, View};
use kinds::selector::LabelSelector;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// A rule: operations on resources.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    names: Vec<String>,
}

/// The part that webhooks and policies have in common.
#[derive(Debug, Clone)]
pub struct Matcher {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    exact: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

/// The version of the resource that a rule matched.
#[derive(Clone)]
pub enum Matched {
    /// That of the request.
    Same,
    /// Another one.
    Other(Arc<Served>),
}

fn strings(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(|v| v.as_str().map(String::from))
        .collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

/// Group, version and resource a rule is held against.
struct Place<'p> {
    group: &'p str,
    version: &'p str,
    resource: &'p str,
}

impl Rule {
    fn new(value: &Value) -> Rule {
        let scope = value.get("scope").and_then(Value::as_str).unwrap_or("*");
        Rule {
            operations: strings(value, "operations"),
            groups: strings(value, "apiGroups"),
            versions: strings(value, "apiVersions"),
            resources: strings(value, "resources"),
            scope: scope.to_string(),
            names: strings(value, "resourceNames"),
        }
    }

    fn matches(&self, request: &AdmissionRequest<'_>, place: &Place<'_>) -> bool {
        let a = request.attributes;
        let operation = match request.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        // A Namespace is cluster-scoped, although it carries its own name as its namespace.
        let namespaced = !a.namespace.is_empty() && !is_namespace(request);
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        let resource = self.resources.iter().any(|wanted| {
            let (resource, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
            (resource == "*" || resource == place.resource) && (sub == "*" || sub == a.subresource)
        });
        scope
            && has(&self.operations, operation)
            && has(&self.groups, place.group)
            && has(&self.versions, place.version)
            && resource
            && (self.names.is_empty() || self.names.iter().any(|n| *n == name(request)))
    }
}

/// The name of the object of a request, as admission sees it: of new objects that of the body.
pub fn name<'r>(request: &'r AdmissionRequest<'_>) -> &'r str {
    match request.attributes.name.as_str() {
        "" => request.object["metadata"]["name"].as_str().unwrap_or(""),
        name => name,
    }
}

/// The namespace of a request; that of a Namespace is itself.
pub fn namespace<'r>(request: &'r AdmissionRequest<'_>) -> &'r str {
    match is_namespace(request) {
        true => name(request),
        false => &request.attributes.namespace,
    }
}

fn is_namespace(request: &AdmissionRequest<'_>) -> bool {
    let a = request.attributes;
    a.group.is_empty() && a.resource == "namespaces"
}

/// Kinds that no webhook may get between: one could lock everybody out for good.
pub fn is_exempt(request: &AdmissionRequest<'_>) -> bool {
    request.attributes.group == "admissionregistration.k8s.io"
}

/// Kinds that no policy may get between: policies and their bindings. Webhooks they do watch over.
pub fn is_policy(request: &AdmissionRequest<'_>) -> bool {
    is_exempt(request) && request.attributes.resource.contains("admissionpolic")
}

/// Kinds that no policy sees, but webhooks do: reviews store nothing.
pub fn is_review(request: &AdmissionRequest<'_>) -> bool {
    matches!(
        request.attributes.group.as_str(),
        "authentication.k8s.io" | "authorization.k8s.io"
    )
}

impl Matcher {
    /// Reads a webhook, or the `matchConstraints` of a policy.
    pub fn new(value: &Value, rules: &str) -> Matcher {
        let list = |field: &str| {
            let rules = value.get(field).and_then(Value::as_array);
            rules.into_iter().flatten().map(Rule::new).collect()
        };
        let selector = |field: &str| {
            let given = value.get(field).filter(|s| s.is_object());
            // Validated when it was written.
            given
                .and_then(|s| LabelSelector::from_json(s).ok())
                .unwrap_or_default()
        };
        Matcher {
            rules: list(rules),
            excluded: list("excludeResourceRules"),
            exact: value["matchPolicy"] == "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether, and in which version, the request is meant. Without rules of its own a binding takes any resource.
    pub fn matches(
        &self,
        request: &AdmissionRequest<'_>,
        view: &dyn View,
        any_without_rules: bool,
    ) -> Result<Option<Matched>, Status> {
        let objects = self.matches_object(request);
        let namespaces = self.matches_namespace(request, view);
        if !objects || matches!(namespaces, Ok(false)) {
            return Ok(None);
        }
        if self.rule(&self.excluded, request).is_some() {
            return Ok(None);
        }
        let matched = match any_without_rules && self.rules.is_empty() {
            true => Some(Matched::Same),
            false => self.rule(&self.rules, request),
        };
        let Some(matched) = matched else { return Ok(None) };
        // A namespace that cannot be found is an error only to who would have been asked.
        namespaces?;
        Ok(Some(matched))
    }

    fn rule(&self, rules: &[Rule], request: &AdmissionRequest<'_>) -> Option<Matched> {
        let a = request.attributes;
        let here = Place {
            group: &a.group,
            version: &a.version,
            resource: &a.resource,
        };
        if rules.iter().any(|rule| rule.matches(request, &here)) {
            return Some(Matched::Same);
        }
        let ctx = request.ctx.filter(|_| !self.exact)?;
        // The same objects under another group or version.
        let registry = ctx.server.registry.load();
        let others = registry
            .all()
            .iter()
            .filter(|other| Arc::ptr_eq(&other.cache, &ctx.served.cache) && !Arc::ptr_eq(other, &ctx.served));
        for rule in rules {
            for other in others.clone() {
                let place = Place {
                    group: other.kind.group,
                    version: other.kind.version,
                    resource: other.kind.plural,
                };
                if rule.matches(request, &place) {
                    return Some(Matched::Other(other.clone()));
                }
            }
        }
        None
    }

    fn matches_namespace(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<bool, Status> {
        if self.namespaces.is_everything() {
            return Ok(true);
        }
        let name = namespace(request);
        if name.is_empty() {
            // Cluster-scoped objects are in no namespace that could be left out.
            return Ok(true);
        }
        let itself = is_namespace(request)
            && request.attributes.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update);
        if itself {
            return Ok(labels_match(&self.namespaces, request.object));
        }
        let found = view.get(&GroupResource::new("", "namespaces"), None, name);
        let found = found.ok_or_else(|| Status::not_found("namespaces", "", name))?;
        Ok(labels_match(&self.namespaces, &found))
    }

    fn matches_object(&self, request: &AdmissionRequest<'_>) -> bool {
        self.objects.is_everything()
            || [Some(&*request.object), request.old]
                .into_iter()
                .flatten()
                .any(|object| object["metadata"].is_object() && labels_match(&self.objects, object))
    }
}

fn labels_match(selector: &LabelSelector, object: &Value) -> bool {
    let labels = object.pointer("/metadata/labels");
    selector.matches_with(|key| labels?.get(key)?.as_str())
}
