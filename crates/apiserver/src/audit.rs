//! The audit log: who asked for what, and what came of it, as JSON lines of `audit.k8s.io/v1`.
//!
//! A policy file of upstream's form decides how much is told of each request ([`policy`]); lines go through a bounded
//! queue to one thread that writes and rotates the file ([`log`]). When the queue is full the request waits for it:
//! what is not in the log has not happened.

mod log;
mod policy;

use crate::connection::Connection;
use crate::request::Attributes;
use crate::user::User;
use http::HeaderMap;
use jiff::Timestamp;
use log::Log;
pub use policy::Level;
use policy::Policy;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the audit log goes, and what of.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// The policy (`audit.k8s.io/v1` Policy, YAML or JSON).
    pub policy: String,
    /// The file.
    pub path: PathBuf,
    /// Bytes after which a new file is begun.
    pub max_bytes: u64,
    /// Old files that are kept beside it.
    pub max_files: usize,
}

/// Why there can be no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy is wrong.
    #[error("the audit policy is wrong: {0}")]
    Policy(String),
    /// The file cannot be written.
    #[error("the audit log {0} cannot be written: {1}")]
    File(PathBuf, std::io::Error),
}

/// The audit log of one server.
pub struct Audit {
    policy: Policy,
    log: Log,
}

/// One request on its way through the audit.
pub struct Trail {
    audit: Arc<Audit>,
    level: Level,
    omitted: Vec<String>,
    managed_fields: bool,
    panicked: bool,
    event: Map<String, Value>,
}

/// Writes the last event of a request whose answer takes its time, once that answer is over.
pub struct Closing(Trail);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.event.insert("stage".into(), json!("ResponseComplete"));
        let now = json!(at(Timestamp::now()));
        self.0.event.insert("stageTimestamp".into(), now);
        if let Some(line) = self.0.line(&self.0.event) {
            self.0.audit.log.write_later(line);
        }
    }
}

/// The name of a program, as much as upstream keeps of it.
fn shortened(agent: &str) -> String {
    const MOST: usize = 1024;
    match agent.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...TRUNCATED", &agent[..end]),
        None => agent.to_owned(),
    }
}

fn at(time: Timestamp) -> String {
    format!("{time:.6}")
}

fn described(user: &User) -> Value {
    let mut out = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        out["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        out["extra"] = json!(user.extra);
    }
    out
}

impl Audit {
    /// Opens the log. The thread that writes it ends with the last user of the log.
    pub fn open(config: &AuditConfig) -> Result<Arc<Audit>, AuditError> {
        let policy = Policy::parse(&config.policy).map_err(AuditError::Policy)?;
        let log = Log::open(config).map_err(|e| AuditError::File(config.path.clone(), e))?;
        Ok(Arc::new(Audit { policy, log }))
    }

    /// Begins the trail of a request whose user is known; none when the policy wants none.
    pub async fn begin(
        self: &Arc<Self>,
        attributes: &Attributes,
        user: &User,
        head: &http::request::Parts,
        connection: &Connection,
        id: &str,
        received: Timestamp,
    ) -> Option<Trail> {
        let rule = self.policy.rule(attributes, user);
        if rule.level == Level::None {
            return None;
        }
        let mut event = Map::new();
        event.insert("kind".into(), json!("Event"));
        event.insert("apiVersion".into(), json!("audit.k8s.io/v1"));
        event.insert("level".into(), json!(rule.level.as_str()));
        event.insert("auditID".into(), json!(id));
        event.insert("stage".into(), json!("RequestReceived"));
        let uri = head.uri.path_and_query().map_or("/", |p| p.as_str());
        event.insert("requestURI".into(), json!(uri));
        event.insert("verb".into(), json!(attributes.verb));
        event.insert("user".into(), described(user));
        event.insert("sourceIPs".into(), json!(sources(&head.headers, connection)));
        if let Some(agent) = head
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
        {
            event.insert("userAgent".into(), json!(shortened(agent)));
        }
        if attributes.is_resource {
            event.insert("objectRef".into(), reference(attributes));
        }
        event.insert("requestReceivedTimestamp".into(), json!(at(received)));
        event.insert("stageTimestamp".into(), json!(at(received)));
        let trail = Trail {
            audit: self.clone(),
            level: rule.level,
            omitted: rule.omitted,
            managed_fields: rule.managed_fields,
            panicked: false,
            event,
        };
        trail.write(&trail.event).await;
        Some(trail)
    }
}

