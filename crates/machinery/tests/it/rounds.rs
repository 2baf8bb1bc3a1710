//! How often a refusal of a change tells the same thing: upstream looks at metadata for any kind and then once more, or
//! twice, for each, and at some objects as a whole twice. Clients find each finding among the causes.

use crate::kind_of;
use crate::validation::ready;
use machinery::{prepare_update, validate_update};
use serde_json::{Value, json};

/// The places that are told of when a part of an object is replaced.
fn told(manifest: &str, at: &str, value: Value, sub: Option<&str>) -> Vec<String> {
    let old = ready(manifest);
    let mut new = old.clone();
    let (parent, field) = at.rsplit_once('/').expect("a pointer");
    new.pointer_mut(parent).expect("there")[field] = value;
    let kind = kind_of(&new);
    machinery::default(kind, &mut new);
    prepare_update(kind, &mut new, &old, sub);
    let errors = validate_update(kind, &new, &old, sub);
    errors.iter().map(|error| error.path.to_string()).collect()
}

#[test]
fn metadata_is_looked_at_again_and_again() {
    let pod = "{spec: {restartPolicy: Never, containers: [{name: c, image: i}]}, metadata: {labels: {a: b}}}";
    let cases = [
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}".to_owned(), None, 4),
        ("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}".to_owned(), None, 4),
        (
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {}}".to_owned(),
            None,
            3,
        ),
        (
            "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {minAvailable: 1}}".to_owned(),
            None,
            2,
        ),
        (
            "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, spec: {minAvailable: 1}}".to_owned(),
            Some("status"),
            2,
        ),
        (
            "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: \
             [ReadWriteOnce], hostPath: {path: /a}}}"
                .to_owned(),
            None,
            4,
        ),
        (
            format!("{{apiVersion: batch/v1, kind: Job, metadata: {{name: a, labels: {{x: z}}}}, spec: {{template: {pod}}}}}"),
            None,
            4,
        ),
        (
            format!("{{apiVersion: batch/v1, kind: Job, metadata: {{name: a, labels: {{x: z}}}}, spec: {{template: {pod}}}}}"),
            Some("status"),
            3,
        ),
    ];
    for (manifest, sub, times) in cases {
        let places = told(&manifest, "/metadata/labels", json!({"a": "_b_"}), sub);
        let expected = vec!["metadata.labels"; times];
        assert_eq!(places, expected, "{manifest} {sub:?}");
    }
}

#[test]
fn jobs_and_volumes_are_looked_at_twice() {
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {restartPolicy: Never, \
               containers: [{name: c, image: i}]}}}}";
    assert_eq!(
        told(job, "/spec/backoffLimit", json!(-1), None),
        ["spec.backoffLimit", "spec.backoffLimit"]
    );
    let volume = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, \
                  accessModes: [ReadWriteOnce], hostPath: {path: /a}}}";
    assert_eq!(
        told(volume, "/spec/accessModes", json!(["Never"]), None),
        ["spec.accessModes", "spec.accessModes"]
    );
}

#[test]
fn an_end_and_a_uid_are_not_for_clients_to_say() {
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}";
    for (at, value) in [
        ("/metadata/uid", json!("other")),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/metadata/deletionGracePeriodSeconds", json!(5)),
    ] {
        let place = at.trim_start_matches('/').replace('/', ".");
        assert_eq!(told(map, at, value, None), [place.clone(), place], "{at}");
    }
}

