//! What a node's conditions become when it is not heard of (upstream: `tryUpdateNodeHealth` in
//! pkg/controller/nodelifecycle/node_lifecycle_controller.go).

use crate::obj::{condition, items, meta, now};
use serde_json::{Value, json};
use std::time::Duration;

/// A node that has not renewed its lease for so long is unknown, and one that never said how it is, after this.
const GRACE: Duration = Duration::from_secs(50);
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// For how long a node may be silent.
pub(super) fn patience(node: &Value) -> Duration {
    match condition(node, "Ready") {
        Some(_) => GRACE,
        None => STARTUP_GRACE,
    }
}

/// The conditions of a node that is not heard of; nothing when it is known for that.
pub(super) fn unknown(node: &Value) -> Option<Vec<Value>> {
    if condition(node, "Ready").is_some_and(|c| c["status"] == "Unknown") {
        return None;
    }
    let mut conditions = items(node, "/status/conditions").to_vec();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            None => conditions.push(json!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.",
                "lastHeartbeatTime": meta(node, "creationTimestamp"), "lastTransitionTime": now(),
            })),
            Some(known) if known["status"] != "Unknown" => {
                known["status"] = json!("Unknown");
                known["reason"] = json!("NodeStatusUnknown");
                known["message"] = json!("Kubelet stopped posting node status.");
                known["lastTransitionTime"] = json!(now());
            }
            Some(_) => {}
        }
    }
    Some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_in_words() {
        let node = |conditions: Value| json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": conditions}});
        let ready = |status: &str| json!({"type": "Ready", "status": status, "lastHeartbeatTime": "2026-02-01T00:00:00Z"});
        let told = |node: &Value| {
            let conditions = unknown(node)?;
            let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
            let field = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
            Some((field("reason"), field("lastHeartbeatTime"), conditions.len()))
        };
        let never = ("NodeStatusNeverUpdated", "2026-01-01T00:00:00Z", 4);
        let stopped = ("NodeStatusUnknown", "2026-02-01T00:00:00Z", 4);
        let cases = [
            (node(json!([])), 60, Some(never)),
            (node(json!([ready("True")])), 50, Some(stopped)),
            (node(json!([ready("False")])), 50, Some(stopped)),
            (node(json!([ready("Unknown")])), 50, None),
        ];
        for (node, seconds, expected) in cases {
            let expected = expected.map(|(reason, beat, count)| (reason.to_owned(), beat.to_owned(), count));
            assert_eq!(told(&node), expected, "{node}");
            assert_eq!(patience(&node), Duration::from_secs(seconds), "{node}");
        }
    }
}
