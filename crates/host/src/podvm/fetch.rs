//! Images on their way to containers: pulled with the kubelet's events and back-off, each for itself.
//!
//! Upstream pulls an image when its container is to start. Here those that are wanted later are fetched from the beginning
//! too, silently, so that the VM has their disks when it boots; what is to be said of them is said at their turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use images::{Credentials, Image, Keyring, PullError, PullPolicy, PullProgress, PullSecret};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret, ServiceAccount};
use kube::Api;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::record::{Record, Role, container_of, records};
use super::{Context, Input, Report};
use crate::backoff::{Backoff, Verdict};
use crate::events::Kind;
use crate::objects::settled;

/// How long a VM that could boot waits for further images: a disk that is there from the beginning need not be plugged in.
const LATE: Duration = Duration::from_secs(5);

/// Takes an event of a container.
type Tell<'a> = dyn Fn(Kind, &'static str, String) + Send + Sync + 'a;

/// An image that is here.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The image.
    pub image: Arc<Image>,
    /// Whether its registry was asked for it.
    pub asked: bool,
    /// For how long.
    pub took: Duration,
}

/// How far an image is.
#[derive(Debug, Clone)]
enum Progress {
    /// On its way for the first time.
    Coming,
    /// An attempt has failed; others follow.
    Failing,
    /// Here.
    Here(Fetched),
    /// It has failed, and nobody was told: whoever wants it begins anew.
    Over,
}

/// The first image of a container. Nobody brings it any more when this is dropped.
#[derive(Debug)]
pub struct First {
    /// What there is to say is said while it comes.
    told: bool,
    progress: watch::Receiver<Progress>,
    _task: AbortOnDropHandle<()>,
}

impl First {
    /// The image, if it is here.
    pub fn image(&self) -> Option<Arc<Image>> {
        match &*self.progress.borrow() {
            Progress::Here(fetched) => Some(Arc::clone(&fetched.image)),
            _ => None,
        }
    }

    /// Waits for it at its container's turn, and says what has not been said. None: it is to be brought anew.
    pub async fn wait(mut self, context: &Context, pod: &Pod, container: &Container) -> Option<Fetched> {
        let event = |kind, reason, message: String| {
            let recorder = &context.recorder;
            recorder.container(pod, &container.name, kind, reason, message);
        };
        let reference = container.image.as_deref().unwrap_or_default();
        let coming = matches!(*self.progress.borrow(), Progress::Coming);
        if coming && !self.told {
            tell_pulling(&event, reference);
        }
        let ends = |progress: &Progress| matches!(progress, Progress::Here(_) | Progress::Over);
        let found = self.progress.wait_for(ends).await.ok()?.clone();
        let Progress::Here(fetched) = found else {
            return None;
        };
        if !self.told {
            if fetched.asked && !coming {
                tell_pulling(&event, reference);
            }
            tell_pulled(&event, reference, &fetched);
        }
        Some(fetched)
    }
}

