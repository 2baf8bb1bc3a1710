//! TLS with anybody, as probes and lifecycle hooks speak it: they ask whether a server lives, not who it is (kubelet:
//! `InsecureSkipVerify`).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::SigningKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http::{self, Answer};
use crate::v1::HttpGet;

/// What Go says to an answer in the clear.
pub const NO_TLS: &str = "http: server gave HTTP response to HTTPS client";

/// TLS on a stream, and one request in it. `name` is what the server is called: a name or an address.
///
/// # Errors
/// No TLS, or no HTTP in it: the words of a probe's failure.
pub async fn get<S>(stream: S, name: &str, get: &HttpGet) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server =
        ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} is no name of a server"))?;
    let mut stream = trusting()?.connect(server, stream).await.map_err(|error| {
        let text = error.to_string();
        // The first byte of an answer in the clear is no record's.
        match text.contains("corrupt message") || text.contains("InvalidContentType") {
            true => NO_TLS.to_owned(),
            false => text,
        }
    })?;
    let answer = http::get(&mut stream, name, get).await;
    answer.map_err(|error| error.to_string())
}

/// Little of what the library can do: each kind of key exchange and signature is code in the memory of every VM.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: ALL_CIPHER_SUITES.to_vec(),
        kx_groups: vec![kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        signature_verification_algorithms: WebPkiSupportedAlgorithms {
            all: &[],
            mapping: &[],
        },
        secure_random: &Kernel,
        key_provider: &Nobody,
    }
}

fn trusting() -> Result<tokio_rustls::TlsConnector, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Random numbers of the kernel.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        let mut filled = 0;
        while filled < buffer.len() {
            let flags = rustix::rand::GetRandomFlags::empty();
            filled += rustix::rand::getrandom(&mut buffer[filled..], flags).map_err(|_| GetRandomFailed)?;
        }
        Ok(())
    }
}

/// A client without a certificate has no key.
#[derive(Debug)]
struct Nobody;

impl KeyProvider for Nobody {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General(
            "who asks a probe's question has no key".to_owned(),
        ))
    }
}

/// Takes every certificate, also one that our library could not read, and every signature: who may be anybody proves
/// nothing by it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        use SignatureScheme as S;
        vec![
            S::ECDSA_NISTP256_SHA256,
            S::ECDSA_NISTP384_SHA384,
            S::ECDSA_NISTP521_SHA512,
            S::ED25519,
            S::RSA_PSS_SHA256,
            S::RSA_PSS_SHA384,
            S::RSA_PSS_SHA512,
            S::RSA_PKCS1_SHA256,
            S::RSA_PKCS1_SHA384,
            S::RSA_PKCS1_SHA512,
        ]
    }
}

#[cfg(test)]
mod tests {
    use rustls::version::{TLS12, TLS13};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    /// Answers one request on a stream, in TLS with a certificate that nobody vouches for.
    async fn serve(
        stream: DuplexStream,
        key: &rcgen::KeyPair,
        version: &'static rustls::SupportedProtocolVersion,
    ) {
        let named = rcgen::CertificateParams::new(vec!["elsewhere.test".to_owned()]).expect("parameters");
        let certificate = named.self_signed(key).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der)
            .expect("a configuration");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut stream = acceptor.accept(stream).await.expect("TLS");
        let mut buffer = [0; 1024];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        let _ = stream.shutdown().await;
    }

    #[tokio::test]
    async fn any_certificate_will_do() {
        let wanted = HttpGet {
            port: 443,
            path: "/healthz".to_owned(),
            ..HttpGet::default()
        };
        let algorithms = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ];
        for algorithm in algorithms {
            let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
            for version in [&TLS12, &TLS13] {
                let (near, far) = tokio::io::duplex(1 << 16);
                let (answer, ()) = tokio::join!(get(near, "10.244.0.9", &wanted), serve(far, &key, version));
                assert_eq!(
                    answer.map(|answer| answer.code),
                    Ok(204),
                    "{algorithm:?} {version:?}"
                );
            }
        }
        // A server that speaks no TLS.
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let plain = async move {
            let _ = far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            far
        };
        let (error, _far) = tokio::join!(get(near, "10.244.0.9", &wanted), plain);
        assert_eq!(error.expect_err("no TLS"), NO_TLS);
    }
}
