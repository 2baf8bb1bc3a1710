//! What an API server is made of: everything that differs between two of them in one process.

use crate::admit::AdmissionPlugin;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::Store;

/// The parts and settings of one API server.
pub struct Config {
    /// Id of the control plane: the first segment of all its store keys.
    pub control_plane: String,
    /// The revision log.
    pub store: Arc<dyn Store>,
    /// Range of ClusterIPs, e.g. `10.96.0.0/16`; its first address is the Service `default/kubernetes`.
    pub service_cidr: String,
    /// Where the cluster's DNS answers: the address of the Service `kube-system/kube-dns`, which is not there without.
    pub cluster_dns: Option<Ipv4Addr>,
    /// First and last port of NodePort Services, both included; upstream's are 30000 and 32767.
    pub node_port_range: (u16, u16),
    /// `iss` of service-account tokens, e.g. `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Private key (PKCS#8 PEM, EC P-256 or RSA) that signs service-account tokens.
    pub service_account_key_pem: String,
    /// Certificates (DER) of the authorities whose client certificates are believed.
    pub client_ca_der: Vec<Vec<u8>>,
    /// Further token issuers, such as the Supervisor's sign-on.
    pub jwt_issuers: Vec<JwtIssuer>,
    /// How to dial host agents; `None` when there are none, then `logs` and `exec` answer 503.
    pub agent_tls: Option<Arc<rustls::ClientConfig>>,
    /// Paths that are not Kubernetes', e.g. `/wcp`, `/console`, `/openidconnect`; asked after our own paths.
    pub extra_routes: Option<axum::Router>,
    /// Where clients inside the cluster find this server: the endpoints of `default/kubernetes`.
    pub advertise: (IpAddr, u16),
    /// Admission steps that run after the built-in ones, before the quota.
    pub admission: Vec<Arc<dyn AdmissionPlugin>>,
    /// Requests of one user that may be served at the same time, watches excepted.
    pub max_requests_per_user: usize,
    /// Watches that one user may hold open.
    pub max_watches_per_user: usize,
    /// Connections at a time, which clients share.
    pub max_connections: usize,
    /// A TLS handshake, and then the head of the first request of the connection, must arrive within this time.
    pub head_limit: Duration,
    /// A connection over HTTP/1 may rest so long until the head of the next request has come. Upstream's 90 s: clients
    /// keep connections for as long, and one that is closed just as they send costs them a request.
    pub idle_limit: Duration,
    /// A connection whose other end takes no byte of what it asked for is cut off after this time.
    pub stall_limit: Duration,
    /// The credentials by which aggregated API servers know us; without them they take our word for nobody.
    pub proxy_client: Option<crate::aggregation::ProxyClient>,
    /// The audit log; none without.
    pub audit: Option<crate::audit::AuditConfig>,
    /// Further series for `/metrics`, in Prometheus' text form; asked at every scrape.
    pub extra_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// How often the log is compacted, keeping what happened since the time before.
    pub compaction_interval: Duration,
}

impl Config {
    /// The defaults of the house for everything that has one.
    pub fn new(control_plane: impl Into<String>, store: Arc<dyn Store>) -> Config {
        Config {
            control_plane: control_plane.into(),
            store,
            service_cidr: "10.96.0.0/16".into(),
            cluster_dns: None,
            node_port_range: (30000, 32767),
            issuer: "https://kubernetes.default.svc.cluster.local".into(),
            service_account_key_pem: String::new(),
            client_ca_der: Vec::new(),
            jwt_issuers: Vec::new(),
            agent_tls: None,
            extra_routes: None,
            advertise: (IpAddr::from([127, 0, 0, 1]), 6443),
            admission: Vec::new(),
            max_requests_per_user: 400,
            max_watches_per_user: 5000,
            max_connections: 16_384,
            head_limit: Duration::from_secs(20),
            idle_limit: Duration::from_secs(90),
            stall_limit: Duration::from_secs(60),
            proxy_client: None,
            audit: None,
            extra_metrics: None,
            compaction_interval: Duration::from_secs(300),
        }
    }
}

/// An issuer of tokens that this server believes, and how its claims become a user.
#[derive(Debug, Clone)]
pub struct JwtIssuer {
    /// Value of `iss`.
    pub issuer: String,
    /// Accepted `aud` values; a token needs one of them.
    pub audiences: Vec<String>,
    /// Its public keys.
    pub keys: JwtKeys,
    /// Claim that holds the user name, e.g. `sub`.
    pub username_claim: String,
    /// Put before the user name, e.g. `sso:`.
    pub username_prefix: String,
    /// Claim that holds the groups, e.g. `group_names`.
    pub groups_claim: String,
    /// Put before each group, e.g. `sso:`.
    pub groups_prefix: String,
}

/// Where the public keys of an issuer are.
#[derive(Debug, Clone)]
pub enum JwtKeys {
    /// A JSON Web Key Set document.
    Jwks(String),
    /// Public keys in PEM, tried in order.
    Pem(Vec<String>),
    /// A JSON Web Key Set that is still being made; until it is there, there are no tokens.
    Late(Arc<OnceLock<String>>),
}
