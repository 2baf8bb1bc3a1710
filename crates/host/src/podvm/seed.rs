//! The records with which an owner begins: none before, those of an earlier agent's file, or those that the API
//! remembers after a power cut took the run directories.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};

use super::record::{Exit, PodFile, Record, Role, State, records, run_id};

/// The records for a Pod, with what is known of earlier runs.
pub fn seed(pod: &Pod, file: Option<&PodFile>, now: Timestamp) -> Vec<Record> {
    let mut fresh = records(pod);
    for record in &mut fresh {
        if let Some(file) = file {
            if let Some(known) = file.records.iter().find(|known| known.name == record.name) {
                *record = known.clone();
            }
        } else if let Some(status) = status_of(pod, &record.name) {
            from_status(record, status, now);
        }
    }
    fresh
}

fn status_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == name)
}

fn from_status(record: &mut Record, status: &ContainerStatus, now: Timestamp) {
    record.image_id.clone_from(&status.image_id);
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    record.last = last.map(|terminated| exit(terminated, &record.name, restarts.saturating_sub(1), now));
    let state = status.state.clone().unwrap_or_default();
    if let Some(running) = state.running {
        // It ran when the machine went down; how it ended nobody saw.
        record.runs = restarts + 1;
        record.state = State::Exited(Exit {
            code: 255,
            signal: None,
            reason: "Unknown".to_owned(),
            message: "the host went down while it ran".to_owned(),
            started_at: running.started_at.map(|time| time.0),
            finished_at: now,
            id: run_id(&record.name, restarts),
        });
    } else if let Some(terminated) = state.terminated {
        record.runs = restarts + 1;
        record.state = State::Exited(exit(&terminated, &record.name, restarts, now));
    } else if record.last.is_some() {
        record.runs = restarts + 1;
    }
    if record.role == Role::Init {
        renew(record);
    }
}

fn exit(terminated: &ContainerStateTerminated, name: &str, number: u32, now: Timestamp) -> Exit {
    Exit {
        code: terminated.exit_code,
        signal: terminated.signal,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
        started_at: terminated.started_at.as_ref().map(|time| time.0),
        finished_at: terminated.finished_at.as_ref().map_or(now, |time| time.0),
        id: run_id(name, number),
    }
}

/// Readies a record for another VM: init containers run again there, whatever they did in the one before.
pub fn renew(record: &mut Record) {
    record.begun = false;
    record.ready = false;
    record.started = false;
    record.retry_at = None;
    match (&record.state, record.role) {
        (State::Exited(exit), Role::Init) if exit.code == 0 => {
            record.last = Some(exit.clone());
            // Its restart is no crash: no back-off.
            record.backoff = crate::backoff::Backoff::default();
            record.state = State::fresh();
        }
        (State::Starting { .. }, _) => record.state = State::fresh(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn after_a_power_cut() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}, {"name": "b"}]},
            "status": {
                "initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
                "containerStatuses": [
                    {"name": "a", "image": "", "imageID": "x", "ready": true, "restartCount": 2,
                        "state": {"running": {"startedAt": "2026-11-28T06:00:00Z"}}},
                    {"name": "b", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"waiting": {"reason": "ContainerCreating"}}},
                ]}
        }))
        .expect("a Pod");
        let records = seed(&pod, None, Timestamp::UNIX_EPOCH);
        assert_eq!(records[0].state, State::fresh());
        assert_eq!((records[1].runs, records[1].restarts()), (3, 2));
        assert!(matches!(&records[1].state, State::Exited(exit) if exit.code == 255));
        assert_eq!((records[2].runs, &records[2].state), (0, &State::fresh()));
    }
}
