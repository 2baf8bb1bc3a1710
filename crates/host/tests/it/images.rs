//! Images that do not come, come late or change: what goes on meanwhile, and what a container begins anew with, on a simulated
//! host with a registry that can be broken.

#![allow(clippy::unwrap_used)]

use super::common;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use common::{Host, Setup, condition, eventually, restarts, state};
use host::{ImageSource, NoImages};
use images::{Credentials, Image, PullError, PullPolicy, PullProgress, Pulled};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// A registry that has everything, but what it is told not to have; and whose tags can be moved.
#[derive(Default)]
struct Registry {
    missing: Mutex<HashSet<String>>,
    version: Mutex<u32>,
}

impl Registry {
    fn set_missing(&self, name: &str, missing: bool) {
        let mut all = self.missing.lock();
        match missing {
            true => all.insert(name.to_owned()),
            false => all.remove(name),
        };
    }
}

#[async_trait]
impl ImageSource for Registry {
    async fn ensure(
        &self,
        reference: &str,
        policy: PullPolicy,
        credentials: &[Credentials],
        progress: &(dyn Fn(PullProgress) + Send + Sync),
    ) -> Result<Pulled, PullError> {
        if self.missing.lock().contains(reference) {
            return Err(PullError::Resolve {
                image: reference.to_owned(),
                reason: "manifest unknown".to_owned(),
            });
        }
        let found = format!("{reference}-{}", *self.version.lock());
        NoImages.ensure(&found, policy, credentials, progress).await
    }

    fn usable(&self, _: &str, _: &[Credentials]) -> Option<Arc<Image>> {
        None
    }

    fn get(&self, _: &str) -> Option<Arc<Image>> {
        None
    }

    fn list(&self) -> Vec<(Arc<Image>, Vec<String>)> {
        Vec::new()
    }

    fn remove(&self, _: &HashSet<String>) -> std::io::Result<u64> {
        Ok(0)
    }

    fn space(&self) -> std::io::Result<(u64, u64)> {
        Ok((1, 1))
    }

    async fn import(&self, archive: &Path, name: Option<&str>) -> Result<Vec<(String, String)>, String> {
        NoImages.import(archive, name).await
    }
}

const BAD: &str = "example.test/bad:1";

async fn host(registry: &Arc<Registry>) -> Host {
    Host::set_up(Setup {
        images: registry.clone(),
        ..Setup::default()
    })
    .await
}

fn container(name: &str, image: &str) -> Value {
    json!({"name": name, "image": image, "args": ["serve"]})
}

fn waits_for_image(pod: &Pod, name: &str) -> bool {
    ["ErrImagePull", "ImagePullBackOff"].contains(&state(pod, name).as_str())
}

fn status(pod: &Pod) -> ContainerStatus {
    pod.status.clone().unwrap().container_statuses.unwrap().remove(0)
}

/// Of two containers one runs, though the other has no image; whose image is changed begins at once.
#[tokio::test]
async fn one_without_an_image_holds_up_nobody_else() {
    let registry = Arc::new(Registry::default());
    registry.set_missing(BAD, true);
    let host = host(&registry).await;
    let spec = json!({"containers": [container("bad", BAD), container("good", "example.test/good:1")]});
    host.create("two", spec).await;
    let pod = host
        .wait("two", "half there", |pod| {
            state(pod, "good") == "running" && waits_for_image(pod, "bad")
        })
        .await;
    assert!(pod.status.as_ref().unwrap().pod_ip.is_some());
    assert_eq!(condition(&pod, "PodReadyToStartContainers"), "True");
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    let patch = json!({"spec": {"containers": [{"name": "bad", "image": "example.test/cure:1"}]}});
    let params = PatchParams::default();
    host.pods()
        .patch("two", &params, &Patch::Strategic(patch))
        .await
        .unwrap();
    let pod = host.ready("two").await;
    assert_eq!(restarts(&pod), 0);
    // Without any image there is nothing that a VM could run.
    host.delete("two", None).await;
    host.create("none", json!({"containers": [container("bad", BAD)]}))
        .await;
    host.wait("none", "without an image", |pod| waits_for_image(pod, "bad"))
        .await;
    assert_eq!(host.driver.count(), 0);
    // But whoever is to look into it may come.
    let patch =
        json!({"spec": {"ephemeralContainers": [{"name": "doctor", "image": "example.test/good:1"}]}});
    host.pods()
        .patch_ephemeral_containers("none", &params, &Patch::Strategic(patch))
        .await
        .unwrap();
    let looks = |pod: &Pod| {
        let list = pod.status.clone().unwrap().ephemeral_container_statuses;
        list.is_some_and(|list| list[0].state.as_ref().unwrap().running.is_some())
    };
    host.wait("none", "looked at", looks).await;
    host.delete("none", None).await;
    assert_eq!(host.driver.count(), 0);
}

