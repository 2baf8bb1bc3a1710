//! What reconcilers know and how they act: one shared cache per resource, fed by a watch, and plain requests.
//!
//! Every answer of a write is put into the cache at once (write-through), so a reconciler that comes round again
//! before the watch has caught up does not repeat itself. Objects are `serde_json::Value`, without
//! what no reconciler reads (see [`raw`]).

mod cache;
mod raw;

use crate::obj::{int, meta, text};
use cache::Cache;
use futures::TryStreamExt;
use http::Request;
use kube::Client;
use kube::api::{Api, ApiResource};
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::RwLock;
use raw::Raw;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The API server refused, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The request could not be written.
    #[error("building the request: {0}")]
    Request(#[from] http::Error),
    /// The body could not be written.
    #[error("writing the body: {0}")]
    Body(#[from] serde_json::Error),
    /// The resource is not known here.
    #[error("resource {0} is not watched")]
    Unknown(String),
}

impl WorldError {
    /// The HTTP status of a refusal, 0 for everything else.
    pub fn code(&self) -> u16 {
        match self {
            WorldError::Api(kube::Error::Api(status)) => status.code,
            _ => 0,
        }
    }

    /// The server's words, or this error's own.
    pub fn message(&self) -> String {
        match self {
            WorldError::Api(kube::Error::Api(status)) => status.message.clone(),
            other => other.to_string(),
        }
    }
}

/// `Ok` also when the object is gone or was changed meanwhile: the next round sees it anyway.
pub fn settled<T>(result: Result<T, WorldError>) -> Result<Option<T>, WorldError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.code(), 404 | 409) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A resource and where it is served.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Plural name.
    pub plural: String,
    /// Lives in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// `plural` or `plural.group`.
    pub fn key(&self) -> String {
        match self.group.is_empty() {
            true => self.plural.clone(),
            false => format!("{}.{}", self.plural, self.group),
        }
    }

    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group.is_empty() {
            true => self.version.clone(),
            false => format!("{}/{}", self.group, self.version),
        }
    }

    fn path(&self, namespace: &str, name: &str, sub: &str) -> String {
        let mut path = match self.group.is_empty() {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        };
        if self.namespaced && !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        for part in [name, sub] {
            if !part.is_empty() {
                path += &format!("/{part}");
            }
        }
        path
    }
}

/// Caches of the cluster's objects, and the way to change them.
pub struct World {
    client: Client,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What worlds of one process have in common.
struct Shared {
    caches: RwLock<HashMap<String, Arc<Cache>>>,
    changed: watch::Sender<u64>,
}

impl World {
    /// A world without caches; `stop` ends its watches.
    pub fn new(client: Client, stop: CancellationToken) -> Arc<World> {
        let shared = Shared {
            caches: RwLock::default(),
            changed: watch::channel(0).0,
        };
        Arc::new(World {
            client,
            shared: Arc::new(shared),
            stop,
        })
    }

    /// The same caches for somebody else, who acts under another name: one copy of the cluster serves a whole process.
    pub fn acting_through(&self, client: Client) -> Arc<World> {
        Arc::new(World {
            client,
            shared: self.shared.clone(),
            stop: self.stop.clone(),
        })
    }

