//! Pods that get more than they may: Secrets, images, devices; and Nodes that undo themselves.

use super::Guarded;
use apiserver::user::User;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/team/pods";

/// A namespace `team` with an account `default` as changed by `more`.
async fn team(s: &Guarded, more: Value) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team",
        "labels": {"pod-security.kubernetes.io/enforce": more["level"].as_str().unwrap_or("privileged")}}});
    s.make("POST /api/v1/namespaces", namespace).await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default",
        "annotations": more["annotations"]}, "secrets": [{"name": "ours"}], "imagePullSecrets": [{"name": "pull"}],
        "automountServiceAccountToken": false});
    s.make("POST /api/v1/namespaces/team/serviceaccounts", account)
        .await;
}

fn pod(name: &str, more: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "good/c"}]});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
}

/// CVE-2023-2727: the ImagePolicyWebhook did not look at ephemeral containers, so that they ran any image. Here the
/// judges of Pods (policies, webhooks, PodSecurity) are asked about the subresource that adds them.
#[tokio::test]
async fn cve_2023_2727_ephemeral_containers_are_judged() {
    let s = Guarded::start().await;
    team(&s, json!({"level": "restricted"})).await;
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "images"}, "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["pods", "pods/ephemeralcontainers"]}]},
            "validations": [{"expression": "(object.spec.containers + object.spec.?ephemeralContainers.orValue([])).all(c, c.image.startsWith('good/'))",
                "message": "only good images"}]}});
    let group = "/apis/admissionregistration.k8s.io/v1";
    s.make(&format!("POST {group}/validatingadmissionpolicies"), policy)
        .await;
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "images"}, "spec": {"policyName": "images", "validationActions": ["Deny"]}});
    s.make(
        &format!("POST {group}/validatingadmissionpolicybindings"),
        binding,
    )
    .await;
    let context = json!({"allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"}});
    let container = |name: &str, image: &str, context: &Value| json!({"name": name, "image": image, "securityContext": context});
    s.make(
        &format!("POST {PODS}"),
        pod("a", json!({"containers": [container("c", "good/c", &context)]})),
    )
    .await;
    let mut privileged = context.clone();
    privileged["privileged"] = json!(true);
    privileged
        .as_object_mut()
        .unwrap()
        .remove("allowPrivilegeEscalation");
    for (image, context, code, words) in [
        ("bad/e", &context, 422, "only good images"),
        ("good/e", &privileged, 403, "violates PodSecurity"),
        ("good/e", &context, 200, "good/e"),
    ] {
        let patch = json!({"spec": {"ephemeralContainers": [container("e", image, context)]}});
        let line = format!("PATCH {PODS}/a/ephemeralcontainers");
        let (got, text) = s.ask(&super::admin(), &line, &patch).await;
        assert!(got == code && text.contains(words), "{image}: {got} {text}");
    }
}

/// What a Pod may do to come by a Secret, and the words by which it is refused.
fn borrowings(secret: &str) -> Vec<(Value, &'static str)> {
    let env = json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret, "key": "k"}}}]);
    let all = json!([{"secretRef": {"name": secret}}]);
    vec![
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": secret}}]}),
            "volume with secret.secretName=\\\"theirs\\\" is not allowed because service account default does not reference that secret",
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": secret}}]}}]}),
            "volume with secret.secretName=\\\"theirs\\\" is not allowed",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "env": env}]}),
            "container c with envVar V referencing secret.secretName=\\\"theirs\\\" is not allowed",
        ),
        (
            json!({"initContainers": [{"name": "b", "image": "i", "env": env}]}),
            "init container b with envVar V referencing secret.secretName=\\\"theirs\\\" is not allowed",
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "envFrom": all}]}),
            "container c with envFrom referencing secret.secretName=\\\"theirs\\\" is not allowed",
        ),
        (
            json!({"initContainers": [{"name": "b", "image": "i", "envFrom": all}]}),
            "init container b with envFrom referencing secret.secretName=\\\"theirs\\\" is not allowed",
        ),
    ]
}

/// CVE-2023-2728 and CVE-2024-3177: an account that says which Secrets its Pods may use was not heeded by ephemeral
/// containers, and later not by `envFrom`. Here one walk sees every container and both ways.
#[tokio::test]
async fn cve_2023_2728_and_2024_3177_secrets_that_an_account_does_not_list() {
    let s = Guarded::start().await;
    team(
        &s,
        json!({"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}),
    )
    .await;
    let user = super::admin();
    for (number, (spec, words)) in borrowings("theirs").into_iter().enumerate() {
        let (code, text) = s
            .ask(
                &user,
                &format!("POST {PODS}"),
                &pod(&format!("bad-{number}"), spec),
            )
            .await;
        assert!(code == 403 && text.contains(words), "{number}: {code} {text}");
    }
    for (number, (spec, _)) in borrowings("ours").into_iter().enumerate() {
        let (code, text) = s
            .ask(
                &user,
                &format!("POST {PODS}"),
                &pod(&format!("good-{number}"), spec),
            )
            .await;
        assert_eq!(code, 201, "{number}: {text}");
    }
    let pull = pod("pull", json!({"imagePullSecrets": [{"name": "theirs"}]}));
    let (code, text) = s.ask(&user, &format!("POST {PODS}"), &pull).await;
    let words = "imagePullSecrets[0].name=\\\"theirs\\\" is not allowed because service account default does not reference that imagePullSecret";
    assert!(code == 403 && text.contains(words), "{text}");
    // By the back door.
    let line = format!("PATCH {PODS}/good-0/ephemeralcontainers");
    for (field, value, with) in [
        (
            "env",
            json!([{"name": "V", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}}]),
            "envVar V",
        ),
        ("envFrom", json!([{"secretRef": {"name": "theirs"}}]), "envFrom"),
    ] {
        let mut container = json!({"name": "e", "image": "i"});
        container[field] = value;
        let patch = json!({"spec": {"ephemeralContainers": [container]}});
        let (code, text) = s.ask(&user, &line, &patch).await;
        let words = format!(
            "ephemeral container e with {with} referencing secret.secretName=\\\"theirs\\\" is not allowed"
        );
        // Upstream's plugin gives these no more than their words.
        assert!(code == 500 && text.contains(&words), "{field}: {code} {text}");
    }
}

/// A Node `n` and its agent's user.
async fn node(s: &Guarded) -> User {
    s.make(
        "POST /api/v1/nodes",
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}),
    )
    .await;
    User::new("system:node:n", &["system:nodes", "system:authenticated"])
}

