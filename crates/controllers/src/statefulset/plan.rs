//! The next steps of a StatefulSet: a pure function of the set, its Pods and the two revisions.
//!
//! Ordered sets take one step at a time and wait until everything before it is well; parallel ones take all at once.

use super::identity::{ordinal, revision_of};
use crate::obj::{available, deleting, finished, int, int_or_percent, ready, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Make the Pod of an ordinal, at the update revision (true) or the one before.
    Create(i64, bool),
    /// Delete a Pod.
    Delete(Arc<Value>),
}

/// Revisions by name: the one that Pods had, and the one they shall have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revisions<'a> {
    pub(crate) current: &'a str,
    pub(crate) update: &'a str,
}

fn well(set: &Value, pod: &Value) -> bool {
    text(pod, "/status/phase") == "Running"
        && ready(pod)
        && available(pod, int(set, "/spec/minReadySeconds", 0))
        && !deleting(pod)
}

/// The ordinals that a set should have.
pub(crate) fn ordinals(set: &Value) -> std::ops::Range<i64> {
    let start = int(set, "/spec/ordinals/start", 0);
    start..start + int(set, "/spec/replicas", 1).max(0)
}

/// Decides the next steps.
pub(crate) fn plan(set: &Value, pods: &[Arc<Value>], revisions: Revisions<'_>) -> Vec<Step> {
    let wanted = ordinals(set);
    let ordered = text(set, "/spec/podManagementPolicy") != "Parallel";
    let by_ordinal: BTreeMap<i64, &Arc<Value>> =
        pods.iter().filter_map(|p| Some((ordinal(set, p)?, p))).collect();
    let mut steps = Vec::new();
    for n in wanted.clone() {
        match by_ordinal.get(&n) {
            None => {
                steps.push(Step::Create(n, at_update(set, n, revisions)));
                if ordered {
                    return steps;
                }
            }
            // A Pod that ended is replaced under its own name.
            Some(pod) if finished(pod) => {
                if !deleting(pod) {
                    steps.push(Step::Delete((*pod).clone()));
                }
                if ordered {
                    return steps;
                }
            }
            Some(pod) if ordered && !well(set, pod) => return steps,
            Some(_) => {}
        }
    }
    // Too many: the highest goes first. One that is not well stops it, unless it is the first of those.
    let condemned: Vec<&Arc<Value>> = by_ordinal
        .iter()
        .filter(|(n, _)| !wanted.contains(n))
        .map(|(_, pod)| *pod)
        .rev()
        .collect();
    let sick = condemned.iter().rev().copied().find(|p| !well(set, p));
    for pod in condemned {
        if deleting(pod) {
            if ordered {
                return steps;
            }
            continue;
        }
        if ordered && !well(set, pod) && sick.is_some_and(|s| !Arc::ptr_eq(s, pod)) {
            return steps;
        }
        steps.push(Step::Delete(pod.clone()));
        if ordered {
            return steps;
        }
    }
    if text(set, "/spec/updateStrategy/type") != "OnDelete" {
        update(set, wanted, &by_ordinal, revisions, &mut steps);
    }
    steps
}

/// Removes old Pods from the highest ordinal down to the partition, at most `maxUnavailable` not well at a time.
fn update(
    set: &Value,
    wanted: std::ops::Range<i64>,
    pods: &BTreeMap<i64, &Arc<Value>>,
    revisions: Revisions<'_>,
    steps: &mut Vec<Step>,
) {
    let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
    let partition = partition(set);
    let limit = match rolling["maxUnavailable"].is_null() {
        true => 1,
        false => int_or_percent(&rolling["maxUnavailable"], wanted.end - wanted.start, true).max(1),
    };
    let mut down = 0;
    for n in wanted.rev() {
        let Some(pod) = pods.get(&n) else {
            down += 1;
            continue;
        };
        let old = n >= partition && revision_of(pod) != revisions.update && !deleting(pod);
        if old && down < limit {
            steps.push(Step::Delete((*pod).clone()));
            down += 1;
        } else if !well(set, pod) {
            down += 1;
        }
        if down >= limit {
            return;
        }
    }
}

/// Whether a new Pod gets the update revision: not below the partition.
fn at_update(set: &Value, n: i64, revisions: Revisions<'_>) -> bool {
    revisions.current == revisions.update
        || text(set, "/spec/updateStrategy/type") == "OnDelete"
        || n >= partition(set)
}

