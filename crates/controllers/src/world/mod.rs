//! What reconcilers know and how they act: the watch cache of the API server, and plain requests.
//!
//! Controllers, scheduler and API server are one process and have one copy of the cluster between them. A request is
//! answered only after the cache has the change, so who writes and then looks sees what was written. Objects are
//! `serde_json::Value`, decoded when they are asked for: look through many of them with [`World::select`], which
//! asks the cache's index first.

mod decoded;
mod events;
mod told;

use crate::obj::meta;
use cache::view::GroupResource;
use cache::{Caches, Object, ResourceCache, Since, Uid};
use decoded::Decoded;
pub use events::Note;
use http::Request;
use kube::Client;
use parking_lot::{Mutex, RwLock};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::watch;
use told::Told;

const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

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

    /// The server names this cause of a refusal.
    pub fn names(&self, cause: &str) -> bool {
        let WorldError::Api(kube::Error::Api(status)) = self else {
            return false;
        };
        let details = status.details.as_ref();
        details.is_some_and(|details| details.causes.iter().any(|c| c.reason == cause))
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

    /// Where its group and version are served.
    pub(crate) fn place(&self) -> String {
        match self.group.is_empty() {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        }
    }

    /// Where an object, or one of its subresources, is served.
    pub(crate) fn path(&self, namespace: &str, name: &str, sub: &str) -> String {
        let mut path = self.place();
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

/// The cluster's objects, and the way to change them.
pub struct World {
    client: Client,
    shared: Arc<Shared>,
}

/// What worlds of one process have in common.
struct Shared {
    caches: Arc<Caches>,
    /// The resources that can be asked for.
    known: RwLock<BTreeMap<String, Known>>,
    decoded: Mutex<Decoded>,
    told: Mutex<Told>,
}

/// A resource and its objects.
#[derive(Clone)]
struct Known {
    resource: Arc<Resource>,
    cache: Arc<ResourceCache>,
}

impl World {
    /// Looks at `caches`, which must be those of the API server that `client` speaks to.
    pub fn new(client: Client, caches: Arc<Caches>) -> Arc<World> {
        let shared = Shared {
            caches,
            known: RwLock::default(),
            decoded: Mutex::default(),
            told: Mutex::default(),
        };
        Arc::new(World {
            client,
            shared: Arc::new(shared),
        })
    }

    /// The same objects for somebody else, who acts under another name.
    pub fn acting_through(&self, client: Client) -> Arc<World> {
        Arc::new(World {
            client,
            shared: self.shared.clone(),
        })
    }

    /// Makes a resource known that is not built in; built-in ones are known by themselves.
    pub fn know(&self, resource: Resource) {
        let mut known = self.shared.known.write();
        known
            .entry(resource.key())
            .or_insert_with(|| self.shared.known_as(resource));
    }

    /// The objects as the API server's own parts look at them.
    pub fn view(&self) -> &Caches {
        &self.shared.caches
    }

    /// Told of every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.caches.subscribe()
    }

    /// A number that rises with every change of these resources; of one it is the revision of that change. (Of several it is
    /// no revision: one that changed earlier than another may be told of later.)
    pub fn revision(&self, keys: &[&str]) -> u64 {
        let changed = |key: &&str| self.known(key).map_or(0, |known| known.cache.changed());
        keys.iter().map(changed).fold(0, u64::wrapping_add)
    }

    /// The resources that were made known or asked for.
    pub fn resources(&self) -> Vec<Resource> {
        let known = self.shared.known.read();
        known.values().map(|known| (*known.resource).clone()).collect()
    }

    fn known(&self, key: &str) -> Result<Known, WorldError> {
        if let Some(found) = self.shared.known.read().get(key) {
            return Ok(found.clone());
        }
        let resource = builtin(key).ok_or_else(|| WorldError::Unknown(key.to_string()))?;
        self.know(resource);
        let found = self.shared.known.read().get(key).cloned();
        found.ok_or_else(|| WorldError::Unknown(key.to_string()))
    }

    fn resource(&self, key: &str) -> Result<Arc<Resource>, WorldError> {
        Ok(self.known(key)?.resource)
    }

    fn decode(&self, objects: &[Arc<Object>]) -> Vec<Arc<Value>> {
        let mut decoded = self.shared.decoded.lock();
        objects.iter().map(|object| decoded.value(object)).collect()
    }

    /// An object.
    pub fn get(&self, key: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let object = self.known(key).ok()?.cache.get(namespace, name)?;
        Some(self.shared.decoded.lock().value(&object))
    }

    /// All objects.
    pub fn all(&self, key: &str) -> Vec<Arc<Value>> {
        self.select(key, "", |_| true)
    }

    /// The objects of a namespace.
    pub fn list(&self, key: &str, namespace: &str) -> Vec<Arc<Value>> {
        self.select(key, namespace, |_| true)
    }

    /// The objects, of one namespace unless that is empty, of which the cache's index says that they are wanted; the
    /// others are not even decoded.
    pub fn select(&self, key: &str, namespace: &str, wanted: impl FnMut(&Object) -> bool) -> Vec<Arc<Value>> {
        self.decode(&self.entries(key, namespace, wanted))
    }

    /// Like [`World::select`], as they stand in the cache.
    pub fn entries(
        &self,
        key: &str,
        namespace: &str,
        wanted: impl FnMut(&Object) -> bool,
    ) -> Vec<Arc<Object>> {
        self.known(key)
            .map(|known| known.cache.select(namespace, wanted))
            .unwrap_or_default()
    }

    /// The objects that have changed after a revision, of which the cache's index says that they are wanted. Costs what has
    /// changed, not what there is.
    pub fn changed(&self, key: &str, since: u64, wanted: impl FnMut(&Object) -> bool) -> Vec<Arc<Value>> {
        let known = self.known(key);
        let objects = known.map(|known| known.cache.changed_since(since, wanted));
        self.decode(&objects.unwrap_or_default())
    }

    /// Whether an object that `concerns` the caller has come, gone or changed after a revision.
    pub fn concerned(&self, key: &str, since: u64, concerns: impl Fn(&Object) -> bool) -> bool {
        self.known(key)
            .is_ok_and(|known| known.cache.concerned_since(since, concerns))
    }

    /// What has become of a resource after a revision.
    pub(crate) fn since(&self, key: &str, since: u64) -> Option<Since> {
        Some(self.known(key).ok()?.cache.since(since))
    }

    /// An object as it stands in the cache.
    pub(crate) fn entry(&self, key: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.known(key).ok()?.cache.get(namespace, name)
    }

    /// The object of a resource that has a uid.
    pub(crate) fn primary(&self, key: &str, uid: Uid) -> Option<Arc<Object>> {
        self.known(key).ok()?.cache.by_uid(uid)
    }

    /// The objects of a resource that name this uid among their owners.
    pub(crate) fn owned(&self, key: &str, owner: Uid) -> Vec<Arc<Object>> {
        let known = self.known(key);
        known.map(|known| known.cache.owned_by(owner)).unwrap_or_default()
    }

    /// The objects of a namespace that have this value of the label by which those of the resource are found.
    pub(crate) fn labelled(&self, key: &str, namespace: &str, value: &str) -> Vec<Arc<Object>> {
        let known = self.known(key);
        let found = known.map(|known| known.cache.labelled(namespace, value));
        found.unwrap_or_default()
    }

    /// What a controller may call its own: the objects of a namespace that name it among their owners, and those that no
    /// controller has and that it selects.
    pub(crate) fn claimable(
        &self,
        key: &str,
        namespace: &str,
        owner: Uid,
        selected: impl Fn(&Object) -> bool,
    ) -> Vec<Arc<Value>> {
        let Ok(known) = self.known(key) else {
            return Vec::new();
        };
        let mut found = known.cache.owned_by(owner);
        found.retain(|object| object.namespace() == namespace);
        let strays = known.cache.strays(namespace, |stray| {
            selected(stray) && !stray.links().owners.contains(&owner)
        });
        found.extend(strays);
        found.sort_by(|a, b| a.key().cmp(b.key()));
        self.decode(&found)
    }

    /// The objects of a resource that are being deleted.
    pub(crate) fn deleting(&self, key: &str) -> Vec<Arc<Value>> {
        let mut linked = self.linked(key);
        linked.retain(|object| object.links().deleting);
        self.decode(&linked)
    }

    /// How many objects a namespace has.
    pub fn count(&self, key: &str, namespace: &str) -> usize {
        self.entries(key, namespace, |_| true).len()
    }

    /// The objects of a resource that have owners or finalizers or are being deleted.
    pub(crate) fn linked(&self, key: &str) -> Vec<Arc<Object>> {
        let linked = self.known(key).map(|known| known.cache.linked());
        linked.unwrap_or_default()
    }

    /// What has become of each known resource after the revision `seen` of it; nothing where nothing has. Of a resource that
    /// was not seen before no change is known.
    pub(crate) fn news(&self, seen: &HashMap<String, u64>) -> Vec<(String, Since)> {
        let known = self.shared.known.read();
        let of = |(key, known): (&String, &Known)| {
            let seen = seen.get(key).copied();
            if seen == Some(known.cache.changed()) {
                return None;
            }
            let mut since = known.cache.since(seen.unwrap_or(u64::MAX));
            since.changes = seen.and(since.changes);
            Some((key.clone(), since))
        };
        known.iter().filter_map(of).collect()
    }

    /// What names this uid among its owners, whatever its resource, with the key of that.
    pub(crate) fn dependents(&self, owner: Uid) -> Vec<(String, Arc<Object>)> {
        let known = self.shared.known.read();
        let of = |(key, known): (&String, &Known)| {
            let objects = known.cache.owned_by(owner).into_iter();
            objects.map(|object| (key.clone(), object)).collect::<Vec<_>>()
        };
        known.iter().flat_map(of).collect()
    }

    /// The object with a uid, whatever its resource.
    pub(crate) fn by_uid(&self, uid: Uid) -> Option<Arc<Object>> {
        let known = self.shared.known.read();
        known.values().find_map(|known| known.cache.by_uid(uid))
    }

    /// The decoded form of an object in the cache.
    pub(crate) fn value(&self, object: &Arc<Object>) -> Arc<Value> {
        self.shared.decoded.lock().value(object)
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

    /// Reads what is served at a path: discovery, a subresource, somebody else's API.
    pub(crate) async fn read(&self, path: &str) -> Result<Value, WorldError> {
        let path = path.to_owned();
        self.send("GET", path, "application/json", &Value::Null).await
    }

    /// Puts an object to a path that was read.
    pub(crate) async fn write(&self, path: &str, object: &Value) -> Result<Value, WorldError> {
        self.send("PUT", path.to_owned(), "application/json", object)
            .await
    }

    /// The object as the API server has it now, past the cache.
    pub async fn live(&self, key: &str, namespace: &str, name: &str) -> Result<Option<Value>, WorldError> {
        let path = self.resource(key)?.path(namespace, name, "");
        match self.send("GET", path, "application/json", &Value::Null).await {
            Ok(object) => Ok(Some(object)),
            Err(e) if e.code() == 404 => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates an object.
    pub async fn create(&self, key: &str, object: &Value) -> Result<Value, WorldError> {
        let path = self.resource(key)?.path(meta(object, "namespace"), "", "");
        self.send("POST", path, "application/json", object).await
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
        let path = self.resource(key)?.path(namespace, name, sub);
        self.send("POST", path, "application/json", body).await
    }

    /// Puts an object to a subresource, such as `finalize`.
    pub async fn put_sub(&self, key: &str, object: &Value, sub: &str) -> Result<Value, WorldError> {
        let path = self
            .resource(key)?
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
        let path = self
            .resource(key)?
            .path(meta(object, "namespace"), meta(object, "name"), sub);
        self.send("PATCH", path, MERGE, patch).await
    }

    /// Adds to an object, whoever changes it meanwhile; refused for another one of its name. Lists that are merged gain what
    /// is given, by the key of their items. Answers the object as it is then.
    pub async fn add(&self, key: &str, object: &Value, mut more: Value) -> Result<Value, WorldError> {
        let path = self
            .resource(key)?
            .path(meta(object, "namespace"), meta(object, "name"), "");
        more["metadata"]["uid"] = json!(meta(object, "uid"));
        self.send("PATCH", path, STRATEGIC, &more).await
    }

    /// Makes `new` of `old`, refused when somebody else was faster. Nothing is sent when nothing differs.
    pub async fn update(&self, key: &str, old: &Value, new: &Value) -> Result<(), WorldError> {
        let Some(mut patch) = difference(old, new) else {
            return Ok(());
        };
        patch["metadata"]["resourceVersion"] = json!(meta(old, "resourceVersion"));
        self.patch(key, old, "", &patch).await.map(|_| ())
    }

    /// Applies a configuration as `manager`, whoever else had its fields.
    pub async fn apply(&self, key: &str, object: &Value, manager: &str) -> Result<Value, WorldError> {
        let path = self
            .resource(key)?
            .path(meta(object, "namespace"), meta(object, "name"), "");
        let path = format!("{path}?fieldManager={manager}&force=true");
        self.send("PATCH", path, "application/apply-patch+yaml", object)
            .await
    }

    /// Writes a status, when it differs.
    pub async fn update_status(&self, key: &str, old: &Value, status: &Value) -> Result<(), WorldError> {
        let annotations = Map::new();
        self.update_status_and(key, old, status, annotations).await
    }

    /// Writes a status and, in the same step, these annotations, when one of them differs.
    pub async fn update_status_and(
        &self,
        key: &str,
        old: &Value,
        status: &Value,
        mut annotations: Map<String, Value>,
    ) -> Result<(), WorldError> {
        annotations.retain(|name, value| old["metadata"]["annotations"][name] != *value);
        let mut status = difference(&old["status"], status);
        if status.is_none() && annotations.is_empty() {
            return Ok(());
        }
        let mut media = MERGE;
        let conditions = status.as_mut().and_then(|status| status.get_mut("conditions"));
        if let Some(conditions) = conditions.filter(|list| key == "pods" && list.is_array()) {
            // Several write conditions of a Pod, each its own.
            *conditions = by_type(&old["status"]["conditions"], conditions);
            media = STRATEGIC;
        }
        let mut patch = json!({"metadata": {"uid": meta(old, "uid")}});
        if let Some(status) = status {
            patch["status"] = status;
        }
        if !annotations.is_empty() {
            patch["metadata"]["annotations"] = Value::Object(annotations);
        }
        let path = self
            .resource(key)?
            .path(meta(old, "namespace"), meta(old, "name"), "status");
        self.send("PATCH", path, media, &patch).await.map(|_| ())
    }

    /// Writes a status, when it differs, refused when somebody else has changed the object: for those that others spend from,
    /// and for what was concluded from somebody's silence.
    pub async fn replace_status(&self, key: &str, old: &Value, status: &Value) -> Result<(), WorldError> {
        let Some(patch) = difference(&old["status"], status) else {
            return Ok(());
        };
        let version = json!({"uid": meta(old, "uid"), "resourceVersion": meta(old, "resourceVersion")});
        let patch = json!({"metadata": version, "status": patch});
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
        let path = self
            .resource(key)?
            .path(meta(object, "namespace"), meta(object, "name"), "");
        body["kind"] = json!("DeleteOptions");
        body["apiVersion"] = json!("v1");
        body["preconditions"] = json!({"uid": meta(object, "uid")});
        match self.send("DELETE", path, "application/json", &body).await {
            Err(e) if e.code() != 404 => Err(e),
            _ => Ok(()),
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
}

impl Shared {
    fn known_as(&self, resource: Resource) -> Known {
        let place = GroupResource::new(&resource.group, &resource.plural);
        Known {
            cache: self.caches.resource(&place),
            resource: Arc::new(resource),
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

/// The part of a strategic merge patch that makes `new` of a list of conditions: each by its type, and none that does not differ.
fn by_type(old: &Value, new: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (old, new) = (list(old), list(new));
    let of = |list: &[Value], kind: &Value| list.iter().find(|one| one["type"] == *kind).cloned();
    let changed = new.iter().filter_map(|now| {
        let Some(before) = of(&old, &now["type"]) else {
            return Some(now.clone());
        };
        let mut patch = difference(&before, now)?;
        patch["type"] = now["type"].clone();
        Some(patch)
    });
    let gone = old.iter().filter(|before| of(&new, &before["type"]).is_none());
    let gone = gone.map(|before| json!({"type": before["type"], "$patch": "delete"}));
    changed.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_written_one_by_one() {
        let one = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let why = json!({"type": "Ready", "status": "False", "reason": "Stopped"});
        for (old, new, patch) in [
            (json!(null), json!([one("A", "True")]), json!([one("A", "True")])),
            (
                json!([one("A", "True"), one("B", "True")]),
                json!([one("A", "True"), one("B", "False"), one("C", "True")]),
                json!([one("B", "False"), one("C", "True")]),
            ),
            (
                json!([why, one("B", "True")]),
                json!([one("Ready", "True")]),
                json!([{"type": "Ready", "status": "True", "reason": null}, {"type": "B", "$patch": "delete"}]),
            ),
            (
                json!([one("A", "True"), one("B", "True")]),
                json!([one("B", "True"), one("A", "True")]),
                json!([]),
            ),
        ] {
            assert_eq!(by_type(&old, &new), patch, "{old} {new}");
        }
    }
}
