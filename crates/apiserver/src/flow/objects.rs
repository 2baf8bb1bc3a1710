//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, and what an older one of them lacks.
//! Source: upstream's `pkg/apis/flowcontrol/bootstrap` and `pkg/registry/flowcontrol/ensurer`.

use crate::rest::meta;
use serde_json::{Value, json};

/// Whose `true` says that the spec of a suggested object follows the server's.
const FOLLOWS: &str = "apf.kubernetes.io/autoupdate-spec";

/// Name, shares, percent that may be lent, and queues (number, hand size, length); rejects without queues.
type Level = (&'static str, u32, u32, Option<(u32, u32, u32)>);

const LEVELS: [Level; 6] = [
    ("system", 30, 33, Some((64, 6, 50))),
    ("node-high", 40, 25, Some((64, 6, 50))),
    ("leader-election", 10, 0, Some((16, 4, 50))),
    ("workload-high", 40, 50, Some((128, 6, 50))),
    ("workload-low", 100, 90, Some((128, 6, 50))),
    ("global-default", 20, 50, Some((128, 6, 50))),
];

/// The levels and schemas that nobody can change, and that come back when they are deleted.
fn mandatory() -> Vec<Value> {
    let kinds = ["PriorityLevelConfiguration", "FlowSchema"].into_iter();
    let all = kinds.flat_map(|kind| machinery::MANDATORY_FLOWS.map(|name| (kind, name)));
    let object = |(kind, name)| {
        let spec = machinery::mandatory_spec(kind, name)?;
        Some(
            json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "annotations": {FOLLOWS: "true"}}, "spec": spec}),
        )
    };
    all.filter_map(object).collect()
}

/// The levels and schemas that upstream makes when they are missing.
pub fn bootstrap_objects() -> Vec<Value> {
    let level = |name: &str, spec: Value| {
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": name, "annotations": {FOLLOWS: "true"}}, "spec": spec})
    };
    let mut objects = mandatory();
    objects.extend(LEVELS.iter().map(|(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand, length)) => json!({"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}),
        };
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
        level(name, json!({"type": "Limited", "limited": limited}))
    }));
    objects.extend(schemas());
    objects
}

fn schemas() -> Vec<Value> {
    let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let system_account = |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}});
    let resources = |verbs: &[&str], group: &str, resources: &[&str], namespaces: &[&str], cluster: bool| {
        let mut rule =
            json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "clusterScope": cluster});
        if !namespaces.is_empty() {
            rule["namespaces"] = json!(namespaces);
        }
        rule
    };
    let everything = |subjects: Vec<Value>| {
        json!({"subjects": subjects, "resourceRules": [resources(&["*"], "*", &["*"], &["*"], true)],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
    };
    let schema = |name: &str, precedence: u32, level: &str, by: &str, rules: Vec<Value>| {
        let mut spec = json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level},
            "rules": rules});
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": {"name": name, "annotations": {FOLLOWS: "true"}}, "spec": spec})
    };
    let all_users = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let managers = || {
        vec![
            user("system:kube-controller-manager"),
            user("system:kube-scheduler"),
        ]
    };
    let elect: &[&str] = &["get", "create", "update"];
    let lease = || resources(elect, "coordination.k8s.io", &["leases"], &["*"], false);
    let mut electing = managers();
    electing.push(system_account("*"));
    let nodes = [
        resources(&["*"], "", &["nodes", "nodes/status"], &["*"], true),
        resources(&["*"], "coordination.k8s.io", &["leases"], &["*"], false),
    ];
    vec![
        schema(
            "probes",
            2,
            "exempt",
            "",
            vec![json!({"subjects": all_users(), "nonResourceRules": [
            {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})],
        ),
        schema(
            "system-leader-election",
            100,
            "leader-election",
            "ByUser",
            vec![json!({"subjects": electing, "resourceRules": [lease()]})],
        ),
        schema(
            "endpoint-controller",
            150,
            "workload-high",
            "ByUser",
            vec![json!({
            "subjects": [user("system:kube-controller-manager"), system_account("endpoint-controller"),
                system_account("endpointslicemirroring-controller")],
            "resourceRules": [resources(elect, "", &["endpoints"], &["*"], false)]})],
        ),
        schema(
            "workload-leader-election",
            200,
            "leader-election",
            "ByUser",
            vec![json!({"subjects": [system_account("*")], "resourceRules": [lease()]})],
        ),
        schema(
            "system-node-high",
            400,
            "node-high",
            "ByUser",
            vec![json!({"subjects": [group("system:nodes")], "resourceRules": nodes})],
        ),
        schema(
            "system-nodes",
            500,
            "system",
            "ByUser",
            vec![everything(vec![group("system:nodes")])],
        ),
        schema(
            "kube-controller-manager",
            800,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![user("system:kube-controller-manager")])],
        ),
        schema(
            "kube-scheduler",
            800,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![user("system:kube-scheduler")])],
        ),
        schema(
            "kube-system-service-accounts",
            900,
            "workload-high",
            "ByNamespace",
            vec![everything(vec![system_account("*")])],
        ),
        schema(
            "service-accounts",
            9000,
            "workload-low",
            "ByUser",
            vec![everything(vec![group("system:serviceaccounts")])],
        ),
        schema(
            "global-default",
            9900,
            "global-default",
            "ByUser",
            vec![everything(all_users())],
        ),
    ]
}

/// What becomes of an object that is there: the mandatory ones, and those that nobody took over, get the spec of this
/// server; the annotation says which they are. None: it is as it should be.
pub fn renewed(present: &Value, wanted: &Value) -> Option<Value> {
    let kind = kinds::find_kind(super::GROUP, "v1", wanted["kind"].as_str()?)?;
    let mandatory = machinery::MANDATORY_FLOWS.contains(&meta(wanted, "name"));
    let said = present["metadata"]["annotations"][FOLLOWS]
        .as_str()
        .and_then(boolean);
    let follows = mandatory || said.unwrap_or(present["metadata"]["generation"] == 1);
    let mut whole = wanted.clone();
    machinery::default(kind, &mut whole);
    let own = &present["spec"]["exempt"];
    if own.is_object() && whole["spec"]["exempt"].is_object() {
        // What of it is lent is for the operator to say.
        whole["spec"]["exempt"] = own.clone();
    }
    let other = follows && whole["spec"] != present["spec"];
    if !other && said == Some(follows) {
        return None;
    }
    let mut next = present.clone();
    if said != Some(follows) {
        next["metadata"]["annotations"][FOLLOWS] = json!(follows.to_string());
    }
    if other {
        next["spec"] = whole["spec"].take();
        next["metadata"]["generation"] = json!(present["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
    }
    Some(next)
}

/// A truth value as Go's `strconv.ParseBool` reads it.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
