//! The audit log: what the policy wants told is told, line by line; files are bounded.

#![allow(clippy::unwrap_used)]

use super::{common, hook};

use apiserver::audit::AuditConfig;
use common::Server;
use hook::{Hook, patched};
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

const WORKLOADS: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create]
  resources: [{group: '', resources: [pods]}, {group: apps}]
- level: None
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
            json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}),
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

/// What the standards of a namespace say of a Pod or a workload is written down, whether it was refused or not.
#[tokio::test]
async fn pod_security_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let config = AuditConfig {
        policy: WORKLOADS.into(),
        path: path.clone(),
        max_bytes: 1 << 20,
        max_files: 2,
    };
    let s = Server::guarded_by(Arc::new(common::Open), |c| c.audit = Some(config)).await;
    let label = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let json = [("content-type", "application/json")];
    for (name, labels) in [
        ("open", json!({})),
        (
            "watched",
            json!({label("audit"): "baseline", label("audit-version"): "v1.30"}),
        ),
        (
            "strict",
            json!({label("enforce"): "baseline", label("audit"): "baseline"}),
        ),
    ] {
        let made = s.send(
            "POST",
            "/api/v1/namespaces",
            &json,
            namespace(name, labels).to_string(),
        );
        assert_eq!(made.await.status().as_u16(), 201);
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let place = format!("/api/v1/namespaces/{name}/serviceaccounts");
        let _ = s.send("POST", &place, &json, account.to_string()).await;
        let spec = json!({"hostPID": true, "containers": [{"name": "c", "image": "i"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
        let _ = s
            .send(
                "POST",
                &format!("/api/v1/namespaces/{name}/pods"),
                &json,
                pod.to_string(),
            )
            .await;
        let labels = json!({"app": "d"});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}});
        let place = format!("/apis/apps/v1/namespaces/{name}/deployments");
        let _ = s.send("POST", &place, &json, deployment.to_string()).await;
    }
    let words = |version: &str| {
        json!(format!(
            "would violate PodSecurity \"baseline:{version}\": host namespaces (hostPID=true)"
        ))
    };
    // Namespace, resource, answer, policy enforced, what is told.
    let expected = [
        ("open", "pods", 201, json!("privileged:latest"), Value::Null),
        ("open", "deployments", 201, Value::Null, Value::Null),
        ("watched", "pods", 201, json!("privileged:latest"), words("v1.30")),
        ("watched", "deployments", 201, Value::Null, words("v1.30")),
        ("strict", "pods", 403, json!("baseline:latest"), words("latest")),
        ("strict", "deployments", 201, Value::Null, words("latest")),
    ];
    let found = lines(&path, expected.len()).await;
    for (event, (namespace, resource, code, enforced, told)) in found.iter().zip(expected) {
        let at = &event["objectRef"];
        assert_eq!(
            (&at["namespace"], &at["resource"]),
            (&json!(namespace), &json!(resource))
        );
        assert_eq!(event["responseStatus"]["code"], code, "{event}");
        assert_eq!(event["annotations"][label("enforce-policy")], enforced, "{event}");
        assert_eq!(event["annotations"][label("audit-violations")], told, "{event}");
    }
    let (_, text) = s.text("/metrics", &[]).await;
    for (decision, mode, level, version, resource, count) in [
        ("allow", "enforce", "privileged", "latest", "pod", 2),
        ("deny", "audit", "baseline", "v1.30", "pod", 1),
        ("deny", "audit", "baseline", "v1.30", "controller", 1),
        ("deny", "enforce", "baseline", "latest", "pod", 1),
        ("deny", "audit", "baseline", "latest", "controller", 1),
    ] {
        let line = format!(
            "pod_security_evaluations_total{{decision=\"{decision}\",mode=\"{mode}\",policy_level=\"{level}\",\
             policy_version=\"{version}\",request_operation=\"create\",resource=\"{resource}\",subresource=\"\"}} {count}\n"
        );
        assert!(text.contains(&line), "{line}\n{text}");
    }
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

#[tokio::test]
async fn what_admission_says_has_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let config = AuditConfig {
        policy: POLICY.into(),
        path: path.clone(),
        max_bytes: 1 << 20,
        max_files: 2,
    };
    let s = Server::guarded_by(Arc::new(common::Open), |c| c.audit = Some(config)).await;
    let patch = json!([{"op": "add", "path": "/data", "value": {"k": "v"}}]);
    let hook = Hook::start(move |_, review| patched(review, patch.clone())).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let object = |kind: &str, name: &str, fields: Value| {
        let mut object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
        for (key, value) in fields.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    };
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let hooks = json!([{"name": "m.example.com", "clientConfig": hook.url("/"), "admissionReviewVersions": ["v1"],
        "sideEffects": "None", "rules": rules}]);
    for (resource, object) in [
        (
            "mutatingwebhookconfigurations",
            object("MutatingWebhookConfiguration", "m", json!({"webhooks": hooks})),
        ),
        (
            "validatingadmissionpolicies",
            object(
                "ValidatingAdmissionPolicy",
                "p",
                json!({"spec": {"matchConstraints": {"resourceRules": rules},
                    "validations": [{"expression": "false", "message": "never"}]}}),
            ),
        ),
        (
            "validatingadmissionpolicybindings",
            object(
                "ValidatingAdmissionPolicyBinding",
                "b",
                json!({"spec": {"policyName": "p", "validationActions": ["Audit"]}}),
            ),
        ),
    ] {
        let (code, said) = s.json("POST", &format!("{group}/{resource}"), &object).await;
        assert_eq!(code, 201, "{said}");
    }
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let (code, said) = s
        .json("POST", "/api/v1/namespaces/default/configmaps", &map)
        .await;
    assert_eq!(code, 201, "{said}");
    let events = lines(&path, 1).await;
    let told = &events.last().unwrap()["annotations"];
    for (key, expected) in [
        (
            "mutation.webhook.admission.k8s.io/round_0_index_0",
            r#"{"configuration":"m","webhook":"m.example.com","mutated":true}"#,
        ),
        (
            "patch.webhook.admission.k8s.io/round_0_index_0",
            r#"{"configuration":"m","webhook":"m.example.com","patch":[{"op":"add","path":"/data","value":{"k":"v"}}],"patchType":"JSONPatch"}"#,
        ),
        (
            "validation.policy.admission.k8s.io/validation_failure",
            r#"[{"message":"never","policy":"p","binding":"b","expressionIndex":0,"validationActions":["Audit"]}]"#,
        ),
    ] {
        assert_eq!(told[key], expected, "{key} in {told}");
    }
}

