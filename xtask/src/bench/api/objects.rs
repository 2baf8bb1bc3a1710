//! The objects of the bench: a ConfigMap of 1 KiB and a Pod of 3 KiB that nobody schedules.
//!
//! With defaults, status and managed fields the Pod is listed with some 8 KB, as upstream's was.

use bytes::Bytes;
use serde_json::{Value, json};

/// Bytes of a ConfigMap as it is sent.
const CONFIG_MAP: usize = 1024;
/// Bytes of a Pod as it is sent.
const POD: usize = 3072;

/// A ConfigMap.
pub fn config_map(name: &str) -> Bytes {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {}});
    padded(object, "/data", CONFIG_MAP)
}

/// A Pod of a scheduler that is not there: it stays Pending, and only the API server has work with it.
pub fn pod(name: &str) -> Bytes {
    let container = |container: &str| {
        let variables: Vec<Value> = (0..8)
            .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}")}))
            .collect();
        json!({
            "name": container,
            "image": "registry.example.com/team/application:1.2.3",
            "args": ["--listen=:8080", "--verbose"],
            "env": variables,
            "ports": [{"name": format!("{container}-http"), "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "settings", "mountPath": "/etc/app"}],
        })
    };
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "bench", "tier": "backend", "release": "r1"},
            "annotations": {"example.com/owner": "team-a"},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [container("main"), container("aside")],
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}],
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "bench", "effect": "NoSchedule"}],
        },
    });
    padded(object, "/metadata/annotations", POD)
}

/// Brings an object to a length by a text in the map at `place`.
fn padded(mut object: Value, place: &str, length: usize) -> Bytes {
    // `,"pad":""` at most.
    let missing = length.saturating_sub(object.to_string().len() + 9);
    if let Some(map) = object.pointer_mut(place) {
        map["pad"] = "x".repeat(missing).into();
    }
    Bytes::from(object.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_length_that_the_figures_speak_of() {
        assert!((CONFIG_MAP - 1..=CONFIG_MAP).contains(&config_map("settings-00001").len()));
        assert!((POD - 1..=POD).contains(&pod("pod-00001").len()));
    }
}
