//! Roles for people and programs: `cluster-admin`, `admin`, `edit`, `view` and what everyone may do.

use super::{Binding, READ, Role, WRITE, on, paths};
use crate::authz::rules::Rule;

const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// The bindings of these roles.
pub(super) const BINDINGS: &[Binding] = &[
    Binding {
        name: "cluster-admin",
        role: "cluster-admin",
        users: &[],
        groups: &["system:masters"],
    },
    Binding {
        name: "system:basic-user",
        role: "system:basic-user",
        users: &[],
        groups: &["system:authenticated"],
    },
    Binding {
        name: "system:cluster-trust-bundle-discovery",
        role: "system:cluster-trust-bundle-discovery",
        users: &[],
        groups: &["system:serviceaccounts"],
    },
    Binding {
        name: "system:discovery",
        role: "system:discovery",
        users: &[],
        groups: &["system:authenticated"],
    },
    Binding {
        name: "system:monitoring",
        role: "system:monitoring",
        users: &[],
        groups: &["system:monitoring"],
    },
    Binding {
        name: "system:public-info-viewer",
        role: "system:public-info-viewer",
        users: &[],
        groups: &["system:authenticated", "system:unauthenticated"],
    },
    Binding {
        name: "system:service-account-issuer-discovery",
        role: "system:service-account-issuer-discovery",
        users: &[],
        groups: &["system:serviceaccounts"],
    },
];

/// The roles.
pub(super) fn roles() -> Vec<Role> {
    let everything = Rule {
        non_resource_urls: vec!["*".into()],
        verbs: vec!["*".into()],
        ..Rule::default()
    };
    vec![
        Role::cluster("cluster-admin", vec![on(&["*"], &["*"], &["*"]), everything]),
        Role::cluster(
            "system:discovery",
            vec![paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])],
        ),
        Role::cluster(
            "system:monitoring",
            vec![paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        Role::cluster(
            "system:basic-user",
            vec![
                on(
                    &["authorization.k8s.io"],
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    &["create"],
                ),
                on(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
            ],
        ),
        Role::cluster(
            "system:cluster-trust-bundle-discovery",
            vec![on(&["certificates.k8s.io"], &["clustertrustbundles"], READ)],
        ),
        Role::cluster("system:public-info-viewer", vec![paths(HEALTH)]),
        Role::cluster(
            "system:service-account-issuer-discovery",
            vec![paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ])],
        ),
        Role::aggregate("admin"),
        // Whoever may edit may administer, and whoever may view may edit: the labels nest the three.
        Role::aggregate("edit").part_of("admin"),
        Role::aggregate("view").part_of("edit"),
        Role::cluster("system:aggregate-to-admin", admin()).part_of("admin"),
        Role::cluster("system:aggregate-to-edit", edit()).part_of("edit"),
        Role::cluster("system:aggregate-to-view", view()).part_of("view"),
        Role::cluster(
            "system:aggregated-metrics-reader",
            vec![on(&["metrics.k8s.io"], &["pods", "nodes"], READ)],
        )
        .part_of("view"),
    ]
}

fn admin() -> Vec<Rule> {
    vec![
        on(
            &["authorization.k8s.io"],
            &["localsubjectaccessreviews"],
            &["create"],
        ),
        on(
            &["rbac.authorization.k8s.io"],
            &["rolebindings", "roles"],
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
        ),
    ]
}

fn edit() -> Vec<Rule> {
    vec![
        on(
            &[""],
            &[
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
                "secrets",
                "services/proxy",
            ],
            READ,
        ),
        on(&[""], &["serviceaccounts"], &["impersonate"]),
        on(
            &[""],
            &[
                "pods",
                "pods/attach",
                "pods/exec",
                "pods/portforward",
                "pods/proxy",
            ],
            WRITE,
        ),
        on(&[""], &["pods/eviction"], &["create"]),
        on(
            &[""],
            &[
                "configmaps",
                "events",
                "persistentvolumeclaims",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "secrets",
                "serviceaccounts",
                "services",
                "services/proxy",
            ],
            WRITE,
        ),
        on(&[""], &["serviceaccounts/token"], &["create"]),
        on(
            &["apps"],
            &[
                "daemonsets",
                "deployments",
                "deployments/rollback",
                "deployments/scale",
                "replicasets",
                "replicasets/scale",
                "statefulsets",
                "statefulsets/scale",
            ],
            WRITE,
        ),
        on(&["autoscaling"], &["horizontalpodautoscalers"], WRITE),
        on(&["batch"], &["cronjobs", "jobs"], WRITE),
        on(&["policy"], &["poddisruptionbudgets"], WRITE),
        on(&["networking.k8s.io"], &["ingresses", "networkpolicies"], WRITE),
        on(
            &["coordination.k8s.io"],
            &["leases"],
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
        ),
        on(
            &["resource.k8s.io"],
            &["resourceclaims", "resourceclaimtemplates"],
            WRITE,
        ),
    ]
}

fn view() -> Vec<Rule> {
    vec![
        on(
            &[""],
            &[
                "configmaps",
                "endpoints",
                "persistentvolumeclaims",
                "persistentvolumeclaims/status",
                "pods",
                "replicationcontrollers",
                "replicationcontrollers/scale",
                "serviceaccounts",
                "services",
                "services/status",
            ],
            READ,
        ),
        on(
            &[""],
            &[
                "bindings",
                "events",
                "limitranges",
                "namespaces/status",
                "pods/log",
                "pods/status",
                "replicationcontrollers/status",
                "resourcequotas",
                "resourcequotas/status",
            ],
            READ,
        ),
        on(&[""], &["namespaces"], READ),
        on(&["discovery.k8s.io"], &["endpointslices"], READ),
        on(
            &["apps"],
            &[
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status",
            ],
            READ,
        ),
        on(
            &["autoscaling"],
            &["horizontalpodautoscalers", "horizontalpodautoscalers/status"],
            READ,
        ),
        on(
            &["batch"],
            &["cronjobs", "cronjobs/status", "jobs", "jobs/status"],
            READ,
        ),
        on(
            &["policy"],
            &["poddisruptionbudgets", "poddisruptionbudgets/status"],
            READ,
        ),
        on(
            &["networking.k8s.io"],
            &["ingresses", "ingresses/status", "networkpolicies"],
            READ,
        ),
        on(
            &["resource.k8s.io"],
            &[
                "resourceclaims",
                "resourceclaims/status",
                "resourceclaimtemplates",
            ],
            READ,
        ),
    ]
}
