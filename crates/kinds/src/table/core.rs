//! The core group, events, discovery, coordination, and the kinds that are only answered.

use super::KindInfo;
use super::build::{SCALE, STATUS, kind, other, own};

const POD: &[super::Subresource] = &[
    other("attach", &["create", "get"], "", "v1", "PodAttachOptions"),
    other("binding", &["create"], "", "v1", "Binding"),
    own("ephemeralcontainers", &["get", "patch", "update"]),
    other("eviction", &["create"], "policy", "v1", "Eviction"),
    other("exec", &["create", "get"], "", "v1", "PodExecOptions"),
    own("log", &["get"]),
    other(
        "portforward",
        &["create", "get"],
        "",
        "v1",
        "PodPortForwardOptions",
    ),
    other("proxy", PROXY, "", "v1", "PodProxyOptions"),
    own("resize", &["get", "patch", "update"]),
    STATUS,
];
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
const CREATE: &[&str] = &["create"];

#[rustfmt::skip]
pub(super) const KINDS: &[KindInfo] = &[
    kind!("" "v1" "Binding" "bindings" "binding" NAMESPACED "io.k8s.api.core.v1.Binding").only(CREATE),
    kind!("" "v1" "ComponentStatus" "componentstatuses" "componentstatus" CLUSTER "io.k8s.api.core.v1.ComponentStatus").short(&["cs"]).only(&["get", "list"]),
    kind!("" "v1" "ConfigMap" "configmaps" "configmap" NAMESPACED "io.k8s.api.core.v1.ConfigMap").short(&["cm"]),
    kind!("" "v1" "Endpoints" "endpoints" "endpoints" NAMESPACED "io.k8s.api.core.v1.Endpoints").short(&["ep"]),
    kind!("" "v1" "Event" "events" "event" NAMESPACED "io.k8s.api.core.v1.Event").short(&["ev"]),
    kind!("" "v1" "LimitRange" "limitranges" "limitrange" NAMESPACED "io.k8s.api.core.v1.LimitRange").short(&["limits"]),
    kind!("" "v1" "Namespace" "namespaces" "namespace" CLUSTER "io.k8s.api.core.v1.Namespace").short(&["ns"])
        .only(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .below(&[own("finalize", &["update"]), STATUS]),
    kind!("" "v1" "Node" "nodes" "node" CLUSTER "io.k8s.api.core.v1.Node").short(&["no"])
        .below(&[other("proxy", PROXY, "", "v1", "NodeProxyOptions"), STATUS]),
    kind!("" "v1" "PersistentVolumeClaim" "persistentvolumeclaims" "persistentvolumeclaim" NAMESPACED "io.k8s.api.core.v1.PersistentVolumeClaim").short(&["pvc"]).below(&[STATUS]),
    kind!("" "v1" "PersistentVolume" "persistentvolumes" "persistentvolume" CLUSTER "io.k8s.api.core.v1.PersistentVolume").short(&["pv"]).below(&[STATUS]),
    kind!("" "v1" "Pod" "pods" "pod" NAMESPACED "io.k8s.api.core.v1.Pod").short(&["po"]).in_categories(&["all"]).below(POD),
    kind!("" "v1" "PodTemplate" "podtemplates" "podtemplate" NAMESPACED "io.k8s.api.core.v1.PodTemplate"),
    kind!("" "v1" "ReplicationController" "replicationcontrollers" "replicationcontroller" NAMESPACED "io.k8s.api.core.v1.ReplicationController").short(&["rc"]).in_categories(&["all"]).below(&[SCALE, STATUS]),
    kind!("" "v1" "ResourceQuota" "resourcequotas" "resourcequota" NAMESPACED "io.k8s.api.core.v1.ResourceQuota").short(&["quota"]).below(&[STATUS]),
    kind!("" "v1" "Secret" "secrets" "secret" NAMESPACED "io.k8s.api.core.v1.Secret"),
    kind!("" "v1" "ServiceAccount" "serviceaccounts" "serviceaccount" NAMESPACED "io.k8s.api.core.v1.ServiceAccount").short(&["sa"])
        .below(&[other("token", CREATE, "authentication.k8s.io", "v1", "TokenRequest")]),
    kind!("" "v1" "Service" "services" "service" NAMESPACED "io.k8s.api.core.v1.Service").short(&["svc"]).in_categories(&["all"])
        .below(&[other("proxy", PROXY, "", "v1", "ServiceProxyOptions"), STATUS]),
    kind!("events.k8s.io" "v1" "Event" "events" "event" NAMESPACED "io.k8s.api.events.v1.Event").short(&["ev"]),
    kind!("discovery.k8s.io" "v1" "EndpointSlice" "endpointslices" "endpointslice" NAMESPACED "io.k8s.api.discovery.v1.EndpointSlice"),
    kind!("coordination.k8s.io" "v1" "Lease" "leases" "lease" NAMESPACED "io.k8s.api.coordination.v1.Lease"),
    kind!("authentication.k8s.io" "v1" "SelfSubjectReview" "selfsubjectreviews" "selfsubjectreview" CLUSTER "io.k8s.api.authentication.v1.SelfSubjectReview").only(CREATE),
    kind!("authentication.k8s.io" "v1" "TokenReview" "tokenreviews" "tokenreview" CLUSTER "io.k8s.api.authentication.v1.TokenReview").only(CREATE),
    kind!("authorization.k8s.io" "v1" "LocalSubjectAccessReview" "localsubjectaccessreviews" "localsubjectaccessreview" NAMESPACED "io.k8s.api.authorization.v1.LocalSubjectAccessReview").only(CREATE),
    kind!("authorization.k8s.io" "v1" "SelfSubjectAccessReview" "selfsubjectaccessreviews" "selfsubjectaccessreview" CLUSTER "io.k8s.api.authorization.v1.SelfSubjectAccessReview").only(CREATE),
    kind!("authorization.k8s.io" "v1" "SelfSubjectRulesReview" "selfsubjectrulesreviews" "selfsubjectrulesreview" CLUSTER "io.k8s.api.authorization.v1.SelfSubjectRulesReview").only(CREATE),
    kind!("authorization.k8s.io" "v1" "SubjectAccessReview" "subjectaccessreviews" "subjectaccessreview" CLUSTER "io.k8s.api.authorization.v1.SubjectAccessReview").only(CREATE),
    kind!("metrics.k8s.io" "v1beta1" "NodeMetrics" "nodes" "nodemetrics" CLUSTER "io.k8s.metrics.v1beta1.NodeMetrics").only(&["get", "list"]),
    kind!("metrics.k8s.io" "v1beta1" "PodMetrics" "pods" "podmetrics" NAMESPACED "io.k8s.metrics.v1beta1.PodMetrics").only(&["get", "list", "watch"]),
];
