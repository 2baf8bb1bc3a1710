//! What other servers answer: an upgrade that fails, a redirection, an address that is not theirs.

use super::common::Server;
use super::hook::Hook;
use super::raw::Raw;
use bytes::Bytes;
use http_body_util::BodyExt;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::memory::MemoryStore;

const POD: &str = "/api/v1/namespaces/default/pods/p";

/// A server with a Node whose agent is `agent`, and a Pod there.
async fn with_agent(agent: &Hook) -> Server {
    let tls =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
    let s = Server::with(Arc::new(MemoryStore::new()), |c| {
        c.agent_tls = Some(Arc::new(tls))
    })
    .await;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    s.json("POST", "/api/v1/nodes", &node).await;
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": agent.port}}}});
    let (code, text) = s.json("PATCH", "/api/v1/nodes/n/status", &status).await;
    assert_eq!(code, 200, "{text}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    let (code, text) = s.json("POST", "/api/v1/namespaces/default/pods", &pod).await;
    assert_eq!(code, 201, "{text}");
    s
}

/// Believes every certificate: whom the agent is signed by is no matter of these tests.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// CVE-2018-1002105: an upgrade that the backend refused left the client's connection joined to the backend's, over
/// which more requests went with the server's own credentials. Here the next request on the connection is ours.
#[tokio::test]
async fn cve_2018_1002105_a_refused_upgrade_is_no_tunnel() {
    let agent = Hook::start(|_, _| (403, json!({"from": "the agent"}))).await;
    let s = with_agent(&agent).await;
    let mut raw = Raw::connect(s.address).await;
    let upgrade = format!(
        "POST {POD}/exec?command=ls&stdout=1&container=c HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\ncontent-length: 0\r\n\r\n"
    );
    raw.send(upgrade.as_bytes()).await;
    let (code, _, text) = raw.answer().await.unwrap();
    assert_eq!((code, text.as_str()), (403, r#"{"from":"the agent"}"#));
    raw.send(b"GET /exec/other/victim/c?command=id HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    // Ours, or nobody's: the connection may also have been closed.
    if let Some((code, _, text)) = raw.answer().await {
        assert_eq!((code, text.contains("the agent")), (404, false), "{text}");
    }
    let paths = agent.paths();
    assert_eq!(paths, ["/exec/default/p/c"], "the agent was asked once");
}

/// CVE-2020-8559: a host agent that answered an upgrade with a redirection sent the server's credentials, or the
/// client, to another host. Here nobody follows it and the client does not see it.
#[tokio::test]
async fn cve_2020_8559_an_agent_cannot_redirect() {
    let agent = Hook::start(|path, _| {
        let code = if path.starts_with("/exec") { 307 } else { 302 };
        (code, json!({"location": "https://127.0.0.1:1/exec/other"}))
    })
    .await;
    let s = with_agent(&agent).await;
    let path = format!("{POD}/exec?command=ls&stdout=1");
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    let response = s.send("POST", &path, &headers, Bytes::new()).await;
    assert_eq!(response.status(), 500);
    assert!(!response.headers().contains_key("location"));
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(
        text.contains("invalid upgrade response: status code 307"),
        "{text}"
    );
    let response = s.send("GET", &format!("{POD}/log"), &[], Bytes::new()).await;
    assert_eq!(response.status(), 502);
    assert!(!response.headers().contains_key("location"));
    assert_eq!(agent.paths().len(), 2);
}

/// CVE-2022-3172: an aggregated API server could redirect clients anywhere, credentials included. Here its
/// redirections end at us, with upstream's words.
#[tokio::test]
async fn cve_2022_3172_an_aggregated_server_cannot_redirect() {
    let other = Hook::start(|path, _| match path {
        "/apis/agg.example.com/v1" => (
            200,
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "agg.example.com/v1", "resources": []}),
        ),
        _ => (307, json!({"location": "https://evil.example.com/"})),
    })
    .await;
    let s = Server::start().await;
    let external = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "agg"},
        "spec": {"type": "ExternalName", "externalName": "localhost"}});
    s.json("POST", "/api/v1/namespaces/default/services", &external)
        .await;
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.agg.example.com"},
        "spec": {"group": "agg.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "caBundle": other.ca, "service": {"namespace": "default", "name": "agg", "port": other.port}}});
    let path = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (code, made) = s.json("POST", path, &service).await;
    assert_eq!(code, 201, "{made}");
    // One that could not be asked in time is asked again after half a minute.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let response = s
            .send("GET", "/apis/agg.example.com/v1/things", &[], Bytes::new())
            .await;
        let (code, located) = (response.status(), response.headers().contains_key("location"));
        assert!(!located, "{code}");
        let text = response.into_body().collect().await.unwrap().to_bytes();
        if code == 502 {
            assert_eq!(
                text,
                "the backend attempted to redirect this request, which is not permitted"
            );
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{code}");
    }
}

/// CVE-2020-8562: the check that a proxied address is not the control plane's own looked a name up, and the
/// connection looked it up again. Here only addresses count, the one that is checked is dialled, and an IPv4 address
/// in the clothes of IPv6 is what it is.
#[tokio::test]
async fn cve_2020_8562_proxies_reach_no_address_of_ours() {
    let s = Server::start().await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    s.json("POST", "/api/v1/namespaces/default/pods", &pod).await;
    for ip in [
        "127.0.0.1",
        "127.8.9.10",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "localhost",
    ] {
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        let (code, text) = s.json("PATCH", &format!("{POD}/status"), &status).await;
        assert!(code == 200 || code == 422, "{ip}: {text}");
        let (proxied, text) = s
            .text(&format!("{POD}:{}/proxy/version", s.address.port()), &[])
            .await;
        assert_eq!(proxied, 400, "{ip}: {text}");
        assert!(
            text.contains("is not allowed as a proxy target") || text.contains("has no address yet"),
            "{ip}: {text}"
        );
    }
    // A Node that states a name instead of an address is not looked up.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    s.json("POST", "/api/v1/nodes", &node).await;
    let status = json!({"status": {"addresses": [{"type": "Hostname", "address": "localhost"},
        {"type": "InternalIP", "address": "localhost"}]}});
    s.json("PATCH", "/api/v1/nodes/n/status", &status).await;
    let (code, text) = s.text("/api/v1/nodes/n/proxy/version", &[]).await;
    assert!(
        code == 503 && text.contains("no preferred addresses found"),
        "{text}"
    );
    // Nor do endpoints name such addresses.
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"},
        "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 80}]}]});
    let (code, text): (u16, Value) = s
        .json("POST", "/api/v1/namespaces/default/endpoints", &endpoints)
        .await;
    assert_eq!(code, 422, "{text}");
}
