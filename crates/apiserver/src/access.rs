//! Where authentication, authorization and admission are put together with the server.

use crate::admission;
use crate::authn::Authentication;
use crate::authn::review as who;
use crate::authz::{Authorization, review as may};
use crate::cache::Caches;
use crate::config::Config;
use crate::rest::Ctx;
use crate::server::{Access, ApiServer, StartError};
use crate::wire::{Response, body};
use http::StatusCode;
use jiff::Timestamp;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// Access control as upstream's: everything on.
pub fn build(config: &Config, caches: Arc<Caches>) -> Result<Access, StartError> {
    let authentication = Authentication::new(config, caches.clone()).map_err(|e| StartError::Setting {
        field: "authentication",
        why: e.to_string(),
    })?;
    let authentication = Arc::new(authentication);
    let authorization = Authorization::new(caches);
    let admission = admission::standard(authorization.rbac(), config.admission.clone());
    Ok(Access {
        authenticator: authentication.clone(),
        authorizer: Arc::new(authorization),
        admission,
        authentication: Some(authentication),
    })
}

/// The documents by which others verify service-account tokens.
pub fn open_id(server: &ApiServer, path: &str) -> Option<Response> {
    let tokens = server.access.authentication.as_ref()?.service_accounts();
    let mut answer = if path == "/openid/v1/jwks" {
        let bytes = tokens.jwks().to_string();
        body::answer(StatusCode::OK, "application/jwk-set+json", bytes)
    } else {
        let (ip, port) = server.config.advertise;
        let host = std::net::SocketAddr::new(ip, port);
        body::json(StatusCode::OK, &tokens.discovery(&format!("https://{host}")))
    };
    // Verifiers ask often, and keys change rarely.
    let an_hour = http::HeaderValue::from_static("public, max-age=3600");
    answer.headers_mut().insert(http::header::CACHE_CONTROL, an_hour);
    Some(answer)
}

fn tokens(ctx: &Ctx) -> Result<&Authentication, Status> {
    let found = ctx.server.access.authentication.as_deref();
    found.ok_or_else(|| Status::service_unavailable("this server issues and reviews no tokens"))
}

/// Issues what `serviceaccounts/token` asks for.
pub fn token_request(ctx: &Ctx, mut request: Value) -> Result<Value, Status> {
    let caches = &*ctx.server.caches;
    let authentication = tokens(ctx)?;
    who::token_request(
        &mut request,
        ctx.namespace(),
        ctx.name(),
        authentication,
        caches,
        Timestamp::now(),
    )?;
    Ok(request)
}

/// Answers a review: the object with its status.
pub async fn review(ctx: &Ctx, mut object: Value) -> Result<Value, Status> {
    let authorizer = &*ctx.server.access.authorizer;
    match ctx.served.kind.plural {
        "tokenreviews" => who::token_review(&mut object, tokens(ctx)?)?,
        "selfsubjectreviews" => who::self_subject_review(&mut object, &ctx.user),
        "selfsubjectaccessreviews" => {
            may::self_subject_access_review(&mut object, &ctx.user, authorizer).await?;
        }
        "subjectaccessreviews" => may::subject_access_review(&mut object, authorizer).await?,
        "localsubjectaccessreviews" => {
            may::local_subject_access_review(&mut object, &ctx.attributes.namespace, authorizer).await?;
        }
        "selfsubjectrulesreviews" => {
            may::self_subject_rules_review(&mut object, &ctx.user, authorizer).await?;
        }
        _ => return Err(Status::method_not_allowed()),
    }
    Ok(object)
}
