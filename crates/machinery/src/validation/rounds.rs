//! In what order upstream looks at a change, and how often: its strategies check the metadata of every kind, and then call
//! validators that check it again, some twice, and some the rest of the object twice as well. Clients see each finding
//! among the causes of a refusal. Sources: `BeforeUpdate` of `apiserver/pkg/registry/rest`, `ValidateUpdate` of
//! `pkg/registry/*/strategy.go`, and the validators that those call, of Kubernetes v1.35.

use kinds::KindInfo;

/// One look at a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// The metadata as that of a new object.
    Metadata,
    /// The metadata beside that of before.
    Change,
    /// What the object says, as if it were new.
    Content,
    /// Once more, without what is looked at the first time alone.
    Again,
    /// What an update must leave alone.
    Kept,
}

use Look::{Again, Change, Content, Kept, Metadata};

/// The looks at an object that is replaced, after those at any.
pub(super) fn of_object(kind: &KindInfo) -> &'static [Look] {
    match (kind.group, kind.kind) {
        ("policy", "PodDisruptionBudget") => &[Content],
        ("", "Event") => &[Content],
        ("events.k8s.io", "Event") => &[Content, Change, Kept],
        ("batch", "Job") => &[Metadata, Content, Change, Again, Kept],
        ("", "PersistentVolume") => &[Metadata, Content, Metadata, Again, Kept],
        ("apps", "DaemonSet") => &[Change, Kept, Content],
        ("", "ConfigMap" | "Secret")
        | ("storage.k8s.io", "VolumeAttributesClass")
        | ("networking.k8s.io", "IngressClass") => &[Change, Kept, Metadata, Content],
        ("", "ServiceAccount" | "Endpoints" | "PersistentVolumeClaim")
        | ("apps", "ControllerRevision")
        | ("networking.k8s.io", "Ingress")
        | ("apiregistration.k8s.io", "APIService") => &[Change, Metadata, Content, Kept],
        ("resource.k8s.io", "ResourceClaim") => &[Metadata, Change, Kept],
        ("resource.k8s.io", "DeviceClass") => &[Metadata, Change, Content],
        ("", "Namespace" | "Node")
        | ("node.k8s.io", "RuntimeClass")
        | ("networking.k8s.io", "IPAddress")
        | ("resource.k8s.io", "ResourceClaimTemplate")
        | ("storage.k8s.io", "StorageClass" | "CSIStorageCapacity")
        | ("certificates.k8s.io", "ClusterTrustBundle")
        | ("rbac.authorization.k8s.io", _) => &[Metadata, Content, Change, Kept],
        ("certificates.k8s.io", "CertificateSigningRequest") => &[Metadata, Content, Kept, Change],
        ("discovery.k8s.io", "EndpointSlice")
        | ("storage.k8s.io", "VolumeAttachment" | "CSINode")
        | ("admissionregistration.k8s.io" | "flowcontrol.apiserver.k8s.io", _)
        | ("", "LimitRange") => &[Metadata, Content, Kept],
        _ => &[Change, Content, Kept],
    }
}

/// The looks at a change by way of a subresource, after those at any. What there is to see is all content.
pub(super) fn of_subresource(kind: &KindInfo, sub: &str) -> &'static [Look] {
    match (kind.group, kind.kind) {
        ("certificates.k8s.io", "CertificateSigningRequest") => &[Metadata, Content, Change],
        ("storage.k8s.io", "VolumeAttachment") if sub == "status" => &[Metadata, Content],
        ("batch", "CronJob") if sub == "status" => &[],
        ("policy", "PodDisruptionBudget")
        | ("flowcontrol.apiserver.k8s.io", _)
        | ("admissionregistration.k8s.io", _)
            if sub == "status" =>
        {
            &[Content]
        }
        _ => &[Change, Content],
    }
}
