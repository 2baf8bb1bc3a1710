//! Events do not live forever: what was last written more than an hour ago is removed, as upstream's event TTL does.

use crate::rest::meta;
use crate::rest::write::Refused;
use crate::server::ApiServer;
use crate::view::GroupResource;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Upstream's default of `--event-ttl`.
const LIFE: SignedDuration = SignedDuration::from_secs(3600);
/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(120);

/// Removes old events until the server stops.
pub fn start(server: Arc<ApiServer>) {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = server.stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => sweep(&server, Timestamp::now()).await,
            }
        }
    });
}

/// Removes the events that are older than their life at `now`.
pub async fn sweep(server: &ApiServer, now: Timestamp) {
    let Some(events) = server.resource_of(&GroupResource::new("", "events")) else {
        return;
    };
    for object in events.cache.current("") {
        let old = written(&object.value()).is_some_and(|at| now.duration_since(at) > LIFE);
        if !old {
            continue;
        }
        let removed = server
            .remove(&events, object.namespace(), object.name(), object.revision())
            .await;
        if let Err(Refused::Status(error)) = removed {
            // The store will say so to others, too; the next look tries again.
            tracing::warn!(%error, "an old event could not be removed");
            return;
        }
    }
}

/// When an event was last written, whatever it says of its own time.
fn written(event: &Value) -> Option<Timestamp> {
    let managers = event.pointer("/metadata/managedFields").and_then(Value::as_array);
    let times = managers.into_iter().flatten().filter_map(|m| m["time"].as_str());
    let times = times.chain([meta(event, "creationTimestamp")]);
    times.filter_map(|time| time.parse().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_write_counts() {
        let mut event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2030-01-01T01:00:00Z"});
        assert_eq!(written(&event), "2026-01-01T00:00:00Z".parse().ok());
        event["metadata"]["managedFields"] = json!([{"time": "2026-01-01T00:30:00Z"}]);
        assert_eq!(written(&event), "2026-01-01T00:30:00Z".parse().ok());
        assert_eq!(written(&json!({})), None);
    }
}
