//! Defaulting: what upstream's `SetDefaults_*` functions fill in, kind by kind. Defaults are not part of the published
//! schema, so they are written here by hand. Running it twice changes nothing (a property test holds it to that), since
//! every object is defaulted again after each patch.

mod core;
mod extension;
mod image;
mod pod;
mod workloads;

pub(crate) use self::core::name_label;
pub(crate) use self::workloads::job_labels;
use crate::walk::{At, or_set, or_set_empty, set};
use kinds::KindInfo;
use serde_json::{Value, json};

/// Fills in the defaults of the object's kind and version, and writes it as Go's encoder would. Idempotent.
pub fn default(kind: &KindInfo, obj: &mut Value) {
    fill_in(kind, obj);
    crate::form::write(kind, obj);
}

fn fill_in(kind: &KindInfo, obj: &mut Value) {
    match (kind.group, kind.kind) {
        ("", "Pod") => {
            pod::pod(obj);
            // As soon as possible.
            if obj
                .int_at("spec.terminationGracePeriodSeconds")
                .is_some_and(|grace| grace < 0)
            {
                set(obj, "spec.terminationGracePeriodSeconds", 1);
            }
        }
        ("", "PodTemplate") => pod::template(obj, "template"),
        ("", "Service") => core::service(obj),
        ("", "Endpoints") => core::endpoints(obj),
        ("", "Secret") => core::secret(obj),
        ("", "Namespace") => core::namespace(obj),
        ("", "Node") => core::node(obj),
        ("", "PersistentVolume") => core::volume(obj),
        ("", "PersistentVolumeClaim") => core::claim(obj),
        ("", "ReplicationController") => workloads::replication_controller(obj),
        ("", "LimitRange") => core::limit_range(obj),
        ("", "ResourceQuota") => core::quantities_of_quota(obj),
        ("apps", "Deployment") => workloads::deployment(obj),
        ("apps", "ReplicaSet") => workloads::replica_set(obj),
        ("apps", "StatefulSet") => workloads::stateful_set(obj),
        ("apps", "DaemonSet") => workloads::daemon_set(obj),
        ("batch", "Job") => workloads::job(obj),
        ("batch", "CronJob") => workloads::cron_job(obj),
        ("autoscaling", "HorizontalPodAutoscaler") => extension::autoscaler(obj, kind.version),
        ("discovery.k8s.io", "EndpointSlice") => core::endpoint_slice(obj),
        ("networking.k8s.io", "NetworkPolicy") => extension::network_policy(obj),
        ("networking.k8s.io", "IngressClass") => extension::ingress_class(obj),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => extension::role_binding(obj),
        ("storage.k8s.io", "StorageClass") => {
            or_set(obj, "reclaimPolicy", "Delete");
            or_set(obj, "volumeBindingMode", "Immediate");
        }
        ("storage.k8s.io", "VolumeAttachment") => {
            if let Some(spec) = crate::walk::get_mut(obj, "spec.source.inlineVolumeSpec") {
                pod::volume_source(spec);
            }
        }
        ("storage.k8s.io", "CSIDriver") => extension::csi_driver(obj),
        ("scheduling.k8s.io", "PriorityClass") => {
            or_set(obj, "preemptionPolicy", "PreemptLowerPriority");
        }
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => extension::webhooks(obj, false),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => extension::webhooks(obj, true),
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicy"
            | "MutatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding"
            | "MutatingAdmissionPolicyBinding",
        ) => extension::admission_policy(obj, kind.kind),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => extension::custom_resource_definition(obj),
        ("apiregistration.k8s.io", "APIService") if obj.has("spec.service") => {
            or_set(obj, "spec.service.port", 443);
        }
        ("flowcontrol.apiserver.k8s.io", "FlowSchema")
            if obj.int_at("spec.matchingPrecedence").unwrap_or(0) == 0 =>
        {
            set(obj, "spec.matchingPrecedence", 1000);
        }
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => extension::priority_level(obj),
        ("resource.k8s.io", "ResourceClaim") => {
            extension::device_requests(obj, "spec.devices");
            crate::walk::each_mut(obj, "status.allocation.devices.results", |result| {
                crate::walk::each_mut(result, "tolerations", |t| or_set_empty(t, "operator", "Equal"));
            });
        }
        ("resource.k8s.io", "ResourceClaimTemplate") => extension::device_requests(obj, "spec.spec.devices"),
        ("authentication.k8s.io", "TokenRequest") => or_set(obj, "spec.expirationSeconds", 3600),
        ("podvisor.io", "SupervisorNamespace") => {
            crate::walk::each_mut(obj, "spec.permissions", |p| or_set_empty(p, "kind", "User"));
            for field in ["limits", "containerDefaults"] {
                if obj.at("spec").get(field).is_some_and(Value::is_null) {
                    set(obj, &format!("spec.{field}"), json!({}));
                }
            }
        }
        _ => {}
    }
}