/// Init containers run, and nothing is said of an image before it is its container's turn.
#[tokio::test]
async fn init_containers_do_not_wait_for_images_of_others() {
    let registry = Arc::new(Registry::default());
    registry.set_missing(BAD, true);
    let host = host(&registry).await;
    let spec = json!({"initContainers": [container("first", "example.test/good:1")],
        "containers": [container("bad", BAD)]});
    host.create("web", spec).await;
    let pod = host
        .wait("web", "in its first container", |pod| {
            state(pod, "first") == "running"
        })
        .await;
    assert_eq!(state(&pod, "bad"), "PodInitializing");
    let events = host.events("web").await;
    assert!(
        !events.iter().any(|event| event.starts_with("Failed")),
        "{events:#?}"
    );
    host.guest(&pod).end("first_0", 0, false);
    host.wait("web", "without an image", |pod| waits_for_image(pod, "bad"))
        .await;
    // It never ran: nothing of it is left to wait when its Pod has failed.
    let patch = json!({"spec": {"activeDeadlineSeconds": 1}});
    host.pods()
        .patch("web", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    let pod = host.phase("web", "Failed").await;
    assert_eq!(state(&pod, "bad"), "ContainerStatusUnknown 137");
}

/// A container that always asks for its image begins anew with another one, or waits for it; others say that it is here.
#[tokio::test]
async fn restarts_look_for_the_image() {
    let registry = Arc::new(Registry::default());
    let host = host(&registry).await;
    let image = "example.test/app:1";
    for (name, policy) in [("always", "Always"), ("once", "IfNotPresent")] {
        let mut container = container("app", image);
        container["imagePullPolicy"] = json!(policy);
        host.create(name, json!({"containers": [container]})).await;
    }
    let (always, once) = (host.ready("always").await, host.ready("once").await);
    let guests = [host.guest(&always), host.guest(&once)];
    *registry.version.lock() = 1;
    guests.iter().for_each(|guest| guest.end("app_0", 1, false));
    let again = |pod: &Pod| restarts(pod) == 1 && state(pod, "app") == "running";
    let moved = host.wait("always", "running again", again).await;
    assert_ne!(status(&moved).image_id, status(&always).image_id);
    let same = host.wait("once", "running again", again).await;
    assert_eq!(status(&same).image_id, status(&once).image_id);
    let serials = |guest: &guest_api::simulated::SimulatedGuest| {
        ["app_0", "app_1"].map(|run| guest.request(run).unwrap().image_serial)
    };
    let [before, after] = serials(&guests[0]);
    assert_ne!(before, after);
    let [before, after] = serials(&guests[1]);
    assert_eq!(before, after);
    let words = format!(
        "Pulled: Container image \"{image}\" already present on machine and can be accessed by the pod"
    );
    eventually("the event", async || host.events("once").await.contains(&words)).await;

    registry.set_missing(image, true);
    guests[0].end("app_1", 3, false);
    let pod = host
        .wait("always", "without its image", |pod| waits_for_image(pod, "app"))
        .await;
    let status = status(&pod);
    assert_eq!(status.restart_count, 1);
    assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 3);
    // Nor is it a failure of its start that it is deleted meanwhile.
    host.delete("always", None).await;
    let events = host.events("always").await;
    assert!(
        !events.iter().any(|event| event.contains("VM has ended")),
        "{events:#?}"
    );
}
