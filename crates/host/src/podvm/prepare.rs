//! Preparing: the images of all containers and the files of all volumes, before there is a VM.
//!
//! A VM has its disks from the boot, so all images are wanted first, init containers' included. What is missing is
//! waited for, with the kubelet's events and back-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use images::{Credentials, Image, Keyring, PullError, PullPolicy, PullProgress, PullSecret};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Secret, ServiceAccount};
use kube::Api;
use tokio::sync::mpsc;

use super::boot::{NODE_FILES, furnish};
use super::record::{container_of, records};
use super::tokens::HeldTokens;
use super::{Context, Input, Report};
use crate::backoff::{Backoff, Verdict};
use crate::datastore::attach::{self, VolumeDisk};
use crate::env::{self, Facts, Sources};
use crate::events::Kind;
use crate::objects::settled;
use crate::volumes::{self, References};

/// First and longest pause between attempts to set up volumes (kubelet: `exponentialBackOffOnError`).
const VOLUME_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// What a boot needs.
pub struct Prepared {
    /// Image of each container.
    pub images: BTreeMap<String, Arc<Image>>,
    /// What the volumes are made of: enough that they can be written once the address is known.
    pub sources: Sources,
    /// Tokens in the volumes.
    pub tokens: HeldTokens,
    /// Disks that are PersistentVolumes.
    pub disks: Vec<VolumeDisk>,
    /// How long all that took.
    pub took: Duration,
}

/// Gathers everything; tries for as long as the Pod is wanted.
pub async fn run(context: Arc<Context>, pod: Arc<Pod>, owner: mpsc::Sender<Input>) {
    super::handler::wait(&context, &pod).await;
    let since = std::time::Instant::now();
    let images = async {
        let pulls = records(&pod).into_iter().filter_map(|record| {
            let container = container_of(&pod, &record.name)?.into_owned();
            Some(image(&context, &pod, container, &owner))
        });
        futures::future::join_all(pulls).await.into_iter().collect()
    };
    let (images, (sources, tokens), mut disks, contents) = tokio::join!(
        images,
        complete_sources(&context, &pod),
        complete_disks(&context, &pod),
        image_volumes(&context, &pod, &owner)
    );
    disks.extend(contents);
    let prepared = Prepared {
        images,
        sources,
        tokens,
        disks,
        took: since.elapsed(),
    };
    let _ = owner.send(Input::Job(Report::Prepared(Box::new(prepared)))).await;
}

/// Brings the images of image volumes. Whoever mounts one first shows what a pull has to say.
async fn image_volumes(context: &Context, pod: &Pod, owner: &mpsc::Sender<Input>) -> Vec<VolumeDisk> {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let pulls = volumes.unwrap_or_default().iter().filter_map(|volume| {
        let source = volume.image.as_ref()?;
        let mounts = |container: &&Container| {
            let mut mounts = container.volume_mounts.iter().flatten();
            mounts.any(|mount| mount.name == volume.name)
        };
        let shown = env::all_containers(pod).find(mounts);
        let stand_in = Container {
            name: shown.map(|container| container.name.clone()).unwrap_or_default(),
            image: source.reference.clone(),
            image_pull_policy: source.pull_policy.clone(),
            ..Container::default()
        };
        Some(async move {
            let (_, image) = image(context, pod, stand_in, owner).await;
            VolumeDisk::image(&volume.name, &image)
        })
    });
    futures::future::join_all(pulls).await
}

fn policy(container: &Container) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        _ => PullPolicy::IfNotPresent,
    }
}

