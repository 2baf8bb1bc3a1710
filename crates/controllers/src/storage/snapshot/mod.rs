//! Snapshots of volumes (upstream: the `snapshot-controller` of external-snapshotter).
//!
//! ```text
//! VolumeSnapshot of a claim ──► VolumeSnapshotContent, tied to the volume's host ──► the host copies: readyToUse
//!       ▲ status, events ◄──────────────── status ◄──────────────────────────────────────┘
//! deleted ──► its content is marked and deleted ──► the host deletes the copy, then the finalizers go
//! ```
//! The host agent's side is `host::datastore::snapshot`. Claims that are to be filled from a snapshot or another claim
//! learn here on which host their data are; the scheduler keeps to it.

mod kinds;
mod origin;
#[cfg(test)]
mod tests;

pub(crate) use kinds::SnapshotKinds;
pub use origin::origin;

use super::events::Teller;
use super::{CLAIMS, PROVISIONER, VOLUMES, has_finalizer, with_finalizer, without_finalizer};
use crate::manager::Reconciler;
use crate::obj::{annotation, deleting, items, meta, now, text};
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const GROUP: &str = "snapshot.storage.k8s.io";
const SNAPSHOTS: &str = "volumesnapshots.snapshot.storage.k8s.io";
const CONTENTS: &str = "volumesnapshotcontents.snapshot.storage.k8s.io";
const CLASSES: &str = "volumesnapshotclasses.snapshot.storage.k8s.io";

/// Keeps a snapshot while a claim is filled from it, and while it has a content.
const AS_SOURCE: &str = "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
const BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// Keeps a content until its copy is gone.
const CONTENT: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// Keeps a claim while it is copied.
const CLAIM: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
/// Annotation: the content may go, its snapshot goes too.
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// Annotation of the default class.
const DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";
/// Annotation: the host whose datastore holds a snapshot, or the data that a claim is to be filled with.
pub(super) const NODE: &str = "datastore.podvisor.io/node";

/// The kinds are served a moment after they were defined.
const NOT_SERVED: Duration = Duration::from_millis(200);

/// The controller.
#[derive(Default)]
pub(crate) struct Snapshots {
    teller: Teller,
    class: AtomicBool,
}

/// A problem of a snapshot: reason of the event and words.
type Problem = (&'static str, String);

/// The host of a volume of the datastore.
fn home(volume: &Value) -> &str {
    let expressions = items(
        volume,
        "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions",
    );
    expressions
        .iter()
        .find(|e| e["key"] == "kubernetes.io/hostname" && e["operator"] == "In")
        .map_or("", |e| text(e, "/values/0"))
}

/// The class that snapshots get which name none (the newest of several defaults of a driver is no default).
fn default_class<'a>(classes: &'a [Arc<Value>], driver: &str) -> Result<&'a str, String> {
    let mut all = classes
        .iter()
        .filter(|class| annotation(class, DEFAULT) == "true" && text(class, "/driver") == driver);
    match (all.next(), all.next()) {
        (None, _) => Err("cannot find default snapshot class".into()),
        (Some(class), None) => Ok(meta(class, "name")),
        (Some(_), Some(_)) => Err(format!("{} default snapshot classes were found", 2 + all.count())),
    }
}

/// The content of a snapshot of a claim.
fn content(snapshot: &Value, class: &Value, volume: &Value) -> Value {
    let mode = match text(volume, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    };
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotContent",
        "metadata": {
            "name": format!("snapcontent-{}", meta(snapshot, "uid")),
            "finalizers": [CONTENT], "annotations": {NODE: home(volume)},
        },
        "spec": {
            "deletionPolicy": class["deletionPolicy"], "driver": class["driver"], "sourceVolumeMode": mode,
            "source": {"volumeHandle": volume["spec"]["csi"]["volumeHandle"]},
            "volumeSnapshotClassName": meta(class, "name"),
            "volumeSnapshotRef": {
                "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshot", "uid": meta(snapshot, "uid"),
                "namespace": meta(snapshot, "namespace"), "name": meta(snapshot, "name"),
                "resourceVersion": meta(snapshot, "resourceVersion"),
            },
        },
    })
}

