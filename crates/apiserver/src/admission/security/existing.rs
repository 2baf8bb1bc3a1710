//! Warnings for who makes a namespace stricter: the Pods in it that would not be let in any more (KEP-2579). They go on, but
//! their successors will be refused; `kubectl label --dry-run=server` asks just for this.

use super::{Level, policy};
use crate::admission::pod::items;
use crate::admit::{AdmissionRequest, Operation};
use crate::rest::meta;
use crate::view::{GroupResource, View};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Pods that are looked at.
const MOST: usize = 3000;

/// What to tell of a changed namespace.
pub(super) fn warnings(request: &AdmissionRequest<'_>, view: &dyn View) -> Vec<String> {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else {
        return Vec::new();
    };
    let (was, is) = (policy(old, "enforce"), policy(request.object, "enforce"));
    let looser = was.version == is.version && is.level < was.level;
    if was == is || is.level == Level::Privileged || looser {
        return Vec::new();
    }
    let namespace = meta(request.object, "name");
    let pods = one_of_each_owner_first(view.list(&GroupResource::new("", "pods"), Some(namespace)));
    let mut said = Vec::new();
    if pods.len() > MOST {
        said.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST} of {} existing pods",
            pods.len()
        ));
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in pods.iter().take(MOST) {
        let problems = is.violations(&pod["spec"], &pod["metadata"]);
        if problems.is_empty() {
            continue;
        }
        // Details are of one Pod; what several Pods have in common is the reason before them.
        let reasons = problems.iter().map(|p| p.split(" (").next().unwrap_or(p));
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        found
            .entry(reasons)
            .or_default()
            .insert(meta(pod, "name").to_owned());
    }
    if !found.is_empty() {
        said.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{is}\""
        ));
    }
    let mut of_pods: Vec<String> = found
        .into_iter()
        .map(|(reasons, names)| {
            let first = names.first().map_or("", String::as_str);
            match names.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                all => format!("{first} (and {} other pods): {reasons}", all - 1),
            }
        })
        .collect();
    of_pods.sort();
    said.extend(of_pods);
    said
}

/// Of many Pods of one owner the first tells as much as all: it is looked at before the others.
fn one_of_each_owner_first(pods: Vec<Arc<Value>>) -> Vec<Arc<Value>> {
    let mut seen = BTreeSet::new();
    let (first, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let mut owners = items(&pod["metadata"], "ownerReferences");
        match owners.find(|owner| owner["controller"] == true) {
            Some(owner) => seen.insert(owner["uid"].to_string()),
            None => true,
        }
    });
    first.into_iter().chain(rest).collect()
}
