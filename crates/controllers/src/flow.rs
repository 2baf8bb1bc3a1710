//! FlowSchemas say whether the level that they lead to exists (condition `Dangling`, KEP-1040).

use crate::manager::Reconciler;
use crate::obj::{items, set_condition, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

/// The controller.
pub(crate) struct FlowSchemas;

#[async_trait]
impl Reconciler for FlowSchemas {
    fn name(&self) -> &'static str {
        "flow schemas"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SCHEMAS, LEVELS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        for schema in world.all(SCHEMAS) {
            let level = text(&schema, "/spec/priorityLevelConfiguration/name");
            let (status, reason, end) = match world.get(LEVELS, "", level) {
                Some(_) => ("False", "Found", "and it exists"),
                None => ("True", "NotFound", "but there is no such object"),
            };
            let message = format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}"
            );
            let mut conditions = items(&schema, "/status/conditions").to_vec();
            set_condition(&mut conditions, "Dangling", status, reason, &message, None);
            let mut next = schema["status"].clone();
            if !next.is_object() {
                next = json!({});
            }
            next["conditions"] = json!(conditions);
            if let Err(error) = settled(world.update_status(SCHEMAS, &schema, &next).await) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
