//! The API server as a `tower` service, for clients in the same process: no socket, no TLS, the same rules.

use crate::connection::Connection;
use crate::server::ApiServer;
use crate::user::User;
use crate::wire::{Body, BoxError, body};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Requests sent through it come from one user; they are authorized and admitted like any other.
#[derive(Clone)]
pub struct LocalService {
    server: Arc<ApiServer>,
    connection: Arc<Connection>,
}

impl ApiServer {
    /// A service for `kube::Client::new(service, "default")` that acts as `user`.
    pub fn local_service(self: &Arc<Self>, user: User) -> LocalService {
        let connection = Connection {
            local_user: Some(user),
            ..Connection::default()
        };
        LocalService {
            server: self.clone(),
            connection: Arc::new(connection),
        }
    }
}

impl<B> tower::Service<http::Request<B>> for LocalService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (server, connection) = (self.server.clone(), self.connection.clone());
        Box::pin(async move { Ok(server.handle(request.map(body::adopt), connection).await) })
    }
}
