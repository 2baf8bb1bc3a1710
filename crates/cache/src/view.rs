//! The read-only window on the objects of the API server that RBAC, admission and allocators look through.
//!
//! It shows the watch cache: no I/O, no waiting, possibly a few microseconds behind the log, never torn.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A group and a plural resource name: what is stored together, whatever version it is served in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group, empty for core.
    pub group: String,
    /// Plural name.
    pub resource: String,
}

impl GroupResource {
    /// Names a resource.
    pub fn new(group: impl Into<String>, resource: impl Into<String>) -> GroupResource {
        GroupResource {
            group: group.into(),
            resource: resource.into(),
        }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// Read access to the objects of one control plane, in their storage version.
pub trait View: Send + Sync {
    /// One object, `None` when there is none (or no such resource). `ns` is `None` for cluster-scoped resources.
    fn get(&self, resource: &GroupResource, ns: Option<&str>, name: &str) -> Option<Arc<Value>>;

    /// All objects of a resource, of one namespace when `ns` is given, ordered by namespace and name.
    fn list(&self, resource: &GroupResource, ns: Option<&str>) -> Vec<Arc<Value>>;

    /// The Pods that are bound to a node, of one namespace when `ns` is given.
    fn pods_on(&self, node: &str, ns: Option<&str>) -> Vec<Arc<Value>> {
        let mut pods = self.list(&GroupResource::new("", "pods"), ns);
        pods.retain(|pod| pod["spec"]["nodeName"] == node);
        pods
    }

    /// The names of the objects of a resource in a namespace that have come, changed or gone after a revision, some of
    /// which may have done so before; `None` where that is not known any more.
    fn touched(&self, _: &GroupResource, _ns: &str, _since: u64) -> Option<BTreeSet<String>> {
        None
    }

    /// The revision of the log up to which this view is complete.
    fn revision(&self) -> u64;

    /// A number that changes whenever an object of `resource` changes: what caches derived from it compare.
    fn resource_revision(&self, resource: &GroupResource) -> u64;
}
