//! Protobuf at its public face: golden bytes, both directions, what Go writes that JSON does not, and broken bytes.

use machinery::protobuf::{ProtobufError, decode, encode, encode_watch_frame, has};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Bytes of a field: number, then length or number.
fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag << 3 | 2, u8::try_from(content.len()).expect("short")];
    bytes.extend_from_slice(content);
    bytes
}

fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &meta), field(2, message)].concat()
}

#[test]
fn golden_bytes() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "status": {"phase": "Active"}});
    let message = [field(1, &field(1, b"a")), field(3, &field(1, b"Active"))].concat();
    let bytes = envelope("v1", "Namespace", &message);
    assert_eq!(encode(&object), Ok(bytes.clone()));
    assert_eq!(decode(&bytes), Ok(object.clone()));
    let event = [field(1, b"ADDED"), field(2, &field(1, &bytes))].concat();
    let frame = [vec![0, 0, 0, u8::try_from(event.len()).expect("short")], event].concat();
    assert_eq!(encode_watch_frame("ADDED", &object), Ok(frame));
}

#[test]
fn objects_come_back_whole() {
    let objects = [
        json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": {"name": "p"},
            "timestamp": "2026-01-02T03:04:05Z", "window": "1m30.5s",
            "containers": [{"name": "c", "usage": {"cpu": "5n", "memory": "7Ki"}}]}),
        json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "NodeMetricsList", "metadata": {},
            "items": [{"metadata": {"name": "n"}, "timestamp": "2026-01-02T03:04:05Z", "window": "10s",
                "usage": {"cpu": "5n"}}]}),
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-01-02T03:04:05Z",
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
                "managedFields": [{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                    "time": "2026-01-02T03:04:05Z", "fieldsV1": {"f:spec": {"f:containers": {}}}}]},
            "spec": {"containers": [{"name": "c", "image": "i",
                    "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
                    "env": [{"name": "E", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k", "optional": false}}}],
                    "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                    "ports": [{"name": "web", "containerPort": 80, "protocol": "TCP"}]}],
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "priority": -5,
                "securityContext": {"supplementalGroups": [1, 2]},
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}},
                    {"name": "d", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    {"name": "i", "scaleIO": {"gateway": "g", "system": "s", "secretRef": {"name": "x"}}}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "c"}]}}}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque", "data": {"k": "AAEC", "empty": ""}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i"},
            "spec": {"rules": [{"host": "h", "http": {"paths": [{"pathType": "Prefix", "path": "/",
                "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
            "spec": {"holderIdentity": "me", "renewTime": "2026-01-02T03:04:05.678900Z", "leaseTransitions": 0}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
            "spec": {"group": "g", "scope": "Cluster", "names": {"plural": "xs", "kind": "X"},
                "versions": [{"name": "v1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object",
                    "properties": {"a": {"type": "array", "items": {"type": "number", "maximum": 1.5}},
                        "m": {"type": "object", "additionalProperties": {"type": "string"}},
                        "n": {"type": "object", "additionalProperties": false},
                        "d": {"default": {"x": [1, null]}, "enum": ["a", 1]}},
                    "x-kubernetes-preserve-unknown-fields": true}}}]}}),
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "w"},
            "webhooks": [{"name": "n", "clientConfig": {"url": "https://x", "caBundle": "AAEC"}, "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "*"}]}]}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "data": {"spec": {"a": 1}}, "revision": 3}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": "no", "reason": "NotFound",
            "details": {"name": "x", "kind": "pods", "causes": [{"reason": "r", "message": "m", "field": "f"}]}, "code": 404}),
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "p"}}]}),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "s"}, "spec": {"replicas": 0},
            "status": {"replicas": 0, "selector": "a=b"}}),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u"}}),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "dryRun": ["All"]}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [{"metadata": {"name": "a"}}]}),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "t"},
            "status": {"user": {"username": "u", "extra": {"k": ["a", "b"]}}}}),
        json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": {"name": "p"},
            "timestamp": "2026-01-02T03:04:05Z", "containers": [{"name": "c", "usage": {"cpu": "1m"}}]}),
    ];
    for object in objects {
        let bytes = encode(&object).expect("encodes");
        assert_eq!(decode(&bytes).expect("decodes"), object);
    }
}

#[test]
fn lengths_of_time_are_written_as_go_does() {
    for window in [
        "0s",
        "250ns",
        "1.5µs",
        "100ms",
        "1s",
        "10.012s",
        "1m30s",
        "1h0m0s",
        "26h3m0.5s",
        "-2m0s",
    ] {
        let metrics = json!({
            "kind": "PodMetrics",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "web"},
            "timestamp": "2026-01-02T03:04:05Z",
            "window": window,
            "containers": [{"name": "web", "usage": {"cpu": "5m"}}],
        });
        let bytes = encode(&metrics).expect("it has a protobuf form");
        assert_eq!(decode(&bytes).expect("it comes back")["window"], window);
    }
}