/// Brings one container's image, however long it takes.
pub(super) async fn image(
    context: &Context,
    pod: &Pod,
    container: Container,
    owner: &mpsc::Sender<Input>,
) -> (String, Arc<Image>) {
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
        let (reason, message) = match pull(context, pod, &container, &reference).await {
            Ok(image) => return (name.clone(), image),
            Err(failure) => failure,
        };
        event(Kind::Warning, "Failed", format!("Error: {reason}"));
        report(reason, message.clone()).await;
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

/// One attempt; the error is reason and message of the waiting state.
async fn pull(
    context: &Context,
    pod: &Pod,
    container: &Container,
    reference: &str,
) -> Result<Arc<Image>, (&'static str, String)> {
    let event = |kind, reason, message: String| {
        context
            .recorder
            .container(pod, &container.name, kind, reason, message);
    };
    let policy = policy(container);
    let secrets = pull_secrets(context, pod).await;
    let found = credentials(&secrets, reference);
    let has = found.as_deref().unwrap_or_default();
    let here = context.deps.images.usable(reference, has).is_some();
    if policy == PullPolicy::Always || (policy == PullPolicy::IfNotPresent && !here) {
        event(Kind::Normal, "Pulling", format!("Pulling image \"{reference}\""));
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
    let started = std::time::Instant::now();
    let progress = |progress: PullProgress| tracing::debug!(reference, ?progress, "pulling");
    let images = &context.deps.images;
    match images.ensure(reference, policy, &credentials, &progress).await {
        Ok(pulled) => {
            let message = if !pulled.asked {
                format!(
                    "Container image \"{reference}\" already present on machine and can be accessed by the pod"
                )
            } else {
                format!(
                    "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {size} bytes.",
                    took = go_duration(started.elapsed()),
                    size = pulled.image.size_bytes
                )
            };
            event(Kind::Normal, "Pulled", message);
            Ok(pulled.image)
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

/// What all volumes need, as soon as it exists.
async fn complete_sources(context: &Context, pod: &Pod) -> (Sources, HeldTokens) {
    let references = volumes::references(pod);
    let mut tokens = HeldTokens::default();
    let mut pause = VOLUME_PAUSE.0;
    loop {
        let sources = volume_sources(context, pod, &references).await;
        tokens.renew(context, pod, &references.tokens).await;
        let files = volumes::files(pod, &sources, &tokens.texts(), &Facts::default());
        match files.and_then(|_| host_paths(context, pod)) {
            Ok(()) => return (sources, tokens),
            Err(error) => context
                .recorder
                .pod(pod, Kind::Warning, "FailedMount", error.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(VOLUME_PAUSE.1);
    }
}

/// Looks at what the Pod wants of the node's file system.
fn host_paths(context: &Context, pod: &Pod) -> Result<(), volumes::VolumeError> {
    if !volumes::uses_node(pod, &[]) {
        return Ok(());
    }
    let node = context.config.data_dir.join(NODE_FILES);
    if let Err(error) = furnish(&node, &context.config) {
        // The boot fails with it, and says so.
        tracing::warn!(%error, "the node's file system");
    }
    crate::host_paths::check(pod, &node)
}

/// Looks at what claims stand for in the node's file system.
fn claimed_paths(context: &Context, disks: Vec<VolumeDisk>) -> Result<Vec<VolumeDisk>, volumes::VolumeError> {
    let node = context.config.data_dir.join(NODE_FILES);
    crate::host_paths::check_claimed(&disks, &node)?;
    Ok(disks)
}

/// The disks of all claims, as soon as they are bound.
async fn complete_disks(context: &Context, pod: &Pod) -> Vec<VolumeDisk> {
    let mut pause = VOLUME_PAUSE.0;
    loop {
        let disks = attach::resolve(&context.deps.client, &context.datastore, pod).await;
        let disks = disks.map_err(|error| error.to_string());
        match disks.and_then(|disks| claimed_paths(context, disks).map_err(|error| error.to_string())) {
            Ok(disks) => return disks,
            Err(message) => context.recorder.pod(pod, Kind::Warning, "FailedMount", message),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(VOLUME_PAUSE.1);
    }
}

/// The objects that the volumes of a Pod name, as they are now.
pub async fn volume_sources(context: &Context, pod: &Pod, references: &References) -> Sources {
    let mut sources = objects(context, pod, &references.config_maps, &references.secrets).await;
    if references.trust_bundles {
        sources.trust_bundles = context.objects.known_trust_bundles().await;
    }
    sources
}

/// The objects that a container's environment names, as they are now, with the Services of the namespace.
pub async fn environment_sources(context: &Context, pod: &Pod, container: &Container) -> Sources {
    let (config_maps, secrets) = env::references(container);
    let mut sources = objects(context, pod, &config_maps, &secrets).await;
    sources.services = context
        .services
        .visible(pod.metadata.namespace.as_deref().unwrap_or_default())
        .await;
    sources
}

async fn objects(context: &Context, pod: &Pod, config_maps: &[String], secrets: &[String]) -> Sources {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut sources = Sources::default();
    for name in config_maps {
        if let Some(found) = settled(&mut context.objects.config_map(namespace, name)).await {
            sources.config_maps.insert(name.clone(), (*found).clone());
        }
    }
    for name in secrets {
        if let Some(found) = settled(&mut context.objects.secret(namespace, name)).await {
            sources.secrets.insert(name.clone(), (*found).clone());
        }
    }
    sources
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
