//! Tokens of service accounts: issued on request, bound to the life of a Pod, Secret or Node, verified against the
//! objects they name (KEP-1205, KEP-2799, KEP-4193).
//!
//! A token is good as long as its signature, time and audience are, and its service account and bound object exist
//! with the uid they had: deleting a Pod kills its tokens.

use super::{SetupError, TokenError, TokenUser, authenticated};
use crate::authn::certificate::CREDENTIAL_ID;
use crate::user::User;
use crate::view::{GroupResource, View};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Prefix of the user names of service accounts.
pub const USER_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts; `:NAMESPACE` is appended for those of one namespace.
pub const GROUP: &str = "system:serviceaccounts";
/// A bound object under graceful deletion keeps its tokens alive for this long.
const DELETION_LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// An object by name and uid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its name.
    pub name: String,
    /// Its uid; empty only of a node that was not there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Namespace of the service account and of Pod and Secret.
    pub namespace: String,
    /// The node of the Pod, or the node the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    /// The Pod the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    /// The Secret the token is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    /// The service account.
    pub serviceaccount: Reference,
    /// When the token should have been renewed, though it is good for longer; seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    jti: String,
    #[serde(rename = "kubernetes.io")]
    binding: Binding,
    nbf: i64,
    sub: String,
}

/// Issues and verifies the tokens of one API server.
pub struct Tokens {
    issuer: String,
    algorithm: Algorithm,
    key_id: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    jwks: Value,
}

impl Tokens {
    /// Signs with the given private key (PKCS#8 PEM, EC P-256 or RSA) as `issuer`.
    pub fn new(key_pem: &str, issuer: &str) -> Result<Tokens, SetupError> {
        let bad = SetupError::ServiceAccountKey;
        let (algorithm, signing) = match EncodingKey::from_ec_pem(key_pem.as_bytes()) {
            Ok(key) => (Algorithm::ES256, key),
            Err(_) => (
                Algorithm::RS256,
                EncodingKey::from_rsa_pem(key_pem.as_bytes()).map_err(bad)?,
            ),
        };
        let mut jwk = Jwk::from_encoding_key(&signing, algorithm).map_err(bad)?;
        let key_id = jwk.thumbprint(ThumbprintHash::SHA256).map_err(bad)?;
        jwk.common.key_id = Some(key_id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Tokens {
            issuer: issuer.to_string(),
            algorithm,
            key_id,
            signing,
            verifying: DecodingKey::from_jwk(&jwk).map_err(bad)?,
            jwks: json!(JwkSet { keys: vec![jwk] }),
        })
    }

