//! What one metric of an autoscaler proposes, with upstream's names and words for it (`computeStatusFor…Metric`).

use super::metrics;
use super::replicas::{Goal, Outcome, Tolerance, by_pods, by_share, by_value, requests};
use crate::obj::{go_selector, text};
use crate::world::World;
use jiff::Timestamp;
use kinds::quantity::Quantity;
use serde_json::{Value, json};
use std::sync::Arc;

/// What proposals start from.
pub(super) struct Situation<'a> {
    pub(super) world: &'a World,
    pub(super) namespace: &'a str,
    /// The selector of the target's Pods.
    pub(super) selector: &'a str,
    pub(super) pods: &'a [Arc<Value>],
    /// Counts that are wanted and reported.
    pub(super) wanted: i64,
    pub(super) shown: i64,
    pub(super) tolerance: Tolerance,
}

/// A count that a metric asks for.
pub(super) struct Proposal {
    pub(super) replicas: i64,
    /// What the metric is called in conditions and events.
    pub(super) name: String,
    /// Its entry in `status.currentMetrics`.
    pub(super) status: Value,
}

/// Why a metric proposes nothing.
pub(super) struct Problem {
    /// Of condition and event.
    pub(super) reason: &'static str,
    /// Their words.
    pub(super) message: String,
    /// Those of the whole round.
    pub(super) whole: String,
}

/// The proposal of one entry of `spec.metrics`.
pub(super) async fn of(at: &Situation<'_>, metric: &Value) -> Result<Proposal, Problem> {
    let kind = text(metric, "/type");
    let (field, reason) = match kind {
        "Object" => ("object", "FailedGetObjectMetric"),
        "Pods" => ("pods", "FailedGetPodsMetric"),
        "Resource" => ("resource", "FailedGetResourceMetric"),
        "ContainerResource" => ("containerResource", "FailedGetContainerResourceMetric"),
        "External" => ("external", "FailedGetExternalMetric"),
        _ => {
            let message = format!("unknown metric source type {kind:?}");
            return Err(Problem {
                reason: "InvalidMetricSourceType",
                whole: message.clone(),
                message,
            });
        }
    };
    let source = &metric[field];
    let proposed = match field {
        "object" => object(at, source).await,
        "pods" => pods(at, source).await,
        "external" => external(at, source).await,
        _ => resource(at, source, field == "containerResource").await,
    };
    let (replicas, name, mut status) = proposed.map_err(|(message, within)| Problem {
        reason,
        whole: match field {
            "resource" => format!(
                "failed to get {} resource metric value: {within}",
                text(source, "/name")
            ),
            "containerResource" => format!(
                "failed to get {} container metric value: {within}",
                text(source, "/container")
            ),
            "external" => format!(
                "failed to get {} external metric value: {within}",
                text(source, "/metric/name")
            ),
            _ => format!("failed to get {field} metric value: {within}"),
        },
        message,
    })?;
    for identity in ["name", "container", "metric", "describedObject"] {
        if !source[identity].is_null() {
            status[identity] = source[identity].clone();
        }
    }
    Ok(Proposal {
        replicas,
        name,
        status: json!({"type": kind, field: status}),
    })
}

/// Count, name and status; or the words of the condition and those within the words of the round.
type Proposed = Result<(i64, String, Value), (String, String)>;

fn twice(words: String) -> (String, String) {
    (words.clone(), words)
}

async fn resource(at: &Situation<'_>, source: &Value, of_container: bool) -> Proposed {
    let name = text(source, "/name");
    let container = of_container.then(|| text(source, "/container"));
    let target = &source["target"];
    let figures = async {
        let found = metrics::resource(at.world, at.namespace, at.selector, name, container).await;
        found.map_err(|e| format!("unable to get metrics for resource {name}: {e}"))
    };
    let cpu = name == "cpu";
    let judge = |figures, goal: &Goal<'_>| {
        by_pods(
            at.pods,
            figures,
            goal,
            cpu,
            at.wanted,
            at.tolerance,
            Timestamp::now(),
        )
    };
    if let Some(average) = milli(&target["averageValue"]) {
        let outcome = match figures.await {
            Ok(figures) => judge(figures, &Goal::Average(average)),
            Err(error) => Err(error),
        };
        let outcome = outcome.map_err(|e| twice(format!("failed to get {name} usage: {e}")))?;
        let status = json!({"current": {"averageValue": amount(name, outcome.usage)}});
        return Ok((outcome.replicas, format!("{name} resource"), status));
    }
    let Some(percent) = target["averageUtilization"].as_i64() else {
        let words = "invalid resource metric source: neither an average utilization target nor an average value (usage) target was set";
        return Err(twice(words.into()));
    };
    let judged = async {
        let figures = figures.await?;
        let requests = requests(at.pods, container, name);
        // No Pods at all is said before what they request.
        let requests = match requests {
            Err(error) if !at.pods.is_empty() => return Err(error),
            other => other.unwrap_or_default(),
        };
        let goal = Goal::Utilization {
            percent,
            requests: &requests,
        };
        judge(figures, &goal)
    };
    let outcome = judged
        .await
        .map_err(|e| twice(format!("failed to get {name} utilization: {e}")))?;
    let of = if of_container {
        "container resource"
    } else {
        "resource"
    };
    let status = json!({"current": {
        "averageUtilization": outcome.percent, "averageValue": amount(name, outcome.usage)}});
    let words = format!("{name} {of} utilization (percentage of request)");
    Ok((outcome.replicas, words, status))
}

