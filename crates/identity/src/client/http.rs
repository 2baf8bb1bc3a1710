//! A small HTTPS client: one request, one bounded answer, one deadline.

use crate::kubeconfig::Trust;
use ::http::{Request, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// The largest answer read, in bytes.
const MAX_ANSWER: usize = 4 << 20;
/// Where systems keep the certificates they trust.
const BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of {server} is not trusted ({reason}): give its authority with --certificate-authority FILE, or use --insecure-skip-tls-verify"
    )]
    Certificate {
        /// Host and port.
        server: String,
        /// What rustls says.
        reason: String,
    },
    /// Connecting or talking failed.
    #[error("cannot reach {server}: {reason}")]
    Connect {
        /// Host and port.
        server: String,
        /// The innermost cause.
        reason: String,
    },
    /// The deadline passed.
    #[error("{server} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Host and port.
        server: String,
        /// The deadline.
        after: Duration,
    },
    /// The trusted certificates cannot be used.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// The value of a Basic `Authorization` header.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// PEM text from base64.
pub(super) fn decode_pem(text: &str) -> Option<String> {
    let bytes = STANDARD.decode(text).ok()?;
    String::from_utf8(bytes)
        .ok()
        .filter(|pem| pem.contains("BEGIN CERTIFICATE"))
}

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(trust: &Trust, timeout: Duration) -> Result<Http, HttpError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| HttpError::Tls(e.to_string()))?;
        let config = match trust {
            Trust::Insecure => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(TrustAnyone(provider)))
                .with_no_client_auth(),
            Trust::Authority(pem) => builder
                .with_root_certificates(roots(pem.as_bytes())?)
                .with_no_client_auth(),
            Trust::System => {
                let bundle = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
                let roots = roots(&bundle.unwrap_or_default())?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Ok(Http {
            client: Client::builder(TokioExecutor::new()).build(connector),
            timeout,
        })
    }

    pub(super) async fn get(&self, url: &str, auth: Option<&str>) -> Result<(u16, String), HttpError> {
        let mut request = Request::get(url);
        if let Some(auth) = auth {
            request = request.header(header::AUTHORIZATION, auth);
        }
        self.send(url, request.body(Full::default())).await
    }

    pub(super) async fn post(&self, url: &str, auth: &str, json: &str) -> Result<(u16, String), HttpError> {
        let request = Request::post(url)
            .header(header::AUTHORIZATION, auth)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(json.to_string()));
        self.send(url, request).await
    }

    async fn send(
        &self,
        url: &str,
        request: Result<Request<Full<Bytes>>, ::http::Error>,
    ) -> Result<(u16, String), HttpError> {
        let server = url
            .trim_start_matches("https://")
            .split('/')
            .next()
            .unwrap_or_default();
        let failed = |error: &(dyn Error + 'static)| describe(server, error);
        let request = request.map_err(|e| failed(&e))?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| failed(&e))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|e| failed(e.as_ref()))?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(HttpError::Timeout {
                    server: server.to_string(),
                    after: self.timeout,
                })
            })
    }
}

/// Walks to the cause that means something to a person.
fn describe(server: &str, error: &(dyn Error + 'static)) -> HttpError {
    let server = server.to_string();
    let mut cause = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(reason)) = cause.downcast_ref() {
            return HttpError::Certificate {
                server,
                reason: format!("{reason:?}"),
            };
        }
        // An io::Error hides what it wraps: its source is already the wrapped error's source.
        let wrapped = cause
            .downcast_ref::<std::io::Error>()
            .and_then(|e| e.get_ref())
            .map(|e| e as &(dyn Error + 'static));
        match wrapped.or_else(|| cause.source()) {
            Some(next) => cause = next,
            None => break,
        }
    }
    HttpError::Connect {
        server,
        reason: cause.to_string(),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, HttpError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|e| HttpError::Tls(e.to_string()))?;
        // A system bundle may hold a certificate rustls does not like; the others count.
        if let Err(error) = store.add(certificate) {
            tracing::debug!(%error, "skipped an authority");
        }
    }
    Ok(store)
}

/// `--insecure-skip-tls-verify`: any certificate will do; signatures are still checked.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
