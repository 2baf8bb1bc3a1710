//! What controllers may report: each case is a status before and after, and what is said about the change.

use crate::{defaulted, kind_of};
use machinery::{prepare_create, prepare_update, validate_update};
use serde_json::{Value, json};

const JOB: &str = "
apiVersion: batch/v1
kind: Job
metadata: {name: j, namespace: default}
spec:
  completions: 5
  completionMode: Indexed
  backoffLimitPerIndex: 1
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}
";

/// The errors of a change of a status.
fn changed(manifest: &str, old: &Value, new: &Value) -> Vec<String> {
    let mut before = defaulted(manifest);
    let kind = kind_of(&before);
    before["metadata"]["uid"] = "u-1".into();
    prepare_create(kind, &mut before);
    before["status"] = old.clone();
    let mut after = before.clone();
    after["status"] = new.clone();
    prepare_update(kind, &mut after, &before, Some("status"));
    let errors = validate_update(kind, &after, &before, Some("status"));
    errors.iter().map(ToString::to_string).collect()
}

fn done(conditions: &[&str], more: Value) -> Value {
    let condition = |c: &&str| json!({"type": c, "status": "True"});
    let mut status = json!({"conditions": conditions.iter().map(condition).collect::<Vec<_>>()});
    for (key, value) in more.as_object().expect("an object") {
        status[key] = value.clone();
    }
    status
}

#[test]
fn the_way_of_a_job_to_its_end() {
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z");
    let times = json!({"startTime": start, "completionTime": end});
    let cases: [(Value, Value, &[&str]); 13] = [
        (
            json!({"startTime": start}),
            done(&["SuccessCriteriaMet", "Complete"], times.clone()),
            &[],
        ),
        (
            json!({}),
            done(&["Complete"], json!({})),
            &[
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
                "status.startTime: Required value: startTime is required for finished job",
            ],
        ),
        (
            json!({"startTime": start}),
            done(&["Failed"], json!({"startTime": start})),
            &[
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
            ],
        ),
        (
            done(&["FailureTarget", "Failed"], json!({"startTime": start})),
            done(&[], json!({"startTime": start})),
            &[
                "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
                "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
            ],
        ),
        (
            json!({"startTime": start}),
            done(
                &["FailureTarget", "Failed"],
                json!({"startTime": start, "active": 1, "terminating": 2}),
            ),
            &[
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.terminating: Invalid value: 2: terminating>0 is invalid for finished job",
            ],
        ),
        (
            json!({"startTime": start}),
            json!({}),
            &["status.startTime: Required value: startTime cannot be removed for unsuspended job"],
        ),
        (
            json!({"failed": 2, "succeeded": 3}),
            json!({"failed": 1, "succeeded": 2}),
            &[
                "status.failed: Invalid value: 1: cannot decrease the failed counter",
                "status.succeeded: Invalid value: 2: cannot decrease the succeeded counter",
            ],
        ),
        (
            json!({}),
            json!({"ready": 2, "active": 1}),
            &["status.ready: Invalid value: 2: cannot set more ready pods than active"],
        ),
        (
            json!({}),
            json!({"completedIndexes": "0,2-3", "failedIndexes": "1"}),
            &[],
        ),
        (
            json!({}),
            json!({"completedIndexes": "0,2-3", "failedIndexes": "3-4"}),
            &[
                "status.failedIndexes: Invalid value: \"3-4\": failedIndexes and completedIndexes overlap at index: 3",
            ],
        ),
        (
            json!({}),
            json!({"completedIndexes": "0,7"}),
            &[
                "status.completedIndexes: Invalid value: \"0,7\": error parsing completedIndexes: too large index: \"7\"",
            ],
        ),
        (
            json!({}),
            json!({"completedIndexes": "3-2"}),
            &[
                "status.completedIndexes: Invalid value: \"3-2\": error parsing completedIndexes: non-increasing order, previous: 3, current: 2",
            ],
        ),
        (
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}}),
            &[
                "status.uncountedTerminatedPods.succeeded[1]: Invalid value: \"\": must not be empty",
                "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"a\"",
            ],
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(changed(JOB, &old, &new), expected, "{old} -> {new}");
    }
}

#[test]
fn counters_fit_together() {
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: default}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}
";
    let cases: [(Value, &[&str]); 3] = [
        (
            json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}),
            &[],
        ),
        (
            json!({"replicas": 1, "updatedReplicas": 2}),
            &["status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        ),
        (
            json!({"replicas": 3, "readyReplicas": 1, "availableReplicas": 2, "unavailableReplicas": -1}),
            &[
                "status.unavailableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
            ],
        ),
    ];
    for (new, expected) in cases {
        assert_eq!(changed(deployment, &json!({}), &new), expected, "{new}");
    }
}

