//! How fast a count may change: windows over recent recommendations, rates of change, and the bounds of the spec
//! (upstream: `normalizeDesiredReplicas` and `normalizeDesiredReplicasWithBehaviors` in `horizontal.go`).

use crate::obj::{int, items, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Without a word of the behaviour, recommendations of this time are looked at before there are fewer Pods.
const DOWN_WINDOW: i64 = 300;
/// The longest window of a behaviour and the longest period of a policy, seconds (validation allows no more).
const LONGEST: SignedDuration = SignedDuration::from_secs(3600);

/// What was recommended and done to one target.
#[derive(Debug, Default)]
pub(super) struct Memory {
    recommendations: Vec<(Timestamp, i64)>,
    ups: Vec<(Timestamp, i64)>,
    downs: Vec<(Timestamp, i64)>,
}

impl Memory {
    /// The count that was found first is what was recommended before.
    pub(super) fn begin(&mut self, current: i64, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    /// Takes note of a change that was made.
    pub(super) fn changed(&mut self, before: i64, after: i64, now: Timestamp) {
        let (list, change) = match after > before {
            true => (&mut self.ups, after - before),
            false => (&mut self.downs, before - after),
        };
        list.retain(|(at, _)| *at + LONGEST > now);
        list.push((now, change));
    }

    fn recommend(&mut self, count: i64, now: Timestamp) {
        self.recommendations.retain(|(at, _)| *at + LONGEST > now);
        self.recommendations.push((now, count));
    }

    fn recent(&self, seconds: i64, now: Timestamp) -> impl Iterator<Item = i64> {
        let since = now - SignedDuration::from_secs(seconds);
        let list = self.recommendations.iter();
        list.filter(move |(at, _)| *at > since).map(|(_, count)| *count)
    }

    /// The count at the beginning of a period.
    fn at_start(&self, current: i64, seconds: i64, now: Timestamp) -> i64 {
        let since = now - SignedDuration::from_secs(seconds);
        let sum = |list: &[(Timestamp, i64)]| -> i64 {
            list.iter().filter(|(at, _)| *at > since).map(|(_, n)| n).sum()
        };
        current - sum(&self.ups) + sum(&self.downs)
    }
}

/// The count now, and the bounds of the spec.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) current: i64,
    pub(super) min: i64,
    pub(super) max: i64,
}

/// Reason and words of a condition.
pub(super) type Words = (&'static str, &'static str);

/// The count that is allowed.
#[derive(Debug, PartialEq)]
pub(super) struct Allowed {
    pub(super) replicas: i64,
    /// Of `AbleToScale`.
    pub(super) able: Words,
    /// Whether something held the count back, and what.
    pub(super) limited: (bool, Words),
}

const READY: Words = ("ReadyForNewScale", "recommended size matches current size");
const HIGHEST: Words = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const LOWEST: Words = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const FREE: Words = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_MANY: Words = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const TOO_FEW: Words = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const TOO_FAST_UP: Words = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const TOO_FAST_DOWN: Words = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

/// The allowed count for a desired one. `behavior` is the spec's, or null.
pub(super) fn allowed(
    memory: &mut Memory,
    behavior: &Value,
    bounds: Bounds,
    desired: i64,
    now: Timestamp,
) -> Allowed {
    let (steady, words) = match behavior.is_null() {
        true => {
            let recent = memory.recent(DOWN_WINDOW, now);
            (recent.fold(desired, i64::max), HIGHEST)
        }
        false => steady(memory, behavior, bounds.current, desired, now),
    };
    memory.recommend(desired, now);
    let (replicas, limit) = match behavior.is_null() {
        true => bounded(bounds, steady),
        false => paced(memory, behavior, bounds, steady, now),
    };
    Allowed {
        replicas,
        able: if steady == desired { READY } else { words },
        limited: (replicas != steady, limit),
    }
}

fn steady(memory: &Memory, behavior: &Value, current: i64, desired: i64, now: Timestamp) -> (i64, Words) {
    let up = int(behavior, "/scaleUp/stabilizationWindowSeconds", 0);
    let down = int(behavior, "/scaleDown/stabilizationWindowSeconds", DOWN_WINDOW);
    let least = memory.recent(up, now).fold(desired, i64::min);
    let most = memory.recent(down, now).fold(desired, i64::max);
    let count = current.max(least).min(most);
    (count, if desired >= current { LOWEST } else { HIGHEST })
}

fn bounded(bounds: Bounds, desired: i64) -> (i64, Words) {
    let fastest = (bounds.current * 2).max(4);
    let (most, words) = match bounds.max > fastest {
        true => (fastest, TOO_FAST_UP),
        false => (bounds.max, TOO_MANY),
    };
    if desired < bounds.min {
        (bounds.min, TOO_FEW)
    } else if desired > most {
        (most, words)
    } else {
        (desired, FREE)
    }
}

fn paced(memory: &Memory, behavior: &Value, bounds: Bounds, desired: i64, now: Timestamp) -> (i64, Words) {
    if desired > bounds.current {
        let limit = limit(memory, &behavior["scaleUp"], bounds.current, true, now).max(bounds.current);
        let (most, words) = match bounds.max > limit {
            true => (limit, TOO_FAST_UP),
            false => (bounds.max, TOO_MANY),
        };
        if desired > most {
            return (most, words);
        }
    } else if desired < bounds.current {
        let limit = limit(memory, &behavior["scaleDown"], bounds.current, false, now).min(bounds.current);
        let (least, words) = match bounds.min < limit {
            true => (limit, TOO_FAST_DOWN),
            false => (bounds.min, TOO_FEW),
        };
        if desired < least {
            return (least, words);
        }
    }
    (desired, FREE)
}

/// How far the policies of one direction allow to go.
fn limit(memory: &Memory, rules: &Value, current: i64, up: bool, now: Timestamp) -> i64 {
    let choice = text(rules, "/selectPolicy");
    if choice == "Disabled" {
        return current;
    }
    let reach = items(rules, "/policies").iter().map(|policy| {
        let start = memory.at_start(current, int(policy, "/periodSeconds", 0), now);
        let value = int(policy, "/value", 0);
        match (text(policy, "/type"), up) {
            ("Pods", true) => start + value,
            ("Pods", false) => start - value,
            (_, true) => (start as f64 * (1.0 + value as f64 / 100.0)).ceil() as i64,
            (_, false) => (start as f64 * (1.0 - value as f64 / 100.0)) as i64,
        }
    });
    // The policy `Min` is the one that changes least.
    let highest = up != (choice == "Min");
    let far = if highest { reach.max() } else { reach.min() };
    far.unwrap_or(if highest { i64::MIN } else { i64::MAX })
}
