//! Takes back the announcement that a Pod is about to be disrupted, when nobody has deleted it within two minutes: whoever
//! announced it was refused, or has died (KEP-3329). What a host itself announces stands, however long it takes.

use crate::manager::Reconciler;
use crate::obj::{condition, deleting, finished, items, meta, now, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

const PODS: &str = "pods";
/// The condition.
const CONDITION: &str = "DisruptionTarget";
/// The reason that hosts give.
const BY_HOST: &str = "TerminationByKubelet";
/// How long an announcement is believed (upstream: `stalePodDisruptionTimeout`).
const BELIEVED: SignedDuration = SignedDuration::from_mins(2);

/// The controller.
#[derive(Default)]
pub(crate) struct StaleAnnouncements(Mutex<Announced>);

#[derive(Default)]
struct Announced {
    /// The revision of Pods up to which all have been looked through.
    seen: u64,
    /// Namespaces and names of Pods that speak of the condition.
    pods: BTreeSet<(String, String)>,
}

/// How long the announcement in a Pod is still believed; `None` where there is none that could become stale.
fn left(pod: &Value, now: Timestamp) -> Option<SignedDuration> {
    let announced = condition(pod, CONDITION)?;
    let stands = announced["status"] != "True" || announced["reason"] == BY_HOST;
    if stands || deleting(pod) || finished(pod) {
        return None;
    }
    let since = text(announced, "/lastTransitionTime").parse::<Timestamp>();
    let passed = since.map_or(BELIEVED, |since| now.duration_since(since));
    Some((BELIEVED - passed).max(SignedDuration::ZERO))
}

#[async_trait]
impl Reconciler for StaleAnnouncements {
    fn name(&self) -> &'static str {
        "stale disruptions"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[PODS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let newest = world.revision(&[PODS]);
        let seen = self.0.lock().seen;
        let speaking = world.changed(PODS, seen, |pod| pod.mentions("\"DisruptionTarget\""));
        let all = {
            let mut announced = self.0.lock();
            announced.seen = newest;
            let places = speaking
                .iter()
                .map(|pod| (meta(pod, "namespace").to_owned(), meta(pod, "name").to_owned()));
            announced.pods.extend(places);
            announced.pods.clone()
        };
        let mut next: Option<Duration> = None;
        for place in all {
            let pod = world.get(PODS, &place.0, &place.1);
            let Some((pod, left)) = pod.and_then(|pod| left(&pod, Timestamp::now()).map(|left| (pod, left)))
            else {
                self.0.lock().pods.remove(&place);
                continue;
            };
            if left.is_positive() {
                // Until just after it, since both are whole seconds.
                let wait = left.unsigned_abs() + Duration::from_secs(1);
                next = Some(next.map_or(wait, |next| next.min(wait)));
                continue;
            }
            let mut status = pod["status"].clone();
            let mut conditions = items(&pod, "/status/conditions").to_vec();
            for one in conditions.iter_mut().filter(|c| c["type"] == CONDITION) {
                // Without reason and words, which were those of the announcement.
                *one = json!({"type": CONDITION, "status": "False", "lastTransitionTime": now(),
                    "observedGeneration": pod["metadata"]["generation"]});
            }
            status["conditions"] = json!(conditions);
            settled(world.update_status(PODS, &pod, &status).await)?;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_else_announced_becomes_stale() {
        let at = |seconds: i64| (Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)).to_string();
        let pod = |status: &str, reason: &str, seconds: i64| {
            json!({"status": {"phase": "Running", "conditions": [
                {"type": CONDITION, "status": status, "reason": reason, "lastTransitionTime": at(seconds)}]}})
        };
        let with = |mut pod: Value, place: &str, value: &str| {
            pod[if place == "phase" { "status" } else { "metadata" }][place] = value.into();
            pod
        };
        let fresh = pod("True", "EvictionByEvictionAPI", -30);
        let cases = [
            ("fresh", fresh.clone(), Some(90)),
            ("stale", pod("True", "PreemptionByScheduler", -121), Some(0)),
            ("by its host", pod("True", BY_HOST, -1000), None),
            ("taken back", pod("False", "EvictionByEvictionAPI", -1000), None),
            (
                "on its way",
                with(fresh.clone(), "deletionTimestamp", &at(0)),
                None,
            ),
            ("ended", with(fresh, "phase", "Failed"), None),
            ("without one", json!({"status": {"phase": "Running"}}), None),
        ];
        for (what, pod, wanted) in cases {
            let left = left(&pod, Timestamp::UNIX_EPOCH).map(|left| left.as_secs());
            assert_eq!(left, wanted, "{what}");
        }
    }
}
