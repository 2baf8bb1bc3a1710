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
    // An encoded slash is a slash to all: to who judges as to who answers.
    for (path, code, words) in [
        ("a%2Fb", 403, r#"cannot get resource \"opens/b\""#),
        (
            "a%252Fb",
            400,
            r#"Name parameter invalid: \"a%2Fb\": may not contain '%'"#,
        ),
    ] {
        let line = format!("GET {GROUP}/namespaces/default/opens/{path}");
        let (got, text) = s.ask(&bob, &line, &Value::Null).await;
        assert!(got == code && text.contains(words), "{path}: {text}");
    }
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

/// A grant by name holds for a list that a selector narrows to that name. What is authorized must be what is answered: of a
/// parameter that is given twice the same one counts, escapes are read alike, and the name of a path stays.
#[tokio::test]
async fn grants_by_name_are_not_got_round_by_selectors() {
    let s = Guarded::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["mine", "theirs"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        s.make(&format!("POST {secrets}"), secret).await;
    }
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["list", "watch"]}]});
    s.make(&format!("POST {RBAC}/namespaces/default/roles"), role)
        .await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "one"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"}, "subjects": subject("alice")});
    s.make(&format!("POST {RBAC}/namespaces/default/rolebindings"), binding)
        .await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    s.make("POST /api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "theirs"},
        "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]}});
    s.make("POST /api/v1/namespaces/default/pods", pod).await;
    let alice = User::new("alice", &["system:authenticated"]);
    let node = User::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    let (mine, escaped) = (
        "fieldSelector=metadata.name%3Dmine",
        "%3Dx%5C,metadata.name%3Dmine",
    );
    let (by_name, watch) = (
        "/api/v1/watch/namespaces/default/secrets/mine",
        "timeoutSeconds=1",
    );
    let of_node = "fieldSelector=spec.nodeName%3Dn1";
    let other = "fieldSelector metadata.name doesn't match requested name";
    for (user, path, code, words) in [
        (&alice, format!("{secrets}?{mine}"), 200, "mine"),
        (&alice, format!("{secrets}?{mine}&fieldSelector="), 200, "mine"),
        (
            &alice,
            format!("{secrets}?fieldSelector=&{mine}"),
            403,
            "cannot list",
        ),
        (
            &alice,
            format!("{secrets}?fieldSelector=type!{escaped}"),
            403,
            "cannot list",
        ),
        (&alice, format!("{by_name}?{watch}"), 200, "mine"),
        (
            &alice,
            format!("{by_name}?{watch}&fieldSelector=type%3DOpaque"),
            400,
            other,
        ),
        (
            &alice,
            format!("{by_name}?{watch}&fieldSelector=metadata.name%3Dtheirs"),
            400,
            other,
        ),
        (
            &alice,
            format!("{secrets}/mine?watch=1&fieldSelector=type%3DOpaque"),
            403,
            "cannot get",
        ),
        (&node, format!("/api/v1/pods?{of_node}"), 200, "PodList"),
        (
            &node,
            format!("/api/v1/pods?{of_node}&fieldSelector="),
            200,
            "PodList",
        ),
        (
            &node,
            "/api/v1/pods?fieldSelector=spec.nodeName!%3Dx%5C,spec.nodeName%3Dn1".into(),
            403,
            "cannot list",
        ),
        (
            &node,
            format!("/api/v1/watch/pods?{of_node}&{watch}"),
            403,
            "cannot watch",
        ),
    ] {
        let (got, text) = s.ask(user, &format!("GET {path}"), &Value::Null).await;
        assert!(got == code && text.contains(words), "{path}: {got} {text}");
        assert!(!text.contains("theirs"), "{path}: {text}");
    }
    // A name in the path reads the object once, whatever `watch` says.
    let (code, text) = s
        .ask(&admin(), &format!("GET {secrets}/mine?watch=true"), &Value::Null)
        .await;
    assert!(code == 200 && text.contains("\"kind\":\"Secret\""), "{text}");
}

/// Labels make a role part of others. Who may only change roles makes no role of theirs out of a great one.
#[tokio::test]
async fn labels_on_a_role_give_no_rights() {
    let s = Guarded::start().await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "writer"},
        "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
            "verbs": ["get", "create", "update", "patch"]}]});
    s.make(&format!("POST {RBAC}/clusterroles"), role).await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "writer"}, "subjects": subject("alice"),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "writer"}});
    s.make(&format!("POST {RBAC}/clusterrolebindings"), binding).await;
    let alice = User::new("alice", &["system:authenticated"]);
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let root = format!("PATCH {RBAC}/clusterroles/cluster-admin");
    let (code, text) = s.ask(&alice, &root, &label).await;
    assert!(
        code == 403 && text.contains("is attempting to grant RBAC permissions not currently held"),
        "{code} {text}"
    );
    let finalizers = json!({"metadata": {"finalizers": ["example.com/a"]}});
    assert_eq!(s.ask(&alice, &root, &finalizers).await.0, 200);
    // Rights are told before faults.
    let odd = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "x"},
        "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": []}, {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]});
    let (code, text) = s.ask(&alice, &format!("POST {RBAC}/clusterroles"), &odd).await;
    assert!(code == 403 && text.contains("is forbidden"), "{code} {text}");
}
