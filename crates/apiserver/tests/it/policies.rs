//! ValidatingAdmissionPolicies: rules, bindings, parameters, variables, actions, and the words of refusals.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(spec: Value) -> Value {
    let mut whole = json!({"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [{"apiGroups": [""],
        "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}]}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"}, "spec": whole})
}

/// An expression that asks the authorizer.
const ASKED: &str = "authorizer.group('apps').resource('deployments').subresource('status').namespace('test').name('backend').check('create').allowed()";

fn binding(spec: Value) -> Value {
    let mut whole = json!({"policyName": "p", "validationActions": ["Deny"]});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": whole})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[tokio::test]
async fn policies_and_bindings() {
    let s = Server::guarded().await;
    let (code, _) = s.json("POST", MAPS, &map("limits", json!({"max": "2"}))).await;
    assert_eq!(code, 201);
    let denied = |what: &str| {
        format!(
            "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {what}"
        )
    };
    let maps = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    let cases = [
        (
            json!({"validations": [{"expression": "object.data.size() < 2"}]}),
            json!({}),
            422,
            denied("failed expression: object.data.size() < 2"),
        ),
        (
            json!({"variables": [{"name": "n", "expression": "object.data.size()"}, {"name": "big", "expression": "variables.n > 1"}],
                "validations": [{"expression": "!variables.big", "messageExpression": "'has ' + string(variables.n)", "reason": "Forbidden"}]}),
            json!({}),
            403,
            denied("has 2"),
        ),
        (
            json!({"validations": [{"expression": "object.data.nothing == ''"}]}),
            json!({}),
            422,
            denied("expression 'object.data.nothing == ''' resulted in error: no such key: nothing"),
        ),
        (
            // Each of them costs 350,000, and one expression may cost a million.
            json!({"variables": [{"name": "dear", "expression": format!("{ASKED} && {ASKED} && {ASKED}")}],
                "validations": [{"expression": "variables.dear"}]}),
            json!({}),
            422,
            denied(
                "expression 'variables.dear' resulted in error: composited variable \"dear\" fails to evaluate: operation cancelled: actual cost limit exceeded",
            ),
        ),
        (
            json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.nothing == ''"}]}),
            json!({}),
            201,
            String::new(),
        ),
        (
            json!({"paramKind": maps, "validations": [{"expression": "object.data.size() < int(params.data.max)", "message": "too many"}]}),
            json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}}),
            422,
            denied("too many"),
        ),
        (
            json!({"paramKind": maps, "validations": [{"expression": "false"}]}),
            json!({"paramRef": {"name": "none", "parameterNotFoundAction": "Allow"}}),
            201,
            String::new(),
        ),
        (
            json!({"paramKind": maps, "validations": [{"expression": "true"}]}),
            json!({"paramRef": {"name": "none", "parameterNotFoundAction": "Deny"}}),
            422,
            denied(
                "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
            ),
        ),
        (
            json!({"validations": [{"expression": "false"}]}),
            json!({"matchResources": {"namespaceSelector": {"matchLabels": {"x": "y"}}}}),
            201,
            String::new(),
        ),
        (
            json!({"validations": [{"expression": "namespaceObject.metadata.name == 'default' && request.operation == 'CREATE' && oldObject == null"}]}),
            json!({}),
            201,
            String::new(),
        ),
        (
            json!({"matchConditions": [{"name": "m", "expression": "object.metadata.name == 'z'"}], "validations": [{"expression": "false"}]}),
            json!({}),
            201,
            String::new(),
        ),
        (
            json!({"validations": [{"expression": "authorizer.requestResource.check('create').allowed()"}]}),
            json!({}),
            201,
            String::new(),
        ),
    ];
    for (spec, bound, want, words) in cases {
        let (code, made) = s.json("POST", POLICIES, &policy(spec.clone())).await;
        assert_eq!(code, 201, "{spec} {made}");
        let (code, made) = s.json("POST", BINDINGS, &binding(bound)).await;
        assert_eq!(code, 201, "{made}");
        let (code, answer) = s.json("POST", MAPS, &map("a", json!({"x": "1", "y": "2"}))).await;
        assert_eq!(code, want, "{spec}: {answer}");
        if want != 201 {
            assert_eq!(answer["message"], words, "{spec}");
            let message = answer["details"]["causes"][0]["message"].as_str().unwrap();
            assert!(words.ends_with(message), "{message}");
        }
        for path in [format!("{BINDINGS}/b"), format!("{POLICIES}/p")] {
            assert_eq!(s.json("DELETE", &path, &Value::Null).await.0, 200);
        }
        let _ = s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    }
    // A warning lets through.
    let spec = json!({"validations": [{"expression": "false", "message": "odd"}]});
    assert_eq!(s.json("POST", POLICIES, &policy(spec)).await.0, 201);
    let warn = binding(json!({"validationActions": ["Warn", "Audit"]}));
    assert_eq!(s.json("POST", BINDINGS, &warn).await.0, 201);
    let (code, warnings, _) = s.warned("POST", MAPS, &map("a", json!({}))).await;
    assert_eq!(code, 201);
    assert_eq!(
        warnings,
        ["299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': odd\""]
    );
}