/// The first ordinal that is updated: the partition counts from the first one.
fn partition(set: &Value) -> i64 {
    ordinals(set).start + int(set, "/spec/updateStrategy/rollingUpdate/partition", 0)
}

#[cfg(test)]
mod tests {
    //! Steps as text: what comes next from a row of Pods.

    use super::*;
    use serde_json::json;

    /// `0` well, `0?` not ready, `0!` failed, `0x` being deleted; `'` marks the new revision.
    fn pods(row: &str) -> Vec<Arc<Value>> {
        row.split_whitespace()
            .map(|word| {
                let digits: String = word.chars().filter(char::is_ascii_digit).collect();
                let revision = if word.contains('\'') { "new" } else { "old" };
                let ready = if word.contains('?') { "False" } else { "True" };
                let mut pod = json!({
                    "metadata": {"name": format!("web-{digits}"), "labels": {"controller-revision-hash": revision}},
                    "status": {"phase": if word.contains('!') { "Failed" } else { "Running" },
                        "conditions": [{"type": "Ready", "status": ready}]},
                });
                if word.contains('x') {
                    pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                }
                Arc::new(pod)
            })
            .collect()
    }

    fn steps(spec: Value, row: &str, update: &str) -> String {
        let set = json!({"metadata": {"name": "web"}, "spec": spec});
        let revisions = Revisions {
            current: "old",
            update,
        };
        let word = |step: &Step| match step {
            Step::Create(n, new) => format!("+{n}{}", if *new && update == "new" { "'" } else { "" }),
            Step::Delete(pod) => format!(
                "-{}",
                pod["metadata"]["name"].as_str().unwrap().replace("web-", "")
            ),
        };
        plan(&set, &pods(row), revisions)
            .iter()
            .map(word)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn one_step_at_a_time() {
        let three = || json!({"replicas": 3});
        let from_five = || {
            json!({"replicas": 4, "ordinals": {"start": 5},
                "updateStrategy": {"rollingUpdate": {"partition": 2}}})
        };
        let cases = [
            (three(), "", "old", "+0"),
            (three(), "0?", "old", ""),
            (three(), "0", "old", "+1"),
            (three(), "0 2", "old", "+1"),
            (three(), "0 1! 2", "old", "-1"),
            (three(), "0 1 2", "old", ""),
            (three(), "0 1 2 3 4", "old", "-4"),
            (three(), "0 1 2 3 4x", "old", ""),
            (three(), "0? 1 2 3", "old", ""),
            (json!({"replicas": 0}), "0? 1? 2?", "old", ""),
            (json!({"replicas": 0}), "0? 1? 2", "old", "-2"),
            (json!({"replicas": 0}), "0 1 2?", "old", "-2"),
            (json!({"replicas": 0}), "0?", "old", "-0"),
            (three(), "0 1 2", "new", "-2"),
            (three(), "0 1 2'?", "new", ""),
            (three(), "0 1 2'", "new", "-1"),
            (three(), "0 1", "new", "+2'"),
            (json!({"replicas": 3, "ordinals": {"start": 5}}), "5", "old", "+6"),
            (
                json!({"replicas": 3, "podManagementPolicy": "Parallel"}),
                "0?",
                "old",
                "+1 +2",
            ),
            (
                json!({"replicas": 1, "podManagementPolicy": "Parallel"}),
                "0 1 2",
                "old",
                "-2 -1",
            ),
            (
                json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}),
                "0 1 2",
                "new",
                "",
            ),
            (
                json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
                "0 1 2'",
                "new",
                "",
            ),
            (
                json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}}),
                "0 2'",
                "new",
                "+1",
            ),
            (from_five(), "5 6 7 8", "new", "-8"),
            (from_five(), "5 6 7 8'", "new", "-7"),
            (from_five(), "5 6 7' 8'", "new", ""),
            (from_five(), "5 7' 8'", "new", "+6"),
            (from_five(), "5 6 8'", "new", "+7'"),
        ];
        for (spec, row, update, expected) in cases {
            assert_eq!(
                steps(spec.clone(), row, update),
                expected,
                "{spec} with {row:?} towards {update}"
            );
        }
    }
}