async fn pods(at: &Situation<'_>, source: &Value) -> Proposed {
    let (name, metric) = (text(source, "/metric/name"), &source["metric"]);
    let figures = metrics::of_pods(at.world, at.namespace, at.selector, metric).await;
    let figures = figures.map_err(|e| twice(format!("unable to get metric {name}: {e}")))?;
    let goal = Goal::Average(milli(&source["target"]["averageValue"]).unwrap_or(0));
    let outcome = by_pods(
        at.pods,
        figures,
        &goal,
        false,
        at.wanted,
        at.tolerance,
        Timestamp::now(),
    );
    let outcome = outcome.map_err(twice)?;
    let status = json!({"current": {"averageValue": decimal(outcome.usage)}});
    Ok((outcome.replicas, format!("pods metric {name}"), status))
}

async fn object(at: &Situation<'_>, source: &Value) -> Proposed {
    let (metric, object, target) = (&source["metric"], &source["describedObject"], &source["target"]);
    let (name, kind) = (text(metric, "/name"), text(object, "/kind"));
    let usage = async {
        let found = metrics::of_object(at.world, at.namespace, object, metric).await;
        found.map_err(|e| {
            let of = text(object, "/name");
            format!("unable to get metric {name}: {kind} on {} {of}/{e}", at.namespace)
        })
    };
    match (
        text(target, "/type"),
        milli(&target["value"]),
        milli(&target["averageValue"]),
    ) {
        ("Value", Some(value), _) => {
            let judged = usage.await.and_then(|usage| value_of(at, usage, value));
            let outcome = judged.map_err(twice)?;
            let status = json!({"current": {"value": decimal(outcome.usage)}});
            Ok((outcome.replicas, format!("{kind} metric {name}"), status))
        }
        ("AverageValue", _, Some(average)) => {
            let usage = usage.await.map_err(|e| {
                let within = format!("failed to get {name} object metric: {e}");
                (e, within)
            })?;
            let outcome = by_share(usage, average, at.shown, at.tolerance);
            let status = json!({"current": {"averageValue": decimal(outcome.usage)}});
            Ok((outcome.replicas, external_name(metric), status))
        }
        _ => Err(twice(
            "invalid object metric source: neither a value target nor an average value target was set".into(),
        )),
    }
}

async fn external(at: &Situation<'_>, source: &Value) -> Proposed {
    let (metric, target) = (&source["metric"], &source["target"]);
    let name = text(metric, "/name");
    let usage = async {
        let found = metrics::external(at.world, at.namespace, metric).await;
        found.map_err(|e| {
            let of = at.namespace;
            format!(
                "unable to get external metric {of}/{name}/{}: {e}",
                go_selector(&metric["selector"])
            )
        })
    };
    if let Some(average) = milli(&target["averageValue"]) {
        let usage = usage.await.map_err(|e| {
            let within = format!("failed to get {name} external metric: {e}");
            (e, within)
        })?;
        let outcome = by_share(usage, average, at.shown, at.tolerance);
        let status = json!({"current": {"averageValue": decimal(outcome.usage)}});
        return Ok((outcome.replicas, external_name(metric), status));
    }
    let Some(value) = milli(&target["value"]) else {
        return Err(twice(
            "invalid external metric source: neither a value target nor an average value target was set"
                .into(),
        ));
    };
    let judged = usage.await.and_then(|usage| value_of(at, usage, value));
    let outcome = judged.map_err(|e| {
        let within = format!("failed to get external metric {name}: {e}");
        (e, within)
    })?;
    let status = json!({"current": {"value": decimal(outcome.usage)}});
    Ok((outcome.replicas, external_name(metric), status))
}

fn value_of(at: &Situation<'_>, usage: i64, target: i64) -> Result<Outcome, String> {
    by_value(at.pods, usage, target, at.wanted, at.tolerance)
}

fn external_name(metric: &Value) -> String {
    format!(
        "external metric {}({})",
        text(metric, "/name"),
        go_selector(&metric["selector"])
    )
}

fn milli(quantity: &Value) -> Option<i64> {
    i64::try_from(Quantity::from_json(quantity).ok()?.as_milli()).ok()
}

fn decimal(milli: i64) -> String {
    Quantity::from_milli(i128::from(milli)).to_string()
}

/// An amount of a resource; whole bytes of memory are counted in powers of 1024.
fn amount(resource: &str, milli: i64) -> String {
    match resource == "memory" && milli % 1000 == 0 {
        true => Quantity::from_bytes(i128::from(milli / 1000)).to_string(),
        false => decimal(milli),
    }
}
