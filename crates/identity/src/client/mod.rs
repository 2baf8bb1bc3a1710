//! The client's side of sign-on: what `podvisor login`, `kubectl podvisor login` and `kubectl vsphere login` do.
//!
//! Signing in asks the Supervisor for a token and for the user's namespaces, and writes one context per namespace into
//! the kubeconfig, next to whatever else is in there. Works against a vSphere Supervisor too: the protocol is the same.

mod http;

use crate::kubeconfig::{Kubeconfig, KubeconfigError, Trust};
use http::{Http, HttpError};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Prefix of kubeconfig users made by sign-on.
const USER_PREFIX: &str = "wcp:";

/// How to sign in.
#[derive(Debug, Clone)]
pub struct LoginOptions {
    /// `HOST`, `HOST:PORT` or a URL. Without port, 443 is tried, then 6443.
    pub server: String,
    /// user@domain.
    pub username: String,
    /// The password.
    pub password: String,
    /// How to verify the server.
    pub trust: Trust,
    /// The file to write contexts to.
    pub kubeconfig: PathBuf,
    /// A guest cluster to sign in to, with its namespace.
    pub guest_cluster: Option<(String, Option<String>)>,
    /// The longest one request may take.
    pub timeout: Duration,
}

/// Signing in or out failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server argument makes no sense.
    #[error("--server={0}: expected HOST, HOST:PORT or https://HOST")]
    Server(String),
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Something else lives there.
    #[error("{0} is not a Supervisor (it does not answer at /wcp/loginbanner)")]
    NotASupervisor(String),
    /// Wrong user name or password.
    #[error("invalid credentials: {0} cannot sign in with this password")]
    Credentials(String),
    /// The server asks for patience.
    #[error("{0}")]
    Refused(String),
    /// An answer is not what the protocol says.
    #[error("unexpected answer of {server} to {path}: {reason}")]
    Protocol {
        /// Host and port.
        server: String,
        /// The path asked.
        path: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The guest cluster does not exist, or the user may not use it.
    #[error("no cluster {name:?} in namespace {namespace:?}")]
    GuestCluster {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// The kubeconfig cannot be read or written.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
}

/// A namespace the user may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub namespace: String,
    /// Where its API server is.
    pub host: String,
    /// The API server's port.
    pub port: u16,
}

/// What a sign-in did.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Names of the contexts written, the server's own first.
    pub contexts: Vec<String>,
    /// The server's banner, shown before the result; may be empty.
    pub banner: String,
    /// The file written.
    pub kubeconfig: PathBuf,
}

impl LoggedIn {
    /// The text `kubectl vsphere login` prints.
    pub fn message(&self) -> String {
        let mut text =
            String::from("\nLogged in successfully.\n\nYou have access to the following contexts:\n");
        for context in &self.contexts {
            let _ = writeln!(text, "   {context}");
        }
        text.push_str("\nIf a context you expect is missing, log in again later or ask your administrator for access.\n");
        text.push_str("\nTo change context, use `kubectl config use-context <name>`\n");
        text
    }
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    host: String,
    port: Option<u16>,
}

impl Server {
    fn parse(text: &str) -> Result<Server, ClientError> {
        let bad = || ClientError::Server(text.to_string());
        let rest = match text.split_once("://") {
            Some(("https", rest)) => rest,
            Some(_) => return Err(bad()),
            None => text,
        };
        let authority = rest.split('/').next().unwrap_or_default();
        // A bare IPv6 address has several colons and no brackets.
        if authority.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Server {
                host: authority.to_string(),
                port: None,
            });
        }
        let parsed: ::http::uri::Authority = authority.parse().map_err(|_| bad())?;
        if parsed.host().is_empty() || authority.contains('@') || (authority.ends_with(':')) {
            return Err(bad());
        }
        Ok(Server {
            host: parsed.host().trim_matches(['[', ']']).to_string(),
            port: parsed.port_u16(),
        })
    }
}

fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// Signs in and writes the contexts.
pub async fn login(options: &LoginOptions) -> Result<LoggedIn, ClientError> {
    let server = Server::parse(&options.server)?;
    // Before any password goes out: a damaged kubeconfig should be found first.
    let mut config = Kubeconfig::load(&options.kubeconfig)?;
    let http = Http::new(&options.trust, options.timeout)?;
    let (connected, banner) = find_supervisor(&http, &server).await?;

    let mut body = json!({});
    if let Some((name, namespace)) = &options.guest_cluster {
        body["guest_cluster_name"] = name.as_str().into();
        if let Some(namespace) = namespace {
            body["guest_cluster_namespace"] = namespace.as_str().into();
        }
    }
    let basic = http::basic(&options.username, &options.password);
    let answer = ask(
        &http,
        &connected,
        "/wcp/login",
        Some(body),
        &basic,
        &options.username,
    )
    .await?;
    let token = answer["session_id"]
        .as_str()
        .ok_or_else(|| ClientError::Protocol {
            server: connected.clone(),
            path: "/wcp/login",
            reason: "no session_id".into(),
        })?;
    let workloads = list_workloads(&http, &connected, &basic, &options.username).await?;
    let contexts = write_contexts(&mut config, &server, options, token, &answer, &workloads)?;
    config.save(&options.kubeconfig)?;
    Ok(LoggedIn {
        contexts,
        banner,
        kubeconfig: options.kubeconfig.clone(),
    })
}

/// The namespaces of a user, without signing in for longer.
pub async fn workloads(options: &LoginOptions) -> Result<Vec<Workload>, ClientError> {
    let server = Server::parse(&options.server)?;
    let http = Http::new(&options.trust, options.timeout)?;
    let (connected, _) = find_supervisor(&http, &server).await?;
    let basic = http::basic(&options.username, &options.password);
    list_workloads(&http, &connected, &basic, &options.username).await
}

/// Forgets all sign-on users (of one server when given) with their contexts; returns the names of those contexts.
pub fn logout(kubeconfig: &Path, server: Option<&str>) -> Result<Vec<String>, ClientError> {
    let prefix = match server {
        Some(server) => format!("{USER_PREFIX}{}:", Server::parse(server)?.host),
        None => USER_PREFIX.to_string(),
    };
    let mut config = Kubeconfig::load(kubeconfig)?;
    if !config.users().iter().any(|u| u.starts_with(&prefix)) {
        return Ok(Vec::new());
    }
    let gone = config.remove_users(|user| user.starts_with(&prefix));
    config.save(kubeconfig)?;
    Ok(gone)
}

/// Finds the port that answers as a Supervisor: the given one, or 443, then 6443. Returns host:port and banner.
async fn find_supervisor(http: &Http, server: &Server) -> Result<(String, String), ClientError> {
    let ports = server.port.map_or(vec![443, 6443], |p| vec![p]);
    let mut first_error = None;
    for port in ports {
        let target = authority(&server.host, port);
        let result = match http.get(&format!("https://{target}/wcp/loginbanner"), None).await {
            Ok((200, banner)) => return Ok((target, banner.trim().to_string())),
            Ok(_) => ClientError::NotASupervisor(target),
            Err(e) => e.into(),
        };
        first_error.get_or_insert(result);
    }
    Err(first_error.unwrap_or_else(|| ClientError::NotASupervisor(server.host.clone())))
}

async fn ask(
    http: &Http,
    server: &str,
    path: &'static str,
    body: Option<Value>,
    basic: &str,
    user: &str,
) -> Result<Value, ClientError> {
    let url = format!("https://{server}{path}");
    let (status, text) = match body {
        Some(body) => http.post(&url, basic, &body.to_string()).await?,
        None => http.get(&url, Some(basic)).await?,
    };
    let unexpected = |reason: String| ClientError::Protocol {
        server: server.to_string(),
        path,
        reason,
    };
    match status {
        200 => serde_json::from_str(&text).map_err(|e| unexpected(e.to_string())),
        401 => Err(ClientError::Credentials(user.to_string())),
        429 => {
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let reason = answer["error"]
                .as_str()
                .unwrap_or("the server is busy; try again");
            Err(ClientError::Refused(reason.to_string()))
        }
        other => Err(unexpected(format!("status {other}"))),
    }
}

