//! Follows the log of the store and keeps the caches current: one task, in order, nothing else writes them.

use crate::object::Object;
use crate::resource::News;
use crate::view::GroupResource;
use crate::{Caches, ResourceCache};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::{EventKind, Revision, Store, StoreError, Watch};
use tokio_util::sync::CancellationToken;

/// Revisions of history read at start, so that clients that were connected before a restart go on watching.
const HISTORY: u64 = 5000;
/// Objects read at a time when everything is loaded.
const PAGE: usize = 2000;
/// Pause between attempts to read a store that cannot serve.
const RETRY: Duration = Duration::from_millis(500);
/// How long the log is still applied after the end was asked for.
const LINGER: Duration = Duration::from_secs(3);
/// How long one batch of history may take.
const LOAD_WAIT: Duration = Duration::from_secs(30);

/// Turns keys of the store into resources and names, and back: `CONTROL-PLANE/GROUP/RESOURCE/[NAMESPACE/]NAME`,
/// where the core group is spelled `core`.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The keys of one control plane.
    pub fn new(control_plane: &str) -> Keys {
        Keys {
            prefix: format!("{control_plane}/"),
        }
    }

    /// The prefix of all its keys.
    pub fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    /// The key of one object.
    pub fn object(&self, resource: &GroupResource, namespace: &str, name: &str) -> Bytes {
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &resource.group
        };
        let object = crate::object::object_key(namespace, name);
        Bytes::from(format!(
            "{}{}/{}/{}",
            self.prefix, group, resource.resource, object
        ))
    }

    /// Resource, namespace and name of a key; `None` for keys that are no objects.
    pub fn parse<'k>(&self, key: &'k [u8]) -> Option<(Place<'k>, &'k str, &'k str)> {
        let text = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        let mut parts = text.splitn(4, '/');
        let (group, resource, first) = (parts.next()?, parts.next()?, parts.next()?);
        let group = if group == "core" { "" } else { group };
        let (namespace, name) = match parts.next() {
            Some(name) => (first, name),
            None => ("", first),
        };
        Some((Place { group, resource }, namespace, name))
    }
}

/// The resource that a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'k> {
    group: &'k str,
    resource: &'k str,
}

impl Place<'_> {
    /// It by itself.
    pub fn resource(&self) -> GroupResource {
        GroupResource::new(self.group, self.resource)
    }

    fn is(&self, resource: &GroupResource) -> bool {
        self.resource == resource.resource && self.group == resource.group
    }
}

/// Loads everything and answers the watch from which to go on.
pub async fn load(store: &dyn Store, keys: &Keys, caches: &Caches) -> Result<Watch, StoreError> {
    let current = store.current().await?;
    let oldest = store.oldest().await?;
    // Revision 0 means "now" to some stores; 1 is before everything that matters to all of them.
    let begin = Revision(current.0.saturating_sub(HISTORY).max(1).min(current.0));
    let mut from = begin.max(oldest);
    let mut page = match store.list(keys.prefix(), None, PAGE, Some(from)).await {
        // Others compact, too, and not every store says how far: then there is no history to begin with.
        Err(StoreError::Compacted { .. }) => {
            from = current;
            store.list(keys.prefix(), None, PAGE, Some(from)).await?
        }
        listed => listed?,
    };
    let mut built: HashMap<GroupResource, Vec<Arc<Object>>> = HashMap::new();
    for known in caches.all() {
        built.insert(known.resource().clone(), Vec::new());
    }
    loop {
        // The next page is read while this one is taken in.
        let last = page.records.last().map(|record| record.key.clone());
        let last = last.filter(|_| page.more);
        let next = async {
            match &last {
                Some(last) => {
                    let next = store.list(keys.prefix(), Some(last), PAGE, Some(from));
                    next.await.map(Some)
                }
                None => Ok(None),
            }
        };
        let records = std::mem::take(&mut page.records);
        let (next, ()) = tokio::join!(next, async { take_in(records, keys, caches, &mut built) });
        match next? {
            Some(next) => page = next,
            None => break,
        }
    }
    for (resource, objects) in built {
        caches.resource(&resource).replace(objects, from.0);
    }
    let mut watch = store.watch(keys.prefix(), from).await?;
    // What happened between `from` and `current` must be known before anyone is served.
    loop {
        let next = tokio::time::timeout(LOAD_WAIT, watch.next()).await;
        let Ok(Some(batch)) = next else {
            return Err(StoreError::unavailable(
                "the watch on the store ended while its history was read",
            ));
        };
        let batch = batch?;
        apply(&batch.events, keys, caches);
        if batch.revision >= current {
            caches.advance(batch.revision.0);
            return Ok(watch);
        }
    }
}

/// Builds the cached form of some records, by resource.
fn take_in(
    records: Vec<store::Record>,
    keys: &Keys,
    caches: &Caches,
    built: &mut HashMap<GroupResource, Vec<Arc<Object>>>,
) {
    let mut cache: Option<Arc<ResourceCache>> = None;
    for record in records {
        let Some((place, namespace, name)) = keys.parse(&record.key) else {
            tracing::warn!(key = ?record.key, "a key of the store names no object");
            continue;
        };
        // Keys of a resource follow each other.
        let of = match cache.take().filter(|cache| place.is(cache.resource())) {
            Some(same) => same,
            None => caches.resource(&place.resource()),
        };
        let object = of.build(namespace, name, &record.value, record.revision.0);
        if let Some(object) = object {
            match built.get_mut(of.resource()) {
                Some(list) => list.push(object),
                None => drop(built.insert(of.resource().clone(), vec![object])),
            }
        }
        cache = Some(of);
    }
}

fn apply(batch: &[store::Event], keys: &Keys, caches: &Caches) {
    // By resource: the order matters within one only.
    let mut parts: Vec<(GroupResource, Vec<News>)> = Vec::new();
    for event in batch {
        let Some((place, namespace, name)) = keys.parse(&event.record.key) else {
            continue;
        };
        let news = News {
            namespace,
            name,
            stored: (event.kind != EventKind::Deleted).then_some(&event.record.value[..]),
            revision: event.record.revision.0,
        };
        match parts.iter_mut().find(|(resource, _)| place.is(resource)) {
            Some((_, part)) => part.push(news),
            None => parts.push((place.resource(), vec![news])),
        }
    }
    for (resource, news) in parts {
        caches.resource(&resource).apply(&news);
    }
}

/// Applies the log until `stop` and a little longer, for writes that were accepted before; when the watch is cut off,
/// loads everything anew.
pub async fn run(
    store: Arc<dyn Store>,
    keys: Keys,
    caches: Arc<Caches>,
    mut watch: Watch,
    stop: CancellationToken,
) {
    let last = async {
        stop.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let mut last = std::pin::pin!(last);
    let _ended = caches.ended.clone().drop_guard();
    loop {
        let next = tokio::select! {
            () = &mut last => return,
            next = watch.next() => next,
        };
        if let Some(Ok(batch)) = next {
            apply(&batch.events, &keys, &caches);
            caches.advance(batch.revision.0);
            continue;
        }
        if let Some(Err(error)) = next {
            tracing::warn!(%error, "the watch on the store ended");
        }
        loop {
            if stop.is_cancelled() {
                return;
            }
            match load(&*store, &keys, &caches).await {
                Ok(again) => {
                    watch = again;
                    break;
                }
                Err(error) => tracing::error!(%error, "the store cannot be read; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
}
