//! Server-side apply: ownership, conflicts, removal, hand-over; and the managers of other writes.

use crate::{kind_of, yaml};
use kinds::status::Status;
use machinery::apply::{Typed, apply, keep_times, list_fault, type_faults, update_managers};
use serde_json::{Value, json};

const T1: &str = "2026-01-01T00:00:00Z";
const T2: &str = "2026-01-02T00:00:00Z";

/// A small Deployment with a body in its spec.
fn deployment(spec: &str) -> Value {
    yaml(&format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: d}}, spec: {spec}}}"
    ))
}

fn apply_as(
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<Value, Status> {
    apply(kind_of(config), live, config, manager, force, None, now)
}

/// The fields of a manager.
fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .into_iter()
        .find(|e| e["manager"] == manager)
        .map_or(Value::Null, |e| e["fieldsV1"].clone())
}

const WEB: &str = "{replicas: 2, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: 'i:1', ports: [{containerPort: 80}]}]}}}";

#[test]
fn the_first_apply_owns_what_it_says() {
    let object = apply_as(None, &deployment(WEB), "alice", false, T1).unwrap();
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "alice", "operation": "Apply", "apiVersion": "apps/v1", "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:replicas": {},
                "f:template": {
                    "f:metadata": {"f:labels": {"f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:name": {},
                        "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                    }}},
                },
            }},
        }])
    );
    // Once more: nothing changes, not even the time.
    let mut stored = object.clone();
    stored["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP".into();
    assert_eq!(
        apply_as(Some(&stored), &deployment(WEB), "alice", false, T2).unwrap(),
        stored
    );
}

