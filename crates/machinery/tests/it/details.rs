//! Rules of single kinds that few manifests meet: one or two cases of each, in upstream's words.

use crate::validation::{creates, ready, texts, updates};
use crate::{defaulted, kind_of};
use machinery::{prepare_update, status_warnings, validate_update, warnings};
use serde_json::{Value, json};

#[test]
fn targets_of_autoscalers() {
    let scaler = "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a, namespace: d}, spec: \
                  {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}, metrics: [{type: Object, \
                  object: {describedObject: {kind: Service, name: s}, metric: {name: m}, target: {type: Value, value: 1}}}]}}";
    let group = "apiVersion must specify API group";
    creates(
        scaler,
        &[
            (
                "/spec/scaleTargetRef/apiVersion",
                Value::Null,
                &[&format!(
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"\": {group}"
                )],
            ),
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("v1"),
                &[&format!(
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": {group}"
                )],
            ),
            (
                "/spec/scaleTargetRef/apiVersion",
                json!("a/b/c"),
                &[
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                ],
            ),
            (
                "/spec/scaleTargetRef",
                json!({"kind": "ReplicationController", "name": "a"}),
                &[],
            ),
            (
                "/spec/metrics/0/object/describedObject/apiVersion",
                json!("a/b/c"),
                &[
                    "spec.metrics[0].object.describedObject.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion \
                     string: a/b/c",
                ],
            ),
        ],
    );
    // What was there before the rule may be changed otherwise.
    let odd = scaler.replace("apiVersion: apps/v1, kind: Deployment", "kind: Deployment");
    updates(
        &odd,
        &[
            ("/spec/maxReplicas", json!(3), &[]),
            (
                "/spec/scaleTargetRef/kind",
                json!("ReplicaSet"),
                &[&format!(
                    "spec.scaleTargetRef.apiVersion: Invalid value: \"\": {group}"
                )],
            ),
        ],
    );
}

/// They are judged by what they mean in the newer version.
#[test]
fn autoscalers_of_the_older_version() {
    let scaler = "{apiVersion: autoscaling/v1, kind: HorizontalPodAutoscaler, metadata: {name: a, namespace: d}, spec: \
                  {maxReplicas: 2, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: a}, \
                  targetCPUUtilizationPercentage: 50}}";
    let percent = "target.averageUtilization: Invalid value: 0: must be greater than 0";
    creates(
        scaler,
        &[
            (
                "/spec/targetCPUUtilizationPercentage",
                json!(0),
                &[&format!("spec.metrics[0].resource.{percent}")],
            ),
            (
                "/metadata/annotations",
                json!({"autoscaling.alpha.kubernetes.io/metrics": "[{\"type\":\"Pods\"}]",
                    "autoscaling.alpha.kubernetes.io/behavior": "{\"scaleUp\":{}}"}),
                &[
                    "spec.metrics[0].pods: Required value: must populate information for the given metric source",
                    "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
                ],
            ),
        ],
    );
}

