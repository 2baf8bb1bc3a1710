//! Admission: the steps between authorization and storage that may change or refuse a write, in upstream's order.
//!
//! All mutating halves run first, then the object is validated by its kind's rules, then all validating halves.
//! ResourceQuota stands last, so that nothing is reserved for a write another step refuses.
//!
//! | step | what it does |
//! |---|---|
//! | [`namespace`] | no new objects in absent or terminating namespaces; system namespaces stay |
//! | [`limits`] | LimitRanger: default requests and limits, minimum, maximum, ratio |
//! | [`account`] | ServiceAccount: the account of a Pod, its token volume, pull secrets, which Secrets it may use |
//! | [`restriction`] | NodeRestriction: a host agent writes its own Node and Pods only |
//! | [`scheduling`] | Priority, DefaultTolerationSeconds, TaintNodesByCondition, RuntimeClass |
//! | [`security`] | PodSecurity: enforce, audit, warn |
//! | [`storage`] | DefaultStorageClass, PersistentVolumeClaimResize, StorageObjectInUseProtection, DefaultIngressClass |
//! | [`certificates`] | CertificateApproval, CertificateSigning, CertificateSubjectRestriction |
//! | [`policy`] | MutatingAdmissionPolicy (before the webhooks), ValidatingAdmissionPolicy |
//! | [`hooks`] | MutatingAdmissionWebhook, ValidatingAdmissionWebhook |
//! | [`crate::authz::escalation`] | nobody hands out more rights than they have; the last of the mutating steps |
//! | [`quota`] | ResourceQuota, exact under concurrency |
//!
//! To add a step: implement [`AdmissionPlugin`] in a module of its own, put it into [`standard`] at upstream's
//! place, and add its cases to `tests.rs`.

pub mod account;
pub mod certificates;
pub(crate) mod devices;
pub(crate) mod expressions;
pub(crate) mod hooks;
pub mod limits;
pub(crate) mod matching;
pub(crate) mod mountable;
pub mod namespace;
pub(crate) mod pod;
pub(crate) mod policy;
pub mod quota;
pub mod restriction;
pub mod scheduling;
pub mod security;
pub mod storage;

use crate::admit::{AdmissionPlugin, AdmissionRequest};
use crate::authz::escalation::Escalation;
use crate::authz::rbac::Rbac;
use kinds::status::Status;
use serde_json::Value;
use std::sync::Arc;

/// An object with its fields in this order, as upstream prints what it writes into the audit log.
pub(crate) fn in_order(fields: &[(&str, Value)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

/// Upstream's default steps, in order; `extra` ones run before the quota.
pub fn standard(rbac: Arc<Rbac>, extra: Vec<Arc<dyn AdmissionPlugin>>) -> Vec<Arc<dyn AdmissionPlugin>> {
    let mut plugins: Vec<Arc<dyn AdmissionPlugin>> = vec![
        Arc::new(namespace::NamespaceLifecycle),
        Arc::new(limits::LimitRanger),
        Arc::new(account::ServiceAccount),
        Arc::new(restriction::NodeRestriction),
        Arc::new(scheduling::TaintNodesByCondition),
        Arc::new(security::PodSecurity),
        Arc::new(scheduling::Priority),
        Arc::new(scheduling::DefaultTolerationSeconds),
        Arc::new(storage::DefaultStorageClass),
        Arc::new(storage::StorageObjectInUseProtection),
        Arc::new(storage::PersistentVolumeClaimResize),
        Arc::new(scheduling::RuntimeClass),
        Arc::new(certificates::Certificates::new(rbac.clone())),
        Arc::new(storage::DefaultIngressClass),
        Arc::new(scheduling::PodTopologyLabels),
    ];
    plugins.extend(extra);
    plugins.push(Arc::new(policy::MutatingPolicy::default()));
    plugins.push(Arc::new(hooks::MutatingWebhook::default()));
    plugins.push(Arc::new(Escalation::new(rbac)));
    plugins.push(Arc::new(policy::ValidatingPolicy::default()));
    plugins.push(Arc::new(hooks::ValidatingWebhook::default()));
    plugins.push(Arc::new(quota::ResourceQuota::default()));
    plugins
}

/// The objects that the steps expect to exist from the beginning: the system's PriorityClasses.
pub fn bootstrap_objects() -> Vec<Value> {
    scheduling::system_priority_classes()
}

/// A refusal by admission: 403 about the object of the request, by its name, or its `generateName` when it has none yet.
pub(crate) fn forbidden(request: &AdmissionRequest<'_>, why: impl std::fmt::Display) -> Status {
    let a = request.attributes;
    let of = |object: &Value, key: &str| {
        object["metadata"][key]
            .as_str()
            .filter(|s| !s.is_empty())
            .map(str::to_string)
    };
    let name = of(request.object, "name")
        .or_else(|| (!a.name.is_empty()).then(|| a.name.clone()))
        .or_else(|| of(request.object, "generateName"))
        .unwrap_or_else(|| "Unknown".to_string());
    Status::forbidden(&a.resource, &a.group, &name, why)
}

/// Whether the request writes objects of this resource itself, not of a subresource.
pub(crate) fn is_on(request: &AdmissionRequest<'_>, group: &str, resource: &str) -> bool {
    let a = request.attributes;
    a.group == group && a.resource == resource && a.subresource.is_empty()
}

#[cfg(test)]
mod tests;