#[test]
fn conflicts_are_worded_as_upstream_words_them() {
    let mut live = deployment(WEB);
    update_managers(kind_of(&live), None, &mut live.clone(), "x", "Update", None, T1);
    let kind = kind_of(&live);
    update_managers(
        kind,
        None,
        &mut live,
        "kubectl-client-side-apply",
        "Update",
        None,
        T1,
    );
    let status = apply_as(Some(&live), &deployment("{replicas: 3}"), "alice", false, T2).unwrap_err();
    assert_eq!(status.code, 409);
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let causes = status.details.unwrap().causes;
    assert_eq!(
        (
            causes[0].reason.as_str(),
            causes[0].message.as_str(),
            causes[0].field.as_str()
        ),
        (
            "FieldManagerConflict",
            "conflict with \"kubectl-client-side-apply\" using apps/v1",
            ".spec.replicas"
        )
    );
    let two = "{replicas: 3, template: {spec: {containers: [{name: c, image: 'i:2'}]}}}";
    let status = apply_as(Some(&live), &deployment(two), "alice", false, T2).unwrap_err();
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n- .spec.replicas\n\
         - .spec.template.spec.containers[name=\"c\"].image"
    );
    // By force the fields change hands.
    let taken = apply_as(Some(&live), &deployment("{replicas: 3}"), "alice", true, T2).unwrap();
    assert_eq!(taken["spec"]["replicas"], 3);
    assert_eq!(fields(&taken, "alice"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(
        fields(&taken, "kubectl-client-side-apply")["f:spec"]
            .get("f:replicas")
            .is_none()
    );
    // The same value is shared, not fought for.
    let shared = apply_as(Some(&live), &deployment("{replicas: 2}"), "alice", false, T2).unwrap();
    assert!(
        fields(&shared, "kubectl-client-side-apply")["f:spec"]
            .get("f:replicas")
            .is_some()
    );
    assert!(fields(&shared, "alice")["f:spec"].get("f:replicas").is_some());
}

#[test]
fn kubectl_goes_on_from_what_it_applied_by_itself() {
    const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let by_itself = |noted: &str| {
        let mut live = deployment(WEB);
        live["metadata"]["annotations"] = json!({NOTE: noted});
        let kind = kind_of(&live);
        let manager = "kubectl-client-side-apply";
        update_managers(kind, None, &mut live, manager, "Update", None, T1);
        live
    };
    let live = by_itself(&deployment(WEB).to_string());
    let other = deployment("{replicas: 3, paused: true, strategy: {type: <&>}}");
    // Whoever takes another name has conflicts, and so has kubectl with what is not as it was applied.
    assert_eq!(
        apply_as(Some(&live), &other, "me", false, T2).unwrap_err().code,
        409
    );
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    assert_eq!(
        apply_as(Some(&scaled), &other, "kubectl", false, T2)
            .unwrap_err()
            .code,
        409
    );
    for not_noted in [
        "",
        "{",
        "{\"apiVersion\":\"apps/v1beta1\",\"spec\":{\"replicas\":2}}",
    ] {
        let live = by_itself(not_noted);
        assert_eq!(
            apply_as(Some(&live), &other, "kubectl", false, T2)
                .unwrap_err()
                .code,
            409
        );
    }
    let new = apply_as(Some(&live), &other, "kubectl", false, T2).unwrap();
    assert_eq!(new["spec"]["replicas"], json!(3));
    assert_eq!(
        new["metadata"]["annotations"][NOTE],
        json!(
            "{\"apiVersion\":\"apps/v1\",\"kind\":\"Deployment\",\"metadata\":{\"name\":\"web\",\"namespace\":\"d\"},\
             \"spec\":{\"paused\":true,\"replicas\":3,\"strategy\":{\"type\":\"\\u003c\\u0026\\u003e\"}}}\n"
        )
    );
    // Where there is no such annotation, none is made.
    let made = apply_as(None, &other, "kubectl", false, T1).unwrap();
    assert_eq!(made["metadata"]["annotations"], Value::Null);
}

#[test]
fn what_is_not_asked_for_any_more_goes_unless_someone_else_owns_it() {
    let both = "{replicas: 2, paused: true, template: {metadata: {labels: {app: web, tier: x}}, spec: {containers: [{name: c, image: i}, {name: d, image: j}]}}}";
    let mut live = apply_as(None, &deployment(both), "alice", false, T1).unwrap();
    // Defaults inside a container belong to nobody and go along with it.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = "Always".into();
    let live = apply_as(Some(&live), &deployment("{paused: true}"), "bob", false, T1).unwrap();
    let less = "{replicas: 2, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}";
    let after = apply_as(Some(&live), &deployment(less), "alice", false, T2).unwrap();
    assert_eq!(
        after["spec"],
        yaml(
            "{replicas: 2, paused: true, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}"
        )
    );
    assert_eq!(fields(&after, "bob"), json!({"f:spec": {"f:paused": {}}}));
    // When the last owner lets go, it goes.
    let end = apply_as(
        Some(&after),
        &yaml("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: d}}"),
        "bob",
        false,
        T2,
    )
    .unwrap();
    assert!(end["spec"].get("paused").is_none());
    assert_eq!(end["spec"]["replicas"], 2);
    assert!(
        end["metadata"]["managedFields"]
            .as_array()
            .unwrap()
            .iter()
            .any(|e| e["manager"] == "alice")
    );
}

#[test]
fn keyed_lists_sets_and_atomic_parts() {
    let service = |ports: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: d}}, spec: {{selector: {{a: b}}, ports: {ports}}}}}"
        ))
    };
    let live = apply_as(
        None,
        &service("[{port: 80, protocol: TCP, name: web}]"),
        "alice",
        false,
        T1,
    )
    .unwrap();
    // Another adds a port of its own; without a protocol it is TCP's.
    let live = apply_as(Some(&live), &yaml("{apiVersion: v1, kind: Service, metadata: {name: a, namespace: d}, spec: {ports: [{port: 81, name: x}]}}"), "bob", false, T1).unwrap();
    assert_eq!(
        live["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 81, "name": "x"}])
    );
    // The selector is atomic: owned as a whole.
    assert_eq!(fields(&live, "alice")["f:spec"]["f:selector"], json!({}));
    let status = apply_as(
        Some(&live),
        &yaml("{apiVersion: v1, kind: Service, metadata: {name: a, namespace: d}, spec: {selector: {c: d}}}"),
        "bob",
        false,
        T1,
    )
    .unwrap_err();
    assert!(status.message.ends_with(": .spec.selector"), "{}", status.message);
    assert!(
        status.message.contains("conflict with \"alice\":"),
        "{}",
        status.message
    );
    // Alice's port goes, Bob's stays.
    let after = apply_as(Some(&live), &service("[]"), "alice", false, T2).unwrap();
    assert_eq!(after["spec"]["ports"], json!([{"port": 81, "name": "x"}]));

    let meta = |finalizers: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: d, finalizers: {finalizers}}}}}"
        ))
    };
    let live = apply_as(None, &meta("[a/a, b/b]"), "alice", false, T1).unwrap();
    assert_eq!(
        fields(&live, "alice"),
        json!({"f:metadata": {"f:finalizers": {"v:\"a/a\"": {}, "v:\"b/b\"": {}}}})
    );
    let live = apply_as(Some(&live), &meta("[c/c]"), "bob", false, T1).unwrap();
    let after = apply_as(Some(&live), &meta("[b/b]"), "alice", false, T2).unwrap();
    assert_eq!(after["metadata"]["finalizers"], json!(["b/b", "c/c"]));
}

