//! Sign-on and console: the routes beside Kubernetes' own, and the issuer of their tokens.
//!
//! On the very first start an RSA key is made and a password hashed, which take longer than everything else together.
//! The API serves meanwhile; who signs in within that moment waits for it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use apiserver::config::{JwtIssuer, JwtKeys};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use identity::bootstrap::{self, Administrator};
use identity::passwords::Passwords;
use identity::token::{self, TokenIssuer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::trust::Trust;
use crate::config::Config;

/// How long a request waits for sign-on to be there.
const WAIT: Duration = Duration::from_secs(30);
/// Time between attempts where the disk or the store does not take what is made.
const RETRY: Duration = Duration::from_secs(2);

/// Sign-on before it is there.
pub struct Later {
    directory: PathBuf,
    host: String,
    api_port: u16,
    ca_pem: String,
    keys: Arc<OnceLock<String>>,
    routes: watch::Sender<Option<axum::Router>>,
}

impl Later {
    /// Sign-on of a Supervisor.
    pub fn new(config: &Config, trust: &Trust) -> Self {
        Self {
            directory: Trust::directory(config),
            // An identifier first: it must not change while tokens are out.
            host: config.host_address.to_string(),
            api_port: config.api_address().port(),
            ca_pem: trust.authority.certificate_pem().to_owned(),
            keys: Arc::default(),
            routes: watch::Sender::new(None),
        }
    }

    /// The API server believes sign-on tokens as those of any OpenID issuer.
    pub fn issuer(&self) -> JwtIssuer {
        let prefix = identity::SUBJECT_PREFIX.to_owned();
        JwtIssuer {
            issuer: token::issuer_url(&self.host, identity::LOCAL_DOMAIN),
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

    /// Makes the first user and the key, if they are missing; sign-on works from then on.
    ///
    /// # Errors
    /// A disk or a store that takes no writes; it may be tried again.
    async fn begin(&self, client: &kube::Client, first: &Administrator) -> Result<()> {
        bootstrap::administrator(client, first)
            .await
            .context("the first administrator")?;
        let (directory, host) = (self.directory.clone(), self.host.clone());
        let made = tokio::task::spawn_blocking(move || {
            TokenIssuer::load_or_create(&directory, &host, identity::LOCAL_DOMAIN)
        });
        let issuer = made.await.context("the key of sign-on tokens was not made")?;
        let issuer = issuer.context("the key of sign-on tokens")?;
        // Nobody else sets it.
        let _ = self.keys.set(issuer.jwks().to_string());
        let sign_on = identity::routes::routes(identity::routes::Deps {
            directory: Arc::new(identity::directory::ApiDirectory::new(client.clone())),
            issuer: Arc::new(issuer),
            passwords: Passwords::default(),
            advertised: None,
            api_port: self.api_port,
            banner: String::new(),
            ca_pem: self.ca_pem.clone(),
            program: std::env::current_exe().ok(),
        });
        self.routes.send_replace(Some(sign_on.merge(console::routes())));
        Ok(())
    }

    /// Tries [`Later::begin`] until it is done or `stop` comes.
    pub async fn keep_trying(self, client: kube::Client, first: Administrator, stop: CancellationToken) {
        while let Err(error) = self.begin(&client, &first).await {
            tracing::warn!(error = format!("{error:#}"), "nobody can sign in yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
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
