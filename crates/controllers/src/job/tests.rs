//! Plans as text: a Job, its Pods, what follows.

use super::count::end_time;
use super::plan::plan;
use super::{FAILURES, IGNORED, INDEX, TRACKING};
use serde_json::{Value, json};
use std::sync::Arc;

/// `a` running, `a+` succeeded, `a-` failed long ago, `a!` failed just now, `ax` being deleted; `~` let go already;
/// `a3` with a digit: completion index 3.
fn pods(row: &str) -> Vec<Arc<Value>> {
    row.split_whitespace().map(|word| Arc::new(pod(word))).collect()
}

fn pod(word: &str) -> Value {
    let name: String = word
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take_while(|c| *c != 'x')
        .collect();
    let index: String = name.chars().filter(char::is_ascii_digit).collect();
    let phase = match word {
        w if w.contains('+') => "Succeeded",
        w if w.contains('-') || w.contains('!') => "Failed",
        _ => "Running",
    };
    let at = if word.contains('!') {
        "2026-01-01T11:59:58Z"
    } else {
        "2026-01-01T08:00:00Z"
    };
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name},
        "status": {"phase": phase, "containerStatuses": [
            {"name": "main", "restartCount": 0, "state": {"terminated": {"exitCode": 42, "finishedAt": at}}}]},
    });
    if !word.contains('~') {
        pod["metadata"]["finalizers"] = json!([TRACKING]);
    }
    if word.contains('x') {
        pod["metadata"]["deletionTimestamp"] = json!(at);
    }
    if !index.is_empty() {
        pod["metadata"]["annotations"] = json!({INDEX: index});
    }
    pod
}

