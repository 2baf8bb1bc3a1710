//! Validation of built-in kinds. Kinds that people write by hand are checked field by field, as upstream checks them and in
//! its words; for every other kind the metadata is checked, and what its schema calls required.

mod addresses;
mod admission;
mod autoscaling;
mod certificates;
mod conditions;
mod core;
mod cron_jobs;
mod csi;
mod devices;
mod difference;
mod embedded;
mod endpoints;
mod errors;
mod events;
mod extension;
pub use extension::{definition_names, has_usable_bundle};
mod flow;
mod internal;
pub(crate) use internal::{escaped, line as shown, list_line as shown_list};
mod jobs;
mod mandatory;
mod metadata;
pub(crate) mod names;
mod network;
mod pkcs10;
pub(crate) mod pod;
mod policy;
mod rbac;
mod required;
mod rounds;
mod selectors;
mod service;
mod signing;
mod status;
mod storage;
mod web_address;
mod workloads;

pub(crate) use certificates::blocks as pem_blocks;
pub use embedded::check as validate_embedded;
pub use mandatory::{NAMES as MANDATORY_FLOWS, mandatory_spec};
pub use service::address_errors as service_address_errors;

use crate::walk::At;
use errors::Errors;
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use rounds::Look;
use serde_json::Value;

/// What is wrong with a name that may have a domain before a slash, such as the key of an annotation.
pub fn qualified_name(name: &str) -> Vec<String> {
    names::qualified_name(name)
}

/// What is wrong with a name that stands in a path.
pub fn path_segment(name: &str) -> Vec<String> {
    names::path_segment(name)
}

/// What is wrong with a label of the older rule (RFC 1035), such as the name of a version.
pub fn dns_1035_label(name: &str) -> Vec<String> {
    names::dns_1035_label(name)
}

/// What is wrong with a name that may have dots, such as a group.
pub fn dns_subdomain(name: &str) -> Vec<String> {
    names::dns_subdomain(name)
}

/// What is wrong with the way to a webhook.
pub fn webhook_client(config: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    admission::client_config(config, at, &mut errors);
    errors.0
}

/// Checks a new object, defaults filled in. No errors means that it may be stored.
pub fn validate_create(kind: &KindInfo, obj: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    if kind.kind == "Event" {
        events::create(kind, obj, &mut errors);
        return errors.0;
    }
    metadata::create(kind, obj, &mut errors);
    metadata::builtin_finalizers(kind.group, obj, &mut errors);
    if !specific(kind, obj, &Value::Null, &mut errors) {
        required::check(kind, obj, &mut errors);
    }
    if (kind.group, kind.kind) == ("", "Pod") {
        pod::create(obj, &mut errors);
    }
    errors.0
}

/// Checks a change of an object, `sub` being the subresource that it came by.
pub fn validate_update(kind: &KindInfo, new: &Value, old: &Value, sub: Option<&str>) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::any_update(new, old, kind.namespaced, &mut errors);
    let looks = match sub {
        None => rounds::of_object(kind),
        Some(sub) => rounds::of_subresource(kind, sub),
    };
    for look in looks {
        match (look, sub) {
            (Look::Metadata, _) => {
                metadata::create(kind, new, &mut errors);
                metadata::builtin_finalizers(kind.group, new, &mut errors);
            }
            (Look::Change, _) => {
                metadata::update(new, old, &mut errors);
                metadata::builtin_finalizers(kind.group, new, &mut errors);
            }
            (Look::Content, None) => content(kind, new, old, &mut errors),
            (Look::Again, None) => content_again(kind, new, old, &mut errors),
            (Look::Kept, None) => specific_update(kind, new, old, &mut errors),
            (_, Some(sub)) => subresource(kind, new, old, sub, &mut errors),
        }
    }
    errors.0
}

/// Checks what the object that replaces `old` says.
fn content(kind: &KindInfo, new: &Value, old: &Value, errors: &mut Errors) {
    if (kind.group, kind.kind) == ("", "Pod") {
        pod::spec_update(new, old, errors);
    } else if !specific(kind, new, old, errors) {
        required::check(kind, new, errors);
    }
}

