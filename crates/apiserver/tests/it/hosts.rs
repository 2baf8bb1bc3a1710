//! What a host agent may read and write on a running server: its own, what its Pods use, and nothing of other hosts'.
//! The cases are those of upstream's integration test of nodes. And who asks for what is nowhere is known first.

#![allow(clippy::unwrap_used)]

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use store::memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims";
const SLICES: &str = "/apis/resource.k8s.io/v1/resourceslices";
const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

async fn start(set: impl FnOnce(&mut Config)) -> Arc<ApiServer> {
    let mut config = Config::new("cp", Arc::new(MemoryStore::new()));
    config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    set(&mut config);
    ApiServer::start(config).await.unwrap()
}

fn admin() -> User {
    User::new("admin", &["system:masters", "system:authenticated"])
}

fn host(name: &str) -> User {
    User::new(
        format!("system:node:{name}"),
        &["system:nodes", "system:authenticated"],
    )
}

/// A request in this process; answers code and body.
async fn call(api: &Arc<ApiServer>, user: User, line: &str, body: Value) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let media = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let bytes = match body.is_null() {
        true => Bytes::new(),
        false => Bytes::from(body.to_string()),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(Full::new(bytes))
        .unwrap();
    let response = api.local_service(user).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn make(api: &Arc<ApiServer>, path: &str, object: Value) -> Value {
    let (code, made) = call(api, admin(), &format!("POST {path}"), object).await;
    assert_eq!(code, 201, "{path}: {made}");
    made
}

fn core(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } })
}

fn device_claim(name: &str) -> Value {
    json!({ "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": { "name": name } })
}

fn slice(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": { "name": name },
        "spec": {
            "nodeName": node, "driver": "dra.example.com",
            "pool": { "name": node, "generation": 1, "resourceSliceCount": 1 },
        },
    })
}

/// Two nodes; a Pod on the second with a claim on devices, a template for another, and a volume with a Secret.
async fn cluster() -> (Arc<ApiServer>, Value) {
    let api = start(|_| {}).await;
    let driver = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": { "name": "d" },
        "spec": { "tokenRequests": [{ "audience": "vault" }] },
    });
    make(&api, "/apis/storage.k8s.io/v1/csidrivers", driver).await;
    make(&api, "/api/v1/namespaces", core("Namespace", "ns")).await;
    let accounts = "/api/v1/namespaces/ns/serviceaccounts";
    make(&api, accounts, core("ServiceAccount", "default")).await;
    let mut node = Value::Null;
    for name in ["node1", "node2"] {
        node = make(&api, "/api/v1/nodes", core("Node", name)).await;
        make(&api, SLICES, slice(&format!("slice-of-{name}"), name)).await;
    }
    make(&api, CLAIMS, device_claim("named")).await;
    make(&api, CLAIMS, device_claim("templated")).await;
    let attachment = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": { "name": "attachment" },
        "spec": { "attacher": "foo", "source": { "persistentVolumeName": "pv" }, "nodeName": "node2" },
    });
    make(&api, ATTACHMENTS, attachment).await;
    for name in ["staged", "published", "other"] {
        make(&api, "/api/v1/namespaces/ns/secrets", core("Secret", name)).await;
    }
    let mut volume = core("PersistentVolume", "pv");
    let secret = |name: &str| json!({ "namespace": "ns", "name": name });
    volume["spec"] = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1" },
        "claimRef": { "namespace": "ns", "name": "pvc" },
        "csi": {
            "driver": "d", "volumeHandle": "h", "nodeStageSecretRef": secret("staged"),
            "controllerPublishSecretRef": secret("published"),
        },
    });
    make(&api, "/api/v1/persistentvolumes", volume).await;
    let mut claim = core("PersistentVolumeClaim", "pvc");
    claim["spec"] = json!({
        "accessModes": ["ReadWriteOnce"], "volumeName": "pv", "resources": { "requests": { "storage": "1" } },
    });
    make(&api, "/api/v1/namespaces/ns/persistentvolumeclaims", claim).await;
    let mut pod = core("Pod", "web");
    pod["spec"] = json!({
        "nodeName": "node2", "containers": [{ "name": "c", "image": "busybox" }],
        "volumes": [{ "name": "v", "persistentVolumeClaim": { "claimName": "pvc" } }],
        "resourceClaims": [
            { "name": "a", "resourceClaimName": "named" },
            { "name": "b", "resourceClaimTemplateName": "template" },
        ],
    });
    make(&api, "/api/v1/namespaces/ns/pods", pod).await;
    (api, node)
}

