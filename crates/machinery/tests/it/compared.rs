//! What came to light when the answers were compared with upstream's, one change at a time: what is refused, and what is
//! dropped without a word.

use crate::kind_of;
use crate::validation::{creates, ready, updates};
use machinery::{prepare_update, validate_update};
use serde_json::{Value, json};

const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

#[test]
fn events() {
    let form = format!("reportingComponent: Invalid value: \"\": {QUALIFIED}");
    creates(
        "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: d}, involvedObject: {namespace: d}, reason: R}",
        &[
            (
                "/involvedObject/namespace",
                json!("x"),
                &["involvedObject.namespace: Invalid value: \"x\": does not match event.namespace"],
            ),
            (
                "/eventTime",
                json!("2026-01-01T00:00:00.000000Z"),
                &[
                    "reportingComponent: Required value",
                    "reportingComponent: Invalid value: \"\": name part must be non-empty",
                    &form,
                    "reportingInstance: Required value",
                    "action: Required value",
                ],
            ),
            ("/type", json!("anything"), &[]),
        ],
    );
    let modern = "{apiVersion: events.k8s.io/v1, kind: Event, metadata: {name: e, namespace: default}, type: Normal, \
                  eventTime: '2026-01-01T00:00:00.000000Z', reportingController: a.b/c, reportingInstance: i, action: A, \
                  reason: R}";
    creates(
        modern,
        &[
            (
                "/type",
                json!("x"),
                &["type: Invalid value: \"\": has invalid value: x"],
            ),
            (
                "/deprecatedCount",
                json!(3),
                &["count: Invalid value: \"\": needs to be unset"],
            ),
            (
                "/series",
                json!({"count": 1}),
                &[
                    "series.count: Invalid value: \"\": should be at least 2",
                    "series.lastObservedTime: Required value",
                ],
            ),
        ],
    );
    updates(
        modern,
        &[
            (
                "/note",
                json!("n"),
                &["message: Invalid value: \"n\": field is immutable"],
            ),
            (
                "/series",
                json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}),
                &[],
            ),
        ],
    );
}

#[test]
fn endpoints_and_policies() {
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: d}, addressType: IPv4, \
                 endpoints: [{addresses: [10.1.2.3]}], ports: [{port: 80}]}";
    let label = "endpoints[0].hints.forZones[1].name: Invalid value: \"a b\": a valid label must be an empty string or \
                 consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                 character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                 '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let app = format!("ports[0].appProtocol: Invalid value: \"a b\": {QUALIFIED}");
    creates(
        slice,
        &[
            (
                "/endpoints/0/addresses",
                json!(["x"]),
                &[
                    "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                ],
            ),
            (
                "/endpoints/0/hints",
                json!({"forZones": [{"name": "z"}, {"name": "a b"}, {"name": "z"}]}),
                &[
                    label,
                    "endpoints[0].hints.forZones[2].name: Duplicate value: \"z\"",
                ],
            ),
            ("/ports/0/port", json!(0), &[]),
            ("/ports/0/appProtocol", json!("a b"), &[&app]),
        ],
    );
    updates(
        slice,
        &[(
            "/addressType",
            json!("IPv6"),
            &["addressType: Invalid value: \"IPv6\": field is immutable"],
        )],
    );
    let outside = "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: ";
    creates(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: policy, namespace: d}, spec: {podSelector: {}, \
         ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}}",
        &[
            (
                "/spec/ingress/0/from/0/ipBlock/except",
                json!(["11.0.0.0/16"]),
                &[&format!(
                    "{outside}\"11.0.0.0/16\": must be a strict subset of `cidr`"
                )],
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/except",
                json!(["10.0.0.0/8"]),
                &[&format!(
                    "{outside}\"10.0.0.0/8\": must be a strict subset of `cidr`"
                )],
            ),
        ],
    );
}