/// CVE-2025-4563: a host agent made mirror Pods with ResourceClaims, and so came by devices and rights that were not
/// its own. Here a mirror Pod refers to nothing.
#[tokio::test]
async fn cve_2025_4563_mirror_pods_refer_to_nothing() {
    let s = Guarded::start().await;
    team(&s, json!({})).await;
    let agent = node(&s).await;
    let (_, own) = s.ask(&agent, "GET /api/v1/nodes/n", &Value::Null).await;
    let own: Value = serde_json::from_str(&own).unwrap();
    let owner = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "n", "uid": own["metadata"]["uid"], "controller": true }]);
    let mirror = |name: &str, more: Value| {
        let mut pod = pod(name, more);
        pod["spec"]["nodeName"] = json!("n");
        pod["metadata"]["ownerReferences"] = owner.clone();
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        pod
    };
    let container = |more: Value| {
        let mut one = json!({"name": "c", "image": "i"});
        one[more["field"].as_str().unwrap()] = more["value"].clone();
        json!({"containers": [one]})
    };
    let volume = |source: Value| {
        let mut volume = json!({"name": "v"});
        for (key, value) in source.as_object().unwrap() {
            volume[key] = value.clone();
        }
        json!({"volumes": [volume]})
    };
    for (spec, what) in [
        (
            json!({"resourceClaims": [{"name": "r", "resourceClaimName": "gpu"}]}),
            "resourceclaims",
        ),
        (
            json!({"resourceClaims": [{"name": "r", "resourceClaimTemplateName": "gpu"}]}),
            "resourceclaims",
        ),
        (json!({"serviceAccountName": "default"}), "a service account"),
        (volume(json!({"secret": {"secretName": "s"}})), "secrets"),
        (
            volume(json!({"projected": {"sources": [{"secret": {"name": "s"}}]}})),
            "secrets",
        ),
        (
            container(json!({"field": "envFrom", "value": [{"secretRef": {"name": "s"}}]})),
            "secrets",
        ),
        (json!({"imagePullSecrets": [{"name": "s"}]}), "secrets"),
        (volume(json!({"configMap": {"name": "m"}})), "configmaps"),
        (
            container(
                json!({"field": "env", "value": [{"name": "V", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]}),
            ),
            "configmaps",
        ),
        (
            volume(json!({"persistentVolumeClaim": {"claimName": "p"}})),
            "persistentvolumeclaims",
        ),
    ] {
        let shown = spec.to_string();
        let (code, text) = s.ask(&agent, &format!("POST {PODS}"), &mirror("m", spec)).await;
        let words = format!("node \\\"n\\\" can not create pods that reference {what}");
        assert!(code == 403 && text.contains(&words), "{shown}: {code} {text}");
    }
    let (code, text) = s
        .ask(&agent, &format!("POST {PODS}"), &mirror("plain", json!({})))
        .await;
    assert_eq!(code, 201, "{text}");
}

/// CVE-2025-5187: a host agent gave its own Node an owner that does not exist; the garbage collector removed the
/// Node, and the agent made it anew with labels and taints that it must not set. Here owners of Nodes are not its own.
#[tokio::test]
async fn cve_2025_5187_a_node_does_not_choose_its_owner() {
    let s = Guarded::start().await;
    let agent = node(&s).await;
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "00000000-0000-0000-0000-000000000001"}]);
    let patch = json!({"metadata": {"ownerReferences": owner}});
    for path in ["/api/v1/nodes/n", "/api/v1/nodes/n/status"] {
        let (code, text) = s.ask(&agent, &format!("PATCH {path}"), &patch).await;
        assert!(
            code == 403 && text.contains("ownerReferences"),
            "{path}: {code} {text}"
        );
    }
    // Nor does it get there by removal and a new beginning.
    let (code, text) = s.ask(&agent, "DELETE /api/v1/nodes/n", &Value::Null).await;
    assert_eq!(code, 403, "{text}");
    let (code, text) = s
        .ask(
            &agent,
            "PATCH /api/v1/nodes/n",
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(code, 200, "{text}");
}
