//! Fields that field selectors may name, per resource, beside `metadata.name` and `metadata.namespace`.
//!
//! The lists are upstream's (`AddFieldLabelConversionFunc` and the strategies' `ToSelectableFields`).

use crate::view::GroupResource;

/// Where fields of Pods stand in [`Object::fields`](crate::Object::fields), for those who look at many of them.
pub mod pod {
    /// `spec.nodeName`.
    pub const NODE: usize = 0;
    /// `spec.schedulerName`.
    pub const SCHEDULER: usize = 2;
    /// `status.phase`.
    pub const PHASE: usize = 5;
    /// `status.podIP`.
    pub const ADDRESS: usize = 6;
}

const PODS: &[&str] = &[
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.nominatedNodeName",
];
const EVENTS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source.component",
    "type",
];

/// Dotted paths of a resource's selectable fields.
pub fn selectable(resource: &GroupResource) -> &'static [&'static str] {
    match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "pods") => PODS,
        ("", "events") => EVENTS,
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "replicationcontrollers") => &["status.replicas"],
        ("batch", "jobs") => &["status.succeeded"],
        ("certificates.k8s.io", "certificatesigningrequests") => &["spec.signerName"],
        ("certificates.k8s.io", "clustertrustbundles") => &["spec.signerName"],
        ("resource.k8s.io", "resourceslices") => &["spec.nodeName", "spec.driver"],
        _ => &[],
    }
}

/// What a field that is not set counts as, where that is not an empty text: a flag or a number of Go.
pub fn zero(field: &str) -> Option<&'static str> {
    match field {
        "spec.hostNetwork" | "spec.unschedulable" => Some("false"),
        "status.replicas" | "status.succeeded" => Some("0"),
        _ => None,
    }
}

/// The field that stands in for one that is not set: events of the new form name their controller, not their source.
pub fn stand_in(field: &str) -> Option<&'static str> {
    (field == "source.component").then_some("reportingComponent")
}

/// Stands for a field that may be selected by and that no object has.
pub const NOWHERE: &str = "nowhere";

/// Whether `metadata.namespace` may be selected by: some kinds that lie in none have forgotten it.
pub fn has_namespace(group: &str, resource: &str) -> bool {
    !matches!(
        (group, resource),
        ("", "nodes" | "namespaces")
            | (
                "certificates.k8s.io",
                "certificatesigningrequests" | "clustertrustbundles"
            )
            | ("resource.k8s.io", "resourceslices")
    )
}

/// The place in the stored object that a selector of a built-in kind means by a field. Events have names of their own in each
/// of their two groups.
pub fn meant<'f>(group: &str, resource: &str, field: &'f str) -> Option<&'f str> {
    match (group, resource, field) {
        ("batch", "jobs", "status.successful") => Some("status.succeeded"),
        ("batch", "jobs", "status.succeeded") => None,
        ("", "pods", "spec.host") => Some("spec.nodeName"),
        ("", "pods", "status.podIPs") => Some(NOWHERE),
        ("", "events", "source") => Some("source.component"),
        ("", "events", "source.component") => None,
        ("events.k8s.io", "events", "reason" | "type") => Some(field),
        ("events.k8s.io", "events", "reportingController") => Some("reportingComponent"),
        ("events.k8s.io", "events", _) => match field.strip_prefix("regarding.")? {
            "kind" => Some("involvedObject.kind"),
            "namespace" => Some("involvedObject.namespace"),
            "name" => Some("involvedObject.name"),
            "uid" => Some("involvedObject.uid"),
            "apiVersion" => Some("involvedObject.apiVersion"),
            "resourceVersion" => Some("involvedObject.resourceVersion"),
            "fieldPath" => Some("involvedObject.fieldPath"),
            _ => None,
        },
        _ => Some(field),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_pod_fields() {
        let places = [
            (pod::NODE, "spec.nodeName"),
            (pod::SCHEDULER, "spec.schedulerName"),
            (pod::PHASE, "status.phase"),
            (pod::ADDRESS, "status.podIP"),
        ];
        for (place, path) in places {
            assert_eq!(PODS[place], path);
        }
    }
}
