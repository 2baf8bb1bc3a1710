//! Devices that Pods ask for by ResourceClaims. Nothing in the cluster hands out devices, so a Pod that asks for one
//! waits, as it does upstream while no claim of its can be served (`plugins/dynamicresources`): it never runs without.

use crate::filter::Refusal;
use controllers::obj::{items, meta, text};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// Namespaces and names of all ResourceClaims.
#[derive(Debug, Default, Clone)]
pub struct Claims(HashSet<(String, String)>);

impl Claims {
    /// Of these objects.
    pub fn new(claims: &[Arc<Value>]) -> Claims {
        let key = |c: &Arc<Value>| (meta(c, "namespace").to_string(), meta(c, "name").to_string());
        Claims(claims.iter().map(key).collect())
    }

    /// The Pod names a claim that does not exist: it is not looked at before (`PreEnqueue`).
    pub(crate) fn misses(&self, pod: &Value) -> bool {
        items(pod, "/spec/resourceClaims").iter().any(|claim| {
            let name = text(claim, "/resourceClaimName");
            let key = (meta(pod, "namespace").to_string(), name.to_string());
            !name.is_empty() && !self.0.contains(&key)
        })
    }
}

/// The Pod wants devices.
pub(crate) fn wanted(pod: &Value) -> bool {
    !items(pod, "/spec/resourceClaims").is_empty()
}

/// Why a Pod that wants devices fits nowhere.
pub(crate) fn refusal(pod: &Value) -> Option<Refusal> {
    wanted(pod).then(|| Refusal::lasting("cannot allocate all claims"))
}

/// What the plugin says when the Pod fits nowhere.
pub(crate) fn after(pod: &Value) -> &'static str {
    match wanted(pod) {
        true => "still not schedulable",
        false => "no new claims to deallocate",
    }
}