#[test]
fn what_is_there_and_empty_is_something() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Never, containers: \
               [{name: c, image: i}]}}";
    for (at, value, refused) in [
        ("/spec/runtimeClassName", json!(""), true),
        ("/spec/affinity", json!({}), true),
        ("/spec/nodeSelector", json!({}), false),
        ("/spec/hostAliases", json!([]), false),
    ] {
        let places = told(pod, at, value, None);
        assert_eq!(
            places.iter().any(|place| place == "spec"),
            refused,
            "{at}: {places:?}"
        );
    }
    let set = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, \
               template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}";
    for (at, value, generation) in [
        ("/spec/template/spec/affinity", json!({}), 2),
        ("/spec/template/spec/nodeSelector", json!({}), 1),
        ("/spec/template/spec/runtimeClassName", json!(""), 2),
    ] {
        let old = ready(set);
        let mut new = old.clone();
        let (parent, field) = at.rsplit_once('/').expect("a pointer");
        new.pointer_mut(parent).expect("there")[field] = value;
        let kind = kind_of(&new);
        machinery::default(kind, &mut new);
        prepare_update(kind, &mut new, &old, None);
        assert_eq!(new["metadata"]["generation"], generation, "{at}");
    }
}

#[test]
fn a_status_does_not_hide_what_is_refused() {
    let set = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, \
               template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}";
    for (at, value) in [
        ("/metadata/uid", json!("other")),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("/metadata/deletionGracePeriodSeconds", json!(5)),
    ] {
        let place = at.trim_start_matches('/').replace('/', ".");
        assert_eq!(
            told(set, at, value, Some("status")),
            [place.clone(), place],
            "{at}"
        );
    }
    let service = "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.a.b}, spec: {group: a.b, \
                   version: v1, groupPriorityMinimum: 1, versionPriority: 1}}";
    let conditions = json!({"conditions": [{"type": "A", "status": "Maybe"}]});
    assert_eq!(
        told(service, "/status", conditions, Some("status")),
        ["status.conditions[0].status"]
    );
}

#[test]
fn an_older_autoscaler_keeps_what_it_cannot_say() {
    const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
    const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
    let mut old = ready(
        "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: h}, spec: {maxReplicas: 3, \
         scaleTargetRef: {kind: Deployment, name: d}}}",
    );
    old["metadata"]["annotations"] = json!({METRICS: "[]", CONDITIONS: "[]", "own": "o"});
    let kind = kind_of(&old);
    for (sub, kept) in [(None, CONDITIONS), (Some("status"), METRICS)] {
        let mut new = old.clone();
        new["metadata"]
            .as_object_mut()
            .expect("there")
            .remove("annotations");
        prepare_update(kind, &mut new, &old, sub);
        assert_eq!(new["metadata"]["annotations"], json!({kept: "[]"}), "{sub:?}");
    }
}

#[test]
fn generations_of_templates_are_numbers() {
    let set = |generation: &str| {
        json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "d",
            "annotations": {"deprecated.daemonset.template.generation": generation}}})
    };
    for (generation, why) in [
        ("7", None),
        ("abc", Some("strconv.ParseInt: parsing \"abc\": invalid syntax")),
        ("", Some("strconv.ParseInt: parsing \"\": invalid syntax")),
        (
            "99999999999999999999",
            Some("strconv.ParseInt: parsing \"99999999999999999999\": value out of range"),
        ),
    ] {
        let mut object = set(generation);
        let kind = kind_of(&object);
        let found = machinery::decode_check(kind, &mut object, &[], machinery::FieldValidation::Strict);
        let told = found.err().map(|status| status.message);
        let expected =
            why.map(|why| format!("DaemonSet in version \"v1\" cannot be handled as a DaemonSet: {why}"));
        assert_eq!(told, expected);
    }
}

#[test]
fn every_driver_of_a_name_is_compared_with_the_one_before() {
    let node = "{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: a}, spec: {drivers: [{name: d, nodeID: i}]}}";
    let driver = |id: &str| json!({"name": "d", "nodeID": id});
    for (drivers, places) in [
        (json!([driver("i")]), vec![]),
        (json!([driver("j")]), vec!["spec.drivers"]),
        (
            json!([driver("i"), driver("j")]),
            vec!["spec.drivers[1].name", "spec.drivers"],
        ),
    ] {
        assert_eq!(
            told(node, "/spec/drivers", drivers.clone(), None),
            places,
            "{drivers}"
        );
    }
}
