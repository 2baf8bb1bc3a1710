//! The HTTP endpoints of sign-on, as one router that the API server serves beside its own paths.
//!
//! | path | what |
//! |---|---|
//! | `GET /wcp/loginbanner` | text shown before sign-in; its presence says "this is a Supervisor" |
//! | `POST /wcp/login` | Basic credentials to a session token |
//! | `GET /wcp/workloads` | the namespaces of the user |
//! | `GET /wcp/plugin/OS-ARCH/vsphere-plugin.zip` | this program as kubectl plugins |
//! | `GET /openidconnect/jwks/DOMAIN`, `…/DOMAIN/.well-known/openid-configuration` | how others verify tokens |
//! | `POST`, `GET`, `DELETE /podvisor/session` | the console's sign-in |
//! | `GET /podvisor/ca.pem` | the authority's certificate |
//! | `GET /` | landing page |

mod landing;
mod openid;
mod plugin;
mod session;
mod wcp;

use crate::directory::{Directory, DirectoryError, normalize};
use crate::passwords::{PasswordError, Passwords};
use crate::throttle::Throttle;
use crate::token::{Issued, TokenIssuer};
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// What the endpoints need.
pub struct Deps {
    /// Who the users are.
    pub directory: Arc<dyn Directory>,
    /// Who signs the tokens.
    pub issuer: Arc<TokenIssuer>,
    /// Checks passwords.
    pub passwords: Passwords,
    /// Host name or address written into kubeconfigs; `None` for whatever name the client used.
    pub advertised: Option<String>,
    /// Port of the Kubernetes API, written into kubeconfigs.
    pub api_port: u16,
    /// Text of `/wcp/loginbanner`; may be empty.
    pub banner: String,
    /// The authority's certificate, handed to whoever asks.
    pub ca_pem: String,
    /// The program offered as kubectl plugin, usually `std::env::current_exe()`; `None` offers nothing.
    pub program: Option<PathBuf>,
}

/// [`Deps`] with what is remembered between requests.
struct Sso {
    deps: Deps,
    throttle: Throttle,
    program_summary: OnceCell<plugin::Summary>,
}

/// The router of all endpoints above.
pub fn routes(deps: Deps) -> Router {
    routes_of(Arc::new(Sso::new(deps)))
}

fn routes_of(state: Arc<Sso>) -> Router {
    Router::new()
        .route("/", get(landing::page))
        .route("/wcp/loginbanner", get(wcp::banner))
        .route("/wcp/login", post(wcp::login))
        .route("/wcp/workloads", get(wcp::workloads))
        .route("/wcp/plugin/{platform}/vsphere-plugin.zip", get(plugin::download))
        .route("/openidconnect/jwks/{domain}", get(openid::jwks))
        .route(
            "/openidconnect/{domain}/.well-known/openid-configuration",
            get(openid::discovery),
        )
        .route(
            "/podvisor/session",
            post(session::create).get(session::show).delete(session::end),
        )
        .route("/podvisor/ca.pem", get(landing::ca))
        .with_state(state)
}

/// A user whose credentials were right.
struct SignedIn {
    user: String,
    groups: Vec<String>,
}

/// Why a sign-in was refused.
#[derive(Debug, thiserror::Error)]
enum SignInError {
    #[error("Invalid credentials")]
    Credentials,
    #[error("Too many failed sign-ins for this user; wait {} s", .0.as_secs().max(1))]
    Wait(Duration),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("cannot sign the token")]
    Token(#[from] jsonwebtoken::errors::Error),
}

impl IntoResponse for SignInError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        let status = match &self {
            SignInError::Credentials => {
                // Named so that clients know what to send; browsers sign in at /podvisor/session instead.
                let basic = HeaderValue::from_static("Basic realm=\"Supervisor\"");
                headers.insert(header::WWW_AUTHENTICATE, basic);
                StatusCode::UNAUTHORIZED
            }
            SignInError::Wait(wait) => {
                headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
                StatusCode::TOO_MANY_REQUESTS
            }
            SignInError::Password(_) => {
                headers.insert(header::RETRY_AFTER, 1.into());
                StatusCode::TOO_MANY_REQUESTS
            }
            SignInError::Directory(_) | SignInError::Token(_) => {
                tracing::error!(error = %self, "sign-in failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        let message = match &self {
            // The reason is in the log; a stranger does not need it.
            SignInError::Directory(_) => "The user directory is unavailable".to_string(),
            other => other.to_string(),
        };
        (status, headers, axum::Json(json!({ "error": message }))).into_response()
    }
}

impl Sso {
    fn new(deps: Deps) -> Sso {
        Sso {
            deps,
            throttle: Throttle::default(),
            program_summary: OnceCell::new(),
        }
    }

    /// Checks a name and password.
    async fn sign_in(&self, name: &str, password: &str) -> Result<SignedIn, SignInError> {
        let Ok(user) = normalize(name) else {
            // Same work as for a user that exists.
            self.deps.passwords.verify(password, None).await?;
            return Err(SignInError::Credentials);
        };
        let wait = self.throttle.wait(&user, Instant::now());
        if !wait.is_zero() {
            return Err(SignInError::Wait(wait));
        }
        let stored = self.deps.directory.password_hash(&user).await?;
        if !self.deps.passwords.verify(password, stored.as_deref()).await? {
            self.throttle.failed(&user, Instant::now());
            return Err(SignInError::Credentials);
        }
        self.throttle.succeeded(&user);
        let groups = self.deps.directory.groups(&user).await?;
        Ok(SignedIn { user, groups })
    }

    /// Who a request's `Authorization` header says it is: Basic credentials, or a token of ours.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<SignedIn, SignInError> {
        let value = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
        let Some((scheme, rest)) = value.and_then(|v| v.split_once(' ')) else {
            return Err(SignInError::Credentials);
        };
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = STANDARD.decode(rest.trim()).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let Some((name, password)) = text.as_deref().and_then(|t| t.split_once(':')) else {
                return Err(SignInError::Credentials);
            };
            return self.sign_in(name, password).await;
        }
        if scheme.eq_ignore_ascii_case("bearer") {
            let claims = self
                .deps
                .issuer
                .verify(rest.trim())
                .map_err(|_| SignInError::Credentials)?;
            return Ok(SignedIn {
                user: claims.sub,
                groups: claims.group_names,
            });
        }
        Err(SignInError::Credentials)
    }

    fn issue(&self, who: &SignedIn) -> Result<Issued, SignInError> {
        Ok(self.deps.issuer.issue(&who.user, &who.groups, Timestamp::now())?)
    }

    /// The host that clients should use: as configured, or as this client named it.
    fn host(&self, headers: &HeaderMap, uri: &axum::http::Uri) -> String {
        if let Some(host) = &self.deps.advertised {
            return host.clone();
        }
        let named = headers.get(header::HOST).and_then(|v| v.to_str().ok());
        // HTTP/2 has the authority in the URI instead of the Host header.
        let named = named
            .or_else(|| uri.authority().map(|a| a.as_str()))
            .unwrap_or("localhost");
        match named.parse::<axum::http::uri::Authority>() {
            Ok(authority) => authority.host().to_string(),
            Err(_) => "localhost".into(),
        }
    }
}

#[cfg(test)]
mod tests;
