//! Sign-on and console: the routes beside Kubernetes' own, and the issuer of their tokens.
//!
//! On the very first start an RSA key is made and a password hashed, which take longer than everything else together.
//! The API serves meanwhile; who signs in within that moment waits for it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::config::{JwtIssuer, JwtKeys};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use identity::passwords::Passwords;
use identity::token::{self, TokenIssuer};
use tokio::sync::watch;
use tower::ServiceExt;

use super::trust::Trust;
use crate::config::Config;

/// How long a request waits for sign-on to be there.
const WAIT: Duration = Duration::from_secs(30);

/// Sign-on before it is there.
pub struct Later {
    keys: Arc<OnceLock<String>>,
    routes: watch::Sender<Option<axum::Router>>,
}

impl Default for Later {
    fn default() -> Self {
        Self {
            keys: Arc::default(),
            routes: watch::Sender::new(None),
        }
    }
}

impl Later {
    /// The API server believes sign-on tokens as those of any OpenID issuer.
    pub fn issuer(&self, config: &Config) -> JwtIssuer {
        let prefix = identity::SUBJECT_PREFIX.to_owned();
        JwtIssuer {
            issuer: token::issuer_url(&host(config.host_address.into()), identity::LOCAL_DOMAIN),
            audiences: vec![token::AUDIENCE.to_owned()],
            keys: JwtKeys::Late(Arc::clone(&self.keys)),
            username_claim: "sub".to_owned(),
            username_prefix: prefix.clone(),
            groups_claim: "group_names".to_owned(),
            groups_prefix: prefix,
        }
    }

    /// Routes that wait for the real ones.
    pub fn routes(&self) -> axum::Router {
        let routes = self.routes.subscribe();
        axum::Router::new().fallback(move |request: Request<Body>| answer(routes.clone(), request))
    }

    /// Makes or loads the key; sign-on works from then on.
    pub async fn begin(&self, config: &Config, trust: &Trust, client: kube::Client) -> Result<()> {
        let (directory, host) = (Trust::directory(config), host(config.host_address.into()));
        let made = tokio::task::spawn_blocking(move || {
            TokenIssuer::load_or_create(&directory, &host, identity::LOCAL_DOMAIN)
        });
        let issuer = made.await.context("the key of sign-on tokens was not made")?;
        let issuer = issuer.context("the key of sign-on tokens")?;
        // Nobody else sets it.
        let _ = self.keys.set(issuer.jwks().to_string());
        let sign_on = identity::routes::routes(identity::routes::Deps {
            directory: Arc::new(identity::directory::ApiDirectory::new(client)),
            issuer: Arc::new(issuer),
            passwords: Passwords::default(),
            advertised: None,
            api_port: config.api_address().port(),
            banner: String::new(),
            ca_pem: trust.authority.certificate_pem().to_owned(),
            program: std::env::current_exe().ok(),
        });
        self.routes.send_replace(Some(sign_on.merge(console::routes())));
        Ok(())
    }
}

/// The authority part of the issuer's URL.
fn host(address: IpAddr) -> String {
    address.to_string()
}

async fn answer(mut routes: watch::Receiver<Option<axum::Router>>, request: Request<Body>) -> Response {
    let there = tokio::time::timeout(WAIT, routes.wait_for(Option::is_some)).await;
    let router = there.ok().and_then(Result::ok).and_then(|router| router.clone());
    match router {
        Some(router) => match router.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "sign-on is not there yet; try again\n",
        )
            .into_response(),
    }
}
