//! Whether a client's certificate is one of ours: TLS has only seen that the client holds its key.

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;

/// The authorities whose client certificates are believed.
#[derive(Debug, Clone)]
pub struct Authorities(Option<Arc<dyn ClientCertVerifier>>);

impl Authorities {
    /// From certificates of authorities (DER). Without any, no certificate is believed.
    pub fn new(certificates: &[Vec<u8>]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            certificates
                .iter()
                .map(|der| CertificateDer::from(der.as_slice())),
        );
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        Self(built.ok())
    }

    /// Refuses a chain (leaf first) that no authority stands behind at this time, or that is not for clients.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let (Some(verifier), Some((leaf, between))) = (&self.0, chain.split_first()) else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        verifier.verify_client_cert(leaf, between, now).map(|_| ())
    }
}
