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
use std::time::Duration;

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
    let validity = parsed.validity();
    let seconds = now.as_secs() as i64;
    let at = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0) as u64));
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    match () {
        () if seconds < from => {
            let not_before = at(from);
            Err(CertificateError::NotValidYetContext {
                time: now,
                not_before,
            }
            .into())
        }
        () if seconds > to => {
            let not_after = at(to);
            Err(CertificateError::ExpiredContext { time: now, not_after }.into())
        }
        () => Ok(()),
    }
}

/// What is wrong with the certificate of `host`, as Go's `crypto/x509` says it: it is the text that tells the owner of a
/// webhook what to mend.
pub fn fault(error: &CertificateError, host: &str) -> String {
    let when = |time: &UnixTime| {
        let time = jiff::Timestamp::from_second(time.as_secs() as i64).unwrap_or_default();
        time.to_string()
    };
    let out_of_time = "certificate has expired or is not yet valid: current time";
    match error {
        // A self-signed certificate is one of an unknown authority.
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".into(),
        CertificateError::Other(_) if error.to_string().contains("CaUsedAsEndEntity") => {
            "certificate signed by unknown authority".into()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("{out_of_time} {} is after {}", when(time), when(not_after))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("{out_of_time} {} is before {}", when(time), when(not_before))
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let is_ip = host.parse::<std::net::IpAddr>().is_ok();
            let kind = if is_ip { "IpAddress(" } else { "DnsName(" };
            let names = presented.iter().filter_map(|name| {
                let name = name.strip_prefix(kind)?.strip_suffix(')')?;
                Some(name.trim_matches('"'))
            });
            let names: Vec<&str> = names.collect();
            match (names.is_empty(), is_ip) {
                (false, _) => format!("certificate is valid for {}, not {host}", names.join(", ")),
                (true, true) => {
                    format!("cannot validate certificate for {host} because it doesn't contain any IP SANs")
                }
                (true, false) if presented.is_empty() => {
                    "certificate relies on legacy Common Name field, use SANs instead".into()
                }
                (true, false) => {
                    format!("certificate is not valid for any names, but wanted to match {host}")
                }
            }
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_certificates() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let named = |presented: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("x").unwrap(),
            presented: presented.iter().map(ToString::to_string).collect(),
        };
        let expired = CertificateError::ExpiredContext {
            time: at(2_000_000_000),
            not_after: at(1_000_000_000),
        };
        let early = CertificateError::NotValidYetContext {
            time: at(1_000_000_000),
            not_before: at(2_000_000_000),
        };
        let cases = [
            (
                named(&["DnsName(\"127.0.0.1\")"]),
                "127.0.0.1",
                "cannot validate certificate for 127.0.0.1 because it doesn't contain any IP SANs",
            ),
            (
                named(&["DnsName(\"a.svc\")", "DnsName(\"b.svc\")", "IpAddress(10.0.0.1)"]),
                "c.svc",
                "certificate is valid for a.svc, b.svc, not c.svc",
            ),
            (
                named(&["IpAddress(10.0.0.1)"]),
                "10.0.0.2",
                "certificate is valid for 10.0.0.1, not 10.0.0.2",
            ),
            (
                named(&["IpAddress(10.0.0.1)"]),
                "c.svc",
                "certificate is not valid for any names, but wanted to match c.svc",
            ),
            (
                named(&[]),
                "c.svc",
                "certificate relies on legacy Common Name field, use SANs instead",
            ),
            (
                expired,
                "c.svc",
                "certificate has expired or is not yet valid: current time 2033-05-18T03:33:20Z is after 2001-09-09T01:46:40Z",
            ),
            (
                early,
                "c.svc",
                "certificate has expired or is not yet valid: current time 2001-09-09T01:46:40Z is before 2033-05-18T03:33:20Z",
            ),
            (
                CertificateError::UnknownIssuer,
                "c.svc",
                "certificate signed by unknown authority",
            ),
        ];
        for (error, host, words) in cases {
            assert_eq!(fault(&error, host), words);
        }
    }
}
