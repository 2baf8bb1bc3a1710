//! Nobody hands out more than they have: writing a role needs all its rules, writing a binding all rules of its role,
//! unless the verbs `escalate` and `bind` are granted (CVE-2017-1000056 and its kin). Any change counts, since labels make a
//! role part of others; only what the garbage collector does is free (upstream: `pkg/registry/rbac/*/policybased`).

use super::rbac::{GROUP, Rbac};
use super::rules::{Rule, quoted, uncovered};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::request::Attributes;
use crate::user::{GROUP_MASTERS, User};
use crate::view::View;
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The check, as the last mutating step: it sees the object as other steps leave it, and before it is found invalid.
pub struct Escalation {
    rbac: Arc<Rbac>,
}

impl Escalation {
    /// Shares the evaluator of the authorizer.
    pub fn new(rbac: Arc<Rbac>) -> Escalation {
        Escalation { rbac }
    }

    fn allowed(&self, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
        let attributes = Attributes {
            verb: verb.into(),
            group: GROUP.into(),
            version: "v1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            is_resource: true,
            ..Attributes::default()
        };
        self.rbac.authorize(user, &attributes).is_allowed()
    }

    fn check_role(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let a = request.attributes;
        let object = &*request.object;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        // By the name in the path: a right to escalate one role makes none.
        if self.allowed(request.user, "escalate", &a.resource, &a.namespace, &a.name) || is_collected(request)
        {
            return Ok(());
        }
        self.covered(request, name, &Rule::parse_all(object))?;
        if aggregates(object) || request.old.is_some_and(aggregates) {
            let star = || vec!["*".to_string()];
            let everything = [
                Rule {
                    api_groups: star(),
                    resources: star(),
                    verbs: star(),
                    ..Rule::default()
                },
                Rule {
                    non_resource_urls: star(),
                    verbs: star(),
                    ..Rule::default()
                },
            ];
            if !uncovered(&self.rbac.rules_of(request.user, ""), &everything).is_empty() {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(Status::forbidden(&a.resource, GROUP, name, why));
            }
        }
        Ok(())
    }

    fn check_binding(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let a = request.attributes;
        let object = &*request.object;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if is_collected(request) {
            return Ok(());
        }
        let reference = |key: &str| object["roleRef"][key].as_str().unwrap_or_default();
        let (kind, role) = (reference("kind"), reference("name"));
        let resource = if kind == "ClusterRole" {
            "clusterroles"
        } else {
            "roles"
        };
        if self.allowed(request.user, "bind", resource, &a.namespace, role) {
            return Ok(());
        }
        let namespace = (!a.namespace.is_empty()).then_some(a.namespace.as_str());
        let rules = self
            .rbac
            .role_rules(kind, namespace, role)
            // Upstream names the resource of the request, and the role.
            .ok_or_else(|| Status::not_found(&a.resource, GROUP, role))?;
        self.covered(request, name, &rules)
    }

    fn covered(&self, request: &AdmissionRequest<'_>, name: &str, rules: &[Rule]) -> Result<(), Status> {
        let a = request.attributes;
        let missing = uncovered(&self.rbac.rules_of(request.user, &a.namespace), rules);
        if missing.is_empty() {
            return Ok(());
        }
        let list: BTreeSet<String> = missing.iter().map(Rule::compact).collect();
        let list: Vec<String> = list.into_iter().collect();
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            request.user.name,
            quoted(&request.user.groups),
            list.join("\n")
        );
        Err(Status::forbidden(&a.resource, GROUP, name, &why))
    }
}

fn aggregates(role: &Value) -> bool {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    selectors.is_some_and(|s| !s.is_empty())
}

/// Whether nothing is changed but what the garbage collector needs to remove an object in the end.
fn is_collected(request: &AdmissionRequest<'_>) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for field in [
                "ownerReferences",
                "finalizers",
                "managedFields",
                "resourceVersion",
                "selfLink",
            ] {
                metadata.remove(field);
            }
        }
        drop_empty(&mut object);
        object
    };
    let old = request.old.filter(|_| request.operation == Operation::Update);
    old.is_some_and(|old| rest(old) == rest(request.object))
}

/// Nothing and an empty list mean the same.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|_, v| !is_empty(v));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[async_trait]
impl AdmissionPlugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        _view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let a = request.attributes;
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || a.group != GROUP || *request.object == Value::Null || request.user.is_in(GROUP_MASTERS)
        {
            return Ok(Vec::new());
        }
        match a.resource.as_str() {
            "roles" | "clusterroles" => self.check_role(request)?,
            "rolebindings" | "clusterrolebindings" => self.check_binding(request)?,
            _ => {}
        }
        Ok(Vec::new())
    }
}
