//! Client certificates: the common name is the user, every organization a group, and an attribute of Kubernetes' own the
//! uid (upstream's `x509` authenticator).

use super::authenticated;
use crate::user::User;
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::asn1_rs::{Oid, oid};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The key under which the credential is told apart in audit logs and policies (KEP-4193).
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The attribute of a subject that is the user's uid.
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// The user of a verified certificate (DER); `None` when it names nobody.
pub fn user(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    if name.is_empty() {
        return None;
    }
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok());
    let uid = subject.iter_by_oid(&UID).next().and_then(|a| a.as_str().ok());
    let fingerprint: String = Sha256::digest(der).iter().map(|b| format!("{b:02x}")).collect();
    Some(authenticated(User {
        name: name.to_string(),
        uid: uid.unwrap_or_default().to_string(),
        groups: groups.map(str::to_string).collect(),
        extra: [(
            CREDENTIAL_ID.to_string(),
            vec![format!("X509SHA256={fingerprint}")],
        )]
        .into(),
    }))
}

/// When a certificate (DER) ends, in seconds since 1970.
pub fn end(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}