/// The same for what is looked at twice.
fn content_again(kind: &KindInfo, new: &Value, old: &Value, errors: &mut Errors) {
    match (kind.group, kind.kind) {
        ("batch", "Job") => jobs::spec_again(new, errors),
        ("", "PersistentVolume") => storage::volume(new, old, errors),
        _ => content(kind, new, old, errors),
    }
}

/// Checks what a change by way of a subresource is about.
fn subresource(kind: &KindInfo, new: &Value, old: &Value, sub: &str, errors: &mut Errors) {
    match (sub, (kind.group, kind.kind)) {
        ("ephemeralcontainers", _) => pod::ephemeral_containers(new, old, errors),
        ("resize", _) => pod::resize(new, old, errors),
        ("status", ("", "Pod")) => pod::status_update(new, old, errors),
        ("status", ("resource.k8s.io", "ResourceClaim")) => devices::claim_status(new, old, errors),
        ("status" | "approval", ("certificates.k8s.io", "CertificateSigningRequest")) => {
            signing::update(new, old, sub == "approval", errors);
        }
        ("status", ("", "PersistentVolumeClaim")) => storage::claim_status(new, errors),
        ("status", ("", "Service")) => service::status(new, old, errors),
        ("status", ("", "Node")) => {
            core::node_resources(new, errors);
            core::node_update(new, old, errors);
        }
        ("status", ("", "ResourceQuota")) => policy::quota_status(new, errors),
        ("status", ("networking.k8s.io", "Ingress")) => network::ingress_status(new, old, errors),
        ("status", ("storage.k8s.io", "VolumeAttachment")) => csi::attachment_status(new, errors),
        ("status", ("flowcontrol.apiserver.k8s.io", _)) => flow::status(new, errors),
        ("status", ("apiextensions.k8s.io", _)) => {
            let at = Path::new("status").child("acceptedNames");
            errors
                .0
                .extend(extension::definition_names(new.at("status.acceptedNames"), &at));
        }
        ("status", _) => status::check(kind, new, old, errors),
        ("finalize", ("", "Namespace")) => core::finalized(new, errors),
        _ => {}
    }
}

/// Checks what any update does to metadata, before whatever a kind has to say.
pub fn validate_any_update(new: &Value, old: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::any_update(new, old, namespaced, &mut errors);
    errors.0
}

/// Checks metadata alone: for instances of custom kinds, whose rest is checked by another schema.
pub fn validate_metadata(obj: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let meta = obj.at("metadata");
    metadata::check(
        meta,
        !meta.str_at("namespace").is_empty(),
        names::dns_subdomain,
        &Path::new("metadata"),
        &mut errors,
    );
    errors.0
}

/// Checks what an update does to metadata alone, as [`validate_metadata`] does for a new object.
pub fn validate_metadata_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    metadata::update(new, old, &mut errors);
    errors.0
}

