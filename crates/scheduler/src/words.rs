//! What is said of Pods that fit nowhere (upstream: `FitError` of `pkg/scheduler/framework/types.go`).

use crate::filter::Refusal;
use std::collections::BTreeMap;

/// Why preemption is of no use on a node whose refusal is final.
pub(crate) const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";
/// Why it is of no use where nobody is less important.
pub(crate) const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// How often each reason was given by the nodes, in the order of the text.
pub(crate) fn unavailable<'r>(reasons: impl IntoIterator<Item = &'r Refusal>, nodes: usize) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason.why.as_ref()).or_default() += 1;
    }
    let mut parts: Vec<String> = counts.iter().map(|(why, n)| format!("{n} {why}")).collect();
    parts.sort();
    everywhere(&parts.join(", "), nodes)
}

/// What holds for all nodes alike.
pub(crate) fn everywhere(why: &str, nodes: usize) -> String {
    format!("0/{nodes} nodes are available: {why}.")
}
