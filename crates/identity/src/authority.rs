//! The certificate authority of a Supervisor: one self-signed root in the data directory, and the certificates it issues.
//!
//! Every leaf is an ECDSA P-256 key of its own. Leaves are kept next to the root and reissued by
//! [`Authority::load_or_issue`] once two thirds of their life are over, their names changed, or the root was replaced,
//! so a restart renews what would expire and nothing has to be rotated by hand.

use crate::asking::Asking;
use crate::files::{self, FileError};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Life of the root in days (ten years).
const ROOT_DAYS: i64 = 3652;
/// Life of issued certificates in days (one year).
const LEAF_DAYS: i64 = 365;
/// How far before its signature a requested certificate begins.
const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// A requested life below this has its end unchanged by that.
const SHORT_LIFE: Duration = Duration::from_secs(8 * 3600);

/// The authority could not be loaded or created.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the authority cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// One of certificate and key is there, the other is not.
    #[error("{} is missing while its counterpart exists: restore it, or remove both to make a new authority", .0.display())]
    Half(PathBuf),
    /// The certificate or key is damaged.
    #[error("{}: {reason}: restore it, or remove it to have a new one made (remove ca.crt and ca.key together)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
    /// The new authority could not be made.
    #[error("cannot make a certificate authority: {0}")]
    Create(#[from] rcgen::Error),
}

/// A certificate could not be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The result cannot be kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name is no host name, or signing failed.
    #[error("cannot issue a certificate for {subject:?}: {source}")]
    Sign {
        /// The common name asked for.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
}

/// A TLS configuration could not be made from a credential.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text does not hold what it should.
    #[error("bad PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// rustls refuses certificate, key or authority.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The authorities for client certificates are unusable.
    #[error("client authorities: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
    /// Both, as the API server's towards host agents.
    Both,
}

/// What to issue.
#[derive(Debug, Clone)]
pub struct Request {
    /// CN: the user name of clients.
    pub common_name: String,
    /// O: the group of clients.
    pub organization: Option<String>,
    /// DNS names and IP addresses of servers, as text.
    pub names: Vec<String>,
    /// What for.
    pub usage: Usage,
}

impl Request {
    /// A server reached under `names` (host names and IP addresses).
    pub fn server<S: Into<String>>(common_name: &str, names: impl IntoIterator<Item = S>) -> Request {
        Request {
            common_name: common_name.into(),
            organization: None,
            names: names.into_iter().map(Into::into).collect(),
            usage: Usage::Server,
        }
    }

    /// A client that the API server shall see as `user`, member of `group`.
    pub fn client(user: &str, group: Option<&str>) -> Request {
        Request {
            common_name: user.into(),
            organization: group.map(Into::into),
            names: Vec::new(),
            usage: Usage::Client,
        }
    }

    /// The certificate of a host agent: serves its API and signs in as `system:node:NAME`.
    pub fn host<S: Into<String>>(node: &str, names: impl IntoIterator<Item = S>) -> Request {
        Request {
            common_name: format!("system:node:{node}"),
            organization: Some("system:nodes".into()),
            names: names.into_iter().map(Into::into).collect(),
            usage: Usage::Both,
        }
    }
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Credential {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, PKCS#8.
    pub key_pem: String,
}

impl Credential {
    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let chain =
            CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        Ok((chain, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?))
    }

    /// A server configuration for HTTP/1.1 and HTTP/2; with `client_ca_pem`, client certificates of that authority
    /// are asked for and verified, and clients without one are let in (authentication decides).
    pub fn server_config(&self, client_ca_pem: Option<&str>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        self.server_with(client_ca_pem.map(verifier).transpose()?)
    }

    /// The same, but any client certificate gets through the handshake: whoever serves the connection has to verify its chain.
    /// The authority is only named to clients.
    pub fn asking_server_config(&self, client_ca_pem: &str) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        self.server_with(Some(Arc::new(Asking(verifier(client_ca_pem)?))))
    }

    fn server_with(
        &self,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(server_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let (chain, key) = self.parts()?;
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }

    /// A client configuration that trusts `ca_pem` and presents this credential.
    pub fn client_config(&self, ca_pem: &str) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = self.parts()?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(ca_pem)?)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// Verifies client certificates of an authority, and lets in clients without one.
fn verifier(client_ca_pem: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(roots(client_ca_pem)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(server_provider()));
    Ok(builder.allow_unauthenticated().build()?)
}

/// The library's cipher suites with AES-128 before AES-256, as upstream's servers choose them: two thirds of the rounds for
/// every byte of a list, and no less safe against anybody.
fn server_provider() -> CryptoProvider {
    use rustls::CipherSuite::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        TLS13_AES_128_GCM_SHA256,
    };
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            TLS13_AES_128_GCM_SHA256
                | TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn roots(pem: &str) -> Result<rustls::RootCertStore, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(certificate?)?;
    }
    Ok(store)
}

