//! What is scaled: any kind with a `scale` subresource, found by discovery, so that custom ones are scaled as well.

use crate::obj::text;
use crate::scale::resource;
use crate::world::{World, WorldError};
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