#[test]
fn metadata_stays_when_all_that_was_applied_of_it_goes() {
    let map = |more: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: d{more}}}}}"
        ))
    };
    let (with, without) = (map(", finalizers: [a/a], labels: {x: y}"), map(""));
    let kind = kind_of(&with);
    let live = apply(kind, None, &with, "m", false, None, T1).unwrap();
    let after = apply(kind, Some(&live), &without, "m", false, None, T2).unwrap();
    assert_eq!(after["metadata"]["name"], "a");
    assert!(after["metadata"].get("labels").is_none() && after["metadata"].get("finalizers").is_none());
}

#[test]
fn other_writes_own_what_they_change() {
    let mut live = deployment("{replicas: 1, template: {metadata: {labels: {app: web}}}}");
    let kind = kind_of(&live);
    live["status"] = json!({});
    update_managers(kind, None, &mut live, "kubectl-create", "Update", None, T1);
    assert_eq!(
        fields(&live, "kubectl-create"),
        json!({"f:spec": {"f:replicas": {}, "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}}}})
    );
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 5.into();
    update_managers(kind, Some(&live), &mut scaled, "controller", "Update", None, T2);
    assert_eq!(
        fields(&scaled, "controller"),
        json!({"f:spec": {"f:replicas": {}}})
    );
    assert!(
        fields(&scaled, "kubectl-create")["f:spec"]
            .get("f:replicas")
            .is_none()
    );
    // Status writes are kept apart.
    let mut reported = scaled.clone();
    reported["status"] = json!({"replicas": 5});
    update_managers(
        kind,
        Some(&scaled),
        &mut reported,
        "controller",
        "Update",
        Some("status"),
        T2,
    );
    let entries = reported["metadata"]["managedFields"].as_array().unwrap();
    let status = entries.iter().find(|e| e["subresource"] == "status").unwrap();
    assert_eq!(status["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
    // A write that changes nothing leaves everything as it is.
    let mut same = reported.clone();
    update_managers(
        kind,
        Some(&reported),
        &mut same,
        "other",
        "Update",
        None,
        "2027-01-01T00:00:00Z",
    );
    assert_eq!(same, reported);
    // Removed fields are nobody's.
    let mut less = reported.clone();
    less["spec"].as_object_mut().unwrap().remove("replicas");
    update_managers(kind, Some(&reported), &mut less, "other", "Update", None, T2);
    assert_eq!(fields(&less, "other"), Value::Null);
    // kubectl hands ownership over by writing the list itself.
    let mut moved = less.clone();
    moved["metadata"]["managedFields"] = json!([{"manager": "kubectl", "operation": "Apply", "apiVersion": "apps/v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {}}}, "time": T1}]);
    update_managers(kind, Some(&less), &mut moved, "kubectl", "Update", None, T2);
    assert_eq!(moved["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    let mut reset = moved.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    update_managers(kind, Some(&moved), &mut reset, "kubectl", "Update", None, T2);
    assert!(reset["metadata"].get("managedFields").is_none());
}

#[test]
fn the_status_subresource_is_applied_apart() {
    let live = apply_as(None, &deployment(WEB), "alice", false, T1).unwrap();
    let mut config = deployment("{replicas: 9}");
    config["status"] = json!({"replicas": 2});
    let kind = kind_of(&config);
    let after = apply(
        kind,
        Some(&live),
        &config,
        "controller",
        false,
        Some("status"),
        T2,
    )
    .unwrap();
    assert_eq!(
        fields(&after, "controller"),
        json!({"f:status": {"f:replicas": {}}})
    );
    let main = apply(kind, Some(&after), &config, "carol", true, None, T2).unwrap();
    assert_eq!(fields(&main, "carol"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn writers_beyond_ten_are_folded() {
    let mut live =
        yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: d}, data: {k0: v}}");
    let kind = kind_of(&live);
    update_managers(
        kind,
        None,
        &mut live,
        "m0",
        "Update",
        None,
        "2026-01-01T00:00:00Z",
    );
    for i in 1..15 {
        let mut new = live.clone();
        new["data"][format!("k{i}")] = "v".into();
        update_managers(
            kind,
            Some(&live),
            &mut new,
            &format!("m{i}"),
            "Update",
            None,
            &format!("2026-01-{:02}T00:00:00Z", i + 1),
        );
        live = new;
    }
    assert_eq!(live["metadata"]["managedFields"].as_array().unwrap().len(), 10);
    assert_eq!(
        fields(&live, "ancient-changes")["f:data"]
            .as_object()
            .unwrap()
            .len(),
        7,
        "six entries and the map itself"
    );
}

#[test]
fn custom_kinds_merge_as_their_schema_says() {
    let schema = yaml(
        "{type: object, properties: {spec: {type: object, properties: {
            ports: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name, protocol], items: {type: object,
                properties: {name: {type: string}, port: {type: integer}, protocol: {type: string, default: SCTP}}}},
            tags: {type: array, x-kubernetes-list-type: set, items: {type: string}},
            whole: {type: object, x-kubernetes-map-type: atomic, properties: {a: {type: integer}, b: {type: integer}}},
            open: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}}",
    );
    let types = kinds::schema::custom(&schema);
    let typed = machinery::apply::Typed {
        kind: kinds::find_kind("", "v1", "ConfigMap").unwrap(),
        custom: Some(&types),
    };
    let object = |spec: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, spec: {spec}}}"
        ))
    };
    let first = "{ports: [{name: http, port: 80}], tags: [a], whole: {a: 1}, open: {deep: {x: 1}}}";
    let live = apply(typed, None, &object(first), "one", false, None, T1).unwrap();
    let second = "{ports: [{name: https, port: 443}], tags: [b], open: {deep: {z: 2}}}";
    let live = apply(typed, Some(&live), &object(second), "two", false, None, T2).unwrap();
    assert_eq!(
        live["spec"],
        json!({"ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}], "tags": ["a", "b"],
            "whole": {"a": 1}, "open": {"deep": {"x": 1, "z": 2}}})
    );
    assert_eq!(
        fields(&live, "two")["f:spec"]["f:ports"],
        json!({"k:{\"name\":\"https\",\"protocol\":\"SCTP\"}": {".": {}, "f:name": {}, "f:port": {}}})
    );
    let clash = "{ports: [{name: http, port: 81}], whole: {b: 2}}";
    let refused = apply(typed, Some(&live), &object(clash), "two", false, None, T2).unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.whole\n- .spec.ports[name=\"http\",protocol=\"SCTP\"].port"
    );
}

#[test]
fn items_of_one_key_are_owned_as_a_whole() {
    let spec = |env: &str| {
        let mut live = deployment(&format!(
            "{{replicas: 2, template: {{spec: {{containers: [{{name: c, env: [{env}]}}]}}}}}}"
        ));
        live["metadata"]["managedFields"] = Value::Null;
        live
    };
    let twice = "{name: A, value: a}, {name: P, value: b}, {name: P, value: c}";
    let env = |object: &Value, manager: &str| {
        let containers = &fields(object, manager)["f:spec"]["f:template"]["f:spec"]["f:containers"];
        containers["k:{\"name\":\"c\"}"]["f:env"].clone()
    };
    let (a, p) = ("k:{\"name\":\"A\"}", "k:{\"name\":\"P\"}");
    let mut made = spec(twice);
    update_managers(kind_of(&made), None, &mut made, "maker", "Update", None, T1);
    let whole = json!({".": {}, "f:name": {}, "f:value": {}});
    assert_eq!(env(&made, "maker"), json!({".": {}, a: whole, p: {}}));
    // Who changes one of them takes both; who leaves one over takes its parts.
    for (to, left) in [
        (
            "{name: A, value: a}, {name: P, value: b}, {name: P, value: d}",
            json!({p: {}}),
        ),
        ("{name: A, value: a}, {name: P, value: b}", json!({p: whole})),
    ] {
        let mut changed = spec(to);
        update_managers(
            kind_of(&made),
            Some(&made),
            &mut changed,
            "other",
            "Update",
            None,
            T2,
        );
        assert_eq!(env(&changed, "other"), left, "{to}");
        assert_eq!(env(&changed, "maker"), json!({".": {}, a: whole}), "{to}");
    }
}

#[test]
fn what_is_owned_by_its_parts_here_is_so_whatever_its_type_says() {
    let volume = |claim: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: v}}, spec: {{claimRef: {claim}}}}}"
        ))
    };
    let mut live = volume("{name: c, namespace: d, uid: u}");
    // As a version noted it that took it as a whole.
    live["metadata"]["managedFields"] = json!([{"manager": "kcm", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:claimRef": {}}}, "time": T1}]);
    let after = apply_as(Some(&live), &volume("{name: c, namespace: d}"), "me", false, T2).unwrap();
    assert_eq!(after["spec"], live["spec"]);
    let mine = json!({"f:spec": {"f:claimRef": {"f:name": {}, "f:namespace": {}}}});
    assert_eq!(fields(&after, "me"), mine);
}

#[test]
fn nulls_in_what_the_server_sets_change_nothing() {
    let config = yaml(
        "{apiVersion: v1, kind: ConfigMap, data: {k: v}, \
         metadata: {name: a, namespace: d, creationTimestamp: null, resourceVersion: null}}",
    );
    let mut live = apply_as(None, &config, "me", false, T1).unwrap();
    live["metadata"]["creationTimestamp"] = T1.into();
    live["metadata"]["resourceVersion"] = "7".into();
    let mut again = apply_as(Some(&live), &config, "me", false, T2).unwrap();
    keep_times(&mut again, &live);
    assert_eq!(again, live);
}

#[test]
fn a_list_that_nobody_can_read_does_not_count() {
    let live = apply_as(None, &deployment(WEB), "alice", false, T1).unwrap();
    let good = live["metadata"]["managedFields"][0].clone();
    for (field, value, fault) in [
        (
            "operation",
            "Other",
            "metadata.managedFields[1].operation: Invalid value: \"Other\": must be `Apply` or `Update`",
        ),
        (
            "fieldsType",
            "FieldsV2",
            "metadata.managedFields[1].fieldsType: Invalid value: \"FieldsV2\": must be `FieldsV1`",
        ),
        ("fieldsType", "", "missing fieldsType in managed fields entry 1"),
        ("apiVersion", "", "apiVersion must not be empty"),
    ] {
        let mut bad = good.clone();
        bad["manager"] = "bob".into();
        bad[field] = value.into();
        let mut new = live.clone();
        new["metadata"]["managedFields"] = json!([good, bad]);
        let list = &new["metadata"]["managedFields"];
        assert_eq!(list_fault(list).as_deref(), Some(fault));
        update_managers(kind_of(&live), Some(&live), &mut new, "x", "Update", None, T2);
        assert_eq!(new, live, "{fault}");
    }
}

#[test]
fn a_new_object_is_made_of_what_later_cannot_be_changed() {
    let config = yaml(
        "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: c, labels: {a: b}}, \
         spec: {signerName: s}}",
    );
    let made = apply_as(None, &config, "me", false, T1).unwrap();
    assert_eq!(made["spec"], config["spec"]);
    let labels = json!({"f:metadata": {"f:labels": {"f:a": {}}}});
    assert_eq!(fields(&made, "me"), labels);
    // What cannot be changed is taken back later; nobody owns it, and nobody is in the way.
    let mut other = config.clone();
    other["spec"]["signerName"] = "t".into();
    let after = apply_as(Some(&made), &other, "you", false, T2).unwrap();
    assert_eq!(fields(&after, "you"), labels);
}

/// What an applier gives up is emptied, and not taken away where it is still named or somebody else's.
#[test]
fn what_has_lost_its_parts_stays_empty() {
    let first =
        "{overhead: {podFixed: {cpu: 1}}, scheduling: {nodeSelector: {a: b}, tolerations: [{key: a}]}}";
    let class = |parts: &str| {
        let mut class =
            yaml("{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: c}, handler: h}");
        for (name, value) in yaml(parts).as_object().unwrap() {
            class[name] = value.clone();
        }
        class
    };
    let live = apply_as(None, &class(first), "me", false, T1).unwrap();
    for (next, overhead, scheduling) in [
        (
            first,
            json!({"podFixed": {"cpu": 1}}),
            json!({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]}),
        ),
        ("{overhead: null, scheduling: {}}", json!({}), json!({})),
        ("{overhead: {podFixed: {}}}", json!({"podFixed": {}}), Value::Null),
        ("{}", Value::Null, Value::Null),
    ] {
        let after = apply_as(Some(&live), &class(next), "me", false, T2).unwrap();
        assert_eq!(
            (&after["overhead"], &after["scheduling"]),
            (&overhead, &scheduling),
            "{next}"
        );
    }
}

/// Managers are told apart, and their conflicts put in order, by an object that upstream writes out.
#[test]
fn conflicts_are_told_manager_by_manager() {
    let map = |value: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a, namespace: d}}, data: {{k: {value}}}}}"
        ))
    };
    let mut live = map("v");
    update_managers(kind_of(&live), None, &mut live, "a", "Update", None, T1);
    for manager in ["c", "b", "a"] {
        live = apply_as(Some(&live), &map("v"), manager, false, T2).unwrap();
    }
    assert_eq!(
        apply_as(Some(&live), &map("w"), "z", false, T2)
            .unwrap_err()
            .message,
        "Apply failed with 4 conflicts: conflicts with \"a\":\n- .data.k\nconflicts with \"a\" using v1:\n- .data.k\nconflicts \
         with \"b\":\n- .data.k\nconflicts with \"c\":\n- .data.k"
    );
}

