//! Why a Pod ends as a whole, whatever its containers' policies: it was active for too long, or it is evicted. The verdict is
//! kept in the VM's file, so that the next agent goes on with the end and not with the Pod. And what is told of containers
//! that an ended Pod never came to start.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::record::{Exit, Record, Role, State};

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

/// Reason of a container of an ended Pod that did not end itself. When it did is not known, nor told.
pub(crate) const NEVER_SEEN: &str = "ContainerStatusUnknown";

/// Ends what still waits in a Pod that has ended: all ordinary containers once it was initialized, and init containers up to
/// the last that began, at least the first (kubelet: `TerminatePod`). `deleted`: nothing was to be run again, so that one
/// that waited for its next run is told by the end of the one before.
pub(super) fn conclude(records: &mut [Record], deleted: bool, now: Timestamp) {
    let waits = |record: &Record| matches!(record.state, State::Waiting { .. } | State::Starting { .. });
    for record in &mut *records {
        // The good end of an init container stands, though it was to run once more in another VM.
        let stands = |exit: &Exit| deleted || record.role == Role::Init && exit.code == 0;
        if waits(record)
            && let Some(exit) = record.last.take_if(|exit| stands(exit))
        {
            record.state = State::Exited(exit);
        }
    }
    let init = |record: &Record| matches!(record.role, Role::Init | Role::Sidecar);
    let begun = |record: &Record| !waits(record) || record.last.is_some();
    let initialized = match records.iter().rfind(|record| init(record)) {
        None => true,
        Some(last) => {
            let ended_well = last.latest_exit().is_some_and(|exit| exit.code == 0);
            let mut main = records.iter().filter(|record| record.role == Role::Main);
            last.role == Role::Init && ended_well || main.any(begun)
        }
    };
    let count = records.iter().filter(|record| init(record)).count();
    let mut first_records = records.iter().take(count);
    let attempted = first_records.rposition(begun).map_or(1, |last| last + 1);
    for (place, record) in records.iter_mut().enumerate() {
        let ends = match record.role {
            Role::Init | Role::Sidecar => place < attempted,
            Role::Main => initialized,
            Role::Ephemeral => false,
        };
        if ends && waits(record) {
            record.state = State::Exited(Exit {
                code: 137,
                signal: None,
                reason: NEVER_SEEN.to_owned(),
                message: "The container could not be located when the pod was terminated".to_owned(),
                started_at: None,
                finished_at: now,
                id: String::new(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters for containers: what they are (`i`nit, `s`idecar, `m`ain, `e`phemeral), and how they stand (`.` waits, `c` waits
    /// after a crash, `r` waits after a good end, a digit: ended so).
    fn concluded(containers: &[(char, char)], deleted: bool) -> String {
        let exit = |code| Exit {
            code,
            signal: None,
            reason: String::new(),
            message: String::new(),
            started_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
            id: String::new(),
        };
        let made = containers.iter().map(|(role, state)| {
            let role = match role {
                'i' => Role::Init,
                's' => Role::Sidecar,
                'e' => Role::Ephemeral,
                _ => Role::Main,
            };
            let mut record = Record::new("c", role);
            match state {
                '.' => {}
                'c' => record.last = Some(exit(1)),
                'r' => record.last = Some(exit(0)),
                digit => record.state = State::Exited(exit(digit.to_digit(10).unwrap_or(9).cast_signed())),
            }
            record
        });
        let mut records: Vec<Record> = made.collect();
        conclude(&mut records, deleted, Timestamp::UNIX_EPOCH);
        let shown = records.iter().map(|record| match &record.state {
            State::Exited(exit) => exit.code.to_string(),
            _ => "waits".to_owned(),
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_never_ran_ends_too() {
        type Ends = &'static [(char, char)];
        let cases: [(Ends, bool, &str); 9] = [
            (&[('m', '.'), ('m', '0'), ('e', '.')], false, "137 0 waits"),
            (&[('i', '.'), ('i', '.'), ('m', '.')], false, "137 waits waits"),
            (&[('i', '1'), ('i', '.'), ('m', '.')], false, "1 waits waits"),
            (&[('i', 'c'), ('i', '.'), ('m', '.')], false, "137 waits waits"),
            (&[('i', '0'), ('i', 'c'), ('m', '.')], true, "0 1 waits"),
            (&[('i', '0'), ('m', '.')], false, "0 137"),
            (&[('i', 'r'), ('m', '0')], false, "0 0"),
            (&[('s', '.'), ('m', 'c')], false, "137 137"),
            (&[('m', 'c'), ('m', '.')], true, "1 137"),
        ];
        for (containers, deleted, expected) in cases {
            assert_eq!(concluded(containers, deleted), expected, "{containers:?}");
        }
    }
}
