//! The Pod's status to the API: only the newest, again until it is there, again when somebody else has changed it, and the
//! deletion of the object at the end.
//!
//! A task of its own, so that an API that is away never holds the Pod's owner.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::owner::OWN_CONDITIONS;
use super::{Input, Report};

/// First and longest pause between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// What somebody else has written over the status stands for so long (kubelet: `syncPeriod` of `status_manager.go`): node
/// controller and host would otherwise argue without pause.
const CORRECTION: Duration = Duration::from_secs(10);
/// Fields that must disappear from the object when they disappear here.
const CLEARED: [&str; 4] = [
    "podIP",
    "podIPs",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
];

/// What is to be with the API.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The status.
    pub status: Option<PodStatus>,
    /// The object is to go after it.
    pub delete: bool,
    /// Report when this is done: the last one.
    pub last: bool,
}

/// A status that is with the API.
struct Sent {
    status: PodStatus,
    /// The object after it; none where it was not taken.
    object: Option<Pod>,
}

impl Sent {
    /// Whether a later state of the object shows something else where only this host has to say something.
    fn is_overwritten(&self, seen: &Pod) -> bool {
        let version = |pod: &Pod| pod.metadata.resource_version.as_deref()?.parse::<u64>().ok();
        let Some(object) = self
            .object
            .as_ref()
            .filter(|object| version(seen) > version(object))
        else {
            return false;
        };
        seen.metadata.uid == object.metadata.uid && own(seen) != own(object)
    }
}

/// What only this host writes of a status.
fn own(pod: &Pod) -> PodStatus {
    let status = pod.status.clone().unwrap_or_default();
    let mut conditions = status.conditions.unwrap_or_default();
    conditions.retain(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str()));
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    PodStatus {
        phase: status.phase,
        conditions: Some(conditions),
        host_ip: status.host_ip,
        pod_ip: status.pod_ip,
        pod_ips: status.pod_ips,
        start_time: status.start_time,
        init_container_statuses: status.init_container_statuses,
        container_statuses: status.container_statuses,
        ephemeral_container_statuses: status.ephemeral_container_statuses,
        ..PodStatus::default()
    }
}

/// The Pod whose status it is.
pub struct Subject {
    /// The API.
    pub client: kube::Client,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: the status is no other Pod's.
    pub uid: String,
}