/// A value counts as it is written until it is merged, whatever it comes to.
#[test]
fn another_way_to_write_a_value_is_another_value() {
    let claim = |size: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: c, namespace: d}}, \
             spec: {{resources: {{requests: {{storage: {size}}}}}}}}}"
        ))
    };
    let live = apply_as(None, &claim("1Gi"), "a", false, T1).unwrap();
    assert_eq!(
        apply_as(Some(&live), &claim("1024Mi"), "b", false, T2)
            .unwrap_err()
            .message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.resources.requests.storage"
    );
}

#[test]
fn types_that_nobody_can_own() {
    let account = |fields: &str| {
        yaml(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: a}}, {fields}}}"
        ))
    };
    for (written, told) in [
        (
            "metadata: {generateName: {a: null, b: [1, x]}}",
            ".metadata.generateName: expected string, got &value.valueUnstructured{Value:map[string]interface \
             {}{\"a\":interface {}(nil), \"b\":[]interface {}{1, \"x\"}}}",
        ),
        (
            "metadata: {labels: [1, null]}",
            ".metadata.labels: expected map, got &{[1 <nil>]}",
        ),
        (
            "metadata: {creationTimestamp: {}}",
            ".metadata.creationTimestamp: expected any scalar, got &{map[]}",
        ),
        (
            "metadata: {finalizers: [{}]}",
            ".metadata.finalizers: element 0: associative list without keys has an element that's a map type",
        ),
        (
            "metadata: {finalizers: [[]]}",
            ".metadata.finalizers: element 0: not supported: associative list with lists as elements",
        ),
        (
            "metadata: {finalizers: [a, a]}",
            ".metadata.finalizers: duplicate entries for key [=\"a\"]",
        ),
        (
            "secrets: [{kind: x}]",
            ".secrets: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and \
             doesn't have default values for any key fields)",
        ),
        ("nope: 1", ".nope: field not declared in schema"),
    ] {
        let account = account(written);
        assert_eq!(type_faults(kind_of(&account), &account), [told], "{written}");
    }
    for fits in [
        "imagePullSecrets: [{}]",
        "metadata: {creationTimestamp: 1}",
        "secrets: null",
    ] {
        let account = account(fits);
        assert!(type_faults(kind_of(&account), &account).is_empty(), "{fits}");
    }
}

