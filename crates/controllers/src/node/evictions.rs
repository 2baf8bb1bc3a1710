//! When Pods go that do not, or no longer, tolerate a taint of effect `NoExecute`: the time counts from when Pod and taint were
//! first seen together (upstream: pkg/controller/tainteviction/taint_eviction.go).

use crate::obj::{items, meta};
use cache::Uid;
use kinds::placement::tolerates;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// When each Pod goes, by its uid.
#[derive(Default)]
pub(super) struct Evictions(Mutex<HashMap<Uid, Instant>>);

/// What is to be done with a Pod.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Step {
    /// Its deletion was planned and is no longer.
    pub(super) cancelled: bool,
    /// It goes now.
    pub(super) delete: bool,
}

/// For how long a Pod bears its node's taints.
enum Patience {
    Never,
    For(Duration),
    Ever,
}

fn patience(pod: &Value, taints: &[Value]) -> Patience {
    let mut shortest: Option<Duration> = None;
    for taint in taints.iter().filter(|t| t["effect"] == "NoExecute") {
        // Of several tolerations the first one counts.
        let Some(toleration) = items(pod, "/spec/tolerations")
            .iter()
            .find(|t| tolerates(t, taint))
        else {
            return Patience::Never;
        };
        if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
            let time = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            shortest = Some(shortest.map_or(time, |s| s.min(time)));
        }
    }
    shortest.map_or(Patience::Ever, Patience::For)
}

impl Evictions {
    /// Looks at a Pod of a node with these taints. A deletion that is planned stays at its time as long as there is one.
    pub(super) fn look(&self, pod: &Value, taints: &[Value], now: Instant) -> Step {
        let mut planned = self.0.lock();
        let uid = Uid::of(meta(pod, "uid"));
        let time = match patience(pod, taints) {
            Patience::For(time) => time,
            other => {
                return Step {
                    cancelled: planned.remove(&uid).is_some(),
                    delete: matches!(other, Patience::Never),
                };
            }
        };
        let at = *planned.entry(uid).or_insert(now + time);
        let delete = at <= now;
        if delete {
            planned.remove(&uid);
        }
        Step {
            cancelled: false,
            delete,
        }
    }

    /// Whether anything is planned for a Pod.
    pub(super) fn plans(&self, uid: Uid) -> bool {
        self.0.lock().contains_key(&uid)
    }

    /// Whether nothing is planned at all.
    pub(super) fn are_none(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The next deletion, from now on.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.0
            .lock()
            .values()
            .map(|at| at.saturating_duration_since(now))
            .min()
    }

    /// Forgets Pods that are gone.
    pub(super) fn keep(&self, mut there: impl FnMut(Uid) -> bool) {
        self.0.lock().retain(|uid, _| there(*uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_counts_from_the_first_meeting() {
        let taint =
            |key: &str| json!({"key": key, "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"});
        let pod =
            |tolerations: Value| json!({"metadata": {"uid": "u"}, "spec": {"tolerations": tolerations}});
        let minute = || json!({"key": "a", "operator": "Exists", "tolerationSeconds": 60});
        let ever = || json!({"key": "a", "operator": "Exists"});
        let at = |seconds: i64| json!({"key": "a", "operator": "Exists", "tolerationSeconds": seconds});
        let a = || json!([taint("a")]);
        let both = || json!([taint("a"), taint("b")]);
        // Looks at one Pod: seconds since the first, its tolerations, the taints; `x` deletes, `c` cancels.
        type Looks = Vec<(u64, Value, Value, &'static str)>;
        let cases: Vec<(&str, Looks)> = vec![
            ("not tolerated", vec![(0, json!([]), a(), "x")]),
            (
                "tolerated for ever",
                vec![(0, json!([ever()]), a(), ""), (9999, json!([ever()]), a(), "")],
            ),
            (
                "for a minute",
                vec![
                    (0, json!([minute()]), a(), ""),
                    (59, json!([minute()]), a(), ""),
                    (60, json!([minute()]), a(), "x"),
                ],
            ),
            ("for no time", vec![(0, json!([at(0)]), a(), "x")]),
            ("for less than none", vec![(0, json!([at(-5)]), a(), "x")]),
            ("the first one counts", vec![(0, json!([ever(), at(0)]), a(), "")]),
            (
                "the taint goes and comes back",
                vec![
                    (0, json!([minute()]), a(), ""),
                    (30, json!([minute()]), json!([]), "c"),
                    (50, json!([minute()]), a(), ""),
                    (70, json!([minute()]), a(), ""),
                    (110, json!([minute()]), a(), "x"),
                ],
            ),
            (
                "another taint comes",
                vec![
                    (0, json!([minute()]), a(), ""),
                    (1, json!([minute()]), both(), "cx"),
                ],
            ),
            (
                "longer patience comes too late",
                vec![(0, json!([minute()]), a(), ""), (60, json!([at(600)]), a(), "x")],
            ),
            (
                "patience without end comes in time",
                vec![(0, json!([minute()]), a(), ""), (59, json!([ever()]), a(), "c")],
            ),
        ];
        for (what, looks) in cases {
            let evictions = Evictions::default();
            let start = Instant::now();
            for (seconds, tolerations, taints, expected) in looks {
                let taints = taints.as_array().cloned().unwrap_or_default();
                let step = evictions.look(&pod(tolerations), &taints, start + Duration::from_secs(seconds));
                let word = [(step.cancelled, "c"), (step.delete, "x")];
                let word: String = word.iter().filter(|(on, _)| *on).map(|(_, w)| *w).collect();
                assert_eq!(word, expected, "{what}, after {seconds} s");
            }
        }
    }
}