#[test]
fn zeros_that_say_nothing_are_left_out() {
    // As Go writes a Deployment: every field that is no pointer, set or not.
    let container = [
        field(1, b"c"),
        field(2, b""),
        field(5, b""),
        field(13, b""),
        field(14, b""),
    ]
    .concat();
    let spec = [
        field(2, &container),
        field(3, b""),
        field(6, b""),
        number(11, 0),
        number(4, 0),
    ]
    .concat();
    let metadata = [
        field(1, b"p"),
        field(2, b""),
        field(3, b""),
        number(7, 0),
        field(8, b""),
    ]
    .concat();
    let pod = [field(1, &metadata), field(2, &spec), field(3, b"")].concat();
    let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c"}], "terminationGracePeriodSeconds": 0}, "status": {}});
    assert_eq!(decode(&envelope("v1", "Pod", &pod)), Ok(expected));
}

#[test]
fn zeros_behind_pointers_are_kept() {
    let object = |api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}});
        for (name, value) in rest.as_object().into_iter().flatten() {
            object[name] = value.clone();
        }
        object
    };
    let webhooks = json!({"webhooks": [{"name": "a.b.c", "timeoutSeconds": 0, "clientConfig": {}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"]}]});
    let device = json!({"name": "d", "allNodes": false, "attributes": {
        "even": {"bool": false}, "index": {"int": 0}, "label": {"string": ""}}});
    let slice = json!({"spec": {"driver": "d", "pool": {"name": "p", "generation": 0, "resourceSliceCount": 0},
        "perDeviceNodeSelection": false, "devices": [device]}});
    let volume = json!({"spec": {"fc": {"lun": 0}, "hostPath": {"path": "/", "type": ""}}});
    for object in [
        object(
            "apps/v1",
            "Deployment",
            json!({"status": {"terminatingReplicas": 0}}),
        ),
        object(
            "apps/v1",
            "ReplicaSet",
            json!({"status": {"replicas": 0, "terminatingReplicas": 0}}),
        ),
        object(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            webhooks.clone(),
        ),
        object(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            webhooks,
        ),
        object("resource.k8s.io/v1", "ResourceSlice", slice),
        object("v1", "PersistentVolume", volume),
        object(
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"status": {"attached": false, "attachError": {"errorCode": 0}}}),
        ),
    ] {
        let got = decode(&encode(&object).unwrap()).unwrap();
        for path in leaves(&object, String::new()) {
            assert_eq!(
                got.pointer(&path),
                object.pointer(&path),
                "{} {path}",
                object["kind"]
            );
        }
    }
}

/// Where the values of an object are that are neither objects nor lists.
fn leaves(value: &Value, at: String) -> Vec<String> {
    let below = |(name, value): (String, &Value)| leaves(value, format!("{at}/{name}"));
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(k, v)| (k.clone(), v))
            .flat_map(below)
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, v)| (i.to_string(), v))
            .flat_map(below)
            .collect(),
        _ => vec![at],
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let unknown = |api_version: &str, kind: &str| {
        Err(ProtobufError::NoMessage {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        })
    };
    assert_eq!(
        encode(&json!({"apiVersion": "x.y/v1", "kind": "Z"})),
        unknown("x.y/v1", "Z")
    );
    assert_eq!(
        encode(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "Table"})),
        unknown("meta.k8s.io/v1", "Table")
    );
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoPrefix));
    assert!(
        decode(&envelope("v1", "Pod", &[0x0a, 9, 1])).is_err(),
        "a message that ends early"
    );
    assert!(
        decode(&envelope("v1", "Pod", &number(1, 1))).is_err(),
        "a number for a message"
    );
    let kinds = |group: &str, kind: &str| kinds::find_kind(group, "v1", kind).expect("there");
    assert!(has(kinds("", "Pod")) && has(kinds("apps", "Deployment")));
    assert!(!has(
        kinds::find_kind("podvisor.io", "v1alpha1", "User").expect("there")
    ));
}

#[test]
fn messages_in_messages_have_an_end() {
    let mut schema = json!({"type": "object"});
    for _ in 0..150 {
        schema = json!({"not": schema});
    }
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}});
    assert_eq!(encode(&crd), Err(ProtobufError::TooDeep));
}

/// Any JSON of little depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn raw_json_is_kept(data in any_json().prop_filter("null is nothing", |data| !data.is_null())) {
        let object = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {}, "data": data, "revision": 1});
        prop_assert_eq!(decode(&encode(&object).expect("encodes")).expect("decodes"), object);
    }

    #[test]
    fn maps_and_numbers_are_kept(data in prop::collection::btree_map(".{0,6}", ".{0,200}", 0..5), seconds in any::<i64>()) {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"deletionGracePeriodSeconds": seconds}});
        if !data.is_empty() {
            object["data"] = json!(data);
        }
        prop_assert_eq!(decode(&encode(&object).expect("encodes")).expect("decodes"), object);
    }

    #[test]
    fn foreign_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = decode(&envelope("v1", "Pod", &bytes));
        let _ = decode(&[b"k8s\0".to_vec(), bytes].concat());
    }
}