#[tokio::test]
async fn policies_with_mistakes() {
    let s = Server::guarded().await;
    let cases = [
        (
            json!({"validations": [{"expression": "nobody"}]}),
            "spec.validations[0].expression: Invalid value: \"nobody\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')",
        ),
        (
            json!({"validations": [{"expression": "1"}]}),
            "spec.validations[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
        (
            json!({"validations": [{"expression": "1 > int('x')"}]}),
            "spec.validations[0].expression: Internal error: program instantiation failed: type conversion error from 'string' to 'int'",
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "bool(string(7))"}], "validations": [{"expression": "true"}]}),
            "spec.matchConditions[0].expression: Internal error: program instantiation failed: type conversion error from 'string' to 'bool'",
        ),
        (
            json!({"validations": [{"expression": "params.x"}]}),
            "undeclared reference to 'params' (in container '')",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "variables.b"}], "validations": [{"expression": "true"}]}),
            "1:10: undefined field 'b'",
        ),
        (
            json!({"validations": [{"expression": "variables.a"}]}),
            "undeclared reference to 'variables'",
        ),
        (
            json!({"validations": [{"expression": "object.spec.on"}]}),
            "must evaluate to bool but got dyn",
        ),
        (
            json!({"validations": [{"expression": "request.userInfo.username == 1"}]}),
            "found no matching overload for '_==_' applied to '(string, int)'",
        ),
        (
            json!({"validations": [{"expression": "namespaceObject.spec.x == 1"}]}),
            "undefined field 'x'",
        ),
        (
            json!({"validations": [{"expression": "authorizer.group('x').check('get').allowed()"}]}),
            "found no matching overload for 'check' applied to 'kubernetes.authorization.GroupCheck.(string)'",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "'x'"}], "validations": [{"expression": "variables.a > 1"}]}),
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
        (
            json!({"matchConditions": [{"name": "a"}], "validations": [{"expression": "true"}]}),
            "spec.matchConditions[0].expression: Required value",
        ),
        (
            json!({"auditAnnotations": [{"key": "a", "valueExpression": "1"}]}),
            "must evaluate to one of [string null_type] but got int",
        ),
        (
            json!({"auditAnnotations": [{"key": "a b", "valueExpression": "'x'"}]}),
            "spec.auditAnnotations[0].key: Invalid value: \"p/a b\": name part must consist of",
        ),
        (
            json!({"auditAnnotations": [{"key": "a", "valueExpression": "'x'"}, {"key": "a", "valueExpression": "'x'"}]}),
            "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
        ),
        (
            json!({}),
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
    ];
    for (spec, words) in cases {
        let (code, refused) = s.json("POST", POLICIES, &policy(spec)).await;
        assert_eq!(code, 422, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
    }
}

