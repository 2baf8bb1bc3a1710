//! Nobody hands out more than they have: writing a role needs all its rules, writing a binding all rules of its role,
//! unless the verbs `escalate` and `bind` are granted (CVE-2017-1000056 and its kin).

use super::rbac::{GROUP, Rbac};
use super::rules::{Rule, quoted, uncovered};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::request::Attributes;
use crate::user::{GROUP_MASTERS, User};
use crate::view::View;
use async_trait::async_trait;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// The check, as the last mutating step: it sees the object as other steps leave it.
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
        let same = |key: &str| request.old.is_some_and(|old| old[key] == object[key]);
        if request.operation == Operation::Update && same("rules") && same("aggregationRule") {
            return Ok(());
        }
        if self.allowed(request.user, "escalate", &a.resource, &a.namespace, name) {
            return Ok(());
        }
        let aggregates = object["aggregationRule"]["clusterRoleSelectors"].as_array();
        if aggregates.is_some_and(|s| !s.is_empty()) && !same("aggregationRule") {
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
        self.covered(request, name, &Rule::parse_all(object))
    }

    fn check_binding(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let a = request.attributes;
        let object = &*request.object;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let same = |key: &str| request.old.is_some_and(|old| old[key] == object[key]);
        if request.operation == Operation::Update && same("roleRef") && same("subjects") {
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
        let list: Vec<String> = missing.iter().map(Rule::compact).collect();
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            request.user.name,
            quoted(&request.user.groups),
            list.join("\n")
        );
        Err(Status::forbidden(&a.resource, GROUP, name, &why))
    }
}

#[async_trait]
impl AdmissionPlugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
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
