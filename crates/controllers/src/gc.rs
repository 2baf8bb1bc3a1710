//! Garbage collector: removes what lost its owners, carries out foreground deletion and orphaning.
//!
//! Works on the metadata of every kind that can be deleted, custom ones included. An owner that no cache holds counts
//! as gone only when the API server itself says so: its watch may lag behind that of the object it owns.

use crate::manager::Reconciler;
use crate::obj::{deleting, items, meta, text};
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use cache::{Object, Uid};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const SOURCE: &str = "garbage-collector-controller";

/// The collector.
#[derive(Default)]
pub(crate) struct Collector {
    /// Who names an owner in another namespace, which is said once.
    misplaced: Mutex<Misplaced>,
}

/// The uids of an object and of an owner.
type Misplaced = HashSet<(Uid, Uid)>;

/// What one sweep has found out.
#[derive(Default)]
struct Round {
    /// The API server's answers about owners, by uid.
    asked: HashMap<String, bool>,
    misplaced: Misplaced,
}

/// The objects that have owners or are going, with the keys of their resources, and who owns whom among them. All
/// others, most of a large cluster, are none of the collector's business.
struct Graph {
    objects: Vec<(String, Arc<Object>)>,
    dependents: HashMap<Uid, Vec<usize>>,
}

impl Graph {
    fn of(world: &World) -> Graph {
        let objects = world.linked();
        let mut dependents: HashMap<Uid, Vec<usize>> = HashMap::new();
        for (at, (_, object)) in objects.iter().enumerate() {
            for owner in &object.links().owners {
                dependents.entry(*owner).or_default().push(at);
            }
        }
        Graph { objects, dependents }
    }

    /// What names this uid among its owners, decoded.
    fn dependents(&self, world: &World, uid: &str) -> Vec<(&str, Arc<Value>)> {
        let found = self.dependents.get(&Uid::of(uid)).into_iter().flatten();
        found
            .map(|at| (self.objects[*at].0.as_str(), world.value(&self.objects[*at].1)))
            .collect()
    }
}

/// The resource of a reference, if its kind is watched.
fn kind_of<'a>(resources: &'a [Resource], reference: &Value) -> Option<&'a Resource> {
    let (api_version, kind) = (text(reference, "/apiVersion"), text(reference, "/kind"));
    let group = api_version.split_once('/').map_or("", |(g, _)| g);
    resources.iter().find(|r| r.group == group && r.kind == kind)
}

/// Owners are in the namespace of what they own, or in none.
fn within_reach(owner: &Object, namespace: &str) -> bool {
    owner.namespace().is_empty() || owner.namespace() == namespace
}

impl Collector {
    /// Custom kinds join as they are defined.
    fn watch_custom(&self, world: &Arc<World>) {
        for crd in world.all(CRDS) {
            let version = items(&crd, "/spec/versions").iter().find(|v| v["served"] == true);
            if let (Some(version), false) = (version, deleting(&crd)) {
                let resource = Resource {
                    group: text(&crd, "/spec/group").into(),
                    version: text(version, "/name").into(),
                    kind: text(&crd, "/spec/names/kind").into(),
                    plural: text(&crd, "/spec/names/plural").into(),
                    namespaced: text(&crd, "/spec/scope") == "Namespaced",
                };
                world.know(resource);
            }
        }
    }

    async fn finalize(
        &self,
        world: &World,
        key: &str,
        object: &Value,
        finalizer: &str,
    ) -> Result<(), WorldError> {
        let mut next = object.clone();
        let mut list = items(object, "/metadata/finalizers").to_vec();
        list.retain(|f| f != finalizer);
        next["metadata"]["finalizers"] = json!(list);
        settled(world.update(key, object, &next).await).map(|_| ())
    }

    async fn disown(
        &self,
        world: &World,
        key: &str,
        object: &Value,
        uids: &HashSet<&str>,
    ) -> Result<bool, WorldError> {
        let mut next = object.clone();
        let mut list = items(object, "/metadata/ownerReferences").to_vec();
        list.retain(|o| !uids.contains(text(o, "/uid")));
        next["metadata"]["ownerReferences"] = json!(list);
        // False when somebody else was quicker: then it is looked at again.
        Ok(settled(world.update(key, object, &next).await)?.is_some())
    }

