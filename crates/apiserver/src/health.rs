//! `/healthz`, `/livez`, `/readyz`: plain text, one line a check with `?verbose`.

use crate::request::query_pairs;
use crate::server::ApiServer;
use crate::wire::{Response, body};
use http::StatusCode;
use std::sync::Arc;

/// Answers a health path, e.g. `/readyz` or `/readyz/store`.
pub async fn answer(server: &Arc<ApiServer>, path: &str, query: &str) -> Response {
    let mut parts = path.trim_matches('/').splitn(2, '/');
    let endpoint = parts.next().unwrap_or("healthz");
    let only = parts.next().unwrap_or("");
    let excluded: Vec<String> = query_pairs(query)
        .filter(|(k, _)| k == "exclude")
        .map(|(_, v)| v)
        .collect();
    let verbose = query_pairs(query).any(|(k, _)| k == "verbose");
    let mut checks: Vec<(&str, Result<(), String>)> = vec![("ping", Ok(()))];
    let store = server.store.health().await.map_err(|e| e.to_string());
    // The store under upstream's name for it, which monitoring knows.
    checks.push(("etcd", store));
    if endpoint != "livez" {
        let behind = match server.store.current().await {
            Ok(current) => server
                .caches
                .wait_for(current.0)
                .await
                .map_err(|at| format!("applied up to {at}")),
            Err(e) => Err(e.to_string()),
        };
        checks.push(("informer-sync", behind));
        let stopping = server.stop.is_cancelled();
        checks.push((
            "shutdown",
            if stopping {
                Err("shutting down".into())
            } else {
                Ok(())
            },
        ));
    }
    if !only.is_empty() {
        checks.retain(|(name, _)| *name == only);
        if checks.is_empty() {
            return body::text(StatusCode::NOT_FOUND, "404 page not found\n");
        }
    }
    let failed = checks
        .iter()
        .any(|(name, r)| r.is_err() && !excluded.iter().any(|x| x == name));
    let mut text = String::new();
    if verbose || failed {
        for (name, result) in &checks {
            text += &match result {
                _ if excluded.iter().any(|x| x == name) => format!("[+]{name} excluded: ok\n"),
                Ok(()) => format!("[+]{name} ok\n"),
                Err(why) => format!("[-]{name} failed: {why}\n"),
            };
        }
        text += &format!("{endpoint} check {}\n", if failed { "failed" } else { "passed" });
    } else {
        text += "ok";
    }
    let code = if failed {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    body::text(code, text)
}