fn told(spec: Value, status: Value, row: &str) -> String {
    let mut started = json!({"startTime": "2026-01-01T11:00:00Z"});
    for (key, value) in status.as_object().into_iter().flatten() {
        started[key] = value.clone();
    }
    let job = json!({"metadata": {"name": "job", "namespace": "ns"}, "spec": spec, "status": started});
    let plan = plan(&job, &pods(row), "2026-01-01T12:00:00Z".parse().unwrap());
    let names = |list: &[Arc<Value>]| {
        list.iter()
            .map(|p| p["metadata"]["name"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut said = Vec::new();
    for index in &plan.create {
        said.push(index.map_or("+".to_string(), |i| format!("+{i}")));
    }
    for (word, list) in [("delete", &plan.delete), ("release", &plan.release)] {
        if !list.is_empty() {
            said.push(format!("{word} {}", names(list)));
        }
    }
    for field in [
        "active",
        "succeeded",
        "failed",
        "completedIndexes",
        "failedIndexes",
    ] {
        if let Some(value) = plan.status.get(field) {
            said.push(format!("{field}={}", value.to_string().trim_matches('"')));
        }
    }
    for (list, word) in [("succeeded", "ok"), ("failed", "bad")] {
        let noted = plan.status["uncountedTerminatedPods"][list].as_array();
        if let Some(noted) = noted {
            said.push(format!(
                "{word}:{}",
                noted
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            ));
        }
    }
    for condition in plan.status["conditions"].as_array().into_iter().flatten() {
        if condition["status"] == "True" {
            let (kind, reason) = (&condition["type"], &condition["reason"]);
            said.push(format!(
                "{}({})",
                kind.as_str().unwrap(),
                reason.as_str().unwrap()
            ));
        }
    }
    if let Some(wake) = plan.wake {
        said.push(format!("in {}s", wake.as_secs()));
    }
    said.join(", ")
}

#[test]
fn plans() {
    let n = |completions: i64, parallelism: i64| json!({"completions": completions, "parallelism": parallelism, "backoffLimit": 2});
    let indexed = |completions: i64, parallelism: i64| {
        let mut spec = n(completions, parallelism);
        spec["completionMode"] = json!("Indexed");
        spec
    };
    let with = |mut spec: Value, key: &str, value: Value| {
        spec[key] = value;
        spec
    };
    let none = || json!({});
    let cases = [
        (n(3, 2), none(), "", "+, +, active=2"),
        (n(3, 2), none(), "a b", "active=2"),
        // An end is noted first, let go in the next round, counted in the one after.
        (n(3, 2), none(), "a+ b", "+, active=2, ok:a"),
        (
            n(3, 2),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}),
            "a+ b c",
            "release a, active=2, ok:a",
        ),
        (
            n(3, 2),
            json!({"uncountedTerminatedPods": {"succeeded": ["a"]}}),
            "a+~ b c",
            "active=2, succeeded=1",
        ),
        (n(3, 2), json!({"succeeded": 2}), "c", "active=1, succeeded=2"),
        (
            n(3, 2),
            json!({"succeeded": 2}),
            "c+",
            "succeeded=2, ok:c, SuccessCriteriaMet(CompletionsReached)",
        ),
        (
            n(3, 2),
            json!({"succeeded": 3, "conditions": [{"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached"}]}),
            "",
            "succeeded=3, SuccessCriteriaMet(CompletionsReached), Complete(CompletionsReached)",
        ),
        // Failures: a pause, then the limit.
        (n(1, 1), none(), "a!", "bad:a, in 8s"),
        (n(1, 1), none(), "a-", "+, active=1, bad:a"),
        (
            n(1, 1),
            json!({"failed": 2}),
            "a- b",
            "delete b, failed=2, bad:a, FailureTarget(BackoffLimitExceeded)",
        ),
        (
            n(1, 1),
            json!({"failed": 3, "conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]}),
            "",
            "failed=3, FailureTarget(BackoffLimitExceeded), Failed(BackoffLimitExceeded)",
        ),
        // A work queue ends with the first success and what still runs.
        (json!({"parallelism": 2}), none(), "a+ b", "active=1, ok:a"),
        (
            json!({"parallelism": 2}),
            json!({"succeeded": 1}),
            "b+",
            "succeeded=1, ok:b, SuccessCriteriaMet(CompletionsReached)",
        ),
        (
            with(n(1, 1), "suspend", json!(true)),
            none(),
            "a",
            "delete a, release a, Suspended(JobSuspended)",
        ),
        (
            with(n(1, 1), "activeDeadlineSeconds", json!(3000)),
            none(),
            "a",
            "delete a, FailureTarget(DeadlineExceeded)",
        ),
        (
            with(n(1, 1), "activeDeadlineSeconds", json!(3700)),
            none(),
            "a",
            "active=1, in 100s",
        ),
        (n(1, 0), none(), "a", "delete a, release a"),
        // Indexes: the lowest free ones first; each succeeds once.
        (indexed(4, 2), none(), "", "+0, +1, active=2"),
        (
            indexed(4, 2),
            none(),
            "a0+ b1",
            "+2, active=2, succeeded=1, completedIndexes=0, ok:a0",
        ),
        (
            indexed(3, 3),
            json!({"completedIndexes": "0,1", "succeeded": 2}),
            "c2+",
            "succeeded=3, completedIndexes=0-2, ok:c2, SuccessCriteriaMet(CompletionsReached)",
        ),
        (
            with(indexed(2, 2), "backoffLimitPerIndex", json!(0)),
            none(),
            "a0- b1",
            "active=1, failedIndexes=0, bad:a0",
        ),
        // The pause of one index is its own.
        (
            with(indexed(3, 2), "backoffLimitPerIndex", json!(2)),
            none(),
            "a0!",
            "+1, +2, active=2, failedIndexes=, bad:a0, in 8s",
        ),
        // Fewer are wanted than there were: what has no place goes first, and its end counts neither way.
        (
            indexed(3, 3),
            none(),
            "a0 b1 c2 d3 e4",
            "delete d3 e4, release d3 e4, active=3",
        ),
        (
            indexed(2, 2),
            none(),
            "c3+ d4-",
            "+0, +1, release c3 d4, active=2",
        ),
        // Those that are going are no reason for others to go.
        (
            with(n(4, 2), "podReplacementPolicy", json!("Failed")),
            none(),
            "a b cx dx",
            "active=2",
        ),
        // It stays until the next one of its index, which is told of the failure.
        (
            with(indexed(1, 1), "backoffLimitPerIndex", json!(1)),
            json!({"uncountedTerminatedPods": {"failed": ["a0"]}}),
            "a0x-",
            "+0, active=1, failedIndexes=, bad:a0",
        ),
        (
            with(indexed(1, 1), "backoffLimitPerIndex", json!(1)),
            json!({"uncountedTerminatedPods": {"failed": ["a0"]}}),
            "a0x- b0",
            "release a0, active=1, failedIndexes=, bad:a0",
        ),
        (
            with(
                n(1, 1),
                "podFailurePolicy",
                json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}),
            ),
            none(),
            "a-",
            "bad:a, FailureTarget(PodFailurePolicy)",
        ),
        (
            with(
                n(1, 1),
                "podFailurePolicy",
                json!({"rules": [{"action": "Ignore", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}),
            ),
            none(),
            "a-",
            "+, release a, active=1",
        ),
        (
            with(
                indexed(5, 5),
                "successPolicy",
                json!({"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}),
            ),
            none(),
            "a0+ b1",
            "delete b1, release b1, succeeded=1, completedIndexes=0, ok:a0, SuccessCriteriaMet(SuccessPolicy)",
        ),
    ];
    for (spec, status, row, expected) in cases {
        assert_eq!(
            told(spec.clone(), status.clone(), row),
            expected,
            "{spec} {status} with {row:?}"
        );
    }
}

/// The failed Pod of before is gone; the one that failed now knows of it.
#[test]
fn failures_of_an_index_outlive_its_pods() {
    let job = |limit: i64| {
        json!({"metadata": {"name": "job", "namespace": "ns"},
            "spec": {"completions": 2, "parallelism": 1, "completionMode": "Indexed", "backoffLimitPerIndex": limit},
            "status": {"startTime": "2026-01-01T11:00:00Z"}})
    };
    let mut failed = pod("a0-");
    failed["metadata"]["annotations"][FAILURES] = json!("1");
    for (limit, next, given_up) in [(1, vec![Some(1)], "0"), (2, vec![Some(0)], "")] {
        let made = plan(
            &job(limit),
            &[Arc::new(failed.clone())],
            "2026-01-01T12:00:00Z".parse().unwrap(),
        );
        assert_eq!(made.failures[&0], 2);
        assert_eq!(made.create, next, "limit {limit}");
        assert_eq!(made.status["failedIndexes"], given_up, "limit {limit}");
    }
}

/// How often an index failed in a way that the policy ignores is told apart.
#[test]
fn ignored_failures_of_an_index_are_counted_apart() {
    let rules = json!([{"action": "Ignore", "onExitCodes": {"operator": "In", "values": [42]}}]);
    let job = json!({"metadata": {"name": "job", "namespace": "ns"},
        "spec": {"completions": 1, "parallelism": 1, "completionMode": "Indexed", "backoffLimitPerIndex": 1,
            "podFailurePolicy": {"rules": rules}},
        "status": {"startTime": "2026-01-01T11:00:00Z"}});
    let mut failed = pod("a0-");
    failed["metadata"]["annotations"][FAILURES] = json!("1");
    failed["metadata"]["annotations"][IGNORED] = json!("2");
    let made = plan(&job, &[Arc::new(failed)], "2026-01-01T12:00:00Z".parse().unwrap());
    assert_eq!((made.failures[&0], made.ignored[&0]), (1, 3));
    assert_eq!(made.create, [Some(0)]);
    assert!(made.release.is_empty(), "the next Pod is not told yet");
}

/// What a pause is counted from.
#[test]
fn ends_have_a_time() {
    let at = |minute: u8| format!("2026-01-01T12:{minute:02}:00Z");
    let container = |minute: u8| json!({"name": "c", "state": {"terminated": {"finishedAt": at(minute)}}});
    let running = json!({"name": "c", "state": {"running": {}}});
    let unready = json!([{"type": "Ready", "status": "False", "lastTransitionTime": at(9)}]);
    let cases = [
        (
            "all have ended",
            json!([container(1), container(5)]),
            json!({}),
            5,
        ),
        (
            "one has not",
            json!([container(5), running]),
            json!({"conditions": unready}),
            9,
        ),
        ("none has begun", json!([]), json!({"conditions": unready}), 9),
        ("deleted", json!([]), json!({}), 29),
    ];
    for (what, containers, mut status, minute) in cases {
        status["containerStatuses"] = containers;
        let pod = json!({"metadata": {"creationTimestamp": at(0), "deletionTimestamp": at(30),
            "deletionGracePeriodSeconds": 60}, "status": status});
        assert_eq!(end_time(&pod), at(minute).parse().ok(), "{what}");
    }
    let pod = json!({"metadata": {"creationTimestamp": at(0)}});
    assert_eq!(end_time(&pod), at(0).parse().ok(), "nothing is known");
}
