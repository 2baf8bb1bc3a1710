//! `/healthz`, `/livez`, `/readyz`: plain text, one line a check with `?verbose`, single checks by path
//! (`/livez/poststarthook/rbac/bootstrap-roles`), under upstream's names, which monitoring knows.

use crate::request::query_pairs;
use crate::server::ApiServer;
use crate::wire::{Response, body};
use http::StatusCode;
use std::sync::Arc;

/// Upstream's hooks after the start, for the parts that this server has, too. It answers no request before all of them
/// are through, so that whoever can ask finds them done.
const HOOKS: [&str; 25] = [
    "start-apiserver-admission-initializer",
    "generic-apiserver-start-informers",
    "priority-and-fairness-config-consumer",
    "priority-and-fairness-filter",
    "storage-object-count-tracker-hook",
    "start-apiextensions-informers",
    "start-apiextensions-controllers",
    "crd-informer-synced",
    "start-system-namespaces-controller",
    "start-cluster-authentication-info-controller",
    "start-legacy-token-tracking-controller",
    "start-service-ip-repair-controllers",
    "rbac/bootstrap-roles",
    "scheduling/bootstrap-system-priority-classes",
    "priority-and-fairness-config-producer",
    "bootstrap-controller",
    "start-kubernetes-service-cidr-controller",
    "aggregator-reload-proxy-client-cert",
    "start-kube-aggregator-informers",
    "apiservice-status-local-available-controller",
    "apiservice-status-remote-available-controller",
    "apiservice-registration-controller",
    "apiservice-discovery-controller",
    "kube-apiserver-autoregistration",
    "apiservice-openapi-controller",
];

/// A check: its name, and why it fails.
type Check = (String, Result<(), String>);

/// The names of an endpoint's checks, in upstream's order.
pub fn names(endpoint: &str) -> Vec<String> {
    let ready = endpoint == "readyz";
    let mut names = vec!["ping".to_string(), "log".into()];
    if !ready {
        // Upstream restarts when the certificate by which it calls itself is over; we call ourselves without one.
        names.push("loopback-serving-certificate".into());
    }
    names.push("etcd".into());
    if ready {
        names.extend(["etcd-readiness".into(), "informer-sync".into()]);
    }
    for hook in HOOKS {
        names.push(format!("poststarthook/{hook}"));
        if hook == "kube-apiserver-autoregistration" {
            names.push("autoregister-completion".into());
        }
    }
    names.push("poststarthook/apiservice-openapiv3-controller".into());
    if ready {
        names.push("shutdown".into());
    }
    names
}

/// Answers a health path, e.g. `/readyz` or `/readyz/etcd`.
pub async fn answer(server: &Arc<ApiServer>, path: &str, query: &str) -> Response {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or("healthz");
    let only = parts.next().unwrap_or("");
    let mut excluded: Vec<String> = query_pairs(query)
        .filter(|(k, _)| k == "exclude")
        .map(|(_, v)| v)
        .collect();
    let verbose = query_pairs(query).any(|(k, _)| k == "verbose");
    let checks = checks(server, endpoint).await;
    if !only.is_empty() {
        return match checks.into_iter().find(|(name, _)| *name == only) {
            None => body::text(StatusCode::NOT_FOUND, "404 page not found\n"),
            Some((_, Ok(()))) => body::text(StatusCode::OK, "ok"),
            Some((_, Err(why))) => {
                let text = format!("internal server error: {why}\n");
                body::text(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        };
    }
    let mut failed = false;
    let mut text = String::new();
    for (name, result) in &checks {
        let before = excluded.len();
        excluded.retain(|x| x != name);
        if excluded.len() == before {
            server.metrics.checked(name, endpoint, result.is_ok());
        }
        text += &match result {
            _ if excluded.len() < before => format!("[+]{name} excluded: ok\n"),
            Ok(()) => format!("[+]{name} ok\n"),
            Err(why) => {
                failed = true;
                // The page is for everybody: who may see the single check is told why.
                tracing::warn!(check = %name, %why, "a check of health failed");
                format!("[-]{name} failed: reason withheld\n")
            }
        };
    }
    if !excluded.is_empty() {
        excluded.sort();
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        text += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    match (failed, verbose) {
        (true, _) => {
            text += &format!("{endpoint} check failed\n");
            body::text(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
        (false, true) => {
            text += &format!("{endpoint} check passed\n");
            well(text)
        }
        (false, false) => well("ok"),
    }
}

/// A page that says that all is well, which upstream writes with a header more than that of a single check.
fn well(text: impl Into<String>) -> Response {
    let mut response = body::text(StatusCode::OK, text);
    body::not_to_be_guessed(&mut response);
    response
}

/// All checks of an endpoint.
async fn checks(server: &Arc<ApiServer>, endpoint: &str) -> Vec<Check> {
    let store = server.store.health().await.map_err(|e| e.to_string());
    let mut checks = Vec::new();
    for name in names(endpoint) {
        let result = match name.as_str() {
            "etcd" | "etcd-readiness" => store.clone(),
            "informer-sync" => match server.store.current().await {
                Ok(current) => server
                    .caches
                    .wait_for(current.0)
                    .await
                    .map_err(|at| format!("applied up to {at}")),
                Err(e) => Err(e.to_string()),
            },
            "shutdown" if server.stop.is_cancelled() => Err("process is shutting down".into()),
            _ => Ok(()),
        };
        checks.push((name, result));
    }
    checks
}
