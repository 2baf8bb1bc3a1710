//! Definitions that upstream refuses, in its words, and what its conformance tests ask of those that it serves: defaults
//! that come later reach what is stored already.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use common::definitions::{CRDS, definition, object};
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn what_is_not_structural_is_refused() {
    let s = Server::start().await;
    let schema = "spec.validation.openAPIV3Schema";
    let keyed = |item: Value| {
        object(json!({"x": {"type": "array", "items": item,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}}))
    };
    let cases = [
        (
            json!({}),
            format!("{schema}.type: Required value: must not be empty at the root"),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            format!("{schema}.type: Invalid value: \"array\": must be object at the root"),
        ),
        (
            object(json!({"x": {}})),
            format!(
                "{schema}.properties[x].type: Required value: must not be empty for specified object fields"
            ),
        ),
        (
            object(json!({"x": {"type": "array", "items": {}}})),
            format!(
                "{schema}.properties[x].items.type: Required value: must not be empty for specified array items"
            ),
        ),
        (
            object(
                json!({"x": {"type": "array", "items": {"type": "string"}, "not": {"items": [{"type": "string"}]}}}),
            ),
            format!(
                "{schema}.properties[x].not.items: Forbidden: items must be a schema object and not an array"
            ),
        ),
        (
            object(json!({"x": {"type": "array"}})),
            format!("{schema}.properties[x].items: Required value: must be specified"),
        ),
        (
            object(
                json!({"x": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                "metadata": object(json!({"labels": {"type": "object", "additionalProperties": {"type": "string",
                    "default": "a"}}}))}}}),
            ),
            format!(
                "{schema}.properties[x].properties[metadata].properties[labels].additionalProperties.default: Forbidden: \
                 must not be set inside additionalProperties applying to object metadata"
            ),
        ),
        (
            keyed(
                json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "nullable": true}}}),
            ),
            format!(
                "{schema}.properties[x].items.properties[k].nullable: Forbidden: this property is in \
                 x-kubernetes-list-map-keys, so it cannot be nullable"
            ),
        ),
        (
            object(json!({"x": {"type": "text"}})),
            format!(
                "{schema}.properties[x].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \
                 \"integer\", \"number\", \"object\", \"string\""
            ),
        ),
        (
            object(json!({"x": {"type": "string", "default": 5}})),
            format!(
                "{schema}.properties[x].default: Invalid value: \"integer\":  in body must \
                 be of type string: \"integer\""
            ),
        ),
        (
            object(
                json!({"x": {"type": "object", "properties": {"a": {"type": "string"}},
                "additionalProperties": {"type": "string"}}}),
            ),
            format!(
                "{schema}.properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual \
                 exclusive"
            ),
        ),
        (
            keyed(object(json!({"k": {"type": "string"}}))),
            format!(
                "{schema}.properties[x].items.properties[k].default: Required value: this property is in \
                 x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
        ),
        (
            keyed(object(json!({"other": {"type": "string"}}))),
            format!(
                "{schema}.properties[x].x-kubernetes-list-map-keys: Invalid value: [\"k\"]: entries must all be names of \
                 item properties"
            ),
        ),
        (
            keyed(object(json!({"k": {"type": "object", "default": {}}}))),
            format!(
                "{schema}.properties[x].items.properties[k].type: Invalid value: \"object\": must be a scalar type if parent \
                 array's x-kubernetes-list-type is map"
            ),
        ),
        (
            object(
                json!({"x": {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}}),
            ),
            format!(
                "{schema}.properties[x].items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list \
                 with x-kubernetes-list-type=set"
            ),
        ),
        (
            object(
                json!({"x": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-map-keys": ["k"]}}),
            ),
            format!(
                "{schema}.properties[x].x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is \
                 non-empty"
            ),
        ),
        (
            object(json!({"x": {"type": "object", "x-kubernetes-map-type": "list"}})),
            format!(
                "{schema}.properties[x].x-kubernetes-map-type: Unsupported value: \"list\": supported values: \"atomic\", \
                 \"granular\""
            ),
        ),
        (
            object(json!({"x": {"type": "string", "pattern": "(?=a)"}})),
            format!(
                "{schema}.properties[x].pattern: Invalid value: \"(?=a)\": must be a valid regular expression, but isn't: \
                 error parsing regexp: invalid or unsupported Perl syntax: `(?=`"
            ),
        ),
        (
            object(json!({"x": {"type": "object", "x-kubernetes-preserve-unknown-fields": false}})),
            format!(
                "{schema}.properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"
            ),
        ),
        (
            object(json!({"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}})),
            format!(
                "{schema}.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but \
                 metadata is implicitly specified"
            ),
        ),
        (
            object(json!({"apiVersion": {"type": "integer"}})),
            format!("{schema}.properties[apiVersion].type: Invalid value: \"integer\": must be string"),
        ),
        (
            object(
                json!({"x": {"type": "object", "properties": {"a": {"type": "string"}},
                "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".b"}]}}),
            ),
            format!(
                "{schema}.properties[x].x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": must be a valid path"
            ),
        ),
        (
            object(json!({"x": {"type": "integer", "anyOf": [{"minimum": 1}, {"type": "integer"}]}})),
            format!("{schema}.properties[x].anyOf[1].type: Forbidden: must be empty to be structural"),
        ),
        (
            object(json!({"x": {"type": "string", "not": {"description": "d", "enum": ["a"]}}})),
            format!("{schema}.properties[x].not.description: Forbidden: must be empty to be structural"),
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}},
                "allOf": [{"properties": {"b": {"minLength": 1}}}]}),
            format!(
                "{schema}.properties[b]: Required value: because it is defined in {schema}.allOf[0].properties[b]"
            ),
        ),
        (
            object(json!({"x": {"type": "object", "x-kubernetes-embedded-resource": true}})),
            format!(
                "{schema}.properties[x].properties: Required value: must not be empty if \
                 x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
            ),
        ),
        (
            object(
                json!({"x": {"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}}),
            ),
            format!(
                "{schema}.properties[x].x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if \
                 x-kubernetes-int-or-string is true"
            ),
        ),
    ];
    for (schema, expected) in cases {
        let (code, said) = s.json("POST", CRDS, &definition(schema.clone())).await;
        assert_eq!(code, 422, "{schema}: {said}");
        let wanted = format!(
            "CustomResourceDefinition.apiextensions.k8s.io \"foos.x.example.com\" is invalid: {expected}"
        );
        assert_eq!(said["message"], wanted, "{schema}");
    }
    // What has no type for a reason, and what is common in the wild.
    let (code, said) = s
        .json(
            "POST",
            &format!("{CRDS}?dryRun=All"),
            &definition(object(json!({
                "metadata": {"type": "object"},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "bounded": {"x-kubernetes-int-or-string": true,
                    "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"not": {"enum": [0]}}]},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "additionalProperties": true},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p", "q"],
                    "items": {"type": "object", "required": ["p"], "properties": {"p": {"type": "integer"},
                        "q": {"type": "string", "default": "TCP"}}}},
                "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "default": ["a", "a"]},
                "loose": {"type": "object", "anyOf": [{"properties": {"odd": {"minLength": 1}}}]},
                "one": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {"type": "string", "default": "a"}}},
            }))),
        )
        .await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn defaults_are_what_objects_could_say() {
    let s = Server::start().await;
    let at = "spec.validation.openAPIV3Schema.properties[x]";
    let ruled = |rule: Value, default: Value| {
        object(json!({"x": {"type": "integer", "default": default, "x-kubernetes-validations": [rule]}}))
    };
    let named = |metadata: Value| {
        object(
            json!({"x": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"metadata": metadata}}}),
        )
    };
    let metadata = |name: &str| named(object(json!({"name": {"type": "string", "default": name}})));
    let whole = json!({"type": "object", "default": {"labels": {"a": "b c"}}});
    let inner = format!("{at}.properties[metadata]");
    let cases = [
        (
            object(
                json!({"x": {"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}}}),
            ),
            format!("{at}.default: Invalid value: {{\"b\":1}}: must not have unknown fields"),
        ),
        (
            ruled(json!({"rule": "self > 1"}), json!(1)),
            format!("{at}.default: Invalid value: 1: failed rule: self > 1"),
        ),
        (
            ruled(
                json!({"rule": "oldSelf.hasValue()", "optionalOldSelf": true, "message": "no"}),
                json!(1),
            ),
            format!("{at}.default: Invalid value: 1: no"),
        ),
        (
            named(whole),
            format!(
                "{inner}.default: Invalid value: {{\"labels\":{{\"a\":\"b c\"}}}}: must result in valid metadata: \
                 metadata.labels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric \
                 characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ),
        ),
        (
            metadata("a/b"),
            format!(
                "{inner}.properties[name].default: Invalid value: \"a/b\": must result in valid metadata: metadata.name: \
                 Invalid value: \"a/b\": may not contain '/'"
            ),
        ),
    ];
    for (schema, expected) in cases {
        let (code, said) = s.json("POST", CRDS, &definition(schema.clone())).await;
        let told = said["message"].as_str().unwrap();
        assert_eq!(code, 422, "{schema}: {told}");
        assert_eq!(told.split_once(" is invalid: ").unwrap().1, expected, "{schema}");
    }
    for good in [
        ruled(json!({"rule": "self >= oldSelf"}), json!(1)),
        metadata("a"),
        // What the metadata of a resource cannot have is dropped when the default is used.
        object(
            json!({"x": {"type": "object", "default": {"e": {"apiVersion": "v1", "kind": "K", "metadata": {"odd": 1}}},
            "properties": {"e": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true}}}}),
        ),
        // The letters of Go's expressions are ASCII, and so this one is small.
        object(json!({"x": {"type": "string", "maxLength": 253, "pattern": "^\\w{1,253}$"}})),
        object(
            json!({"x": {"x-kubernetes-preserve-unknown-fields": true, "type": "object", "default": {"b": 1}}}),
        ),
    ] {
        let (code, said) = s
            .json("POST", &format!("{CRDS}?dryRun=All"), &definition(good))
            .await;
        assert_eq!(code, 201, "{said}");
    }
}

#[tokio::test]
async fn the_root_of_what_has_a_status_says_little() {
    let s = Server::start().await;
    let schema = |field: &str, value: Value| {
        let mut schema = object(json!({"status": {"type": "object", "x-kubernetes-map-type": "atomic"}}));
        schema[field] = value;
        schema
    };
    let only = "only [Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength \
                Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example \
                XPreserveUnknownFields XValidations] fields are allowed at the root of the schema if the status subresource is \
                enabled";
    let at = "spec.validation.openAPIV3Schema";
    let nullable = format!("{at}.nullable: Forbidden: nullable cannot be true at the root");
    for (field, value, with, without) in [
        ("anyOf", json!([{"required": ["spec"]}]), only, ""),
        ("minProperties", json!(1), only, ""),
        ("x-kubernetes-map-type", json!("atomic"), only, ""),
        ("required", json!(["status"]), "", ""),
        ("nullable", json!(true), only, nullable.as_str()),
    ] {
        for (has_status, wanted) in [(true, with), (false, without)] {
            let mut crd = definition(schema(field, value.clone()));
            if has_status {
                crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
            }
            let (code, said) = s.json("POST", &format!("{CRDS}?dryRun=All"), &crd).await;
            let told = said["message"].as_str().unwrap_or("");
            assert_eq!(code, if wanted.is_empty() { 201 } else { 422 }, "{field}: {told}");
            assert!(told.contains(wanted), "{field}: {told}");
        }
    }
    let mut crd = definition(json!({"type": "object", "minProperties": 1,
        "properties": {"a": {"type": "array", "items": {"type": "string"}}}}));
    crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    let (_, said) = s.json("POST", CRDS, &crd).await;
    let told = said["message"].as_str().unwrap();
    for part in [
        "spec.validation.openAPIV3Schema: Invalid value: {\"ID\":\"\",\"Schema\":\"\",\"Ref\":null,\"Description\":\"\",\
         \"Type\":\"object\",\"Nullable\":false,",
        "\"MinProperties\":1,\"Required\":null,\"Items\":null,",
        "\"Items\":{\"Schema\":{\"ID\":\"\",",
        "\"XMapType\":null,\"XValidations\":null}: only [",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[tokio::test]
async fn faults_are_told_by_stages() {
    let s = Server::start().await;
    let at = "spec.validation.openAPIV3Schema";
    let broken = json!([{"rule": "self.nothing"}]);
    let unclear = json!({"type": "object", "x-kubernetes-validations": broken,
        "properties": {"x": {}, "y": {"type": "string", "default": 5}}});
    let wrong_default = json!({"type": "object", "x-kubernetes-validations": broken,
        "properties": {"y": {"type": "string", "default": 5}}});
    // Of a rule the type is that of its own place and those below.
    let besides = json!({"type": "object", "properties": {
        "x": {"type": "object", "x-kubernetes-validations": [{"rule": "self.nothing"}]},
        "y": {"type": "object", "x-kubernetes-validations": broken, "properties": {"l": {"type": "string", "uniqueItems": true}}}}});
    // Of what no structural schema can say, upstream makes nothing more.
    let unsupported = json!({"type": "object", "x-kubernetes-validations": broken, "properties": {"x": {},
        "y": {"type": "string", "id": "y", "default": 5, "anyOf": [{"type": "string"}]}}});
    for (schema, wanted, unwanted) in [
        (
            unsupported,
            "properties[y].id: Forbidden: id is not supported",
            vec!["default", "nothing", "Required value", "structural"],
        ),
        (
            unclear,
            "properties[x].type: Required value",
            vec!["default", "nothing"],
        ),
        (
            wrong_default,
            "properties[y].default: Invalid value",
            vec!["nothing"],
        ),
        (
            besides,
            "properties[x].x-kubernetes-validations[0].rule: Invalid value",
            vec!["properties[y].x-kubernetes-validations"],
        ),
    ] {
        let (code, said) = s.json("POST", CRDS, &definition(schema)).await;
        let told = said["message"].as_str().unwrap();
        assert!(code == 422 && told.contains(&format!("{at}.{wanted}")), "{told}");
        assert!(unwanted.iter().all(|word| !told.contains(word)), "{told}");
    }
}

#[tokio::test]
async fn parts_around_the_schema_are_checked() {
    let s = Server::start().await;
    let columns = "spec.additionalPrinterColumns[0]";
    let cases = [
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "x", "type": "text", "jsonPath": ".spec.a"}]),
            format!("{columns}.type: Invalid value: \"text\": must be one of boolean,date,integer,number,string"),
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".spec.replicas"}}),
            "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.replicas\": should be a json path under \
             .status"
                .to_string(),
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.nope"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a \
             valid field"
                .to_string(),
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "https://a.example.com"},
                "conversionReviewVersions": ["v1", "v1"]}}),
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version".to_string(),
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook".to_string(),
        ),
    ];
    for (at, value, expected) in cases {
        let mut crd = definition(object(json!({"spec": object(json!({"a": {"type": "string"}}))})));
        let (parent, field) = at.rsplit_once('/').unwrap();
        crd.pointer_mut(parent).unwrap()[field] = value;
        let (code, said) = s.json("POST", CRDS, &crd).await;
        let wanted = format!(
            "CustomResourceDefinition.apiextensions.k8s.io \"foos.x.example.com\" is invalid: {expected}"
        );
        assert_eq!(
            (code, said["message"].as_str()),
            (422, Some(wanted.as_str())),
            "{at}"
        );
    }
    // Groups of the Kubernetes project need its approval.
    let mut crd = definition(object(json!({})));
    crd["metadata"]["name"] = json!("foos.x.k8s.io");
    crd["spec"]["group"] = json!("x.k8s.io");
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 422, "{said}");
    assert!(said["message"].as_str().unwrap().ends_with(
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval \
         annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
    ));
    crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn later_defaults_reach_what_is_stored() {
    let s = Server::start().await;
    let pod = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    s.define(&definition(object(json!({"a": {"type": "string"}, "pod": pod}))))
        .await;
    let foos = "/apis/x.example.com/v1/namespaces/default/foos";
    let foo = json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "f"}});
    let (code, said) = s.json("POST", foos, &foo).await;
    assert_eq!(code, 201, "{said}");
    let mut odd = foo.clone();
    odd["pod"] = json!({"kind": "Pod"});
    let (code, said) = s.json("POST", foos, &odd).await;
    assert_eq!(code, 422, "{said}");
    let wanted = "Foo.x.example.com \"f\" is invalid: pod.apiVersion: Required value";
    assert_eq!(said["message"], wanted);
    // What has the wrong type is no resource at all.
    for (pod, fault) in [
        (
            json!({"apiVersion": 1, "kind": "Pod"}),
            "apiVersion: Invalid value: 1: must be a string",
        ),
        (
            json!({"apiVersion": "v1", "kind": null}),
            "kind: Invalid value: null: must be a string",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": 42}}),
            "metadata: Invalid value: {\"name\":\"x\",\"namespace\":42}: json: cannot unmarshal number into Go struct field \
             ObjectMeta.namespace of type string",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": 7}),
            "metadata: Invalid value: 7: json: cannot unmarshal number into Go value of type v1.ObjectMeta",
        ),
    ] {
        odd["pod"] = pod;
        let (code, said) = s.json("POST", foos, &odd).await;
        let wanted = format!("Foo in version \"v1\" cannot be handled as a Foo: pod.{fault}");
        assert_eq!((code, &said["message"]), (400, &json!(wanted)));
    }
    // What has the right type is checked as that of any resource.
    for (pod, fault) in [
        (
            json!({"apiVersion": "", "kind": "Pod"}),
            "apiVersion: Invalid value: \"\": must not be empty",
        ),
        (
            json!({"apiVersion": "a/b/c", "kind": "Pod"}),
            "apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            json!({"apiVersion": "v1", "kind": "%"}),
            "kind: Invalid value: \"%\": may have mixed case, but should otherwise match: a DNS-1035 label must consist of \
             lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric \
             character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": ".."}}),
            "metadata.name: Invalid value: \"..\": may not be '..'",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "-"}}}),
            "metadata.labels: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
             'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    ] {
        odd["pod"] = pod;
        let (code, said) = s.json("POST", foos, &odd).await;
        let wanted = format!("Foo.x.example.com \"f\" is invalid: pod.{fault}");
        assert_eq!((code, &said["message"]), (422, &json!(wanted)));
    }
    // Metadata within the object are those of any object.
    odd["pod"] =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "odd": "x"}});
    let (code, said) = s
        .json("POST", &format!("{foos}?fieldValidation=Strict"), &odd)
        .await;
    let wanted = "Foo in version \"v1\" cannot be handled as a Foo: strict decoding error: unknown field \"pod.metadata.odd\"";
    assert_eq!((code, &said["message"]), (400, &json!(wanted)));
    odd["metadata"]["name"] = json!("g");
    let (code, said) = s.json("POST", &format!("{foos}?dryRun=All"), &odd).await;
    let kept = json!({"name": "p", "namespace": "n"});
    assert_eq!((code, &said["pod"]["metadata"]), (201, &kept), "{said}");
    let mut crd = s.get(&format!("{CRDS}/foos.x.example.com")).await.1;
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"]["default"] = json!("A");
    let (code, said) = s.json("PUT", &format!("{CRDS}/foos.x.example.com"), &crd).await;
    assert_eq!(code, 200, "{said}");
    let one = s.until(&format!("{foos}/f"), |_, foo| foo["a"] == "A").await;
    let list = s.get(foos).await.1;
    assert_eq!(list["items"][0]["a"], "A", "{list}");
    let mut events = s.watch(&format!("{foos}?watch=true&resourceVersion=0")).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["object"]["a"], "A", "{event}");
    // What is shown is written by the next change, and by nothing before.
    assert_eq!(one["metadata"]["generation"], 1);
    let (code, next) = s
        .json(
            "PATCH",
            &format!("{foos}/f"),
            &json!({"metadata": {"labels": {"x": "y"}}}),
        )
        .await;
    assert_eq!((code, &next["a"]), (200, &json!("A")), "{next}");
}