/// What the older version has no fields for is in annotations, in the form and order of its own types.
#[test]
fn autoscalers_in_both_versions() {
    let newer = json!({
        "metadata": {"name": "a", "annotations": {"own": "x", "autoscaling.alpha.kubernetes.io/metrics": "old"}},
        "spec": {"maxReplicas": 3, "metrics": [
            {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m"},
                "target": {"type": "Value", "value": "10"}}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 1,
                "periodSeconds": 2}]}}},
        "status": {"currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": 5, "averageValue": "10m"}}}]},
    });
    let older = machinery::autoscaler_to_v1(newer.clone());
    assert_eq!(
        older,
        json!({
            "metadata": {"name": "a", "annotations": {
                "own": "x",
                "autoscaling.alpha.kubernetes.io/metrics": "[{\"type\":\"Resource\",\"resource\":{\"name\":\"memory\",\
                    \"targetAverageValue\":\"1Gi\"}},{\"type\":\"Object\",\"object\":{\"target\":{\"kind\":\"Service\",\
                    \"name\":\"s\"},\"metricName\":\"m\",\"targetValue\":\"10\"}}]",
                "autoscaling.alpha.kubernetes.io/behavior": "{\"ScaleUp\":null,\"ScaleDown\":{\
                    \"StabilizationWindowSeconds\":5,\"SelectPolicy\":null,\"Policies\":[{\"Type\":\"Pods\",\"Value\":1,\
                    \"PeriodSeconds\":2}],\"Tolerance\":null}}",
                "autoscaling.alpha.kubernetes.io/current-metrics": "[{\"type\":\"Resource\",\"resource\":{\"name\":\"cpu\",\
                    \"currentAverageUtilization\":5,\"currentAverageValue\":\"10m\"}}]"}},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
            "status": {"currentCPUUtilizationPercentage": 5},
        })
    );
    let mut back = newer;
    // The processor's use comes last, as the field of its own that it was.
    back["spec"]["metrics"].as_array_mut().unwrap().swap(1, 2);
    back["metadata"]["annotations"] = json!({"own": "x"});
    assert_eq!(machinery::autoscaler_to_v2(older), back);
}

#[test]
fn jobs() {
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: d}, spec: {completionMode: Indexed, \
               completions: 11, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
    let dotted = job.replace("name: a,", "name: a.b,");
    creates(
        job,
        &[
            ("/spec/completions", json!(0), &[]),
            ("/spec/managedBy", json!(""), &["spec.managedBy: Required value"]),
            (
                "/spec/completionMode",
                json!("Odd"),
                &[
                    "spec.completionMode: Unsupported value: \"Odd\": supported values: \"NonIndexed\", \"Indexed\"",
                ],
            ),
        ],
    );
    let object = ready(&dotted);
    assert_eq!(
        texts(machinery::validate_create(kind_of(&object), &object)),
        ["metadata.name: Invalid value: \"a.b\": will not able to create pod with invalid DNS label: a.b-10"]
    );
    let suspended = job.replace("spec: {completionMode", "spec: {suspend: true, completionMode");
    let term = json!({"topologyKey": "k", "labelSelector": {"matchLabels": {"a": "b"}}});
    updates(
        &suspended,
        &[
            (
                "/spec/template/spec/affinity",
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
                    [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]}}}),
                &[],
            ),
            (
                "/spec/template/spec/affinity",
                json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}),
                &["spec.template: Invalid value: ..."],
            ),
        ],
    );
}

