//! Authentication, authorization and admission in a running server: real tokens, real roles, real quotas.

#![allow(clippy::unwrap_used)]

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use store::memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub async fn start() -> Arc<ApiServer> {
    let mut config = Config::new("cp", Arc::new(MemoryStore::new()));
    config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
    ApiServer::start(config).await.unwrap()
}

pub fn admin() -> User {
    User::new("admin", &["system:masters"])
}

/// A request in this process; answers code and body.
pub async fn call(api: &Arc<ApiServer>, user: User, line: &str, body: Value) -> (u16, Value) {
    call_for(api, user, line, body, "application/json").await
}

/// The same for an answer in another form.
pub async fn call_for(
    api: &Arc<ApiServer>,
    user: User,
    line: &str,
    body: Value,
    accept: &str,
) -> (u16, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", accept)
        .body(Full::new(Bytes::from(if body.is_null() {
            String::new()
        } else {
            body.to_string()
        })))
        .unwrap();
    let response = api.local_service(user).oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A namespace with its default account and `alice` as editor.
async fn tenant(api: &Arc<ApiServer>) {
    let named = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } });
    let mut binding = named("rbac.authorization.k8s.io/v1", "RoleBinding", "alice");
    binding["roleRef"] =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" });
    binding["subjects"] =
        json!([{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice" }]);
    for (path, object) in [
        ("/api/v1/namespaces", named("v1", "Namespace", "demo")),
        (
            "/api/v1/namespaces/demo/serviceaccounts",
            named("v1", "ServiceAccount", "default"),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/namespaces/demo/rolebindings",
            binding,
        ),
    ] {
        let (code, answer) = call(api, admin(), &format!("POST {path}"), object).await;
        assert_eq!(code, 201, "{answer}");
    }
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "c", "image": "busybox" }] },
    })
}

#[tokio::test]
async fn roles_confine_and_pods_get_tokens() {
    let api = start().await;
    tenant(&api).await;
    let alice = || User::new("alice", &[]);
    let (code, made) = call(&api, alice(), "POST /api/v1/namespaces/demo/pods", pod("web")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(
        made["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"],
        "token"
    );

    let (code, refused) = call(&api, alice(), "GET /api/v1/namespaces/other/pods", Value::Null).await;
    assert_eq!(code, 403);
    assert_eq!(
        refused["message"],
        r#"pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "other""#
    );
    let (_, review) = call(
        &api,
        alice(),
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": { "verb": "create", "resource": "pods", "namespace": "demo" } },
        }),
    )
    .await;
    assert_eq!(review["status"]["allowed"], true, "{review}");
    let (code, _) = call(&api, User::anonymous(), "GET /livez", Value::Null).await;
    assert_eq!(code, 200);
    let (code, _) = call(&api, User::anonymous(), "GET /api/v1/namespaces", Value::Null).await;
    assert_eq!(code, 403);
    let (_, classes) = call(
        &api,
        admin(),
        "GET /apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical",
        Value::Null,
    )
    .await;
    assert_eq!(classes["value"], 2_000_001_000);
}

/// Tools ask for a subresource by one word, as it stands in roles.
#[tokio::test]
async fn a_review_may_name_a_subresource_in_one_word() {
    let api = start().await;
    tenant(&api).await;
    for (resource, subresource, wanted) in [
        ("deployments/scale", "", true),
        ("deployments", "scale", true),
        ("deployments/none", "", false),
        ("deployments", "none", false),
    ] {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": { "user": "alice", "resourceAttributes": {
                "verb": "update", "group": "apps", "resource": resource, "subresource": subresource, "namespace": "demo" } },
        });
        let path = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
        let (_, answer) = call(&api, admin(), path, review).await;
        assert_eq!(
            answer["status"]["allowed"], wanted,
            "{resource} {subresource}: {answer}"
        );
    }
}

