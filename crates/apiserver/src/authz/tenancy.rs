//! Whoever may use a Supervisor namespace may look at its object: limits, permissions, usage.
//!
//! `SupervisorNamespace` is cluster-scoped, so the RoleBindings made from its permissions do not reach it, and RBAC
//! could only express this by a ClusterRole per namespace. The permissions themselves say it as well.

use crate::request::Attributes;
use crate::user::User;
use crate::view::{GroupResource, View};
use std::sync::Arc;

/// Prefix of the users and groups of the sign-on.
const PREFIX: &str = "sso:";

/// Decides reads of single SupervisorNamespaces.
pub struct TenancyAuthorizer {
    view: Arc<dyn View>,
    resource: GroupResource,
}

impl TenancyAuthorizer {
    /// Reads the permissions from `view`.
    pub fn new(view: Arc<dyn View>) -> TenancyAuthorizer {
        TenancyAuthorizer {
            view,
            resource: GroupResource::new("podvisor.io", "supervisornamespaces"),
        }
    }

    /// The permission that allows the request, as a reason; `None` is no opinion.
    pub fn authorize(&self, user: &User, a: &Attributes) -> Option<String> {
        let reads = matches!(a.verb.as_str(), "get" | "list" | "watch") && a.subresource.is_empty();
        if !reads
            || a.name.is_empty()
            || a.group != self.resource.group
            || a.resource != self.resource.resource
        {
            return None;
        }
        let object = self.view.get(&self.resource, None, &a.name)?;
        let permissions = object["spec"]["permissions"].as_array()?;
        permissions.iter().find_map(|p| {
            let subject = p["subject"].as_str()?;
            let holds = match p["kind"].as_str().unwrap_or("User") {
                "Group" => user.is_in(&format!("{PREFIX}{subject}")),
                _ => user
                    .name
                    .strip_prefix(PREFIX)
                    .is_some_and(|name| name.eq_ignore_ascii_case(subject)),
            };
            let role = p["role"].as_str().unwrap_or_default();
            holds.then(|| format!("{subject} has {role} on Supervisor namespace {:?}", a.name))
        })
    }
}
