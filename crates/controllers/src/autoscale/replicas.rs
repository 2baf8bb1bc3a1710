//! How many Pods a metric asks for: pure functions of figures, all in thousandths (upstream: `replica_calculator.go`).
//!
//! Pods that cannot be judged count in the cautious direction: without a figure they are taken as busy when there
//! would be fewer Pods, and as idle when there would be more; those that are not ready yet are idle.

use crate::obj::{condition, deleting, items, meta, text};
use jiff::{SignedDuration, Timestamp};
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Pod's CPU is not believed within this time of its start unless it is ready.
const START: SignedDuration = SignedDuration::from_mins(5);
/// A Pod that became unready within this time of its start has never been ready.
const FIRST_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What was measured of one Pod.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// When.
    pub(super) at: Timestamp,
    /// Over which time.
    pub(super) window: SignedDuration,
    /// The value in thousandths.
    pub(super) milli: i64,
}

/// Figures by the Pod's name.
pub(super) type Figures = BTreeMap<String, Figure>;

/// Shares of the target that are near enough (KEP-4951).
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    /// A tenth in both directions, unless the behaviour says otherwise.
    pub(super) fn of(hpa: &Value) -> Tolerance {
        let own = |rules: &str| {
            let tolerance = &hpa["spec"]["behavior"][rules]["tolerance"];
            let milli = Quantity::from_json(tolerance).ok()?.as_milli();
            Some(milli as f64 / 1000.0)
        };
        Tolerance {
            down: own("scaleDown").unwrap_or(0.1),
            up: own("scaleUp").unwrap_or(0.1),
        }
    }

    fn holds(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a Pod is to use.
pub(super) enum Goal<'a> {
    /// So much on average.
    Average(i64),
    /// A share, in percent, of what it requests.
    Utilization {
        percent: i64,
        requests: &'a BTreeMap<String, i64>,
    },
}

/// The count that a metric asks for, and what it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    pub(super) replicas: i64,
    /// Average of a Pod, or the whole value, in thousandths.
    pub(super) usage: i64,
    /// Share of the requests.
    pub(super) percent: Option<i64>,
}

/// Relation of use to goal, the average, and the share of the requests.
fn ratio(figures: &Figures, goal: &Goal<'_>) -> Result<(f64, i64, Option<i64>), String> {
    match goal {
        Goal::Average(target) => {
            let total: i64 = figures.values().map(|figure| figure.milli).sum();
            let average = total / figures.len().max(1) as i64;
            Ok((average as f64 / *target as f64, average, None))
        }
        Goal::Utilization { percent, requests } => {
            let (mut used, mut requested, mut pods) = (0, 0, 0);
            for (name, figure) in figures {
                if let Some(request) = requests.get(name) {
                    used += figure.milli;
                    requested += request;
                    pods += 1;
                }
            }
            if requested == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let now = used * 100 / requested;
            Ok((now as f64 / *percent as f64, used / pods, Some(now)))
        }
    }
}

#[derive(Default)]
struct Groups<'a> {
    ready: usize,
    unready: Vec<&'a str>,
    missing: Vec<&'a str>,
    ignored: Vec<&'a str>,
}

