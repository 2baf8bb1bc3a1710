//! `/openidconnect/*`: the documents by which anyone can verify a sign-on token.

use super::Sso;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;
use std::sync::Arc;

/// `GET /openidconnect/jwks/DOMAIN`
pub(super) async fn jwks(
    State(sso): State<Arc<Sso>>,
    Path(domain): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    if domain != sso.deps.issuer.domain() {
        return Err(StatusCode::NOT_FOUND);
    }
    Ok(Json(sso.deps.issuer.jwks().clone()))
}

/// `GET /openidconnect/DOMAIN/.well-known/openid-configuration`
pub(super) async fn discovery(
    State(sso): State<Arc<Sso>>,
    Path(domain): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    if domain != sso.deps.issuer.domain() {
        return Err(StatusCode::NOT_FOUND);
    }
    Ok(Json(sso.deps.issuer.discovery()))
}
