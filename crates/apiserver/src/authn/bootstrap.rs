//! Bootstrap tokens: `ID.SECRET`, kept as Secrets `bootstrap-token-ID` in `kube-system`, for hosts that join.

use super::{TokenError, authenticated};
use crate::user::User;
use crate::view::{GroupResource, View};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// The group of all bearers of bootstrap tokens.
pub const GROUP: &str = "system:bootstrappers";

/// Whether a token has the form of a bootstrap token.
pub fn looks_like_one(token: &str) -> bool {
    let good = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    matches!(token.split_once('.'), Some((id, secret))
        if id.len() == 6 && secret.len() == 16 && good(id) && good(secret))
}

/// The user of a bootstrap token.
pub fn authenticate(token: &str, view: &dyn View, now: Timestamp) -> Result<User, TokenError> {
    let refused = || TokenError::new("invalid bootstrap token");
    let (id, secret) = token.split_once('.').ok_or_else(refused)?;
    let name = format!("bootstrap-token-{id}");
    let object = view
        .get(&GroupResource::new("", "secrets"), Some("kube-system"), &name)
        .filter(|s| s["type"] == "bootstrap.kubernetes.io/token")
        .filter(|s| s["metadata"].get("deletionTimestamp").is_none())
        .ok_or_else(refused)?;
    let field = |key: &str| -> Option<String> {
        String::from_utf8(STANDARD.decode(object["data"][key].as_str()?).ok()?).ok()
    };
    // Digests, so the comparison's time says nothing of the secret.
    let stored = field("token-secret").ok_or_else(refused)?;
    if Sha256::digest(stored.as_bytes()) != Sha256::digest(secret.as_bytes())
        || field("token-id").as_deref() != Some(id)
        || field("usage-bootstrap-authentication").as_deref() != Some("true")
    {
        return Err(refused());
    }
    if let Some(expiration) = field("expiration") {
        match expiration.parse::<Timestamp>() {
            Ok(at) if now < at => {}
            _ => return Err(TokenError::new("the bootstrap token has expired")),
        }
    }
    let mut groups = vec![GROUP.to_string()];
    let extra = field("auth-extra-groups").unwrap_or_default();
    groups.extend(
        extra
            .split(',')
            .map(str::trim)
            .filter(|g| g.starts_with("system:bootstrappers:"))
            .map(str::to_string),
    );
    Ok(authenticated(User {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..User::default()
    }))
}