/// KEP-3488: what does not fit the kinds that a policy names is told in its status.
#[tokio::test]
async fn types_are_told() {
    let s = Server::guarded().await;
    let rules = |group: &str, plural: &str| json!({"resourceRules": [{"apiGroups": [group], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": [plural]}]});
    let confused = policy(json!({"matchConstraints": rules("apps", "deployments"),
        "variables": [{"name": "n", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "object.spec.replicas > '1'", "messageExpression": "'wants more than ' + object.spec.replicas"},
            {"expression": "variables.n > 1 && object.spec.template.spec.containers.all(c, c.image != '')"},
            {"expression": "object.spec.odd == 1"}]}));
    let (code, made) = s.json("POST", POLICIES, &confused).await;
    assert_eq!(code, 201, "{made}");
    let told = s
        .until(&format!("{POLICIES}/p"), |_, p| {
            p["status"]["typeChecking"].is_object()
        })
        .await;
    let warnings = told["status"]["typeChecking"]["expressionWarnings"]
        .as_array()
        .unwrap();
    let shown: Vec<String> = warnings
        .iter()
        .map(|w| {
            format!(
                "{} {}",
                w["fieldRef"].as_str().unwrap(),
                w["warning"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "spec.validations[0].expression apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for \
         '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n",
            "spec.validations[0].messageExpression apps/v1, Kind=Deployment: ERROR: <input>:1:20: found no matching \
         overload for '_+_' applied to '(string, int)'\n | 'wants more than ' + object.spec.replicas\n | \
         ...................^\n",
            "spec.validations[2].expression apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'odd'\n | \
         object.spec.odd == 1\n | ...........^\n",
        ]
    );
    let mut good = policy(json!({"validations": [{"expression": "object.data.size() < 2"}]}));
    good["metadata"]["name"] = "good".into();
    assert_eq!(s.json("POST", POLICIES, &good).await.0, 201);
    let told = s
        .until(&format!("{POLICIES}/good"), |_, p| {
            p["status"]["typeChecking"].is_object()
        })
        .await;
    assert_eq!(
        told["status"],
        json!({"observedGeneration": 1, "typeChecking": {}})
    );
}

/// Policies watch over webhooks, but not over policies: who wrote a bad one could not take it back.
#[tokio::test]
async fn policies_on_admission_itself() {
    let s = Server::guarded().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["admissionregistration.k8s.io"], "apiVersions": ["*"],
        "resources": ["*"]}]);
    let strict = json!({"matchConstraints": {"resourceRules": rules}, "validations": [{"expression": "false", "message": "never"}]});
    for (resource, object) in [
        ("validatingadmissionpolicies", policy(strict)),
        ("validatingadmissionpolicybindings", binding(json!({}))),
    ] {
        let (code, said) = s.json("POST", &format!("{group}/{resource}"), &object).await;
        assert_eq!(code, 201, "{said}");
    }
    let named = |mut object: Value| {
        object["metadata"]["name"] = json!("another");
        object
    };
    let hooks = |kind: &str| json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "another"}});
    for (resource, object, code) in [
        (
            "validatingadmissionpolicies",
            named(policy(json!({"validations": [{"expression": "true"}]}))),
            201,
        ),
        (
            "validatingadmissionpolicybindings",
            named(binding(json!({}))),
            201,
        ),
        (
            "mutatingwebhookconfigurations",
            hooks("MutatingWebhookConfiguration"),
            422,
        ),
        (
            "validatingwebhookconfigurations",
            hooks("ValidatingWebhookConfiguration"),
            422,
        ),
    ] {
        let (answered, said) = s.json("POST", &format!("{group}/{resource}"), &object).await;
        assert_eq!(answered, code, "{resource}: {said}");
    }
}

#[tokio::test]
async fn connections_are_judged_before_their_end_is_looked_for() {
    let s = Server::guarded().await;
    let rules = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"],
        "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy"]}]});
    // Options have no fields but those that are set.
    let text = "object.kind + ' ' + string(has(object.stdin)) + ' ' + (has(object.path) ? object.path : '')";
    let validations = json!([{"expression": "false", "messageExpression": text}]);
    let policy = policy(json!({"matchConstraints": rules, "validations": validations}));
    for (path, object) in [(POLICIES, &policy), (BINDINGS, &binding(json!({})))] {
        let (code, text) = s.json("POST", path, object).await;
        assert_eq!(code, 201, "{text}");
    }
    let default = "/api/v1/namespaces/default";
    let cases = [
        (format!("{default}/pods/none/exec?stdin=1"), "PodExecOptions true"),
        (
            format!("{default}/pods/none/attach?stdin=false"),
            "PodAttachOptions false",
        ),
        (
            format!("{default}/pods/none/portforward"),
            "PodPortForwardOptions false",
        ),
        (
            format!("{default}/pods/none/proxy/a%20b?c=d"),
            "PodProxyOptions false /a b",
        ),
        (
            format!("{default}/services/none/proxy/"),
            "ServiceProxyOptions false /",
        ),
        (
            "/api/v1/nodes/none/proxy/x/y".into(),
            "NodeProxyOptions false /x/y",
        ),
    ];
    for (path, words) in cases {
        let (code, text) = s.json("POST", &path, &json!({})).await;
        assert_eq!(code, 422, "{path}: {text}");
        assert!(
            text.to_string().contains(&format!("denied request: {words}")),
            "{path}: {text}"
        );
    }
    let (code, text) = s
        .json(
            "POST",
            &format!("{default}/pods/none/exec?stdin=1&dryRun=All"),
            &json!({}),
        )
        .await;
    assert_eq!(
        (code, text["message"].as_str()),
        (400, Some("dryRun is not supported"))
    );
    let (code, text) = s
        .json(
            "POST",
            &format!("{default}/pods/none/portforward?ports=http"),
            &json!({}),
        )
        .await;
    assert_eq!(code, 400, "{text}");
}