/// Asks each question as each of the two hosts: the codes that they get.
async fn asked(api: &Arc<ApiServer>, cases: &[(&str, [u16; 2])]) {
    for (line, wanted) in cases {
        for (name, wanted) in ["node1", "node2"].into_iter().zip(wanted) {
            let (code, answer) = call(api, host(name), line, Value::Null).await;
            assert_eq!(code, *wanted, "{line} as {name}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_host_reads_what_its_pods_use() {
    let (api, _) = cluster().await;
    let named = format!("GET {CLAIMS}/named");
    let templated = format!("GET {CLAIMS}/templated");
    let attachment = format!("GET {ATTACHMENTS}/attachment");
    let list = format!("GET {CLAIMS}");
    let before: [(&str, [u16; 2]); 7] = [
        (&named, [403, 200]),
        (&templated, [403, 403]),
        (&list, [403, 403]),
        (&attachment, [403, 200]),
        ("GET /api/v1/namespaces/ns/secrets/staged", [403, 200]),
        ("GET /api/v1/namespaces/ns/secrets/published", [403, 403]),
        ("GET /api/v1/namespaces/ns/secrets/other", [403, 403]),
    ];
    asked(&api, &before).await;
    let status = "PATCH /api/v1/namespaces/ns/pods/web/status";
    let told =
        json!({ "status": { "resourceClaimStatuses": [{ "name": "b", "resourceClaimName": "templated" }] } });
    let (code, refused) = call(&api, host("node2"), status, told.clone()).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "pods \"web\" is forbidden: node \"node2\" cannot update resource claim statues"
    );
    let (code, answer) = call(&api, admin(), status, told).await;
    assert_eq!(code, 200, "{answer}");
    asked(&api, &[(&templated, [403, 200])]).await;
    let phase = json!({ "status": { "phase": "Running" } });
    let (code, answer) = call(&api, host("node2"), status, phase).await;
    assert_eq!(code, 200, "{answer}");
}

#[tokio::test]
async fn a_host_announces_its_own_devices() {
    let (api, _) = cluster().await;
    let one = format!("GET {SLICES}/slice-of-node2");
    let all = format!("GET {SLICES}");
    let own = format!("GET {SLICES}?fieldSelector=spec.nodeName%3Dnode2");
    asked(
        &api,
        &[(&one, [403, 200]), (&all, [403, 403]), (&own, [403, 200])],
    )
    .await;
    let line = format!("POST {SLICES}");
    let (code, refused) = call(&api, host("node1"), &line, slice("new", "node2")).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        "resourceslices.resource.k8s.io \"new\" is forbidden: can only create ResourceSlice with the same NodeName as the \
         requesting node"
    );
    let (code, answer) = call(&api, host("node1"), &line, slice("new", "node1")).await;
    assert_eq!(code, 201, "{answer}");
    let line = format!("DELETE {SLICES}?fieldSelector=spec.nodeName%3Dnode1");
    assert_eq!(call(&api, host("node2"), &line, Value::Null).await.0, 403);
    let (code, answer) = call(&api, host("node1"), &line, Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    let (_, left) = call(&api, admin(), &all, Value::Null).await;
    let names = left["items"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|slice| slice["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["slice-of-node2"]);
}

#[tokio::test]
async fn a_mirror_pod_belongs_to_its_node() {
    let (api, node) = cluster().await;
    let uid = node["metadata"]["uid"].as_str().unwrap();
    let owner = |more: Value| {
        let mut owner = json!({
            "apiVersion": "v1", "kind": "Node", "name": "node2", "uid": uid, "controller": true });
        for (field, value) in more.as_object().unwrap() {
            owner[field] = value.clone();
        }
        owner
    };
    let cases = [
        (
            json!([]),
            "node \"node2\" can only create pods with an owner reference set to itself",
        ),
        (
            json!([owner(json!({})), { "apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u" }]),
            "node \"node2\" can only create pods with a single owner reference set to itself",
        ),
        (
            json!([owner(json!({ "name": "node1" }))]),
            "node \"node2\" can only create pods with an owner reference set to itself",
        ),
        (
            json!([owner(json!({ "controller": false }))]),
            "node \"node2\" can only create pods with a controller owner reference set to itself",
        ),
        (
            json!([owner(json!({ "blockOwnerDeletion": true }))]),
            "node \"node2\" must not set blockOwnerDeletion on an owner reference",
        ),
        (
            json!([owner(json!({ "uid": "another" }))]),
            "node node2 UID mismatch: expected another got ",
        ),
        (json!([owner(json!({}))]), ""),
    ];
    for (owners, why) in cases {
        let mut pod = core("Pod", "mirror");
        pod["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "true" });
        pod["metadata"]["ownerReferences"] = owners;
        pod["spec"] = json!({ "nodeName": "node2", "containers": [{ "name": "c", "image": "busybox" }] });
        let (code, answer) = call(&api, host("node2"), "POST /api/v1/namespaces/ns/pods", pod).await;
        let wanted = if why.is_empty() { 201 } else { 403 };
        assert_eq!(code, wanted, "{why}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(why), "{why}: {message}");
    }
}

#[tokio::test]
async fn a_host_asks_for_its_own_certificate() {
    let (api, _) = cluster().await;
    let key = rcgen::KeyPair::generate().unwrap();
    for (n, (common, signer, wanted)) in [
        ("system:node:node1", "kubernetes.io/kubelet-serving", 201),
        ("system:node:node2", "kubernetes.io/kubelet-serving", 403),
        (
            "system:node:node2",
            "kubernetes.io/kube-apiserver-client-kubelet",
            403,
        ),
        ("system:node:node2", "example.com/another", 201),
    ]
    .into_iter()
    .enumerate()
    {
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let names = &mut params.distinguished_name;
        names.push(rcgen::DnType::OrganizationName, "system:nodes");
        names.push(rcgen::DnType::CommonName, common);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let usage = match signer.ends_with("serving") {
            true => "server auth",
            false => "client auth",
        };
        let request = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": { "name": format!("r{n}") },
            "spec": { "signerName": signer, "request": STANDARD.encode(pem), "usages": ["digital signature", usage] },
        });
        let (code, answer) = call(&api, host("node1"), &format!("POST {REQUESTS}"), request).await;
        assert_eq!(code, wanted, "{common} {signer}: {answer}");
        if wanted == 403 {
            let message = answer["message"].as_str().unwrap();
            let why = "can only create a node CSR with CN=system:node:node1";
            assert!(message.ends_with(why), "{message}");
        }
    }
}

#[tokio::test]
async fn a_host_asks_for_tokens_of_its_pods() {
    let (api, _) = cluster().await;
    let (_, pod) = call(&api, admin(), "GET /api/v1/namespaces/ns/pods/web", Value::Null).await;
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    // The account is one that a Pod of the first host uses as well: the authorizer lets both ask.
    let mut other = core("Pod", "other");
    other["spec"] = json!({ "nodeName": "node1", "containers": [{ "name": "c", "image": "busybox" }] });
    make(&api, "/api/v1/namespaces/ns/pods", other).await;
    let bound =
        |name: &str, uid: &str| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
    let path = "POST /api/v1/namespaces/ns/serviceaccounts/default/token";
    let forbidden = |why: &str| format!("serviceaccounts \"default\" is forbidden: {why}");
    for (host_name, reference, wanted, why) in [
        (
            "node2",
            Value::Null,
            403,
            forbidden("node requested token not bound to a pod"),
        ),
        (
            "node2",
            bound("web", ""),
            403,
            forbidden("node requested token with a pod binding without a uid"),
        ),
        ("node2", bound("none", uid), 404, "pod \"none\" not found".into()),
        (
            "node2",
            bound("web", "random-uid"),
            403,
            forbidden(
                "the UID in the bound object reference (random-uid) does not match the UID in record. The object might have \
                 been deleted and then recreated",
            ),
        ),
        (
            "node1",
            bound("web", uid),
            403,
            forbidden("node requested token bound to a pod scheduled on a different node"),
        ),
        ("node2", bound("web", uid), 201, String::new()),
    ] {
        let mut request =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        if !reference.is_null() {
            request["spec"]["boundObjectRef"] = reference.clone();
        }
        let (code, answer) = call(&api, host(host_name), path, request).await;
        let told = answer["message"].as_str().unwrap_or_default();
        assert_eq!((code, told), (wanted, why.as_str()), "{host_name} {reference}");
    }
}

#[tokio::test]
async fn a_host_asks_for_audiences_of_its_pods() {
    let (api, _) = cluster().await;
    let (_, pod) = call(&api, admin(), "GET /api/v1/namespaces/ns/pods/web", Value::Null).await;
    let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod["metadata"]["uid"] });
    let ask = async |audiences: Value| {
        let path = "POST /api/v1/namespaces/ns/serviceaccounts/default/token";
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "boundObjectRef": bound, "audiences": audiences },
        });
        let (code, answer) = call(&api, host("node2"), path, request).await;
        let told = answer["message"].as_str().unwrap_or_default();
        (
            code,
            told.trim_start_matches("serviceaccounts \"default\" is forbidden: ")
                .to_owned(),
        )
    };
    let refused = "audience \"bank\" not found in pod spec volume, system:node:node2 is not authorized to request tokens for \
                   this audience";
    for (audiences, wanted, why) in [
        // Of the token that every Pod has, and of the driver of its volume.
        (json!([]), 201, ""),
        (json!(["vault"]), 201, ""),
        (json!(["bank"]), 403, refused),
        (
            json!(["vault", "bank"]),
            403,
            "node may only request 0 or 1 audiences",
        ),
    ] {
        assert_eq!(
            ask(audiences.clone()).await,
            (wanted, why.to_owned()),
            "{audiences}"
        );
    }
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "audience" },
        "rules": [{ "apiGroups": [""], "resources": ["bank"], "verbs": ["request-serviceaccounts-token-audience"] }],
    });
    make(&api, &format!("{rbac}/clusterroles"), role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "audience" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "audience" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }],
    });
    make(&api, &format!("{rbac}/clusterrolebindings"), binding).await;
    assert_eq!(ask(json!(["bank"])).await, (201, String::new()));
    let gone = "DELETE /apis/storage.k8s.io/v1/csidrivers/d";
    assert_eq!(call(&api, admin(), gone, Value::Null).await.0, 200);
    let why = "error validating audience \"vault\": csidriver.storage.k8s.io \"d\" not found";
    assert_eq!(ask(json!(["vault"])).await, (403, why.to_owned()));
}

