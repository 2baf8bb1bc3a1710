//! Authorization: may this user do that?
//!
//! A chain as upstream's: members of `system:masters` may do everything; host agents are confined by the Node authorizer
//! ([`node`]); tenants may look at their Supervisor namespaces ([`tenancy`]); everyone has what RBAC grants ([`rbac`]). What nobody allows is refused, in upstream's words.
//!
//! - [`rules`]: matching and covering of policy rules.
//! - [`escalation`]: nobody hands out more than they have (an admission step).
//! - [`review`]: SubjectAccessReview and its relatives.
//! - [`bootstrap`]: the ClusterRoles and bindings every control plane begins with.

pub mod bootstrap;
pub mod escalation;
pub mod node;
pub mod rbac;
pub mod review;
pub mod rules;
pub mod tenancy;

use crate::authorize::{Authorizer, Decision, Rules};
use crate::request::Attributes;
use crate::user::{GROUP_MASTERS, User};
use crate::view::View;
use async_trait::async_trait;
use kinds::status::Status;
use std::sync::Arc;

/// The chain of one API server.
pub struct Authorization {
    node: node::NodeAuthorizer,
    tenancy: tenancy::TenancyAuthorizer,
    rbac: Arc<rbac::Rbac>,
}

impl Authorization {
    /// Reads roles and bindings, Pods and Nodes from `view`.
    pub fn new(view: Arc<dyn View>) -> Authorization {
        Authorization {
            node: node::NodeAuthorizer::new(view.clone()),
            tenancy: tenancy::TenancyAuthorizer::new(view.clone()),
            rbac: Arc::new(rbac::Rbac::new(view)),
        }
    }

    /// The RBAC evaluator, which escalation checks share.
    pub fn rbac(&self) -> Arc<rbac::Rbac> {
        self.rbac.clone()
    }
}

#[async_trait]
impl Authorizer for Authorization {
    async fn authorize(&self, user: &User, attributes: &Attributes) -> Decision {
        if user.is_in(GROUP_MASTERS) {
            return Decision::Allow(String::new());
        }
        let node = self.node.authorize(user, attributes);
        if !matches!(node, Decision::NoOpinion(_)) {
            return node;
        }
        if let Some(reason) = self.tenancy.authorize(user, attributes) {
            return Decision::Allow(reason);
        }
        match self.rbac.authorize(user, attributes) {
            // A node is told by the Node authorizer why it may not; RBAC has nothing to add.
            Decision::NoOpinion(why) if why.is_empty() => node,
            decision => decision,
        }
    }

    async fn rules_for(&self, user: &User, namespace: &str) -> Rules {
        // Of `system:masters`, too, what RBAC grants: the power of the group itself is told by no rule.
        let mut rules = self.rbac.rules_for(user, namespace);
        if node::identity(user).is_some() {
            rules.incomplete = true;
            rules.evaluation_error = "node authorizer does not support user rule resolution".into();
        }
        rules
    }
}

/// The 403 for a refused request, worded as upstream does; `reason` is the authorizer's, possibly empty.
pub fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> Status {
    // Nothing that looks like HTML, as upstream.
    let message = forbidden_message(user, attributes).replace('&', "&amp;");
    let mut message = message.replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        message = format!("{message}: {reason}");
    }
    if !attributes.is_resource {
        return Status::forbidden("", "", "", &message);
    }
    Status::forbidden(
        &attributes.resource,
        &attributes.group,
        &attributes.name,
        &message,
    )
}

fn forbidden_message(user: &User, a: &Attributes) -> String {
    let name = &user.name;
    if !a.is_resource {
        return format!("User {name:?} cannot {} path {:?}", a.verb, a.path);
    }
    let resource = match a.subresource.is_empty() {
        true => a.resource.clone(),
        false => format!("{}/{}", a.resource, a.subresource),
    };
    let wh = match a.namespace.is_empty() {
        true => "at the cluster scope".to_string(),
        false => format!("in the namespace {:?}", a.namespace),
    };
    format!(
        "User {name:?} cannot {} resource {resource:?} in API group {:?} {wh}",
        a.verb, a.group
    )
}

#[cfg(test)]
mod tests;
