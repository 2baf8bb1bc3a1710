//! Why a Pod ends as a whole, whatever its containers' policies: it was active for too long, or it is evicted. The verdict is
//! kept in the VM's file, so that the next agent goes on with the end and not with the Pod.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

/// The grace period of Pods that are evicted (`immediateEvictionGracePeriodSeconds`), in seconds.
pub(super) const EVICTION_GRACE: i64 = 1;
/// The condition that tells controllers that a Pod's end was not its own.
pub(super) const DISRUPTION_TARGET: &str = "DisruptionTarget";
/// Its reason when the end is the host's (`PodReasonTerminationByKubelet`).
const BY_HOST: &str = "TerminationByKubelet";

/// Reason and words of a Pod that fails as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `DeadlineExceeded`, `Evicted`, or why it was not taken.
    pub reason: String,
    /// The words to it.
    pub message: String,
    /// Its host lacked something: the Pod itself did nothing wrong.
    pub disrupted: bool,
    /// When patience with its containers ends.
    pub until: Timestamp,
}

impl Verdict {
    /// A verdict of this moment; its containers have so many seconds.
    pub(super) fn new(reason: String, message: String, grace: i64) -> Self {
        let now = Timestamp::now();
        Self {
            reason,
            message,
            disrupted: false,
            until: now
                .saturating_add(SignedDuration::from_secs(grace))
                .unwrap_or(now),
        }
    }

    /// Seconds that are left to its containers: no more than the grace period, whatever became of the clock.
    pub(super) fn left(&self, grace: i64) -> i64 {
        let left = self.until.duration_since(Timestamp::now());
        left.as_secs().clamp(0, grace.max(EVICTION_GRACE))
    }

    /// What controllers are told of it.
    pub(super) fn condition(&self, generation: Option<i64>, now: Timestamp) -> PodCondition {
        PodCondition {
            type_: DISRUPTION_TARGET.to_owned(),
            status: "True".to_owned(),
            reason: Some(BY_HOST.to_owned()),
            message: Some(self.message.clone()),
            last_transition_time: Some(Time(now)),
            observed_generation: generation,
            ..PodCondition::default()
        }
    }
}

/// The condition that this host has told already.
pub(super) fn disruption(status: &PodStatus) -> Option<PodCondition> {
    let ours = |condition: &&PodCondition| {
        condition.type_ == DISRUPTION_TARGET && condition.reason.as_deref() == Some(BY_HOST)
    };
    status.conditions.iter().flatten().find(ours).cloned()
}