#[test]
fn cron_jobs() {
    let cron = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a, namespace: d}, spec: {schedule: '*/5 * * * *', \
                timeZone: Europe/Zurich, jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, \
                image: i}]}}}}}}";
    let schedules = [
        ("1,,2 *-3 ? JAN-mar 0/2", ""),
        ("@every 1h30m", ""),
        (
            "@every nonsense",
            "failed to parse duration @every nonsense: time: invalid duration \"nonsense\"",
        ),
        (
            "@every 5",
            "failed to parse duration @every 5: time: missing unit in duration \"5\"",
        ),
        (
            "@every 5d",
            "failed to parse duration @every 5d: time: unknown unit \"d\" in duration \"5d\"",
        ),
        ("@often", "unrecognized descriptor: @often"),
        (
            "x * * * *",
            "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("*/2/3 * * * *", "too many slashes: */2/3"),
        ("0,61 * * * *", "end of range (61) above maximum (59): 61"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
    ];
    for (schedule, fault) in schedules {
        let told = format!("spec.schedule: Invalid value: {schedule:?}: {fault}");
        let told = [told.as_str()];
        let expected = if fault.is_empty() { &told[..0] } else { &told };
        creates(cron, &[("/spec/schedule", json!(schedule), expected)]);
    }
    creates(
        cron,
        &[
            (
                "/spec/timeZone",
                json!("europe/zurich"),
                &["spec.timeZone: Invalid value: \"europe/zurich\": unknown time zone europe/zurich"],
            ),
            (
                "/spec",
                json!({"schedule": "x", "timeZone": "No/Zone", "startingDeadlineSeconds": -1, "concurrencyPolicy": "x",
                    "failedJobsHistoryLimit": -1, "jobTemplate": {"spec": {"parallelism": -1, "template": {"spec":
                    {"restartPolicy": "Never", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 1, "containers":
                    [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]}}}}}),
                &[
                    "spec.schedule: Invalid value: \"x\": expected exactly 5 fields, found 1: [x]",
                    "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                    "spec.timeZone: Invalid value: \"No/Zone\": unknown time zone No/Zone",
                    "spec.concurrencyPolicy: Unsupported value: \"x\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
                    "spec.jobTemplate.spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                    "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
        ],
    );
    // What is stored may stay: a long name, a zone in the schedule or one of another time.
    let old = cron
        .replace("name: a,", &format!("name: {},", "a".repeat(53)))
        .replace("'*/5", "'TZ=UTC */5")
        .replace("Europe/Zurich", "europe/zurich");
    updates(
        &old,
        &[
            (
                "/spec/suspend",
                json!(true),
                &[
                    "spec.schedule: Invalid value: \"TZ=UTC */5 * * * *\": cannot use both timeZone field and TZ or CRON_TZ in \
                 schedule",
                ],
            ),
            ("/spec/timeZone", Value::Null, &[]),
        ],
    );
}

#[test]
fn ingresses() {
    let ingress = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, namespace: d}, spec: {ingressClassName: c, \
                   rules: [{http: {paths: [{pathType: ImplementationSpecific, backend: {resource: {kind: Bucket, name: \
                   b}}}]}}]}}";
    let path = "/spec/rules/0/http/paths/0";
    let at = "spec.rules[0].http.paths[0]";
    creates(
        ingress,
        &[
            (
                &format!("{path}/path"),
                json!("foo"),
                &[&format!(
                    "{at}.path: Invalid value: \"foo\": must be an absolute path"
                )],
            ),
            (
                &format!("{path}/backend/resource"),
                json!({"apiGroup": "A", "kind": "a/b"}),
                &[
                    &format!(
                        "{at}.backend.resource.apiGroup: Invalid value: \"A\": {}",
                        crate::validation::SUBDOMAIN
                    ),
                    &format!("{at}.backend.resource.kind: Invalid value: \"a/b\": may not contain '/'"),
                    &format!("{at}.backend.resource.name: Required value"),
                ],
            ),
            (
                "/spec",
                json!({"ingressClassName": "a/b", "defaultBackend": {}, "tls": [{"hosts": ["A"]}]}),
                &[
                    "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
                    &format!(
                        "spec.tls[0].hosts[0]: Invalid value: \"A\": {}",
                        crate::validation::SUBDOMAIN
                    ),
                    &format!(
                        "spec.ingressClassName: Invalid value: \"a/b\": {}",
                        crate::validation::SUBDOMAIN
                    ),
                ],
            ),
        ],
    );
}

#[test]
fn quotas() {
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a, namespace: d}, spec: {hard: {pods: 1}, scopes: \
                 [Terminating, NotBestEffort]}}";
    let unknown = |name: &str| {
        format!(
            "spec.hard[{name}]: Invalid value: \"{name}\": must be a standard resource type or fully qualified"
        )
    };
    creates(
        &quota.replace(", scopes: [Terminating, NotBestEffort]", ""),
        &[
            (
                "/spec/hard",
                json!({"limits.hugepages-2Mi": "1", "requests.hugepages-2Mi": "1"}),
                &[
                    &unknown("limits.hugepages-2Mi"),
                    "spec.hard[limits.hugepages-2Mi]: Invalid value: \"limits.hugepages-2Mi\": must be a standard resource for \
                     quota",
                ],
            ),
            (
                "/spec/hard",
                json!({"storage": "1", "count/deployments.apps": "1500m"}),
                &[
                    "spec.hard[count/deployments.apps]: Invalid value: \"1500m\": must be an integer",
                    "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
                ],
            ),
            (
                "/spec",
                json!({"hard": {"requests.cpu": "1", "ephemeral-storage": "1"}, "scopeSelector": {"matchExpressions":
                    [{"scopeName": "BestEffort", "operator": "Exists"}, {"scopeName": "NotBestEffort", "operator": "Exists"}]}}),
                &{
                    let place = "spec.scopeSelector.matchExpressions: Invalid value: ";
                    let shown = "{\"MatchExpressions\":[{\"ScopeName\":\"BestEffort\",\"Operator\":\"Exists\",\"Values\":null},\
                                 {\"ScopeName\":\"NotBestEffort\",\"Operator\":\"Exists\",\"Values\":null}]}";
                    let unfit = format!("{place}{shown}: unsupported scope applied to resource");
                    let unfit: &str = unfit.leak();
                    [
                        unfit,
                        unfit,
                        unfit,
                        "spec.scopeSelector.matchExpressions: Invalid value: null: conflicting scopes",
                    ]
                },
            ),
        ],
    );
    updates(
        quota,
        &[
            ("/spec/scopes", json!(["NotBestEffort", "Terminating"]), &[]),
            (
                "/spec/scopes",
                json!(["Terminating"]),
                &["spec.scopes: Invalid value: [\"Terminating\"]: field is immutable"],
            ),
        ],
    );
}

