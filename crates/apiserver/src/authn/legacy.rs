//! Tokens kept in Secrets of type `kubernetes.io/service-account-token`: without end, good for this server alone, as long as
//! the Secret exists and holds this very token. The controllers make them for Secrets that somebody creates; here
//! they are signed, verified, and the day of their last use is written down (KEP-2799).

use super::service_account::{Tokens, split_user_name, user_name};
use super::{TokenError, authenticated};
use crate::rest::meta;
use crate::server::ApiServer;
use crate::user::User;
use crate::view::{GroupResource, View};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use kinds::status::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;

/// `iss` of these tokens.
pub const ISSUER: &str = "kubernetes/serviceaccount";
/// The label that says on which day a token was last used.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label by which a token is invalid though its Secret is there.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
/// Uses that wait to be written down at most; a use that finds no room is written down the next time.
const WAITING: usize = 64;

/// What such a token says: whose it is, and where it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Namespace of service account and Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    /// Name of the Secret.
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    /// Name of the service account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    /// Uid of the service account.
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub uid: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct Signed {
    iss: String,
    #[serde(flatten)]
    claims: Claims,
    sub: String,
}

/// A Secret whose token was used on a day that it does not say yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    namespace: String,
    secret: String,
}

/// The two ends of what is told about uses.
pub(super) fn uses() -> (mpsc::Sender<Use>, mpsc::Receiver<Use>) {
    mpsc::channel(WAITING)
}

/// A token for a Secret.
///
/// # Errors
/// The key cannot sign.
pub fn issue(tokens: &Tokens, claims: Claims) -> Result<String, jsonwebtoken::errors::Error> {
    let sub = user_name(&claims.namespace, &claims.account);
    let iss = ISSUER.to_owned();
    tokens.sign(&Signed { iss, claims, sub })
}

/// The service account that bears `token`, and the use to be written down if this is the first one of the day.
pub(super) fn verify(
    tokens: &Tokens,
    token: &str,
    view: &dyn View,
    now: Timestamp,
) -> Result<(User, Option<Use>), TokenError> {
    let signed: Signed = tokens.read(token, ISSUER)?;
    let claims = signed.claims;
    let (namespace, account) = (claims.namespace.as_str(), claims.account.as_str());
    if split_user_name(&signed.sub) != Some((namespace, account)) {
        return Err(TokenError::new("sub claim is invalid"));
    }
    let secret = GroupResource::new("", "secrets");
    let secret = view.get(&secret, Some(namespace), &claims.secret);
    let Some(secret) = secret.filter(|s| s["metadata"]["deletionTimestamp"].is_null()) else {
        return Err(TokenError::new("Token has been invalidated"));
    };
    let kept = secret["data"]["token"].as_str().unwrap_or_default();
    if STANDARD.decode(kept).ok().as_deref() != Some(token.as_bytes()) {
        return Err(TokenError::new("Token does not match server's copy"));
    }
    let known = view.get(
        &GroupResource::new("", "serviceaccounts"),
        Some(namespace),
        account,
    );
    let Some(known) = known.filter(|a| a["metadata"]["deletionTimestamp"].is_null()) else {
        let why = format!("ServiceAccount {namespace}/{account} has been deleted");
        return Err(TokenError::new(why));
    };
    if meta(&known, "uid") != claims.uid {
        return Err(TokenError::new(format!(
            "ServiceAccount UID ({}) does not match claim ({})",
            meta(&known, "uid"),
            claims.uid
        )));
    }
    let label = |name: &str| secret["metadata"]["labels"][name].as_str().unwrap_or_default();
    if !label(INVALID_SINCE).is_empty() {
        return Err(TokenError::new(format!(
            "the token in secret {namespace}/{} for service account {namespace}/{account} has been marked invalid",
            claims.secret
        )));
    }
    let tomorrow = now + SignedDuration::from_hours(24);
    let told = [now, tomorrow].map(day).contains(&label(LAST_USED).to_owned());
    let user = authenticated(User {
        name: signed.sub,
        uid: claims.uid,
        groups: super::service_account::groups(namespace),
        ..User::default()
    });
    let (namespace, secret) = (claims.namespace, claims.secret);
    Ok((user, (!told).then_some(Use { namespace, secret })))
}

/// The day of a moment, in UTC.
fn day(moment: Timestamp) -> String {
    moment.to_zoned(TimeZone::UTC).date().to_string()
}

/// Since when uses are written down: what upstream's tools that look for unused tokens read.
pub(crate) fn tracking_since() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": day(Timestamp::now())},
    })
}

/// Starts writing down which tokens were used.
pub(crate) fn start(server: &Arc<ApiServer>) {
    let uses = server.access.authentication.as_ref().and_then(|a| a.take_uses());
    let Some(mut uses) = uses else { return };
    let server = server.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = server.stop.cancelled() => return,
                used = uses.recv() => match used {
                    Some(used) => write_down(&server, &used).await,
                    None => return,
                },
            }
        }
    });
}

async fn write_down(server: &Arc<ApiServer>, used: &Use) {
    let Some(served) = server.resource_of(&GroupResource::new("", "secrets")) else {
        return;
    };
    let edit = |secret: &Value| -> Result<Value, Status> {
        let mut next = secret.clone();
        next["metadata"]["labels"][LAST_USED] = day(Timestamp::now()).into();
        let now = crate::rest::now();
        machinery::apply::update_managers(
            served.typed(),
            Some(secret),
            &mut next,
            "kube-apiserver",
            "Update",
            None,
            &now,
        );
        Ok(next)
    };
    if let Err(error) = server.edit(&served, &used.namespace, &used.secret, edit).await
        && !matches!(error.code, 404 | 409)
    {
        tracing::warn!(secret = used.secret, %error, "the last use of a token could not be written down");
    }
}