/// The root and the directory it lives in.
pub struct Authority {
    dir: PathBuf,
    certificate_pem: String,
    certificate_der: Vec<u8>,
    common_name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads `ca.crt` and `ca.key` from `dir`, or makes them when neither exists.
    pub fn load_or_create(dir: &Path) -> Result<Authority, LoadError> {
        files::private_dir(dir)?;
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        match (
            files::read_optional(&cert_path)?,
            files::read_optional(&key_path)?,
        ) {
            (Some(certificate), Some(key)) => Authority::load(dir, certificate, &key),
            (None, None) => {
                let (certificate, key) = create_root()?;
                // The key first: a certificate without key would be refused at the next start.
                files::write_private(&key_path, key.as_bytes())?;
                files::write_public(&cert_path, certificate.as_bytes())?;
                Authority::load(dir, certificate, &key)
            }
            (None, Some(_)) => Err(LoadError::Half(cert_path)),
            (Some(_), None) => Err(LoadError::Half(key_path)),
        }
    }

    fn load(dir: &Path, certificate_pem: String, key_pem: &str) -> Result<Authority, LoadError> {
        let damaged = |file: &str, reason: String| LoadError::Damaged {
            path: dir.join(file),
            reason,
        };
        let key = KeyPair::from_pem(key_pem).map_err(|e| damaged("ca.key", e.to_string()))?;
        let certificate_der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|e| damaged("ca.crt", e.to_string()))?
            .to_vec();
        let summary = Summary::of(&certificate_der).map_err(|reason| damaged("ca.crt", reason))?;
        if summary.public_key != key.public_key_raw() {
            return Err(damaged("ca.key", "is not the key of ca.crt".into()));
        }
        let issuer =
            Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(|e| damaged("ca.crt", e.to_string()))?;
        Ok(Authority {
            dir: dir.to_path_buf(),
            common_name: summary.common_name,
            certificate_pem,
            certificate_der,
            issuer,
        })
    }

    /// The root certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The root certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate_der
    }

    /// Issues a certificate with a fresh key; nothing is kept.
    pub fn issue(&self, request: &Request) -> Result<Credential, IssueError> {
        let failed = |source| IssueError::Sign {
            subject: request.common_name.clone(),
            source,
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = request
            .names
            .iter()
            .map(|name| alt_name(name))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = &request.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization.as_str());
        }
        params
            .distinguished_name
            .push(DnType::CommonName, request.common_name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, LEAF_DAYS);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Credential {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Signs the certificate request of somebody else's key for some usages, in Kubernetes' words (`client auth`), and a
    /// life. The names are those of the request; whoever approves it answers for them.
    pub fn sign_request(&self, pem: &str, usages: &[String], life: Duration) -> Result<String, IssueError> {
        let failed = |source| IssueError::Sign {
            subject: "a certificate request".to_owned(),
            source,
        };
        let mut request = CertificateSigningRequestParams::from_pem(pem).map_err(failed)?;
        let params = &mut request.params;
        let has = |usage: &str| usages.iter().any(|u| u == usage);
        params.is_ca = IsCa::NoCa;
        params.key_usages = [
            ("digital signature", KeyUsagePurpose::DigitalSignature),
            ("key encipherment", KeyUsagePurpose::KeyEncipherment),
        ]
        .into_iter()
        .filter(|(name, _)| has(name))
        .map(|(_, usage)| usage)
        .collect();
        params.extended_key_usages = [
            ("client auth", ExtendedKeyUsagePurpose::ClientAuth),
            ("server auth", ExtendedKeyUsagePurpose::ServerAuth),
        ]
        .into_iter()
        .filter(|(name, _)| has(name))
        .map(|(_, usage)| usage)
        .collect();
        params.use_authority_key_identifier_extension = true;
        set_requested_life(params, life);
        Ok(request.signed_by(&self.issuer).map_err(failed)?.pem())
    }

    /// The credential kept as `NAME.crt` and `NAME.key`, reissued when it is missing, unreadable, of another root or
    /// other names, or past two thirds of its life.
    pub fn load_or_issue(&self, name: &str, request: &Request) -> Result<Credential, IssueError> {
        let cert_path = self.dir.join(format!("{name}.crt"));
        let key_path = self.dir.join(format!("{name}.key"));
        if let (Some(certificate_pem), Some(key_pem)) = (
            files::read_optional(&cert_path)?,
            files::read_optional(&key_path)?,
        ) {
            let credential = Credential {
                certificate_pem,
                key_pem,
            };
            if self.still_good(&credential, request, Timestamp::now()) {
                return Ok(credential);
            }
        }
        let credential = self.issue(request)?;
        files::write_remade(&key_path, credential.key_pem.as_bytes(), true)?;
        files::write_remade(&cert_path, credential.certificate_pem.as_bytes(), false)?;
        Ok(credential)
    }

    /// Whether a credential is of this root, for this request, and has a third of its life left.
    pub fn still_good(&self, credential: &Credential, request: &Request, now: Timestamp) -> bool {
        let Ok(der) = CertificateDer::from_pem_slice(credential.certificate_pem.as_bytes()) else {
            return false;
        };
        let (Ok(summary), Ok(key)) = (Summary::of(&der), KeyPair::from_pem(&credential.key_pem)) else {
            return false;
        };
        let mut wanted = request.names.clone();
        wanted.sort();
        wanted.dedup();
        let life = summary.not_after - summary.not_before;
        summary.issuer == self.common_name
            && summary.common_name == request.common_name
            && summary.organization == request.organization
            && summary.names == wanted
            && summary.public_key == key.public_key_raw()
            && summary.not_after - now.as_second() > life / 3
    }
}

