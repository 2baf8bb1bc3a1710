//! Keys and certificates of a Supervisor, all below `DATA_DIR/pki`, made on the first start.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::aggregation::ProxyClient;
use apiserver::authn::legacy;
use apiserver::authn::service_account::Tokens;
use identity::authority::{Authority, Credential, Request, signing_key};

use crate::config::Config;

/// Names by which the API server is reached inside a cluster.
const API_NAMES: [&str; 6] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "podvisor",
];
/// The user that the API server is to host agents.
pub const AGENT_CLIENT: &str = "kube-apiserver-kubelet-client";

/// The name by which aggregated API servers know us.
const PROXY_CLIENT: &str = "front-proxy-client";

/// The authority as the controller of certificate requests sees it.
pub struct RequestSigner(pub Arc<Authority>);

impl std::fmt::Debug for RequestSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestSigner")
    }
}

impl controllers::Signer for RequestSigner {
    fn sign(
        &self,
        request_pem: &str,
        usages: &[String],
        life: std::time::Duration,
    ) -> Result<String, String> {
        let signed = self.0.sign_request(request_pem, usages, life);
        signed.map_err(|error| error.to_string())
    }
}

/// The key of service-account tokens as the controller of token Secrets sees it.
pub struct AccountTokens(Tokens);

impl AccountTokens {
    /// Signs with the key of the API server, which is to believe the tokens.
    pub fn new(key_pem: &str) -> Result<AccountTokens> {
        Ok(AccountTokens(Tokens::new(key_pem, legacy::ISSUER)?))
    }
}

impl std::fmt::Debug for AccountTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountTokens")
    }
}

impl controllers::TokenMaker for AccountTokens {
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Result<String, String> {
        let claims = legacy::Claims {
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            uid: uid.to_owned(),
        };
        legacy::issue(&self.0, claims).map_err(|error| error.to_string())
    }
}

/// What a thread answers; its panic goes on here.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Everything that signs or proves.
pub struct Trust {
    pub authority: Arc<Authority>,
    /// Signs one certificate only: that by which aggregated API servers know that a request was passed on by us.
    pub front_proxy: Authority,
    pub service_account_key_pem: String,
}

impl Trust {
    /// Where the keys are.
    pub fn directory(config: &Config) -> PathBuf {
        config.data_dir.join("pki")
    }

    /// Loads or makes the keys.
    pub fn load(config: &Config) -> Result<Self> {
        let directory = Self::directory(config);
        // Each is written through to the disk before it is used: all wait at the same time.
        let (authority, front_proxy, service_account_key_pem) = std::thread::scope(|scope| {
            let front_proxy = scope.spawn(|| Authority::load_or_create(&directory.join("front-proxy")));
            let key = scope.spawn(|| signing_key(&directory, "service-account"));
            let authority = Authority::load_or_create(&directory);
            (authority, joined(front_proxy), joined(key))
        });
        let authority = authority.context("the certificate authority")?;
        let front_proxy = front_proxy.context("the certificate authority of the front proxy")?;
        let service_account_key_pem = service_account_key_pem.context("the key of service-account tokens")?;
        Ok(Self {
            authority: Arc::new(authority),
            front_proxy,
            service_account_key_pem,
        })
    }

    /// The API server's serving certificate for every address it may be reached by.
    pub fn api_server(&self, config: &Config) -> Result<Arc<rustls::ServerConfig>> {
        let mut names: Vec<String> = API_NAMES.iter().map(|name| (*name).to_owned()).collect();
        let mut addresses = vec![
            "127.0.0.1".parse::<IpAddr>()?,
            IpAddr::V4(config.host_address),
            IpAddr::V4(config.service_cidr.nth(1)),
        ];
        addresses.extend(
            config
                .listen
                .iter()
                .map(std::net::SocketAddr::ip)
                .filter(|ip| !ip.is_unspecified()),
        );
        names.extend(addresses.iter().map(ToString::to_string));
        names.push(config.node_name.clone());
        names.sort();
        names.dedup();
        let credential = self
            .authority
            .load_or_issue("apiserver", &Request::server("kube-apiserver", names))?;
        Ok(credential.asking_server_config(self.authority.certificate_pem())?)
    }

    /// How the API server proves itself to host agents.
    pub fn agent_client(&self) -> Result<Arc<rustls::ClientConfig>> {
        let request = Request::client(AGENT_CLIENT, Some("system:masters"));
        let credential = self.authority.load_or_issue("apiserver-agent-client", &request)?;
        Ok(credential.client_config(self.authority.certificate_pem())?)
    }

    /// How the API server proves to aggregated API servers that a user's name is true.
    pub fn proxy_client(&self) -> Result<ProxyClient> {
        let request = Request::client(PROXY_CLIENT, None);
        let credential = self.front_proxy.load_or_issue(PROXY_CLIENT, &request)?;
        Ok(ProxyClient {
            certificate_pem: credential.certificate_pem,
            key_pem: credential.key_pem,
            ca_pem: self.front_proxy.certificate_pem().to_owned(),
        })
    }

    /// A host agent's serving certificate; clients must show one of ours.
    pub fn host(&self, node: &str, address: IpAddr) -> Result<Arc<rustls::ServerConfig>> {
        let request = Request::host(
            node,
            [node.to_owned(), address.to_string(), "127.0.0.1".to_owned()],
        );
        let credential = self.authority.load_or_issue(&format!("host-{node}"), &request)?;
        Ok(credential.server_config(Some(self.authority.certificate_pem()))?)
    }

    /// The certificate of the first administrator.
    pub fn administrator(&self) -> Result<Credential> {
        let request = Request::client("kubernetes-admin", Some("system:masters"));
        Ok(self.authority.load_or_issue("admin", &request)?)
    }
}
