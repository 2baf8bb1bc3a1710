//! Authentication: who sent this request?
//!
//! Tried in order: the user of an in-process client, the client certificate, the bearer token (`Authorization` header, or the
//! `base64url.bearer.authorization.k8s.io.` WebSocket protocol for browsers). A request with no credentials is
//! anonymous; a request with a bad token or certificate is refused, even if anonymous would have been enough.
//!
//! - [`chain`]: whether a client certificate is believed.
//! - [`certificate`]: user and groups of a client certificate.
//! - [`service_account`]: tokens of service accounts, issued and verified here, bound to Pods, Secrets and Nodes.
//! - [`legacy`]: their tokens without end, kept in Secrets.
//! - [`foreign`]: tokens of further issuers, such as the sign-on.
//! - [`bootstrap`]: bootstrap tokens kept as Secrets.
//! - [`impersonate`]: acting as someone else.
//! - [`review`]: TokenReview, SelfSubjectReview, TokenRequest.

pub mod bootstrap;
pub mod certificate;
pub mod chain;
pub mod foreign;
pub mod impersonate;
pub mod legacy;
pub mod review;
pub mod service_account;

use crate::admit::Notes;
use crate::config::Config;
use crate::connection::{Authenticator, Connection};
use crate::user::{GROUP_AUTHENTICATED, User};
use crate::view::View;
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use kinds::status::Status;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The WebSocket protocol by which a browser, which cannot set headers, hands over its token.
pub const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A token was not believed; the text is for TokenReview and the log, never for the bearer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TokenError(pub String);

impl TokenError {
    pub(crate) fn new(text: impl Into<String>) -> TokenError {
        TokenError(text.into())
    }
}

/// The settings are unusable.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The key that signs service-account tokens.
    #[error("the service-account key is unusable: {0}: expected an EC P-256 or RSA key in PKCS#8 PEM")]
    ServiceAccountKey(jsonwebtoken::errors::Error),
    /// The keys of a further issuer.
    #[error("the keys of token issuer {issuer} are unusable: {reason}")]
    Issuer {
        /// Its `iss`.
        issuer: String,
        /// What is wrong.
        reason: String,
    },
}

/// A believed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenUser {
    /// Who bears it.
    pub user: User,
    /// The audiences asked for that the token has.
    pub audiences: Vec<String>,
    /// Seconds since it should have been renewed.
    pub late: Option<i64>,
}

/// All authenticators of one API server.
pub struct Authentication {
    view: Arc<dyn View>,
    service_accounts: Arc<service_account::Tokens>,
    issuers: Vec<foreign::Issuer>,
    used: mpsc::Sender<legacy::Use>,
    uses: Mutex<Option<mpsc::Receiver<legacy::Use>>>,
}

