//! A webhook on loopback with a certificate of its own: it answers what a test tells it to and remembers what it was asked.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)]

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Path and body in, code and body out.
pub type Handler = dyn Fn(&str, &Value) -> (u16, Value) + Send + Sync;

/// A running webhook.
pub struct Hook {
    pub port: u16,
    /// Base64 of the PEM certificate.
    pub ca: String,
    /// Paths and bodies, in order.
    pub asked: Arc<Mutex<Vec<(String, Value)>>>,
    /// Headers of the last request for each path.
    pub headers: Arc<Mutex<HashMap<String, http::HeaderMap>>>,
}

impl Hook {
    pub async fn start(handler: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static) -> Hook {
        Hook::trusting(None, handler).await
    }

    /// A webhook that wants a client certificate of an authority.
    pub async fn trusting(
        authority: Option<rustls_pki_types::CertificateDer<'static>>,
        handler: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Hook {
        let names = ["127.0.0.1", "hook.default.svc", "agg.default.svc"];
        let names: Vec<String> = names.map(String::from).to_vec();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        // As many webhooks have it: self-signed, and an authority by its own account.
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(authority).unwrap();
                let verifier =
                    rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let tls = builder
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let headers: Arc<Mutex<HashMap<String, http::HeaderMap>>> = Arc::default();
        let kept = headers.clone();
        let (seen, handler, acceptor) = (asked.clone(), Arc::new(handler), TlsAcceptor::from(Arc::new(tls)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, handler, acceptor) = (seen.clone(), handler.clone(), acceptor.clone());
                let kept = kept.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                        let (seen, handler) = (seen.clone(), handler.clone());
                        let path = request.uri().to_string();
                        kept.lock().insert(path.clone(), request.headers().clone());
                        async move {
                            let bytes = request.into_body().collect().await.unwrap().to_bytes();
                            let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                            let (code, answer) = handler(&path, &body);
                            seen.lock().push((path, body));
                            let mut response =
                                http::Response::new(Full::new(bytes::Bytes::from(answer.to_string())));
                            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
                            if let Some(elsewhere) = answer["location"].as_str() {
                                response
                                    .headers_mut()
                                    .insert("location", elsewhere.parse().unwrap());
                            }
                            Ok::<_, Infallible>(response)
                        }
                    });
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Hook {
            port,
            ca: base64::engine::general_purpose::STANDARD.encode(certificate.pem()),
            asked,
            headers,
        }
    }

    /// A `clientConfig` by URL.
    pub fn url(&self, path: &str) -> Value {
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.ca})
    }

    /// The paths asked so far; forgets them.
    pub fn paths(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock());
        asked
            .into_iter()
            .map(|(path, _)| path.split('?').next().unwrap().to_string())
            .collect()
    }
}

/// An AdmissionReview that answers `review`.
pub fn answer(review: &Value, response: Value) -> (u16, Value) {
    let mut response = response;
    response["uid"] = review["request"]["uid"].clone();
    (
        200,
        json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}),
    )
}

/// A response that lets through, with a patch.
pub fn patched(review: &Value, patch: Value) -> (u16, Value) {
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    answer(
        review,
        json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}),
    )
}
