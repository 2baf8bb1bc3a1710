//! Runtime classes. A host has one runtime, by its own name or by none; a Pod whose class names the handler of another
//! waits, as on a node whose container runtime was not told of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use super::Context;
use crate::events::Kind;

/// Handlers that classes may name; without a class it is the first.
pub const HANDLERS: [&str; 2] = ["", "podvisor"];
/// Pause between attempts (kubelet: `backOffPeriod`).
const PAUSE: Duration = Duration::from_secs(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Waits until the class of the Pod, if it names one, has a handler of this host.
pub async fn wait(context: &Context, pod: &Pod) {
    let class = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|name| !name.is_empty()) else {
        return;
    };
    let classes: Api<RuntimeClass> = Api::all(context.deps.client.clone());
    loop {
        let problem = match tokio::time::timeout(ANSWER, classes.get_opt(class)).await {
            Ok(Ok(Some(found))) if HANDLERS.contains(&found.handler.as_str()) => return,
            Ok(Ok(Some(found))) => format!(
                "rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for {:?} is configured",
                found.handler
            ),
            Ok(Ok(None)) => format!("runtimeclass.node.k8s.io {class:?} not found"),
            Ok(Err(error)) => format!("failed to lookup RuntimeClass {class}: {error}"),
            Err(_) => format!("failed to lookup RuntimeClass {class}: no answer"),
        };
        let message = format!("Failed to create pod sandbox: {problem}");
        context
            .recorder
            .pod(pod, Kind::Warning, "FailedCreatePodSandBox", message);
        tokio::time::sleep(PAUSE).await;
    }
}
