//! Small differences by which clients could tell this server from upstream: cases of upstream's own end-to-end tests,
//! replayed without a cluster.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// Both unknown and twice, known and twice, nested; in an order that is not that of the alphabet.
const FAULTY: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"d"},"spec":{"unknown1":"v",
    "unknownDupe":"v","unknownDupe":"w","paused":true,"paused":false,"selector":{"matchLabels":{"app":"x"}},
    "template":{"metadata":{"labels":{"app":"x"}},"spec":{"containers":[{"name":"c","image":"i","unknownNested":"v",
    "imagePullPolicy":"Always","imagePullPolicy":"Never"}]}}}}"#;

async fn send(s: &Server, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value, Vec<String>) {
    let response = s
        .send(method, path, &[("content-type", kind)], body.to_string())
        .await;
    let code = response.status().as_u16();
    let plain = |text: &str| {
        let quoted = text.strip_prefix("299 - \"").and_then(|t| t.strip_suffix('"'));
        quoted.unwrap().replace("\\\"", "\"")
    };
    let told = response.headers().get_all("warning").iter();
    let told = told.map(|w| plain(w.to_str().unwrap())).collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null), told)
}

#[tokio::test]
async fn what_a_strict_decoder_says() {
    let s = Server::start().await;
    let strict = format!("{DEPLOYMENTS}?fieldValidation=Strict");
    let faults = [
        "unknown field \"spec.unknown1\"",
        "unknown field \"spec.unknownDupe\"",
        "duplicate field \"spec.paused\"",
        "unknown field \"spec.template.spec.containers[0].unknownNested\"",
        "duplicate field \"spec.template.spec.containers[0].imagePullPolicy\"",
    ];
    let cannot = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: ";
    let (code, refused, _) = send(&s, "POST", &strict, "application/json", FAULTY).await;
    assert_eq!(
        (code, &refused["message"]),
        (400, &json!(format!("{cannot}{}", faults.join(", "))))
    );
    let (code, _, told) = send(&s, "POST", DEPLOYMENTS, "application/json", FAULTY).await;
    assert_eq!((code, told), (201, faults.map(String::from).to_vec()));

    let merge = "application/merge-patch+json";
    let strategic = "application/strategic-merge-patch+json";
    let operations = "application/json-patch+json";
    let apply = "application/apply-patch+yaml";
    let one = "/d?fieldValidation=Strict&fieldManager=m";
    let whole = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n";
    let cases = [
        (
            strategic,
            r#"{"spec":{"odd":1,"paused":true,"paused":false}}"#.to_string(),
            422,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[odd:1 paused:false]]\": strict decoding error: \
             duplicate field \"spec.paused\", unknown field \"spec.odd\"",
        ),
        (
            strategic,
            r#"{"spec":{"replicas":"three"}}"#.to_string(),
            422,
            " \"\" is invalid: patch: Invalid value: \"map[spec:map[replicas:three]]\": unrecognized type: int32",
        ),
        (
            merge,
            r#"{"spec":{"paused":true,"paused":false}}"#.to_string(),
            422,
            " \"\" is invalid: patch: Invalid value: \"{\\\"spec\\\":{\\\"paused\\\":false}}\": strict decoding error: \
             duplicate field \"spec.paused\"",
        ),
        (
            operations,
            r#"[{"op":"add","path":"/spec/paused","value":true,"foo":1}]"#.to_string(),
            422,
            " \"\" is invalid: patch: Invalid value: \"[{\\\"op\\\":\\\"add\\\",\\\"path\\\":\\\"/spec/paused\\\",\
             \\\"value\\\":true,\\\"foo\\\":1}]\": strict decoding error: json patch unknown field \"[0].foo\"",
        ),
        (
            apply,
            format!("{whole}  paused: true\n  paused: false\n"),
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key \
             \"paused\" already set in map",
        ),
        (
            apply,
            format!("{whole}  odd: 1\n"),
            500,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.odd: field not declared \
             in schema",
        ),
    ];
    for (kind, body, code, words) in cases {
        let got = send(&s, "PATCH", &format!("{DEPLOYMENTS}{one}"), kind, &body).await;
        assert_eq!((got.0, &got.1["message"]), (code, &json!(words)), "{kind} {body}");
    }
    let text = format!("{whole}  odd: 1\n  paused: true\n  paused: false\n");
    let got = send(
        &s,
        "PUT",
        &format!("{DEPLOYMENTS}{one}"),
        "application/yaml",
        &text,
    )
    .await;
    let words =
        "yaml: unmarshal errors:\n  line 7: key \"paused\" already set in map, unknown field \"spec.odd\"";
    assert_eq!(
        (got.0, &got.1["message"]),
        (400, &json!(format!("{cannot}{words}")))
    );
}