#[test]
fn nodes() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: node}, spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24]}}";
    let double = json!([{"type": "x", "address": "y"}, {"type": "x", "address": "y"}]);
    creates(
        node,
        &[
            (
                "/spec/podCIDRs",
                json!(["10.0.0.0/24", "10.1.0.0/24"]),
                &[
                    "spec.podCIDRs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one CIDR for each IP family",
                ],
            ),
            ("/spec/podCIDRs", json!(["10.0.0.0/24", "fd00::/64"]), &[]),
            ("/status", json!({"addresses": double}), &[]),
        ],
    );
    updates(
        node,
        &[(
            "/spec",
            json!({"podCIDR": "10.2.0.0/24"}),
            &["spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid"],
        )],
    );
}

#[test]
fn jobs() {
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: j, namespace: d}, spec: {completionMode: Indexed, completions: 3, \
               parallelism: 3, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
    updates(
        job,
        &[
            (
                "/spec/completions",
                json!(5),
                &["spec.completions: Invalid value: 5: can only be modified in tandem with spec.parallelism"],
            ),
            (
                "/spec/selector",
                Value::Null,
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u-1\",\
                     \"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u-1\",\"job-name\":\"j\"}: `selector` does \
                     not match template `labels`",
                    "spec.selector: Invalid value: null: field is immutable",
                ],
            ),
            (
                "/spec/template/metadata/labels/job-name",
                Value::Null,
                &[
                    "spec.template.metadata.labels[job-name]: Required value: must be 'j'",
                    "spec.template: Invalid value: ...",
                ],
            ),
        ],
    );
    creates(
        job,
        &[(
            "/spec/selector/matchLabels",
            json!({"a": "b"}),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated",
                "spec.template.metadata.labels: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u-1\",\
                 \"batch.kubernetes.io/job-name\":\"j\",\"controller-uid\":\"u-1\",\"job-name\":\"j\"}: `selector` does not \
                 match template `labels`",
            ],
        )],
    );
}

#[test]
fn a_changed_pod_is_checked_whole() {
    let old = ready(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d}, spec: {containers: [{name: c, image: i}]}}",
    );
    let mut new = old.clone();
    let mut before = old.clone();
    before["spec"]["priority"] = 5.into();
    prepare_update(kind_of(&new), &mut new, &before, None);
    assert_eq!(new["spec"]["priority"], 5, "which its manifest never said");
    let mut new = old.clone();
    new["spec"]["containers"][0]["env"] = json!([{"name": ""}]);
    let told = validate_update(kind_of(&new), &new, &old, None);
    assert_eq!(
        told[0].to_string(),
        "spec.containers[0].env[0].name: Required value"
    );
    assert!(
        told[1]
            .to_string()
            .starts_with("spec: Forbidden: pod updates may not change")
    );
}

#[test]
fn claims_may_ask_for_less_down_to_what_they_have() {
    let mut old = ready(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p, namespace: d}, spec: {accessModes: [ReadWriteOnce], \
         volumeName: v, resources: {requests: {storage: 3Gi}}}}",
    );
    old["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    for (size, expected) in [
        ("4Gi", None),
        ("2Gi", None),
        (
            "1Gi",
            Some("spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"),
        ),
    ] {
        let mut new = old.clone();
        new["spec"]["resources"]["requests"]["storage"] = size.into();
        let told = validate_update(kind_of(&new), &new, &old, None);
        assert_eq!(
            told.first().map(ToString::to_string).as_deref(),
            expected,
            "{size}"
        );
    }
}

#[test]
fn fields_of_features_that_are_off_are_dropped() {
    let cases = [
        (
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: d}, spec: {strategy: x, preferredHolder: b}}",
            "/spec",
            json!({}),
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d}, spec: {containers: [{name: c, image: i, lifecycle: {stopSignal: SIGX}}]}}",
            "/spec/containers/0/lifecycle",
            Value::Null,
        ),
        (
            "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p, namespace: d}, spec: {dataSourceRef: {kind: x, name: b, namespace: z}}}",
            "/spec/dataSourceRef",
            Value::Null,
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: d}, addressType: IPv4, endpoints: [{addresses: [10.1.2.3], deprecatedTopology: {a: b}}]}",
            "/endpoints/0/deprecatedTopology",
            Value::Null,
        ),
    ];
    for (manifest, at, expected) in cases {
        let made = ready(manifest);
        assert_eq!(*made.pointer(at).unwrap_or(&Value::Null), expected, "{manifest}");
    }
}

