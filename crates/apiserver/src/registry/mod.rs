//! What is served: the kinds, where their objects are kept, and the knobs in which resources differ.

pub mod convert;
pub mod select;
pub mod traits;

use crate::cache::{Caches, ResourceCache};
use crate::view::GroupResource;
use kinds::KindInfo;
use std::collections::HashMap;
use std::sync::Arc;
pub use traits::Traits;

/// One served group, version and resource.
pub struct Served {
    /// The kind as served.
    pub kind: &'static KindInfo,
    /// The kind as stored; differs from `kind` where a resource is served in several versions.
    pub stored: &'static KindInfo,
    /// The stored objects.
    pub cache: Arc<ResourceCache>,
    /// How it differs from the common behaviour.
    pub traits: Traits,
    /// Set for resources that come from a CustomResourceDefinition.
    pub custom: Option<Arc<crate::crd::CustomVersion>>,
}

impl Served {
    /// `GROUP/VERSION` of the served kind.
    pub fn api_version(&self) -> String {
        api_version(self.kind)
    }

    /// Whether this is the version that is stored.
    pub fn is_stored_version(&self) -> bool {
        self.kind.version == self.stored.version && self.kind.group == self.stored.group
    }

    /// Whether objects of this version are made by a webhook from what is stored.
    pub fn is_converted(&self) -> bool {
        let by_webhook = |c: &Arc<crate::crd::CustomVersion>| {
            (c.is_mixed() || !self.is_stored_version()) && c.conversion().is_webhook()
        };
        self.custom.as_ref().is_some_and(by_webhook)
    }

    /// Whether stored bytes are what clients of this version get. They are not where a definition has defaults: what
    /// was stored before it had them is shown with them. Nor are they after a definition has changed the version that
    /// it stores.
    pub fn shows_stored(&self) -> bool {
        let differs = |c: &Arc<crate::crd::CustomVersion>| c.has_defaults() || c.is_mixed();
        self.is_stored_version() && !self.custom.as_ref().is_some_and(differs)
    }

    /// The kind with the type of its objects, for server-side apply.
    pub fn typed(&self) -> machinery::apply::Typed<'_> {
        machinery::apply::Typed {
            kind: self.kind,
            custom: self.custom.as_deref().map(crate::crd::CustomVersion::types),
        }
    }

    /// Where its objects are.
    pub fn storage(&self) -> &GroupResource {
        self.cache.resource()
    }

    /// The resource as messages name it: `pods`, `deployments.apps`.
    pub fn qualified(&self) -> String {
        match self.kind.group {
            "" => self.kind.plural.to_string(),
            group => format!("{}.{group}", self.kind.plural),
        }
    }

    /// Whether the resource has a verb.
    pub fn has_verb(&self, verb: &str) -> bool {
        self.kind.verbs.contains(&verb)
    }
}

/// `GROUP/VERSION`, or `VERSION` in the core group.
pub fn api_version(kind: &KindInfo) -> String {
    match kind.group {
        "" => kind.version.to_string(),
        group => format!("{group}/{}", kind.version),
    }
}

/// All served resources of one control plane at a moment.
#[derive(Default, Clone)]
pub struct Registry {
    by_path: HashMap<(String, String), HashMap<String, Arc<Served>>>,
    /// In table order: what discovery lists.
    ordered: Vec<Arc<Served>>,
}

/// Resources that are answered without being stored.
pub(crate) const VIRTUAL_GROUPS: [&str; 1] = ["metrics.k8s.io"];

impl Registry {
    /// The built-in kinds.
    pub fn builtin(caches: &Caches) -> Registry {
        let mut registry = Registry::default();
        for kind in kinds::builtin() {
            let stored = storage_kind(kind);
            let resource = GroupResource::new(stored.group, stored.plural);
            registry.add(Arc::new(Served {
                kind,
                stored,
                cache: caches.resource(&resource),
                traits: traits::of(kind),
                custom: None,
            }));
        }
        registry
    }

