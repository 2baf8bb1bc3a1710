//! Live volumes: when a ConfigMap, a Secret, a trust bundle, the Pod's metadata or a token's age asks for it, the files are written
//! again, and the guest swaps them in at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::WriteVolumeRequest;
use tokio::sync::watch;

use super::{Context, Machine, View, prepare};
use crate::objects::{Lookup, Subscription};
use crate::trust::TrustBundles;
use crate::volumes;

/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(200);
/// Tokens are renewed at four fifths of their life, and once a day (kubelet: `token_manager.go`).
const TOKEN_DAY: u64 = 24 * 3600;

/// Follows everything that the volumes of a Pod name, for as long as its VM lives. `stale`: nobody has followed it for a
/// while, so that everything is written once at the beginning.
pub async fn run(context: Arc<Context>, machine: Machine, view: watch::Receiver<View>, stale: bool) {
    let life = machine.life.clone();
    life.run_until_cancelled(follow(&context, &machine, view, stale))
        .await;
}

async fn follow(context: &Context, machine: &Machine, mut view: watch::Receiver<View>, mut stale: bool) {
    let pod = Arc::clone(&view.borrow().pod);
    let references = volumes::references(&pod);
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut maps = subscriptions(&references.config_maps, |name| {
        context.objects.config_map(&namespace, name)
    });
    let mut secrets = subscriptions(&references.secrets, |name| {
        context.objects.secret(&namespace, name)
    });
    let mut bundles = references.trust_bundles.then(|| {
        let mut bundles = context.objects.trust_bundles();
        bundles.mark_unchanged();
        bundles
    });
    let oldest = references
        .tokens
        .iter()
        .map(|token| u64::try_from(token.seconds).unwrap_or(600).min(TOKEN_DAY))
        .min();
    let mut written: BTreeMap<String, WriteVolumeRequest> = BTreeMap::new();
    let mut steps = context.clock.steps();
    let mut metadata = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
    loop {
        let renewal = async {
            match oldest {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds / 5 * 4)).await,
                None => std::future::pending().await,
            }
        };
        let relabelled = async {
            loop {
                if view.changed().await.is_err() {
                    return std::future::pending::<()>().await;
                }
                let pod = Arc::clone(&view.borrow_and_update().pod);
                let now = (pod.metadata.labels.clone(), pod.metadata.annotations.clone());
                if now != metadata {
                    metadata = now;
                    return;
                }
            }
        };
        tokio::select! {
            () = std::future::ready(()), if stale => {}
            () = any_change(&mut maps) => {}
            () = any_change(&mut secrets) => {}
            () = other_bundles(&mut bundles) => {}
            () = renewal => {}
            // By another clock they may have expired, or not yet begun.
            Ok(()) = steps.changed(), if oldest.is_some() => {}
            () = relabelled => {}
        }
        stale = false;
        tokio::time::sleep(GATHER).await;
        let (pod, size) = {
            let view = view.borrow();
            (Arc::clone(&view.pod), view.size)
        };
        let (sources, tokens) = prepare::volume_sources(context, &pod).await;
        let facts = context.facts(Some(machine.ip), size);
        match volumes::files(&pod, &sources, &tokens, &facts) {
            Ok(files) => write(machine, files, &mut written).await,
            // What was there stays, as with the kubelet.
            Err(error) => tracing::warn!(%error, "a volume keeps its old content"),
        }
    }
}

async fn write(
    machine: &Machine,
    files: Vec<WriteVolumeRequest>,
    written: &mut BTreeMap<String, WriteVolumeRequest>,
) {
    for request in files {
        if written.get(&request.volume) == Some(&request) {
            continue;
        }
        let Ok(mut client) = machine.guest.client().await else {
            return;
        };
        match client.write_volume(request.clone()).await {
            Ok(_) => {
                written.insert(request.volume.clone(), request);
            }
            Err(status) => tracing::warn!(volume = request.volume, %status, "a volume keeps its old content"),
        }
    }
}

/// Waits until the trust bundles are known to be others than before.
async fn other_bundles(bundles: &mut Option<watch::Receiver<Option<Arc<TrustBundles>>>>) {
    if let Some(bundles) = bundles {
        loop {
            // The first answer is what was written at the boot.
            let first = bundles.borrow().is_none();
            if bundles.changed().await.is_err() {
                break;
            }
            if !first {
                return;
            }
        }
    }
    std::future::pending().await
}

fn subscriptions<K>(names: &[String], subscribe: impl Fn(&str) -> Subscription<K>) -> Vec<Subscription<K>> {
    names
        .iter()
        .map(|name| {
            let mut subscription = subscribe(name);
            subscription.mark_unchanged();
            subscription
        })
        .collect()
}

/// Waits until one of the objects is known to be another than before.
async fn any_change<K>(subscriptions: &mut [Subscription<K>]) {
    if subscriptions.is_empty() {
        return std::future::pending().await;
    }
    let waits = subscriptions.iter_mut().map(|subscription| {
        Box::pin(async move {
            loop {
                // The first answer is what was written at the boot.
                let first = matches!(&*subscription.borrow(), Lookup::Unknown);
                if subscription.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if !first {
                    return;
                }
            }
        })
    });
    futures::future::select_all(waits).await;
}
