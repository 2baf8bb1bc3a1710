//! What is scaled: any kind with a `scale` subresource, found by discovery, so that custom ones are scaled as well.

use crate::obj::{items, text};
use crate::world::{Resource, World, WorldError};
use serde_json::{Value, json};

/// The `scale` of a target.
pub(super) struct Target {
    path: String,
    scale: Value,
}

impl Target {
    /// Reads the target that an autoscaler names.
    ///
    /// # Errors
    /// In words: its kind is not served, or it has no scale, or is not there.
    pub(super) async fn find(world: &World, hpa: &Value) -> Result<Target, String> {
        let to = &hpa["spec"]["scaleTargetRef"];
        let resource = resource(world, text(to, "/apiVersion"), text(to, "/kind")).await?;
        let path = resource.path(text(hpa, "/metadata/namespace"), text(to, "/name"), "scale");
        let scale = world.read(&path).await.map_err(|e| e.message())?;
        Ok(Target { path, scale })
    }

    /// The count that is wanted.
    pub(super) fn wanted(&self) -> i64 {
        crate::obj::int(&self.scale, "/spec/replicas", 0)
    }

    /// The count that the target reports.
    pub(super) fn shown(&self) -> i64 {
        crate::obj::int(&self.scale, "/status/replicas", 0)
    }

    /// The selector of its Pods.
    pub(super) fn selector(&self) -> &str {
        text(&self.scale, "/status/selector")
    }

    /// Asks for another count. Whoever changed the target meanwhile changed other things of it: it is asked once more.
    ///
    /// # Errors
    /// The API server refuses.
    pub(super) async fn scale(&mut self, world: &World, replicas: i64) -> Result<(), WorldError> {
        self.scale["spec"]["replicas"] = json!(replicas);
        match world.write(&self.path, &self.scale).await {
            Err(e) if e.code() == 409 => {
                self.scale = world.read(&self.path).await?;
                self.scale["spec"]["replicas"] = json!(replicas);
                world.write(&self.path, &self.scale).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

/// The resource of a kind: of the version that is named, or of the preferred one of its group.
///
/// # Errors
/// In upstream's words, when there is none.
pub(super) async fn resource(world: &World, api_version: &str, kind: &str) -> Result<Resource, String> {
    let (group, version) = match api_version.split_once('/') {
        Some((_, version)) if version.contains('/') => {
            return Err(format!("unexpected GroupVersion string: {api_version}"));
        }
        Some(parts) => parts,
        None => ("", api_version),
    };
    let unknown = || format!("no matches for kind {kind:?} in group {group:?}");
    let mut found = listed(world, group, version, kind).await;
    if found.is_none() && !group.is_empty() {
        let versions = world.read(&format!("/apis/{group}")).await;
        let versions = versions.map_err(|_| unknown())?;
        found = listed(world, group, text(&versions, "/preferredVersion/version"), kind).await;
    }
    found.ok_or_else(unknown)
}

async fn listed(world: &World, group: &str, version: &str, kind: &str) -> Option<Resource> {
    let path = match group.is_empty() {
        true => format!("/api/{version}"),
        false => format!("/apis/{group}/{version}"),
    };
    let list = world.read(&path).await.ok()?;
    let mut all = items(&list, "/resources").iter();
    let one = all.find(|one| one["kind"] == kind && !text(one, "/name").contains('/'))?;
    Some(Resource {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        plural: text(one, "/name").to_owned(),
        namespaced: one["namespaced"] == true,
    })
}
