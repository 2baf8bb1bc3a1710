//! Paths that lead past authorization, and judges that are shown a wrong state.

use super::common::Server;
use super::hook::{Hook, answer};
use super::{Guarded, admin};
use apiserver::user::User;
use serde_json::{Value, json};
use std::time::Duration;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GROUP: &str = "/apis/wound.example.com/v1";

fn definition(plural: &str, kind: &str, scope: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.wound.example.com")},
        "spec": {"group": "wound.example.com", "scope": scope, "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

/// Custom kinds `open` and `secret` in namespaces, `wide` in none, an object of each, all saying "treasure" but `open`.
async fn customs(s: &Guarded) {
    for (plural, kind, scope) in [
        ("opens", "Open", "Namespaced"),
        ("secrets", "Secret", "Namespaced"),
        ("wides", "Wide", "Cluster"),
    ] {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        s.make(&format!("POST {path}"), definition(plural, kind, scope))
            .await;
        let all = format!("GET {GROUP}/{plural}");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while s.ask(&admin(), &all, &Value::Null).await.0 != 200 {
            assert!(tokio::time::Instant::now() < deadline, "{plural} are not served");
            tokio::task::yield_now().await;
        }
        let place = match scope {
            "Cluster" => format!("{GROUP}/{plural}"),
            _ => format!("{GROUP}/namespaces/default/{plural}"),
        };
        let text = if plural == "opens" { "plain" } else { "treasure" };
        let object = json!({"apiVersion": "wound.example.com/v1", "kind": kind, "metadata": {"name": "one"}, "text": text});
        s.make(&format!("POST {place}"), object).await;
    }
}

fn rules(resources: &[&str]) -> Value {
    json!([{"apiGroups": ["wound.example.com", ""], "resources": resources, "verbs": ["*"]}])
}

fn subject(name: &str) -> Value {
    json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}])
}

/// CVE-2019-11247: objects of the whole cluster were also answered below `/namespaces/NS/`, where a Role of that
/// namespace was asked. Here such a path does not exist.
#[tokio::test]
async fn cve_2019_11247_cluster_objects_by_a_path_through_a_namespace() {
    let s = Guarded::start().await;
    customs(&s).await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "all"},
        "rules": rules(&["wides", "nodes", "nodes/proxy", "namespaces", "persistentvolumes", "configmaps"])});
    s.make(&format!("POST {RBAC}/namespaces/default/roles"), role)
        .await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "all"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"}, "subjects": subject("alice")});
    s.make(&format!("POST {RBAC}/namespaces/default/rolebindings"), binding)
        .await;
    s.make(
        "POST /api/v1/nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"}}),
    )
    .await;
    let alice = User::new("alice", &["system:authenticated"]);
    // Her rights are real, where they hold.
    let maps = "GET /api/v1/namespaces/default/configmaps";
    assert_eq!(s.ask(&alice, maps, &Value::Null).await.0, 200);
    let wide = json!({"apiVersion": "wound.example.com/v1", "kind": "Wide", "metadata": {"name": "two"}});
    for (line, code, body) in [
        (
            format!("GET {GROUP}/namespaces/default/wides/one"),
            404,
            &Value::Null,
        ),
        (format!("GET {GROUP}/namespaces/default/wides"), 404, &Value::Null),
        (
            format!("GET {GROUP}/watch/namespaces/default/wides"),
            404,
            &Value::Null,
        ),
        (
            format!("DELETE {GROUP}/namespaces/default/wides/one"),
            404,
            &Value::Null,
        ),
        (
            format!("DELETE {GROUP}/namespaces/default/wides"),
            404,
            &Value::Null,
        ),
        (format!("POST {GROUP}/namespaces/default/wides"), 404, &wide),
        (format!("PUT {GROUP}/namespaces/default/wides/two"), 404, &wide),
        (
            format!("PATCH {GROUP}/namespaces/default/wides/one"),
            404,
            &json!({"text": "x"}),
        ),
        (
            "GET /api/v1/namespaces/default/nodes/one".into(),
            404,
            &Value::Null,
        ),
        (
            "GET /api/v1/namespaces/default/nodes/one/proxy/".into(),
            404,
            &Value::Null,
        ),
        (
            "GET /api/v1/namespaces/default/persistentvolumes".into(),
            404,
            &Value::Null,
        ),
        (
            "GET /api/v1/namespaces/default/namespaces".into(),
            404,
            &Value::Null,
        ),
        (
            "DELETE /api/v1/namespaces/default/namespaces/kube-public".into(),
            404,
            &Value::Null,
        ),
        // The paths that they have are for others.
        (format!("GET {GROUP}/wides/one"), 403, &Value::Null),
        ("GET /api/v1/nodes/one".into(), 403, &Value::Null),
    ] {
        let (got, text) = s.ask(&alice, &line, body).await;
        assert_eq!(got, code, "{line}: {text}");
        assert!(!text.contains("treasure"), "{line}: {text}");
    }
    // Her own namespace she may see, by its path.
    assert_eq!(
        s.ask(&alice, "GET /api/v1/namespaces/default", &Value::Null)
            .await
            .0,
        200
    );
    let (code, text) = s
        .ask(&admin(), &format!("GET {GROUP}/wides/one"), &Value::Null)
        .await;
    assert!(code == 200 && text.contains("treasure"), "{text}");
}

