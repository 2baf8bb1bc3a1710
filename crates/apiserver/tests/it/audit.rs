//! The audit log: what the policy wants told is told, line by line; files are bounded.

#![allow(clippy::unwrap_used)]

use super::common;

use apiserver::audit::AuditConfig;
use common::Server;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ['/healthz*', '/version']
- level: RequestResponse
  omitManagedFields: true
  verbs: [create]
  resources: [{group: '', resources: [configmaps]}]
- level: Metadata
  resources: [{group: '', resources: [configmaps]}]
";

/// Waits until the log has so many lines.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let found: Vec<Value> = text
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        if found.len() >= count {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn events() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let config = AuditConfig {
        policy: POLICY.into(),
        path: path.clone(),
        max_bytes: 1 << 20,
        max_files: 2,
    };
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.audit = Some(config)).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    let _ = s.get("/version").await;
    let headers = [
        ("content-type", "application/json"),
        ("audit-id", "my-id"),
        ("user-agent", "me/1"),
    ];
    let made = s.send("POST", maps, &headers, map.to_string()).await;
    assert_eq!(
        (
            made.status().as_u16(),
            made.headers()["audit-id"].to_str().unwrap()
        ),
        (201, "my-id")
    );
    let _ = s.get(&format!("{maps}/none")).await;
    let found = lines(&path, 2).await;
    let create = &found[0];
    let expected = [
        ("/kind", json!("Event")),
        ("/level", json!("RequestResponse")),
        ("/auditID", json!("my-id")),
        ("/stage", json!("ResponseComplete")),
        ("/verb", json!("create")),
        ("/user/username", json!("tester")),
        ("/userAgent", json!("me/1")),
        ("/sourceIPs", json!(["127.0.0.1"])),
        (
            "/objectRef",
            json!({"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}),
        ),
        ("/responseStatus/code", json!(201)),
        ("/requestObject/data/k", json!("v")),
        ("/responseObject/data/k", json!("v")),
        ("/annotations/authorization.k8s.io~1decision", json!("allow")),
    ];
    for (pointer, want) in expected {
        assert_eq!(create.pointer(pointer), Some(&want), "{pointer} of {create}");
    }
    assert!(create.pointer("/responseObject/metadata/managedFields").is_none());
    let get = &found[1];
    assert_eq!(
        (&get["level"], &get["responseStatus"]["code"]),
        (&json!("Metadata"), &json!(404))
    );
    assert!(get.get("responseObject").is_none());
}

#[tokio::test]
async fn patches_streams_and_decisions() {
    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  resources: [{group: '', resources: [configmaps]}]
- level: None
";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let config = AuditConfig {
        policy: POLICY.into(),
        path: path.clone(),
        max_bytes: 1 << 20,
        max_files: 2,
    };
    let s = Server::guarded_by(Arc::new(common::Open), |c| c.audit = Some(config)).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    s.json("POST", maps, &map).await;
    let headers = [("content-type", "application/merge-patch+json")];
    let patch = json!({"data": {"k": "v"}});
    s.send("PATCH", &format!("{maps}/a"), &headers, patch.to_string())
        .await;
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = "apiVersion: v1\nkind: ConfigMap\ndata: {k: w}\n";
    let forced = format!("{maps}/a?fieldManager=me&force=true");
    s.send("PATCH", &forced, &headers, applied).await;
    // What admission refuses was allowed by the authorizer.
    let gone = map.clone();
    let (code, _) = s.json("POST", "/api/v1/namespaces/none/configmaps", &gone).await;
    assert_eq!(code, 404);
    drop(s.watch(&format!("{maps}?watch=true")).await);
    let found = lines(&path, 6).await;
    let told: Vec<(&str, &str, &Value)> = found
        .iter()
        .map(|e| {
            let text = |f: &str| e[f].as_str().unwrap();
            (text("verb"), text("stage"), &e["requestObject"])
        })
        .collect();
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "w"}});
    assert_eq!(
        told[1..],
        [
            ("patch", "ResponseComplete", &patch),
            ("patch", "ResponseComplete", &applied),
            ("create", "ResponseComplete", &gone),
            ("watch", "ResponseStarted", &Value::Null),
            ("watch", "ResponseComplete", &Value::Null),
        ]
    );
    for event in &found {
        let notes = json!({"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""});
        assert_eq!(event["annotations"], notes);
    }
}

#[tokio::test]
async fn files_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let config = AuditConfig {
        policy: POLICY.into(),
        path: path.clone(),
        max_bytes: 2000,
        max_files: 2,
    };
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.audit = Some(config)).await;
    for _ in 0..20 {
        let _ = s.get("/api/v1/namespaces/default/configmaps/none").await;
    }
    let _ = lines(&directory.path().join("audit.log.2"), 1).await;
    let names: Vec<String> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.len() <= 3, "{names:?}");
}
