//! Counts and limits as tables; the figures are upstream's own examples where it has some.

use super::limits::{Allowed, Bounds, Memory, allowed};
use super::replicas::{Figure, Figures, Goal, Tolerance, by_pods, by_share, by_value, requests};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

/// A Pod by a word: `ok`, `pending`, `failed`, `deleted`, `young` (ready for less than a window), `unready` (never was
/// ready), `fell` (was ready once).
fn pod(number: usize, word: &str) -> Arc<Value> {
    let (start, since) = match word {
        "young" => (at(-60), at(-10)),
        "unready" => (at(-3600), at(-3590)),
        _ => (at(-3600), at(-600)),
    };
    let ready = !matches!(word, "unready" | "fell");
    let phase = match word {
        "pending" => "Pending",
        "failed" => "Failed",
        _ => "Running",
    };
    let mut pod = json!({
        "metadata": {"name": format!("p{number}")},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": phase, "startTime": start.to_string(), "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": since.to_string()}]},
    });
    if word == "deleted" {
        pod["metadata"]["deletionTimestamp"] = json!(at(0).to_string());
    }
    Arc::new(pod)
}

fn figures(milli: &[i64]) -> Figures {
    let all = milli.iter().enumerate().filter(|(_, milli)| **milli >= 0);
    let figure = |milli: &i64| Figure {
        at: at(0),
        window: SignedDuration::from_secs(30),
        milli: *milli,
    };
    all.map(|(i, milli)| (format!("p{i}"), figure(milli))).collect()
}

const TENTH: Tolerance = Tolerance { down: 0.1, up: 0.1 };

