//! The endpoints as clients see them, over a directory in memory.

use super::*;
use crate::directory::DirectoryError;
use crate::passwords;
use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::HashMap;
use tower::ServiceExt;

struct Memory(HashMap<String, String>);

#[async_trait]
impl Directory for Memory {
    async fn password_hash(&self, user: &str) -> Result<Option<String>, DirectoryError> {
        Ok(self.0.get(user).cloned())
    }
    async fn groups(&self, _: &str) -> Result<Vec<String>, DirectoryError> {
        Ok(vec!["Developers@podvisor.local".into()])
    }
    async fn namespaces(&self, _: &str, _: &[String]) -> Result<Vec<String>, DirectoryError> {
        Ok(vec!["demo-app-01".into(), "demo-app-02".into()])
    }
}

fn state() -> (Arc<Sso>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let users = [(
        "alice@podvisor.local".to_string(),
        passwords::hash("pw:1").unwrap(),
    )];
    let deps = Deps {
        directory: Arc::new(Memory(users.into())),
        issuer: Arc::new(TokenIssuer::load_or_create(dir.path(), "192.0.2.1", "podvisor.local").unwrap()),
        passwords: Passwords::default(),
        advertised: None,
        api_port: 6443,
        banner: "Be good.".into(),
        ca_pem: "PEM".into(),
        program: Some(dir.path().join("program")),
    };
    (Arc::new(Sso::new(deps)), dir)
}

fn router() -> (Router, tempfile::TempDir) {
    let (state, dir) = state();
    (routes_of(state), dir)
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn call(router: &Router, line: &str, auth: Option<&str>, body: &str) -> (StatusCode, String) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "192.0.2.1:443");
    if let Some(auth) = auth {
        request = request.header("authorization", auth);
    }
    let response = router
        .clone()
        .oneshot(request.body(Body::from(body.to_string())).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn sign_on() {
    let (router, _dir) = router();
    let good = basic("Alice@podvisor.local:pw:1");
    assert_eq!(
        call(&router, "GET /wcp/loginbanner", None, "").await,
        (StatusCode::OK, "Be good.".into())
    );

    let mut token = String::new();
    for body in [
        "",
        "{}",
        "a=b",
        r#"{"guest_cluster_name":"c","guest_cluster_namespace":"n"}"#,
    ] {
        let (status, text) = call(&router, "POST /wcp/login", Some(&good), body).await;
        assert_eq!(status, StatusCode::OK, "{body}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        token = answer["session_id"].as_str().unwrap().to_string();
        assert_eq!(
            answer.get("guest_cluster_server").is_some(),
            body.contains("guest")
        );
    }
    for auth in [
        None,
        Some(basic("alice@podvisor.local:no")),
        Some(basic("eve:pw:1")),
        Some("Basic !".into()),
        Some("Bearer x".into()),
    ] {
        let (status, _) = call(&router, "POST /wcp/login", auth.as_deref(), "").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{auth:?}");
    }
    for auth in [good, format!("Bearer {token}")] {
        let (status, text) = call(&router, "GET /wcp/workloads", Some(&auth), "").await;
        assert_eq!(status, StatusCode::OK);
        let list: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(list[1]["namespace"], "demo-app-02");
        assert_eq!(list[0]["master_host"], "192.0.2.1");
        assert_eq!(list[0]["control_plane_api_server_port"], 6443);
    }
}

#[tokio::test]
async fn console_session() {
    let (state, _dir) = state();
    let router = routes_of(state.clone());
    let form = r#"{"username":"alice","password":"pw:1"}"#;
    let (status, text) = call(&router, "POST /podvisor/session", None, form).await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["username"], "alice@podvisor.local");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let (status, text) = call(&router, "GET /podvisor/session", Some(&bearer), "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("Developers@podvisor.local"), "{text}");
    assert_eq!(
        call(&router, "POST /podvisor/session", None, "{}").await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        call(&router, "DELETE /podvisor/session", Some(&bearer), "")
            .await
            .0,
        StatusCode::NO_CONTENT
    );

    let wrong = r#"{"username":"alice","password":"x"}"#;
    let (user, begin) = ("alice@podvisor.local", Instant::now());
    for _ in 0..5 {
        assert_eq!(
            call(&router, "POST /podvisor/session", None, wrong).await.0,
            StatusCode::UNAUTHORIZED
        );
    }
    // The wait that follows is over before a slow machine asks again; after some more it is long.
    assert_eq!(state.throttle.wait(user, begin), Duration::from_secs(1));
    for _ in 0..6 {
        state.throttle.failed(user, Instant::now());
    }
    let (status, text) = call(&router, "POST /podvisor/session", None, form).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
}

#[tokio::test]
async fn open_documents() {
    let (router, _dir) = router();
    let (status, text) = call(&router, "GET /openidconnect/jwks/podvisor.local", None, "").await;
    assert!(status.is_success() && text.contains("\"RSA\""), "{text}");
    assert_eq!(
        call(&router, "GET /openidconnect/jwks/other", None, "").await.0,
        StatusCode::NOT_FOUND
    );
    let path = "GET /openidconnect/podvisor.local/.well-known/openid-configuration";
    assert!(
        call(&router, path, None, "")
            .await
            .1
            .contains("/openidconnect/jwks/podvisor.local")
    );
    assert!(
        call(&router, "GET /", None, "")
            .await
            .1
            .contains("login --server=192.0.2.1 ")
    );
}

#[tokio::test]
async fn the_plugin_unpacks() {
    let (router, dir) = router();
    let program: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(dir.path().join("program"), &program).unwrap();
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let path = format!("/wcp/plugin/linux-{arch}/vsphere-plugin.zip");
    let response = router
        .clone()
        .oneshot(Request::get(&path).body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let length: usize = response.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(bytes.len(), length);
    // The end record leads to the directory, whose first entry leads to the content.
    let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let end = bytes.len() - 22;
    assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
    let entry = long(end + 16);
    assert_eq!(&bytes[entry..entry + 4], b"PK\x01\x02");
    assert_eq!(long(entry + 20), program.len());
    assert_eq!(&bytes[entry + 46..entry + 65], b"bin/kubectl-vsphere");
    let start = 30 + "bin/kubectl-vsphere".len();
    assert_eq!(&bytes[start..start + program.len()], &program[..]);
    assert_eq!(
        call(
            &router,
            "GET /wcp/plugin/darwin-amd64/vsphere-plugin.zip",
            None,
            ""
        )
        .await
        .0,
        StatusCode::NOT_FOUND
    );
}
