//! The condition `Progressing` of a Deployment: why it has the reason it has is what `kubectl rollout status` tells, and what
//! decides that a rollout takes too long. Pure, with upstream's reasons and words.

use crate::obj::{meta, set_condition, since, text};
use serde_json::Value;
use std::time::Duration;

const TYPE: &str = "Progressing";
const PAUSED: &str = "DeploymentPaused";
const COMPLETE: &str = "NewReplicaSetAvailable";
const OVERDUE: &str = "ProgressDeadlineExceeded";

/// What a look at a Deployment found.
pub(super) struct Found<'a> {
    /// The ReplicaSet of the present template.
    pub new: Option<&'a str>,
    /// It has just been made.
    pub created: bool,
    /// It could not be made: the condition's message.
    pub refused: Option<&'a str>,
    /// All replicas are of it.
    pub alone: bool,
    /// And all that are wanted are there and available.
    pub complete: bool,
    /// More replicas are new, ready or available than at the last look, or fewer are old.
    pub moved: bool,
}

/// Brings the condition up to date. Answers when a rollout that does not move will be overdue.
pub(super) fn follow(d: &Value, found: &Found, conditions: &mut Vec<Value>) -> Option<Duration> {
    let deadline = d["spec"]["progressDeadlineSeconds"].as_i64();
    let Some(deadline) = deadline.filter(|seconds| *seconds != i64::from(i32::MAX)) else {
        conditions.retain(|c| c["type"] != TYPE);
        return None;
    };
    let before = reason(conditions);
    let named = format!("{:?}", found.new.unwrap_or_default());
    let who = match found.new {
        Some(_) => format!("ReplicaSet {named}"),
        None => format!("Deployment {:?}", meta(d, "name")),
    };
    if d["spec"]["paused"] == true {
        if before.as_deref() != Some(OVERDUE) {
            put(conditions, "Unknown", PAUSED, "Deployment is paused");
        }
        return None;
    }
    if before.as_deref() == Some(PAUSED) {
        put(
            conditions,
            "Unknown",
            "DeploymentResumed",
            "Deployment is resumed",
        );
    }
    if let Some(message) = found.refused {
        put(conditions, "False", "ReplicaSetCreateError", message);
        return None;
    }
    if found.created {
        let message = format!("Created new replica set {named}");
        put(conditions, "True", "NewReplicaSetCreated", &message);
    } else if before.is_none() && found.new.is_some() {
        let message = format!("Found new replica set {named}");
        put(conditions, "True", "FoundNewReplicaSet", &message);
    }
    let now = reason(conditions);
    if found.complete {
        let message = format!("{who} has successfully progressed.");
        put(conditions, "True", COMPLETE, &message);
    } else if found.alone && now.as_deref() == Some(COMPLETE) {
        // A complete one that is scaled, or loses Pods, does not begin anew.
    } else if found.moved {
        let message = format!("{who} is progressing.");
        let at = conditions.iter().position(|c| c["type"] == TYPE);
        let old = at.map(|at| conditions.remove(at));
        put(conditions, "True", "ReplicaSetUpdated", &message);
        // Each step begins the time anew, though nothing else is said.
        if let Some(old) = old.filter(|old| old["status"] == "True")
            && let Some(new) = conditions.last_mut()
        {
            new["lastTransitionTime"] = old["lastTransitionTime"].clone();
        }
        return Some(Duration::from_secs(deadline.max(1).unsigned_abs()));
    } else if now.is_some() && !matches!(now.as_deref(), Some(COMPLETE | OVERDUE)) {
        let since_when = conditions.iter().find(|c| c["type"] == TYPE);
        let passed = since(since_when.map_or("", |c| text(c, "/lastUpdateTime"))).as_secs();
        if passed < deadline {
            return Some(Duration::from_secs((deadline - passed).max(1).unsigned_abs()));
        }
        let message = format!("{who} has timed out progressing.");
        put(conditions, "False", OVERDUE, &message);
    }
    None
}

fn reason(conditions: &[Value]) -> Option<String> {
    let condition = conditions.iter().find(|c| c["type"] == TYPE)?;
    Some(text(condition, "/reason").to_owned())
}

fn put(conditions: &mut Vec<Value>, status: &str, reason: &str, message: &str) {
    set_condition(conditions, TYPE, status, reason, message, Some("lastUpdateTime"));
}

