//! The Pod's status to the API: only the newest, again until it is there, and the deletion of the object at the end.
//!
//! A task of its own, so that an API that is away never holds the Pod's owner.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{Input, Report};

/// First and longest pause between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
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

/// Brings the newest status to the API until the sender is dropped.
pub async fn run(
    client: kube::Client,
    namespace: String,
    name: String,
    uid: String,
    mut wanted: watch::Receiver<Wanted>,
    owner: mpsc::WeakSender<Input>,
) {
    let api: Api<Pod> = Api::namespaced(client, &namespace);
    let mut sent: Option<PodStatus> = None;
    loop {
        let mut pause = RETRY.0;
        loop {
            let now = wanted.borrow_and_update().clone();
            match bring(&api, &name, &uid, &now, &mut sent).await {
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
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn bring(
    api: &Api<Pod>,
    name: &str,
    uid: &str,
    wanted: &Wanted,
    sent: &mut Option<PodStatus>,
) -> Result<(), kube::Error> {
    if let Some(status) = &wanted.status
        && sent.as_ref() != Some(status)
    {
        let patch = json!({"metadata": {"uid": uid}, "status": patch(status, sent.as_ref())?});
        match api
            .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(_) => *sent = Some(status.clone()),
            // Gone, or another Pod of the same name: this status has no object any more.
            Err(kube::Error::Api(error)) if has_no_object(&error) => {
                tracing::debug!(
                    code = error.code,
                    message = error.message,
                    name,
                    "the status has no object"
                );
                *sent = Some(status.clone());
            }
            // Sent once more it would be refused once more; the next one may be accepted.
            Err(kube::Error::Api(error)) if error.code == 422 => {
                tracing::warn!(message = error.message, name, "the API server refuses the status");
                *sent = Some(status.clone());
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
