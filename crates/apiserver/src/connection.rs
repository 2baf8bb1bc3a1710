//! What is known of a connection before its first request, and the question "who is this?".

use crate::admit::Notes;
use crate::authn::certificate;
use crate::authn::chain::Authorities;
use crate::user::User;
use async_trait::async_trait;
use jiff::Timestamp;
use kinds::status::Status;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::net::SocketAddr;
use std::sync::OnceLock;

/// A client connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The other end; `None` for callers in this process.
    pub peer: Option<SocketAddr>,
    /// The client certificate chain (DER, leaf first), verified against the configured authorities;
    /// empty when the client showed none, or one that is not believed.
    pub client_certificates: Vec<Vec<u8>>,
    /// Whether the client showed a certificate that is not believed: without other credentials it is nobody, not anonymous.
    pub certificate_refused: bool,
    /// The user of an in-process client: authentication is skipped, authorization is not.
    pub local_user: Option<User>,
    /// The user that the certificate names, found out once a connection; `None` when it names nobody.
    pub certificate_user: OnceLock<Option<User>>,
    /// When that certificate ends, in seconds since 1970.
    pub certificate_end: OnceLock<Option<i64>>,
}

impl Connection {
    /// One whose client has shown no certificate.
    pub fn of(peer: SocketAddr) -> Self {
        Self {
            peer: Some(peer),
            ..Self::default()
        }
    }

    /// One whose client has shown a chain (leaf first) and proved that it holds the key of its leaf.
    pub fn with_certificates(peer: SocketAddr, chain: &[CertificateDer<'_>], by: &Authorities) -> Self {
        let mut connection = Self::of(peer);
        if chain.is_empty() {
            return connection;
        }
        match by.verify(chain, UnixTime::now()) {
            Ok(()) => connection.client_certificates = chain.iter().map(|c| c.as_ref().to_vec()).collect(),
            Err(error) => {
                tracing::debug!(%peer, %error, "a client certificate was refused");
                connection.certificate_refused = true;
            }
        }
        connection
    }

    /// When the certificate that was believed ends, in seconds since 1970.
    pub fn certificate_end(&self) -> Option<i64> {
        let end = || certificate::end(self.client_certificates.first()?);
        *self.certificate_end.get_or_init(end)
    }

    /// Whether that has passed since the connection was made.
    pub fn certificate_ended(&self, now: Timestamp) -> bool {
        self.certificate_end().is_some_and(|end| now.as_second() > end)
    }
}

/// Finds out who sent a request.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The user of a request, impersonation applied by the caller afterwards; anonymous when there are no
    /// credentials. `Err` is a 401 for credentials that are wrong. What the audit log should know goes to `notes`.
    async fn authenticate(
        &self,
        head: &http::request::Parts,
        connection: &Connection,
        notes: &Notes,
    ) -> Result<User, Status>;
}
