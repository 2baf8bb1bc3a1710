//! What is known of a connection before its first request, and the question "who is this?".

use crate::admit::Notes;
use crate::user::User;
use async_trait::async_trait;
use kinds::status::Status;
use std::net::SocketAddr;
use std::sync::OnceLock;

/// A client connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The other end; `None` for callers in this process.
    pub peer: Option<SocketAddr>,
    /// The client certificate chain (DER, leaf first), verified by TLS against the configured authorities;
    /// empty when the client showed none.
    pub client_certificates: Vec<Vec<u8>>,
    /// The user of an in-process client: authentication is skipped, authorization is not.
    pub local_user: Option<User>,
    /// The user that the certificate names, found out once a connection; `None` when it names nobody.
    pub certificate_user: OnceLock<Option<User>>,
    /// When that certificate ends, in seconds since 1970.
    pub certificate_end: OnceLock<Option<i64>>,
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
