//! Every kind that is served has all that a kind needs: each of its verbs is authorized, wrong objects are refused, lists
//! are Tables with columns of their own. A kind that is added to the table without one of these fails here.

#![allow(clippy::unwrap_used)]

use super::access::{admin, call, start};
use apiserver::user::User;
use kinds::KindInfo;
use serde_json::{Value, json};

/// Where the objects of a kind are served.
fn collection(kind: &KindInfo) -> String {
    let place = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    match kind.namespaced {
        true => format!("{place}/namespaces/default/{}", kind.plural),
        false => format!("{place}/{}", kind.plural),
    }
}

/// The request that a verb means.
fn line(kind: &KindInfo, sub: &str, verb: &str) -> String {
    let all = collection(kind);
    let one = match sub {
        "" => format!("{all}/x"),
        sub => format!("{all}/x/{sub}"),
    };
    match verb {
        "create" if sub.is_empty() => format!("POST {all}"),
        "create" => format!("POST {one}"),
        "list" => format!("GET {all}"),
        "watch" => format!("GET {all}?watch=true"),
        "deletecollection" => format!("DELETE {all}"),
        "get" => format!("GET {one}"),
        "update" => format!("PUT {one}"),
        "patch" => format!("PATCH {one}"),
        "delete" => format!("DELETE {one}"),
        other => panic!("{other} is no verb"),
    }
}

#[tokio::test]
async fn nothing_can_be_done_without_a_right() {
    let api = start().await;
    let mut asked = 0;
    for kind in kinds::builtin() {
        let own = kind.verbs.iter().map(|verb| ("", *verb));
        let below = kind.subresources.iter();
        let below = below.flat_map(|sub| sub.verbs.iter().map(move |verb| (sub.name, *verb)));
        for (sub, verb) in own.chain(below) {
            // Everybody may ask about themselves.
            if kind.kind.starts_with("SelfSubject") {
                continue;
            }
            let request = line(kind, sub, verb);
            let nobody = User::new("nobody", &[]);
            let (code, said) = call(&api, nobody, &request, Value::Null).await;
            let resource = match sub {
                "" => kind.plural.to_owned(),
                sub => format!("{}/{sub}", kind.plural),
            };
            let right = format!(
                "User \"nobody\" cannot {verb} resource {resource:?} in API group {:?}",
                kind.group
            );
            let told = said["message"].as_str().unwrap_or("");
            assert!(code == 403 && told.contains(&right), "{request}: {code} {said}");
            asked += 1;
        }
    }
    assert!(asked > 500, "{asked}");
}

/// Kinds of which an object with nothing but a name is whole, as upstream sees it.
const WHOLE_BY_NAME: &[&str] = &[
    "v1/ConfigMap",
    "v1/Endpoints",
    "v1/Event",
    "v1/LimitRange",
    "v1/Namespace",
    "v1/Node",
    "v1/ResourceQuota",
    "v1/Secret",
    "v1/ServiceAccount",
    "coordination.k8s.io/v1/Lease",
    "networking.k8s.io/v1/NetworkPolicy",
    "policy/v1/PodDisruptionBudget",
    "resource.k8s.io/v1/DeviceClass",
    "resource.k8s.io/v1/ResourceClaim",
    "resource.k8s.io/v1/ResourceClaimTemplate",
    "admissionregistration.k8s.io/v1/MutatingWebhookConfiguration",
    "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration",
    "rbac.authorization.k8s.io/v1/ClusterRole",
    "rbac.authorization.k8s.io/v1/Role",
    "scheduling.k8s.io/v1/PriorityClass",
    "storage.k8s.io/v1/CSIDriver",
    "storage.k8s.io/v1/CSINode",
    "podvisor.io/v1alpha1/SupervisorNamespace",
    "podvisor.io/v1alpha1/Group",
];

#[tokio::test]
async fn wrong_objects_are_refused() {
    let api = start().await;
    let mut whole = Vec::new();
    for kind in kinds::builtin() {
        if !kind.is_stored() || !kind.has_verb("create") {
            continue;
        }
        let object = |name: &str| json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}});
        let request = format!("POST {}?dryRun=All", collection(kind));
        let (code, said) = call(&api, admin(), &request, object("a%b")).await;
        assert!((400..=422).contains(&code), "{request}: {code} {said}");
        let (code, said) = call(&api, admin(), &request, object("x")).await;
        match code {
            201 => whole.push(format!("{}/{}", kind.api_version(), kind.kind)),
            _ => assert!(
                (400..=422).contains(&code) && said["message"].as_str().is_some_and(|m| !m.is_empty()),
                "{request}: {code} {said}"
            ),
        }
    }
    assert_eq!(whole, WHOLE_BY_NAME);
}

/// Kinds that upstream prints with the columns of any kind.
const PLAIN: &[&str] = &[
    "v1/LimitRange",
    "v1/ServiceAccount",
    "resource.k8s.io/v1/DeviceClass",
    "resource.k8s.io/v1/ResourceClaimTemplate",
    "apiextensions.k8s.io/v1/CustomResourceDefinition",
    "rbac.authorization.k8s.io/v1/ClusterRole",
    "rbac.authorization.k8s.io/v1/Role",
    "storage.k8s.io/v1/CSIStorageCapacity",
];

#[tokio::test]
async fn lists_have_columns_of_their_own() {
    let api = start().await;
    let mut plain = Vec::new();
    for kind in kinds::builtin().iter().filter(|kind| kind.has_verb("list")) {
        let request = format!("GET {}", collection(kind));
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let (code, said) = super::access::call_for(&api, admin(), &request, Value::Null, table).await;
        assert_eq!((code, &said["kind"]), (200, &json!("Table")), "{request}: {said}");
        let columns = said["columnDefinitions"].as_array().unwrap();
        let names: Vec<&str> = columns.iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(
            names[0],
            if kind.plural == "events" {
                "Last Seen"
            } else {
                "Name"
            },
            "{request}"
        );
        if names == ["Name", "Created At"] || names == ["Name", "Age"] {
            plain.push(format!("{}/{}", kind.api_version(), kind.kind));
        }
    }
    assert_eq!(plain, PLAIN);
}
