//! Which Secrets a Pod may use, when its ServiceAccount says so (`kubernetes.io/enforce-mountable-secrets: "true"`):
//! those that the account lists, in volumes and in the environment of every kind of container, and its pull secrets.
//!
//! Upstream forgot ephemeral containers first (CVE-2023-2728) and `envFrom` later (CVE-2024-3177). One walk over every
//! list of containers serves them all here. Ephemeral containers are judged by themselves, as upstream does: what the Pod
//! had before may have been allowed then.

use super::pod::items;
use serde_json::Value;
use std::collections::BTreeSet;

/// The annotation of a ServiceAccount.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Lists of containers, and how upstream calls one of them. The last comes later than the Pod.
const LISTS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// One use of a Secret by a container: its kind, its name, the variable (none for all of the Secret), the Secret.
struct Use<'a> {
    kind: &'static str,
    /// Of a container that came later than the Pod.
    late: bool,
    container: &'a str,
    variable: Option<&'a str>,
    secret: &'a str,
}

fn uses(spec: &Value) -> impl Iterator<Item = Use<'_>> {
    LISTS.into_iter().flat_map(move |(list, kind)| {
        items(spec, list).flat_map(move |c| {
            let container = c["name"].as_str().unwrap_or_default();
            let late = list == "ephemeralContainers";
            let one = items(c, "env").filter_map(move |e| {
                Some(Use {
                    kind,
                    late,
                    container,
                    variable: Some(e["name"].as_str().unwrap_or_default()),
                    secret: e["valueFrom"]["secretKeyRef"]["name"].as_str()?,
                })
            });
            let all = items(c, "envFrom").filter_map(move |e| {
                Some(Use {
                    kind,
                    late,
                    container,
                    variable: None,
                    secret: e["secretRef"]["name"].as_str()?,
                })
            });
            one.chain(all)
        })
    })
}

/// Secrets that volumes show, projected ones too (which upstream does not look at).
fn mounted(spec: &Value) -> impl Iterator<Item = &str> {
    items(spec, "volumes").flat_map(|v| {
        let own = v["secret"]["secretName"].as_str();
        let projected = items(&v["projected"], "sources").filter_map(|s| s["secret"]["name"].as_str());
        own.into_iter().chain(projected)
    })
}

/// Whether a Pod uses any Secret at all.
pub(crate) fn references_secrets(spec: &Value) -> bool {
    uses(spec).next().is_some()
        || mounted(spec).next().is_some()
        || items(spec, "imagePullSecrets").next().is_some()
}

fn names<'a>(account: &'a Value, list: &str) -> BTreeSet<&'a str> {
    items(account, list).filter_map(|s| s["name"].as_str()).collect()
}

/// Whether an account wants its list to count.
fn is_enforced(account: &Value) -> bool {
    let asked = account["metadata"]["annotations"][ENFORCE].as_str();
    asked.is_some_and(|v| matches!(v, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

fn unlisted(account: &Value, what: &str, secret: &str) -> String {
    let name = account["metadata"]["name"].as_str().unwrap_or_default();
    format!(
        "{what} secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
    )
}

/// The first Secret in the environment of some containers that the account does not list.
fn unlisted_use(account: &Value, spec: &Value, late: bool) -> Option<String> {
    let secrets = names(account, "secrets");
    let used = uses(spec).find(|used| used.late == late && !secrets.contains(used.secret))?;
    let with = match used.variable {
        Some(variable) => format!("envVar {variable}"),
        None => "envFrom".into(),
    };
    let what = format!("{} {} with {with} referencing", used.kind, used.container);
    Some(unlisted(account, &what, used.secret))
}

/// What a new Pod uses that its account does not list; `None` when nothing, or when the account does not ask for it.
pub(crate) fn violation(account: &Value, spec: &Value) -> Option<String> {
    if !is_enforced(account) {
        return None;
    }
    let secrets = names(account, "secrets");
    if let Some(secret) = mounted(spec).find(|secret| !secrets.contains(secret)) {
        return Some(unlisted(account, "volume with", secret));
    }
    if let Some(why) = unlisted_use(account, spec, false) {
        return Some(why);
    }
    let pulls = names(account, "imagePullSecrets");
    for (i, secret) in items(spec, "imagePullSecrets").enumerate() {
        let secret = secret["name"].as_str().unwrap_or_default();
        if !pulls.contains(secret) {
            let name = account["metadata"]["name"].as_str().unwrap_or_default();
            return Some(format!(
                "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    None
}

/// What ephemeral containers use that their Pod's account does not list.
pub(crate) fn late_violation(account: &Value, spec: &Value) -> Option<String> {
    is_enforced(account)
        .then(|| unlisted_use(account, spec, true))
        .flatten()
}
