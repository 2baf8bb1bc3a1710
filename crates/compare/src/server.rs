//! Our API server alone in this process: its admission is upstream's, no controllers run, everybody may do everything.

use anyhow::Result;
use apiserver::admit::Notes;
use apiserver::authorize::{Authorizer, Decision, Rules};
use apiserver::config::Config;
use apiserver::connection::{Authenticator, Connection};
use apiserver::request::Attributes;
use apiserver::user::User;
use apiserver::{Access, ApiServer, admission};
use async_trait::async_trait;
use kinds::status::Status;
use std::net::SocketAddr;
use std::sync::Arc;
use store::memory::MemoryStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Everybody is the administrator that the other server knows.
struct Open;

#[async_trait]
impl Authenticator for Open {
    async fn authenticate(
        &self,
        _: &http::request::Parts,
        _: &Connection,
        _: &Notes,
    ) -> Result<User, Status> {
        Ok(User::new("admin", &["system:masters"]))
    }
}

#[async_trait]
impl Authorizer for Open {
    async fn authorize(&self, _: &User, _: &Attributes) -> Decision {
        Decision::Allow(String::new())
    }

    async fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    api: Arc<ApiServer>,
    stop: CancellationToken,
    /// Where it listens, in the clear.
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.api.stop();
    }
}

impl Server {
    /// Starts it on an empty store in memory.
    pub async fn start() -> Result<Server> {
        let mut config = Config::new("compare", Arc::new(MemoryStore::new()));
        // One client sends everything.
        config.max_requests_per_user = 4096;
        let access = |config: &Config, caches: Arc<apiserver::cache::Caches>| {
            let rbac = Arc::new(apiserver::authz::rbac::Rbac::new(caches));
            Ok(Access {
                authenticator: Arc::new(Open),
                authorizer: Arc::new(Open),
                admission: admission::standard(rbac, config.admission.clone()),
                authentication: None,
            })
        };
        let api = ApiServer::start_with(config, access).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        tokio::spawn(api.clone().serve_plain(listener, stop.clone()));
        Ok(Server { api, stop, address })
    }
}
