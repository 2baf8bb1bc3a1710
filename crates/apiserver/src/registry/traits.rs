//! The knobs in which resources differ, as upstream's registry strategies set them.

use kinds::KindInfo;

/// How one resource differs from the common behaviour.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traits {
    /// PUT of a name that does not exist creates it.
    pub create_on_update: bool,
    /// PUT needs a resourceVersion.
    pub version_required: bool,
    /// An immediate deletion answers the object instead of a Status.
    pub returns_deleted: bool,
    /// Dependents are orphaned unless the client says otherwise.
    pub orphans_by_default: bool,
}

const CREATE_ON_UPDATE: [(&str, &str); 11] = [
    ("", "endpoints"),
    ("", "events"),
    ("", "limitranges"),
    ("", "services"),
    ("events.k8s.io", "events"),
    ("coordination.k8s.io", "leases"),
    ("node.k8s.io", "runtimeclasses"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

const VERSION_REQUIRED: [(&str, &str); 16] = [
    ("coordination.k8s.io", "leases"),
    ("policy", "poddisruptionbudgets"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("apiregistration.k8s.io", "apiservices"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
    ),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "csistoragecapacities"),
    ("storage.k8s.io", "volumeattachments"),
    ("node.k8s.io", "runtimeclasses"),
    ("certificates.k8s.io", "clustertrustbundles"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
];

const RETURNS_DELETED: [(&str, &str); 16] = [
    ("", "pods"),
    ("", "services"),
    ("", "serviceaccounts"),
    ("", "podtemplates"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "resourcequotas"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
];

/// The traits of a built-in kind.
pub fn of(kind: &KindInfo) -> Traits {
    let here = (kind.group, kind.plural);
    Traits {
        create_on_update: CREATE_ON_UPDATE.contains(&here),
        version_required: VERSION_REQUIRED.contains(&here),
        returns_deleted: RETURNS_DELETED.contains(&here),
        orphans_by_default: here == ("batch", "jobs") || here == ("", "replicationcontrollers"),
    }
}

/// The traits of all custom resources.
pub fn custom() -> Traits {
    Traits {
        version_required: true,
        ..Traits::default()
    }
}
