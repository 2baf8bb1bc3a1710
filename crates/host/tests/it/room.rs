//! A host that is short of disk: images that nobody uses go first, then Pods, on a simulated host whose disk is a figure.

#![allow(clippy::unwrap_used)]

use super::common;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Host, NODE, Setup, condition, eventually};
use host::pressure::Thresholds;
use host::{ImageGc, ImageSource, NoImages};
use images::{Credentials, Image, PullError, PullPolicy, PullProgress, Pulled};
use parking_lot::Mutex;
use serde_json::json;

/// Bytes of the disk, of each image, and of what is neither.
const DISK: u64 = 1000;
const IMAGE: u64 = 100;

/// Images on a disk that is a figure: what is not theirs is somebody else's.
#[derive(Default)]
struct Shelf {
    images: Mutex<Vec<Arc<Image>>>,
    others: Mutex<u64>,
}

impl Shelf {
    fn names(&self) -> Vec<String> {
        let images = self.images.lock();
        images.iter().map(|image| image.repo_digest.clone()).collect()
    }

    fn holds(&self, name: &str) -> bool {
        self.names().iter().any(|digest| digest.contains(name))
    }

    async fn put(&self, name: &str) {
        let pulled = self.ensure(name, PullPolicy::IfNotPresent, &[], &|_| {}).await;
        pulled.unwrap();
    }
}

#[async_trait]
impl ImageSource for Shelf {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        let pulled = NoImages.ensure(reference, policy, credentials, progress).await?;
        let image = Arc::new(Image {
            size_bytes: IMAGE,
            disk: PathBuf::from(reference),
            ..(*pulled.image).clone()
        });
        let mut images = self.images.lock();
        if !images.iter().any(|known| known.id == image.id) {
            images.push(image.clone());
        }
        Ok(Pulled { image, ..pulled })
    }

    fn usable(&self, reference: &str, _: &[Credentials]) -> Option<Arc<Image>> {
        self.get(reference)
    }

    fn get(&self, reference: &str) -> Option<Arc<Image>> {
        let images = self.images.lock();
        let found = images.iter().find(|image| image.disk == Path::new(reference));
        found.cloned()
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        let images = self.images.lock();
        images.iter().map(|image| (image.clone(), Vec::new())).collect()
    }

    fn remove(&self, ids: &HashSet<String>) -> std::io::Result<u64> {
        let mut images = self.images.lock();
        let before = images.len();
        images.retain(|image| !ids.contains(&image.id));
        Ok((before - images.len()) as u64 * IMAGE)
    }

    fn space(&self) -> std::io::Result<(u64, u64)> {
        let taken = self.images.lock().len() as u64 * IMAGE + *self.others.lock();
        Ok((DISK, DISK.saturating_sub(taken)))
    }

    async fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<(String, String)>, String> {
        NoImages.import(archive, name).await
    }
}

/// A host on the shelf's disk, which is under pressure below a tenth of it; the machine's own disk never is.
fn setup(shelf: &Arc<Shelf>, high_percent: u8) -> Setup {
    Setup {
        pressure: Thresholds {
            disk_bytes: DISK,
            inodes_percent: 0,
            memory_bytes: 0,
            ..Thresholds::default()
        },
        image_gc: ImageGc {
            high_percent,
            min_age: Duration::ZERO,
            period: Duration::from_millis(20),
            ..ImageGc::default()
        },
        images: shelf.clone(),
        ..Setup::default()
    }
}

async fn told(host: &Host, object: &str, words: &str) {
    eventually(words, async || {
        host.events(object).await.iter().any(|event| event == words)
    })
    .await;
}

#[tokio::test]
async fn images_go_before_pods() {
    let shelf = Arc::new(Shelf::default());
    // Images are only looked after when the host is under pressure.
    let host = Host::set_up(setup(&shelf, 101)).await;
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example.test/used"}]});
    host.create("web", spec).await;
    host.ready("web").await;
    for name in ["example.test/one", "example.test/two"] {
        shelf.put(name).await;
    }
    *shelf.others.lock() = 650;
    told(
        &host,
        NODE,
        "EvictionThresholdMet: Attempting to reclaim ephemeral-storage",
    )
    .await;
    eventually("room", async || shelf.names().len() == 1).await;
    // What a Pod runs from stays, and so does the Pod: there is room enough by now.
    assert!(shelf.holds("example.test/used"), "{:?}", shelf.names());
    told(
        &host,
        NODE,
        "NodeHasDiskPressure: Node h1 status is now: NodeHasDiskPressure",
    )
    .await;
    let pod = host.pods().get("web").await.unwrap();
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    // With nothing else to give, a Pod goes.
    *shelf.others.lock() = 850;
    let pod = host.phase("web", "Failed").await;
    let status = pod.status.clone().unwrap();
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    let message = status.message.clone().unwrap();
    let words = "The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 50. ";
    assert!(message.starts_with(words), "{message}");
    // It is told that it did nothing wrong.
    assert_eq!(condition(&pod, "DisruptionTarget"), "True");
    let conditions = status.conditions.unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(target.reason.as_deref(), Some("TerminationByKubelet"));
    assert_eq!(target.message, status.message);
}

#[tokio::test]
async fn used_images_stay_whatever_the_marks_say() {
    let shelf = Arc::new(Shelf::default());
    let host = Host::set_up(setup(&shelf, 85)).await;
    let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "example.test/used"}]});
    host.create("web", spec).await;
    host.ready("web").await;
    for name in ["example.test/one", "example.test/two"] {
        shelf.put(name).await;
    }
    // From 150 free to 200 it is one image; as many as that go.
    *shelf.others.lock() = 550;
    eventually("an image's end", async || shelf.names().len() == 2).await;
    assert!(shelf.holds("example.test/used"), "{:?}", shelf.names());
    *shelf.others.lock() = 690;
    eventually("the other's end", async || shelf.names().len() == 1).await;
    // From 120 to 200 it would be one that there is not.
    *shelf.others.lock() = 780;
    told(
        &host,
        NODE,
        "FreeDiskSpaceFailed: Failed to garbage collect required amount of images. Attempted to free 80 bytes, but only \
         found 0 bytes eligible to free.",
    )
    .await;
    assert_eq!(shelf.names().len(), 1);
    assert!(shelf.holds("example.test/used"), "{:?}", shelf.names());
    let pod = host.pods().get("web").await.unwrap();
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"));
}

#[tokio::test]
async fn the_node_names_its_images() {
    let shelf = Arc::new(Shelf::default());
    shelf.put("example.test/one").await;
    let host = Host::set_up(setup(&shelf, 101)).await;
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(host.admin.clone());
    eventually("its images", async || {
        let status = nodes.get(NODE).await.unwrap().status.unwrap_or_default();
        let images = status.images.unwrap_or_default();
        let named = |image: &k8s_openapi::api::core::v1::ContainerImage| {
            let names = image.names.clone().unwrap_or_default();
            names[0].starts_with("example.test/one@sha256:") && image.size_bytes == Some(100)
        };
        images.len() == 1 && images.iter().all(named)
    })
    .await;
}
