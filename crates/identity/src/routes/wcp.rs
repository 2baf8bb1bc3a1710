//! `/wcp/*`: the sign-on protocol of a vSphere Supervisor, spoken by `kubectl vsphere`, `kubectl podvisor` and others.
//!
//! Clients disagree on spellings; every answer carries all that are known.

use super::{SignInError, Sso};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /wcp/loginbanner`
pub(super) async fn banner(State(sso): State<Arc<Sso>>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        sso.deps.banner.clone(),
    )
}

/// `POST /wcp/login`: the body is empty, a form, or JSON that may name a guest cluster.
pub(super) async fn login(
    State(sso): State<Arc<Sso>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, SignInError> {
    let who = sso.authenticate(&headers).await?;
    let body: Value = if body.iter().all(u8::is_ascii_whitespace) {
        Value::Null
    } else {
        // A form body is legal and says nothing.
        serde_json::from_slice(&body).unwrap_or(Value::Null)
    };
    let issued = sso.issue(&who)?;
    let mut answer = json!({ "session_id": issued.token, "kube_config": null });
    let cluster = body["guest_cluster_name"].as_str().unwrap_or_default();
    if !cluster.is_empty() {
        // No guest clusters are served; an empty server is the protocol's "unknown cluster".
        answer["guest_cluster_server"] = "".into();
        answer["guest_cluster_ca"] = "".into();
    }
    tracing::info!(user = who.user, "signed in");
    Ok((StatusCode::OK, Json(answer)).into_response())
}

/// `GET /wcp/workloads`
pub(super) async fn workloads(
    State(sso): State<Arc<Sso>>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, SignInError> {
    let who = sso.authenticate(&headers).await?;
    let host = sso.host(&headers, &uri);
    let port = sso.deps.api_port;
    let names: Vec<&str> = match host.parse::<std::net::IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec![host.as_str()],
    };
    let namespaces = sso.deps.directory.namespaces(&who.user, &who.groups).await?;
    let list = namespaces.iter().map(|namespace| {
        json!({
            "namespace": namespace,
            "master_host": host,
            "control_plane_api_server_port": port,
            // One known client reads the port under this name.
            "control_plane_api_sever_port": port,
            "control_plane_DNS_names": names,
            "control_plane_dns_names": names,
        })
    });
    Ok(Json(list.collect()))
}
