//! TLS to etcd: whom we believe, how we prove ourselves, and a connector that goes from member to member.
//!
//! A channel holds one connection. When that is lost, the next member is asked that can be reached and shows a certificate
//! of the authority for its name or address.

use super::DEADLINE;
use crate::contract::StoreError;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};

/// Time that one member gets to answer a connection.
const DIAL: Duration = Duration::from_secs(2);
/// How long a member may say nothing before it is asked for a sign of life, and how long it may take to give it.
const SIGN_AFTER: Duration = Duration::from_secs(5);

/// What TLS to etcd needs, as PEM.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    /// The authority, or several, of the members' certificates.
    pub ca_pem: String,
    /// Our certificate with those between it and its authority, and its key; where etcd asks for one.
    pub client_pem: Option<(String, String)>,
}

impl EtcdTls {
    fn config(&self) -> Result<ClientConfig, StoreError> {
        let wrong = |what: &str, why: &dyn std::fmt::Display| {
            StoreError::unavailable(format!("the {what} for TLS to etcd: {why}"))
        };
        let certificates = |what: &str, pem: &str| {
            let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
            match all {
                Ok(all) if all.is_empty() => Err(wrong(what, &"has no certificate in it")),
                Ok(all) => Ok(all),
                Err(error) => Err(wrong(what, &error)),
            }
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates("authority", &self.ca_pem)? {
            roots.add(certificate).map_err(|e| wrong("authority", &e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong("protocol", &e))?
            .with_root_certificates(roots);
        let mut config = match &self.client_pem {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key =
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| wrong("client key", &e))?;
                builder
                    .with_client_auth_cert(certificates("client certificate", certificate)?, key)
                    .map_err(|e| wrong("client certificate", &e))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// A member's `HOST:PORT` and the name that its certificate must have.
struct Member {
    address: String,
    name: ServerName<'static>,
}

fn member(address: &str) -> Result<Member, StoreError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    Ok(Member {
        address: address.to_owned(),
        name: name.map_err(|e| StoreError::unavailable(format!("bad etcd address {address}: {e}")))?,
    })
}

async fn dial(member: &Member, tls: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let work = async {
        let stream = TcpStream::connect(&member.address).await?;
        stream.set_nodelay(true)?;
        tls.connect(member.name.clone(), stream).await
    };
    let told = |e: io::Error| io::Error::new(e.kind(), format!("connect error: {}: {e}", member.address));
    let outcome = tokio::time::timeout(DIAL, work).await;
    outcome
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(told)
}

/// A channel to whichever member can be reached.
pub(super) fn channel(members: &[String], tls: &EtcdTls) -> Result<Channel, StoreError> {
    let connector = TlsConnector::from(Arc::new(tls.config()?));
    let members: Arc<[Member]> = members.iter().map(|m| member(m)).collect::<Result<_, _>>()?;
    if members.is_empty() {
        return Err(StoreError::unavailable("no etcd address is given"));
    }
    let next = Arc::new(AtomicUsize::new(0));
    let service = tower::service_fn(move |_: tonic::transport::Uri| {
        let (members, connector, next) = (members.clone(), connector.clone(), next.clone());
        async move {
            let mut last = io::Error::from(io::ErrorKind::NotConnected);
            for _ in 0..members.len() {
                let at = next.fetch_add(1, Ordering::Relaxed) % members.len();
                match dial(&members[at], &connector).await {
                    Ok(stream) => return Ok(TokioIo::new(stream)),
                    Err(error) => {
                        tracing::warn!(%error, "a member of etcd cannot be reached");
                        last = error;
                    }
                }
            }
            Err(last)
        }
    });
    // The address is never looked at: the connector knows the members.
    Ok(Endpoint::from_static("http://etcd")
        .connect_timeout(DEADLINE)
        .http2_keep_alive_interval(SIGN_AFTER)
        .keep_alive_timeout(SIGN_AFTER)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(service))
}

/// Whether TLS itself refused: another attempt would end the same way.
pub(super) fn is_refusal(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return true;
        }
        cause = error.source();
    }
    false
}