/// A definition of `as.formats.example.com` whose objects have one field for each format.
fn of_formats(formats: &[&str]) -> Value {
    let field = |format: &&str| ((*format).to_owned(), json!({"type": "string", "format": format}));
    let properties: serde_json::Map<String, Value> = formats.iter().map(field).collect();
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "as.formats.example.com"},
        "spec": {"group": "formats.example.com", "scope": "Namespaced",
            "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}}}]}})
}

#[tokio::test]
async fn texts_are_of_their_format() {
    // Format, what it takes, what it does not; as `strfmt` and `govalidator` of upstream decide.
    const FORMATS: [(&str, &[&str], &[&str]); 26] = [
        (
            "bsonobjectid",
            &["507f1f77bcf86cd799439011"],
            &["507f1f77bcf86cd79943901", "x"],
        ),
        (
            "uri",
            &["http://a.b/c?d=e", "/a", "mailto:x@y"],
            &["a/b", "", "http://a b/", "http://a:x/"],
        ),
        (
            "email",
            &["a@b", "A B <a.b@c.d>", "\"a b\"@c"],
            &["a", "a@", "@b", "a..b@c", "a b@c"],
        ),
        (
            "hostname",
            &["a", "a.example.com", "1.example.com"],
            &["a_b", "-a.com", "a..com", "my-host-name"],
        ),
        (
            "ipv4",
            &["1.2.3.4", "01.2.3.4", "::ffff:1.2.3.4"],
            &["1.2.3", "::1", "1.2.3.256"],
        ),
        ("ipv6", &["::1", "fe80::1"], &["1.2.3.4", "::g"]),
        (
            "cidr",
            &["10.0.0.0/8", "::/0"],
            &["10.0.0.0", "10.0.0.0/33", "x/8"],
        ),
        (
            "mac",
            &["00:11:22:33:44:55", "00-11-22-33-44-55", "0011.2233.4455"],
            &["00:11:22:33:44", "0:1:2:3:4:5"],
        ),
        (
            "uuid",
            &[
                "01234567-89AB-cdef-0123-456789abcdef",
                "0123456789abcdef0123456789abcdef",
            ],
            &["0123"],
        ),
        (
            "uuid3",
            &["01234567-89ab-3def-0123-456789abcdef"],
            &["01234567-89ab-4def-0123-456789abcdef"],
        ),
        (
            "uuid4",
            &["01234567-89ab-4def-8123-456789abcdef"],
            &["01234567-89ab-4def-7123-456789abcdef"],
        ),
        (
            "uuid5",
            &["01234567-89ab-5def-8123-456789abcdef"],
            &["01234567-89ab-4def-8123-456789abcdef"],
        ),
        ("isbn", &["0321751043", "978-0321751041"], &["0321751044", "x"]),
        ("isbn10", &["0321751043", "0-321-75104-3"], &["978-0321751041"]),
        ("isbn13", &["978-0321751041"], &["978-0321751042", "0321751043"]),
        (
            "creditcard",
            &["4111-1111-1111-1111"],
            &["4111-1111-1111-1112", "1"],
        ),
        (
            "ssn",
            &["111-11-1111", "111 11 1111"],
            &["111111111", "11-111-1111"],
        ),
        ("hexcolor", &["#FFF", "ffffff"], &["#FF", "#gggggg"]),
        (
            "rgbcolor",
            &["rgb(255,255,255)", "rgb( 0, 1, 2 )"],
            &["rgb(256,0,0)", "rgb(1,2)"],
        ),
        ("byte", &["ZWxpemFiZXRocG9zZXk=", "aGk="], &["Z", "ZWx*"]),
        ("password", &["", "x"], &[]),
        (
            "date",
            &["2006-01-02"],
            &["2006-13-02", "2006-1-2", "20060102", "2006-02-30"],
        ),
        (
            "duration",
            &["1h30m", "22 ns", "3 days", "-1.5s", "0"],
            &["x", "", "3 parsecs"],
        ),
        (
            "date-time",
            &["2014-12-15T19:30:20.000Z", "2014-12-15t19:30:20+01:00"],
            &["2014-12-15", "2014-12-15T25:30:20Z", "2014-12-15T19:30:20"],
        ),
        ("k8s-short-name", &["a", "a-1"], &["a.b", "A", "-a"]),
        ("k8s-long-name", &["a.b", "a-1"], &["a..b", "A"]),
    ];
    let s = Server::start().await;
    let names: Vec<&str> = FORMATS.iter().map(|(name, ..)| *name).collect();
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, warnings, said) = s.warned("POST", crds, &of_formats(&names)).await;
    assert_eq!((code, warnings.len()), (201, 0), "{said}");
    let list = "/apis/formats.example.com/v1/namespaces/default/as";
    s.until(list, |code, _| code == 200).await;
    for (format, taken, refused) in FORMATS {
        for text in taken {
            let object = json!({"apiVersion": "formats.example.com/v1", "kind": "A", "metadata": {"generateName": "a-"}, "spec": {format: text}});
            let (code, said) = s.json("POST", &format!("{list}?dryRun=All"), &object).await;
            assert_eq!(code, 201, "{format} takes {text:?}: {said}");
        }
        for text in refused {
            let object = json!({"apiVersion": "formats.example.com/v1", "kind": "A", "metadata": {"name": "a"}, "spec": {format: text}});
            let (code, said) = s.json("POST", &format!("{list}?dryRun=All"), &object).await;
            assert_eq!(code, 422, "{format} takes no {text:?}: {said}");
            let wanted = format!(
                "A.formats.example.com \"a\" is invalid: spec.{format}: Invalid value: {text:?}: spec.{format} in body \
                 must be of type {format}: {text:?}"
            );
            assert_eq!(said["message"], wanted);
            assert_eq!(said["details"]["causes"][0]["reason"], "FieldValueTypeInvalid");
        }
    }
}

