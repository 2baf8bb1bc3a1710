//! What the objects of a namespace use of its ResourceQuotas. Admission and the controller of quotas both count here, so
//! that what is let through and what `status.used` shows can never differ.
//!
//! - [`amounts`]: amounts by the name of a resource, and what a whole Pod asks for.
//! - [`usage`]: what one object uses.
//! - [`scope`]: which objects a quota is about.
//! - [`ledger`]: the sum over a namespace, kept up with the watch cache at the cost of what has changed.

pub mod amounts;
pub mod ledger;
pub mod scope;
pub mod usage;

pub use amounts::{Amounts, add, amounts, is_best_effort, raise, total, total_by};
pub use ledger::{Ledger, Pending};
pub use usage::usage_of;

use serde_json::Value;

/// The items of a list field; nothing when it is missing.
fn items<'a>(object: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object[list].as_array().into_iter().flatten()
}

/// Init containers, then containers.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    items(spec, "initContainers").chain(items(spec, "containers"))
}