/// The private key kept as `NAME.key` in `dir` (ECDSA P-256, PKCS#8 PEM), made when missing: what signs service-account tokens.
pub fn signing_key(dir: &Path, name: &str) -> Result<String, LoadError> {
    files::private_dir(dir)?;
    let path = dir.join(format!("{name}.key"));
    if let Some(pem) = files::read_optional(&path)? {
        KeyPair::from_pem(&pem).map_err(|e| LoadError::Damaged {
            path,
            reason: e.to_string(),
        })?;
        return Ok(pem);
    }
    let pem = KeyPair::generate()?.serialize_pem();
    files::write_private(&path, pem.as_bytes())?;
    Ok(pem)
}

fn create_root() -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The time makes the name of each root unique, so leaves of an older root are recognised.
    params.distinguished_name.push(
        DnType::CommonName,
        format!("podvisor-ca@{}", Timestamp::now().as_millisecond()),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    set_life(&mut params, ROOT_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Valid from yesterday (clocks differ) for so many days.
fn set_life(params: &mut CertificateParams, days: i64) {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(offset.days());
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}

/// Valid from a little before now (clocks differ), which is taken off the end of all but short lives
/// (kube-controller-manager: `PermissiveSigningPolicy`).
fn set_requested_life(params: &mut CertificateParams, life: Duration) {
    let now = Duration::from_secs(Timestamp::now().as_second().unsigned_abs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = match life < SHORT_LIFE {
        true => epoch + now + life,
        false => epoch + now + life - BACKDATE,
    };
}

fn alt_name(name: &str) -> Result<SanType, rcgen::Error> {
    Ok(match name.parse::<IpAddr>() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(name.try_into()?),
    })
}

/// What we compare of a certificate.
struct Summary {
    common_name: String,
    organization: Option<String>,
    issuer: String,
    names: Vec<String>,
    public_key: Vec<u8>,
    /// Unix seconds.
    not_before: i64,
    /// Unix seconds.
    not_after: i64,
}

impl Summary {
    fn of(der: &[u8]) -> Result<Summary, String> {
        use x509_parser::prelude::*;
        let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
        let text = |attribute: Option<&AttributeTypeAndValue<'_>>| {
            attribute.and_then(|a| a.as_str().ok()).map(str::to_string)
        };
        let mut names = Vec::new();
        if let Ok(Some(san)) = certificate.subject_alternative_name() {
            for name in &san.value.general_names {
                match name {
                    GeneralName::DNSName(dns) => names.push(dns.to_string()),
                    GeneralName::IPAddress(bytes) => {
                        if let Ok(v4) = <[u8; 4]>::try_from(*bytes) {
                            names.push(IpAddr::from(v4).to_string());
                        } else if let Ok(v6) = <[u8; 16]>::try_from(*bytes) {
                            names.push(IpAddr::from(v6).to_string());
                        }
                    }
                    _ => {}
                }
            }
        }
        names.sort();
        Ok(Summary {
            common_name: text(certificate.subject().iter_common_name().next()).unwrap_or_default(),
            organization: text(certificate.subject().iter_organization().next()),
            issuer: text(certificate.issuer().iter_common_name().next()).unwrap_or_default(),
            names,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_requested_life_counts_from_now() {
        const HOUR: u64 = 3600;
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let request = request.pem().unwrap();
        for (hours, seconds) in [(1, HOUR + 300), (8, 8 * HOUR), (8760, 8760 * HOUR)] {
            let life = Duration::from_secs(hours * HOUR);
            let usages = ["client auth".to_owned()];
            let signed = authority.sign_request(&request, &usages, life).unwrap();
            let der = CertificateDer::from_pem_slice(signed.as_bytes()).unwrap();
            let summary = Summary::of(&der).unwrap();
            assert_eq!(
                summary.not_after - summary.not_before,
                seconds.cast_signed(),
                "{hours} h"
            );
            assert!((299..330).contains(&(Timestamp::now().as_second() - summary.not_before)));
        }
    }

    #[test]
    fn a_root_is_made_once_and_leaves_are_kept_until_they_must_change() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(dir.path()).unwrap();
        let again = Authority::load_or_create(dir.path()).unwrap();
        assert_eq!(first.certificate_pem(), again.certificate_pem());

        let server = Request::server("podvisor", ["localhost", "127.0.0.1"]);
        let one = first.load_or_issue("serving", &server).unwrap();
        let two = again.load_or_issue("serving", &server).unwrap();
        assert_eq!(one.certificate_pem, two.certificate_pem, "kept");
        let more = Request::server("podvisor", ["localhost", "127.0.0.1", "192.0.2.1"]);
        let three = again.load_or_issue("serving", &more).unwrap();
        assert_ne!(one.certificate_pem, three.certificate_pem, "new names");

        let now = Timestamp::now();
        let in_days = |n: i64| now + (n * 24).hours();
        assert!(first.still_good(&three, &more, in_days(200)));
        assert!(!first.still_good(&three, &more, in_days(300)), "renewed in time");

        let other = Authority::load_or_create(&dir.path().join("other")).unwrap();
        assert!(!other.still_good(&three, &more, now), "another root");

        let key = signing_key(dir.path(), "service-account").unwrap();
        assert_eq!(signing_key(dir.path(), "service-account").unwrap(), key);
    }

    #[test]
    fn client_certificates_carry_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let admin = Request::client("kubernetes-admin", Some("system:masters"));
        let credential = authority.issue(&admin).unwrap();
        let der = CertificateDer::from_pem_slice(credential.certificate_pem.as_bytes()).unwrap();
        let summary = Summary::of(&der).unwrap();
        assert_eq!(summary.common_name, "kubernetes-admin");
        assert_eq!(summary.organization.as_deref(), Some("system:masters"));
        let host = authority.issue(&Request::host("n1", ["192.0.2.1"])).unwrap();
        host.server_config(Some(authority.certificate_pem())).unwrap();
        host.client_config(authority.certificate_pem()).unwrap();
    }

    #[tokio::test]
    async fn who_only_asks_for_certificates_lets_those_of_others_in() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Authority::load_or_create(&dir.path().join("ours")).unwrap();
        let other = Authority::load_or_create(&dir.path().join("other")).unwrap();
        let ca = ours.certificate_pem();
        let server = ours.issue(&Request::server("s", ["localhost"])).unwrap();
        let client = Request::client("ann", None);
        let (known, foreign) = (ours.issue(&client).unwrap(), other.issue(&client).unwrap());
        let cases = [
            (server.server_config(Some(ca)).unwrap(), &known, Some(1)),
            (server.server_config(Some(ca)).unwrap(), &foreign, None),
            (server.asking_server_config(ca).unwrap(), &known, Some(1)),
            (server.asking_server_config(ca).unwrap(), &foreign, Some(1)),
        ];
        for (config, shown, want) in cases {
            let (near, far) = tokio::io::duplex(1 << 16);
            let connector = tokio_rustls::TlsConnector::from(shown.client_config(ca).unwrap());
            let (accepted, _) = tokio::join!(
                tokio_rustls::TlsAcceptor::from(config).accept(near),
                connector.connect("localhost".try_into().unwrap(), far)
            );
            let seen = accepted
                .ok()
                .and_then(|s| s.get_ref().1.peer_certificates().map(<[_]>::len));
            assert_eq!(seen, want);
        }
    }

    #[test]
    fn damage_is_named_with_its_cure() {
        let dir = tempfile::tempdir().unwrap();
        Authority::load_or_create(dir.path()).unwrap();
        let key = dir.path().join("ca.key");
        let good = fs::read_to_string(&key).unwrap();
        fs::write(&key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        let error = Authority::load_or_create(dir.path()).err().unwrap().to_string();
        assert!(error.contains("is not the key of ca.crt"), "{error}");
        fs::write(&key, good).unwrap();
        fs::remove_file(dir.path().join("ca.crt")).unwrap();
        let error = Authority::load_or_create(dir.path()).err().unwrap().to_string();
        assert!(error.contains("ca.crt is missing"), "{error}");
    }
}