#[test]
fn custom_types_are_as_open_as_their_schema() {
    let schema = yaml(
        "{type: object, properties: {
            any: {x-kubernetes-preserve-unknown-fields: true},
            open: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {deep: {type: object, properties: {a: {type: string}}}}},
            free: {type: object},
            port: {x-kubernetes-int-or-string: true},
            date: {type: string, format: date}, bytes: {type: string, format: byte},
            shut: {type: object, properties: {a: {type: string}}}}}",
    );
    let types = kinds::schema::custom(&schema);
    let typed = Typed {
        kind: kinds::find_kind("", "v1", "ConfigMap").unwrap(),
        custom: Some(&types),
    };
    for (written, told) in [
        (
            "{any: [x], open: {more: 1, deep: {more: 1}}, free: {a: 1}, port: {}, date: 1}",
            "",
        ),
        (
            "{any: {a: 1}, port: 80, date: '2026-01-01', bytes: YQ==, shut: {a: b}}",
            "",
        ),
        ("{open: 1}", ".open: expected map, got &{1}"),
        (
            "{open: {deep: {a: 1}}}",
            ".open.deep.a: expected string, got &value.valueUnstructured{Value:1}",
        ),
        ("{date: []}", ".date: expected any scalar, got &{[]}"),
        (
            "{bytes: 1}",
            ".bytes: expected string, got &value.valueUnstructured{Value:1}",
        ),
        ("{shut: {more: 1}}", ".shut.more: field not declared in schema"),
        ("{more: 1}", ".more: field not declared in schema"),
    ] {
        assert_eq!(type_faults(typed, &yaml(written)).concat(), told, "{written}");
    }
    // What no schema names is owned itself, with its parts.
    let object = yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, free: {a: {b: 1}}}");
    let made = apply(typed, None, &object, "me", false, None, T1).unwrap();
    assert_eq!(
        fields(&made, "me"),
        json!({"f:free": {"f:a": {".": {}, "f:b": {}}}})
    );
    // What takes the place of a map is in conflict with who made it, and the other way round.
    for (before, after) in [
        ("{a: {b: [1]}}", "text"),
        ("{a: 1}", "[1]"),
        ("[1]", "{a: 1}"),
        ("text", "{a: 1}"),
        ("{}", "text"),
        ("text", "{}"),
    ] {
        let object = |any: &str| {
            let text = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, any: {any}}}");
            yaml(&text)
        };
        let mut live = object(before);
        update_managers(typed, None, &mut live, "one", "Update", None, T1);
        let told = apply(typed, Some(&live), &object(after), "two", false, None, T2).unwrap_err();
        assert_eq!(told.code, 409, "{before} {after}");
        assert!(told.message.ends_with(": .any"), "{}", told.message);
    }
    // Of what has a wrong type, nobody owns anything.
    let mut bad = made.clone();
    bad["shut"] = json!("x");
    update_managers(typed, Some(&made), &mut bad, "me", "Update", None, T2);
    assert_eq!(bad["metadata"].get("managedFields"), None);
}