/// What a snapshot shows of its content.
fn status(content: &Value) -> Value {
    let of = &content["status"];
    let mut status = json!({
        "boundVolumeSnapshotContentName": meta(content, "name"),
        "readyToUse": of["readyToUse"] == true,
    });
    if let Some(time) = of["creationTime"].as_i64()
        && let Ok(time) = jiff::Timestamp::from_nanosecond(time.into())
    {
        status["creationTime"] = json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    if let Some(size) = of["restoreSize"].as_i64() {
        let size = kinds_size(size);
        status["restoreSize"] = json!(size);
    }
    if of["error"].is_object() {
        status["error"] = of["error"].clone();
    }
    status
}

fn kinds_size(bytes: i64) -> String {
    ::kinds::quantity::Quantity::from_bytes(bytes.into()).to_string()
}

impl Snapshots {
    /// Makes the default class, once a start, so that an administrator's deletion lasts at least until the next. False
    /// while its kind is not served.
    async fn offer_class(&self, world: &World) -> Result<bool, WorldError> {
        if !self.class.load(Ordering::Acquire) && world.get(CLASSES, "", "datastore").is_none() {
            match world.create(CLASSES, &class()).await {
                Err(e) if e.code() == 404 => return Ok(false),
                Err(e) if e.code() != 409 => return Err(e),
                _ => {}
            }
        }
        self.class.store(true, Ordering::Release);
        Ok(true)
    }

    async fn tell(&self, world: &World, about: &Value, warning: bool, reason: &str, message: &str) {
        self.teller
            .tell_as(world, "snapshot-controller", about, warning, reason, message)
            .await;
    }

    async fn one(&self, world: &World, snapshot: &Value) -> Result<(), WorldError> {
        if deleting(snapshot) {
            return self.release(world, snapshot).await;
        }
        let mut next = snapshot.clone();
        for finalizer in [AS_SOURCE, BOUND] {
            if !has_finalizer(&next, finalizer) {
                next = with_finalizer(&next, finalizer);
            }
        }
        if settled(world.update(SNAPSHOTS, snapshot, &next).await)?.is_none() {
            return Ok(());
        }
        let Some(snapshot) = world.get(SNAPSHOTS, meta(snapshot, "namespace"), meta(snapshot, "name")) else {
            return Ok(());
        };
        let named = text(&snapshot, "/spec/source/volumeSnapshotContentName");
        let found = match named.is_empty() {
            true => self.dynamic(world, &snapshot).await?,
            false => given(world, &snapshot, named).await?,
        };
        match found {
            Ok(Some(content)) => self.show(world, &snapshot, &content).await,
            Ok(None) => Ok(()),
            Err((reason, message)) => self.fail(world, &snapshot, reason, &message).await,
        }
    }

    /// The content of a snapshot of a claim, made when it is missing.
    async fn dynamic(
        &self,
        world: &World,
        snapshot: &Value,
    ) -> Result<Result<Option<Arc<Value>>, Problem>, WorldError> {
        let name = format!("snapcontent-{}", meta(snapshot, "uid"));
        if let Some(content) = world.get(CONTENTS, "", &name) {
            return Ok(Ok(Some(content)));
        }
        let failed = |why: String| {
            let message = format!("Failed to create snapshot content with error {why}");
            Ok(Err(("SnapshotContentCreationFailed", message)))
        };
        let claimed = text(snapshot, "/spec/source/persistentVolumeClaimName");
        let Some(claim) = world.get(CLAIMS, meta(snapshot, "namespace"), claimed) else {
            return failed(format!(
                "failed to retrieve PVC {claimed} from the lister: \"persistentvolumeclaim \\\"{claimed}\\\" not found\""
            ));
        };
        if text(&claim, "/status/phase") != "Bound" {
            return failed(format!(
                "the PVC {claimed} is not yet bound to a PV, will not attempt to take a snapshot"
            ));
        }
        let named = text(&claim, "/spec/volumeName");
        let Some(volume) = world.get(VOLUMES, "", named) else {
            return failed(format!(
                "failed to retrieve PV {named} from the API server: not found"
            ));
        };
        let driver = text(&volume, "/spec/csi/driver");
        let class_name = text(snapshot, "/spec/volumeSnapshotClassName");
        if class_name.is_empty() {
            let classes = world.all(CLASSES);
            let class = match default_class(&classes, driver) {
                Ok(class) => class,
                Err(why) => {
                    let message = format!("Failed to set default snapshot class with error {why}");
                    return Ok(Err(("SetDefaultSnapshotClassFailed", message)));
                }
            };
            let mut next = snapshot.clone();
            next["spec"]["volumeSnapshotClassName"] = json!(class);
            settled(world.update(SNAPSHOTS, snapshot, &next).await)?;
            return Ok(Ok(None));
        }
        let Some(class) = world.get(CLASSES, "", class_name) else {
            return failed(format!(
                "failed to retrieve snapshot class {class_name} from the informer: \"volumesnapshotclass.{GROUP} \
                 \\\"{class_name}\\\" not found\""
            ));
        };
        if driver != text(&class, "/driver") {
            return failed(format!(
                "volume {named} is of driver \"{driver}\", snapshot class {class_name} of driver \"{}\"",
                text(&class, "/driver")
            ));
        }
        if !has_finalizer(&claim, CLAIM) {
            let kept = with_finalizer(&claim, CLAIM);
            settled(world.update(CLAIMS, &claim, &kept).await)?;
        }
        let made = world.create(CONTENTS, &content(snapshot, &class, &volume)).await;
        settled(made)?;
        let message = format!(
            "Waiting for a snapshot {}/{} to be created by the CSI driver.",
            meta(snapshot, "namespace"),
            meta(snapshot, "name")
        );
        self.tell(world, snapshot, false, "CreatingSnapshot", &message)
            .await;
        Ok(Ok(world.get(CONTENTS, "", &name)))
    }

    /// Writes what the content says into the snapshot.
    async fn show(&self, world: &World, snapshot: &Value, content: &Value) -> Result<(), WorldError> {
        let next = status(content);
        let (had, has) = (&snapshot["status"]["readyToUse"], &next["readyToUse"]);
        let name = format!("{}/{}", meta(snapshot, "namespace"), meta(snapshot, "name"));
        let old_error = text(snapshot, "/status/error/message");
        let error = text(&next, "/error/message");
        if settled(world.update_status(SNAPSHOTS, snapshot, &next).await)?.is_none() {
            return Ok(());
        }
        if snapshot["status"]["creationTime"].is_null() && !next["creationTime"].is_null() {
            let message = format!("Snapshot {name} was successfully created by the CSI driver.");
            self.tell(world, snapshot, false, "SnapshotCreated", &message)
                .await;
        }
        if *had != true && *has == true {
            let message = format!("Snapshot {name} is ready to use.");
            self.tell(world, snapshot, false, "SnapshotReady", &message).await;
        }
        if !error.is_empty() && error != old_error {
            self.tell(world, snapshot, true, "SnapshotCreationFailed", error)
                .await;
        }
        Ok(())
    }

    async fn fail(
        &self,
        world: &World,
        snapshot: &Value,
        reason: &str,
        message: &str,
    ) -> Result<(), WorldError> {
        if text(snapshot, "/status/error/message") == message {
            return Ok(());
        }
        let mut next = snapshot["status"].as_object().cloned().unwrap_or_default();
        next.insert("readyToUse".into(), json!(false));
        next.insert("error".into(), json!({"message": message, "time": now()}));
        settled(
            world
                .update_status(SNAPSHOTS, snapshot, &Value::Object(next))
                .await,
        )?;
        self.tell(world, snapshot, true, reason, message).await;
        Ok(())
    }

    /// The snapshot is deleted: so is its content, if that is the policy, and then nothing holds it any more.
    async fn release(&self, world: &World, snapshot: &Value) -> Result<(), WorldError> {
        if !has_finalizer(snapshot, AS_SOURCE) && !has_finalizer(snapshot, BOUND) {
            return Ok(());
        }
        let claims = world.list(CLAIMS, meta(snapshot, "namespace"));
        if claims
            .iter()
            .any(|claim| origin::is_filled_from(claim, meta(snapshot, "name")))
        {
            let message = "Snapshot is being used to restore a PVC";
            self.tell(world, snapshot, true, "SnapshotDeletePending", message)
                .await;
            return Ok(());
        }
        let content = world.all(CONTENTS).into_iter().find(|content| {
            content["spec"]["volumeSnapshotRef"]["uid"].as_str() == Some(meta(snapshot, "uid"))
        });
        if let Some(content) = content {
            let content = mark(world, &content).await?;
            if let Some(content) = content.filter(|c| text(c, "/spec/deletionPolicy") == "Delete") {
                if !deleting(&content) {
                    world.delete(CONTENTS, &content, "Background").await?;
                }
                if world.get(CONTENTS, "", meta(&content, "name")).is_some() {
                    // The host is told; its answer wakes this again.
                    return Ok(());
                }
            }
        }
        let next = without_finalizer(&without_finalizer(snapshot, AS_SOURCE), BOUND);
        settled(world.update(SNAPSHOTS, snapshot, &next).await).map(|_| ())
    }

    /// A content whose snapshot is gone for good goes too.
    async fn orphan(&self, world: &World, content: &Value) -> Result<(), WorldError> {
        let reference = &content["spec"]["volumeSnapshotRef"];
        let uid = text(reference, "/uid");
        if uid.is_empty() || deleting(content) || text(content, "/spec/deletionPolicy") != "Delete" {
            return Ok(());
        }
        let (namespace, name) = (text(reference, "/namespace"), text(reference, "/name"));
        let same = |snapshot: &Value| meta(snapshot, "uid") == uid;
        if world.get(SNAPSHOTS, namespace, name).is_some_and(|s| same(&s)) {
            return Ok(());
        }
        // Deletion cannot be taken back: the cache may lag behind.
        if world
            .live(SNAPSHOTS, namespace, name)
            .await?
            .is_some_and(|s| same(&s))
        {
            return Ok(());
        }
        match mark(world, content).await? {
            Some(content) => world.delete(CONTENTS, &content, "Background").await,
            None => Ok(()),
        }
    }
}

/// Marks a content as one whose snapshot goes.
async fn mark(world: &World, content: &Value) -> Result<Option<Arc<Value>>, WorldError> {
    let mut next = content.clone();
    next["metadata"]["annotations"][BEING_DELETED] = json!("yes");
    settled(world.update(CONTENTS, content, &next).await)?;
    Ok(world.get(CONTENTS, "", meta(content, "name")))
}

/// A content that somebody has made for a snapshot.
async fn given(
    world: &World,
    snapshot: &Value,
    named: &str,
) -> Result<Result<Option<Arc<Value>>, Problem>, WorldError> {
    let Some(content) = world.get(CONTENTS, "", named) else {
        return Ok(Err((
            "SnapshotContentMissing",
            "VolumeSnapshotContent is missing".into(),
        )));
    };
    let reference = &content["spec"]["volumeSnapshotRef"];
    let uid = text(reference, "/uid");
    let fits = text(reference, "/name") == meta(snapshot, "name")
        && text(reference, "/namespace") == meta(snapshot, "namespace")
        && (uid.is_empty() || uid == meta(snapshot, "uid"));
    if !fits {
        let message = format!("VolumeSnapshotContent [{named}] is bound to a different snapshot");
        return Ok(Err(("SnapshotContentMisbound", message)));
    }
    let mut next = (*content).clone();
    next["spec"]["volumeSnapshotRef"]["uid"] = json!(meta(snapshot, "uid"));
    if !has_finalizer(&next, CONTENT) {
        next = with_finalizer(&next, CONTENT);
    }
    settled(world.update(CONTENTS, &content, &next).await)?;
    Ok(Ok(world.get(CONTENTS, "", named)))
}

fn class() -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "VolumeSnapshotClass",
        "metadata": {"name": "datastore", "annotations": {DEFAULT: "true"}},
        "driver": PROVISIONER, "deletionPolicy": "Delete",
    })
}

