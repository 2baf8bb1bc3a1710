//! TLS towards webhooks and aggregated servers.
//!
//! Checking is webpki's, with one thing added that Go's does and many webhooks rely on: a self-signed certificate
//! that is itself in the bundle is believed, even if it calls itself an authority.

use crate::aggregation::ProxyClient;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::Arc;

/// A certificate chain and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads certificate and key.
pub fn identity(client: &ProxyClient) -> Result<Identity, String> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(client.certificate_pem.as_bytes()).collect();
    let chain = chain.map_err(|e| format!("the client certificate cannot be read: {e}"))?;
    let key = PrivateKeyDer::from_pem_slice(client.key_pem.as_bytes())
        .map_err(|e| format!("the key of the client certificate cannot be read: {e}"))?;
    Ok((chain, key))
}

/// Client settings: authorities in PEM (none: the system's), and a client certificate if there is one.
pub fn client(ca: &[u8], insecure: bool, identity: Option<Identity>) -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    let mut given = Vec::new();
    if insecure {
        // Nothing is looked up that nobody asks.
    } else if ca.is_empty() {
        for certificate in rustls_native_certs::load_native_certs().certs {
            let _ = roots.add(certificate);
        }
    } else {
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.map_err(|e| format!("unable to load root certificates: {e}"))?;
            // A certificate that is no authority is still believed when it is presented itself.
            let _ = roots.add(certificate.clone());
            given.push(certificate);
        }
        if given.is_empty() {
            return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
        }
    }
    let chain = match roots.is_empty() {
        true => None,
        false => {
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            Some(built.map_err(|e| e.to_string())?)
        }
    };
    let verifier = Arc::new(Verifier {
        chain,
        given,
        insecure,
        provider: provider.clone(),
    });
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| e.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    given: Vec<CertificateDer<'static>>,
    insecure: bool,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.insecure {
            return Ok(ServerCertVerified::assertion());
        }
        if self.given.iter().any(|g| g == end_entity) {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            check_time(end_entity, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        match &self.chain {
            Some(chain) => chain.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| Error::from(CertificateError::BadEncoding))?;
    let now = now.as_secs() as i64;
    let validity = parsed.validity();
    match () {
        () if now < validity.not_before.timestamp() => Err(CertificateError::NotValidYet.into()),
        () if now > validity.not_after.timestamp() => Err(CertificateError::Expired.into()),
        () => Ok(()),
    }
}
