//! What belongs to the cluster: access, extension, storage, scheduling, and our own group.

use super::KindInfo;
use super::build::{STATUS, kind, own};

#[rustfmt::skip]
pub(super) const KINDS: &[KindInfo] = &[
    kind!("admissionregistration.k8s.io" "v1" "MutatingWebhookConfiguration" "mutatingwebhookconfigurations" "mutatingwebhookconfiguration" CLUSTER "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration").in_categories(&["api-extensions"]),
    kind!("admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicy" "validatingadmissionpolicies" "validatingadmissionpolicy" CLUSTER "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy").in_categories(&["api-extensions"]).below(&[STATUS]),
    kind!("admissionregistration.k8s.io" "v1" "ValidatingAdmissionPolicyBinding" "validatingadmissionpolicybindings" "validatingadmissionpolicybinding" CLUSTER "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding").in_categories(&["api-extensions"]),
    kind!("admissionregistration.k8s.io" "v1beta1" "MutatingAdmissionPolicy" "mutatingadmissionpolicies" "mutatingadmissionpolicy" CLUSTER "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicy").in_categories(&["api-extensions"]),
    kind!("admissionregistration.k8s.io" "v1beta1" "MutatingAdmissionPolicyBinding" "mutatingadmissionpolicybindings" "mutatingadmissionpolicybinding" CLUSTER "io.k8s.api.admissionregistration.v1beta1.MutatingAdmissionPolicyBinding").in_categories(&["api-extensions"]),
    kind!("admissionregistration.k8s.io" "v1" "ValidatingWebhookConfiguration" "validatingwebhookconfigurations" "validatingwebhookconfiguration" CLUSTER "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration").in_categories(&["api-extensions"]),
    kind!("apiextensions.k8s.io" "v1" "CustomResourceDefinition" "customresourcedefinitions" "customresourcedefinition" CLUSTER "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition").short(&["crd", "crds"]).in_categories(&["api-extensions"]).below(&[STATUS]),
    kind!("apiregistration.k8s.io" "v1" "APIService" "apiservices" "apiservice" CLUSTER "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService").in_categories(&["api-extensions"]).below(&[STATUS]),
    kind!("certificates.k8s.io" "v1" "CertificateSigningRequest" "certificatesigningrequests" "certificatesigningrequest" CLUSTER "io.k8s.api.certificates.v1.CertificateSigningRequest").short(&["csr"])
        .below(&[own("approval", &["get", "patch", "update"]), STATUS]),
    kind!("certificates.k8s.io" "v1beta1" "ClusterTrustBundle" "clustertrustbundles" "clustertrustbundle" CLUSTER "io.k8s.api.certificates.v1beta1.ClusterTrustBundle"),
    kind!("flowcontrol.apiserver.k8s.io" "v1" "FlowSchema" "flowschemas" "flowschema" CLUSTER "io.k8s.api.flowcontrol.v1.FlowSchema").below(&[STATUS]),
    kind!("flowcontrol.apiserver.k8s.io" "v1" "PriorityLevelConfiguration" "prioritylevelconfigurations" "prioritylevelconfiguration" CLUSTER "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration").below(&[STATUS]),
    kind!("node.k8s.io" "v1" "RuntimeClass" "runtimeclasses" "runtimeclass" CLUSTER "io.k8s.api.node.v1.RuntimeClass"),
    kind!("rbac.authorization.k8s.io" "v1" "ClusterRoleBinding" "clusterrolebindings" "clusterrolebinding" CLUSTER "io.k8s.api.rbac.v1.ClusterRoleBinding"),
    kind!("rbac.authorization.k8s.io" "v1" "ClusterRole" "clusterroles" "clusterrole" CLUSTER "io.k8s.api.rbac.v1.ClusterRole"),
    kind!("rbac.authorization.k8s.io" "v1" "RoleBinding" "rolebindings" "rolebinding" NAMESPACED "io.k8s.api.rbac.v1.RoleBinding"),
    kind!("rbac.authorization.k8s.io" "v1" "Role" "roles" "role" NAMESPACED "io.k8s.api.rbac.v1.Role"),
    kind!("scheduling.k8s.io" "v1" "PriorityClass" "priorityclasses" "priorityclass" CLUSTER "io.k8s.api.scheduling.v1.PriorityClass").short(&["pc"]),
    kind!("storage.k8s.io" "v1" "CSIDriver" "csidrivers" "csidriver" CLUSTER "io.k8s.api.storage.v1.CSIDriver"),
    kind!("storage.k8s.io" "v1" "CSINode" "csinodes" "csinode" CLUSTER "io.k8s.api.storage.v1.CSINode"),
    kind!("storage.k8s.io" "v1" "CSIStorageCapacity" "csistoragecapacities" "csistoragecapacity" NAMESPACED "io.k8s.api.storage.v1.CSIStorageCapacity"),
    kind!("storage.k8s.io" "v1" "StorageClass" "storageclasses" "storageclass" CLUSTER "io.k8s.api.storage.v1.StorageClass").short(&["sc"]),
    kind!("storage.k8s.io" "v1" "VolumeAttachment" "volumeattachments" "volumeattachment" CLUSTER "io.k8s.api.storage.v1.VolumeAttachment").below(&[STATUS]),
    kind!("storage.k8s.io" "v1" "VolumeAttributesClass" "volumeattributesclasses" "volumeattributesclass" CLUSTER "io.k8s.api.storage.v1.VolumeAttributesClass").short(&["vac"]),
    kind!("podvisor.io" "v1alpha1" "SupervisorNamespace" "supervisornamespaces" "supervisornamespace" CLUSTER "io.podvisor.v1alpha1.SupervisorNamespace").short(&["svns"]).in_categories(&["podvisor"]).below(&[STATUS]),
    kind!("podvisor.io" "v1alpha1" "User" "users" "user" CLUSTER "io.podvisor.v1alpha1.User").in_categories(&["podvisor"]),
    kind!("podvisor.io" "v1alpha1" "Group" "groups" "group" CLUSTER "io.podvisor.v1alpha1.Group").in_categories(&["podvisor"]),
    kind!("podvisor.io" "v1alpha1" "VirtualIPPool" "virtualippools" "virtualippool" CLUSTER "io.podvisor.v1alpha1.VirtualIPPool").short(&["vippool"]).in_categories(&["podvisor"]).below(&[STATUS]),
];
