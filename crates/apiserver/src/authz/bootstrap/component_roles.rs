//! Roles for the parts of the control plane and for host agents.

use super::{Binding, READ, Role, WRITE, on, paths};
use crate::authz::rules::Rule;

/// The bindings of these roles.
pub(super) const BINDINGS: &[Binding] = &[
    Binding {
        name: "system:kube-controller-manager",
        role: "system:kube-controller-manager",
        users: &["system:kube-controller-manager"],
        groups: &[],
    },
    Binding {
        name: "system:kube-scheduler",
        role: "system:kube-scheduler",
        users: &["system:kube-scheduler"],
        groups: &[],
    },
    Binding {
        name: "system:volume-scheduler",
        role: "system:volume-scheduler",
        users: &["system:kube-scheduler"],
        groups: &[],
    },
    Binding {
        name: "system:node-proxier",
        role: "system:node-proxier",
        users: &["system:kube-proxy"],
        groups: &[],
    },
    // As upstream since 1.8: exists, but host agents get their rights from the Node authorizer.
    Binding {
        name: "system:node",
        role: "system:node",
        users: &[],
        groups: &[],
    },
    Binding {
        name: "podvisor:host",
        role: "podvisor:host",
        users: &[],
        groups: &["system:nodes"],
    },
];

/// The roles.
pub(super) fn roles() -> Vec<Role> {
    vec![
        Role::cluster("system:kube-controller-manager", controllers()),
        Role::cluster("system:kube-scheduler", scheduler()),
        Role::cluster(
            "system:volume-scheduler",
            vec![
                on(
                    &[""],
                    &["persistentvolumes"],
                    &["get", "list", "patch", "update", "watch"],
                ),
                on(&["storage.k8s.io"], &["storageclasses"], READ),
                on(
                    &[""],
                    &["persistentvolumeclaims"],
                    &["get", "list", "patch", "update", "watch"],
                ),
            ],
        ),
        Role::cluster("system:node", node_rules()),
        Role::cluster("podvisor:host", host()),
        Role::cluster(
            "system:node-proxier",
            vec![
                on(&[""], &["endpoints", "services"], &["list", "watch"]),
                on(&[""], &["nodes"], READ),
                on(
                    &["", "events.k8s.io"],
                    &["events"],
                    &["create", "patch", "update"],
                ),
                on(&["discovery.k8s.io"], &["endpointslices"], &["list", "watch"]),
                on(&["networking.k8s.io"], &["servicecidrs"], &["list", "watch"]),
            ],
        ),
        Role::cluster(
            "system:node-bootstrapper",
            vec![on(
                &["certificates.k8s.io"],
                &["certificatesigningrequests"],
                &["create", "get", "list", "watch"],
            )],
        ),
        Role::cluster(
            "system:node-problem-detector",
            vec![
                on(&[""], &["nodes"], &["get"]),
                on(&[""], &["nodes/status"], &["patch"]),
                on(
                    &["", "events.k8s.io"],
                    &["events"],
                    &["create", "patch", "update"],
                ),
            ],
        ),
        Role::cluster(
            "system:kubelet-api-admin",
            vec![
                on(&[""], &["nodes"], &["get", "list", "watch", "proxy"]),
                on(
                    &[""],
                    &[
                        "nodes/configz",
                        "nodes/healthz",
                        "nodes/log",
                        "nodes/metrics",
                        "nodes/pods",
                        "nodes/proxy",
                        "nodes/stats",
                    ],
                    &["*"],
                ),
            ],
        ),
        Role::cluster(
            "system:auth-delegator",
            vec![
                on(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
                on(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
            ],
        ),
        Role::cluster(
            "system:kube-aggregator",
            vec![on(&[""], &["endpoints", "services"], READ)],
        ),
        Role::cluster(
            "system:kube-dns",
            vec![on(&[""], &["endpoints", "services"], &["list", "watch"])],
        ),
        Role::cluster(
            "system:persistent-volume-provisioner",
            vec![
                on(
                    &[""],
                    &["persistentvolumes"],
                    &["create", "delete", "get", "list", "watch"],
                ),
                on(
                    &[""],
                    &["persistentvolumeclaims"],
                    &["get", "list", "update", "watch"],
                ),
                on(&["storage.k8s.io"], &["storageclasses"], READ),
                on(&[""], &["events"], &["watch", "create", "update", "patch"]),
            ],
        ),
        Role::cluster(
            "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
            vec![on(
                &["certificates.k8s.io"],
                &["certificatesigningrequests/nodeclient"],
                &["create"],
            )],
        ),
        Role::cluster(
            "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
            vec![on(
                &["certificates.k8s.io"],
                &["certificatesigningrequests/selfnodeclient"],
                &["create"],
            )],
        ),
        signer(
            "system:certificates.k8s.io:kube-apiserver-client-approver",
            "kubernetes.io/kube-apiserver-client",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
            "kubernetes.io/kube-apiserver-client-kubelet",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:kubelet-serving-approver",
            "kubernetes.io/kubelet-serving",
            "approve",
        ),
        signer(
            "system:certificates.k8s.io:legacy-unknown-approver",
            "kubernetes.io/legacy-unknown",
            "approve",
        ),
        Role {
            namespace: Some("kube-system"),
            ..Role::cluster(
                "extension-apiserver-authentication-reader",
                vec![on(&[""], &["configmaps"], READ).named(&["extension-apiserver-authentication"])],
            )
        },
    ]
}

fn signer(name: &'static str, signer: &str, verb: &str) -> Role {
    Role::cluster(
        name,
        vec![on(&["certificates.k8s.io"], &["signers"], &[verb]).named(&[signer])],
    )
}

/// One process runs all controllers, the garbage collector and namespace clean-up among them, so it may touch every
/// object; it may neither impersonate nor give itself more than is written here, but binds the roles of tenants.
fn controllers() -> Vec<Rule> {
    let mut every = READ.to_vec();
    every.extend(WRITE);
    vec![
        on(&["*"], &["*"], &every),
        on(
            &["rbac.authorization.k8s.io"],
            &["clusterroles", "roles"],
            &["bind", "escalate"],
        ),
        on(
            &["certificates.k8s.io"],
            &["signers"],
            &["approve", "attest", "sign"],
        ),
        paths(&["/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version"]),
    ]
}

fn scheduler() -> Vec<Rule> {
    vec![
        on(
            &["", "events.k8s.io"],
            &["events"],
            &["create", "patch", "update"],
        ),
        on(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "get", "list", "update", "watch"],
        ),
        on(
            &[""],
            &["nodes", "namespaces", "replicationcontrollers", "services"],
            READ,
        ),
        on(&[""], &["pods"], &["delete", "get", "list", "watch"]),
        on(&[""], &["bindings", "pods/binding"], &["create"]),
        on(&[""], &["pods/status"], &["patch", "update"]),
        on(&["apps"], &["replicasets", "statefulsets"], READ),
        on(&["policy"], &["poddisruptionbudgets"], READ),
        on(&[""], &["persistentvolumeclaims", "persistentvolumes"], READ),
        on(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        on(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
        on(
            &["storage.k8s.io"],
            &[
                "csidrivers",
                "csinodes",
                "csistoragecapacities",
                "storageclasses",
                "volumeattachments",
            ],
            READ,
        ),
        on(&["scheduling.k8s.io"], &["priorityclasses"], READ),
        on(
            &["resource.k8s.io"],
            &["deviceclasses", "resourceclaims", "resourceslices"],
            READ,
        ),
        on(
            &["resource.k8s.io"],
            &["resourceclaims/status"],
            &["patch", "update"],
        ),
    ]
}

/// What a host agent's data plane and datastore need, beyond what the Node authorizer lets every kubelet do.
fn host() -> Vec<Rule> {
    vec![
        on(&[""], &["endpoints", "namespaces", "services"], READ),
        on(&["discovery.k8s.io"], &["endpointslices"], READ),
        on(&["networking.k8s.io"], &["networkpolicies", "servicecidrs"], READ),
        on(&["podvisor.io"], &["virtualippools"], READ),
        // The provisioner of the host's datastore; NodeRestriction narrows the writes to volumes of the host itself.
        on(&["storage.k8s.io"], &["storageclasses"], READ),
        on(
            &[""],
            &["persistentvolumeclaims"],
            &["get", "list", "watch", "patch"],
        ),
        on(&[""], &["persistentvolumeclaims/status"], &["patch"]),
        on(
            &[""],
            &["persistentvolumes"],
            &["get", "list", "watch", "create", "delete", "patch"],
        ),
        on(
            &["snapshot.storage.k8s.io"],
            &["volumesnapshotcontents", "volumesnapshots"],
            READ,
        ),
        on(
            &["snapshot.storage.k8s.io"],
            &["volumesnapshotcontents", "volumesnapshotcontents/status"],
            &["patch"],
        ),
    ]
}

/// What every host agent may do, as upstream's `system:node`; the Node authorizer narrows reads of Pods, Nodes, Secrets
/// and the like further, and NodeRestriction the writes.
pub fn node_rules() -> Vec<Rule> {
    vec![
        on(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        on(
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews", "subjectaccessreviews"],
            &["create"],
        ),
        on(&[""], &["services"], READ),
        on(
            &[""],
            &["nodes"],
            &["create", "get", "list", "patch", "update", "watch"],
        ),
        on(&[""], &["nodes/status"], &["patch", "update"]),
        on(
            &["", "events.k8s.io"],
            &["events"],
            &["create", "patch", "update"],
        ),
        on(&[""], &["pods"], &["create", "delete", "get", "list", "watch"]),
        on(&[""], &["pods/status"], &["patch", "update"]),
        on(&[""], &["pods/eviction"], &["create"]),
        on(&[""], &["configmaps", "secrets"], READ),
        on(&[""], &["persistentvolumeclaims", "persistentvolumes"], &["get"]),
        on(&[""], &["endpoints"], &["get"]),
        on(
            &["certificates.k8s.io"],
            &["certificatesigningrequests"],
            &["create", "get", "list", "watch"],
        ),
        on(&["certificates.k8s.io"], &["clustertrustbundles"], READ),
        on(
            &["coordination.k8s.io"],
            &["leases"],
            &["create", "delete", "get", "patch", "update"],
        ),
        on(&["storage.k8s.io"], &["volumeattachments"], &["get"]),
        on(&[""], &["serviceaccounts/token"], &["create"]),
        on(&[""], &["serviceaccounts"], &["get"]),
        on(
            &[""],
            &["persistentvolumeclaims/status"],
            &["get", "patch", "update"],
        ),
        on(&["storage.k8s.io"], &["csidrivers"], READ),
        on(
            &["storage.k8s.io"],
            &["csinodes"],
            &["create", "delete", "get", "patch", "update"],
        ),
        on(&["node.k8s.io"], &["runtimeclasses"], READ),
        on(&["resource.k8s.io"], &["resourceclaims"], &["get"]),
        on(&["resource.k8s.io"], &["resourceslices"], &["deletecollection"]),
    ]
}
