//! The policies of a sort that some binding makes count, read once for each state of both resources.

use super::config::{Binding, GROUP};
use crate::view::{GroupResource, View};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;

/// Revisions of the two resources, and what was read at them.
type Read<P> = ((u64, u64), Arc<Vec<P>>);

/// Policies read as `P`.
pub(super) struct Bound<P> {
    read: Mutex<Option<Read<P>>>,
}

impl<P> Default for Bound<P> {
    fn default() -> Bound<P> {
        Bound {
            read: Mutex::default(),
        }
    }
}

impl<P> Bound<P> {
    /// The policies of these resources in the order of their names, each read by `read` with its bindings.
    pub(super) fn get(
        &self,
        view: &dyn View,
        (policies, bindings): (&str, &str),
        read: impl Fn(&Value, Vec<Binding>) -> P,
    ) -> Arc<Vec<P>> {
        let policies = GroupResource::new(GROUP, policies);
        let bindings = GroupResource::new(GROUP, bindings);
        let revision = (
            view.resource_revision(&policies),
            view.resource_revision(&bindings),
        );
        let mut last = self.read.lock();
        if let Some((at, found)) = &*last
            && *at == revision
        {
            return found.clone();
        }
        let bindings = view.list(&bindings, None);
        let bound = view.list(&policies, None).into_iter().filter_map(|policy| {
            let name = &policy["metadata"]["name"];
            let own = bindings.iter().filter(|b| b["spec"]["policyName"] == *name);
            let own: Vec<Binding> = own.map(|b| Binding::new(b)).collect();
            (!own.is_empty()).then(|| read(&policy, own))
        });
        let found: Arc<Vec<P>> = Arc::new(bound.collect());
        *last = Some((revision, found.clone()));
        found
    }
}