/// Claims are kept only as long as a snapshot of them is being made.
async fn let_go(world: &World) -> Result<(), WorldError> {
    for claim in world
        .all(CLAIMS)
        .iter()
        .filter(|claim| has_finalizer(claim, CLAIM))
    {
        let wanted = world
            .list(SNAPSHOTS, meta(claim, "namespace"))
            .iter()
            .any(|snapshot| {
                text(snapshot, "/spec/source/persistentVolumeClaimName") == meta(claim, "name")
                    && snapshot["status"]["readyToUse"] != true
                    && !deleting(snapshot)
            });
        if !wanted {
            let next = without_finalizer(claim, CLAIM);
            settled(world.update(CLAIMS, claim, &next).await)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Reconciler for Snapshots {
    fn name(&self) -> &'static str {
        "volume snapshot"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SNAPSHOTS, CONTENTS, CLASSES, CLAIMS, VOLUMES]
    }
    fn custom(&self) -> Vec<Resource> {
        kinds::resources()
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        if !self.offer_class(world).await? {
            return Ok(Some(NOT_SERVED));
        }
        let mut failed = None;
        for snapshot in world.all(SNAPSHOTS) {
            failed = self.one(world, &snapshot).await.err().or(failed);
        }
        for content in world.all(CONTENTS) {
            failed = self.orphan(world, &content).await.err().or(failed);
        }
        failed = let_go(world).await.err().or(failed);
        failed = origin::note(world).await.err().or(failed);
        failed.map_or(Ok(None), Err)
    }
}