#[tokio::test]
async fn answers_that_are_easily_forgotten() {
    let s = Server::start().await;
    let cases = [
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?timeout=odd",
            json!({}),
            400,
            "/message",
            json!("invalid timeout specified in the request URL - time: invalid duration \"odd\""),
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps?timeout=1m30s",
            json!({}),
            200,
            "/kind",
            json!("ConfigMapList"),
        ),
        (
            "PUT",
            "/api/v1/namespaces/default/configmaps",
            json!({}),
            405,
            "/message",
            json!("the server does not allow this method on the requested resource"),
        ),
        (
            "GET",
            "/api/v1/componentstatuses",
            json!({}),
            200,
            "/items/2/metadata/name",
            json!("etcd-0"),
        ),
        (
            "GET",
            "/api/v1/componentstatuses/scheduler",
            json!({}),
            200,
            "/conditions/0/message",
            json!("ok"),
        ),
        (
            "GET",
            "/api/v1/componentstatuses/none",
            json!({}),
            404,
            "/reason",
            json!("NotFound"),
        ),
        ("GET", "/", json!({}), 200, "/paths/1", json!("/api")),
        (
            "GET",
            "/apis",
            json!({}),
            200,
            "/groups/0/name",
            json!("apiregistration.k8s.io"),
        ),
        ("GET", "/apis", json!({}), 200, "/groups/1/name", json!("apps")),
    ];
    for (method, path, body, code, at, wanted) in cases {
        let (got, value) = s.json(method, path, &body).await;
        assert_eq!(
            (got, value.pointer(at)),
            (code, Some(&wanted)),
            "{method} {path}: {value}"
        );
    }
    let (_, review) = s
        .json(
            "POST",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &json!({}),
        )
        .await;
    assert!(review["metadata"]["creationTimestamp"].is_string(), "{review}");
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
        "containers": [{"name": "c", "image": "i"}]}}}});
    let jobs = "/apis/batch/v1/namespaces/default/jobs";
    assert_eq!(s.json("POST", jobs, &job).await.0, 201);
    let (_, _, told) = send(&s, "DELETE", &format!("{jobs}/j"), "application/json", "").await;
    assert!(
        told[0].starts_with("child pods are preserved by default"),
        "{told:?}"
    );
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_know() {
    let s = Server::guarded().await;
    let map = json!({"metadata": {"name": "m"}});
    s.json("POST", "/api/v1/namespaces/default/configmaps", &map)
        .await;
    let (_, text) = s.text("/metrics", &[]).await;
    let of = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"configmaps\",scope=\"resource\",\
              subresource=\"\",verb=\"POST\",version=\"v1\"";
    for line in [
        format!("apiserver_request_total{{code=\"201\",{of}}} 1"),
        format!("apiserver_request_duration_seconds_count{{{of}}} 1"),
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"admit\"}".into(),
        "etcd_request_duration_seconds_count{operation=\"create\",type=\"configmaps\"}".into(),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1".into(),
        "apiserver_storage_objects{resource=\"configmaps\"} ".into(),
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"global-default\"} 33".into(),
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"} 1".into(),
        "apiserver_client_certificate_expiration_seconds_count ".into(),
        "apiserver_validation_declarative_validation_mismatch_total 0".into(),
        "apiserver_validation_declarative_validation_panic_total 0".into(),
        "authentication_attempts{result=\"success\"} ".into(),
        "authorization_attempts_total{result=\"allowed\"} ".into(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    s.text("/readyz?exclude=ping", &[]).await;
    let (_, text) = s.text("/metrics/slis", &[]).await;
    assert!(
        text.contains("\nkubernetes_healthcheck{name=\"log\",type=\"readyz\"} 1\n")
            && text.contains(
                "\nkubernetes_healthchecks_total{name=\"log\",status=\"success\",type=\"readyz\"} 1\n"
            )
            && !text.contains("ping"),
        "{text}"
    );
}

#[tokio::test]
async fn services_have_ip_addresses() {
    let s = Server::start().await;
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    let reserved = json!({"metadata": {"name": "10.96.0.20"}, "spec": {"parentRef":
        {"resource": "services", "namespace": "default", "name": "later"}}});
    assert_eq!(s.json("POST", addresses, &reserved).await.0, 201);
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    let (code, refused) = s.json("POST", services, &service("a", "10.96.0.20")).await;
    assert_eq!(code, 422, "{refused}");
    assert_eq!(s.json("POST", services, &service("a", "10.96.0.21")).await.0, 201);
    let one = format!("{addresses}/10.96.0.21");
    let made = s.until(&one, |code, _| code == 200).await;
    assert_eq!(made["spec"]["parentRef"]["name"], "a");
    assert_eq!(
        made["metadata"]["labels"]["ipaddress.kubernetes.io/managed-by"],
        "ipallocator.k8s.io"
    );
    // Another Service is nothing to it.
    s.json("POST", services, &service("b", "10.96.0.22")).await;
    s.until(&format!("{addresses}/10.96.0.22"), |code, _| code == 200)
        .await;
    assert_eq!(s.get(&one).await.1["metadata"]["uid"], made["metadata"]["uid"]);
    s.json("DELETE", &format!("{services}/a"), &json!({})).await;
    s.until(&one, |code, _| code == 404).await;
    // What somebody takes away is made again as long as it is had; what is given back others can have.
    let other = format!("{addresses}/10.96.0.22");
    let (_, first) = s.get(&other).await;
    s.json("DELETE", &other, &json!({})).await;
    let uid = first["metadata"]["uid"].clone();
    s.until(&other, |code, now| code == 200 && now["metadata"]["uid"] != uid)
        .await;
    s.json("DELETE", &format!("{addresses}/10.96.0.20"), &json!({}))
        .await;
    for ip in ["10.96.0.20", "10.96.0.21"] {
        let name = format!("again-{}", ip.replace('.', "-"));
        assert_eq!(s.json("POST", services, &service(&name, ip)).await.0, 201, "{ip}");
        s.until(&format!("{addresses}/{ip}"), |code, of| {
            code == 200 && of["spec"]["parentRef"]["name"] == name.as_str()
        })
        .await;
    }
    let cidr = "/apis/networking.k8s.io/v1/servicecidrs/kubernetes";
    s.until(cidr, |_, range| {
        range["status"]["conditions"][0]["type"] == "Ready"
    })
    .await;
}

#[tokio::test]
async fn health_has_the_checks_that_monitoring_knows() {
    let s = Server::start().await;
    let cases = [
        ("/livez/poststarthook/rbac/bootstrap-roles", 200, "ok"),
        ("/healthz/log?verbose", 200, "ok"),
        ("/livez/loopback-serving-certificate", 200, "ok"),
        (
            "/readyz/loopback-serving-certificate",
            404,
            "404 page not found\n",
        ),
        ("/readyz/etcd-readiness", 200, "ok"),
        ("/livez/etcd-readiness", 404, "404 page not found\n"),
        ("/readyz/none", 404, "404 page not found\n"),
        ("/readyz?exclude=etcd", 200, "ok"),
    ];
    for (path, code, text) in cases {
        assert_eq!(s.text(path, &[]).await, (code, text.into()), "{path}");
    }
    let (_, text) = s.text("/readyz?verbose&exclude=etcd&exclude=none", &[]).await;
    for line in [
        "[+]ping ok",
        "[+]etcd excluded: ok",
        "[+]informer-sync ok",
        "[+]poststarthook/start-kube-aggregator-informers ok",
        "[+]autoregister-completion ok",
        "[+]shutdown ok",
        "warn: some health checks cannot be excluded: no matches for \"none\"",
        "readyz check passed",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn services_of_families_that_are_not_there() {
    let s = Server::start().await;
    let services = "/api/v1/namespaces/default/services";
    let cases = [
        (
            json!({"ipFamilyPolicy": "RequireDualStack"}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP \
             families are specified",
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4"]}),
            "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
        ),
        (
            json!({"clusterIP": "fd00::1"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        ),
        (json!({"ipFamilyPolicy": "PreferDualStack"}), ""),
        (json!({"clusterIP": "None"}), ""),
    ];
    for (i, (more, why)) in cases.iter().enumerate() {
        let mut service = json!({"metadata": {"name": format!("s{i}")}, "spec": {"ports": [{"port": 80}]}});
        for (key, value) in more.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        let (code, answer) = s.json("POST", services, &service).await;
        match *why {
            "" => assert_eq!(code, 201, "{answer}"),
            why => assert_eq!(answer["message"], format!("Service \"s{i}\" is invalid: {why}")),
        }
    }
    // A port is asked of its range only where it is taken out of it.
    let far = json!({"metadata": {"name": "far"}, "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}});
    assert_eq!(
        s.json("POST", &format!("{services}?dryRun=All"), &far).await.0,
        201
    );
    assert_eq!(s.json("POST", services, &far).await.0, 422);
}

/// Empty lists and maps, which Go's encoder leaves out, are no change when they come again.
#[tokio::test]
async fn empty_values_are_no_change() {
    let s = Server::start().await;
    let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "e", "finalizers": []},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {
        "metadata": {"labels": {"a": "b"}, "annotations": {}}, "spec": {"tolerations": [],
        "containers": [{"name": "c", "image": "i"}]}}}});
    let apply = format!("{DEPLOYMENTS}/e?fieldManager=m");
    let kind = "application/apply-patch+yaml";
    let (code, first, _) = send(&s, "PATCH", &apply, kind, &deployment.to_string()).await;
    assert_eq!(code, 201, "{first}");
    for gone in ["/metadata/finalizers", "/spec/template/spec/tolerations"] {
        assert!(first.pointer(gone).is_none(), "{gone}: {first}");
    }
    let (code, again, _) = send(&s, "PATCH", &apply, kind, &deployment.to_string()).await;
    assert_eq!(
        (code, &again["metadata"]["resourceVersion"]),
        (200, &first["metadata"]["resourceVersion"])
    );
    deployment["metadata"]["resourceVersion"] = Value::Null;
    let (code, put) = s.json("PUT", &format!("{DEPLOYMENTS}/e"), &deployment).await;
    assert_eq!((code, &put["metadata"]["generation"]), (200, &json!(1)), "{put}");
}

#[tokio::test]
async fn every_path_of_the_root_is_there() {
    let s = Server::start().await;
    let (_, root) = s.json("GET", "/", &Value::Null).await;
    let paths: Vec<&str> = root["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    for path in [
        "/api/v1",
        "/apis/apps",
        "/apis/apps/v1",
        "/livez/etcd",
        "/readyz/shutdown",
        "/version",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    // A server of the tests signs no tokens.
    for path in paths.iter().filter(|path| !path.contains("openid")) {
        let (code, text) = s.text(path, &[]).await;
        assert_eq!(code, 200, "{path}: {text}");
    }
    let (no_method, no_resource) = (
        "the server does not allow this method on the requested resource",
        "the server could not find the requested resource",
    );
    for (method, path, code, words) in [
        ("POST", "/version", 405, no_method),
        ("PUT", "/apis/apps/v1", 405, no_method),
        ("GET", "/apis/apps/v9", 404, no_resource),
        ("GET", "/apis/apps/v1/deployments/x", 404, no_resource),
    ] {
        let (got, answer) = s.json(method, path, &Value::Null).await;
        assert_eq!(
            (got, answer["message"].as_str()),
            (code, Some(words)),
            "{method} {path}"
        );
    }
    assert_eq!(
        s.json("POST", "/apis/apps", &Value::Null).await.1["kind"],
        "APIGroup"
    );
    assert_eq!(s.text("/livez/", &[]).await.0, 404);
}
