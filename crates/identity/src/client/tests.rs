//! What a sign-in writes, as tables, and the whole flow over TLS on loopback.

use super::*;
use crate::authority::{Authority, Request};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;

#[test]
fn servers() {
    let cases = [
        ("192.0.2.1", Some(("192.0.2.1", None))),
        ("sup.example:6443", Some(("sup.example", Some(6443)))),
        ("https://192.0.2.1/", Some(("192.0.2.1", None))),
        ("https://[2001:db8::1]:443", Some(("2001:db8::1", Some(443)))),
        ("2001:db8::1", Some(("2001:db8::1", None))),
        ("http://192.0.2.1", None),
        ("", None),
        ("user@host", None),
        ("host:", None),
    ];
    for (text, want) in cases {
        let got = Server::parse(text).ok();
        let want = want.map(|(host, port): (&str, _)| Server {
            host: host.into(),
            port,
        });
        assert_eq!(got, want, "{text}");
    }
}

fn options(server: &str, kubeconfig: &Path) -> LoginOptions {
    LoginOptions {
        server: server.into(),
        username: "alice@podvisor.local".into(),
        password: "pw".into(),
        trust: Trust::Insecure,
        kubeconfig: kubeconfig.into(),
        guest_cluster: None,
        timeout: Duration::from_secs(10),
    }
}

#[test]
fn contexts_are_named_as_the_namespaces() {
    let mut config = Kubeconfig::default();
    config.set_context("taken", "work", "me", None);
    let workload = |namespace: &str| Workload {
        namespace: namespace.into(),
        host: "192.0.2.1".into(),
        port: 6443,
    };
    let options = options("192.0.2.1", Path::new("unused"));
    let server = Server::parse(&options.server).unwrap();
    let list = [workload("demo-app-01"), workload("taken")];
    let names = write_contexts(&mut config, &server, &options, "tok", &json!({}), &list).unwrap();
    assert_eq!(names, ["192.0.2.1", "demo-app-01", "taken-192.0.2.1"]);
    assert_eq!(config.current(), "192.0.2.1");
    let yaml = config.to_yaml().unwrap();
    for part in [
        "server: https://192.0.2.1:6443",
        "insecure-skip-tls-verify: true",
        "wcp:192.0.2.1:alice@podvisor.local",
        "namespace: demo-app-01",
        "token: tok",
    ] {
        assert!(yaml.contains(part), "{part} in\n{yaml}");
    }
    let guest = LoginOptions {
        guest_cluster: Some(("tkc".into(), Some("demo".into()))),
        ..options
    };
    let unknown = write_contexts(
        &mut config,
        &server,
        &guest,
        "tok",
        &json!({"guest_cluster_server": ""}),
        &[],
    );
    assert_eq!(
        unknown.unwrap_err().to_string(),
        "no cluster \"tkc\" in namespace \"demo\""
    );
}

/// A Supervisor's sign-on endpoints on loopback with TLS; gives its port.
async fn serve(dir: &Path) -> (u16, String) {
    let login = |headers: HeaderMap| async move {
        match headers["authorization"] == http::basic("alice@podvisor.local", "pw") {
            true => Ok(axum::Json(json!({"session_id": "tok"}))),
            false => Err(axum::http::StatusCode::UNAUTHORIZED),
        }
    };
    let workloads = || async {
        axum::Json(
            json!([{"namespace": "demo", "master_host": "127.0.0.1", "control_plane_api_server_port": 6443}]),
        )
    };
    let router = Router::new()
        .route("/wcp/loginbanner", get(|| async { "hello" }))
        .route("/wcp/login", post(login))
        .route("/wcp/workloads", get(workloads));
    let authority = Authority::load_or_create(dir).unwrap();
    let credential = authority.issue(&Request::server("s", ["127.0.0.1"])).unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(credential.server_config(None).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                if let Ok(stream) = tls.accept(stream).await {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    });
    (port, authority.certificate_pem().to_string())
}

#[tokio::test]
async fn signs_in_and_out_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (port, ca) = serve(dir.path()).await;
    let path = dir.path().join("sub/config");
    let server = format!("127.0.0.1:{port}");

    let mut options = options(&server, &path);
    options.trust = Trust::System;
    let untrusted = login(&options).await.unwrap_err().to_string();
    assert!(untrusted.contains("is not trusted"), "{untrusted}");

    options.trust = Trust::Authority(ca);
    let done = login(&options).await.unwrap();
    assert_eq!(done.banner, "hello");
    assert_eq!(
        done.message(),
        "\nLogged in successfully.\n\nYou have access to the following contexts:\n   127.0.0.1\n   demo\n\n\
         If a context you expect is missing, log in again later or ask your administrator for access.\n\n\
         To change context, use `kubectl config use-context <name>`\n"
    );
    let config = Kubeconfig::load(&path).unwrap();
    assert_eq!(config.current(), "demo");
    assert_eq!(
        config.user_token("wcp:127.0.0.1:alice@podvisor.local"),
        Some("tok")
    );
    assert!(
        config
            .to_yaml()
            .unwrap()
            .contains(&format!("server: https://127.0.0.1:{port}"))
    );

    options.trust = Trust::Insecure;
    options.password = "no".into();
    let refused = login(&options).await.unwrap_err().to_string();
    assert!(refused.starts_with("invalid credentials"), "{refused}");
    assert_eq!(
        workloads(&self::options(&server, &path)).await.unwrap()[0].namespace,
        "demo"
    );

    assert_eq!(logout(&path, Some(&server)).unwrap(), ["127.0.0.1", "demo"]);
    assert!(Kubeconfig::load(&path).unwrap().users().is_empty());
    assert!(logout(&path, None).unwrap().is_empty());
    let closed = login(&self::options("127.0.0.1:1", &path))
        .await
        .unwrap_err()
        .to_string();
    assert!(closed.starts_with("cannot reach 127.0.0.1:1:"), "{closed}");
}