    /// Owners that wait for each other would wait for ever: this one is not waited for any more. False when somebody else
    /// was quicker: then it is looked at again.
    async fn unblock(&self, world: &World, key: &str, object: &Value) -> Result<bool, WorldError> {
        let mut next = object.clone();
        let owners = next
            .pointer_mut("/metadata/ownerReferences")
            .and_then(Value::as_array_mut);
        for owner in owners.into_iter().flatten() {
            owner["blockOwnerDeletion"] = json!(false);
        }
        Ok(settled(world.update(key, object, &next).await)?.is_some())
    }

    /// An object that waits for what it owns.
    async fn waiting(
        &self,
        world: &World,
        graph: &Graph,
        key: &str,
        object: &Value,
    ) -> Result<(), WorldError> {
        let uid = meta(object, "uid");
        let dependents = graph.dependents(world, uid);
        let has = |f: &str| items(object, "/metadata/finalizers").iter().any(|x| x == f);
        if has(ORPHAN) {
            let mut all = true;
            for (key, dependent) in &dependents {
                all &= self.disown(world, key, dependent, &HashSet::from([uid])).await?;
            }
            // One that still names its owner would be collected once that is gone.
            if all {
                self.finalize(world, key, object, ORPHAN).await?;
            }
        } else if has(FOREGROUND) {
            let mut blocked = false;
            for (key, dependent) in &dependents {
                let owners = items(dependent, "/metadata/ownerReferences");
                let blocks = owners
                    .iter()
                    .any(|o| o["uid"] == uid && o["blockOwnerDeletion"] == true);
                blocked |= blocks;
                let others = owners.iter().any(|o| {
                    o["uid"] != uid
                        && world
                            .by_uid(Uid::of(text(o, "/uid")))
                            .is_some_and(|other| !other.links().deleting)
                });
                if others {
                    self.disown(world, key, dependent, &HashSet::from([uid])).await?;
                } else if !deleting(dependent) {
                    let own = graph.dependents(world, meta(dependent, "uid"));
                    let circle = own.iter().any(|(_, object)| {
                        deleting(object)
                            && items(object, "/metadata/finalizers")
                                .iter()
                                .any(|f| f == FOREGROUND)
                    });
                    // Once it is going nobody would unblock it.
                    if circle && !self.unblock(world, key, dependent).await? {
                        continue;
                    }
                    // What owns nothing itself has nothing to wait for.
                    let policy = match blocks && !own.is_empty() {
                        true => "Foreground",
                        false => "Background",
                    };
                    settled(world.delete(key, dependent, policy).await)?;
                }
            }
            if !blocked {
                self.finalize(world, key, object, FOREGROUND).await?;
            }
        }
        Ok(())
    }

    /// Says of an object that it names an owner who lives in another namespace.
    async fn misplaced(&self, world: &World, object: &Value, owner: &Value, round: &mut Round) {
        let pair = (Uid::of(meta(object, "uid")), Uid::of(text(owner, "/uid")));
        round.misplaced.insert(pair);
        if self.misplaced.lock().contains(&pair) {
            return;
        }
        let namespace = meta(object, "namespace");
        let why = format!(
            "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
            text(owner, "/apiVersion"),
            text(owner, "/kind"),
            text(owner, "/name"),
            text(owner, "/uid"),
        );
        world
            .event(SOURCE, object, true, "OwnerRefInvalidNamespace", &why)
            .await;
    }

