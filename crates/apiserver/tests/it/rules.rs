//! CEL in custom resources: rules, messages, transitions, ratcheting, budget; what does not compile is refused.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};
use std::time::Duration;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/e.example.com/v1/namespaces/default/things";

fn definition(spec: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.e.example.com"},
        "spec": {"group": "e.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]},
    })
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "e.example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

async fn define(s: &Server, spec: Value) {
    s.define(&definition(spec)).await;
}

#[tokio::test]
async fn rules_and_their_words() {
    let s = Server::start().await;
    define(
        &s,
        json!({
            "type": "object",
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.max", "messageExpression": "'min %d is over max %d'.format([self.min, self.max])"},
                {"rule": "self.name != 'root'", "message": "root is taken", "reason": "FieldValueForbidden", "fieldPath": ".name"},
                {"rule": "!has(self.kind__dash__of) || self.kind__dash__of == oldSelf.?kind__dash__of.orValue(self.kind__dash__of)",
                    "message": "kind-of is fixed"},
                {"rule": "optionalOldSelf.hasValue() || true".replace("optionalOldSelf", "oldSelf"), "optionalOldSelf": true},
            ],
            "properties": {
                "min": {"type": "integer", "default": 1}, "max": {"type": "integer", "default": 5},
                "name": {"type": "string", "default": "x"}, "kind-of": {"type": "string"},
                "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "cannot shrink"}]},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "port": {"type": "integer"}},
                        "x-kubernetes-validations": [{"rule": "self.port == oldSelf.port", "message": "port is fixed"}]}},
                "old": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('a')"}]},
                "many": {"type": "array", "maxItems": 1000, "items": {"type": "integer"},
                    "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x + y >= 0))"}]},
            },
        }),
    )
    .await;
    let prefix = "Thing.e.example.com \"t\" is invalid: ";
    let cases = [
        (json!({"min": 7}), "spec: Invalid value: min 7 is over max 5"),
        (json!({"name": "root"}), "spec.name: Forbidden: root is taken"),
        (
            json!({"old": "b"}),
            "spec.old: Invalid value: \"b\": failed rule: self.startsWith('a')",
        ),
        (
            json!({"min": "x"}),
            "[spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\", <nil>: Invalid \
             value: \"null\": some validation rules were not checked because the object was invalid; correct the \
             existing errors to complete validation]",
        ),
    ];
    for (spec, words) in cases {
        let (code, refused) = s.json("POST", THINGS, &thing("t", spec.clone())).await;
        assert_eq!(code, 422, "{spec} {refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with(prefix), "{message}");
        if !words.starts_with('[') {
            assert_eq!(message, format!("{prefix}{words}"));
        } else {
            assert!(
                message.contains("some validation rules were not checked"),
                "{message}"
            );
        }
    }
    let many: Vec<i64> = (0..1000).collect();
    let (code, refused) = s.json("POST", THINGS, &thing("t", json!({"many": many}))).await;
    assert_eq!(code, 422);
    assert!(
        refused["message"].as_str().unwrap().contains(
            "spec.many: Invalid value: \"array\": 'operation cancelled: actual cost limit exceeded': no further \
             validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x + y >= 0))"
        ),
        "{refused}"
    );

    let first = json!({"size": 3, "kind-of": "a", "ports": [{"name": "p", "port": 1}]});
    let (code, made) = s.json("POST", THINGS, &thing("t", first)).await;
    assert_eq!(code, 201, "{made}");
    let changes = [
        (json!({"size": 4}), None),
        (
            json!({"size": 1}),
            Some("spec.size: Invalid value: 1: cannot shrink"),
        ),
        (
            json!({"kind-of": "b"}),
            Some("spec: Invalid value: kind-of is fixed"),
        ),
        (
            json!({"ports": [{"name": "new", "port": 9}, {"name": "p", "port": 2}]}),
            Some("spec.ports[1]: Invalid value: port is fixed"),
        ),
    ];
    for (change, words) in changes {
        let (code, answer) = s
            .json("PATCH", &format!("{THINGS}/t"), &json!({"spec": change}))
            .await;
        match words {
            None => assert_eq!(code, 200, "{answer}"),
            Some(words) => assert_eq!(answer["message"], format!("{prefix}{words}")),
        }
    }
}

