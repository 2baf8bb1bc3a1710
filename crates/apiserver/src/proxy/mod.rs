//! Requests that end elsewhere: logs and streams at the host agent, `proxy` at nodes, Pods and Services.
//!
//! The user's own credentials never leave this server; the agent sees its client certificate.

mod agent;
mod connect;
mod exchange;
mod frames;
mod links;
mod log_options;
mod pods;
mod target;

pub use agent::{Agents, Lines, Stream};
pub use exchange::{Outgoing, exchange, get_from, no_redirect};

use crate::dispatch::Incoming;
use crate::rest::Ctx;
use crate::server::ApiServer;
use crate::wire::Response;
use kinds::status::Status;

/// Answers `log`, `exec`, `attach`, `portforward` and `proxy`.
pub async fn subresource(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    match (ctx.served.kind.plural, ctx.attributes.subresource.as_str()) {
        ("pods", "log") => pods::log(ctx, incoming).await,
        ("pods", "exec" | "attach" | "portforward") => pods::stream(ctx, incoming).await,
        ("nodes" | "pods" | "services", "proxy") => target::proxy(ctx, incoming).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Time for a host agent to answer a question of the server's own.
const ASK: std::time::Duration = std::time::Duration::from_secs(5);

/// A JSON document of a host agent.
pub async fn agent_json(server: &ApiServer, node: &str, path: &str) -> Result<serde_json::Value, Status> {
    let ask = async {
        let bytes = agent_lines(server, node, path).await?.all().await?;
        serde_json::from_slice(&bytes).map_err(|e| Status::internal(e.to_string()))
    };
    tokio::time::timeout(ASK, ask)
        .await
        .map_err(|_| Status::timeout("the host agent did not answer", 0))?
}

/// A streaming answer of a host agent, line by line.
pub async fn agent_lines(server: &ApiServer, node: &str, path: &str) -> Result<Lines, Status> {
    let (stream, host) = server.agents.dial(&*server.caches, node).await?;
    let outgoing = Outgoing {
        method: http::Method::GET,
        path: path.to_string(),
        headers: http::HeaderMap::new(),
        add: http::HeaderMap::new(),
        body: crate::wire::body::full(bytes::Bytes::new()),
        upgrade: None,
    };
    let response = exchange(stream, &host, outgoing).await?;
    if !response.status().is_success() {
        return Err(Status::internal(format!(
            "the host agent answered {}",
            response.status()
        )));
    }
    Ok(Lines::new(response.into_body()))
}
