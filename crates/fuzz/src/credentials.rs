//! Targets that read what strangers show to be let in: tokens, certificates, requests for certificates.

use std::sync::{Arc, LazyLock};

use apiserver::authn::service_account::Tokens;
use apiserver::authn::{bootstrap, certificate, foreign, service_account};
use apiserver::cache::view::{GroupResource, View};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::targets::{parts, text};

/// A server in which nothing is: no token can be bound to something alive.
struct Nothing;

impl View for Nothing {
    fn get(&self, _: &GroupResource, _: Option<&str>, _: &str) -> Option<Arc<Value>> {
        None
    }

    fn list(&self, _: &GroupResource, _: Option<&str>) -> Vec<Arc<Value>> {
        Vec::new()
    }

    fn revision(&self) -> u64 {
        1
    }

    fn resource_revision(&self, _: &GroupResource) -> u64 {
        1
    }
}

static TOKENS: LazyLock<Option<Tokens>> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().ok()?;
    Tokens::new(&key.serialize_pem(), "https://podvisor.example").ok()
});

/// A token as it stands; and, of an input of two parts, one of that header and those claims.
pub(crate) fn token(bytes: &[u8]) {
    let (header, claims) = parts(bytes);
    let composed = format!(
        "{}.{}.c2lnbmF0dXJl",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let audiences = ["https://podvisor.example".to_owned()];
    for token in [text(bytes).into_owned(), composed] {
        let _ = foreign::unverified_issuer(&token);
        if let Some(tokens) = TOKENS.as_ref() {
            let verified = tokens.verify(&token, &audiences, &Nothing, Timestamp::UNIX_EPOCH);
            assert!(verified.is_err(), "a token that nobody has signed is believed");
        }
        if bootstrap::looks_like_one(&token) {
            let user = bootstrap::authenticate(&token, &Nothing, Timestamp::UNIX_EPOCH);
            assert!(user.is_err(), "a bootstrap token without its Secret is believed");
        }
        if let Some((namespace, name)) = service_account::split_user_name(&token) {
            assert_eq!(service_account::user_name(namespace, name), token);
        }
    }
}

/// A certificate in DER: of a client that has been verified already, so that whatever can be read must name somebody.
pub(crate) fn client_certificate(bytes: &[u8]) {
    if let Some(user) = certificate::user(bytes) {
        assert!(!user.name.is_empty(), "a user without a name");
    }
}

/// A request in PEM (or, as samples of two kinds, in DER), inside the object that carries it.
pub(crate) fn certificate_request(bytes: &[u8]) {
    let pem = match bytes.first() {
        Some(0x30) => {
            let body = STANDARD.encode(bytes);
            format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n").into()
        }
        _ => text(bytes),
    };
    let Some(kind) = kinds::find_kind("certificates.k8s.io", "v1", "CertificateSigningRequest") else {
        return;
    };
    for signer in [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/kube-apiserver-client-kubelet",
        "kubernetes.io/kubelet-serving",
        "example.com/own",
    ] {
        let object = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "sample"},
            "spec": {"request": STANDARD.encode(pem.as_bytes()), "signerName": signer, "usages": ["client auth"]},
        });
        let _ = machinery::validate_create(kind, &object);
    }
}