#[tokio::test]
async fn what_was_wrong_before_may_stay() {
    let s = Server::start().await;
    let with = |rules: Value| {
        json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": rules},
            "b": {"type": "integer"}}})
    };
    define(&s, with(json!([]))).await;
    let (code, _) = s.json("POST", THINGS, &thing("t", json!({"a": "bad"}))).await;
    assert_eq!(code, 201);
    let rule = json!([{"rule": "self == 'good'"}]);
    let path = format!("{CRDS}/things.e.example.com");
    let (code, changed) = s.json("GET", &path, &Value::Null).await;
    assert_eq!(code, 200);
    let mut changed = changed;
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = with(rule);
    assert_eq!(s.json("PUT", &path, &changed).await.0, 200);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while s
        .json(
            "POST",
            &format!("{THINGS}?dryRun=All"),
            &thing("u", json!({"a": "bad"})),
        )
        .await
        .0
        != 422
    {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    let (code, present) = s.get(&format!("{THINGS}/t")).await;
    assert_eq!(code, 200);
    let mut next = present;
    next["spec"]["b"] = json!(2);
    let (code, warnings, answer) = s.warned("PUT", &format!("{THINGS}/t"), &next).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(
        warnings,
        ["299 - \"spec.a: Invalid value: \\\"bad\\\": failed rule: self == 'good'\""]
    );
    next["spec"]["a"] = json!("worse");
    let (code, _) = s
        .json("PATCH", &format!("{THINGS}/t"), &json!({"spec": {"a": "worse"}}))
        .await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn definitions_with_mistakes() {
    let s = Server::start().await;
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].";
    let cases = [
        (
            json!({"rule": "self.nothing > 1"}),
            format!("{at}rule: Invalid value: "),
            "compilation failed: ERROR: <input>:1:5: undefined field 'nothing'\n | self.nothing > 1\n | ....^",
        ),
        (
            json!({"rule": "self.a"}),
            format!(
                "{at}rule: Invalid value: {{\"Rule\":\"self.a\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\
                 \"FieldPath\":\"\",\"OptionalOldSelf\":null}}: "
            ),
            "cel expression must evaluate to a bool",
        ),
        (
            json!({"rule": "dyn(self.a == 1)"}),
            format!("{at}rule: Invalid value: "),
            "cel expression must evaluate to a bool",
        ),
        (
            json!({"rule": "a\nb"}),
            format!("{at}message: Required value"),
            "message must be specified if rule contains line breaks",
        ),
        (
            json!({"rule": ""}),
            format!("{at}rule: Required value"),
            "rule is not specified",
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            format!("{at}messageExpression: Invalid value: "),
            "messageExpression must evaluate to a string",
        ),
        (
            json!({"rule": "true", "messageExpression": " "}),
            format!("{at}messageExpression: Required value"),
            "messageExpression must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": " "}),
            format!("{at}message: Invalid value: \" \""),
            "must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": "a\rb"}),
            format!("{at}message: Invalid value: "),
            "must not contain line breaks",
        ),
        (
            json!({"rule": "true", "fieldPath": " "}),
            format!("{at}fieldPath: Invalid value: \" \""),
            "must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": false}),
            format!("{at}optionalOldSelf: Invalid value: false"),
            "may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "self.a > int('x')"}),
            format!("{at}rule: Invalid value: "),
            "program instantiation failed: type conversion error from 'string' to 'int'",
        ),
        (
            json!({"rule": "true", "messageExpression": "string(int('x'))"}),
            format!("{at}messageExpression: Invalid value: "),
            "messageExpression instantiation failed: type conversion error from 'string' to 'int'",
        ),
    ];
    for (rule, place, words) in cases {
        let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule]});
        let (code, refused) = s.json("POST", CRDS, &definition(schema)).await;
        assert_eq!(code, 422, "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(&place) && message.contains(words), "{message}");
    }
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}}}});
    let (_, refused) = s.json("POST", CRDS, &definition(schema)).await;
    assert!(refused["message"].as_str().unwrap().contains(
        "oldSelf cannot be used on the uncorrelatable portion of the schema within \
         spec.validation.openAPIV3Schema.properties[spec].properties[l]"
    ));
}

/// Upstream refuses rules that could hold a write for long, before there is an object.
#[tokio::test]
async fn rules_that_may_cost_too_much() {
    let s = Server::start().await;
    let strings = |limits: Value| {
        let mut list = json!({"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}]});
        for (name, limit) in limits.as_object().unwrap() {
            match name.as_str() {
                "maxLength" => list["items"][name] = limit.clone(),
                _ => list[name] = limit.clone(),
            }
        }
        list
    };
    let nested = |outer: Value| {
        let mut list = json!({"type": "array", "items": {"type": "object", "properties": {"s": {"type": "string",
            "maxLength": 100, "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]+$')"}]}}}});
        if !outer.is_null() {
            list["maxItems"] = outer;
        }
        list
    };
    let often = |mut value: Value, rule: &str| {
        value["x-kubernetes-validations"] = json!([{"rule": rule}]);
        json!({"type": "array", "maxItems": 1_500_000, "items": value})
    };
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: ";
    let over = "estimated rule cost exceeds budget by factor of";
    let cases = [
        (
            strings(json!({})),
            Some(format!(
                "{at}{over} more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
            )),
        ),
        (
            strings(json!({"maxItems": 100})),
            Some(format!("{at}{over} more than 100x")),
        ),
        (strings(json!({"maxItems": 100, "maxLength": 20})), None),
        (
            strings(json!({"maxItems": 1000, "maxLength": 40})),
            Some(format!("{at}{over} 2.")),
        ),
        (nested(json!(1000)), None),
        (nested(Value::Null), Some(format!("{over} "))),
        // A map is asked at once, however large; what is compared without having a length costs nothing.
        (
            often(
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "'a' in self",
            ),
            None,
        ),
        (often(json!({"type": "integer"}), "self == self"), None),
        (
            often(json!({"type": "string", "maxLength": 1000}), "isURL(self)"),
            None,
        ),
        (
            often(
                json!({"type": "integer"}),
                "self + self == self + self && self + self == 1",
            ),
            Some(format!("{over} 1.6x")),
        ),
        // Of a number as text, and of what is formatted, upstream knows no end.
        (
            often(json!({"type": "integer"}), "'a' + string(self) == 'a'"),
            Some(format!("{over} more than 100x")),
        ),
    ];
    for (schema, words) in cases {
        let path = format!("{CRDS}?dryRun=All");
        let (code, answer) = s.json("POST", &path, &definition(schema.clone())).await;
        match words {
            None => assert_eq!(code, 201, "{schema} {answer}"),
            Some(words) => assert!(
                code == 422 && answer["message"].as_str().unwrap().contains(&words),
                "{schema} {words}\n{answer}"
            ),
        }
    }
}