#[tokio::test]
async fn unknown_formats_are_told() {
    let s = Server::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, warnings, said) = s.warned("POST", crds, &of_formats(&["color", "uuid"])).await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(warnings, ["299 - \"unrecognized format \\\"color\\\"\""]);
    // Only what is new is told.
    let path = format!("{crds}/as.formats.example.com");
    let established = |_: u16, crd: &Value| {
        let conditions = crd["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|c| c["type"] == "Established" && c["status"] == "True")
    };
    s.until(&path, established).await;
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    for (change, told) in [("color", 0), ("shade", 1)] {
        let (_, mut crd) = s.get(&path).await;
        crd.pointer_mut(schema).unwrap()["more"] = json!({"type": "string", "format": change});
        let (code, warnings, said) = s.warned("PUT", &path, &crd).await;
        assert_eq!((code, warnings.len()), (200, told), "{said}");
    }
}

#[tokio::test]
async fn schemas_that_are_joined_tell_what_failed() {
    let s = Server::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut crd = of_formats(&["uuid"]);
    let spec = json!({"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"type": "string"},
            "n": {"type": "integer", "minimum": 0}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties")
        .unwrap()["spec"] = spec;
    crd.pointer_mut("/spec/versions/0").unwrap()["subresources"] =
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}});
    let (code, said) = s.json("POST", crds, &crd).await;
    assert_eq!(code, 201, "{said}");
    let list = "/apis/formats.example.com/v1/namespaces/default/as";
    s.until(list, |code, _| code == 200).await;
    const ONE: &str = "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf).";
    for (body, wanted) in [
        (
            json!({"spec": {}}),
            format!("[{ONE} Found none valid, spec.a: Required value]"),
        ),
        (
            json!({"spec": {"a": "1", "b": "2"}}),
            format!("{ONE} Found 2 valid alternatives"),
        ),
        (
            json!({"spec": {"a": "1234"}}),
            "spec.a: Too long: may not be more than 3 bytes".to_owned(),
        ),
        (
            json!({"spec": {"a": "1", "n": 2147483648_i64}}),
            ".spec.n: Invalid value: 2147483648: should be less than or equal to 2147483647".to_owned(),
        ),
        (
            json!({"kind": "B", "spec": {"a": "1"}}),
            "kind: Invalid value: \"B\": must be A".to_owned(),
        ),
    ] {
        let mut object =
            json!({"apiVersion": "formats.example.com/v1", "kind": "A", "metadata": {"name": "a"}});
        for (field, value) in body.as_object().unwrap() {
            object[field] = value.clone();
        }
        let (code, said) = s.json("POST", &format!("{list}?dryRun=All"), &object).await;
        let kind = body["kind"].as_str().unwrap_or("A");
        let wanted = format!("{kind}.formats.example.com \"a\" is invalid: {wanted}");
        assert_eq!((code, said["message"].as_str().unwrap()), (422, wanted.as_str()));
    }
    let named = json!({"apiVersion": "formats.example.com/v1", "kind": "A", "metadata": {"name": "a", "finalizers": ["a.b", "c", "d.e/f"]}, "spec": {"a": "1"}});
    let (code, warnings, said) = s.warned("POST", list, &named).await;
    assert_eq!((code, warnings.len()), (201, 2), "{said}");
    assert!(
        warnings[0].contains("prefer a domain-qualified finalizer name including a path (/) to avoid"),
        "{warnings:?}"
    );
    let (code, said) = s
        .json(
            "PUT",
            &format!("{list}/a"),
            &json!({"apiVersion": "formats.example.com/v1", "kind": "A", "metadata": {"name": "a"}, "spec": {"a": "1"}}),
        )
        .await;
    assert_eq!(code, 422);
    let wanted = "as.formats.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update";
    assert_eq!(said["message"], wanted);
}

