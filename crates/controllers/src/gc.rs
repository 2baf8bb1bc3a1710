//! Garbage collector: removes what lost its owners, carries out foreground deletion and orphaning.
//!
//! Works on the metadata of every kind that can be deleted, custom ones included. An owner that no cache holds counts
//! as gone only when the API server itself says so: its watch may lag behind that of the object it owns.

use crate::concern::ALL;
use crate::concern::agenda::Agenda;
use crate::manager::{RETRY, Reconciler};
use crate::obj::{deleting, items, meta, text};
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use cache::{Change, ChangeKind, Object, Since, Uid};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const SOURCE: &str = "garbage-collector-controller";

/// Kinds that do not wake the collector, and owners of which nothing is known, are looked at after this time.
const LOOK: Duration = Duration::from_secs(3);

/// The collector.
#[derive(Default)]
pub(crate) struct Collector(Mutex<State>);

/// What the collector has seen and what it is to look at. All objects are its own, most of them none of its business: it
/// looks at those that come with owners or get others, that begin to go, whose owners have gone, and that wait for what they
/// own, whenever that changes. The rule is that of [`concern`](crate::concern), for every resource at once.
#[derive(Default)]
struct State {
    /// The revision of each resource up to which its changes are taken in.
    seen: HashMap<String, u64>,
    /// When all were looked at.
    all: Option<Instant>,
    /// What is to be looked at, by resource and name.
    agenda: Agenda,
    /// Those that are going and wait for something, by their uids.
    waiting: HashMap<Uid, String>,
    /// Who names an owner in another namespace, which is said once.
    misplaced: HashMap<Uid, HashSet<Uid>>,
    /// The definitions of which the resources are known.
    definitions: Option<u64>,
}

/// What one sweep has found out.
#[derive(Default)]
struct Round {
    /// The API server's answers about owners, by uid.
    asked: HashMap<String, bool>,
    /// Owners that are where they should be, by uid and the namespace that they are good for: most are asked for again and
    /// again.
    sound: HashMap<(Uid, String), bool>,
    /// The owners of the object at hand that are in another namespace.
    misplaced: HashSet<Uid>,
}

/// An object among all: its resource, and its namespace and name.
fn place(resource: &str, object: &str) -> String {
    format!("{resource} {object}")
}

fn waits(object: &Object) -> bool {
    object.links().deleting && object.links().finalizers
}

impl State {
    /// Takes in what has changed.
    fn follow(&mut self, world: &World, now: Instant) {
        let news = world.news(&self.seen);
        let lost = |(key, since): &(String, Since)| since.changes.is_none() && self.seen.contains_key(key);
        let overdue = self.all.is_none_or(|at| now.duration_since(at) >= ALL);
        let all = overdue || news.iter().any(lost);
        for (key, since) in &news {
            self.seen.insert(key.clone(), since.upto);
        }
        if all {
            self.all = Some(now);
            self.waiting.clear();
            for place in self.agenda.all() {
                self.agenda.hasten(&place, now);
            }
            let known: Vec<String> = self.seen.keys().cloned().collect();
            for key in &known {
                self.take_in_all(world, key, now);
            }
            return;
        }
        for (key, since) in &news {
            match &since.changes {
                Some(changes) => {
                    for change in changes {
                        self.take_in(world, key, change, now);
                    }
                }
                None => self.take_in_all(world, key, now),
            }
        }
    }

    fn take_in_all(&mut self, world: &World, key: &str, now: Instant) {
        for object in world.linked(key) {
            let place = place(key, object.key());
            self.agenda.hasten(&place, now);
            if waits(&object) {
                self.waiting.insert(object.links().uid, place);
            }
        }
    }