#[test]
fn nodes_accounts_secrets_and_classes() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {externalID: x}}";
    creates(
        node,
        &[
            ("/status", json!({"capacity": {"foo": "1"}}), &[]),
            (
                "/spec/taints",
                json!([{"key": "k", "value": "a_", "effect": "NoSchedule"}]),
                &[
                    "metadata.taints[0].value: Invalid value: \"a_\": a valid label must be an empty string or consist of \
                     alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
                     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
                     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
            ),
        ],
    );
    updates(
        node,
        &[(
            "/spec/externalID",
            json!("y"),
            &["spec.externalID: Forbidden: may not be updated"],
        )],
    );
    creates(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, namespace: d}}",
        &[("/imagePullSecrets", json!([{"name": "Bad_Name"}]), &[])],
    );
    creates(
        "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: d}, type: kubernetes.io/ssh-auth, data: {ssh-privatekey: \
         YQ==}}",
        &[(
            "/data/ssh-privatekey",
            json!(""),
            &["data[ssh-privatekey]: Required value"],
        )],
    );
    let reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ";
    creates(
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: system-cluster-critical}, value: 2000000000}",
        &[
            (
                "/value",
                json!(1),
                &[&format!(
                    "{reserved}value of system-cluster-critical PriorityClass must be 2000000000"
                )],
            ),
            (
                "/globalDefault",
                json!(true),
                &[&format!(
                    "{reserved}globalDefault of system-cluster-critical PriorityClass must be false"
                )],
            ),
        ],
    );
    creates(
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: \
         [ReadWriteOnce], hostPath: {path: /a}}}",
        &[(
            "/metadata/annotations",
            json!({"volume.beta.kubernetes.io/mount-options": "ro"}),
            &[
                "metadata.annotations.volume.beta.kubernetes.io/mount-options: Forbidden: may not specify mount options for this \
                 volume type",
            ],
        )],
    );
}