#[test]
fn labels_of_a_slice_count_as_its_content() {
    let old = ready(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: d}, addressType: IPv4, endpoints: []}",
    );
    for (field, generation) in [("labels", 2), ("annotations", 1)] {
        let mut new = old.clone();
        new["metadata"][field] = json!({"a": "b"});
        prepare_update(kind_of(&new), &mut new, &old, None);
        assert_eq!(new["metadata"]["generation"], generation, "{field}");
    }
}

/// Faults that were found beside a real server: one change of a good manifest each, and what is wrong with it.
#[test]
fn small_faults() {
    const SET: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: s, namespace: default}
spec:
  serviceName: x
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}
  volumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]
";
    let claim = "spec.volumeClaimTemplates[0].spec";
    creates(
        SET,
        &[
            (
                "/spec/volumeClaimTemplates/0/spec/accessModes",
                json!([]),
                &[&format!(
                    "{claim}.accessModes: Required value: at least 1 access mode is required"
                )],
            ),
            (
                "/spec/volumeClaimTemplates/0/spec/volumeMode",
                json!("x"),
                &[&format!(
                    "{claim}.volumeMode: Unsupported value: \"x\": supported values: \"Block\", \"Filesystem\""
                )],
            ),
            (
                "/spec/updateStrategy",
                json!({"type": "x"}),
                &[
                    "spec.updateStrategy: Invalid value: {\"Type\":\"x\",\"RollingUpdate\":null}: must be 'RollingUpdate' or 'OnDelete'",
                ],
            ),
            ("/spec/revisionHistoryLimit", json!(-1), &[]),
        ],
    );
    const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: j, namespace: default, uid: u}
spec:
  completions: 3
  completionMode: Indexed
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}
";
    let rule = "spec.successPolicy.rules[0]";
    creates(
        JOB,
        &[
            (
                "/spec/successPolicy",
                json!({"rules": [{"succeededIndexes": "0-9"}]}),
                &[&format!(
                    "{rule}.succeededIndexes: Invalid value: \"0-9\": error parsing succeededIndexes: too large index: \"9\""
                )],
            ),
            (
                "/spec/successPolicy",
                json!({"rules": [{"succeededIndexes": "0,2", "succeededCount": 3}]}),
                &[&format!(
                    "{rule}.succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)"
                )],
            ),
        ],
    );
    creates(
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: default}, spec: {ports: [{port: 80}]}}",
        &[
            (
                "/spec/ipFamilies",
                json!(["IPv4", "IPv4"]),
                &["spec.ipFamilies[1]: Duplicate value: \"IPv4\""],
            ),
            (
                "/spec/ipFamilies",
                json!(["x"]),
                &["spec.ipFamilies[0]: Unsupported value: \"x\": supported values: \"IPv4\", \"IPv6\""],
            ),
        ],
    );
    let user = "spec.securityContext.windowsOptions.runAsUserName";
    creates(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default}, spec: {containers: [{name: c, image: i}]}}",
        &[
            (
                "/spec/securityContext",
                json!({"windowsOptions": {"runAsUserName": ""}}),
                &[&format!(
                    "{user}: Invalid value: \"\": runAsUserName cannot be an empty string"
                )],
            ),
            (
                "/spec/securityContext",
                json!({"windowsOptions": {"runAsUserName": "a\\b\\c"}}),
                &[&format!(
                    "{user}: Invalid value: \"a\\\\b\\\\c\": runAsUserName cannot contain more than one backslash"
                )],
            ),
            (
                "/spec/securityContext",
                json!({"windowsOptions": {"gmsaCredentialSpec": ""}}),
                &[
                    "spec.securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: \"\": gmsaCredentialSpec cannot be an empty string",
                ],
            ),
        ],
    );
    creates(
        "{apiVersion: v1, kind: Node, metadata: {name: nn}}",
        &[(
            "/spec",
            json!({"podCIDR": "x", "podCIDRs": ["x"]}),
            &[
                "spec.podCIDRs[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ],
        )],
    );
}
