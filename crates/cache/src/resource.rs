//! The objects of one resource: current state, a window of recent changes, and the watchers.
//!
//! The window serves two reads of the past: a watch from an older revision is a suffix of it, and a list at an older
//! revision (the next page of a chunked list) is the current state with the later changes undone.

// The order of entries is that of their keys, which never change; the interior mutability is a memo beside them.
#![allow(clippy::mutable_key_type)]

use crate::object::{Object, Uid, object_key};
use crate::pluck::Plucker;
use crate::view::GroupResource;
use crate::watcher::{Change, ChangeKind, Filter, Live, Subscription, Watcher};
use parking_lot::RwLock;
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Changes the window keeps at most.
const WINDOW: usize = 8192;
/// Bytes of superseded objects the window keeps at most.
const WINDOW_BYTES: usize = 16 << 20;

/// An object in the ordered set, found by its key.
struct Entry(Arc<Object>);

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        self.0.key()
    }
}
impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.0.key() == other.0.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        self.0.key().cmp(other.0.key())
    }
}

/// Objects by namespace and value of a label, and by their own address, which tells those of one value apart.
type Labelled = BTreeMap<(Box<str>, usize), Arc<Object>>;

struct State {
    objects: BTreeSet<Entry>,
    /// Every object by its uid: who looks for an owner knows nothing else for sure.
    uids: HashMap<Uid, Arc<Object>>,
    /// Those with owners or finalizers, and those that are going: all that the collector of garbage looks at, and whoever
    /// holds objects back.
    linked: BTreeSet<Entry>,
    /// Those with owners, by the uid of each and their own address, which tells objects of one owner apart.
    owned: BTreeMap<(Uid, usize), Arc<Object>>,
    /// Those that no controller has, of resources in which controllers look for some to adopt.
    strays: Option<BTreeSet<Entry>>,
    /// The label by which objects of this resource are found, and those that have it.
    labelled: Option<(&'static str, Labelled)>,
    window: VecDeque<Arc<Change>>,
    window_bytes: usize,
    /// The window holds every change after this revision.
    window_start: u64,
    watchers: Vec<Watcher>,
}

/// The revision asked for is older than the window.
#[derive(Debug, PartialEq, Eq)]
pub struct TooOld {
    /// The oldest revision that can be served.
    pub oldest: u64,
}

/// A list read from the cache.
#[derive(Default)]
pub struct Listing {
    /// The objects, in key order.
    pub objects: Vec<Arc<Object>>,
    /// The key to go on behind, when there is more.
    pub more_after: Option<String>,
    /// How many objects are left, known only without selectors.
    pub remaining: Option<usize>,
}

/// What of a list is wanted.
#[derive(Default, Clone)]
pub struct ListQuery {
    /// Which objects.
    pub filter: Filter,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// Only keys behind this one.
    pub after: Option<String>,
    /// State at this revision; `None` for the current one.
    pub at: Option<u64>,
}

/// One change of the log to an object of the resource.
pub(crate) struct News<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Its new bytes; `None` when it was deleted.
    pub(crate) stored: Option<&'a [u8]>,
    pub(crate) revision: u64,
}

/// What has become of a resource after a revision.
pub struct Since {
    /// The revision up to which this is complete: the next one to ask for.
    pub upto: u64,
    /// The changes in their order; `None` where they are no longer known, and whoever asks has to look at everything.
    pub changes: Option<Vec<Arc<Change>>>,
}

/// Everything the server knows of one resource.
pub struct ResourceCache {
    resource: GroupResource,
    plucker: RwLock<Arc<Plucker>>,
    fields: RwLock<Arc<[String]>>,
    keep_decoded: bool,
    state: RwLock<State>,
    changed: AtomicU64,
}