/// Replicas that the status counted at the last look.
pub(super) fn counted(d: &Value, field: &str) -> i64 {
    d["status"][field].as_i64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_reason_follows_what_happens() {
        let found = |created, alone, complete, moved| Found {
            new: Some("web-1"),
            created,
            refused: None,
            alone,
            complete,
            moved,
        };
        let (made, still) = (found(true, true, false, true), found(false, false, false, false));
        let (step, done) = (found(false, false, false, true), found(false, true, true, true));
        let fewer = found(false, true, false, false);
        // What is there, what is found, what comes of it.
        for (spec, before, found, after) in [
            (json!({}), "", &made, "True ReplicaSetUpdated"),
            (json!({}), "", &still, "True FoundNewReplicaSet"),
            (
                json!({}),
                "True NewReplicaSetCreated",
                &step,
                "True ReplicaSetUpdated",
            ),
            (
                json!({}),
                "True ReplicaSetUpdated",
                &done,
                "True NewReplicaSetAvailable",
            ),
            (
                json!({}),
                "True NewReplicaSetAvailable",
                &fewer,
                "True NewReplicaSetAvailable",
            ),
            (
                json!({}),
                "True NewReplicaSetAvailable",
                &still,
                "True NewReplicaSetAvailable",
            ),
            (
                json!({}),
                "True ReplicaSetUpdated",
                &still,
                "False ProgressDeadlineExceeded",
            ),
            (
                json!({}),
                "False ProgressDeadlineExceeded",
                &step,
                "True ReplicaSetUpdated",
            ),
            (
                json!({"paused": true}),
                "True ReplicaSetUpdated",
                &still,
                "Unknown DeploymentPaused",
            ),
            (
                json!({"paused": true}),
                "False ProgressDeadlineExceeded",
                &still,
                "False ProgressDeadlineExceeded",
            ),
            (
                json!({}),
                "Unknown DeploymentPaused",
                &still,
                "Unknown DeploymentResumed",
            ),
            (
                json!({"progressDeadlineSeconds": i32::MAX}),
                "True ReplicaSetUpdated",
                &step,
                "",
            ),
        ] {
            let mut d = json!({"spec": {"progressDeadlineSeconds": 600}});
            for (field, value) in spec.as_object().unwrap() {
                d["spec"][field] = value.clone();
            }
            let mut conditions = Vec::new();
            if let Some((status, reason)) = before.split_once(' ') {
                let long_ago = "2020-01-01T00:00:00Z";
                conditions.push(
                    json!({"type": TYPE, "status": status, "reason": reason, "message": "",
                    "lastUpdateTime": long_ago, "lastTransitionTime": long_ago}),
                );
            }
            follow(&d, found, &mut conditions);
            let shown: Vec<String> = conditions
                .iter()
                .map(|c| format!("{} {}", text(c, "/status"), text(c, "/reason")))
                .collect();
            assert_eq!(shown.concat(), after, "{spec} {before}");
        }
    }

    #[test]
    fn every_step_begins_the_time_anew() {
        let d = json!({"spec": {"progressDeadlineSeconds": 600}});
        let long_ago = "2020-01-01T00:00:00Z";
        let message = "ReplicaSet \"web-1\" is progressing.";
        let mut conditions = vec![
            json!({"type": TYPE, "status": "True", "reason": "ReplicaSetUpdated", "message": message,
            "lastUpdateTime": long_ago, "lastTransitionTime": long_ago}),
        ];
        let found = Found {
            new: Some("web-1"),
            created: false,
            refused: None,
            alone: false,
            complete: false,
            moved: true,
        };
        assert!(follow(&d, &found, &mut conditions).is_some());
        assert_eq!(conditions[0]["lastTransitionTime"], long_ago);
        assert_ne!(conditions[0]["lastUpdateTime"], long_ago);
    }

    #[test]
    fn without_a_set_the_deployment_is_named() {
        let d = json!({"metadata": {"name": "web"}, "spec": {"progressDeadlineSeconds": 600}});
        let mut conditions = Vec::new();
        let mut found = Found {
            new: None,
            created: false,
            refused: None,
            alone: false,
            complete: false,
            moved: true,
        };
        follow(&d, &found, &mut conditions);
        assert_eq!(conditions[0]["message"], "Deployment \"web\" is progressing.");
        found.refused = Some("Failed to create new replica set \"web-1\": no");
        follow(&d, &found, &mut conditions);
        assert_eq!(conditions[0]["reason"], "ReplicaSetCreateError");
        assert_eq!(conditions[0]["status"], "False");
    }
}