    /// An object with owners: deleted when none of them is left.
    async fn owned(
        &self,
        world: &World,
        resources: &[Resource],
        (key, object): (&str, &Value),
        round: &mut Round,
    ) -> Result<(), WorldError> {
        let mut gone = HashSet::new();
        let mut solid = false;
        for owner in items(object, "/metadata/ownerReferences") {
            let uid = text(owner, "/uid");
            let namespaced = kind_of(resources, owner).is_some_and(|kind| kind.namespaced);
            let there = match world.by_uid(Uid::of(uid)) {
                found if meta(object, "namespace").is_empty() && namespaced => {
                    if found.is_some() {
                        self.misplaced(world, object, owner, round).await;
                    }
                    // Such a reference is nonsense, whether the owner lives or not: nothing is deleted for it.
                    return Ok(());
                }
                Some(found) => {
                    let near = within_reach(&found, meta(object, "namespace"));
                    if !near {
                        self.misplaced(world, object, owner, round).await;
                    }
                    near
                }
                None => match (round.asked.get(uid), kind_of(resources, owner)) {
                    (Some(there), _) => *there,
                    (None, Some(kind)) => {
                        let there = exists(world, &kind.key(), meta(object, "namespace"), owner).await?;
                        round.asked.insert(uid.to_string(), there);
                        there
                    }
                    // A kind that is not served now: nobody can say that the owner is gone.
                    (None, None) => true,
                },
            };
            match there {
                true => solid = true,
                false => drop(gone.insert(uid)),
            }
        }
        if gone.is_empty() || deleting(object) {
            return Ok(());
        }
        match solid {
            true => self.disown(world, key, object, &gone).await.map(drop),
            false => {
                // The cache may be behind an orphaning that has just taken the owner away.
                let live = world
                    .live(key, meta(object, "namespace"), meta(object, "name"))
                    .await?;
                let owners = |o: &Value| o.pointer("/metadata/ownerReferences").cloned();
                if live.is_none_or(|live| owners(&live) != owners(object)) {
                    return Ok(());
                }
                let has = |f: &str| items(object, "/metadata/finalizers").iter().any(|x| x == f);
                let policy = match (has(ORPHAN), has(FOREGROUND)) {
                    (true, _) => "Orphan",
                    (_, true) => "Foreground",
                    _ => "Background",
                };
                settled(world.delete(key, object, policy).await).map(|_| ())
            }
        }
    }
}

/// Asks the API server for an owner: there, under that uid?
async fn exists(world: &World, kind: &str, namespace: &str, owner: &Value) -> Result<bool, WorldError> {
    let live = world.live(kind, namespace, text(owner, "/name")).await?;
    Ok(live.is_some_and(|o| meta(&o, "uid") == text(owner, "/uid")))
}

#[async_trait]
impl Reconciler for Collector {
    fn name(&self) -> &'static str {
        "garbage collector"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[
            CRDS,
            "pods",
            "replicasets.apps",
            "deployments.apps",
            "jobs.batch",
            "services",
            "endpointslices.discovery.k8s.io",
            "statefulsets.apps",
            "daemonsets.apps",
            "cronjobs.batch",
            "configmaps",
            "secrets",
        ]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        self.watch_custom(world);
        let resources = world.resources();
        let graph = Graph::of(world);
        let mut round = Round::default();
        // Owners that are where they should be, by uid and the namespace that they are good for: most are asked for
        // again and again.
        let mut sound: HashMap<(Uid, &str), bool> = HashMap::new();
        let mut failed = None;
        for (key, object) in &graph.objects {
            let links = object.links();
            let result = if links.deleting {
                match links.finalizers {
                    true => self.waiting(world, &graph, key, &world.value(object)).await,
                    false => Ok(()),
                }
            } else if links.owners.iter().all(|owner| {
                *sound.entry((*owner, object.namespace())).or_insert_with(|| {
                    world
                        .by_uid(*owner)
                        .is_some_and(|found| within_reach(&found, object.namespace()))
                })
            }) {
                Ok(())
            } else {
                self.owned(world, &resources, (key, &world.value(object)), &mut round)
                    .await
            };
            if let Err(error) = result {
                failed = Some(error);
            }
        }
        *self.misplaced.lock() = round.misplaced;
        // Kinds that do not wake the collector are looked at by its timer.
        failed.map_or(Ok(Some(Duration::from_secs(3))), Err)
    }
}