/// CVE-2022-3162: whoever could list one custom kind read others of its group by `..` in names, which became part of
/// the key in etcd. Here names with such parts are refused, and no name is ever put into a path.
#[tokio::test]
async fn cve_2022_3162_names_that_climb_to_another_kind() {
    let s = Guarded::start().await;
    customs(&s).await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "opens"},
        "rules": rules(&["opens"])});
    s.make(&format!("POST {RBAC}/clusterroles"), role).await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "opens"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "opens"}, "subjects": subject("bob")});
    s.make(&format!("POST {RBAC}/clusterrolebindings"), binding).await;
    let bob = User::new("bob", &["system:authenticated"]);
    let (code, text) = s.ask(&bob, &format!("GET {GROUP}/opens"), &Value::Null).await;
    assert!(code == 200 && text.contains("plain"), "{text}");
    for path in [
        "namespaces/..%2Fsecrets/opens",
        "namespaces/..%2Fsecrets%2Fdefault/opens/one",
        "namespaces/../secrets/default/opens/one",
        "namespaces/default/opens/..%2F..%2Fsecrets%2Fdefault%2Fone",
        "namespaces/default/opens/%2E%2E",
        "namespaces/%2e%2e/opens/secrets",
        "opens/..%2Fsecrets%2Fdefault%2Fone",
        "opens/../secrets",
        "opens/..%252Fsecrets",
        "watch/namespaces/..%2Fsecrets/opens?timeoutSeconds=1",
        "opens?fieldSelector=metadata.name%3D..%2Fsecrets%2Fdefault%2Fone",
        "opens?fieldSelector=metadata.namespace%3D..%2Fsecrets",
        "namespaces/default/opens?fieldSelector=metadata.name%3D..%2F..%2Fsecrets%2Fdefault%2Fone",
        "secrets",
        "namespaces/default/secrets/one",
    ] {
        let (code, text) = s.ask(&bob, &format!("GET {GROUP}/{path}"), &Value::Null).await;
        assert!(!text.contains("treasure"), "{path}: {code} {text}");
        assert!(matches!(code, 200 | 400 | 403 | 404), "{path}: {code} {text}");
    }
    let line = format!("GET {GROUP}/namespaces/default/opens/a%2Fb");
    let (code, text) = s.ask(&bob, &line, &Value::Null).await;
    assert!(
        code == 400 && text.contains(r#"Name parameter invalid: \"a/b\": may not contain '/'"#),
        "{text}"
    );
    // Nor does a write get anywhere else.
    let object =
        json!({"apiVersion": "wound.example.com/v1", "kind": "Open", "metadata": {"name": "..%2Fsecrets"}});
    let (code, text) = s
        .ask(&bob, &format!("POST {GROUP}/namespaces/default/opens"), &object)
        .await;
    assert!(matches!(code, 400 | 422), "{text}");
}

/// CVE-2021-25735: on an update of a Node, validating webhooks were shown an old object into which new fields had
/// been copied, and judged a change that they did not see. Here they get what is stored.
#[tokio::test]
async fn cve_2021_25735_webhooks_see_the_old_node_as_it_was() {
    let s = Server::guarded().await;
    let hook = Hook::start(|_, review| answer(review, json!({"allowed": true}))).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"locked": "true"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let (code, made) = s.json("POST", "/api/v1/nodes", &node).await;
    assert_eq!(code, 201, "{made}");
    let status = json!({"status": {"capacity": {"cpu": "4"}, "nodeInfo": {"kernelVersion": "1"}}});
    let (code, made) = s.json("PATCH", "/api/v1/nodes/n/status", &status).await;
    assert_eq!(code, 200, "{made}");
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "nodes"}, "webhooks": [{"name": "nodes.example.com", "clientConfig": hook.url("/nodes"),
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "rules": [{"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["nodes", "nodes/status"]}]}]});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let (code, text) = s.json("POST", path, &configuration).await;
    assert_eq!(code, 201, "{text}");
    let everything = json!({"metadata": {"labels": {"locked": "false"}, "annotations": {"x": "y"}},
        "spec": {"unschedulable": true, "taints": null},
        "status": {"capacity": {"cpu": "64"}, "nodeInfo": {"kernelVersion": "2"}}});
    for path in ["/api/v1/nodes/n", "/api/v1/nodes/n/status"] {
        let (_, before) = s.get("/api/v1/nodes/n").await;
        let mut whole = before.clone();
        for part in ["metadata", "spec", "status"] {
            for (key, value) in everything[part].as_object().unwrap() {
                whole[part][key] = value.clone();
            }
        }
        for (method, body) in [("PATCH", &everything), ("PUT", &whole)] {
            hook.asked.lock().clear();
            let (_, before) = s.get("/api/v1/nodes/n").await;
            let mut body = body.clone();
            if method == "PUT" {
                body["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            }
            let (code, after) = s.json(method, &format!("{path}?dryRun=All"), &body).await;
            assert_eq!(code, 200, "{method} {path}: {after}");
            let review = hook.asked.lock()[0].1.clone();
            assert_eq!(review["request"]["oldObject"], before, "{method} {path}");
            assert_ne!(review["request"]["object"], before, "{method} {path}");
        }
    }
}