fn sources(headers: &HeaderMap, connection: &Connection) -> Vec<String> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let forwarded = header("x-forwarded-for").split(',').map(str::trim);
    let mut out: Vec<String> = forwarded
        .chain([header("x-real-ip")])
        .filter(|ip| ip.parse::<std::net::IpAddr>().is_ok())
        .map(String::from)
        .collect();
    let peer = connection.peer.map(|p| p.ip().to_string());
    if let Some(peer) = peer.filter(|p| out.last() != Some(p)) {
        out.push(peer);
    }
    out
}

fn reference(a: &Attributes) -> Value {
    let mut out = Map::new();
    for (key, value) in [
        ("resource", &a.resource),
        ("namespace", &a.namespace),
        ("name", &a.name),
        ("apiGroup", &a.group),
        ("apiVersion", &a.version),
        ("subresource", &a.subresource),
    ] {
        if !value.is_empty() {
            out.insert(key.into(), json!(value));
        }
    }
    Value::Object(out)
}

impl Trail {
    /// Whether the body of the request is told.
    pub fn wants_request(&self) -> bool {
        self.level >= Level::Request
    }

    /// Whether the body of the answer is told.
    pub fn wants_response(&self) -> bool {
        self.level >= Level::RequestResponse
    }

    /// The user that the request speaks for.
    pub fn impersonated(&mut self, user: &User) {
        self.event.insert("impersonatedUser".into(), described(user));
    }

    /// The body of the request.
    pub fn request(&mut self, body: Value) {
        let body = self.stripped(body);
        self.event.insert("requestObject".into(), body);
    }

    /// The body of the answer.
    pub fn response(&mut self, body: Value) {
        let body = self.stripped(body);
        self.event.insert("responseObject".into(), body);
    }

    fn stripped(&self, mut body: Value) -> Value {
        if !self.managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut body);
            for item in body
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                strip(item);
            }
        }
        body
    }

    /// Which object the body of the request is about, as far as the path does not say.
    pub fn about(&mut self, object: BTreeMap<&'static str, String>) {
        let reference = self.event.get_mut("objectRef").and_then(Value::as_object_mut);
        if let Some(reference) = reference {
            for (field, text) in object {
                reference.entry(field).or_insert(json!(text));
            }
        }
    }

    /// The handler of the request failed.
    pub fn panicked(&mut self) {
        self.panicked = true;
    }

    /// Ends the trail. `told`: the answer, if it is a Status. `lasting`: the answer has only begun, and what is handed back
    /// must live as long as it.
    pub async fn finish(
        mut self,
        code: u16,
        told: Option<&Value>,
        lasting: bool,
        notes: BTreeMap<String, String>,
    ) -> Option<Closing> {
        let mut status = json!({"metadata": {}, "code": code});
        if let Some(told) = told {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = told.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        // An answer that is a refusal is complete at once.
        let lasting = lasting && code < 400;
        let stage = match (self.panicked, lasting) {
            (true, _) => "Panic",
            (_, true) => "ResponseStarted",
            _ => "ResponseComplete",
        };
        self.event.insert("stage".into(), json!(stage));
        self.event.insert("responseStatus".into(), status);
        self.event
            .insert("stageTimestamp".into(), json!(at(Timestamp::now())));
        if !notes.is_empty() {
            self.event.insert("annotations".into(), json!(notes));
        }
        self.write(&self.event).await;
        (lasting && !self.panicked).then(|| Closing(self))
    }

    async fn write(&self, event: &Map<String, Value>) {
        if let Some(line) = self.line(event) {
            self.audit.log.write(line).await;
        }
    }

    /// An event as a line; none when the policy leaves its stage out.
    fn line(&self, event: &Map<String, Value>) -> Option<String> {
        let stage = event.get("stage").and_then(Value::as_str).unwrap_or("");
        let omitted = self.omitted.iter().any(|omitted| omitted == stage);
        (!omitted).then(|| serde_json::to_string(event).unwrap_or_default())
    }
}
