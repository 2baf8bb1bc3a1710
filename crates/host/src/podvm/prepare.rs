//! Preparing: images of containers and the files of all volumes, before there is a VM.
//!
//! A VM is made as soon as something can run in it; of the images that come later it gets disks while it runs. Volumes that
//! are not complete are waited for, with the kubelet's events and back-off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use images::Image;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::mpsc;

use super::boot::{NODE_FILES, furnish};
use super::fetch;
use super::tokens::HeldTokens;
use super::{Context, Input, Report};
use crate::datastore::attach::{self, VolumeDisk};
use crate::env::{self, Facts, Sources};
use crate::events::Kind;
use crate::objects::settled;
use crate::volumes::{self, References};

/// First and longest pause between attempts to set up volumes (kubelet: `exponentialBackOffOnError`).
const VOLUME_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));

/// What a boot needs.
pub struct Prepared {
    /// Images of containers, as far as they are here.
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
    let (first, (sources, tokens), mut disks, contents) = tokio::join!(
        fetch::first(&context, &pod, &owner),
        complete_sources(&context, &pod),
        complete_disks(&context, &pod),
        image_volumes(&context, &pod, &owner)
    );
    disks.extend(contents);
    let here = first
        .iter()
        .filter_map(|(name, first)| Some((name.clone(), first.image()?)));
    let prepared = Prepared {
        images: here.collect(),
        sources,
        tokens,
        disks,
        took: since.elapsed(),
    };
    let _ = owner
        .send(Input::Job(Report::Prepared(Box::new(prepared), first)))
        .await;
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
            let fetched = fetch::image(context, pod, &stand_in, owner, &|| {}).await;
            VolumeDisk::image(&volume.name, &fetched.image)
        })
    });
    futures::future::join_all(pulls).await
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