#[tokio::test]
async fn a_token_tells_the_node_that_is_not_there() {
    let (api, _) = cluster().await;
    let mut pod = core("Pod", "early");
    pod["spec"] = json!({ "nodeName": "node3", "containers": [{ "name": "c", "image": "busybox" }] });
    make(&api, "/api/v1/namespaces/ns/pods", pod).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "early" } },
    });
    let path = "/api/v1/namespaces/ns/serviceaccounts/default/token";
    let made = make(&api, path, request).await;
    let token = made["status"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["kubernetes.io"]["node"], json!({ "name": "node3" }));
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": token } });
    let review = make(&api, "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    let extra = &review["status"]["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["node3"]));
    assert!(
        extra.get("authentication.kubernetes.io/node-uid").is_none(),
        "{extra}"
    );
}

#[tokio::test]
async fn an_unknown_path_is_none_of_a_strangers_business() {
    let page = axum::Router::new().route("/login", axum::routing::get(async || "come in"));
    let api = start(|config| config.extra_routes = Some(page)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(api.clone().serve_plain(listener, stop));
    for (path, token, wanted) in [
        ("/login", None, (200, "come in")),
        ("/login", Some("nonsense"), (200, "come in")),
        ("/invalidURL", Some("nonsense"), (401, "Unauthorized")),
        (
            "/invalidURL",
            None,
            (
                403,
                "forbidden: User \"system:anonymous\" cannot get path \"/invalidURL\"",
            ),
        ),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::get(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let told = status["message"].as_str().unwrap_or(&text);
        assert_eq!((code, told), wanted, "{path}");
    }
    let (code, _) = call(&api, admin(), "GET /invalidURL", Value::Null).await;
    assert_eq!(code, 404);
}