#[tokio::test]
async fn tokens_open_the_door_they_are_for() {
    let api = start().await;
    tenant(&api).await;
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let path = "POST /api/v1/namespaces/demo/serviceaccounts/default/token";
    let (code, made) = call(&api, admin(), path, request).await;
    assert_eq!(code, 201, "{made}");
    let token = made["status"]["token"].as_str().unwrap().to_string();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(api.clone().serve_plain(listener, stop));
    let who = |bearer: Option<String>| async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let review =
            json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" }).to_string();
        let mut request = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("host", "localhost")
            .header("content-type", "application/json");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let response = sender
            .send_request(request.body(Full::new(Bytes::from(review))).unwrap())
            .await
            .unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
    };
    let (code, answer) = who(Some(token.clone())).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"]["username"],
        "system:serviceaccount:demo:default"
    );
    let (code, answer) = who(Some("nonsense".into())).await;
    assert_eq!((code, &answer["message"]), (401, &json!("Unauthorized")));
    assert_eq!(who(None).await.0, 403);

    let (code, _) = call(
        &api,
        admin(),
        "DELETE /api/v1/namespaces/demo/serviceaccounts/default",
        Value::Null,
    )
    .await;
    assert_eq!(code, 200);
    assert_eq!(who(Some(token)).await.0, 401, "its account is gone");
}

#[tokio::test]
async fn a_quota_holds_under_a_crowd() {
    let api = start().await;
    tenant(&api).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "q" },
        "spec": { "hard": { "count/configmaps": "7" } },
    });
    let (code, answer) = call(
        &api,
        admin(),
        "POST /api/v1/namespaces/demo/resourcequotas",
        quota,
    )
    .await;
    assert_eq!(code, 201, "{answer}");
    let path = "POST /api/v1/namespaces/demo/configmaps";
    let tries = (0..60).map(|n| {
        let api = api.clone();
        let object =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("c{n}") } });
        tokio::spawn(async move { call(&api, admin(), path, object).await })
    });
    let mut stored = 0;
    for answer in join_all(tries).await {
        let (code, answer) = answer.unwrap();
        match code {
            201 => stored += 1,
            _ => assert!(
                answer["message"]
                    .as_str()
                    .unwrap()
                    .contains("exceeded quota: q, requested: count/configmaps=1"),
                "{answer}"
            ),
        }
    }
    assert_eq!(stored, 7);
    // Room made is room to use.
    let (_, list) = call(
        &api,
        admin(),
        "GET /api/v1/namespaces/demo/configmaps",
        Value::Null,
    )
    .await;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    let (code, _) = call(
        &api,
        admin(),
        &format!("DELETE /api/v1/namespaces/demo/configmaps/{name}"),
        Value::Null,
    )
    .await;
    assert_eq!(code, 200);
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "last" } });
    let (code, answer) = call(&api, admin(), path, object).await;
    assert_eq!(code, 201, "{answer}");
}

#[tokio::test]
async fn the_dns_of_the_cluster_has_its_service() {
    let started = |store: Arc<MemoryStore>, dns: Option<[u8; 4]>| async move {
        let mut config = Config::new("cp", store);
        config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        config.cluster_dns = dns.map(Into::into);
        ApiServer::start(config).await.unwrap()
    };
    let services = "/api/v1/namespaces/kube-system/services";
    let api = started(Arc::new(MemoryStore::new()), Some([10, 96, 0, 10])).await;
    let (code, service) = call(&api, admin(), &format!("GET {services}/kube-dns"), Value::Null).await;
    assert_eq!(
        (code, service["spec"]["clusterIP"].as_str()),
        (200, Some("10.96.0.10"))
    );
    assert_eq!(service["metadata"]["labels"]["k8s-app"], "kube-dns");
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    let ports: Vec<_> = ports
        .map(|p| (p["name"].as_str().unwrap(), p["protocol"].as_str().unwrap()))
        .collect();
    assert_eq!(ports, [("dns", "UDP"), ("dns-tcp", "TCP")]);
    let slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";
    let (_, slice) = call(&api, admin(), &format!("GET {slices}/kube-dns"), Value::Null).await;
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.96.0.10"]));
    api.stop();
    // Where another Service has had the address for long, it keeps it, and the server starts.
    let store = Arc::new(MemoryStore::new());
    let early = started(store.clone(), None).await;
    let body = json!({"metadata": {"name": "mine"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}});
    let (code, said) = call(&early, admin(), &format!("POST {services}"), body).await;
    assert_eq!(code, 201, "{said}");
    early.stop();
    let late = started(store, Some([10, 96, 0, 10])).await;
    let (code, _) = call(&late, admin(), &format!("GET {services}/kube-dns"), Value::Null).await;
    assert_eq!(code, 404);
    late.stop();
}