/// Resources with few, small, often consulted objects: their decoded form is kept.
const DECODED: [&str; 20] = [
    "namespaces",
    "serviceaccounts",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "resourcequotas",
    "limitranges",
    "priorityclasses",
    "runtimeclasses",
    "storageclasses",
    "services",
    "ipaddresses",
    "customresourcedefinitions",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "supervisornamespaces",
    "nodes",
];

/// Resources in which controllers look for objects that are nobody's.
const ADOPTED: [&str; 3] = ["pods", "replicasets", "controllerrevisions"];
/// Resources of which objects are found by a label, and that label.
const LABELLED: [(&str, &str); 1] = [("endpointslices", "kubernetes.io/service-name")];

impl ResourceCache {
    pub(crate) fn new(resource: GroupResource, revision: u64) -> ResourceCache {
        let fields = crate::fields::selectable(&resource);
        let fields: Arc<[String]> = fields.iter().map(|f| f.to_string()).collect();
        ResourceCache {
            plucker: RwLock::new(Arc::new(Plucker::new(&fields))),
            fields: RwLock::new(fields),
            keep_decoded: DECODED.contains(&resource.resource.as_str()),
            state: RwLock::new(State::beginning_at(&resource, revision)),
            resource,
            changed: AtomicU64::new(0),
        }
    }

    /// Which resource this is.
    pub fn resource(&self) -> &GroupResource {
        &self.resource
    }

    /// The dotted paths field selectors may name, beside `metadata.name` and `metadata.namespace`.
    pub fn selectable_fields(&self) -> Arc<[String]> {
        self.fields.read().clone()
    }

