//! Tokens of other issuers: any OpenID provider whose keys are configured, first of all the Supervisor's own sign-on.
//!
//! A claim gives the user name, another the groups; a prefix keeps them apart from the system's own names.

use super::{SetupError, TokenError, authenticated};
use crate::authn::certificate::CREDENTIAL_ID;
use crate::config::{JwtIssuer, JwtKeys};
use crate::user::User;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde_json::Value;
use std::sync::OnceLock;

/// The longest token looked at, in bytes.
const MAX_TOKEN: usize = 64 * 1024;
/// Clocks of issuer and server may differ by this many seconds.
const LEEWAY: u64 = 10;

struct Key {
    id: Option<String>,
    key: DecodingKey,
}

/// One configured issuer.
pub struct Issuer {
    settings: JwtIssuer,
    keys: OnceLock<Vec<Key>>,
}

/// The keys of a JSON Web Key Set.
fn key_set(text: &str) -> Result<Vec<Key>, String> {
    let set: JwkSet = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let read = |jwk: &jsonwebtoken::jwk::Jwk| {
        Ok(Key {
            id: jwk.common.key_id.clone(),
            key: DecodingKey::from_jwk(jwk).map_err(|e| e.to_string())?,
        })
    };
    set.keys.iter().map(read).collect()
}

impl Issuer {
    /// Reads the keys of the settings.
    pub fn new(settings: &JwtIssuer) -> Result<Issuer, SetupError> {
        let bad = |reason: String| SetupError::Issuer {
            issuer: settings.issuer.clone(),
            reason,
        };
        let keys = OnceLock::new();
        let read = match &settings.keys {
            JwtKeys::Jwks(text) => Some(key_set(text).map_err(bad)?),
            JwtKeys::Pem(list) => {
                let read = |pem: &String| {
                    let key = DecodingKey::from_rsa_pem(pem.as_bytes())
                        .or_else(|_| DecodingKey::from_ec_pem(pem.as_bytes()))
                        .map_err(|e| bad(e.to_string()))?;
                    Ok(Key { id: None, key })
                };
                Some(list.iter().map(read).collect::<Result<Vec<_>, _>>()?)
            }
            JwtKeys::Late(_) => None,
        };
        if let Some(read) = read {
            if read.is_empty() {
                return Err(bad("there are none".into()));
            }
            // It is new.
            let _ = keys.set(read);
        }
        Ok(Issuer {
            settings: settings.clone(),
            keys,
        })
    }

    /// The keys that are known by now.
    fn keys(&self) -> &[Key] {
        if let JwtKeys::Late(late) = &self.settings.keys
            && self.keys.get().is_none()
            && let Some(text) = late.get()
        {
            match key_set(text) {
                Ok(read) => drop(self.keys.set(read)),
                Err(error) => tracing::error!(issuer = self.settings.issuer, error, "its keys are unusable"),
            }
        }
        self.keys.get().map_or(&[], Vec::as_slice)
    }

    /// The `iss` it answers for.
    pub fn name(&self) -> &str {
        &self.settings.issuer
    }

    /// The user of a token of this issuer.
    pub fn verify(&self, token: &str) -> Result<User, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|e| TokenError::new(e.to_string()))?;
        // Only public-key signatures: a shared-secret algorithm here would take the public key for the secret.
        if !matches!(
            header.alg,
            Algorithm::RS256
                | Algorithm::RS384
                | Algorithm::RS512
                | Algorithm::PS256
                | Algorithm::PS384
                | Algorithm::PS512
                | Algorithm::ES256
                | Algorithm::ES384
                | Algorithm::EdDSA
        ) {
            return Err(TokenError::new("signature algorithm not accepted"));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.set_audience(&self.settings.audiences);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.validate_nbf = true;
        let mut last = TokenError::new("no key matches");
        for key in self.keys() {
            let other_id = matches!((&key.id, &header.kid), (Some(a), Some(b)) if a != b);
            if other_id || key.key.family() != family(header.alg) {
                continue;
            }
            match jsonwebtoken::decode::<Value>(token, &key.key, &validation) {
                Ok(data) => return self.user(&data.claims),
                Err(e) => last = TokenError::new(e.to_string()),
            }
        }
        Err(last)
    }

    fn user(&self, claims: &Value) -> Result<User, TokenError> {
        let settings = &self.settings;
        let name = claims[&settings.username_claim].as_str().unwrap_or_default();
        if name.is_empty() {
            return Err(TokenError::new(format!("no claim {:?}", settings.username_claim)));
        }
        let groups = match &claims[&settings.groups_claim] {
            Value::String(one) => vec![one.as_str()],
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let name = format!("{}{name}", settings.username_prefix);
        if name.starts_with("system:") {
            return Err(TokenError::new(
                "an issuer's user must not be one of the system's",
            ));
        }
        let mut user = User {
            name,
            groups: groups
                .into_iter()
                .map(|g| format!("{}{g}", settings.groups_prefix))
                .filter(|g| !g.starts_with("system:"))
                .collect(),
            ..User::default()
        };
        if let Some(id) = claims["jti"].as_str() {
            user.extra.insert(CREDENTIAL_ID.into(), vec![format!("JTI={id}")]);
        }
        Ok(authenticated(user))
    }
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => AlgorithmFamily::Ec,
        Algorithm::EdDSA => AlgorithmFamily::Ed,
        _ => AlgorithmFamily::Rsa,
    }
}

/// The `iss` of a token, before anything is verified: chooses the verifier.
pub fn unverified_issuer(token: &str) -> Result<String, TokenError> {
    let malformed = || TokenError::new("invalid bearer token");
    if token.len() > MAX_TOKEN {
        return Err(malformed());
    }
    let payload = token.split('.').nth(1).ok_or_else(malformed)?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
    let claims: Value = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
    claims["iss"].as_str().map(str::to_string).ok_or_else(malformed)
}