    /// `iss` of the tokens, and the audience that means this API server.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key set served at `/openid/v1/jwks`.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// The document served at `/.well-known/openid-configuration`; `base` is where this server is reached, e.g. `https://192.0.2.1:6443`.
    pub fn discovery(&self, base: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{base}/openid/v1/jwks"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [format!("{:?}", self.algorithm)],
        })
    }

    /// A token for the service account in `binding`, good for `audiences` during `life`.
    pub fn issue(
        &self,
        binding: Binding,
        audiences: &[String],
        life: SignedDuration,
        now: Timestamp,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = now.as_second();
        let claims = Claims {
            aud: audiences.to_vec(),
            exp: iat + life.as_secs(),
            iat,
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: iat,
            sub: user_name(&binding.namespace, &binding.serviceaccount.name),
            binding,
        };
        self.sign(&claims)
    }

    /// A token that says `claims`.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(self.algorithm);
        header.typ = None;
        header.kid = Some(self.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.signing)
    }

    /// What a token of ours says, when it is of `issuer`; audiences and times are not looked at.
    pub(super) fn read<C: DeserializeOwned + Clone>(
        &self,
        token: &str,
        issuer: &str,
    ) -> Result<C, TokenError> {
        let mut validation = Validation::new(self.algorithm);
        validation.set_issuer(&[issuer]);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.required_spec_claims.clear();
        jsonwebtoken::decode::<C>(token, &self.verifying, &validation)
            .map(|read| read.claims)
            .map_err(|e| TokenError::new(e.to_string()))
    }

    /// The service account that bears `token`, when it is good for one of `audiences`.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        view: &dyn View,
        now: Timestamp,
    ) -> Result<TokenUser, TokenError> {
        // Audience and times are checked below: against the caller's clock, and to tell which audiences match.
        let claims: Claims = self.read(token, &self.issuer)?;
        if now.as_second() >= claims.exp {
            return Err(TokenError::new("service account token has expired"));
        }
        if now.as_second() < claims.nbf {
            return Err(TokenError::new("service account token is not valid yet"));
        }
        let matching: Vec<String> = audiences
            .iter()
            .filter(|a| claims.aud.contains(a))
            .cloned()
            .collect();
        if matching.is_empty() {
            return Err(TokenError::new(format!(
                "token audiences {:?} is invalid for the target audiences {audiences:?}",
                claims.aud
            )));
        }
        let bound = &claims.binding;
        let expected = user_name(&bound.namespace, &bound.serviceaccount.name);
        if claims.sub != expected {
            return Err(TokenError::new("sub does not name the service account"));
        }
        let namespace = Some(bound.namespace.as_str());
        alive(view, "serviceaccounts", namespace, &bound.serviceaccount, now)?;
        if let Some(secret) = &bound.secret {
            alive(view, "secrets", namespace, secret, now)?;
        }
        if let Some(pod) = &bound.pod {
            alive(view, "pods", namespace, pod, now)?;
        } else if let Some(node) = &bound.node {
            // Only a token bound to the node itself dies with it; a Pod's token follows the Pod.
            alive(view, "nodes", None, node, now)?;
        }
        let late = bound.warnafter.map(|renewal| now.as_second() - renewal);
        Ok(TokenUser {
            user: user(bound, Some(&claims.jti)),
            audiences: matching,
            late: late.filter(|late| *late > 0),
        })
    }
}

/// The user name of a service account.
pub fn user_name(namespace: &str, name: &str) -> String {
    format!("{USER_PREFIX}{namespace}:{name}")
}

/// Namespace and name of the service account that a user name means.
pub fn split_user_name(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of the service accounts of a namespace, without `system:authenticated`.
pub fn groups(namespace: &str) -> Vec<String> {
    vec![GROUP.to_string(), format!("{GROUP}:{namespace}")]
}

fn user(bound: &Binding, id: Option<&str>) -> User {
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        extra.insert(key.to_string(), vec![value.to_string()]);
    };
    if let Some(id) = id {
        put(CREDENTIAL_ID, &format!("JTI={id}"));
    }
    if let Some(pod) = &bound.pod {
        put("authentication.kubernetes.io/pod-name", &pod.name);
        put("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        put("authentication.kubernetes.io/node-name", &node.name);
        if !node.uid.is_empty() {
            put("authentication.kubernetes.io/node-uid", &node.uid);
        }
    }
    authenticated(User {
        name: user_name(&bound.namespace, &bound.serviceaccount.name),
        uid: bound.serviceaccount.uid.clone(),
        groups: groups(&bound.namespace),
        extra,
    })
}

/// Whether an object exists with the uid a token remembers, and is not long gone.
fn alive(
    view: &dyn View,
    resource: &str,
    namespace: Option<&str>,
    reference: &Reference,
    now: Timestamp,
) -> Result<(), TokenError> {
    let refused = |why: &str| {
        Err(TokenError::new(format!(
            "{resource} {:?} of the token {why}",
            reference.name
        )))
    };
    let Some(object) = view.get(&GroupResource::new("", resource), namespace, &reference.name) else {
        return refused("does not exist");
    };
    if object["metadata"]["uid"].as_str() != Some(&reference.uid) {
        return refused("has another uid");
    }
    let deleted = object["metadata"]["deletionTimestamp"].as_str();
    match deleted.and_then(|t| t.parse::<Timestamp>().ok()) {
        Some(at) if now > at + DELETION_LEEWAY => refused("is deleted"),
        _ => Ok(()),
    }
}