async fn list_workloads(
    http: &Http,
    server: &str,
    basic: &str,
    user: &str,
) -> Result<Vec<Workload>, ClientError> {
    let answer = ask(http, server, "/wcp/workloads", None, basic, user).await?;
    let list = answer.as_array().cloned().unwrap_or_default();
    Ok(list
        .iter()
        .filter_map(|w| {
            Some(Workload {
                namespace: w["namespace"].as_str()?.to_string(),
                host: w["master_host"].as_str()?.to_string(),
                port: w["control_plane_api_server_port"]
                    .as_u64()
                    .and_then(|p| u16::try_from(p).ok())
                    .unwrap_or(6443),
            })
        })
        .collect())
}

/// Puts cluster, user and contexts into the document; returns the names of the contexts.
fn write_contexts(
    config: &mut Kubeconfig,
    server: &Server,
    options: &LoginOptions,
    token: &str,
    answer: &Value,
    workloads: &[Workload],
) -> Result<Vec<String>, ClientError> {
    let host = server.host.as_str();
    // A port given by hand leads through whatever is between us and the server; the advertised one may not.
    let port = server
        .port
        .or_else(|| workloads.first().map(|w| w.port))
        .unwrap_or(6443);
    let user = format!("{USER_PREFIX}{host}:{}", options.username);
    config.set_cluster(
        host,
        &format!("https://{}", authority(host, port)),
        &options.trust,
    );
    config.set_token_user(&user, token);
    config.set_context(host, host, &user, None);
    let mut contexts = vec![host.to_string()];

    for workload in workloads {
        let cluster = if workload.host == host || server.port.is_some() {
            host.to_string()
        } else {
            let url = format!("https://{}", authority(&workload.host, workload.port));
            config.set_cluster(&workload.host, &url, &options.trust);
            workload.host.clone()
        };
        let name = free_name(config, &workload.namespace, host);
        config.set_context(&name, &cluster, &user, Some(&workload.namespace));
        contexts.push(name);
    }
    if let Some((name, namespace)) = &options.guest_cluster {
        let guest = answer["guest_cluster_server"].as_str().unwrap_or_default();
        if guest.is_empty() {
            return Err(ClientError::GuestCluster {
                name: name.clone(),
                namespace: namespace.clone().unwrap_or_default(),
            });
        }
        let guest_user = format!("{USER_PREFIX}{guest}:{}", options.username);
        let trust = match answer["guest_cluster_ca"].as_str().and_then(http::decode_pem) {
            Some(pem) => Trust::Authority(pem),
            None => options.trust.clone(),
        };
        config.set_cluster(guest, &format!("https://{}", authority(guest, 6443)), &trust);
        config.set_token_user(&guest_user, token);
        config.set_context(name, guest, &guest_user, None);
        contexts.push(name.clone());
    }
    if !contexts.iter().any(|c| c == config.current()) {
        // With one namespace there is no question which is meant.
        let current = if contexts.len() == 2 {
            &contexts[1]
        } else {
            &contexts[0]
        };
        let current = current.clone();
        config.set_current(&current);
    }
    Ok(contexts)
}

/// The namespace's name, unless another cluster's context has it already.
fn free_name(config: &Kubeconfig, namespace: &str, host: &str) -> String {
    match config.context_user(namespace) {
        Some(user) if !user.starts_with(&format!("{USER_PREFIX}{host}:")) => {
            format!("{namespace}-{host}")
        }
        _ => namespace.to_string(),
    }
}

#[cfg(test)]
mod tests;