/// Runs the hand-written checks of a kind; `old` is what an update replaces, else null. False: there are none. Pods have
/// their own ways.
fn specific(kind: &KindInfo, obj: &Value, old: &Value, errors: &mut Errors) -> bool {
    let spec_at = Path::new("spec");
    let spec = obj.at("spec");
    match (kind.group, kind.kind) {
        ("", "Pod") => {}
        ("" | "events.k8s.io", "Event") => {
            events::check(obj, !kind.group.is_empty(), errors);
        }
        ("", "PodTemplate") => pod::template(obj.at("template"), &Path::new("template"), errors),
        ("", "Namespace") => core::namespace(obj, errors),
        ("", "ConfigMap") => core::config_map(obj, errors),
        ("", "Secret") => core::secret(obj, errors),
        // Its metadata alone is looked at.
        ("", "ServiceAccount") => {}
        ("", "Node") => core::node(obj, errors),
        ("", "ResourceQuota") => policy::quota(spec, &spec_at, errors),
        ("", "LimitRange") => policy::limit_range(spec, &spec_at, errors),
        ("", "Service") => service::service(obj, old, errors),
        ("", "Endpoints") => endpoints::endpoints(obj, errors),
        ("", "ReplicationController") => workloads::replication_controller(spec, &spec_at, errors),
        ("", "PersistentVolume") => {
            storage::volume(obj, old, errors);
            storage::mount_options(obj, errors);
        }
        ("", "PersistentVolumeClaim") => storage::claim_spec(spec, &spec_at, errors),
        ("apps", "Deployment") => workloads::deployment(spec, &spec_at, errors),
        ("apps", "ReplicaSet") => workloads::replica_set(spec, &spec_at, errors),
        ("apps", "StatefulSet") => workloads::stateful_set(spec, old, &spec_at, errors),
        ("apps", "DaemonSet") => workloads::daemon_set(spec, &spec_at, errors),
        ("apps", "ControllerRevision") => extension::controller_revision(obj, old, errors),
        ("batch", "Job") => jobs::job(obj, errors),
        ("batch", "CronJob") => cron_jobs::cron_job(obj, old, errors),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::slice(obj, old, errors),
        ("networking.k8s.io", "NetworkPolicy") => {
            network::network_policy(spec, old.at("spec"), &spec_at, errors)
        }
        ("networking.k8s.io", "IPAddress") => addresses::address(spec, &spec_at, errors),
        ("networking.k8s.io", "ServiceCIDR") if old.is_null() => addresses::range(spec, &spec_at, errors),
        ("networking.k8s.io", "ServiceCIDR") => {}
        ("networking.k8s.io", "Ingress") => network::ingress(obj, old, errors),
        ("networking.k8s.io", "IngressClass") => network::ingress_class(spec, old, &spec_at, errors),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::role(kind, obj, errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding(kind, obj, errors)
        }
        ("coordination.k8s.io", "Lease") => extension::lease(spec, &spec_at, errors),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(spec, &spec_at, errors),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            autoscaling::autoscaler(obj, old, kind.version, errors);
        }
        ("storage.k8s.io", "StorageClass") => storage::class(obj, errors),
        ("scheduling.k8s.io", "PriorityClass") => extension::priority_class(obj, old, errors),
        ("node.k8s.io", "RuntimeClass") => extension::runtime_class(obj, errors),
        // It is checked as a whole by those who serve it.
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {}
        ("apiregistration.k8s.io", "APIService") => extension::api_service(obj, errors),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            extension::signing_request(spec, &spec_at, errors)
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => certificates::trust_bundle(obj, errors),
        ("podvisor.io", "SupervisorNamespace") => extension::supervisor_namespace(spec, &spec_at, errors),
        ("podvisor.io", "VirtualIPPool") => extension::virtual_ip_pool(spec, &spec_at, errors),
        ("podvisor.io", "User") => extension::user(obj, errors),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => admission::webhooks(obj, errors),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            admission::policy(spec, &spec_at, errors)
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => {
            admission::policy(spec, &spec_at, errors);
            admission::mutating_policy(spec, &spec_at, errors);
        }
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => admission::binding(kind, spec, &spec_at, errors),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow::schema(obj, errors),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flow::level(obj, errors),
        ("storage.k8s.io", "CSIDriver") => csi::driver(obj, errors),
        ("storage.k8s.io", "CSINode") => csi::node(spec, &spec_at, errors),
        ("storage.k8s.io", "CSIStorageCapacity") => csi::capacity(obj, errors),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment(spec, &spec_at, errors),
        ("storage.k8s.io", "VolumeAttributesClass") => csi::attributes_class(obj, errors),
        ("resource.k8s.io", "ResourceClaim") => devices::claim(spec, &spec_at, errors),
        ("resource.k8s.io", "ResourceClaimTemplate") => {
            metadata::of_template(spec.at("metadata"), &spec_at.child("metadata"), errors);
            devices::claim(spec.at("spec"), &spec_at.child("spec"), errors);
        }
        ("resource.k8s.io", "DeviceClass") => devices::class(spec, &spec_at, errors),
        ("resource.k8s.io", "ResourceSlice") => devices::slice(spec, old.at("spec"), &spec_at, errors),
        _ => return false,
    }
    true
}