/// Words of Pods, their milli-CPUs (-1: none is known), the goal in percent of one CPU, and the count (`x`: an error).
#[test]
fn counts_by_use() {
    type Case = (&'static str, &'static [i64], i64, Result<i64, &'static str>);
    let cases: &[Case] = &[
        ("ok ok ok", &[300, 500, 700], 30, Ok(5)),
        ("ok ok ok", &[100, 150, 200], 50, Ok(1)),
        // Within a tenth of the goal nothing happens.
        ("ok ok ok", &[101, 102, 98], 10, Ok(3)),
        // Unready ones are idle when there would be more.
        ("ok ok unready", &[500, 700, 900], 30, Ok(4)),
        ("ok young young", &[400, 500, 700], 30, Ok(3)),
        ("ok unready unready", &[900, -1, -1], 30, Ok(3)),
        ("ok fell fell", &[400, 500, 700], 30, Ok(6)),
        ("ok pending pending", &[400, -1, -1], 30, Ok(3)),
        (
            "pending pending",
            &[-1, -1],
            30,
            Err("did not receive metrics for targeted pods (pods might be unready)"),
        ),
        // Those that end do not count.
        ("ok ok ok failed deleted", &[300, 500, 700, 9000, 9000], 30, Ok(5)),
        // One without a figure is idle or busy, whichever changes less.
        ("ok ok ok ok", &[-1, 950, 950, 950], 100, Ok(4)),
        ("ok ok ok", &[-1, 400, 950], 100, Ok(3)),
        ("ok ok", &[1000, -1], 20, Ok(5)),
        (
            "",
            &[],
            30,
            Err("no pods returned by selector while calculating replica count"),
        ),
    ];
    for (words, milli, percent, wanted) in cases {
        let pods: Vec<_> = words
            .split_whitespace()
            .enumerate()
            .map(|(i, w)| pod(i, w))
            .collect();
        let requests = requests(&pods, None, "cpu").expect("requests");
        let goal = Goal::Utilization {
            percent: *percent,
            requests: &requests,
        };
        let current = pods.iter().filter(|p| p["status"]["phase"] != "Failed").count() as i64;
        let current = current - words.matches("deleted").count() as i64;
        let found = by_pods(&pods, figures(milli), &goal, true, current, TENTH, at(0));
        let found = found.map(|outcome| outcome.replicas);
        assert_eq!(
            found,
            wanted.map_err(str::to_owned),
            "{words} {milli:?} {percent}"
        );
    }
}

#[test]
fn averages_and_shares() {
    let pods: Vec<_> = (0..3).map(|i| pod(i, "ok")).collect();
    let outcome = by_pods(
        &pods,
        figures(&[20_000, 10_000, 30_000]),
        &Goal::Average(15_000),
        false,
        3,
        TENTH,
        at(0),
    );
    let outcome = outcome.expect("a count");
    assert_eq!(
        (outcome.replicas, outcome.usage, outcome.percent),
        (4, 20_000, None)
    );
    // Value, target and count: by the whole value, and by each Pod's share of it.
    let cases = [
        (34_000, 10_000, 3, 11, 4),
        (10_500, 10_000, 3, 3, 2),
        (0, 10_000, 3, 0, 0),
    ];
    for (usage, target, current, whole, share) in cases {
        let outcome = by_value(&pods, usage, target, current, TENTH).expect("a count");
        assert_eq!(outcome.replicas, whole, "{usage}");
        assert_eq!(by_share(usage, target, current, TENTH).replicas, share, "{usage}");
    }
}

#[test]
fn shares_need_requests() {
    let mut one = (*pod(0, "ok")).clone();
    one["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "500m"}}}, {"name": "i"}]);
    let found = |pod: &Value, container| requests(&[Arc::new(pod.clone())], container, "cpu");
    let of = |milli| Ok(BTreeMap::from([("p0".to_owned(), milli)]));
    assert_eq!(found(&one, None), of(1500));
    assert_eq!(found(&one, Some("s")), of(500));
    assert_eq!(
        found(&one, Some("x")),
        Err("container x not found in Pod p0".into())
    );
    one["spec"]["resources"] = json!({"requests": {"cpu": "4"}});
    assert_eq!(found(&one, None), of(4000));
    one["spec"] = json!({"containers": [{"name": "c"}]});
    assert_eq!(
        found(&one, None),
        Err("missing request for cpu in container c of Pod p0".into())
    );
}

/// A line a round: seconds, the count now, the desired one; the allowed one and the reasons of both conditions.
fn rounds(behavior: &Value, lines: &[(i64, i64, i64, i64, &str)]) {
    let mut memory = Memory::default();
    for (seconds, current, desired, wanted, reasons) in lines {
        let bounds = Bounds {
            current: *current,
            min: 2,
            max: 100,
        };
        memory.begin(*current, at(*seconds));
        let Allowed {
            replicas,
            able,
            limited,
        } = allowed(&mut memory, behavior, bounds, *desired, at(*seconds));
        let held = if limited.0 { "held" } else { "free" };
        let told = format!("{} {held} {}", able.0, limited.1.0);
        assert_eq!(
            (replicas, told.as_str()),
            (*wanted, *reasons),
            "{behavior} at {seconds}"
        );
        if replicas != *current {
            memory.changed(*current, replicas, at(*seconds));
        }
    }
}

#[test]
fn without_a_behavior() {
    rounds(
        &Value::Null,
        &[
            (0, 10, 12, 12, "ReadyForNewScale free DesiredWithinRange"),
            // Twice as many at most, but four always.
            (15, 12, 60, 24, "ReadyForNewScale held ScaleUpLimit"),
            (30, 24, 200, 48, "ReadyForNewScale held ScaleUpLimit"),
            (45, 96, 200, 100, "ReadyForNewScale held TooManyReplicas"),
            // Fewer only when nobody asked for more in five minutes.
            (60, 100, 1, 100, "ScaleDownStabilized held TooManyReplicas"),
            (400, 100, 1, 2, "ReadyForNewScale held TooFewReplicas"),
        ],
    );
}

#[test]
fn with_a_behavior() {
    let policy =
        |kind: &str, value: i64, period: i64| json!({"type": kind, "value": value, "periodSeconds": period});
    let up = |rules: Value| json!({"scaleUp": rules, "scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}});
    // Four Pods or all of them again each quarter of a minute; never fewer.
    let fast = up(json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
        "policies": [policy("Pods", 4, 15), policy("Percent", 100, 15)]}));
    rounds(
        &fast,
        &[
            (0, 3, 50, 7, "ReadyForNewScale held ScaleUpLimit"),
            (5, 7, 50, 7, "ReadyForNewScale held ScaleUpLimit"),
            (20, 7, 50, 14, "ReadyForNewScale held ScaleUpLimit"),
            (40, 14, 3, 14, "ReadyForNewScale held ScaleDownLimit"),
            (60, 60, 500, 100, "ReadyForNewScale held TooManyReplicas"),
        ],
    );
    let slow = up(json!({"stabilizationWindowSeconds": 60, "selectPolicy": "Min",
        "policies": [policy("Pods", 4, 15), policy("Percent", 10, 15)]}));
    rounds(
        &slow,
        &[
            // The first recommendation is what was there.
            (0, 20, 50, 20, "ScaleUpStabilized free DesiredWithinRange"),
            (70, 20, 50, 22, "ReadyForNewScale held ScaleUpLimit"),
        ],
    );
    let down = json!({"scaleUp": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}, "scaleDown": {
        "stabilizationWindowSeconds": 30, "selectPolicy": "Max", "policies": [policy("Pods", 4, 60), policy("Percent", 10, 60)]}});
    rounds(
        &down,
        &[
            (0, 80, 60, 80, "ScaleDownStabilized free DesiredWithinRange"),
            (40, 80, 60, 72, "ReadyForNewScale held ScaleDownLimit"),
            (55, 72, 60, 72, "ReadyForNewScale held ScaleDownLimit"),
            (101, 72, 60, 64, "ReadyForNewScale held ScaleDownLimit"),
            (102, 64, 90, 64, "ReadyForNewScale held ScaleUpLimit"),
        ],
    );
}
