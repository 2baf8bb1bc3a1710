//! Old wounds of others: each test names a CVE of Kubernetes (or of all HTTP/2 servers) that it would show here.
//!
//! `proxying`: what other servers answer; `bodies`: what clients send; `rights`: paths that lead past authorization;
//! `admission`: Pods that get more than they may.

#![allow(clippy::unwrap_used)]

mod admission;
mod bodies;
mod proxying;
mod rights;

use super::{common, hook, raw};

use apiserver::ApiServer;
use apiserver::config::Config;
use apiserver::user::User;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use std::sync::Arc;
use store::memory::MemoryStore;
use tower::ServiceExt;

/// A server with roles, admission and all that a cluster has.
pub struct Guarded(Arc<ApiServer>);

impl Guarded {
    /// On an empty store.
    pub async fn start() -> Guarded {
        let mut config = Config::new("cp", Arc::new(MemoryStore::new()));
        config.service_account_key_pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        Guarded(ApiServer::start(config).await.unwrap())
    }

    /// A request as somebody, `METHOD PATH`; answers code and body as text.
    pub async fn ask(&self, user: &User, line: &str, body: &Value) -> (u16, String) {
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
        let response = self.0.local_service(user.clone()).oneshot(request).await.unwrap();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A request of the administrator that must succeed.
    pub async fn make(&self, line: &str, body: Value) -> Value {
        let (code, text) = self.ask(&admin(), line, &body).await;
        assert!(code < 300, "{line}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Who may do everything.
pub fn admin() -> User {
    User::new("admin", &["system:masters"])
}