/// What may not change about a kind once it is made.
fn specific_update(kind: &KindInfo, new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    match (kind.group, kind.kind) {
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => {
            selectors::immutable(new_spec, old_spec, &at, errors);
        }
        ("apps", "StatefulSet") => workloads::stateful_set_update(new_spec, old_spec, &at, errors),
        ("apps", "ControllerRevision") => errors.immutable_top(new, old, "data"),
        ("batch", "Job") => jobs::job_update(new, old, errors),
        ("", "ConfigMap") => core::immutable_data(new, old, &["data", "binaryData"], errors),
        ("", "Secret") => {
            errors.immutable_top(new, old, "type");
            core::immutable_data(new, old, &["data"], errors);
        }
        ("", "Node") => core::node_update(new, old, errors),
        ("events.k8s.io", "Event") => events::update(new, old, errors),
        ("", "PersistentVolume") => storage::volume_update(new, old, errors),
        ("", "PersistentVolumeClaim") => storage::claim_update(new, old, errors),
        ("", "ResourceQuota") => policy::quota_update(new_spec, old_spec, &at, errors),
        ("discovery.k8s.io", "EndpointSlice") => errors.immutable_top(new, old, "addressType"),
        ("networking.k8s.io", "IPAddress") => {
            let (parent, before) = (new_spec.at("parentRef"), old_spec.at("parentRef"));
            if !crate::walk::same(parent, before) {
                let shown = match parent {
                    Value::Null => "null".to_owned(),
                    parent => internal::line("ParentReference", parent),
                };
                errors.invalid_shown(&at.child("parentRef"), &shown, errors::IMMUTABLE);
            }
        }
        ("networking.k8s.io", "ServiceCIDR") => addresses::range_update(new_spec, old_spec, &at, errors),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding_update(new, old, errors)
        }
        ("resource.k8s.io", "ResourceClaim" | "ResourceClaimTemplate")
            if !crate::walk::same(new_spec, old_spec) =>
        {
            let shown = internal::line(&format!("{}Spec", kind.kind), new_spec);
            errors.invalid_shown(&at, &shown, errors::IMMUTABLE);
        }
        ("storage.k8s.io", "StorageClass") => storage::class_update(new, old, errors),
        ("storage.k8s.io", "CSIDriver") => csi::driver_update(new_spec, old_spec, &at, errors),
        ("storage.k8s.io", "CSINode") => csi::node_update(new_spec, old_spec, &at, errors),
        ("storage.k8s.io", "CSIStorageCapacity") => {
            let topology = new.at("nodeTopology");
            if !crate::walk::same(topology, old.at("nodeTopology")) {
                let shown = selectors::shown(topology);
                errors.invalid_shown(&Path::new("nodeTopology"), &shown, errors::IMMUTABLE);
            }
            errors.immutable_top(new, old, "storageClassName");
        }
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment_update(new_spec, old_spec, &at, errors),
        ("storage.k8s.io", "VolumeAttributesClass") => {
            for (field, text) in [
                ("driverName", "updates to driverName are forbidden."),
                ("parameters", "updates to parameters are forbidden."),
            ] {
                if !crate::walk::same(new.at(field), old.at(field)) {
                    errors.forbidden(&Path::new(field), text);
                }
            }
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => certificates::trust_bundle_update(new, old, errors),
        ("scheduling.k8s.io", "PriorityClass") => extension::priority_class_update(new, old, errors),
        ("node.k8s.io", "RuntimeClass") => errors.immutable_top(new, old, "handler"),
        _ => {}
    }
}