#[tokio::test]
async fn small_things() {
    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: '*', resources: [configmaps, endpoints, leases]}]
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
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.audit = Some(config)).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    s.json("POST", maps, &map).await;
    s.json("DELETE", &format!("{maps}/a"), &Value::Null).await;
    s.get("/api/v1/namespaces/default/endpoints").await;
    let agent = "x".repeat(1030);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let response = s.send("GET", leases, &[("user-agent", agent.as_str())], "").await;
    assert_eq!(response.status(), 200);
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "l", "uid": "u", "resourceVersion": "7"}});
    s.json("PUT", &format!("{leases}/l"), &lease).await;
    let found = lines(&path, 5).await;
    let uid = &found[1]["responseStatus"]["details"]["uid"];
    assert!(uid.is_string(), "{}", found[1]);
    for (line, pointer, want) in [
        (0, "/objectRef/name", json!("a")),
        (1, "/responseStatus/status", json!("Success")),
        (1, "/responseStatus/details/name", json!("a")),
        (2, "/annotations/k8s.io~1deprecated", json!("true")),
        (
            3,
            "/userAgent",
            json!(format!("{}...TRUNCATED", "x".repeat(1024))),
        ),
        (4, "/objectRef/uid", json!("u")),
        (4, "/objectRef/resourceVersion", json!("7")),
        (4, "/responseStatus/code", json!(409)),
    ] {
        assert_eq!(
            found[line].pointer(pointer),
            Some(&want),
            "{pointer} of {}",
            found[line]
        );
    }
}