fn groups<'a>(pods: &'a [Arc<Value>], figures: &Figures, cpu: bool, now: Timestamp) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in pods {
        let name = meta(pod, "name");
        let phase = text(pod, "/status/phase");
        if deleting(pod) || phase == "Failed" {
            groups.ignored.push(name);
        } else if phase == "Pending" {
            groups.unready.push(name);
        } else if let Some(figure) = figures.get(name) {
            if cpu && !believed(pod, figure, now) {
                groups.unready.push(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.push(name);
        }
    }
    groups
}

/// Whether the CPU of a Pod says something: it may still be busy with its start.
fn believed(pod: &Value, figure: &Figure, now: Timestamp) -> bool {
    let time = |value: &Value| value.as_str()?.parse::<Timestamp>().ok();
    let (Some(ready), Some(start)) = (condition(pod, "Ready"), time(&pod["status"]["startTime"])) else {
        return false;
    };
    let since = time(&ready["lastTransitionTime"]).unwrap_or(Timestamp::UNIX_EPOCH);
    let unready = ready["status"] == "False";
    if start + START > now {
        !unready && figure.at >= since + figure.window
    } else {
        !(unready && start + FIRST_READINESS > since)
    }
}

/// The count by figures of the Pods themselves. `cpu`: the figures are of CPU time, which starting Pods use much of.
///
/// # Errors
/// In upstream's words, when the figures say nothing.
pub(super) fn by_pods(
    pods: &[Arc<Value>],
    mut figures: Figures,
    goal: &Goal<'_>,
    cpu: bool,
    current: i64,
    tolerance: Tolerance,
    now: Timestamp,
) -> Result<Outcome, String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let groups = groups(pods, &figures, cpu, now);
    for name in groups.ignored.iter().chain(&groups.unready) {
        figures.remove(*name);
    }
    if figures.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let (first, usage, percent) = ratio(&figures, goal)?;
    let outcome = |replicas| Outcome {
        replicas,
        usage,
        percent,
    };
    let up_with_unready = !groups.unready.is_empty() && first > 1.0;
    if !up_with_unready && groups.missing.is_empty() {
        if tolerance.holds(first) {
            return Ok(outcome(current));
        }
        return Ok(outcome(whole(first * groups.ready as f64)));
    }
    let figure = |milli| Figure {
        at: now,
        window: SignedDuration::ZERO,
        milli,
    };
    for name in &groups.missing {
        let milli = match goal {
            _ if first > 1.0 => 0,
            _ if first == 1.0 => continue,
            Goal::Average(target) => *target,
            Goal::Utilization { percent, requests } => {
                requests.get(*name).copied().unwrap_or(0) * percent.max(&100) / 100
            }
        };
        figures.insert((*name).to_owned(), figure(milli));
    }
    if up_with_unready {
        for name in &groups.unready {
            figures.insert((*name).to_owned(), figure(0));
        }
    }
    let (second, ..) = ratio(&figures, goal)?;
    let turned = (first < 1.0 && second > 1.0) || (first > 1.0 && second < 1.0);
    let replicas = whole(second * figures.len() as f64);
    let against = (second < 1.0 && replicas > current) || (second > 1.0 && replicas < current);
    if tolerance.holds(second) || turned || against {
        return Ok(outcome(current));
    }
    Ok(outcome(replicas))
}

/// The count by a value that all Pods share.
///
/// # Errors
/// When there are no Pods.
pub(super) fn by_value(
    pods: &[Arc<Value>],
    usage: i64,
    target: i64,
    current: i64,
    tolerance: Tolerance,
) -> Result<Outcome, String> {
    let ratio = usage as f64 / target as f64;
    let replicas = if current == 0 {
        whole(ratio)
    } else if tolerance.holds(ratio) {
        current
    } else if pods.is_empty() {
        let text = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {text}"));
    } else {
        let runs = |pod: &&Arc<Value>| text(pod, "/status/phase") == "Running" && crate::obj::ready(pod);
        whole(ratio * pods.iter().filter(runs).count() as f64)
    };
    Ok(Outcome {
        replicas,
        usage,
        percent: None,
    })
}

/// The count by a value of which each Pod is to have a share. `shown` is the count that the target reports.
pub(super) fn by_share(usage: i64, target: i64, shown: i64, tolerance: Tolerance) -> Outcome {
    let ratio = usage as f64 / (target as f64 * shown as f64);
    let replicas = match tolerance.holds(ratio) {
        true => shown,
        false => whole(usage as f64 / target as f64),
    };
    Outcome {
        replicas,
        usage: whole_wide(usage as f64 / shown as f64),
        percent: None,
    }
}

fn whole(value: f64) -> i64 {
    whole_wide(value).min(i64::from(i32::MAX))
}

fn whole_wide(value: f64) -> i64 {
    value.ceil() as i64
}

/// What each Pod requests of a resource, or one container of it.
///
/// # Errors
/// When one requests nothing: a share of it would mean nothing.
pub(super) fn requests(
    pods: &[Arc<Value>],
    container: Option<&str>,
    resource: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let milli = |holder: &Value| {
        let quantity = Quantity::from_json(&holder["resources"]["requests"][resource]).ok()?;
        i64::try_from(quantity.as_milli()).ok()
    };
    let mut all = BTreeMap::new();
    for pod in pods {
        let name = meta(pod, "name");
        if let Some(whole) = milli(&pod["spec"]).filter(|_| container.is_none()) {
            all.insert(name.to_owned(), whole);
            continue;
        }
        let sidecars = items(pod, "/spec/initContainers").iter();
        let sidecars = sidecars.filter(|c| c["restartPolicy"] == "Always");
        let mut sum = None;
        for one in items(pod, "/spec/containers").iter().chain(sidecars) {
            let own = text(one, "/name");
            if container.is_some_and(|wanted| wanted != own) {
                continue;
            }
            let Some(request) = milli(one) else {
                return Err(format!(
                    "missing request for {resource} in container {own} of Pod {name}"
                ));
            };
            sum = Some(sum.unwrap_or(0) + request);
        }
        let Some(sum) = sum else {
            let wanted = container.unwrap_or_default();
            return Err(format!("container {wanted} not found in Pod {name}"));
        };
        all.insert(name.to_owned(), sum);
    }
    Ok(all)
}
