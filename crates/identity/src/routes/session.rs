//! `/podvisor/session`: the console's sign-in. The session is the token; ending it means forgetting it.

use super::{SignInError, SignedIn, Sso};
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The largest body looked at, in bytes.
const MAX_BODY: usize = 16 * 1024;

#[derive(Deserialize)]
struct Form {
    username: String,
    password: String,
}

/// `POST /podvisor/session` `{username, password}` to `{token, username, groups, expires}`.
pub(super) async fn create(State(sso): State<Arc<Sso>>, body: Bytes) -> Response {
    let form = match serde_json::from_slice::<Form>(&body) {
        Ok(form) if body.len() <= MAX_BODY => form,
        _ => {
            let hint = json!({ "error": "expected JSON with username and password" });
            return (StatusCode::BAD_REQUEST, Json(hint)).into_response();
        }
    };
    let answer = async {
        let who = sso.sign_in(&form.username, &form.password).await?;
        let issued = sso.issue(&who)?;
        Ok::<_, SignInError>(json!({
            "token": issued.token,
            "username": who.user,
            "groups": who.groups,
            "expires": issued.expires,
        }))
    };
    match answer.await {
        Ok(answer) => (StatusCode::CREATED, Json(answer)).into_response(),
        Err(error) => {
            let mut response = error.into_response();
            // With this header a browser would open its own password box over the console's.
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
            response
        }
    }
}

/// `GET /podvisor/session`: who the presented token is.
pub(super) async fn show(State(sso): State<Arc<Sso>>, headers: HeaderMap) -> Response {
    match sso.authenticate(&headers).await {
        Ok(SignedIn { user, groups }) => Json(json!({ "username": user, "groups": groups })).into_response(),
        Err(error) => {
            let mut response = error.into_response();
            response.headers_mut().remove(header::WWW_AUTHENTICATE);
            response
        }
    }
}

/// `DELETE /podvisor/session`: accepted, so clients have something to call; tokens are not kept here.
pub(super) async fn end() -> StatusCode {
    StatusCode::NO_CONTENT
}
