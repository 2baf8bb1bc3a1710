//! NamespaceLifecycle: nothing new in a namespace that does not exist or is going away; the system's own namespaces,
//! and its other objects that a cluster cannot be without, stay.

use super::forbidden;
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::status::Status;
use std::time::Duration;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];
/// Other objects of the system that cannot be deleted: group, resource, names, and what they are called then. Upstream's
/// registries refuse them, whoever asks.
const SYSTEM: [(&str, &str, &[&str], &str); 1] = [(
    "scheduling.k8s.io",
    "priorityclasses",
    &["system-node-critical", "system-cluster-critical"],
    "priority class",
)];
/// How long a namespace made a moment ago may take to show in the view.
const PATIENCE: [Duration; 5] = [Duration::from_millis(10); 5];

/// The step.
pub struct NamespaceLifecycle;

#[async_trait]
impl AdmissionPlugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let a = request.attributes;
        let is_namespace = a.group.is_empty() && a.resource == "namespaces";
        if request.operation == Operation::Delete && is_namespace && IMMORTAL.contains(&a.name.as_str()) {
            return Err(forbidden(request, "this namespace may not be deleted"));
        }
        if request.operation == Operation::Delete
            && a.subresource.is_empty()
            && let Some((.., what)) = SYSTEM.iter().find(|(group, resource, names, _)| {
                a.group == *group && a.resource == *resource && names.contains(&a.name.as_str())
            })
        {
            return Err(forbidden(
                request,
                format!("this is a system {what} and cannot be deleted"),
            ));
        }
        if a.namespace.is_empty() || is_namespace {
            return Ok(Vec::new());
        }
        // Deletions go on in a namespace that is going away, and reviews store nothing.
        if matches!(request.operation, Operation::Delete | Operation::Connect)
            || a.group == "authorization.k8s.io"
        {
            return Ok(Vec::new());
        }
        let namespaces = GroupResource::new("", "namespaces");
        let mut found = view.get(&namespaces, None, &a.namespace);
        for pause in PATIENCE {
            if found.is_some() {
                break;
            }
            tokio::time::sleep(pause).await;
            found = view.get(&namespaces, None, &a.namespace);
        }
        let Some(namespace) = found else {
            return Err(Status::not_found("namespaces", "", &a.namespace));
        };
        let terminating = namespace["metadata"]
            .get("deletionTimestamp")
            .is_some_and(|t| !t.is_null())
            || namespace["status"]["phase"] == "Terminating";
        if request.operation == Operation::Create && terminating {
            let name = &a.namespace;
            let status = forbidden(
                request,
                format!("unable to create new content in namespace {name} because it is being terminated"),
            );
            return Err(status.with_cause(
                "NamespaceTerminating",
                format!("namespace {name} is being terminated"),
                "metadata.namespace",
            ));
        }
        Ok(Vec::new())
    }
}