/// Brings the newest status to the API until the sender is dropped; `seen` is the object as the API tells of it.
pub async fn run(
    subject: Subject,
    mut wanted: watch::Receiver<Wanted>,
    mut seen: watch::Receiver<Option<Arc<Pod>>>,
    owner: mpsc::WeakSender<Input>,
) {
    let Subject { namespace, name, .. } = &subject;
    let api: Api<Pod> = Api::namespaced(subject.client.clone(), namespace);
    let mut sent: Option<Sent> = None;
    loop {
        let mut pause = RETRY.0;
        loop {
            let now = wanted.borrow_and_update().clone();
            match bring(&api, name, &subject.uid, &now, &mut sent).await {
                Ok(()) => {
                    if now.last
                        && let Some(owner) = owner.upgrade()
                    {
                        let _ = owner.send(Input::Job(Report::Published)).await;
                    }
                    break;
                }
                Err(error) => tracing::debug!(%error, namespace, name, "the status waits"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() {
                return;
            },
            () = overwritten(&sent, &mut seen), if !wanted.borrow().delete => sent = None,
        }
    }
}

/// Waits until something else has stood in the place of what was sent for as long as it may.
async fn overwritten(sent: &Option<Sent>, seen: &mut watch::Receiver<Option<Arc<Pod>>>) {
    let mut since: Option<Instant> = None;
    loop {
        let is = {
            let seen = seen.borrow_and_update();
            let pair = sent.as_ref().zip(seen.as_ref());
            pair.is_some_and(|(sent, seen)| sent.is_overwritten(seen))
        };
        since = is.then(|| since.unwrap_or_else(Instant::now));
        let until = since.map(|since| since + CORRECTION);
        tokio::select! {
            changed = seen.changed() => if changed.is_err() {
                // The owner has gone, and with it the sender of statuses.
                std::future::pending::<()>().await;
            },
            () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return,
        }
    }
}

async fn bring(
    api: &Api<Pod>,
    name: &str,
    uid: &str,
    wanted: &Wanted,
    sent: &mut Option<Sent>,
) -> Result<(), kube::Error> {
    if let Some(status) = &wanted.status
        && sent.as_ref().map(|sent| &sent.status) != Some(status)
    {
        let with = |object| {
            Some(Sent {
                status: status.clone(),
                object,
            })
        };
        let before = sent.as_ref().map(|sent| &sent.status);
        let patch = json!({"metadata": {"uid": uid}, "status": patch(status, before)?});
        match api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(object) => *sent = with(Some(object)),
            // Gone, or another Pod of the same name: this status has no object any more.
            Err(kube::Error::Api(error)) if has_no_object(&error) => {
                tracing::debug!(
                    code = error.code,
                    message = error.message,
                    name,
                    "the status has no object"
                );
                *sent = with(None);
            }
            // Sent once more it would be refused once more; the next one may be accepted.
            Err(kube::Error::Api(error)) if error.code == 422 => {
                tracing::warn!(message = error.message, name, "the API server refuses the status");
                *sent = with(None);
            }
            Err(error) => return Err(error),
        }
    }
    if wanted.delete {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match api.delete(name, &params).await {
            Ok(_) => {}
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an answer says that the Pod of this uid is not there.
fn has_no_object(error: &Status) -> bool {
    let causes = || error.details.iter().flat_map(|details| &details.causes);
    let other_uid = || causes().any(|cause| cause.field == "metadata.uid");
    matches!(error.code, 404 | 409) || (error.code == 422 && other_uid())
}

fn patch(status: &PodStatus, before: Option<&PodStatus>) -> Result<Value, kube::Error> {
    let mut value = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    if let Some(fields) = value.as_object_mut() {
        for field in CLEARED {
            fields.entry(field).or_insert(Value::Null);
        }
        // What others said of the Pod stays as long as its phase does (kubelet: `generateAPIPodStatus`).
        if before.is_some_and(|before| before.phase != status.phase) {
            for field in ["reason", "message"] {
                fields.entry(field).or_insert(Value::Null);
            }
        }
    }
    // A merge keeps addresses that are not named, and there is one of each family.
    for field in ["podIPs", "hostIPs"] {
        if let Some(addresses) = value[field].as_array_mut() {
            addresses.push(json!({"$patch": "replace"}));
        }
    }
    // A merge keeps conditions that are not named: those of a resize end with it.
    if let Some(conditions) = value["conditions"].as_array_mut() {
        // And it keeps the words of a condition that has none any more.
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            for field in ["reason", "message"] {
                condition.entry(field).or_insert(Value::Null);
            }
        }
        for name in super::resize::CONDITIONS {
            if !conditions.iter().any(|condition| condition["type"] == name) {
                conditions.push(json!({"$patch": "delete", "type": name}));
            }
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: &str, status: Value) -> Pod {
        let pod =
            json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": version}, "status": status});
        serde_json::from_value(pod).expect("a Pod")
    }

    #[test]
    fn what_others_write_over_a_status() {
        let of = |ready: &str| {
            json!({"phase": "Running", "podIP": "10.0.0.1", "conditions": [
                {"type": "Ready", "status": ready}, {"type": "PodScheduled", "status": "True"}]})
        };
        let sent = Sent {
            status: PodStatus::default(),
            object: Some(pod("10", of("True"))),
        };
        let with = |field: &str, value: Value| {
            let mut status = of("True");
            status[field] = value;
            status
        };
        let scheduled =
            json!([{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "False"}]);
        let cases = [
            ("11", of("True"), false),
            ("11", of("False"), true),
            // From before the status came there.
            ("9", of("False"), false),
            ("10", of("False"), false),
            ("11", with("phase", json!("Failed")), true),
            ("11", with("podIP", json!("10.0.0.2")), true),
            ("11", with("containerStatuses", json!([])), true),
            // Others have to say something there.
            ("11", with("conditions", scheduled), false),
            ("11", with("nominatedNodeName", json!("n")), false),
        ];
        for (version, status, expected) in cases {
            assert_eq!(
                sent.is_overwritten(&pod(version, status.clone())),
                expected,
                "{version}: {status}"
            );
        }
        let not_taken = Sent {
            status: PodStatus::default(),
            object: None,
        };
        assert!(!not_taken.is_overwritten(&pod("11", of("False"))));
    }

    #[test]
    fn the_words_of_others_stay_with_the_phase() {
        let status = |phase: &str| PodStatus {
            phase: Some(phase.to_owned()),
            ..PodStatus::default()
        };
        for (before, cleared) in [(None, false), (Some("Running"), false), (Some("Pending"), true)] {
            let before = before.map(status);
            let patch = patch(&status("Running"), before.as_ref()).expect("JSON");
            assert_eq!(patch.get("reason").is_some(), cleared, "{before:?}");
            assert_eq!(patch.get("message").is_some(), cleared, "{before:?}");
        }
    }
}
