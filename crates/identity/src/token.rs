//! The token of a signed-in user: an RS256 JWT in the form of the vSphere sign-on, and the documents by which others verify it.
//!
//! Claims: `sub` and `username` "user@domain", `aud` "vmware-tes:vc:vns:k8s", `domain`, `iss`
//! "https://HOST/openidconnect/DOMAIN", `group_names`, `iat`, `exp` (ten hours later), `jti`. The API server trusts it
//! as any OpenID issuer's, with prefix `sso:` before user and groups. The key is RSA because clients and other
//! verifiers of these tokens expect RS256; it stays in the data directory and outlives restarts.

use crate::files::{self, FileError};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `aud` of sign-on tokens.
pub const AUDIENCE: &str = "vmware-tes:vc:vns:k8s";
/// Life of a token in seconds (ten hours, as vSphere's).
pub const LIFE_SECONDS: i64 = 36_000;

/// The issuer could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key could not be made.
    #[error("cannot make a signing key: {0}")]
    Generate(#[from] rcgen::Error),
    /// The key file is damaged.
    #[error("{}: {source}: restore it, or remove it to make a new key (everyone signs in again)", path.display())]
    Damaged {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        source: jsonwebtoken::errors::Error,
    },
}

/// The claims of a sign-on token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// user@domain.
    pub sub: String,
    /// Always [`AUDIENCE`].
    pub aud: String,
    /// The user's domain.
    pub domain: String,
    /// The issuer.
    pub iss: String,
    /// Groups as Group@domain.
    pub group_names: Vec<String>,
    /// user@domain again; some clients read this one.
    pub username: String,
    /// Issued at, Unix seconds.
    pub iat: i64,
    /// Expires at, Unix seconds.
    pub exp: i64,
    /// Unique id of the token.
    pub jti: String,
}

/// A token just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The compact JWT.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// Signs tokens for one domain.
pub struct TokenIssuer {
    issuer: String,
    domain: String,
    key_id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwks: Value,
}

/// `iss` of the tokens that a host signs for a domain.
pub fn issuer_url(host: &str, domain: &str) -> String {
    format!("https://{host}/openidconnect/{domain}")
}

impl TokenIssuer {
    /// Loads `sso.key` from `dir`, or makes it. `host` is the authority part of the issuer's URL, e.g. `192.0.2.1` or
    /// `127.0.0.1:6443`; it is an identifier first, and must not change while tokens are out.
    pub fn load_or_create(dir: &Path, host: &str, domain: &str) -> Result<TokenIssuer, IssuerError> {
        files::private_dir(dir)?;
        let path = dir.join("sso.key");
        let pem = match files::read_optional(&path)? {
            Some(pem) => pem,
            None => {
                let pem = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?.serialize_pem();
                files::write_private(&path, pem.as_bytes())?;
                pem
            }
        };
        TokenIssuer::from_pem(&pem, host, domain).map_err(|source| IssuerError::Damaged { path, source })
    }

    fn from_pem(pem: &str, host: &str, domain: &str) -> Result<TokenIssuer, jsonwebtoken::errors::Error> {
        let signing = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::RS256)?;
        let key_id = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk.common.key_operations = Some(vec![KeyOperations::Verify]);
        let verifying = DecodingKey::from_jwk(&jwk)?;
        Ok(TokenIssuer {
            issuer: issuer_url(host, domain),
            domain: domain.to_string(),
            key_id,
            signing,
            verifying,
            jwks: json!(JwkSet { keys: vec![jwk] }),
        })
    }

    /// `iss` of the tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The domain whose users sign in here.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The public key as a JSON Web Key Set.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The OpenID discovery document.
    pub fn discovery(&self) -> Value {
        // The key set stands beside the domain's issuer path: .../openidconnect/jwks/DOMAIN.
        let base = self.issuer.trim_end_matches(&self.domain);
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{base}jwks/{}", self.domain),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["sub", "aud", "domain", "iss", "group_names", "username", "iat", "exp", "jti"],
        })
    }

    /// A token for `user` (user@domain), member of `groups`.
    pub fn issue(
        &self,
        user: &str,
        groups: &[String],
        now: Timestamp,
    ) -> Result<Issued, jsonwebtoken::errors::Error> {
        let iat = now.as_second();
        let claims = Claims {
            sub: user.to_string(),
            aud: AUDIENCE.to_string(),
            domain: user
                .rsplit_once('@')
                .map_or(self.domain.as_str(), |(_, d)| d)
                .to_string(),
            iss: self.issuer.clone(),
            group_names: groups.to_vec(),
            username: user.to_string(),
            iat,
            exp: iat + LIFE_SECONDS,
            jti: uuid::Uuid::new_v4().to_string(),
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.key_id.clone());
        Ok(Issued {
            token: jsonwebtoken::encode(&header, &claims, &self.signing)?,
            expires: Timestamp::from_second(claims.exp).unwrap_or(now),
        })
    }

    /// The claims of a token of ours that is still valid.
    pub fn verify(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        validation.leeway = 0;
        Ok(jsonwebtoken::decode::<Claims>(token, &self.verifying, &validation)?.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    #[test]
    fn tokens_carry_the_claims_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = TokenIssuer::load_or_create(dir.path(), "192.0.2.1", "podvisor.local").unwrap();
        let now = Timestamp::now();
        let groups = vec!["Developers@podvisor.local".to_string()];
        let issued = issuer.issue("alice@podvisor.local", &groups, now).unwrap();
        let claims = issuer.verify(&issued.token).unwrap();
        assert_eq!(claims.sub, "alice@podvisor.local");
        assert_eq!(claims.username, claims.sub);
        assert_eq!(claims.domain, "podvisor.local");
        assert_eq!(claims.iss, "https://192.0.2.1/openidconnect/podvisor.local");
        assert_eq!(claims.group_names, groups);
        assert_eq!(claims.exp - claims.iat, 36_000);

        let old = issuer
            .issue("alice@podvisor.local", &[], now - 11.hours())
            .unwrap();
        assert!(issuer.verify(&old.token).is_err(), "expired");

        // The key survives a restart; another host name makes another issuer.
        let again = TokenIssuer::load_or_create(dir.path(), "192.0.2.1", "podvisor.local").unwrap();
        assert!(again.verify(&issued.token).is_ok());
        let other = TokenIssuer::load_or_create(dir.path(), "192.0.2.2", "podvisor.local").unwrap();
        assert!(other.verify(&issued.token).is_err());
        assert_eq!(
            issuer.discovery()["jwks_uri"],
            "https://192.0.2.1/openidconnect/jwks/podvisor.local"
        );
        let key = &issuer.jwks()["keys"][0];
        assert_eq!((&key["kty"], &key["alg"]), (&json!("RSA"), &json!("RS256")));
        assert!(key.get("d").is_none(), "no private part");
    }
}