/// What atomic maps hold has a value of before, and names of fields in paths need not be words.
#[tokio::test]
async fn rules_that_upstream_takes() {
    let s = Server::start().await;
    let changing =
        json!({"type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]});
    let named = json!({"x-y": {"type": "string"}, "a b": {"type": "string"}});
    let at = |path: &str| json!({"type": "object", "properties": named, "x-kubernetes-validations": [{"rule": "true", "fieldPath": path}]});
    let untyped = json!({"type": "object", "additionalProperties": {"x-kubernetes-preserve-unknown-fields": true},
        "x-kubernetes-validations": [{"rule": "self.size() < 3"}]});
    for (spec, told) in [
        (
            json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": changing}}),
            "",
        ),
        (at(".x-y"), ""),
        (at(".a b"), ""),
        (at("['x-y']"), ""),
        (at(".['x-y']"), "must be a valid path"),
        (at(".x"), "must be a valid path"),
        (
            untyped,
            "properties[spec].x-kubernetes-validations: Internal error: internal error: failed to construct type information for \
             x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
        ),
    ] {
        let (code, said) = s
            .json("POST", &format!("{CRDS}?dryRun=All"), &definition(spec.clone()))
            .await;
        assert_eq!(code, if told.is_empty() { 201 } else { 422 }, "{spec} {said}");
        assert!(
            said["message"].as_str().unwrap_or_default().contains(told),
            "{spec} {said}"
        );
    }
}

#[tokio::test]
async fn asking_whether_a_field_is_there_is_cheap() {
    // As the definitions of Argo Workflows: in lists without limits, one of ten sources at most.
    let s = Server::start().await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let one: Vec<String> = names.iter().map(|n| format!("(has(self.{n}) ? 1 : 0)")).collect();
    let mut artifact = json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": format!("{} <= 1", one.join(" + "))}]});
    for name in names {
        artifact["properties"][name] = json!({"type": "object"});
    }
    let list = |n: usize| (format!("list{n}"), json!({"type": "array", "items": artifact}));
    let lists: serde_json::Map<String, Value> = (0..16).map(list).collect();
    let crd = json!({"metadata": {"name": "ws.argo.example.com"}, "spec": {"group": "argo.example.com", "scope": "Namespaced",
        "names": {"plural": "ws", "singular": "w", "kind": "W", "listKind": "WList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": lists}}}]}});
    let (code, said) = s
        .json(
            "POST",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All",
            &crd,
        )
        .await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn bodies_that_are_no_object_of_the_kind() {
    let s = Server::start().await;
    define(&s, json!({"type": "object"})).await;
    let cases = [
        (
            json!({"spec": {}}),
            "the object provided is unrecognized (must be of type Thing): Object 'Kind' is missing in '{\"spec\":{}}' \
             ({\"spec\":{}})",
        ),
        (
            json!({"apiVersion": "e.example.com/v1", "kind": "Thing", "metadata": 1}),
            "Thing in version \"v1\" cannot be handled as a Thing: json: cannot unmarshal number into Go value of type \
             v1.ObjectMeta",
        ),
        (
            json!({"apiVersion": "e.example.com/v1", "kind": "Thing", "metadata": {"name": "a", "labels": 1}}),
            "Thing in version \"v1\" cannot be handled as a Thing: json: cannot unmarshal number into Go struct field \
             ObjectMeta.labels of type map[string]string",
        ),
    ];
    for (body, words) in cases {
        let (code, refused) = s.json("POST", THINGS, &body).await;
        assert_eq!((code, refused["message"].as_str()), (400, Some(words)), "{body}");
    }
}
