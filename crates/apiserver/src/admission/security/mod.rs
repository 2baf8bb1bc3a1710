//! PodSecurity: the Pod Security Standards of a namespace's labels (KEP-2579).
//!
//! `pod-security.kubernetes.io/enforce` refuses Pods, `/warn` answers with warnings and `/audit` writes annotations into the
//! audit log, both for workloads too. Without labels a namespace is `privileged`: a Pod is a VM, and privilege ends there. The
//! checks themselves are in [`checks`].

mod checks;
mod existing;

use super::pod::items;
use super::{forbidden, is_on};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::metrics::Evaluation;
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use serde_json::{Value, json};

/// The minor version of the newest standards: that which is served.
const NEWEST: u32 = 35;
/// Prefix of the labels.
const LABEL: &str = "pod-security.kubernetes.io/";

/// How strict, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No checks.
    Privileged,
    /// Nothing that reaches for the node.
    Baseline,
    /// Hardened.
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// The step.
pub struct PodSecurity;

/// Where a kind has its Pod spec and Pod metadata.
fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let at = match (group, resource) {
        ("", "pods") => "",
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    let pod = object.pointer(at)?;
    Some((pod.get("spec")?, &pod["metadata"]))
}

/// What a mode asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    level: Level,
    version: String,
}

impl std::fmt::Display for Policy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}:{}", self.level.as_str(), self.version)
    }
}

impl Policy {
    /// What of a Pod violates it. A version that is not known yet is the newest.
    fn violations(&self, spec: &Value, metadata: &Value) -> Vec<String> {
        let minor = minor(&self.version).unwrap_or(u32::MAX);
        checks::violations(self.level, minor, spec, metadata)
    }

    /// For the metrics.
    fn judged(&self, mode: &'static str, allowed: bool, request: &AdmissionRequest<'_>) -> Evaluation {
        let a = request.attributes;
        let version = match minor(&self.version) {
            _ if self.level == Level::Privileged => "latest".into(),
            None => "latest".into(),
            Some(minor) if minor > NEWEST => "future".into(),
            Some(_) => self.version.clone().into(),
        };
        Evaluation {
            allowed,
            level: self.level.as_str(),
            version,
            mode,
            operation: match request.operation {
                Operation::Update => "update",
                _ => "create",
            },
            resource: match (a.group.as_str(), a.resource.as_str()) {
                ("", "pods") => "pod",
                _ => "controller",
            },
            subresource: match a.subresource.as_str() {
                "ephemeralcontainers" => "ephemeralcontainers",
                _ => "",
            },
        }
    }
}

/// The number in `v1.NUMBER`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.parse().ok()
}

/// Level and version of a mode. An unknown level is the strictest, so a typing error opens nothing.
fn policy(namespace: &Value, mode: &str) -> Policy {
    let labels = &namespace["metadata"]["labels"];
    let level = match labels[format!("{LABEL}{mode}")].as_str() {
        None => Level::Privileged,
        Some(text) => Level::parse(text).unwrap_or(Level::Restricted),
    };
    let version = labels[format!("{LABEL}{mode}-version")]
        .as_str()
        .unwrap_or("latest");
    Policy {
        level,
        version: version.to_string(),
    }
}

#[async_trait]
impl AdmissionPlugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(Vec::new());
        }
        if is_on(request, "", "namespaces") {
            check_labels(request)?;
            return Ok(existing::warnings(request, view));
        }
        let a = request.attributes;
        let is_pod = a.group.is_empty() && a.resource == "pods";
        match a.subresource.as_str() {
            "" => {}
            "ephemeralcontainers" if is_pod => {}
            _ => return Ok(Vec::new()),
        }
        let Some((spec, metadata)) = template(&a.group, &a.resource, request.object) else {
            return Ok(Vec::new());
        };
        // A tightened namespace does not break running Pods; workloads are told of it whenever they are written.
        let old = request
            .old
            .filter(|_| is_pod && request.operation == Operation::Update);
        if old.is_some_and(|old| !is_significant(spec, &old["spec"])) {
            return Ok(Vec::new());
        }
        let Some(namespace) = view.get(&GroupResource::new("", "namespaces"), None, &a.namespace) else {
            return Ok(Vec::new());
        };
        // As upstream's keys, without its exemptions, of which there are none.
        let note = |key: &str, value: String| {
            if let Some(ctx) = request.ctx {
                ctx.notes.annotate(format!("{LABEL}{key}"), value);
            }
        };
        let count = |mode: &'static str, wanted: &Policy, allowed: bool| {
            if let Some(ctx) = request.ctx {
                let evaluation = wanted.judged(mode, allowed, request);
                ctx.server.metrics.pod_security.count(evaluation);
            }
        };
        let mut refused = None;
        if is_pod {
            let wanted = policy(&namespace, "enforce");
            note("enforce-policy", wanted.to_string());
            let problems = wanted.violations(spec, metadata);
            count("enforce", &wanted, problems.is_empty());
            if !problems.is_empty() {
                let why = format!("violates PodSecurity \"{wanted}\": {}", problems.join(", "));
                refused = Some(forbidden(request, why));
            }
        }
        let would = |mode: &'static str| {
            let wanted = policy(&namespace, mode);
            let problems = wanted.violations(spec, metadata);
            // Who passes is counted where it is enforced alone.
            if !problems.is_empty() {
                count(mode, &wanted, false);
            }
            let words = || format!("would violate PodSecurity \"{wanted}\": {}", problems.join(", "));
            (!problems.is_empty()).then(words)
        };
        if let Some(words) = would("audit") {
            note("audit-violations", words);
        }
        match refused {
            Some(status) => Err(status),
            None => Ok(would("warn").into_iter().collect()),
        }
    }
}

/// Whether a changed Pod is judged again: for other images and for other containers (upstream's `isSignificantPodUpdate`).
fn is_significant(new: &Value, old: &Value) -> bool {
    let other_images = |list: &str| {
        let images = |spec| items(spec, list).map(|c| &c["image"]);
        !images(new).eq(images(old))
    };
    let before = |name: &Value| items(old, "ephemeralContainers").find(|c| c["name"] == *name);
    let mut ephemeral = items(new, "ephemeralContainers");
    ["containers", "initContainers"].into_iter().any(other_images)
        || ephemeral.any(|c| before(&c["name"]).is_none_or(|old| old["image"] != c["image"]))
}

/// The labels of a namespace must mean something.
fn check_labels(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let labels = &request.object["metadata"]["labels"];
    let old = request.old.map(|o| &o["metadata"]["labels"]);
    let at = Path::new("metadata").child("labels");
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let name = format!("{LABEL}{mode}");
        let changed = |name: &str| old.is_none_or(|o| o[name] != labels[name]);
        if let Some(level) = labels[&name].as_str().filter(|_| changed(&name))
            && Level::parse(level).is_none()
        {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(&at.key(&name), json!(level), detail));
        }
        let name = format!("{LABEL}{mode}-version");
        if let Some(version) = labels[&name].as_str().filter(|_| changed(&name))
            && version != "latest"
            && minor(version).is_none()
        {
            let detail = "must be \"latest\" or \"v1.x\"";
            errors.push(FieldError::invalid(&at.key(&name), json!(version), detail));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let name = request.object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Status::invalid("Namespace", "", name, errors))
}
