//! Workloads, their scaling, their disruption and their traffic.

use super::KindInfo;
use super::build::{SCALE, STATUS, kind};

#[rustfmt::skip]
pub(super) const KINDS: &[KindInfo] = &[
    kind!("apps" "v1" "ControllerRevision" "controllerrevisions" "controllerrevision" NAMESPACED "io.k8s.api.apps.v1.ControllerRevision"),
    kind!("apps" "v1" "DaemonSet" "daemonsets" "daemonset" NAMESPACED "io.k8s.api.apps.v1.DaemonSet").short(&["ds"]).in_categories(&["all"]).below(&[STATUS]),
    kind!("apps" "v1" "Deployment" "deployments" "deployment" NAMESPACED "io.k8s.api.apps.v1.Deployment").short(&["deploy"]).in_categories(&["all"]).below(&[SCALE, STATUS]),
    kind!("apps" "v1" "ReplicaSet" "replicasets" "replicaset" NAMESPACED "io.k8s.api.apps.v1.ReplicaSet").short(&["rs"]).in_categories(&["all"]).below(&[SCALE, STATUS]),
    kind!("apps" "v1" "StatefulSet" "statefulsets" "statefulset" NAMESPACED "io.k8s.api.apps.v1.StatefulSet").short(&["sts"]).in_categories(&["all"]).below(&[SCALE, STATUS]),
    kind!("autoscaling" "v1" "HorizontalPodAutoscaler" "horizontalpodautoscalers" "horizontalpodautoscaler" NAMESPACED "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler").short(&["hpa"]).in_categories(&["all"]).below(&[STATUS]),
    kind!("autoscaling" "v2" "HorizontalPodAutoscaler" "horizontalpodautoscalers" "horizontalpodautoscaler" NAMESPACED "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler").short(&["hpa"]).in_categories(&["all"]).below(&[STATUS]),
    kind!("batch" "v1" "CronJob" "cronjobs" "cronjob" NAMESPACED "io.k8s.api.batch.v1.CronJob").short(&["cj"]).in_categories(&["all"]).below(&[STATUS]),
    kind!("batch" "v1" "Job" "jobs" "job" NAMESPACED "io.k8s.api.batch.v1.Job").in_categories(&["all"]).below(&[STATUS]),
    kind!("networking.k8s.io" "v1" "IngressClass" "ingressclasses" "ingressclass" CLUSTER "io.k8s.api.networking.v1.IngressClass"),
    kind!("networking.k8s.io" "v1" "Ingress" "ingresses" "ingress" NAMESPACED "io.k8s.api.networking.v1.Ingress").short(&["ing"]).below(&[STATUS]),
    kind!("networking.k8s.io" "v1" "IPAddress" "ipaddresses" "ipaddress" CLUSTER "io.k8s.api.networking.v1.IPAddress").short(&["ip"]),
    kind!("networking.k8s.io" "v1" "NetworkPolicy" "networkpolicies" "networkpolicy" NAMESPACED "io.k8s.api.networking.v1.NetworkPolicy").short(&["netpol"]),
    kind!("networking.k8s.io" "v1" "ServiceCIDR" "servicecidrs" "servicecidr" CLUSTER "io.k8s.api.networking.v1.ServiceCIDR").below(&[STATUS]),
    kind!("policy" "v1" "PodDisruptionBudget" "poddisruptionbudgets" "poddisruptionbudget" NAMESPACED "io.k8s.api.policy.v1.PodDisruptionBudget").short(&["pdb"]).below(&[STATUS]),
    kind!("resource.k8s.io" "v1" "DeviceClass" "deviceclasses" "deviceclass" CLUSTER "io.k8s.api.resource.v1.DeviceClass"),
    kind!("resource.k8s.io" "v1" "ResourceClaim" "resourceclaims" "resourceclaim" NAMESPACED "io.k8s.api.resource.v1.ResourceClaim").below(&[STATUS]),
    kind!("resource.k8s.io" "v1" "ResourceClaimTemplate" "resourceclaimtemplates" "resourceclaimtemplate" NAMESPACED "io.k8s.api.resource.v1.ResourceClaimTemplate"),
    kind!("resource.k8s.io" "v1" "ResourceSlice" "resourceslices" "resourceslice" CLUSTER "io.k8s.api.resource.v1.ResourceSlice"),
];
