//! Live volumes: when a ConfigMap, a Secret, a trust bundle, the Pod's metadata or resources or a token's age asks for it, the files are written
//! again, and the guest swaps them in at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::WriteVolumeRequest;
use k8s_openapi::api::core::v1::Pod;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use super::resize::{self, Resources};
use super::tokens::HeldTokens;
use super::{Context, Machine, View, prepare};
use crate::events::Kind;
use crate::objects::{Lookup, Subscription};
use crate::trust::TrustBundles;
use crate::volumes::{self, References};

/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(200);
/// After a writing that the guest did not take.
const PAUSE: Duration = Duration::from_secs(5);

/// What a guest's volumes hold.
#[derive(Debug, Default)]
pub struct Written {
    /// Tokens in them.
    pub tokens: HeldTokens,
    /// A hash of each volume's files: readers see no change where there is none.
    volumes: BTreeMap<String, [u8; 32]>,
}

impl Written {
    /// This is being written; answers whether it is anything new.
    pub fn note(&mut self, request: &WriteVolumeRequest) -> bool {
        let hash = Sha256::digest(request.encode_to_vec()).into();
        self.volumes.insert(request.volume.clone(), hash) != Some(hash)
    }
}

/// Follows everything that the volumes of a Pod name, for as long as its VM lives. `stale`: nobody has followed it for a
/// while, so that everything is written once at the beginning.
pub async fn run(context: Arc<Context>, machine: Machine, view: watch::Receiver<View>, stale: bool) {
    let life = machine.life.clone();
    life.run_until_cancelled(follow(&context, &machine, view, stale))
        .await;
}

async fn follow(context: &Context, machine: &Machine, mut view: watch::Receiver<View>, stale: bool) {
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
    let mut written = Written {
        tokens: machine.written.tokens.clone(),
        volumes: machine.written.volumes.clone(),
    };
    let mut again = stale.then(Instant::now);
    let mut steps = context.clock.steps();
    let mut shown = Shown::of(&pod);
    loop {
        let due = [written.tokens.due(), again].into_iter().flatten().min();
        let shows_other = async {
            loop {
                if view.changed().await.is_err() {
                    return std::future::pending::<()>().await;
                }
                let pod = Arc::clone(&view.borrow_and_update().pod);
                let now = Shown::of(&pod);
                if now != shown {
                    shown = now;
                    return;
                }
            }
        };
        tokio::select! {
            () = until(due) => {}
            () = any_change(&mut maps) => {}
            () = any_change(&mut secrets) => {}
            () = other_bundles(&mut bundles) => {}
            Ok(()) = steps.changed(), if !references.tokens.is_empty() => written.tokens.distrust(Instant::now()),
            () = shows_other => {}
        }
        tokio::time::sleep(GATHER).await;
        let pod = Arc::clone(&view.borrow().pod);
        let facts = context.facts(Some(machine.ip));
        let all = update(context, machine, &pod, &references, &facts, &mut written).await;
        again = (!all).then(|| Instant::now() + PAUSE);
    }
}

/// What `downwardAPI` volumes show of a Pod that can change while it runs.
#[derive(PartialEq)]
struct Shown {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    resources: Resources,
}

impl Shown {
    fn of(pod: &Pod) -> Self {
        Self {
            labels: pod.metadata.labels.clone(),
            annotations: pod.metadata.annotations.clone(),
            resources: resize::of(pod),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Writes what is new. Answers whether the guest has taken all of it.
async fn update(
    context: &Context,
    machine: &Machine,
    pod: &Pod,
    references: &References,
    facts: &crate::env::Facts,
    written: &mut Written,
) -> bool {
    let sources = prepare::volume_sources(context, pod, references).await;
    written.tokens.renew(context, pod, &references.tokens).await;
    let tokens = written.tokens.texts();
    let mut all = true;
    for request in volumes::each(pod, &sources, &tokens, facts) {
        let request = match request {
            Ok(request) => request,
            // What was there stays, as with the kubelet, until what is missing is there again.
            Err(error) => {
                let text = error.to_string();
                context.recorder.pod(pod, Kind::Warning, "FailedMount", text);
                continue;
            }
        };
        if !written.note(&request) {
            continue;
        }
        let volume = request.volume.clone();
        let answer = match machine.guest.client().await {
            Ok(mut client) => {
                let answer = client.write_volume(request).await;
                answer.map(drop).map_err(|status| status.to_string())
            }
            Err(gone) => Err(gone.to_string()),
        };
        if let Err(error) = answer {
            tracing::warn!(volume, %error, "a volume keeps its old content for now");
            written.volumes.remove(&volume);
            all = false;
        }
    }
    all
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