    /// Begins to watch a resource, once. `whole` keeps whole objects, otherwise metadata only.
    pub fn watch(self: &Arc<Self>, resource: Resource, whole: bool) {
        let key = resource.key();
        let cache = {
            let mut caches = self.shared.caches.write();
            if caches.contains_key(&key) {
                return;
            }
            let cache = Arc::new(Cache::new(resource, whole));
            caches.insert(key, cache.clone());
            cache
        };
        let world = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = world.stop.cancelled() => {}
                () = async {
                    match cache.whole {
                        true => world.follow::<true>(&cache).await,
                        false => world.follow::<false>(&cache).await,
                    }
                } => {}
            }
        });
    }

    /// Begins to watch a built-in resource (`deployments.apps`), whole.
    pub fn watch_builtin(self: &Arc<Self>, key: &str) {
        if let Some(resource) = builtin(key) {
            self.watch(resource, true);
        }
    }

    async fn follow<const WHOLE: bool>(&self, cache: &Cache) {
        let r = &cache.resource;
        let api_resource = ApiResource {
            group: r.group.clone(),
            version: r.version.clone(),
            api_version: r.api_version(),
            kind: r.kind.clone(),
            plural: r.plural.clone(),
        };
        let api: Api<Raw<WHOLE>> = Api::all_with(self.client.clone(), &api_resource);
        let events = watcher(api, watcher::Config::default()).default_backoff();
        let mut events = pin!(events);
        let mut listed: Option<Vec<Value>> = None;
        loop {
            match events.try_next().await {
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(resource = r.key(), %error, "watch broke off; it is taken up again")
                }
                Ok(Some(event)) => self.take(cache, event, &mut listed),
            }
        }
    }

    fn take<const WHOLE: bool>(
        &self,
        cache: &Cache,
        event: watcher::Event<Raw<WHOLE>>,
        listed: &mut Option<Vec<Value>>,
    ) {
        match event {
            watcher::Event::Init => *listed = Some(Vec::new()),
            watcher::Event::InitApply(o) => listed.get_or_insert_default().push(o.value),
            watcher::Event::InitDone => {
                let listed = listed.take().unwrap_or_default();
                cache.replace(listed);
                self.announce(cache);
            }
            watcher::Event::Apply(o) => {
                cache.put(o.value);
                self.announce(cache);
            }
            watcher::Event::Delete(o) => {
                let part = |name| meta(&o.value, name);
                cache.bury(part("namespace"), part("name"), part("uid"));
                self.announce(cache);
            }
        }
    }

    fn announce(&self, cache: &Cache) {
        cache.revision.fetch_add(1, Ordering::AcqRel);
        self.shared.changed.send_modify(|n| *n += 1);
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// A number that rises with every change of these resources.
    pub fn revision(&self, keys: &[&str]) -> u64 {
        let caches = self.shared.caches.read();
        let of = |k: &&str| caches.get(*k).map_or(0, |c| c.revision.load(Ordering::Acquire));
        keys.iter().map(of).sum()
    }

    /// All these resources have been listed at least once.
    pub fn synced(&self, keys: &[&str]) -> bool {
        let caches = self.shared.caches.read();
        keys.iter()
            .all(|k| caches.get(*k).is_some_and(|c| c.synced.load(Ordering::Acquire)))
    }

    /// The watched resources.
    pub fn resources(&self) -> Vec<Resource> {
        self.shared
            .caches
            .read()
            .values()
            .map(|c| c.resource.clone())
            .collect()
    }

    fn cache(&self, key: &str) -> Result<Arc<Cache>, WorldError> {
        let found = self.shared.caches.read().get(key).cloned();
        found.ok_or_else(|| WorldError::Unknown(key.to_string()))
    }

    /// An object.
    pub fn get(&self, key: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let cache = self.cache(key).ok()?;
        let key = (namespace.to_string(), name.to_string());
        let objects = cache.objects.read();
        objects.get(&key).cloned()
    }

    /// All objects.
    pub fn all(&self, key: &str) -> Vec<Arc<Value>> {
        self.cache(key)
            .map(|c| c.objects.read().values().cloned().collect())
            .unwrap_or_default()
    }

    /// The objects of a namespace.
    pub fn list(&self, key: &str, namespace: &str) -> Vec<Arc<Value>> {
        let from = (namespace.to_string(), String::new());
        let Ok(cache) = self.cache(key) else {
            return Vec::new();
        };
        let objects = cache.objects.read();
        let found = objects.range(from..).take_while(|((ns, _), _)| ns == namespace);
        found.map(|(_, o)| o.clone()).collect()
    }

    async fn send(&self, method: &str, path: String, kind: &str, body: &Value) -> Result<Value, WorldError> {
        let bytes = match body.is_null() {
            true => Vec::new(),
            false => serde_json::to_vec(body)?,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .header("accept", "application/json")
            .body(bytes)?;
        Ok(self.client.request(request).await?)
    }

    fn keep(&self, cache: &Cache, answer: &Value) {
        if answer["kind"] == cache.resource.kind.as_str() && !meta(answer, "name").is_empty() {
            cache.put(answer.clone());
            self.announce(cache);
        }
    }

    /// The object as the API server has it now, past the cache.
    pub async fn live(&self, key: &str, namespace: &str, name: &str) -> Result<Option<Value>, WorldError> {
        let path = self.cache(key)?.resource.path(namespace, name, "");
        match self.send("GET", path, "application/json", &Value::Null).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.code() == 404 => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates an object.
    pub async fn create(&self, key: &str, object: &Value) -> Result<Value, WorldError> {
        let cache = self.cache(key)?;
        let path = cache.resource.path(meta(object, "namespace"), "", "");
        let answer = self.send("POST", path, "application/json", object).await?;
        self.keep(&cache, &answer);
        Ok(answer)
    }

    /// Posts to a subresource, such as `binding`.
    pub async fn post_sub(
        &self,
        key: &str,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Result<Value, WorldError> {
        let path = self.cache(key)?.resource.path(namespace, name, sub);
        self.send("POST", path, "application/json", body).await
    }

    /// Puts an object to a subresource, such as `finalize`.
    pub async fn put_sub(&self, key: &str, object: &Value, sub: &str) -> Result<Value, WorldError> {
        let path = self
            .cache(key)?
            .resource
            .path(meta(object, "namespace"), meta(object, "name"), sub);
        self.send("PUT", path, "application/json", object).await
    }

    /// Sends a merge patch; `sub` may be empty or `status`.
    pub async fn patch(
        &self,
        key: &str,
        object: &Value,
        sub: &str,
        patch: &Value,
    ) -> Result<Value, WorldError> {
        let cache = self.cache(key)?;
        let path = cache
            .resource
            .path(meta(object, "namespace"), meta(object, "name"), sub);
        let answer = self
            .send("PATCH", path, "application/merge-patch+json", patch)
            .await?;
        self.keep(&cache, &answer);
        Ok(answer)
    }

    /// Makes `new` of `old`, refused when somebody else was faster. Nothing is sent when nothing differs.
    pub async fn update(&self, key: &str, old: &Value, new: &Value) -> Result<(), WorldError> {
        let Some(mut patch) = difference(old, new) else {
            return Ok(());
        };
        patch["metadata"]["resourceVersion"] = json!(meta(old, "resourceVersion"));
        self.patch(key, old, "", &patch).await.map(|_| ())
    }

    /// Writes a status, when it differs.
    pub async fn update_status(&self, key: &str, old: &Value, status: &Value) -> Result<(), WorldError> {
        let Some(patch) = difference(&old["status"], status) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"uid": meta(old, "uid")}, "status": patch});
        self.patch(key, old, "status", &patch).await.map(|_| ())
    }

    /// Deletes an object, this very one (by its uid).
    pub async fn delete(&self, key: &str, object: &Value, propagation: &str) -> Result<(), WorldError> {
        self.delete_with(key, object, json!({"propagationPolicy": propagation}))
            .await
    }

    /// Deletes an object without grace.
    pub async fn delete_now(&self, key: &str, object: &Value) -> Result<(), WorldError> {
        self.delete_with(key, object, json!({"gracePeriodSeconds": 0}))
            .await
    }

    async fn delete_with(&self, key: &str, object: &Value, mut body: Value) -> Result<(), WorldError> {
        let cache = self.cache(key)?;
        let (namespace, name) = (meta(object, "namespace"), meta(object, "name"));
        body["kind"] = json!("DeleteOptions");
        body["apiVersion"] = json!("v1");
        body["preconditions"] = json!({"uid": meta(object, "uid")});
        let answer = self
            .send(
                "DELETE",
                cache.resource.path(namespace, name, ""),
                "application/json",
                &body,
            )
            .await;
        match answer {
            Ok(answer)
                if answer["kind"] == cache.resource.kind.as_str()
                    && !text(&answer, "/metadata/deletionTimestamp").is_empty() =>
            {
                self.keep(&cache, &answer);
            }
            Ok(_) => {
                cache.bury(namespace, name, meta(object, "uid"));
                self.announce(&cache);
            }
            Err(e) if e.code() == 404 => {
                cache.bury(namespace, name, meta(object, "uid"));
                self.announce(&cache);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Notes that a Pod was bound to a node before the watch says so.
    pub fn assume(&self, key: &str, pod: &Value, node: &str) {
        if let Ok(cache) = self.cache(key) {
            let mut pod = pod.clone();
            pod["spec"]["nodeName"] = json!(node);
            cache.put(pod);
        }
    }

    /// Deletes all objects of a resource in a namespace and says how many are left.
    pub async fn empty(&self, resource: &Resource, namespace: &str) -> Result<Vec<Value>, WorldError> {
        let path = resource.path(namespace, "", "");
        let objects = |list: Value| list["items"].as_array().cloned().unwrap_or_default();
        let found = self
            .send("GET", path.clone(), "application/json", &Value::Null)
            .await?;
        if objects(found).is_empty() {
            return Ok(Vec::new());
        }
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        self.send("DELETE", path.clone(), "application/json", &options)
            .await?;
        let left = self.send("GET", path, "application/json", &Value::Null).await?;
        Ok(objects(left))
    }

    /// Records an Event about an object; failures are only logged. Equal events are counted, not repeated.
    pub async fn event(&self, source: &str, about: &Value, warning: bool, reason: &str, message: &str) {
        let namespace = match meta(about, "namespace") {
            "" => "default",
            ns => ns,
        };
        let now = crate::obj::now();
        let kind = if warning { "Warning" } else { "Normal" };
        let name = format!(
            "{}.{}",
            meta(about, "name"),
            crate::obj::digest(
                &format!("{source}{}{kind}{reason}{message}", meta(about, "uid")),
                16
            )
        );
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "name": meta(about, "name"),
                "namespace": meta(about, "namespace"), "uid": meta(about, "uid"),
                "resourceVersion": meta(about, "resourceVersion"),
            },
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": source}, "reportingComponent": source, "reportingInstance": "",
        });
        let base = format!("/api/v1/namespaces/{namespace}/events");
        match self.send("POST", base.clone(), "application/json", &event).await {
            Err(e) if e.code() == 409 => {
                let at = format!("{base}/{name}");
                let count = match self
                    .send("GET", at.clone(), "application/json", &Value::Null)
                    .await
                {
                    Ok(old) => int(&old, "/count", 1) + 1,
                    Err(_) => return,
                };
                let patch = json!({"count": count, "lastTimestamp": now});
                if let Err(error) = self
                    .send("PATCH", at, "application/merge-patch+json", &patch)
                    .await
                {
                    tracing::debug!(%error, reason, "event not counted");
                }
            }
            Err(error) => tracing::debug!(%error, reason, "event not recorded"),
            Ok(_) => {}
        }
    }
}