/// What is reported of objects that have no counters, or others.
#[test]
fn reports_of_other_kinds() {
    let meta = "metadata: {name: a, namespace: d}";
    let ingress = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: Ingress, {meta}, spec: {{defaultBackend: {{service: {{name: a, port: \
         {{number: 80}}}}}}}}}}"
    );
    let quota = format!("{{apiVersion: v1, kind: ResourceQuota, {meta}, spec: {{hard: {{pods: 1}}}}}}");
    let scaler = format!(
        "{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, {meta}, spec: {{maxReplicas: 2, scaleTargetRef: \
         {{apiVersion: apps/v1, kind: Deployment, name: a}}}}}}"
    );
    let set = format!(
        "{{apiVersion: apps/v1, kind: ReplicaSet, {meta}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: \
         {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
    );
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}}";
    let attachment = "{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {name: a}, spec: {attacher: d.io, \
                      nodeName: n1, source: {persistentVolumeName: v}}}";
    let cases: [(&str, Value, &[&str]); 9] = [
        (
            node,
            json!({"capacity": {"cpu": "-1", "foo": "1", "pods": "1500m", "nvidia.com/gpu": "500m"}}),
            &[
                "status.capacity.cpu: Invalid value: \"-1\": must be greater than or equal to 0",
                "status.capacity.nvidia.com/gpu: Invalid value: \"500m\": must be an integer",
                "status.capacity.pods: Invalid value: \"1500m\": must be an integer",
            ],
        ),
        (
            node,
            json!({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "10.0.0.1"}]}),
            &["status.addresses[1]: Duplicate value: {\"Type\":\"InternalIP\",\"Address\":\"10.0.0.1\"}"],
        ),
        (
            &ingress,
            json!({"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "10.0.0.1"}]}}),
            &[
                "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ],
        ),
        (
            &quota,
            json!({"hard": {"foo": "1"}, "used": {"pods": "-1"}}),
            &[
                "status.hard[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified",
                "status.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota",
                "status.used[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            &scaler,
            json!({"currentReplicas": -1, "desiredReplicas": -2}),
            &[
                "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.desiredReplicas: Invalid value: -2: must be greater than or equal to 0",
            ],
        ),
        (
            &set,
            json!({"replicas": 0, "terminatingReplicas": -1}),
            &["status.terminatingReplicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            attachment,
            json!({"attached": false, "attachError": {"message": "x".repeat(1025)}}),
            &["status.attachError.message: Too long: may not be more than 262144 bytes"],
        ),
        (
            attachment,
            json!({"attached": false, "attachError": {"errorCode": -1}}),
            &["status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"],
        ),
        (attachment, json!({"attached": true}), &[]),
    ];
    for (manifest, new, expected) in cases {
        assert_eq!(changed(manifest, &json!({}), &new), expected, "{new}");
    }
}

/// A volume tells since when it is in its phase, whoever reports it.
#[test]
fn phases_of_volumes_have_times() {
    let kind = kinds::find_kind("", "v1", "PersistentVolume").expect("is there");
    let (then, given, now) = (
        "2026-01-01T00:00:00Z",
        "2026-01-01T12:00:00Z",
        "2026-01-02T00:00:00Z",
    );
    let status = |phase: &str, time: Option<&str>| {
        let mut status = json!({"phase": phase});
        if let Some(time) = time {
            status["lastPhaseTransitionTime"] = time.into();
        }
        json!({"status": status})
    };
    for (sent, stored) in [
        (status("Available", None), then),
        (status("Available", Some(given)), given),
        (status("Bound", None), now),
        (status("Bound", Some(then)), now),
        (status("Bound", Some(given)), given),
    ] {
        let mut new = sent.clone();
        machinery::stamp(kind, &mut new, &status("Available", Some(then)), now);
        assert_eq!(new["status"]["lastPhaseTransitionTime"], stored, "{sent}");
    }
}

/// Who decides on a request for a certificate need not say when.
#[test]
fn decisions_have_times() {
    let kind = kinds::builtin()
        .iter()
        .find(|k| k.kind == "CertificateSigningRequest")
        .expect("is there");
    let (then, now) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let old = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "lastTransitionTime": then}]}});
    let mut new = json!({"status": {"conditions": [{"type": "Approved", "status": "True"},
        {"type": "Failed", "status": "True", "lastUpdateTime": then}]}});
    machinery::stamp(kind, &mut new, &old, now);
    assert_eq!(
        new["status"]["conditions"],
        json!([{"type": "Approved", "status": "True", "lastUpdateTime": now, "lastTransitionTime": then},
            {"type": "Failed", "status": "True", "lastUpdateTime": then, "lastTransitionTime": now}])
    );
}

/// What may be said of a request for a certificate, and by which way.
#[test]
fn verdicts_of_certificate_requests() {
    let kind = kinds::builtin()
        .iter()
        .find(|k| k.kind == "CertificateSigningRequest")
        .expect("the kind");
    let object = |status: &Value| json!({"metadata": {"name": "c", "resourceVersion": "1", "uid": "u"}, "status": status});
    let verdicts = |list: &[(&str, &str)]| {
        let list: Vec<Value> = list
            .iter()
            .map(|(ty, is)| json!({"type": ty, "status": is}))
            .collect();
        json!({"conditions": list})
    };
    let none = json!({});
    let approved = verdicts(&[("Approved", "True")]);
    // Each: the way, before, after, what is wrong with it.
    let cases: [(&str, &Value, Value, &[&str]); 9] = [
        ("approval", &none, approved.clone(), &[]),
        (
            "approval",
            &none,
            verdicts(&[("Approved", "False")]),
            &["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""],
        ),
        (
            "approval",
            &none,
            verdicts(&[("", "True")]),
            &["status.conditions[0].type: Required value"],
        ),
        (
            "approval",
            &none,
            verdicts(&[("Approved", "True"), ("Denied", "True")]),
            &[
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ],
        ),
        (
            "approval",
            &none,
            verdicts(&[("Odd", "True"), ("Odd", "True")]),
            &["status.conditions[1].type: Duplicate value: \"Odd\""],
        ),
        (
            "approval",
            &approved,
            none.clone(),
            &["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""],
        ),
        (
            "status",
            &none,
            approved.clone(),
            &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
        ),
        (
            "status",
            &none,
            json!({"certificate": "eA=="}),
            &[
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        ),
        (
            "status",
            &json!({"certificate": "eA=="}),
            none.clone(),
            &["status.certificate: Forbidden: updates may not modify existing certificate content"],
        ),
    ];
    for (way, before, after, wrong) in cases {
        let errors = machinery::validate_update(kind, &object(&after), &object(before), Some(way));
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, wrong, "{way}: {before} -> {after}");
    }
}
