//! Admission webhooks over real TLS: what they are asked, what their answers do, and what clients are told.

#![allow(clippy::unwrap_used)]

use super::common;
use super::hook;

use common::Server;
use hook::{Hook, answer, patched};
use serde_json::{Value, json};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn configuration(kind: &str, name: &str, hooks: Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": hooks})
}

/// A webhook on ConfigMaps, changed by `more`.
fn on_maps(name: &str, client: Value, more: Value) -> Value {
    let mut hook = json!({
        "name": name, "clientConfig": client, "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    });
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn install(s: &Server, path: &str, configuration: &Value) {
    let (code, made) = s.json("POST", path, configuration).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn mutation_and_reinvocation() {
    let s = Server::guarded().await;
    // `first` counts its calls, `second` adds a field unless it is there. A path is asked for cleaned.
    let hook = Hook::start(|path, review| {
        let object = &review["request"]["object"];
        match path.split('?').next().unwrap() {
            "/first" => {
                let count: u32 = object["data"]["count"].as_str().map_or(0, |c| c.parse().unwrap());
                patched(
                    review,
                    json!([{"op": "add", "path": "/data/count", "value": (count + 1).to_string()}]),
                )
            }
            "/second" if object["data"]["second"].is_null() => patched(
                review,
                json!([{"op": "add", "path": "/data/second", "value": "x"}]),
            ),
            // Nothing to change, as Go's libraries write it.
            "/none" => patched(review, Value::Null),
            _ => answer(review, json!({"allowed": true, "warnings": ["be careful"]})),
        }
    })
    .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = json!([
        on_maps("first.example.com", hook.url("//first/./"), again.clone()),
        on_maps("second.example.com", hook.url("/second"), json!({})),
        on_maps("third.example.com", hook.url("/none"), json!({}))
    ]);
    install(
        &s,
        MUTATING,
        &configuration("MutatingWebhookConfiguration", "m", hooks),
    )
    .await;
    let (code, warnings, made) = s.warned("POST", MAPS, &map("a", json!({"k": "v"}))).await;
    assert_eq!(
        (code, &made["data"]),
        (201, &json!({"k": "v", "count": "2", "second": "x"})),
        "{made}"
    );
    assert_eq!(hook.paths(), ["/first", "/second", "/none", "/first"]);
    assert!(warnings.is_empty());
    let (_, warnings, _) = s.warned("POST", MAPS, &map("b", json!({"second": "y"}))).await;
    assert_eq!(warnings, ["299 - \"be careful\""]);
    // Nothing is stored by a dry run, but webhooks without side effects are asked.
    hook.asked.lock().clear();
    let (code, dry) = s
        .json(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            &map("c", json!({"k": "v"})),
        )
        .await;
    assert_eq!((code, &dry["data"]["second"]), (201, &json!("x")));
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(asked.0, "/first?timeout=10s");
    let request = &asked.1["request"];
    assert_eq!(
        (
            &request["dryRun"],
            &request["operation"],
            &request["name"],
            &request["namespace"],
            &request["oldObject"]
        ),
        (
            &json!(true),
            &json!("CREATE"),
            &json!("c"),
            &json!("default"),
            &Value::Null
        )
    );
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(
        request["resource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(request["userInfo"]["username"], "tester");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    // A patch of an existing object shows both states.
    let _ = hook.paths();
    let (code, _) = s
        .json(
            "PATCH",
            &format!("{MAPS}/a?fieldValidation=Strict&fieldManager=m"),
            &json!({"data": {"z": "1"}}),
        )
        .await;
    assert_eq!(code, 200);
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(asked.1["request"]["operation"], "UPDATE");
    assert_eq!(
        asked.1["request"]["options"],
        json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "m",
            "fieldValidation": "Strict"})
    );
    assert_eq!(asked.1["request"]["oldObject"]["data"]["second"], "x");
}

#[tokio::test]
async fn refusals_and_failures() {
    let s = Server::guarded().await;
    let hook = Hook::start(|path, review| match path.split('?').next().unwrap() {
        "/deny" => answer(review, json!({"allowed": false, "status": {"message": "no such thing", "code": 403, "reason": "Forbidden"}})),
        "/silent" => answer(review, json!({"allowed": false})),
        "/own" => answer(review, json!({"allowed": false, "status": {"code": 429, "reason": "TooLoud",
            "details": {"causes": [{"message": "hush", "field": "data"}]}}})),
        "/500" => (500, json!("boom")),
        "/uid" => (200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "x", "allowed": true}})),
        "/empty" => (200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"})),
        _ => answer(review, json!({"allowed": true})),
    })
    .await;
    let dead = json!({"url": "https://127.0.0.1:1/x", "caBundle": hook.ca});
    let stranger = Hook::start(|_, review| answer(review, json!({"allowed": true}))).await;
    let untrusted = json!({"url": format!("https://127.0.0.1:{}/x", stranger.port), "caBundle": hook.ca});
    let service = |name: &str| json!({"service": {"namespace": "default", "name": name, "path": "/ok"}, "caBundle": hook.ca});
    let internal = "Internal error occurred: failed calling webhook \"h.example.com\": ";
    let cases = [
        (hook.url("/deny"), json!({}), 403, "admission webhook \"h.example.com\" denied the request: no such thing".into()),
        (hook.url("/silent"), json!({}), 400, "admission webhook \"h.example.com\" denied the request without explanation".into()),
        (hook.url("/500"), json!({}), 500, format!("{internal}failed to call webhook: an error on the server (\"\\\"boom\\\"\") has prevented the request from succeeding")),
        (hook.url("/empty"), json!({}), 500, format!("{internal}received invalid webhook response: webhook response was absent")),
        (hook.url("/uid"), json!({}), 500, format!("{internal}received invalid webhook response: expected response.uid=")),
        (dead.clone(), json!({}), 500, format!("{internal}failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused")),
        (dead, json!({"failurePolicy": "Ignore"}), 201, String::new()),
        (untrusted, json!({}), 500, format!("{internal}failed to call webhook: Post ")),
        (service("none"), json!({}), 500, format!("{internal}failed to call webhook: Post \"https://none.default.svc:443/ok?timeout=10s\": service \"none\" not found")),
        (hook.url("/deny"), json!({"namespaceSelector": {"matchLabels": {"x": "y"}}}), 201, String::new()),
        (hook.url("/deny"), json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}), 403, String::new()),
        (hook.url("/deny"), json!({"objectSelector": {"matchLabels": {"x": "y"}}}), 201, String::new()),
        (hook.url("/deny"), json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name != 'a'"}]}), 201, String::new()),
        (hook.url("/deny"), json!({"matchConditions": [{"name": "c", "expression": "request.userInfo.username == 'tester' && authorizer.group('').resource('pods').check('list').allowed()"}]}), 403, String::new()),
        (hook.url("/deny"), json!({"matchConditions": [{"name": "c", "expression": "object.nothing == 1"}]}), 403,
            "configmaps \"a\" is forbidden: expression 'object.nothing == 1' resulted in error: no such key: nothing".into()),
        (hook.url("/deny"), json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"}]}), 201, String::new()),
        (hook.url("/deny"), json!({"rules": [{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*/*"]}]}), 201, String::new()),
    ];
    for (client, more, want, words) in cases {
        let shown = format!("{client} {more}");
        let hooks = json!([on_maps("h.example.com", client, more)]);
        install(
            &s,
            VALIDATING,
            &configuration("ValidatingWebhookConfiguration", "v", hooks),
        )
        .await;
        let (code, made) = s.json("POST", MAPS, &map("a", json!({}))).await;
        assert_eq!(code, want, "{shown}: {made}");
        assert!(
            made["message"].as_str().unwrap_or("").contains(&words),
            "{shown}: {made}"
        );
        let (code, _) = s.json("DELETE", &format!("{VALIDATING}/v"), &Value::Null).await;
        assert_eq!(code, 200, "a configuration can always be deleted");
        let _ = s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    }
    // Code, reason and details are the webhook's own.
    let hooks = json!([on_maps("h.example.com", hook.url("/own"), json!({}))]);
    install(
        &s,
        VALIDATING,
        &configuration("ValidatingWebhookConfiguration", "v", hooks),
    )
    .await;
    let (code, refused) = s.json("POST", MAPS, &map("a", json!({}))).await;
    assert_eq!((code, &refused["code"]), (429, &json!(429)), "{refused}");
    assert_eq!(refused["reason"], "TooLoud");
    assert_eq!(
        refused["message"],
        "admission webhook \"h.example.com\" denied the request: TooLoud"
    );
    assert_eq!(refused["details"]["causes"][0]["field"], "data");
    let (code, _) = s.json("DELETE", &format!("{VALIDATING}/v"), &Value::Null).await;
    assert_eq!(code, 200);
    // A webhook with side effects is never asked about a dry run.
    let hooks = json!([on_maps(
        "h.example.com",
        hook.url("/ok"),
        json!({"sideEffects": "Some", "admissionReviewVersions": ["v1beta1"]})
    )]);
    let (code, refused) = s
        .json(
            "POST",
            VALIDATING,
            &configuration("ValidatingWebhookConfiguration", "v", hooks),
        )
        .await;
    assert_eq!(code, 422, "{refused}");
}

#[tokio::test]
async fn services_versions_and_scales() {
    let s = Server::guarded().await;
    let hook =
        Hook::start(|_, review| answer(review, json!({"allowed": false, "status": {"message": "asked"}})))
            .await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": hook.port}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": hook.port, "protocol": "TCP"}]});
    assert_eq!(
        s.json("POST", "/api/v1/namespaces/default/services", &service)
            .await
            .0,
        201
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (code, made) = s.json("POST", slices, &slice).await;
    let reachable = code == 201;
    if !reachable {
        // Endpoints may not name loopback; the service is then found but has nobody behind it.
        assert_eq!(code, 422, "{made}");
    }
    let client =
        json!({"service": {"namespace": "default", "name": "hook", "path": "/x"}, "caBundle": hook.ca});
    let rules = |group: &str, version: &str, resource: &str| json!([{"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]}]);
    let client = if reachable { client } else { hook.url("/x") };
    let hooks = json!([
        on_maps(
            "a.example.com",
            client.clone(),
            json!({"rules": rules("autoscaling", "v1", "horizontalpodautoscalers")})
        ),
        on_maps(
            "b.example.com",
            client,
            json!({"rules": rules("apps", "v1", "deployments/scale")})
        ),
    ]);
    install(
        &s,
        VALIDATING,
        &configuration("ValidatingWebhookConfiguration", "v", hooks),
    )
    .await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let scalers = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let (code, refused) = s.json("POST", scalers, &scaler).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            400,
            &json!("admission webhook \"a.example.com\" denied the request: asked")
        )
    );
    let request = hook.asked.lock().pop().unwrap().1["request"].clone();
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );

    let labels = json!({"app": "d"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    assert_eq!(s.json("POST", deployments, &deployment).await.0, 201);
    let (code, _) = s
        .json(
            "PATCH",
            &format!("{deployments}/d/scale"),
            &json!({"spec": {"replicas": 5}}),
        )
        .await;
    assert_eq!(code, 400);
    let request = hook.asked.lock().pop().unwrap().1["request"].clone();
    assert_eq!(
        (
            &request["kind"]["kind"],
            &request["subResource"],
            &request["object"]["spec"]["replicas"]
        ),
        (&json!("Scale"), &json!("scale"), &json!(5))
    );
}

/// Webhooks see reviews, too; policies do not.
#[tokio::test]
async fn reviews_are_admitted() {
    let s = Server::guarded().await;
    let hook = Hook::start(|_, review| {
        let no = json!({"allowed": false, "status": {"message": "no questions"}});
        answer(review, no)
    })
    .await;
    let rules = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["authorization.k8s.io"], "apiVersions": ["v1"],
        "resources": ["subjectaccessreviews"]}]});
    let hooks = json!([on_maps("asked.example.com", hook.url("/asked"), rules)]);
    let configured = configuration("ValidatingWebhookConfiguration", "v", hooks);
    install(&s, VALIDATING, &configured).await;
    let review = json!({"spec": {"user": "u", "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (code, refused) = s.json("POST", reviews, &review).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            400,
            &json!("admission webhook \"asked.example.com\" denied the request: no questions")
        )
    );
    assert_eq!(hook.paths(), ["/asked"]);
}

#[tokio::test]
async fn webhooks_share_the_time_of_the_request() {
    let s = Server::guarded().await;
    let hook = Hook::start(|_, review| answer(review, json!({"allowed": true}))).await;
    let ignored = json!({"timeoutSeconds": 20, "failurePolicy": "Ignore"});
    let hooks = json!([on_maps("a.example.com", hook.url("/a"), ignored)]);
    install(
        &s,
        MUTATING,
        &configuration("MutatingWebhookConfiguration", "m", hooks),
    )
    .await;
    // What the client gives, and what the webhook is told: its own time, or what is left of the client's.
    for (name, given, told) in [
        ("a", "30s", 20..=20_u64),
        ("b", "15s", 6..=15),
        ("c", "1m30s", 20..=20),
        ("d", "0", 20..=20),
    ] {
        hook.asked.lock().clear();
        let path = format!("{MAPS}?timeout={given}");
        let (code, said) = s.json("POST", &path, &map(name, json!({}))).await;
        assert_eq!(code, 201, "{said}");
        let asked = hook.asked.lock()[0].0.clone();
        let seconds = asked
            .strip_prefix("/a?timeout=")
            .and_then(|t| t.strip_suffix('s'));
        let seconds = seconds.and_then(|t| t.parse::<u64>().ok());
        assert!(seconds.is_some_and(|s| told.contains(&s)), "{given}: {asked}");
    }
    let path = format!("{MAPS}?timeout=1ns");
    let (code, said) = s.json("POST", &path, &map("e", json!({}))).await;
    let why = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    assert_eq!((code, &said["message"]), (504, &json!(why)));
}

#[tokio::test]
async fn a_webhook_cannot_break_the_list_of_owners() {
    let s = Server::guarded().await;
    let hook = Hook::start(|_, review| {
        let place = "/metadata/managedFields/0/operation";
        patched(
            review,
            json!([{"op": "replace", "path": place, "value": "Other"}]),
        )
    })
    .await;
    let hooks = json!([on_maps("breaks.example.com", hook.url("/"), json!({}))]);
    let broken = configuration("MutatingWebhookConfiguration", "m", hooks);
    install(&s, MUTATING, &broken).await;
    let (code, warnings, made) = s.warned("POST", MAPS, &map("a", json!({"k": "v"}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
    let told = warnings.concat();
    assert!(
        told.contains("was in an invalid state after admission")
            && told.contains("must be `Apply` or `Update`"),
        "{told}"
    );
}

#[tokio::test]
async fn what_a_refusing_webhook_says_besides_is_told() {
    let s = Server::guarded().await;
    let hook = Hook::start(|_, review| {
        answer(
            review,
            json!({"allowed": false, "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}}),
        )
    })
    .await;
    let kinds = [
        (VALIDATING, "ValidatingWebhookConfiguration"),
        (MUTATING, "MutatingWebhookConfiguration"),
    ];
    for (path, kind) in kinds {
        let hooks = json!([on_maps("h.example.com", hook.url("/"), json!({}))]);
        install(&s, path, &configuration(kind, "w", hooks)).await;
        let (code, warnings, made) = s.warned("POST", MAPS, &map("a", json!({}))).await;
        assert_eq!(code, 400, "{made}");
        assert!(warnings.concat().contains("mind the gap"), "{warnings:?}");
        assert_eq!(s.json("DELETE", &format!("{path}/w"), &Value::Null).await.0, 200);
    }
}

#[tokio::test]
async fn patches_that_are_none() {
    let s = Server::guarded().await;
    let hook = Hook::start(|path, review| match path.split('?').next().unwrap() {
        "/patch" => answer(
            review,
            json!({"allowed": false, "patch": "W10=", "patchType": "JSONPatch"}),
        ),
        "/type" => answer(review, json!({"allowed": true, "patchType": "JSONPatch"})),
        "/lone" => answer(review, json!({"allowed": false, "patch": "W10="})),
        "/odd" => answer(
            review,
            json!({"allowed": true, "patch": "W3t9XQ==", "patchType": "Other"}),
        ),
        "/empty" => answer(review, json!({"allowed": true, "patch": "W10=", "patchType": ""})),
        "/bad" => answer(
            review,
            json!({"allowed": true, "patch": "eA==", "patchType": "JSONPatch"}),
        ),
        _ => patched(review, json!([{"op": "add", "path": "/data", "value": {}}])),
    })
    .await;
    let invalid = "received invalid webhook response: ";
    let kind = |mutating: bool| match mutating {
        true => (MUTATING, "MutatingWebhookConfiguration"),
        false => (VALIDATING, "ValidatingWebhookConfiguration"),
    };
    for (mutating, path, words) in [
        (
            false,
            "/patch",
            format!("{invalid}validating webhook may not return response.patch"),
        ),
        (
            false,
            "/type",
            format!("{invalid}validating webhook may not return response.patchType"),
        ),
        (
            true,
            "/lone",
            format!("{invalid}webhook returned response.patch but not response.patchType"),
        ),
        (
            true,
            "/type",
            format!("{invalid}webhook returned response.patchType but not response.patch"),
        ),
        (
            true,
            "/empty",
            format!("{invalid}webhook returned invalid response.patchType of \"\""),
        ),
        (true, "/odd", "unsupported patch type \"Other\"".into()),
        (
            true,
            "/bad",
            "received undecodable patch in webhook response: ".into(),
        ),
    ] {
        let hooks = json!([on_maps("h.example.com", hook.url(path), json!({}))]);
        let (place, kind) = kind(mutating);
        install(&s, place, &configuration(kind, "w", hooks)).await;
        let (code, refused) = s.json("POST", MAPS, &map("a", json!({}))).await;
        let told = refused["message"].as_str().unwrap();
        let head = format!("Internal error occurred: failed calling webhook \"h.example.com\": {words}");
        assert!(code == 500 && told.starts_with(&head), "{path}: {told}");
        assert_eq!(s.json("DELETE", &format!("{place}/w"), &Value::Null).await.0, 200);
    }
    assert_eq!(s.json("POST", MAPS, &map("a", json!({}))).await.0, 201);
    let rules = json!([{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let hooks = json!([on_maps("h.example.com", hook.url("/"), json!({"rules": rules}))]);
    install(
        &s,
        MUTATING,
        &configuration("MutatingWebhookConfiguration", "w", hooks),
    )
    .await;
    let (code, refused) = s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    let words = "Internal error occurred: admission webhook \"h.example.com\" attempted to modify the object, which is not \
                 supported for this operation";
    assert_eq!((code, refused["message"].as_str()), (500, Some(words)));
}