#[tokio::test]
async fn versions_with_objects_in_them_stay() {
    let s = Server::start().await;
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let mut crd = of_formats(&["uuid"]);
    let mut second = crd["spec"]["versions"][0].clone();
    (second["name"], second["storage"]) = (json!("v2"), json!(false));
    crd["spec"]["versions"].as_array_mut().unwrap().push(second);
    let (code, said) = s.json("POST", crds, &crd).await;
    assert_eq!(code, 201, "{said}");
    let path = format!("{crds}/as.formats.example.com");
    let settled = |_: u16, c: &Value| {
        c["status"]["conditions"]
            .as_array()
            .is_some_and(|l| l.iter().any(|c| c["type"] == "Established"))
    };
    let mut crd = s.until(&path, settled).await;
    for (i, stores) in [false, true].into_iter().enumerate() {
        crd["spec"]["versions"][i]["storage"] = json!(stores);
    }
    let (code, said) = s.json("PUT", &path, &crd).await;
    assert_eq!(code, 200, "{said}");
    let mut crd = s
        .until(&path, |_, c| c["status"]["storedVersions"] == json!(["v1", "v2"]))
        .await;
    crd["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let (code, said) = s.json("PUT", &path, &crd).await;
    assert_eq!(code, 422, "{said}");
    let why = "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, \
               and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes \
               v1 from status.storedVersions";
    assert!(said["message"].as_str().unwrap().ends_with(why), "{said}");
    // Once the status says that it was migrated, the version may go.
    let (code, said) = s
        .json(
            "PATCH",
            &format!("{path}/status"),
            &json!({"status": {"storedVersions": ["v2"]}}),
        )
        .await;
    assert_eq!(code, 200, "{said}");
    let mut crd = s.get(&path).await.1;
    crd["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let (code, said) = s.json("PUT", &path, &crd).await;
    assert_eq!(code, 200, "{said}");
}

/// Whoever asks for discovery all the time meets every state of a definition on its way, and none of them may stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_is_never_behind() {
    let s = Arc::new(Server::start().await);
    for round in 0..40 {
        let group = format!("r{round}.example.com");
        let mut made = definition(object(json!({})));
        made["metadata"]["name"] = json!(format!("foos.{group}"));
        made["spec"]["group"] = json!(group);
        let asking = (0..3).map(|_| {
            let (s, path) = (s.clone(), format!("/apis/{group}/v1"));
            tokio::spawn(async move {
                let listed = |found: &Value| found["resources"][0]["name"] == "foos";
                s.until(&path, |code, found| code == 200 && listed(found)).await
            })
        });
        let asking: Vec<_> = asking.collect();
        let (code, said) = s.json("POST", CRDS, &made).await;
        assert_eq!(code, 201, "{said}");
        for answer in asking {
            answer.await.unwrap();
        }
    }
}

#[tokio::test]
async fn items_of_lists_without_keys_are_not_what_stood_there() {
    let s = Server::start().await;
    let text = json!({"type": "string"});
    let item = object(json!({"a": text, "b": text}));
    let list = |item: &Value| object(json!({"values": {"type": "array", "items": item}}));
    let (code, said) = s.json("POST", CRDS, &definition(list(&item))).await;
    assert_eq!(code, 201, "{said}");
    let foos = "/apis/x.example.com/v1/namespaces/default/foos";
    s.until(foos, |code, _| code == 200).await;
    let foo = json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "f"}, "values": [{"a": "x"}]});
    let (code, said) = s.json("POST", foos, &foo).await;
    assert_eq!(code, 201, "{said}");
    let place = "/spec/versions/0/schema/openAPIV3Schema/properties/values/items/properties/a/minLength";
    let tighter = json!([{"op": "add", "path": place, "value": 3}]).to_string();
    let media = [("content-type", "application/json-patch+json")];
    let path = format!("{CRDS}/foos.x.example.com");
    assert_eq!(s.send("PATCH", &path, &media, tighter).await.status(), 200);
    let change = |body: Value| {
        let (s, path) = (&s, format!("{foos}/f"));
        async move { s.json("PATCH", &path, &body).await.0 }
    };
    let mut new = foo.clone();
    new["metadata"]["name"] = json!("g");
    while s.json("POST", &format!("{foos}?dryRun=All"), &new).await.0 != 422 {}
    for (body, code) in [
        (json!({"metadata": {"labels": {"l": "m"}}}), 200),
        (json!({"values": [{"a": "x", "b": "y"}]}), 422),
    ] {
        assert_eq!(change(body.clone()).await, code, "{body}");
    }
}

#[tokio::test]
async fn namespaced_objects_have_no_place_outside() {
    let s = Server::start().await;
    let (code, said) = s.json("POST", CRDS, &definition(object(json!({})))).await;
    assert_eq!(code, 201, "{said}");
    let all = "/apis/x.example.com/v1/foos";
    s.until(all, |code, _| code == 200).await;
    let foo = json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "a"}});
    for (method, path) in [
        ("POST", all.to_owned()),
        ("POST", format!("{all}/a/status")),
        ("PUT", format!("{all}/a")),
        ("DELETE", format!("{all}/a")),
        ("DELETE", all.to_owned()),
    ] {
        let (code, said) = s.json(method, &path, &foo).await;
        assert_eq!(code, 404, "{method} {path}: {said}");
    }
}
