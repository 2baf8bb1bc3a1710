//! MutatingAdmissionPolicies: apply configurations and JSON patches by CEL, their order, a second round, and refusals.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1beta1/mutatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

async fn bound(s: &Server, name: &str, spec: Value) -> (u16, Value) {
    let mut whole = json!({"failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"], "resources": ["configmaps", "pods"]}]}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": whole});
    let (code, answer) = s.json("POST", POLICIES, &policy).await;
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": {"policyName": name}});
    if code == 201 {
        assert_eq!(s.json("POST", BINDINGS, &binding).await.0, 201);
    }
    (code, answer)
}

fn configuration(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

#[tokio::test]
async fn objects_are_changed_in_the_order_of_names() {
    let s = Server::guarded().await;
    let labels = "Object{metadata: Object.metadata{labels: Object.metadata.labels{team: variables.team}, \
        ?annotations: has(object.data) ? optional.of({'size': string(size(object.data))}) : optional.none()}}";
    let first = json!({"variables": [{"name": "team", "expression": "'team-' + request.namespace"}],
        "matchConditions": [{"name": "maps", "expression": "request.kind.kind == 'ConfigMap'"}],
        "mutations": [configuration(labels)]});
    assert_eq!(bound(&s, "a", first).await.0, 201);
    let second = "[JSONPatch{op: 'test', path: '/metadata/labels/team', value: 'team-default'}, \
        JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('example.com/x'), value: 'y'}]";
    let second = json!({"mutations": [patch(second)],
        "matchConditions": [{"name": "maps", "expression": "request.kind.kind == 'ConfigMap'"}]});
    assert_eq!(bound(&s, "b", second).await.0, 201);
    let (code, made) = s.json("POST", MAPS, &map("one")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "team-default", "example.com/x": "y"})
    );
    assert_eq!(made["metadata"]["annotations"], json!({"size": "1"}));
}

#[tokio::test]
async fn lists_are_merged_by_their_keys_and_wholes_stay() {
    let s = Server::guarded().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(s.json("POST", path, &account).await.0, 201);
    let only_pods = json!([{"name": "pods", "expression": "request.kind.kind == 'Pod'"}]);
    let sidecar = "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh', image: 'mesh:1', \
        restartPolicy: 'Always'}]}}";
    let spec = json!({"matchConditions": only_pods, "mutations": [configuration(sidecar)]});
    assert_eq!(bound(&s, "a", spec).await.0, 201);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
        "initContainers": [{"name": "first", "image": "x"}], "containers": [{"name": "c", "image": "x"}]}});
    let (code, made) = s.json("POST", PODS, &pod).await;
    assert_eq!(code, 201, "{made}");
    let names: Vec<&str> = made["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(names, ["first", "mesh"]);
    let arguments = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', args: ['x']}]}}";
    let spec = json!({"matchConditions": only_pods, "mutations": [configuration(arguments)]});
    assert_eq!(bound(&s, "b", spec).await.0, 201);
    let mut other = pod;
    other["metadata"]["name"] = json!("q");
    let (code, refused) = s.json("POST", PODS, &other).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Invalid")), "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with("policy 'b' with binding 'b' denied request: ")
            && message.contains("may not mutate atomic arrays, maps or structs"),
        "{message}"
    );
}

#[tokio::test]
async fn policies_that_wish_it_see_what_later_ones_changed() {
    let s = Server::guarded().await;
    let count = "Object{metadata: Object.metadata{annotations: Object.metadata.annotations{seen: \
        string(size(object.data))}}}";
    let spec = json!({"reinvocationPolicy": "IfNeeded", "mutations": [configuration(count)]});
    assert_eq!(bound(&s, "a", spec).await.0, 201);
    let more = json!({"mutations": [configuration("Object{data: {'more': 'x'}}")]});
    assert_eq!(bound(&s, "b", more).await.0, 201);
    let (code, made) = s.json("POST", MAPS, &map("one")).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["annotations"], json!({"seen": "2"}));
}

#[tokio::test]
async fn what_is_no_mutation_is_refused_when_it_is_written() {
    let s = Server::guarded().await;
    let cases = [
        (
            json!([configuration("{'a': 1}")]),
            "must evaluate to Object but got map(string, int)",
        ),
        (
            json!([patch("[1]")]),
            "must evaluate to list(JSONPatch) but got list(int)",
        ),
        (json!([patch("[JSONPatch{op: 1}]")]), "compilation failed"),
        (
            json!([configuration("Thing{a: 1}")]),
            "undeclared reference to 'Thing'",
        ),
        (json!([{"patchType": "Other"}]), "Unsupported value: \"Other\""),
        (
            json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": " "}, "applyConfiguration": {"expression": "x"}}]),
            "[spec.mutations[0].jsonPatch.expression: Required value, spec.mutations[0].applyConfiguration: Invalid value: \
             \"{applyConfiguration}\": must not be specified when patchType is JSONPatch]",
        ),
        (
            json!([]),
            "spec.mutations: Required value: mutations must contain at least one item",
        ),
    ];
    for (mutations, words) in cases {
        let (code, refused) = bound(&s, "p", json!({"mutations": mutations})).await;
        let message = refused["message"].as_str().unwrap_or("");
        assert!(
            code == 422 && message.contains(words),
            "{words}: {code} {message}"
        );
    }
}

#[tokio::test]
async fn all_failures_are_told() {
    let s = Server::guarded().await;
    let broken = "Object{metadata: Object.metadata{labels: {'a': object.nothing}}}";
    let only_maps = json!([{"name": "maps", "expression": "request.kind.kind == 'ConfigMap'"}]);
    for name in ["a", "b"] {
        let spec = json!({"matchConditions": only_maps, "mutations": [configuration(broken)]});
        assert_eq!(bound(&s, name, spec).await.0, 201);
    }
    let (code, refused) = s.json("POST", MAPS, &map("one")).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Invalid")), "{refused}");
    let causes = refused["details"]["causes"].as_array().unwrap();
    let told: Vec<&str> = causes.iter().map(|c| c["message"].as_str().unwrap()).collect();
    assert_eq!(refused["message"], told[0]);
    for (name, told) in ["a", "b"].into_iter().zip(told) {
        let head = format!("policy '{name}' with binding '{name}' denied request: ");
        assert!(told.starts_with(&head), "{told}");
    }
}

#[tokio::test]
async fn what_is_deleted_cannot_be_changed() {
    let s = Server::guarded().await;
    let rule = json!({"operations": ["CREATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let spec =
        json!({"mutations": [configuration("Object{}")], "matchConstraints": {"resourceRules": [rule]}});
    let (code, refused) = bound(&s, "a", spec).await;
    let wanted = "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                  \"CONNECT\", \"CREATE\", \"UPDATE\"";
    assert!(
        code == 422 && refused["message"].as_str().unwrap().contains(wanted),
        "{refused}"
    );
}
