//! Aggregated APIs: groups and versions that another server answers, as APIServices say.
//!
//! A request on such a version is authenticated and authorized here, then passed on over TLS with our client
//! certificate and the user in `X-Remote-*` headers. [`availability`] looks after the APIServices: it registers those
//! of our own, asks the others whether they are there, and keeps what they serve for discovery.

mod availability;
mod discovery;
mod openapi;

pub use availability::{priority, start};
pub use discovery::{add_groups, group_document, v2_item};
pub use openapi::{add_to_index, add_to_v2, v3};

use crate::dispatch::Incoming;
use crate::outbound::{Place, Target};
use crate::proxy::{Outgoing, exchange, no_redirect};
use crate::request::Attributes;
use crate::server::ApiServer;
use crate::user::User;
use crate::wire::{Response, body};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use kinds::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One version that another server answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    /// Where it is, and by what it is believed.
    pub target: Target,
    /// It answered last time.
    pub available: bool,
    /// Its place among groups, and among the versions of its group.
    pub priority: (i64, i64),
    /// Its APIResourceList, `null` before the first answer.
    pub resources: Value,
    /// What it says of its API.
    pub spec: Arc<openapi::Spec>,
}

/// All of them, by group and version.
pub type Remotes = BTreeMap<(String, String), Remote>;

/// The credentials by which other servers know us (`--proxy-client-cert-file` of upstream).
#[derive(Debug, Clone)]
pub struct ProxyClient {
    /// Certificate chain, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// The authority that signed it, PEM: published to the others in `kube-system/extension-apiserver-authentication`.
    pub ca_pem: String,
}

impl ProxyClient {
    /// The common names of the certificate; an impossible one when it has none, for an empty list would allow all.
    pub fn common_names(&self) -> Vec<String> {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject;
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok();
        let names = certificate.and_then(|der| {
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
            let names = parsed.subject().iter_common_name();
            Some(
                names
                    .filter_map(|n| n.as_str().ok().map(String::from))
                    .collect::<Vec<_>>(),
            )
        });
        match names {
            Some(names) if !names.is_empty() => names,
            _ => vec!["none".into()],
        }
    }
}

/// Group and version of a path below `/apis`.
fn place(path: &str) -> Option<(String, String)> {
    let mut parts = path.trim_matches('/').split('/');
    (parts.next() == Some("apis")).then_some(())?;
    Some((parts.next()?.to_string(), parts.next()?.to_string()))
}

/// Answers a request on an aggregated version; hands it back when it is none.
pub async fn answer(
    server: &Arc<ApiServer>,
    incoming: Incoming,
    attributes: &Attributes,
    user: &User,
) -> Result<Result<Response, Status>, Incoming> {
    let remotes = server.remotes.load_full();
    let found = place(&attributes.path).and_then(|place| remotes.get(&place));
    let Some(remote) = found else { return Err(incoming) };
    if !remote.available {
        return Ok(Ok(body::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "service unavailable\n",
        )));
    }
    Ok(Ok(pass_on(server, remote, incoming, user).await))
}

async fn pass_on(server: &ApiServer, remote: &Remote, incoming: Incoming, user: &User) -> Response {
    let path = incoming
        .head
        .uri
        .path_and_query()
        .map_or("/", |p| p.as_str())
        .to_string();
    let outgoing = Outgoing {
        method: incoming.head.method,
        path,
        headers: incoming.head.headers,
        add: identity(user),
        body: incoming.body,
        upgrade: incoming.upgrade,
    };
    let unreachable = |why: String| {
        let text = format!("error trying to reach service: {why}\n");
        body::text(StatusCode::SERVICE_UNAVAILABLE, text)
    };
    let stream = match server.dial(&remote.target).await {
        Ok(stream) => stream,
        Err(why) => return unreachable(why),
    };
    match exchange(Box::new(stream), &host(&remote.target), outgoing).await {
        Ok(response) => no_redirect(response),
        Err(status) => unreachable(status.message),
    }
}

fn host(target: &Target) -> String {
    match &target.place {
        Place::Service {
            namespace,
            name,
            port,
            ..
        } => format!("{name}.{namespace}.svc:{port}"),
        Place::Url(url) => url.clone(),
    }
}

/// The user, as `X-Remote-*` headers. Keys of extra facts are percent-encoded where a header name needs it.
fn identity(user: &User) -> HeaderMap {
    let mut out = HeaderMap::new();
    let mut put = |name: String, value: &str| {
        if let (Ok(name), Ok(value)) = (
            HeaderName::try_from(name),
            HeaderValue::from_bytes(value.as_bytes()),
        ) {
            out.append(name, value);
        }
    };
    put("x-remote-user".into(), &user.name);
    if !user.uid.is_empty() {
        put("x-remote-uid".into(), &user.uid);
    }
    for group in &user.groups {
        put("x-remote-group".into(), group);
    }
    for (key, values) in &user.extra {
        let key: String = key
            .bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => (b as char).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        for value in values {
            put(format!("x-remote-extra-{key}"), value);
        }
    }
    out
}

impl ApiServer {
    /// Connects to an aggregated server, with our client certificate if there is one.
    async fn dial(&self, target: &Target) -> Result<impl crate::proxy::Stream + 'static, String> {
        let identity = self.config.proxy_client.as_ref();
        self.outbound.dial(&*self.caches, target, identity).await
    }

    /// A JSON document of an aggregated server, asked by ourselves.
    async fn remote_json(&self, target: &Target, path: &str, shown: &str) -> Result<Value, String> {
        let asked = |why: String| format!("Get {shown:?}: {why}");
        let stream = self.dial(target).await.map_err(asked)?;
        let outgoing = Outgoing {
            method: Method::GET,
            path: path.to_string(),
            headers: HeaderMap::new(),
            add: identity(&User::new("system:kube-aggregator", &["system:masters"])),
            body: body::full(bytes::Bytes::new()),
            upgrade: None,
        };
        let answer = exchange(Box::new(stream), &host(target), outgoing)
            .await
            .map_err(|s| asked(s.message))?;
        let code = answer.status();
        if !code.is_success() {
            return Err(format!("bad status from {shown}: {}", code.as_u16()));
        }
        let bytes = crate::wire::input::read(answer.into_body())
            .await
            .map_err(|s| s.message)?;
        serde_json::from_slice(&bytes).map_err(|e| e.to_string())
    }
}