/// A built-in resource by `plural` or `plural.group`, in its first (preferred) version.
pub fn builtin(key: &str) -> Option<Resource> {
    let (plural, group) = key.split_once('.').unwrap_or((key, ""));
    let kind = kinds::builtin()
        .iter()
        .find(|k| k.plural == plural && k.group == group)?;
    Some(of_kind(kind))
}

/// The resource of a built-in kind.
pub fn of_kind(kind: &kinds::KindInfo) -> Resource {
    Resource {
        group: kind.group.into(),
        version: kind.version.into(),
        kind: kind.kind.into(),
        plural: kind.plural.into(),
        namespaced: kind.namespaced,
    }
}

/// The merge patch (RFC 7396) that makes `new` of `old`, `None` when they are equal.
pub fn difference(old: &Value, new: &Value) -> Option<Value> {
    if old == new || (old.is_null() && new.as_object().is_some_and(Map::is_empty)) {
        return None;
    }
    let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
        return Some(new.clone());
    };
    let mut patch = Map::new();
    for key in before.keys().filter(|k| !after.contains_key(*k)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        match before.get(key) {
            None if value.is_null() => {}
            None => {
                patch.insert(key.clone(), value.clone());
            }
            Some(had) => {
                if let Some(d) = difference(had, value) {
                    patch.insert(key.clone(), d);
                }
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}
