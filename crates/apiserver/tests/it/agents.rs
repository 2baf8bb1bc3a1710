//! What ends at a host agent: logs, exec by upgrade, figures. The agent here is a small TLS server that says what it was asked.

#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::Server;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

type Answer = http::Response<Full<Bytes>>;

/// A certificate for 127.0.0.1 that signs itself; both ends use it.
struct Identity {
    certificate: rustls_pki_types::CertificateDer<'static>,
    key: rustls_pki_types::PrivateKeyDer<'static>,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
    Identity {
        certificate: made.cert.der().clone(),
        key: rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client_tls(identity: &Identity) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.certificate.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    Arc::new(config)
}

async fn answer(
    mut request: http::Request<hyper::body::Incoming>,
) -> Result<Answer, std::convert::Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let full = |text: String| Full::new(Bytes::from(text));
    if request.headers().contains_key("authorization") {
        return Ok(http::Response::builder()
            .status(500)
            .body(full("a credential leaked".into()))
            .unwrap());
    }
    if request.uri().path().starts_with("/exec/") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream
                .write_all(format!("{line} said {}", String::from_utf8_lossy(&word)).as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        });
        let switching = http::Response::builder()
            .status(101)
            .header("connection", "Upgrade")
            .header("upgrade", "test/1");
        return Ok(switching.body(full(String::new())).unwrap());
    }
    if request.uri().path() == "/podmetrics" {
        // Among others, and not the first.
        let figures = json!([["other", "default"], ["p", "elsewhere"], ["p", "default"]].map(
            |[name, namespace]| {
                json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": name, "namespace": namespace}, "containers": []})
            }
        ));
        return Ok(http::Response::new(full(figures.to_string())));
    }
    Ok(http::Response::new(full(line)))
}

async fn agent(identity: &Identity) -> SocketAddr {
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = connection.with_upgrades().await;
            });
        }
    });
    address
}

async fn prepared() -> Server {
    let identity = identity();
    let address = agent(&identity).await;
    let store = Arc::new(store::memory::MemoryStore::new());
    let s = Server::with(store, |config| config.agent_tls = Some(client_tls(&identity))).await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    s.json("POST", "/api/v1/nodes", &node).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}});
    let (code, text) = s.json("PATCH", "/api/v1/nodes/n/status", &status).await;
    assert_eq!(code, 200, "{text}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}});
    let (code, text) = s.json("POST", "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{text}");
    s
}

#[tokio::test]
async fn logs_and_node_proxy() {
    let s = prepared().await;
    let pod = "/api/v1/namespaces/default/pods/p";
    let headers = [("authorization", "Bearer secret")];
    let node = s.get("/api/v1/nodes/n").await.1;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .unwrap()
        .clone();
    // path => code, words of the answer
    let cases = [
        (
            format!("{pod}/log?container=c&follow=true&tailLines=5&x=1"),
            200,
            "GET /containerLogs/default/p/c?follow=true&tailLines=5",
        ),
        (
            format!("{pod}/log"),
            400,
            "a container name must be specified for pod p, choose one of: [c d]",
        ),
        (
            format!("{pod}/log?container=e"),
            400,
            "container e is not valid for pod p",
        ),
        (format!("{pod}none/log"), 404, "pods \\\"pnone\\\" not found"),
        (
            format!("{pod}none/log?tailLines=-1&limitBytes=0"),
            422,
            "PodLogOptions \\\"pnone\\\" is invalid: [tailLines: Invalid value: -1: must be greater than or equal to 0, \
             limitBytes: Invalid value: 0: must be greater than 0]",
        ),
        (
            format!("{pod}/log?sinceSeconds=0&sinceTime=2026-01-02T03:04:05Z&stream=All"),
            422,
            "[[]: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified, stream: Forbidden: may not be specified]",
        ),
        (
            format!("{pod}/log?tailLines=x"),
            400,
            "strconv.ParseInt: parsing \\\"x\\\": invalid syntax",
        ),
        (
            "/api/v1/nodes/n/proxy/stats/summary?a=b".into(),
            200,
            "GET /stats/summary?a=b",
        ),
        (
            format!("/api/v1/nodes/n:{port}/proxy/configz"),
            200,
            "GET /configz",
        ),
        (
            "/api/v1/nodes/n:1/proxy/configz".into(),
            400,
            "of a node only its agent is proxied",
        ),
        ("/api/v1/nodes/n/proxy?a=b".into(), 301, ""),
        (
            "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/p".into(),
            200,
            r#""name":"p","namespace":"default""#,
        ),
        ("/apis/metrics.k8s.io/v1beta1/pods".into(), 200, "PodMetricsList"),
        (
            format!("{pod}/exec?command=ls&stdout=1&container=c"),
            400,
            "Upgrade request required",
        ),
        (
            format!("{pod}/exec?stdout=1&container=c"),
            400,
            "at least one command",
        ),
    ];
    for (path, code, words) in cases {
        let (got, text) = s.text(&path, &headers).await;
        assert_eq!(got, code, "{path}: {text}");
        assert!(text.contains(words), "{path}: {text}");
    }
    // A proxy passes methods on that the API itself has no verb for.
    let response = s
        .send("OPTIONS", "/api/v1/nodes/n/proxy/configz", &headers, "")
        .await;
    assert_eq!(response.status(), 200);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(b"OPTIONS /configz"), "{text:?}");
}

#[tokio::test]
async fn exec_is_a_tunnel() {
    let s = prepared().await;
    let path = "/api/v1/namespaces/default/pods/p/exec?container=c&command=echo&command=a%20b&stdin=true&stdout=true&tty=false";
    let response = s
        .send(
            "POST",
            path,
            &[("connection", "Upgrade"), ("upgrade", "test/1")],
            Bytes::new(),
        )
        .await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "test/1");
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(
        text,
        "POST /exec/default/p/c?input=1&output=1&command=echo&command=a%20b said hello"
    );
}

#[tokio::test]
async fn without_an_agent() {
    let s = Server::start().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    s.json("POST", "/api/v1/namespaces/default/pods", &pod).await;
    let (code, text) = s.text("/api/v1/namespaces/default/pods/p/log", &[]).await;
    assert_eq!(
        (code, text.as_str()),
        (204, ""),
        "nothing has run, so nothing was said"
    );
    let response = s
        .send(
            "POST",
            "/api/v1/namespaces/default/pods/p/exec?command=a&stdout=1",
            &[],
            Bytes::new(),
        )
        .await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&bytes).contains("pod p does not have a host assigned"));
}
