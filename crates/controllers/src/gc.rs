//! Garbage collector: removes what lost its owners, carries out foreground deletion and orphaning.
//!
//! Works on the metadata of every kind that can be deleted, custom ones included. An owner that no cache holds counts
//! as gone only when the API server itself says so: its watch may lag behind that of the object it owns.

use crate::manager::Reconciler;
use crate::obj::{deleting, items, meta, text};
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The collector.
pub(crate) struct Collector;

struct Graph {
    objects: Vec<(String, Arc<Value>)>,
    uids: HashMap<String, usize>,
    dependents: HashMap<String, Vec<usize>>,
}

fn owners(object: &Value) -> std::slice::Iter<'_, Value> {
    items(object, "/metadata/ownerReferences").iter()
}

/// Who owns whom. Objects that neither own, nor are owned, nor are being deleted are none of the collector's business,
/// and are most of a large cluster: they are left out.
fn graph(world: &World, keys: &[String]) -> Graph {
    let listed: Vec<(&String, Vec<Arc<Value>>)> = keys.iter().map(|key| (key, world.all(key))).collect();
    let everything = || listed.iter().flat_map(|(_, objects)| objects);
    let wanted: HashSet<&str> = everything()
        .flat_map(|object| owners(object))
        .map(|owner| text(owner, "/uid"))
        .collect();
    let mut graph = Graph {
        objects: Vec::new(),
        uids: HashMap::new(),
        dependents: HashMap::new(),
    };
    for (key, objects) in &listed {
        for object in objects {
            let owned = owners(object).next().is_some();
            let owns = !wanted.is_empty() && wanted.contains(meta(object, "uid"));
            if !owned && !owns && !deleting(object) {
                continue;
            }
            let at = graph.objects.len();
            graph.uids.insert(meta(object, "uid").to_string(), at);
            for owner in owners(object) {
                let of_owner = graph.dependents.entry(text(owner, "/uid").to_string());
                of_owner.or_default().push(at);
            }
            graph.objects.push(((*key).clone(), object.clone()));
        }
    }
    graph
}

/// The resource key of a reference, if its kind is watched.
fn kind_of(resources: &[Resource], reference: &Value) -> Option<String> {
    let (api_version, kind) = (text(reference, "/apiVersion"), text(reference, "/kind"));
    let group = api_version.split_once('/').map_or("", |(g, _)| g);
    let found = resources.iter().find(|r| r.group == group && r.kind == kind);
    found.map(Resource::key)
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
                world.watch(resource, false);
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

    /// Owners that wait for each other would wait for ever: this one is not waited for any more.
    async fn unblock(&self, world: &World, key: &str, object: &Value) -> Result<(), WorldError> {
        let mut next = object.clone();
        let owners = next
            .pointer_mut("/metadata/ownerReferences")
            .and_then(Value::as_array_mut);
        for owner in owners.into_iter().flatten() {
            owner["blockOwnerDeletion"] = json!(false);
        }
        settled(world.update(key, object, &next).await).map(|_| ())
    }

    /// An object that waits for what it owns.
    async fn waiting(&self, world: &World, graph: &Graph, at: usize) -> Result<(), WorldError> {
        let (key, object) = &graph.objects[at];
        let uid = meta(object, "uid");
        let none = Vec::new();
        let dependents = graph.dependents.get(uid).unwrap_or(&none);
        let has = |f: &str| items(object, "/metadata/finalizers").iter().any(|x| x == f);
        if has(ORPHAN) {
            let mut all = true;
            for (key, dependent) in dependents.iter().map(|d| &graph.objects[*d]) {
                all &= self.disown(world, key, dependent, &HashSet::from([uid])).await?;
            }
            // One that still names its owner would be collected once that is gone.
            if all {
                self.finalize(world, key, object, ORPHAN).await?;
            }
        } else if has(FOREGROUND) {
            let mut blocked = false;
            for (key, dependent) in dependents.iter().map(|d| &graph.objects[*d]) {
                let blocks = items(dependent, "/metadata/ownerReferences")
                    .iter()
                    .any(|o| o["uid"] == uid && o["blockOwnerDeletion"] == true);
                blocked |= blocks;
                let others = items(dependent, "/metadata/ownerReferences").iter().any(|o| {
                    o["uid"] != uid
                        && graph
                            .uids
                            .get(text(o, "/uid"))
                            .is_some_and(|at| !deleting(&graph.objects[*at].1))
                });
                if others {
                    self.disown(world, key, dependent, &HashSet::from([uid])).await?;
                } else if !deleting(dependent) {
                    let own = graph.dependents.get(meta(dependent, "uid")).unwrap_or(&none);
                    let circle = own.iter().any(|d| {
                        let object = &graph.objects[*d].1;
                        deleting(object)
                            && items(object, "/metadata/finalizers")
                                .iter()
                                .any(|f| f == FOREGROUND)
                    });
                    if circle {
                        self.unblock(world, key, dependent).await?;
                    }
                    settled(
                        world
                            .delete(key, dependent, if blocks { "Foreground" } else { "Background" })
                            .await,
                    )?;
                }
            }
            if !blocked {
                self.finalize(world, key, object, FOREGROUND).await?;
            }
        }
        Ok(())
    }

    /// An object with owners: deleted when none of them is left. `asked` remembers the answers about owners.
    async fn owned(
        &self,
        world: &World,
        graph: &Graph,
        resources: &[Resource],
        at: usize,
        asked: &mut HashMap<String, bool>,
    ) -> Result<(), WorldError> {
        let (key, object) = &graph.objects[at];
        let mut gone = HashSet::new();
        let mut solid = false;
        for owner in items(object, "/metadata/ownerReferences") {
            let uid = text(owner, "/uid");
            let there = match graph.uids.get(uid) {
                Some(found) => {
                    let namespace = meta(&graph.objects[*found].1, "namespace");
                    namespace.is_empty() || namespace == meta(object, "namespace")
                }
                None => match (asked.get(uid), kind_of(resources, owner)) {
                    (Some(there), _) => *there,
                    (None, Some(kind)) => {
                        let there = exists(world, &kind, meta(object, "namespace"), owner).await?;
                        asked.insert(uid.to_string(), there);
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
        let keys: Vec<String> = resources.iter().map(Resource::key).collect();
        let graph = graph(world, &keys);
        let mut asked = HashMap::new();
        let mut failed = None;
        for at in 0..graph.objects.len() {
            let object = &graph.objects[at].1;
            let result = if deleting(object) {
                self.waiting(world, &graph, at).await
            } else if !items(object, "/metadata/ownerReferences").is_empty() {
                self.owned(world, &graph, &resources, at, &mut asked).await
            } else {
                Ok(())
            };
            if let Err(error) = result {
                failed = Some(error);
            }
        }
        // Kinds that do not wake the collector are looked at by its timer.
        failed.map_or(Ok(Some(Duration::from_secs(3))), Err)
    }
}