#[test]
fn finalizing_a_namespace() {
    let old = ready("{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
    let kind = kind_of(&old);
    let mut new = old.clone();
    new["spec"]["finalizers"] = json!(["a.io/b", "mine"]);
    new["metadata"]["labels"]["x"] = json!("y");
    new["status"]["phase"] = json!("Gone");
    prepare_update(kind, &mut new, &old, Some("finalize"));
    assert_eq!(
        (&new["metadata"]["labels"]["x"], &new["status"]),
        (&json!("y"), &old["status"])
    );
    assert_eq!(
        texts(validate_update(kind, &new, &old, Some("finalize"))),
        [
            "spec.finalizers[1]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified"
        ]
    );
}

const SET: &str = "{apiVersion: apps/v1, kind: KIND, metadata: {name: a.b, namespace: d}, spec: {selector: {matchLabels: {a: b}}, \
                   template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {beta.kubernetes.io/os: linux}, containers: [{name: \
                   c, image: i}]}}}}";
const OLD_LABEL: &str = "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \
                         \"kubernetes.io/os\" instead";

#[test]
fn names_that_become_hostnames() {
    let name = "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is \
                recommended: [must not contain dots]";
    for (kind, told) in [
        ("Deployment", &[name, OLD_LABEL][..]),
        ("ReplicaSet", &[name, OLD_LABEL]),
        ("DaemonSet", &[OLD_LABEL]),
    ] {
        let set = ready(&SET.replace("KIND", kind));
        assert_eq!(warnings(kind_of(&set), &set, None), told, "{kind}");
        let mut changed = set.clone();
        changed["metadata"]["generation"] = json!(2);
        changed["metadata"]["annotations"] = json!({"deprecated.daemonset.template.generation": "2"});
        assert_eq!(
            warnings(kind_of(&set), &changed, Some(&set)),
            [OLD_LABEL],
            "{kind}"
        );
    }
    let set = ready(&SET.replace("KIND", "DaemonSet"));
    let mut changed = set.clone();
    changed["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    prepare_update(kind_of(&set), &mut changed, &set, None);
    assert_eq!(changed["metadata"]["generation"], 2);
    assert!(warnings(kind_of(&set), &changed, Some(&set)).is_empty());
}

/// Objects and what is said of them when they are made, and when they are changed.
#[test]
fn what_is_warned_of() {
    let object = |version: &str, kind: &str, content: Value| {
        let mut object = content;
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!("a");
        object
    };
    let requests = "fractional byte value \"100m\" is invalid, must be an integer";
    let claim = json!({"resources": {"requests": {"storage": "100m"}}});
    let revisions = "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended";
    let claims =
        |place: &str| format!("spec.volumeClaimTemplates[0]{place}.resources.requests[storage]: {requests}");
    let (made, changed) = (claims(""), claims(".Spec"));
    let many = "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
    let cases: [(Value, &[&str], &[&str]); 15] = [
        (
            object(
                "v1",
                "ResourceQuota",
                json!({"spec": {"hard": {"cpu": "2", "limits.cpu": "1", "requests.memory": "1Gi"}}}),
            ),
            &["ResourceQuota cpu (2) should be less than limits.cpu (1)"],
            &[],
        ),
        (
            object(
                "apps/v1",
                "StatefulSet",
                json!({"spec": {"revisionHistoryLimit": -1, "volumeClaimTemplates": [{"spec": claim}]}}),
            ),
            &[&made, revisions],
            &[&changed, revisions],
        ),
        (
            object(
                "v1",
                "Pod",
                json!({"spec": {"volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}]}}),
            ),
            &[&format!(
                "spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: {requests}"
            )],
            &[],
        ),
        (
            object(
                "v1",
                "Pod",
                json!({"spec": {"containers": [{"name": "c", "resources": {
                "limits": {"memory": "100m", "ephemeral-storage": "100m"}, "requests": {"memory": "100m"}}}]}}),
            ),
            &[
                &format!("spec.containers[0].resources.limits[memory]: {requests}"),
                &format!("spec.containers[0].resources.requests[memory]: {requests}"),
                &format!("spec.containers[0].resources.limits[ephemeral-storage]: {requests}"),
            ],
            &[],
        ),
        (
            object(
                "v1",
                "Service",
                json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "None",
                "externalIPs": ["010.1.1.1"]}}),
            ),
            &SERVICE,
            &SERVICE,
        ),
        (
            object(
                "batch/v1",
                "Job",
                json!({"spec": {"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001,
                "template": {"spec": {}}}}),
            ),
            &[many],
            &[],
        ),
        (
            object(
                "v1",
                "Node",
                json!({"spec": {"configSource": {}, "externalID": "x", "podCIDRs": ["10.1.2.3/16"]}}),
            ),
            &NODE,
            &NODE,
        ),
        (
            object(
                "node.k8s.io/v1",
                "RuntimeClass",
                json!({"scheduling": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}),
            ),
            &["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead"],
            &["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead"],
        ),
        (
            object(
                "storage.k8s.io/v1",
                "CSIStorageCapacity",
                json!({"nodeTopology": {"matchLabels": {"beta.kubernetes.io/os": "linux"},
                "matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]}}),
            ),
            &CAPACITY,
            &CAPACITY,
        ),
        (
            object(
                "resource.k8s.io/v1",
                "ResourceSlice",
                json!({"spec": {"driver": "D.io"}}),
            ),
            &["spec.driver: driver names should be lowercase; \"D.io\" contains uppercase characters"],
            &["spec.driver: driver names should be lowercase; \"D.io\" contains uppercase characters"],
        ),
        (
            object(
                "v1",
                "PersistentVolumeClaim",
                json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/mount-options": "ro"}}}),
            ),
            &[],
            &[],
        ),
        (
            object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                json!({"addressType": "FQDN"}),
            ),
            &["spec.addressType: FQDN endpoints are deprecated"],
            &[],
        ),
        (
            object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                json!({"addressType": "IPv4", "endpoints": [{"addresses": ["010.1.1.1"]}],
                "metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}}),
            ),
            &[],
            &[],
        ),
        (
            object(
                "v1",
                "Endpoints",
                json!({"subsets": [{"addresses": [{"ip": "010.1.1.1"}]}],
                "metadata": {"labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}}}),
            ),
            &[],
            &[],
        ),
        (
            object(
                "storage.k8s.io/v1",
                "CSIDriver",
                json!({"spec": {"tokenRequests": [{"audience": "a"}]}}),
            ),
            &[
                "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
               logging of tokens in volume attributes",
            ],
            &[],
        ),
    ];
    for (object, made, changed) in cases {
        let kind = kind_of(&object);
        assert_eq!(warnings(kind, &object, None), made, "{object}");
        assert_eq!(
            warnings(kind, &object, Some(&object)),
            changed,
            "change of {object}"
        );
    }
    let odd = json!({"loadBalancer": {"ingress": [{"ip": "010.1.1.1"}, {"hostname": "h"}]}});
    for (version, kind) in [("v1", "Service"), ("networking.k8s.io/v1", "Ingress")] {
        let object = object(version, kind, json!({"status": odd}));
        assert_eq!(
            status_warnings(kind_of(&object), &object),
            [
                "status.loadBalancer.ingress[0]: non-standard IP address \"010.1.1.1\" will be considered invalid in a future \
                 Kubernetes release: use \"10.1.1.1\""
            ]
        );
    }
}

const SERVICE: [&str; 2] = [
    "spec.externalIPs is ignored for headless services",
    "spec.externalIPs[0]: non-standard IP address \"010.1.1.1\" will be considered invalid in a future Kubernetes release: use \
     \"10.1.1.1\"",
];
const NODE: [&str; 3] = [
    "spec.configSource: the feature is removed",
    "spec.externalID: this field is deprecated, and is unused by Kubernetes",
    "spec.podCIDRs[0]: CIDR value \"10.1.2.3/16\" is ambiguous in this context (should be \"10.1.0.0/16\" or \"10.1.2.3/32\"?)",
];
const CAPACITY: [&str; 2] = [
    "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" instead",
];

#[test]
fn amounts_come_in_thousandths() {
    let pod = defaulted(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {overhead: {cpu: 1u}, containers: [{name: c, image: i, resources: \
         {limits: {cpu: 0.0001, memory: 1Mi}}}]}}",
    );
    assert_eq!(
        (
            &pod["spec"]["containers"][0]["resources"],
            &pod["spec"]["overhead"]
        ),
        (
            &json!({"limits": {"cpu": "1m", "memory": "1Mi"}, "requests": {"cpu": "1m", "memory": "1Mi"}}),
            &json!({"cpu": "1m"})
        )
    );
    let quota =
        defaulted("{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {cpu: 1500u}}}");
    assert_eq!(quota["spec"]["hard"], json!({"cpu": "2m"}));
}
