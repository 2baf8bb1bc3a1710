//! Requests that end elsewhere: logs and streams at the host agent, `proxy` at nodes, Pods and Services.
//!
//! The user's own credentials never leave this server; the agent sees its client certificate.

mod agent;
mod exchange;
mod pods;
mod target;

pub use agent::Agents;

use crate::dispatch::Incoming;
use crate::request::Attributes;
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
        _ => Err(crate::dispatch::method_not_supported(ctx)),
    }
}

/// Whether an APIService claims the group and version of a request. None of them can be reached yet by this server,
/// so such a request is answered with 503 instead of 404.
pub fn aggregated(server: &ApiServer, attributes: &Attributes) -> bool {
    use crate::view::{GroupResource, View};
    let name = format!("{}.{}", attributes.version, attributes.group);
    let resource = GroupResource::new("apiregistration.k8s.io", "apiservices");
    let found = server.caches.get(&resource, None, &name);
    found.is_some_and(|s| s.pointer("/spec/service").is_some_and(|s| !s.is_null()))
}