/// Begins to bring the images of all containers, and waits until something can run: the first init container, or any of the
/// ordinary ones if there is none; and then a moment for the rest.
pub async fn first(
    context: &Arc<Context>,
    pod: &Arc<Pod>,
    owner: &mpsc::Sender<Input>,
) -> HashMap<String, First> {
    let records = records(pod);
    let (poke, mut poked) = mpsc::channel(1);
    let begin = |record: &Record| {
        let container = container_of(pod, &record.name)?.into_owned();
        let told = begins(&records, record);
        let (sender, progress) = watch::channel(Progress::Coming);
        let (context, pod, owner) = (Arc::clone(context), Arc::clone(pod), owner.clone());
        let poke = poke.clone();
        let task = tokio::spawn(async move {
            let set = |progress| {
                sender.send_replace(progress);
                // One that is full will be looked at anyway.
                let _ = poke.try_send(());
            };
            let result = match told {
                true => Ok(image(&context, &pod, &container, &owner, &|| set(Progress::Failing)).await),
                false => pull(&context, &pod, &container, &|_, _, _| {}).await,
            };
            set(result.map_or(Progress::Over, Progress::Here));
        });
        let first = First {
            told,
            progress,
            _task: AbortOnDropHandle::new(task),
        };
        Some((record.name.clone(), first))
    };
    let all: HashMap<String, First> = records.iter().filter_map(begin).collect();
    let mut late = None;
    loop {
        let here = |record: &Record| all.get(&record.name).is_some_and(|first| first.image().is_some());
        let enough = records
            .iter()
            .any(|record| begins(&records, record) && here(record));
        let settled = |first: &First| !matches!(*first.progress.borrow(), Progress::Coming);
        if records.is_empty() || enough && all.values().all(settled) {
            return all;
        }
        if enough && late.is_none() {
            late = Some(Instant::now() + LATE);
        }
        let passed = async {
            match late {
                Some(late) => tokio::time::sleep_until(late).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = poked.recv() => {}
            () = passed => return all,
        }
    }
}

/// Whether a container is among those that start as soon as there is a VM.
fn begins(records: &[Record], record: &Record) -> bool {
    let init = |record: &&Record| matches!(record.role, Role::Init | Role::Sidecar);
    match record.role {
        Role::Init | Role::Sidecar | Role::Main => match records.iter().find(init) {
            Some(first) => first.name == record.name,
            None => true,
        },
        Role::Ephemeral => true,
    }
}

/// When a container's image is looked for elsewhere.
pub fn policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

/// Brings one container's image, however long it takes. `failed` is called when an attempt has come to nothing.
pub async fn image(
    context: &Context,
    pod: &Pod,
    container: &Container,
    owner: &mpsc::Sender<Input>,
    failed: &(dyn Fn() + Send + Sync),
) -> Fetched {
    let reference = container.image.clone().unwrap_or_default();
    let name = &container.name;
    let mut backoff = Backoff::default();
    let report = |reason: &'static str, message: String| {
        let container = name.clone();
        async move {
            let report = Report::Pulling {
                container,
                reason,
                message,
            };
            let _ = owner.send(Input::Job(report)).await;
        }
    };
    let event = |kind, reason, message: String| context.recorder.container(pod, name, kind, reason, message);
    loop {
        let (reason, message) = match pull(context, pod, container, &event).await {
            Ok(fetched) => return fetched,
            Err(failure) => failure,
        };
        event(Kind::Warning, "Failed", format!("Error: {reason}"));
        report(reason, message.clone()).await;
        failed();
        backoff.next(Timestamp::now(), Timestamp::now());
        let (waiting, words) = if reason == "ErrImagePull" {
            (
                "ImagePullBackOff",
                format!("Back-off pulling image \"{reference}\": ErrImagePull: {message}"),
            )
        } else {
            (reason, message)
        };
        let Verdict::Wait(until, delay) = backoff.pending(Timestamp::now()) else {
            continue;
        };
        if waiting == "ImagePullBackOff" {
            // The error itself is seen for a moment before it becomes a back-off, as with the kubelet's next sync.
            tokio::time::sleep(Duration::from_secs(2)).await;
            event(
                Kind::Normal,
                "BackOff",
                format!("Back-off pulling image \"{reference}\""),
            );
            event(Kind::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
            report(waiting, words).await;
        }
        let left = until.duration_since(Timestamp::now());
        // Not longer, though the clock be set back meanwhile.
        tokio::time::sleep(Duration::try_from(left).unwrap_or_default().min(delay)).await;
    }
}

/// Tells that an image is asked for.
pub fn tell_pulling(event: &Tell<'_>, reference: &str) {
    event(Kind::Normal, "Pulling", format!("Pulling image \"{reference}\""));
}

/// Tells that an image is here.
pub fn tell_pulled(event: &Tell<'_>, reference: &str, fetched: &Fetched) {
    let message = match fetched.asked {
        false => present(reference),
        true => format!(
            "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {size} bytes.",
            took = go_duration(fetched.took),
            size = fetched.image.size_bytes
        ),
    };
    event(Kind::Normal, "Pulled", message);
}

/// What is said of an image that nobody had to be asked for.
pub fn present(reference: &str) -> String {
    format!("Container image \"{reference}\" already present on machine and can be accessed by the pod")
}

/// One attempt; the error is reason and message of the waiting state.
async fn pull(
    context: &Context,
    pod: &Pod,
    container: &Container,
    event: &Tell<'_>,
) -> Result<Fetched, (&'static str, String)> {
    let reference = container.image.as_deref().unwrap_or_default();
    let policy = policy(container);
    let secrets = pull_secrets(context, pod).await;
    let found = credentials(&secrets, reference);
    let has = found.as_deref().unwrap_or_default();
    let here = context.deps.images.usable(reference, has).is_some();
    if policy == PullPolicy::Always || (policy == PullPolicy::IfNotPresent && !here) {
        tell_pulling(event, reference);
    }
    let failed = |text: String| {
        event(
            Kind::Warning,
            "Failed",
            format!("Failed to pull image \"{reference}\": {text}"),
        );
        ("ErrImagePull", text)
    };
    let credentials = found.map_err(failed)?;
    let started = Instant::now();
    let progress = |progress: PullProgress| tracing::debug!(reference, ?progress, "pulling");
    let images = &context.deps.images;
    match images.ensure(reference, policy, &credentials, &progress).await {
        Ok(pulled) => {
            let fetched = Fetched {
                image: pulled.image,
                asked: pulled.asked,
                took: started.elapsed(),
            };
            tell_pulled(event, reference, &fetched);
            Ok(fetched)
        }
        Err(PullError::Reference(error)) => {
            let message = format!(
                "Failed to apply default image tag \"{reference}\": couldn't parse image name \"{reference}\": {error}"
            );
            event(Kind::Warning, "InspectFailed", message.clone());
            Err(("InvalidImageName", message))
        }
        Err(error @ PullError::NeverPull(_)) => {
            event(Kind::Warning, "ErrImageNeverPull", error.to_string());
            Err(("ErrImageNeverPull", error.to_string()))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// A duration as Go prints it, to milliseconds: `1.234s`, `87ms`, `2m3.5s`.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = |millis: u128| {
        let text = format!("{}.{:03}", millis / 1000, millis % 1000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if millis < 60_000 {
        return format!("{}s", seconds(millis));
    }
    format!("{}m{}s", millis / 60_000, seconds(millis % 60_000))
}

/// The Pod's and its service account's pull secrets. What is missing is told, and the pull is tried without.
async fn pull_secrets(context: &Context, pod: &Pod) -> Vec<Arc<Secret>> {
    let (Some(spec), Some(namespace)) = (pod.spec.as_ref(), pod.metadata.namespace.as_deref()) else {
        return Vec::new();
    };
    let mut names: Vec<String> = spec
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|reference| reference.name.clone())
        .collect();
    if names.is_empty()
        && let Some(account) = spec.service_account_name.as_deref()
    {
        let api: Api<ServiceAccount> = Api::namespaced(context.deps.client.clone(), namespace);
        let found = tokio::time::timeout(Duration::from_secs(5), api.get_opt(account)).await;
        if let Ok(Ok(Some(account))) = found {
            names.extend(account.image_pull_secrets.into_iter().flatten().map(|r| r.name));
        }
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        match settled(&mut context.objects.secret(namespace, &name)).await {
            Some(secret) => found.push(secret),
            None => missing.push(name),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        let reason = "FailedToRetrieveImagePullSecret";
        context.recorder.pod(pod, Kind::Warning, reason, message);
    }
    found
}

/// What pull secrets have for an image, in the order in which it is tried.
fn credentials(secrets: &[Arc<Secret>], reference: &str) -> Result<Vec<Credentials>, String> {
    let mut keyring = Keyring::default();
    for secret in secrets {
        let field = |kind: &str, name: &str| {
            let data = secret.data.as_ref()?.get(name)?;
            (secret.type_.as_deref() == Some(kind) && !data.0.is_empty()).then_some(data.0.as_slice())
        };
        let read = |bytes: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(bytes).map_err(|error| error.to_string())
        };
        let entries = match field("kubernetes.io/dockerconfigjson", ".dockerconfigjson") {
            Some(bytes) => read(bytes)?["auths"].take(),
            None => match field("kubernetes.io/dockercfg", ".dockercfg") {
                Some(bytes) => read(bytes)?,
                None => continue,
            },
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let secret = PullSecret {
            namespace: text(&secret.metadata.namespace),
            name: text(&secret.metadata.name),
            uid: text(&secret.metadata.uid),
        };
        keyring
            .add(&entries, &secret)
            .map_err(|error| error.to_string())?;
    }
    // A reference that is none is told by the pull.
    Ok(reference
        .parse()
        .map(|image| keyring.of(&image))
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[test]
    fn durations_as_go_prints_them() {
        let cases = [(87, "87ms"), (1234, "1.234s"), (2000, "2s"), (123_500, "2m3.5s")];
        for (millis, expected) in cases {
            assert_eq!(go_duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn secrets_are_read_by_their_type() {
        let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
        let old = r#"{"quay.io":{"auth":"dTpw"}}"#;
        let secret = |kind: &str, key: &str, text: &str| {
            Arc::new(Secret {
                type_: Some(kind.to_owned()),
                data: Some([(key.to_owned(), ByteString(text.into()))].into()),
                ..Secret::default()
            })
        };
        let (new_kind, old_kind) = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg");
        let cases = [
            (secret(new_kind, ".dockerconfigjson", config), "redis:7", Ok(1)),
            (
                secret(new_kind, ".dockerconfigjson", config),
                "quay.io/x/y:1",
                Ok(0),
            ),
            (secret(old_kind, ".dockercfg", old), "quay.io/x/y:1", Ok(1)),
            (secret("Opaque", ".dockerconfigjson", config), "redis:7", Ok(0)),
            (secret(old_kind, ".dockerconfigjson", config), "redis:7", Ok(0)),
            (secret(new_kind, ".dockerconfigjson", "{}"), "redis:7", Ok(0)),
            (secret(new_kind, ".dockerconfigjson", config), "No Image", Ok(0)),
            (
                secret(old_kind, ".dockercfg", r#"{"quay.io":{"auth":"dQ=="}}"#),
                "redis:7",
                Err("unable to parse auth field, must be formatted as base64(username:password)".to_owned()),
            ),
        ];
        for (secret, image, expected) in cases {
            let found = credentials(&[Arc::clone(&secret)], image).map(|found| found.len());
            assert_eq!(found, expected, "{image}: {secret:?}");
        }
    }
}