    fn take_in(&mut self, world: &World, key: &str, change: &Change, now: Instant) {
        let (object, links) = (&change.object, change.object.links());
        let before = change.previous.as_ref().map(|previous| previous.links());
        if change.kind == ChangeKind::Deleted {
            self.waiting.remove(&links.uid);
            self.misplaced.remove(&links.uid);
            for (key, dependent) in world.dependents(links.uid) {
                self.agenda.hasten(&place(&key, dependent.key()), now);
            }
        } else {
            // Of another that had its name nobody told.
            if let Some(gone) = before.filter(|before| before.uid != links.uid) {
                self.waiting.remove(&gone.uid);
                for (key, dependent) in world.dependents(gone.uid) {
                    self.agenda.hasten(&place(&key, dependent.key()), now);
                }
            }
            let same = before.is_some_and(|before| before.owners == links.owners);
            if links.deleting || (!links.owners.is_empty() && !same) {
                self.agenda.hasten(&place(key, object.key()), now);
            }
            match waits(object) {
                true => drop(self.waiting.insert(links.uid, place(key, object.key()))),
                false => drop(self.waiting.remove(&links.uid)),
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        // Owners that wait for it, and those that wait for what it owns as well: it is no reason any more to let that stay.
        let mut owners: HashSet<Uid> = links.owners.iter().copied().collect();
        owners.extend(before.iter().flat_map(|before| before.owners.iter().copied()));
        if links.deleting && before.is_none_or(|before| !before.deleting) {
            for (_, dependent) in world.dependents(links.uid) {
                owners.extend(dependent.links().owners.iter().copied());
            }
        }
        for owner in &owners {
            if let Some(place) = self.waiting.get(owner) {
                self.agenda.hasten(place, now);
            }
        }
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
        let revision = Some(world.revision(&[CRDS]));
        if std::mem::replace(&mut self.0.lock().definitions, revision) == revision {
            return;
        }
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
    async fn waiting(&self, world: &World, key: &str, object: &Value) -> Result<(), WorldError> {
        let uid = meta(object, "uid");
        let dependents = dependents(world, uid);
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
                    let own = self::dependents(world, meta(dependent, "uid"));
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
        let (uid, of) = (Uid::of(meta(object, "uid")), Uid::of(text(owner, "/uid")));
        round.misplaced.insert(of);
        let said = |said: &HashSet<Uid>| said.contains(&of);
        if self.0.lock().misplaced.get(&uid).is_some_and(said) {
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

    /// Looks at one object. It is looked at again after a while where something hangs on what nobody tells.
    async fn one(
        &self,
        world: &World,
        place: &str,
        round: &mut Round,
    ) -> Result<Option<Duration>, WorldError> {
        let (key, object) = place.split_once(' ').unwrap_or((place, ""));
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        let Some(object) = world.entry(key, namespace, name) else {
            return Ok(None);
        };
        let links = object.links();
        if links.deleting {
            if !links.finalizers {
                return Ok(None);
            }
            self.waiting(world, key, &world.value(&object)).await?;
            let ours = [FOREGROUND, ORPHAN].iter().any(|held| object.mentions(held));
            return Ok(ours.then_some(LOOK));
        }
        let sound = links.owners.iter().all(|owner| {
            let reach = (*owner, namespace.to_owned());
            *round.sound.entry(reach).or_insert_with(|| {
                world
                    .by_uid(*owner)
                    .is_some_and(|found| within_reach(&found, namespace))
            })
        });
        round.misplaced.clear();
        if !sound {
            self.owned(world, (key, &world.value(&object)), round).await?;
        }
        let misplaced = &mut self.0.lock().misplaced;
        match round.misplaced.is_empty() {
            true => drop(misplaced.remove(&links.uid)),
            false => drop(misplaced.insert(links.uid, round.misplaced.clone())),
        }
        Ok((!sound).then_some(LOOK))
    }

    /// An object with owners: deleted when none of them is left.
    async fn owned(
        &self,
        world: &World,
        (key, object): (&str, &Value),
        round: &mut Round,
    ) -> Result<(), WorldError> {
        let mut gone = HashSet::new();
        let mut solid = false;
        let resources = world.resources();
        for owner in items(object, "/metadata/ownerReferences") {
            let uid = text(owner, "/uid");
            let namespaced = kind_of(&resources, owner).is_some_and(|kind| kind.namespaced);
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
                None => match (round.asked.get(uid), kind_of(&resources, owner)) {
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

/// What names this uid among its owners, decoded.
fn dependents(world: &World, uid: &str) -> Vec<(String, Arc<Value>)> {
    let found = world.dependents(Uid::of(uid)).into_iter();
    found.map(|(key, object)| (key, world.value(&object))).collect()
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
        let due = {
            let mut state = self.0.lock();
            let now = Instant::now();
            state.follow(world, now);
            state.agenda.due(now)
        };
        let mut round = Round::default();
        let mut failed = None;
        for place in due {
            let again = match self.one(world, &place, &mut round).await {
                Ok(again) => again,
                Err(error) => {
                    failed = Some(error);
                    Some(RETRY)
                }
            };
            let agenda = &mut self.0.lock().agenda;
            match again {
                Some(again) => agenda.set(&place, Instant::now() + again),
                None => agenda.forget(&place),
            }
        }
        failed.map_or(Ok(Some(LOOK)), Err)
    }
}
