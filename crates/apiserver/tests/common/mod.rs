//! A server on the memory store behind a loopback port, and a client that speaks plain HTTP to it.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)]

pub mod definitions;

use apiserver::admit::Notes;
use apiserver::authorize::{Authorizer, Decision, Rules};
use apiserver::config::Config;
use apiserver::connection::{Authenticator, Connection};
use apiserver::request::Attributes;
use apiserver::user::User;
use apiserver::{Access, ApiServer, StartError};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use kinds::status::Status;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;
use store::memory::MemoryStore;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Everybody is an administrator.
pub struct Open;

#[async_trait]
impl Authenticator for Open {
    async fn authenticate(
        &self,
        head: &http::request::Parts,
        _: &Connection,
        _: &Notes,
    ) -> Result<User, Status> {
        let name = head
            .headers
            .get("x-user")
            .and_then(|v| v.to_str().ok())
            .unwrap_or("tester");
        Ok(User::new(name, &["system:masters"]))
    }
}

#[async_trait]
impl Authorizer for Open {
    async fn authorize(&self, _: &User, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }
    async fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

/// A running server.
pub struct Server {
    pub api: Arc<ApiServer>,
    pub address: SocketAddr,
    pub store: Arc<dyn Store>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.api.stop();
    }
}

impl Server {
    pub async fn start() -> Server {
        Server::on(Arc::new(MemoryStore::new())).await
    }

    pub async fn on(store: Arc<dyn Store>) -> Server {
        Server::with(store, |_| {}).await
    }

    pub async fn with(store: Arc<dyn Store>, set: impl FnOnce(&mut Config)) -> Server {
        Server::made_of(store, set, |_: &Config, _| {
            Ok(Access {
                authenticator: Arc::new(Open),
                authorizer: Arc::new(Open),
                admission: Vec::new(),
                authentication: None,
            })
        })
        .await
    }

    /// A server with the whole admission chain.
    pub async fn guarded() -> Server {
        Server::guarded_by(Arc::new(Open), |_| {}).await
    }

    /// A server with the whole admission chain, another authorizer and settings.
    pub async fn guarded_by(authorizer: Arc<dyn Authorizer>, set: impl FnOnce(&mut Config)) -> Server {
        let access = |config: &Config, caches: Arc<apiserver::cache::Caches>| {
            let rbac = Arc::new(apiserver::authz::rbac::Rbac::new(caches));
            Ok(Access {
                authenticator: Arc::new(Open),
                authorizer,
                admission: apiserver::admission::standard(rbac, config.admission.clone()),
                authentication: None,
            })
        };
        Server::made_of(Arc::new(MemoryStore::new()), set, access).await
    }

    async fn made_of(
        store: Arc<dyn Store>,
        set: impl FnOnce(&mut Config),
        access: impl FnOnce(&Config, Arc<apiserver::cache::Caches>) -> Result<Access, StartError>,
    ) -> Server {
        let mut config = Config::new("cp", store.clone());
        set(&mut config);
        let api = ApiServer::start_with(config, access).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(api.clone().serve_plain(listener, stop.clone()));
        Server {
            api,
            address,
            store,
            stop,
        }
    }

    /// Asks again and again until an answer is what it should be.
    pub async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let looking = async {
            loop {
                let (code, value) = self.get(path).await;
                if wanted(code, &value) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looking)
            .await
            .unwrap_or_else(|_| panic!("{path} did not become what it should be"))
    }

    /// Makes a CustomResourceDefinition and waits until all that follows from it is done: it is established, so that nobody
    /// else writes to it any more, and its versions are served and listed. Answers it.
    pub async fn define(&self, crd: &Value) -> Value {
        let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let (code, said) = self.json("POST", crds, crd).await;
        assert_eq!(code, 201, "{said}");
        let text = |at: &str| said.pointer(at).and_then(Value::as_str).unwrap();
        let mut versions = said["spec"]["versions"].as_array().unwrap().iter();
        let served = versions.find(|version| version["served"] == true).unwrap();
        let version = format!(
            "/apis/{}/{}",
            text("/spec/group"),
            served["name"].as_str().unwrap()
        );
        let plural = text("/spec/names/plural");
        self.until(&version, |_, list| {
            let mut resources = list["resources"].as_array().into_iter().flatten();
            resources.any(|resource| resource["name"] == plural)
        })
        .await;
        // Discovery comes last.
        let (code, crd) = self.get(&format!("{crds}/{}", text("/metadata/name"))).await;
        assert_eq!(code, 200, "{crd}");
        crd
    }

    /// A JSON request; answers code, warnings and body.
    pub async fn warned(&self, method: &str, path: &str, body: &Value) -> (u16, Vec<String>, Value) {
        let headers = [("content-type", "application/json")];
        let response = self.send(method, path, &headers, body.to_string()).await;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.map(|w| w.to_str().unwrap().to_string()).collect();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (
            code,
            warnings,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let mut sender = self.connect().await;
        tokio::time::timeout(Duration::from_secs(20), sender.send_request(request))
            .await
            .unwrap()
            .unwrap()
    }

    /// A JSON request; answers code and body (null when it is no JSON).
    pub async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let media = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body).unwrap()
        };
        let response = self.send(method, path, &[("content-type", media)], bytes).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.json("GET", path, &Value::Null).await
    }

    pub async fn text(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let response = self.send("GET", path, headers, Bytes::new()).await;
        let code = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Events {
        let response = self.send("GET", path, &[], Bytes::new()).await;
        assert_eq!(response.status(), 200);
        Events {
            body: response.into_body(),
            rest: Vec::new(),
        }
    }
}

/// The events of a watch.
pub struct Events {
    body: hyper::body::Incoming,
    rest: Vec<u8>,
}

impl Events {
    /// The next event, `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame())
                .await
                .unwrap()?;
            self.rest.extend_from_slice(&frame.ok()?.into_data().ok()?);
        }
    }

    /// Reads so many events without looking at them.
    pub async fn count(&mut self, count: usize) {
        let mut seen = 0;
        while seen < count {
            let frame = self.body.frame().await.unwrap().unwrap();
            seen += frame.into_data().unwrap().iter().filter(|b| **b == b'\n').count();
        }
    }

    /// The next events as `TYPE name`.
    pub async fn names(&mut self, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        for _ in 0..count {
            let event = self.next().await.expect("another event");
            let name = event["object"]["metadata"]["name"]
                .as_str()
                .unwrap_or("-")
                .to_string();
            out.push(format!("{} {name}", event["type"].as_str().unwrap()));
        }
        out
    }
}