    /// Adds a resource, replacing one at the same place.
    pub fn add(&mut self, served: Arc<Served>) {
        self.add_unlisted(served.clone());
        self.ordered.push(served);
    }

    /// Adds a resource that answers, and is not told in discovery before it is listed.
    pub fn add_unlisted(&mut self, served: Arc<Served>) {
        let place = (served.kind.group.to_string(), served.kind.version.to_string());
        let resources = self.by_path.entry(place).or_default();
        if let Some(old) = resources.insert(served.kind.plural.to_string(), served.clone()) {
            self.ordered.retain(|s| !Arc::ptr_eq(s, &old));
        }
    }

    /// Whether discovery tells of a resource.
    pub fn is_listed(&self, served: &Arc<Served>) -> bool {
        self.ordered.iter().any(|s| Arc::ptr_eq(s, served))
    }

    /// Lists resources that were added before.
    pub fn list(&mut self, served: &[Arc<Served>]) {
        for served in served {
            if !self.is_listed(served) {
                self.ordered.push(served.clone());
            }
        }
    }

    /// Removes the custom resources of a group.
    pub fn remove_custom(&mut self, group: &str, plural: &str) {
        self.ordered
            .retain(|s| s.custom.is_none() || s.kind.group != group || s.kind.plural != plural);
        for ((g, _), resources) in &mut self.by_path {
            if g == group {
                resources.retain(|name, s| s.custom.is_none() || name != plural);
            }
        }
        self.by_path.retain(|_, resources| !resources.is_empty());
    }

    /// The resource at a path.
    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<Arc<Served>> {
        self.by_path
            .get(&(group.to_string(), version.to_string()))?
            .get(resource)
            .cloned()
    }

    /// The resource of an object's own `apiVersion` and `kind`.
    pub fn find_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Served>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.by_path
            .get(&(group.to_string(), version.to_string()))?
            .values()
            .find(|s| s.kind.kind == kind)
            .cloned()
    }

    /// Whether a group and version is served.
    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.by_path
            .contains_key(&(group.to_string(), version.to_string()))
    }

    /// Everything served, in order.
    pub fn all(&self) -> &[Arc<Served>] {
        &self.ordered
    }

    /// What discovery tells of a version: of one that has built-in kinds those alone, since custom ones of the same group and
    /// version are upstream answered by another server, behind the one that tells.
    pub fn told<'r>(&'r self, group: &'r str, version: &'r str) -> impl Iterator<Item = &'r Arc<Served>> {
        let here = move |s: &&Arc<Served>| s.kind.group == group && s.kind.version == version;
        let is_builtin = self.ordered.iter().filter(here).any(|s| s.custom.is_none());
        self.ordered
            .iter()
            .filter(here)
            .filter(move |s| !is_builtin || s.custom.is_none())
    }

    /// The kinds served, in order.
    pub fn kinds(&self) -> Vec<&'static KindInfo> {
        self.ordered.iter().map(|s| s.kind).collect()
    }
}

/// Whether objects of the group are answered without being stored.
pub fn is_virtual(kind: &KindInfo) -> bool {
    VIRTUAL_GROUPS.contains(&kind.group)
}

/// In which version a kind is stored: its own unless the resource is served in several.
fn storage_kind(kind: &'static KindInfo) -> &'static KindInfo {
    let wanted = match (kind.group, kind.plural) {
        ("events.k8s.io", "events") => ("", "v1"),
        ("autoscaling", "horizontalpodautoscalers") => ("autoscaling", "v2"),
        _ => return kind,
    };
    let same = |k: &&KindInfo| (k.group, k.version) == wanted && k.plural == kind.plural;
    kinds::builtin().iter().find(same).unwrap_or(kind)
}

impl crate::server::ApiServer {
    /// A resource in its storage version.
    pub(crate) fn resource_of(&self, resource: &GroupResource) -> Option<Arc<Served>> {
        let registry = self.registry.load();
        registry
            .all()
            .iter()
            .find(|s| s.storage() == resource && s.is_stored_version())
            .cloned()
    }
}