impl Authentication {
    /// Built from the settings of the server.
    pub fn new(config: &Config, view: Arc<dyn View>) -> Result<Authentication, SetupError> {
        let (used, uses) = legacy::uses();
        Ok(Authentication {
            used,
            uses: Mutex::new(Some(uses)),
            view,
            service_accounts: Arc::new(service_account::Tokens::new(
                &config.service_account_key_pem,
                &config.issuer,
            )?),
            issuers: config
                .jwt_issuers
                .iter()
                .map(foreign::Issuer::new)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The issuer and verifier of service-account tokens.
    pub fn service_accounts(&self) -> &service_account::Tokens {
        &self.service_accounts
    }

    /// The uses of tokens in Secrets that are to be written down, for whoever asks first.
    pub(crate) fn take_uses(&self) -> Option<mpsc::Receiver<legacy::Use>> {
        self.uses.lock().take()
    }

    /// The user of a bearer token that is good for one of `audiences` (empty: for this API server).
    pub fn token(&self, token: &str, audiences: &[String]) -> Result<TokenUser, TokenError> {
        let own = [self.service_accounts.issuer().to_string()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let now = Timestamp::now();
        if bootstrap::looks_like_one(token) {
            let user = bootstrap::authenticate(token, self.view.as_ref(), now)?;
            return Ok(TokenUser {
                user,
                audiences: for_server(wanted, &own[0])?,
                late: None,
            });
        }
        let issuer = foreign::unverified_issuer(token)?;
        if issuer == self.service_accounts.issuer() {
            return self
                .service_accounts
                .verify(token, wanted, self.view.as_ref(), now);
        }
        if issuer == legacy::ISSUER {
            let audiences = for_server(wanted, &own[0])?;
            let (user, used) = legacy::verify(&self.service_accounts, token, self.view.as_ref(), now)?;
            if let Some(used) = used {
                // No room: the next use is written down.
                self.used.try_send(used).ok();
            }
            let late = None;
            return Ok(TokenUser {
                user,
                audiences,
                late,
            });
        }
        // Several entries may share an issuer, with different audiences or keys.
        let mut last = TokenError::new(format!("unknown issuer {issuer:?}"));
        for candidate in self.issuers.iter().filter(|i| i.name() == issuer) {
            match candidate.verify(token) {
                Ok(user) => {
                    return Ok(TokenUser {
                        user,
                        audiences: for_server(wanted, &own[0])?,
                        late: None,
                    });
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }
}

/// Tokens without audiences of ours are good for this server and nothing else.
fn for_server(wanted: &[String], own: &str) -> Result<Vec<String>, TokenError> {
    match wanted.iter().any(|a| a == own) {
        true => Ok(vec![own.to_string()]),
        false => Err(TokenError::new(format!(
            "token audiences [{own:?}] is invalid for the target audiences {wanted:?}"
        ))),
    }
}

#[async_trait]
impl Authenticator for Authentication {
    async fn authenticate(
        &self,
        head: &http::request::Parts,
        connection: &Connection,
        notes: &Notes,
    ) -> Result<User, Status> {
        if let Some(user) = &connection.local_user {
            return Ok(user.clone());
        }
        let ended = connection.certificate_ended(Timestamp::now());
        if let Some(leaf) = connection.client_certificates.first()
            && !ended
        {
            // The chain has been verified; a certificate without a name is no credential.
            let known = connection
                .certificate_user
                .get_or_init(|| certificate::user(leaf));
            if let Some(user) = known {
                return Ok(user.clone());
            }
        }
        let Some(token) = bearer(head, notes) else {
            return match connection.certificate_refused || ended {
                true => Err(Status::unauthorized()),
                false => Ok(User::anonymous()),
            };
        };
        let found = self.token(&token, &[]).map_err(|error| {
            tracing::debug!(%error, "a bearer token was refused");
            Status::unauthorized()
        })?;
        if let Some(late) = found.late {
            let words = format!(
                "subject: {}, seconds after warning threshold: {late}",
                found.user.name
            );
            notes.annotate("authentication.k8s.io/stale-token", words);
        }
        Ok(found.user)
    }
}

/// The bearer token of a request.
fn bearer(head: &http::request::Parts, notes: &Notes) -> Option<String> {
    if let Some(value) = head.headers.get(AUTHORIZATION) {
        let mut parts = value.to_str().ok()?.trim().splitn(3, ' ');
        let scheme = parts.next()?;
        // Basic and the like are no credentials here; such a request is anonymous.
        let token = parts.next().filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        if token.is_empty() && parts.next().is_some() {
            let why = "the provided Authorization header contains extra space before the bearer token, and is ignored";
            notes.warn(why);
        }
        return Some(token.to_owned()).filter(|token| !token.is_empty());
    }
    let offered = head.headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let encoded = offered
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .find_map(|p| p.trim().strip_prefix(BEARER_PROTOCOL))?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok().filter(|t| !t.is_empty())
}

/// Takes the token out of the offered WebSocket protocols once it has been read: it is no business of whoever ends the
/// stream, nor a protocol one could agree on.
pub fn hide_bearer_protocol(headers: &mut http::HeaderMap) {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let all: Vec<String> = offered
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|p| p.trim().to_string())
        .collect();
    if !all.iter().any(|p| p.starts_with(BEARER_PROTOCOL)) {
        return;
    }
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    let rest: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|p| !p.starts_with(BEARER_PROTOCOL))
        .collect();
    if let Ok(value) = rest.join(", ").parse()
        && !rest.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// Adds `system:authenticated`, which every authenticated user is a member of.
pub(crate) fn authenticated(mut user: User) -> User {
    if !user.is_in(GROUP_AUTHENTICATED) {
        user.groups.push(GROUP_AUTHENTICATED.to_string());
    }
    user
}

#[cfg(test)]
mod tests;
