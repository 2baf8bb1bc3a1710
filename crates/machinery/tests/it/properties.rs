//! Properties that hold for whatever is accepted: defaulting is a fixed point, what was read back decodes to itself, and
//! applying a change and its reverse comes out where it began.

use crate::kind_of;
use machinery::{FieldValidation, decode_check, default};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Small specs of every shape that defaulting looks at, with pieces present or absent.
fn container() -> impl Strategy<Value = Value> {
    let probe = prop_oneof![
        Just(Value::Null),
        Just(json!({"httpGet": {"port": 80}})),
        Just(json!({"grpc": {"port": 1}, "periodSeconds": 0})),
        Just(json!({"exec": {"command": ["x"]}, "timeoutSeconds": 5})),
    ];
    let resources = prop_oneof![
        Just(Value::Null),
        Just(json!({"limits": {"cpu": 1, "memory": "1024Mi"}})),
        Just(json!({"limits": {"cpu": "1500m"}, "requests": {"cpu": "0.1"}})),
    ];
    (
        "[a-z]{1,5}",
        "[a-z]{1,5}(:latest|:1|)",
        probe,
        resources,
        any::<bool>(),
    )
        .prop_map(|(name, image, probe, resources, port)| {
            let mut c = json!({"name": name, "image": image, "livenessProbe": probe, "resources": resources});
            if port {
                c["ports"] = json!([{"containerPort": 80}]);
            }
            c
        })
}

fn pod_spec() -> impl Strategy<Value = Value> {
    let volume = prop_oneof![
        Just(json!({"name": "v"})),
        Just(json!({"name": "v", "configMap": {"name": "c"}})),
        Just(json!({"name": "v", "hostPath": {"path": "/x"}})),
        Just(json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
    ];
    (prop::collection::vec(container(), 1..3), prop::collection::vec(volume, 0..2), any::<bool>()).prop_map(|(containers, volumes, host)| {
        json!({"containers": containers, "volumes": volumes, "hostNetwork": host, "serviceAccount": if host { "robot" } else { "" }})
    })
}

fn object() -> impl Strategy<Value = Value> {
    let kinds = prop_oneof![
        Just(("v1", "Pod")),
        Just(("apps/v1", "Deployment")),
        Just(("apps/v1", "DaemonSet")),
        Just(("apps/v1", "StatefulSet")),
        Just(("apps/v1", "ReplicaSet")),
        Just(("batch/v1", "Job")),
        Just(("batch/v1", "CronJob")),
        Just(("v1", "ReplicationController")),
    ];
    (kinds, pod_spec()).prop_map(|((api, kind), spec)| {
        let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec});
        let spec = match kind {
            "Pod" => spec,
            "CronJob" => json!({"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}),
            _ => json!({"template": template}),
        };
        json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a", "namespace": "d"}, "spec": spec})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn defaulting_is_a_fixed_point(mut object in object()) {
        let kind = kind_of(&object);
        decode_check(kind, &mut object, &[], FieldValidation::Strict).unwrap();
        default(kind, &mut object);
        let mut again = object.clone();
        default(kind, &mut again);
        prop_assert_eq!(&again, &object);
        // Stored, read back, decoded and defaulted once more: the same.
        let mut read: Value = serde_json::from_slice(&serde_json::to_vec(&object).unwrap()).unwrap();
        decode_check(kind, &mut read, &[], FieldValidation::Strict).unwrap();
        default(kind, &mut read);
        prop_assert_eq!(read, object);
    }

    #[test]
    fn applying_what_is_there_changes_nothing(mut object in object()) {
        let kind = kind_of(&object);
        // Containers of one name would be one element of a keyed list.
        prop_assume!({
            let mut names: Vec<String> = Vec::new();
            collect_names(&object, &mut names);
            let all = names.len();
            names.sort();
            names.dedup();
            names.len() == all
        });
        decode_check(kind, &mut object, &[], FieldValidation::Strict).unwrap();
        let first = machinery::apply::apply(kind, None, &object, "a", false, None, "2026-01-01T00:00:00Z").unwrap();
        let mut stored = first;
        default(kind, &mut stored);
        let mut second = machinery::apply::apply(kind, Some(&stored), &object, "a", false, None, "2026-02-01T00:00:00Z").unwrap();
        default(kind, &mut second);
        machinery::apply::keep_times(&mut second, &stored);
        prop_assert_eq!(second, stored);
    }
}

fn collect_names(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| match (name.as_str(), value) {
                ("containers" | "volumes", Value::Array(items)) => {
                    out.extend(items.iter().map(|i| format!("{name}/{}", i["name"])));
                }
                _ => collect_names(value, out),
            }),
        Value::Array(items) => items.iter().for_each(|v| collect_names(v, out)),
        _ => {}
    }
}