    /// The revision of the last change of this resource.
    pub fn changed(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many watches are open.
    pub fn watcher_count(&self) -> usize {
        self.state.read().watchers.len()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = object_key(namespace, name);
        self.state.read().objects.get(key.as_str()).map(|e| e.0.clone())
    }

    /// All objects now, of one namespace unless it is empty.
    pub fn current(&self, namespace: &str) -> Vec<Arc<Object>> {
        let query = ListQuery {
            filter: Filter {
                namespace: namespace.into(),
                ..Filter::default()
            },
            ..ListQuery::default()
        };
        self.list(&query).map(|l| l.objects).unwrap_or_default()
    }

    /// The objects now, of one namespace unless it is empty, that are `wanted`.
    pub fn select(&self, namespace: &str, mut wanted: impl FnMut(&Object) -> bool) -> Vec<Arc<Object>> {
        let state = self.state.read();
        let start = match namespace {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let range = state
            .objects
            .range::<str, _>((Bound::Included(start.as_str()), Bound::Unbounded));
        range
            .map(|entry| &entry.0)
            .take_while(|object| object.key().starts_with(&start))
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// The objects of a namespace that have this value of the label by which those of the resource are found. Costs what is
    /// found, not what there is.
    pub fn labelled(&self, namespace: &str, value: &str) -> Vec<Arc<Object>> {
        let state = self.state.read();
        let Some((_, labelled)) = &state.labelled else {
            return Vec::new();
        };
        let place: Box<str> = object_key(namespace, value).into();
        let range = labelled.range((place.clone(), 0)..=(place, usize::MAX));
        let mut found: Vec<Arc<Object>> = range.map(|(_, object)| object.clone()).collect();
        found.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        found
    }

    /// The objects that name this uid among their owners, in the order of their keys. Costs what is found, not what there is.
    pub fn owned_by(&self, owner: Uid) -> Vec<Arc<Object>> {
        let state = self.state.read();
        let range = state.owned.range((owner, 0)..=(owner, usize::MAX));
        let mut found: Vec<Arc<Object>> = range.map(|(_, object)| object.clone()).collect();
        found.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        found
    }

    /// The objects of a namespace that no controller has and that are `wanted`.
    pub fn strays(&self, namespace: &str, mut wanted: impl FnMut(&Object) -> bool) -> Vec<Arc<Object>> {
        let state = self.state.read();
        let start = format!("{namespace}/");
        let range = (Bound::Included(start.as_str()), Bound::Unbounded);
        let from = state.strays.as_ref().unwrap_or(&state.objects);
        let here = from
            .range::<str, _>(range)
            .map(|entry| &entry.0)
            .take_while(|object| object.key().starts_with(&start));
        here.filter(|object| !object.links().controlled && wanted(object))
            .cloned()
            .collect()
    }

    /// What has changed after a revision.
    pub fn since(&self, since: u64) -> Since {
        let state = self.state.read();
        // Both while nothing can change.
        Since {
            upto: self.changed(),
            changes: state
                .changes_after(since)
                .map(|changes| changes.cloned().collect()),
        }
    }

    /// The object with this uid.
    pub fn by_uid(&self, uid: Uid) -> Option<Arc<Object>> {
        self.state.read().uids.get(&uid).cloned()
    }

    /// The objects that have changed after a revision and are `wanted`. Costs what has changed, not what there is, as long
    /// as the window reaches back so far.
    pub fn changed_since(&self, since: u64, mut wanted: impl FnMut(&Object) -> bool) -> Vec<Arc<Object>> {
        let state = self.state.read();
        match state.changes_after(since) {
            None => {
                let all = state.objects.iter().map(|entry| &entry.0);
                let newer = all.filter(|object| object.revision() > since && wanted(object));
                newer.cloned().collect()
            }
            Some(changes) => {
                let objects = changes.map(|change| &change.object);
                // Neither what is gone nor what has changed once more since.
                let stand = objects.filter(|object| {
                    let present = state.objects.get(object.key());
                    present.is_some_and(|entry| Arc::ptr_eq(&entry.0, object))
                });
                stand.filter(|object| wanted(object)).cloned().collect()
            }
        }
    }

    /// Whether something that `concerns` the caller has come, gone or changed after a revision; true where that is no longer known.
    pub fn concerned_since(&self, since: u64, concerns: impl Fn(&Object) -> bool) -> bool {
        self.state.read().changes_after(since).is_none_or(|mut changes| {
            changes
                .any(|change| concerns(&change.object) || change.previous.as_deref().is_some_and(&concerns))
        })
    }

    /// The names of the objects of a namespace that have come, changed or gone after a revision; `None` where that is no
    /// longer known.
    pub fn touched_since(&self, namespace: &str, since: u64) -> Option<BTreeSet<String>> {
        let state = self.state.read();
        let objects = state.changes_after(since)?.map(|change| &change.object);
        let here = objects.filter(|object| object.namespace() == namespace);
        Some(here.map(|object| object.name().to_owned()).collect())
    }

    /// Objects that have owners or finalizers or are being deleted.
    pub fn linked(&self) -> Vec<Arc<Object>> {
        let state = self.state.read();
        state.linked.iter().map(|entry| entry.0.clone()).collect()
    }

    /// Reads a list.
    pub fn list(&self, query: &ListQuery) -> Result<Listing, TooOld> {
        let state = self.state.read();
        let undone = match query.at {
            Some(at) => state.undo(at)?,
            None => BTreeMap::new(),
        };
        let filter = &query.filter;
        if !filter.name.is_empty() && !filter.namespace.is_empty() && undone.is_empty() {
            let key = object_key(&filter.namespace, &filter.name);
            let found = state
                .objects
                .get(key.as_str())
                .map(|e| e.0.clone())
                .filter(|o| filter.accepts(o));
            return Ok(Listing {
                objects: found.into_iter().collect(),
                ..Listing::default()
            });
        }
        let prefix = if filter.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", filter.namespace)
        };
        let mut listing = Listing::default();
        let mut behind = 0;
        for object in state.walk(&prefix, query.after.as_deref(), undone) {
            if listing.more_after.is_some() {
                if !filter.is_everything() {
                    break;
                }
                behind += 1;
                continue;
            }
            if !filter.accepts(&object) {
                continue;
            }
            if query.limit > 0 && listing.objects.len() == query.limit {
                listing.more_after = listing.objects.last().map(|o| o.key().to_string());
                behind = 1;
                continue;
            }
            listing.objects.push(object);
        }
        if listing.more_after.is_some() && filter.is_everything() {
            listing.remaining = Some(behind);
        }
        Ok(listing)
    }

    /// Opens a watch: events after `since`, none lost, none twice.
    pub fn watch(&self, filter: Filter, since: u64) -> Result<Subscription, TooOld> {
        let mut state = self.state.write();
        if since < state.window_start {
            return Err(TooOld {
                oldest: state.window_start,
            });
        }
        let changes = state.changes_after(since).into_iter().flatten();
        let backlog = changes.filter_map(|c| filter.translate(c)).collect();
        Ok(Subscription {
            backlog,
            live: state.add_watcher(filter),
            since,
        })
    }

    /// Opens a watch that begins with the whole current state; answers it with the objects to show first.
    /// `revision` is read while nothing can change, so state and live events fit together.
    pub fn watch_from_now(
        &self,
        filter: Filter,
        revision: impl FnOnce() -> u64,
    ) -> (Vec<Arc<Object>>, Subscription) {
        let mut state = self.state.write();
        let prefix = if filter.namespace.is_empty() {
            String::new()
        } else {
            format!("{}/", filter.namespace)
        };
        let objects = state
            .walk(&prefix, None, BTreeMap::new())
            .filter(|o| filter.accepts(o))
            .collect();
        let since = revision();
        (
            objects,
            Subscription {
                backlog: VecDeque::new(),
                live: state.add_watcher(filter),
                since,
            },
        )
    }

    /// Applies changes of the log, in their order; each watcher is told of all of them at once.
    pub(crate) fn apply(&self, news: &[News<'_>]) {
        let build = |news: &News<'_>| {
            let stored = news.stored?;
            Some(self.build(news.namespace, news.name, stored, news.revision))
        };
        let built: Vec<_> = news.iter().map(build).collect();
        let mut changes = Vec::with_capacity(news.len());
        let mut state = self.state.write();
        for (news, built) in news.iter().zip(built) {
            let key = object_key(news.namespace, news.name);
            let (kind, object, previous) = match built {
                Some(Some(object)) => {
                    let previous = state.take(&key);
                    state.put(object.clone());
                    let kind = match previous {
                        Some(_) => ChangeKind::Modified,
                        None => ChangeKind::Added,
                    };
                    (kind, object, previous)
                }
                Some(None) => continue,
                None => match state.take(&key) {
                    Some(last) => {
                        let gone = Arc::new(last.at_revision(news.revision));
                        (ChangeKind::Deleted, gone, Some(last))
                    }
                    None => continue,
                },
            };
            changes.push(Arc::new(Change {
                kind,
                object,
                previous,
            }));
        }
        let Some(last) = changes.last().map(|change| change.revision()) else {
            return;
        };
        state.watchers.retain(|watcher| watcher.tell(&changes));
        changes.into_iter().for_each(|change| state.record(change));
        self.changed.store(last, Ordering::Release);
    }

    /// Starts over from a complete state: the window is empty, all watches end.
    pub(crate) fn replace(&self, objects: Vec<Arc<Object>>, revision: u64) {
        let mut anew = State::beginning_at(&self.resource, revision);
        objects.into_iter().for_each(|object| anew.put(object));
        *self.state.write() = anew;
        self.changed.store(revision, Ordering::Release);
    }

    /// The cached form of stored bytes; `None`, and told in the log, when they are damaged.
    pub(crate) fn build(
        &self,
        namespace: &str,
        name: &str,
        stored: &[u8],
        revision: u64,
    ) -> Option<Arc<Object>> {
        let plucker = self.plucker.read().clone();
        match Object::from_stored(namespace, name, stored, revision, &plucker, self.keep_decoded) {
            Ok(object) => Some(Arc::new(object)),
            Err(error) => {
                tracing::error!(%error, resource = %self.resource, "left out of the cache");
                None
            }
        }
    }

    /// Other selectable fields from now on (custom resources declare theirs): the index is built anew.
    pub fn set_selectable_fields(&self, fields: Vec<String>) {
        if **self.fields.read() == *fields {
            return;
        }
        let plucker = Arc::new(Plucker::new(&fields));
        *self.plucker.write() = plucker.clone();
        *self.fields.write() = fields.into();
        let mut state = self.state.write();
        let mut anew = State::beginning_at(&self.resource, self.changed().max(state.window_start));
        let rebuilt = state.objects.iter().filter_map(|Entry(o)| {
            // The bytes have their revision already; encoding them again drops it.
            let stored = crate::object::encode(&o.value());
            Object::from_stored(
                o.namespace(),
                o.name(),
                &stored,
                o.revision(),
                &plucker,
                self.keep_decoded,
            )
            .ok()
        });
        rebuilt.for_each(|object| anew.put(Arc::new(object)));
        *state = anew;
    }

    /// Ends all watches of the resource (it is no longer served).
    pub fn end_watches(&self) {
        self.state.write().watchers.clear();
    }
}

impl State {
    fn beginning_at(resource: &GroupResource, revision: u64) -> State {
        let is = |name: &&str| **name == *resource.resource;
        let label = LABELLED.iter().find(|(name, _)| is(name));
        State {
            objects: BTreeSet::new(),
            uids: HashMap::new(),
            linked: BTreeSet::new(),
            owned: BTreeMap::new(),
            strays: ADOPTED.iter().any(is).then(BTreeSet::new),
            labelled: label.map(|(_, label)| (*label, BTreeMap::new())),
            window: VecDeque::new(),
            window_bytes: 0,
            window_start: revision,
            watchers: Vec::new(),
        }
    }

    fn put(&mut self, object: Arc<Object>) {
        let links = object.links();
        self.uids.insert(links.uid, object.clone());
        if links.deleting || links.finalizers || !links.owners.is_empty() {
            self.linked.insert(Entry(object.clone()));
        }
        let address = Arc::as_ptr(&object).addr();
        for owner in &links.owners {
            self.owned.insert((*owner, address), object.clone());
        }
        if let Some(strays) = self.strays.as_mut().filter(|_| !links.controlled) {
            strays.insert(Entry(object.clone()));
        }
        if let Some((label, labelled)) = &mut self.labelled
            && let Some(value) = object.label(label)
        {
            let place = object_key(object.namespace(), value);
            labelled.insert((place.into(), address), object.clone());
        }
        self.objects.insert(Entry(object));
    }

    fn take(&mut self, key: &str) -> Option<Arc<Object>> {
        let object = self.objects.take(key)?.0;
        self.uids.remove(&object.links().uid);
        self.linked.remove(key);
        let address = Arc::as_ptr(&object).addr();
        for owner in &object.links().owners {
            self.owned.remove(&(*owner, address));
        }
        if let Some(strays) = &mut self.strays {
            strays.remove(key);
        }
        if let Some((label, labelled)) = &mut self.labelled
            && let Some(value) = object.label(label)
        {
            labelled.remove(&(object_key(object.namespace(), value).into(), address));
        }
        Some(object)
    }

    fn add_watcher(&mut self, filter: Filter) -> Live {
        let (watcher, live) = Watcher::new(filter);
        self.watchers.push(watcher);
        live
    }

    fn record(&mut self, change: Arc<Change>) {
        self.window_bytes += change.previous.as_ref().map_or(0, |p| p.size());
        self.window.push_back(change);
        while self.window.len() > WINDOW || self.window_bytes > WINDOW_BYTES {
            let Some(old) = self.window.pop_front() else { break };
            self.window_bytes -= old.previous.as_ref().map_or(0, |p| p.size());
            self.window_start = old.revision();
        }
    }

    /// The changes after a revision; none if the window does not reach back so far.
    fn changes_after(&self, since: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        if since < self.window_start {
            return None;
        }
        let from = self.window.partition_point(|c| c.revision() <= since);
        Some(self.window.range(from..))
    }

    /// For each key changed after `at`: its state at `at`.
    fn undo(&self, at: u64) -> Result<BTreeMap<String, Option<Arc<Object>>>, TooOld> {
        let oldest = self.window_start;
        let changes = self.changes_after(at).ok_or(TooOld { oldest })?;
        let mut undone = BTreeMap::new();
        for change in changes {
            undone
                .entry(change.object.key().to_string())
                .or_insert_with(|| change.previous.clone());
        }
        Ok(undone)
    }

    /// Objects in key order under a prefix, behind a key, with some keys replaced.
    fn walk<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
        undone: BTreeMap<String, Option<Arc<Object>>>,
    ) -> impl Iterator<Item = Arc<Object>> + 'a {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.to_string()),
            _ => Bound::Included(prefix.to_string()),
        };
        let range = (start.as_ref().map(String::as_str), Bound::Unbounded);
        let mut now = self.objects.range::<str, _>(range).map(|e| &e.0).peekable();
        let lower = start.clone();
        let mut past = undone
            .into_iter()
            .skip_while(move |(k, _)| match &lower {
                Bound::Excluded(a) => k <= a,
                Bound::Included(a) => k < a,
                Bound::Unbounded => false,
            })
            .peekable();
        let merged = std::iter::from_fn(move || {
            loop {
                let replaced = match (now.peek(), past.peek()) {
                    (None, None) => return None,
                    (Some(_), None) => false,
                    (None, Some(_)) => true,
                    (Some(n), Some((p, _))) if n.key() == p => {
                        now.next();
                        true
                    }
                    (Some(n), Some((p, _))) => p.as_str() < n.key(),
                };
                if !replaced {
                    return now.next().cloned();
                }
                // `None`: the object did not exist then.
                if let Some((_, Some(object))) = past.next() {
                    return Some(object);
                }
            }
        });
        merged.take_while(move |o| o.key().starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache of ConfigMaps whose changes are these: name and, unless it goes, the value of its label `l`.
    fn after(changes: &[(&str, Option<&str>)]) -> ResourceCache {
        let cache = ResourceCache::new(GroupResource::new("", "configmaps"), 0);
        for (at, (name, label)) in changes.iter().enumerate() {
            let stored = label.map(|label| {
                format!(
                    r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","labels":{{"l":"{label}"}}}}}}"#
                )
            });
            cache.apply(&[News {
                namespace: "n",
                name,
                stored: stored.as_deref().map(str::as_bytes),
                revision: at as u64 + 1,
            }]);
        }
        cache
    }

    fn names(objects: &[Arc<Object>]) -> String {
        let names: Vec<&str> = objects.iter().map(|object| object.name()).collect();
        names.join(" ")
    }

    #[test]
    fn what_has_changed_is_told_once_and_as_it_is_now() {
        let cache = after(&[
            ("a", Some("x")),
            ("b", Some("x")),
            ("a", Some("y")),
            ("c", Some("x")),
            ("c", None),
            ("d", Some("x")),
        ]);
        for (since, label, expected) in [
            (0, "", "b a d"),
            (1, "", "b a d"),
            (2, "", "a d"),
            (3, "", "d"),
            (6, "", ""),
            (0, "x", "b d"),
            (2, "y", "a"),
        ] {
            let wanted = |object: &Object| label.is_empty() || object.label("l") == Some(label);
            assert_eq!(
                names(&cache.changed_since(since, wanted)),
                expected,
                "{since} {label}"
            );
        }
        // Older than the window: found by looking at all.
        cache.state.write().window.drain(..4);
        cache.state.write().window_start = 4;
        assert_eq!(names(&cache.changed_since(2, |_| true)), "a d");
    }

    #[test]
    fn what_an_owner_has_and_what_nobody_has() {
        let cache = ResourceCache::new(GroupResource::new("", "pods"), 0);
        let mut revision = 0;
        let mut write = |name: &str, owners: Option<&str>| {
            revision += 1;
            let stored = owners.map(|owners| {
                format!(r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","ownerReferences":[{owners}]}}}}"#)
            });
            cache.apply(&[News {
                namespace: "n",
                name,
                stored: stored.as_deref().map(str::as_bytes),
                revision,
            }]);
        };
        let (x, y) = (r#"{"uid":"x","controller":true}"#, r#"{"uid":"y"}"#);
        let found = || {
            let strays = names(&cache.strays("n", |_| true));
            assert!(cache.strays("", |_| true).is_empty());
            let owned = |uid| names(&cache.owned_by(Uid::of(uid)));
            format!("{} | {} | {strays}", owned("x"), owned("y"))
        };
        for (name, owners, expected) in [
            ("b", Some(x), "b |  | "),
            ("a", Some(x), "a b |  | "),
            ("c", Some(y), "a b | c | c"),
            ("a", Some(""), "b | c | a c"),
            ("b", Some(y), " | b c | a b c"),
            ("c", None, " | b | a b"),
            ("ab", Some(&format!("{x},{y}")), "ab | ab b | a b"),
        ] {
            write(name, owners);
            assert_eq!(found(), expected, "{name} {owners:?}");
        }
    }

    #[test]
    fn slices_are_found_by_their_service() {
        let cache = ResourceCache::new(GroupResource::new("discovery.k8s.io", "endpointslices"), 0);
        for (at, (name, service, expected)) in [
            ("b", Some("x"), "b | "),
            ("a", Some("x"), "a b | "),
            ("b", Some("y"), "a | b"),
            ("a", None, " | b"),
        ]
        .into_iter()
        .enumerate()
        {
            let stored = service.map(|service| {
                format!(r#"{{"metadata":{{"name":"{name}","namespace":"n","labels":{{"kubernetes.io/service-name":"{service}"}}}}}}"#)
            });
            cache.apply(&[News {
                namespace: "n",
                name,
                stored: stored.as_deref().map(str::as_bytes),
                revision: at as u64 + 1,
            }]);
            let of = |service| names(&cache.labelled("n", service));
            assert_eq!(format!("{} | {}", of("x"), of("y")), expected, "{name}");
        }
        assert!(cache.labelled("m", "y").is_empty());
    }

    #[test]
    fn what_has_changed_since_is_told_with_how_far_it_reaches() {
        let cache = after(&[("a", Some("x")), ("a", Some("y")), ("a", None)]);
        for (since, upto, changes) in [(0, 3, 3), (2, 3, 1), (3, 3, 0)] {
            let told = cache.since(since);
            assert_eq!(
                (told.upto, told.changes.unwrap().len()),
                (upto, changes),
                "{since}"
            );
        }
        cache.state.write().window_start = 3;
        assert!(cache.since(2).changes.is_none(), "who cannot know must look");
    }

    #[test]
    fn who_is_concerned_hears_of_what_came_and_went() {
        let changes = [("a", Some("x")), ("b", Some("y")), ("a", Some("z")), ("b", None)];
        let cache = after(&changes);
        let concerned =
            |since, label: &'static str| cache.concerned_since(since, |o| o.label("l") == Some(label));
        assert!(concerned(0, "x"));
        assert!(concerned(2, "x"), "it was so before the change");
        assert!(!concerned(3, "x"));
        assert!(concerned(3, "y"), "it is gone");
        assert!(!concerned(4, "y"));
        let touched = cache.touched_since("n", 2).unwrap();
        assert_eq!(touched.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(cache.touched_since("m", 0).unwrap().is_empty());
        cache.state.write().window_start = 4;
        assert!(concerned(3, "none"), "who cannot know must look");
        assert!(cache.touched_since("n", 3).is_none());
    }
}
