//! Validation: each case is a good manifest with one thing changed, and what is said about it, in upstream's words.

use crate::{defaulted, kind_of};
use machinery::{default, prepare_create, prepare_update, validate_create, validate_update};
use serde_json::{Value, json};

/// A manifest as it reaches validation.
pub(super) fn ready(manifest: &str) -> Value {
    let mut object = defaulted(manifest);
    object["metadata"]["uid"] = "u-1".into();
    let kind = kind_of(&object);
    if kind.namespaced && object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = "default".into();
    }
    prepare_create(kind_of(&object), &mut object);
    object
}

/// What a refusal says; how often it finds the same is another matter (`rounds`).
pub(super) fn texts(errors: Vec<kinds::field::FieldError>) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !told.contains(&text) {
            told.push(text);
        }
    }
    told
}

/// The same of what is expected.
fn once<'a>(texts: &[&'a str]) -> Vec<&'a str> {
    let mut told: Vec<&str> = Vec::new();
    for text in texts {
        if !told.contains(text) {
            told.push(text);
        }
    }
    told
}

/// Sets a value at a JSON pointer; null removes it.
fn change(object: &mut Value, at: &str, value: Value) {
    let (parent, field) = at.rsplit_once('/').expect("a pointer");
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("nothing above {at}"));
    match parent {
        Value::Object(fields) if value.is_null() => {
            fields.remove(field);
        }
        Value::Array(items) => items[field.parse::<usize>().expect("an index")] = value,
        other => other[field] = value,
    }
}

/// One change each, and the errors of creating the result.
pub(super) fn creates(good: &str, cases: &[(&str, Value, &[&str])]) {
    let good = ready(good);
    assert_eq!(
        texts(validate_create(kind_of(&good), &good)),
        Vec::<String>::new()
    );
    let mut wrong = Vec::new();
    for (at, value, expected) in cases {
        let mut object = good.clone();
        change(&mut object, at, value.clone());
        let told = texts(validate_create(kind_of(&object), &object));
        if told != once(expected) {
            wrong.push(format!("{at} = {value}: {told:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One change each, and the errors of updating the good object to the result. `...` at the end of an expectation stands
/// for whatever follows.
pub(super) fn updates(good: &str, cases: &[(&str, Value, &[&str])]) {
    let old = ready(good);
    for (at, value, expected) in cases {
        let mut new = old.clone();
        change(&mut new, at, value.clone());
        default(kind_of(&new), &mut new);
        prepare_update(kind_of(&new), &mut new, &old, None);
        let got = texts(validate_update(kind_of(&new), &new, &old, None));
        let expected = once(expected);
        let like = |g: &String, e: &&str| e.strip_suffix("...").map_or(g == e, |start| g.starts_with(start));
        assert!(
            got.len() == expected.len() && got.iter().zip(&expected).all(|(g, e)| like(g, e)),
            "{at} = {value}: {got:#?}"
        );
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                     and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

pub(super) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                         must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                         validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: d}
spec:
  initContainers: [{name: init, image: i}]
  containers:
  - name: c
    image: redis:7
    ports: [{containerPort: 80, name: web}]
    env: [{name: K, value: v}]
    resources: {requests: {cpu: 1}, limits: {cpu: 2}}
    volumeMounts: [{name: v, mountPath: /v}]
    readinessProbe: {httpGet: {port: web}}
  - {name: d, image: busybox}
  volumes: [{name: v}]
";

fn bad_sysctl(at: usize, name: &str) -> String {
    format!(
        "spec.securityContext.sysctls[{at}].name: Invalid value: \"{name}\": must have at most 253 characters and match \
         regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
    )
}

#[test]
fn pods() {
    let c = "/spec/containers/0";
    let bad_name = format!("spec.containers[0].name: Invalid value: \"A\": {LABEL}");
    let at = |field: &str| format!("{c}/{field}");
    creates(
        POD,
        &[
            (&at("name"), json!("A"), &[&bad_name]),
            (
                &at("name"),
                json!("d"),
                &["spec.containers[1].name: Duplicate value: \"d\""],
            ),
            (
                &at("name"),
                json!(""),
                &["spec.containers[0].name: Required value"],
            ),
            (
                &at("image"),
                Value::Null,
                &["spec.containers[0].image: Required value"],
            ),
            (
                &at("image"),
                json!(" x"),
                &[
                    "spec.containers[0].image: Invalid value: \" x\": must not have leading or trailing whitespace",
                ],
            ),
            (
                &at("imagePullPolicy"),
                json!("Never!"),
                &[
                    "spec.containers[0].imagePullPolicy: Unsupported value: \"Never!\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                ],
            ),
            (
                &at("ports/0/containerPort"),
                json!(70000),
                &[
                    "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                ],
            ),
            (
                &at("ports/0/protocol"),
                json!("tcp"),
                &[
                    "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                ],
            ),
            (
                &at("env/0/name"),
                json!("a=b"),
                &[
                    "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (
                &at("env/0/valueFrom"),
                json!({}),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                ],
            ),
            (
                &at("env/0/valueFrom"),
                json!({"secretKeyRef": {"name": "s", "key": "k"}}),
                &[
                    "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
                ],
            ),
            (
                &at("resources/requests/cpu"),
                json!("3"),
                &[
                    "spec.containers[0].resources.requests: Invalid value: \"3\": must be less than or equal to cpu limit of 2",
                ],
            ),
            (
                &at("resources/limits/cpu"),
                json!("-1"),
                &[
                    "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                    "spec.containers[0].resources.requests: Invalid value: \"1\": must be less than or equal to cpu limit of -1",
                ],
            ),
            (
                &at("volumeMounts/0/name"),
                json!("w"),
                &["spec.containers[0].volumeMounts[0].name: Not found: \"w\""],
            ),
            (
                &at("volumeMounts/0/mountPath"),
                json!(""),
                &["spec.containers[0].volumeMounts[0].mountPath: Required value"],
            ),
            (
                &at("volumeMounts/0/subPath"),
                json!("/x"),
                &["spec.containers[0].volumeMounts.subPath: Invalid value: \"/x\": must be a relative path"],
            ),
            (
                &at("readinessProbe"),
                json!({}),
                &["spec.containers[0].readinessProbe: Required value: must specify a handler type"],
            ),
            (
                &at("livenessProbe"),
                json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
                &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
            ),
            (
                &at("securityContext"),
                json!({"runAsUser": -1}),
                &[
                    "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                ],
            ),
            (
                "/spec/securityContext",
                json!({"sysctls": [{"name": "kernel.shmmax", "value": "1"}, {"name": "foo-", "value": "bar"},
                    {"name": "net/ipv4.safe_and-odd", "value": "1"}, {"name": "bar..", "value": "42"}]}),
                &[&bad_sysctl(1, "foo-"), &bad_sysctl(3, "bar..")],
            ),
            (
                "/spec/initContainers/0/livenessProbe",
                json!({"exec": {"command": ["x"]}}),
                &[
                    "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
                ],
            ),
            (
                "/spec/containers",
                json!([]),
                &["spec.containers: Required value"],
            ),
            (
                "/spec/restartPolicy",
                json!("Sometimes"),
                &[
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                ],
            ),
            (
                "/spec/containers/1/securityContext",
                json!({"procMount": "Unmasked"}),
                &[
                    "spec.containers[1].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false \
                     to use `Unmasked`",
                ],
            ),
            (
                "/spec",
                json!({"hostUsers": false, "hostPID": true, "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always",
                        "terminationMessagePolicy": "File", "securityContext": {"procMount": "Unmasked"}}]}),
                &["spec.HostPID: Forbidden: when `hostUsers` is false"],
            ),
            (
                "/spec/hostnameOverride",
                json!("Not-RFC1123"),
                &[&format!(
                    "spec.hostnameOverride: Invalid value: \"Not-RFC1123\": {SUBDOMAIN}"
                )],
            ),
            (
                "/spec/hostnameOverride",
                json!("a.".repeat(40) + "a"),
                &["spec.hostnameOverride: Too long: may not be more than 64 bytes"],
            ),
            (
                "/spec/dnsPolicy",
                json!("None"),
                &["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"],
            ),
            (
                "/spec/volumes/0/hostPath",
                json!({"path": "/x"}),
                &[
                    "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
                    "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                ],
            ),
            (
                "/spec/volumes/0",
                json!({"name": "v", "secret": {}}),
                &[
                    "spec.volumes[0].secret.secretName: Required value",
                    "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                ],
            ),
            (
                "/spec/tolerations",
                json!([{"operator": "Equal"}]),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                ],
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(0),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ],
            ),
            (
                "/spec/ephemeralContainers",
                json!([{"name": "e", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File"}]),
                &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
            ),
            (
                "/metadata/name",
                json!("x y"),
                &[
                    "metadata.name: Invalid value: \"x y\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
            (
                "/metadata/name",
                Value::Null,
                &["metadata.name: Required value: name or generateName is required"],
            ),
            (
                "/metadata/labels",
                json!({"a b": "c"}),
                &[
                    "metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                ],
            ),
            (
                "/metadata/finalizers",
                json!(["mine"]),
                &[
                    "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
                ],
            ),
            (
                "/metadata/ownerReferences",
                json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": ""}]),
                &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
            ),
        ],
    );
}

#[test]
fn ends_of_ports_in_policies() {
    let at = "spec.egress[0].ports[0].endPort: Invalid value";
    let cases = [
        (json!({"port": 80, "endPort": 90}), ""),
        (
            json!({"endPort": 9}),
            "9: may not be specified when `port` is not specified",
        ),
        (
            json!({"port": "web", "endPort": 9}),
            "9: may not be specified when `port` is non-numeric",
        ),
        (
            json!({"port": 80, "endPort": 79}),
            "80: must be greater than or equal to `port`",
        ),
        (
            json!({"port": 80, "endPort": 70000}),
            "70000: must be between 1 and 65535, inclusive",
        ),
    ];
    for (port, why) in cases {
        let mut policy = ready(
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a, namespace: d},
              spec: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 1}]}]}}",
        );
        change(&mut policy, "/spec/egress/0/ports/0", port.clone());
        let found = texts(validate_create(kind_of(&policy), &policy)).concat();
        let expected = if why.is_empty() {
            String::new()
        } else {
            format!("{at}: {why}")
        };
        assert_eq!(found, expected, "{port}");
    }
}

#[test]
fn changed_pods() {
    let forbidden = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
                     `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                     existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                     previously negative)\n...";
    updates(
        POD,
        &[
            ("/spec/containers/0/image", json!("redis:8"), &[]),
            (
                "/spec/tolerations",
                json!([{"key": "a", "operator": "Exists"}]),
                &[],
            ),
            ("/metadata/labels", json!({"a": "b"}), &[]),
            ("/spec/containers/0/command", json!(["x"]), &[forbidden]),
            ("/spec/nodeName", json!("n"), &[forbidden]),
            (
                "/spec/containers/0/image",
                json!(""),
                // Both the check of the spec and that of the change say so.
                &[
                    "spec.containers[0].image: Required value",
                    "spec.containers[0].image: Required value",
                ],
            ),
            (
                "/spec/volumes",
                json!([]),
                &[
                    "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                    forbidden,
                ],
            ),
            ("/spec/activeDeadlineSeconds", json!(10), &[]),
        ],
    );
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: d}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
";

#[test]
fn workloads() {
    creates(
        DEPLOYMENT,
        &[
            (
                "/spec/replicas",
                json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/selector",
                Value::Null,
                &[
                    "spec.selector: Required value",
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/selector/matchLabels",
                json!({"app": "x"}),
                &[
                    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
                ],
            ),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &[
                    "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
                ],
            ),
            (
                "/spec/template/spec/containers",
                json!([]),
                &["spec.template.spec.containers: Required value"],
            ),
            (
                "/spec/strategy/type",
                json!("Recreate"),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
            (
                "/spec/strategy/rollingUpdate",
                json!({"maxSurge": 0, "maxUnavailable": 0}),
                &[
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                ],
            ),
            (
                "/spec/progressDeadlineSeconds",
                json!(0),
                &["spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds"],
            ),
        ],
    );
    updates(
        DEPLOYMENT,
        &[
            ("/spec/replicas", json!(5), &[]),
            (
                "/spec/selector/matchLabels",
                json!({"app": "web", "x": "y"}),
                &[
                    "spec.template.metadata.labels: Invalid value...",
                    "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}: field is immutable",
                ],
            ),
            (
                "/metadata/name",
                json!("b"),
                &["metadata.name: Invalid value: \"b\": field is immutable"],
            ),
        ],
    );
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: d}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
    creates(
        job,
        &[(
            "/spec/template/spec/restartPolicy",
            json!("Always"),
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        )],
    );
    updates(
        job,
        &[
            (
                "/spec/template/spec/containers/0/image",
                json!("j"),
                &["spec.template: Invalid value..."],
            ),
            ("/spec/parallelism", json!(3), &[]),
        ],
    );
    let cron = "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a, namespace: d}, spec: {schedule: '*/5 0-3 * jan,feb mon-fri', jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}}}";
    creates(
        cron,
        &[
            (
                "/spec/schedule",
                json!("* * *"),
                &["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"],
            ),
            (
                "/spec/schedule",
                json!("61 * * * *"),
                &["spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"],
            ),
            (
                "/spec/timeZone",
                json!("Mars/Base"),
                &["spec.timeZone: Invalid value: \"Mars/Base\": unknown time zone Mars/Base"],
            ),
        ],
    );
    creates(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a, namespace: d}, spec: {serviceName: s, selector: {matchLabels: {a: b}}, volumeClaimTemplates: [{metadata: {name: v}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}], template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]}}}}",
        &[
            ("/spec/replicas", json!(2), &[]),
            (
                "/spec/template/spec/containers/0/volumeMounts/0/name",
                json!("w"),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"w\""],
            ),
        ],
    );
    let set = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a, namespace: d}, spec: {serviceName: s, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}";
    updates(
        set,
        &[
            ("/spec/replicas", json!(2), &[]),
            (
                "/spec/serviceName",
                json!("t"),
                &[
                    "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
                ],
            ),
        ],
    );
}

#[test]
fn services_and_data() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: d}, spec: {clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9], ports: [{port: 80}]}}";
    creates(
        service,
        &[
            ("/spec/ports", json!([]), &["spec.ports: Required value"]),
            (
                "/spec/trafficDistribution",
                json!("Near"),
                &[
                    r#"spec.trafficDistribution: Unsupported value: "Near": supported values: "PreferClose", "PreferSameZone", "PreferSameNode""#,
                ],
            ),
            (
                "/spec/ports/0/port",
                json!(0),
                &["spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive"],
            ),
            (
                "/spec/ports/0/nodePort",
                json!(30000),
                &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
            ),
            (
                "/spec/type",
                json!("Magic"),
                &[
                    "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
                ],
            ),
            (
                "/spec/ports",
                json!([{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]),
                &[
                    "spec.ports[0].name: Required value",
                    "spec.ports[1].name: Required value",
                ],
            ),
            (
                "/metadata/name",
                json!("1a"),
                &[
                    "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
        ],
    );
    updates(
        service,
        &[
            (
                "/spec/clusterIP",
                json!("10.96.0.10"),
                &["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"],
            ),
            ("/spec/clusterIP", Value::Null, &[]),
        ],
    );
    let map =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: d}, immutable: true, data: {k: v}}";
    creates(
        map,
        &[
            (
                "/data",
                json!({"a/b": "x"}),
                &[
                    "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                ],
            ),
            (
                "/data/k",
                json!("x".repeat(1024 * 1024 + 1)),
                &["[]: Too long: may not be more than 1048576 bytes"],
            ),
        ],
    );
    updates(
        map,
        &[
            (
                "/data/k",
                json!("w"),
                &["data: Forbidden: field is immutable when `immutable` is set"],
            ),
            (
                "/immutable",
                json!(false),
                &["immutable: Forbidden: field is immutable when `immutable` is set"],
            ),
        ],
    );
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: d}, type: kubernetes.io/tls, data: {tls.crt: '', tls.key: ''}}";
    creates(
        secret,
        &[(
            "/data",
            json!({"tls.crt": ""}),
            &["data[tls.key]: Required value"],
        )],
    );
    updates(
        secret,
        &[(
            "/type",
            json!("Opaque"),
            &["type: Invalid value: \"Opaque\": field is immutable"],
        )],
    );
}

#[test]
fn access_and_the_rest() {
    let role = "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'system:a', namespace: d}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}";
    creates(
        role,
        &[
            (
                "/rules/0/verbs",
                json!([]),
                &["rules[0].verbs: Required value: verbs must contain at least one value"],
            ),
            (
                "/rules/0/resources",
                Value::Null,
                &["rules[0].resources: Required value: resource rules must supply at least one resource"],
            ),
        ],
    );
    let binding = "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a, namespace: d}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}]}";
    creates(
        binding,
        &[(
            "/subjects/0/kind",
            json!("Robot"),
            &[
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        )],
    );
    updates(
        binding,
        &[(
            "/roleRef/name",
            json!("s"),
            &[
                "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"s\"}: cannot change roleRef",
            ],
        )],
    );
    creates(
        "{apiVersion: v1, kind: Namespace, metadata: {name: demo}}",
        &[(
            "/metadata/namespace",
            json!("x"),
            &["metadata.namespace: Forbidden: not allowed on this type"],
        )],
    );
    creates(
        "{apiVersion: v1, kind: Node, metadata: {name: node}, spec: {taints: [{key: a, effect: NoSchedule}]}}",
        &[(
            "/spec/taints/0/effect",
            json!("No"),
            &[
                "metadata.taints[0].effect: Unsupported value: \"No\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        )],
    );
    creates(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: q, namespace: d}, spec: {hard: {requests.cpu: 4, count/pods: 3}}}",
        &[(
            "/spec/hard",
            json!({"sheep": "1"}),
            &[
                "spec.hard[sheep]: Invalid value: \"sheep\": must be a standard resource type or fully qualified",
                "spec.hard[sheep]: Invalid value: \"sheep\": must be a standard resource for quota",
            ],
        )],
    );
    creates(
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: l, namespace: d}, spec: {leaseDurationSeconds: 40}}",
        &[
            (
                "/spec/leaseDurationSeconds",
                json!(0),
                &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
            ),
            // Who steps down leaves no name.
            ("/spec/holderIdentity", json!(""), &[]),
        ],
    );
    creates(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e, namespace: d}, addressType: IPv4, endpoints: [{addresses: [10.1.2.3]}], ports: [{port: 80}]}",
        &[(
            "/endpoints/0/addresses/0",
            json!("::1"),
            &[
                "endpoints[0].addresses: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[0].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        )],
    );
    creates(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: p, namespace: d}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
        &[(
            "/spec/accessModes",
            json!([]),
            &["spec.accessModes: Required value: at least 1 access mode is required"],
        )],
    );
    creates(
        "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: c}, spec: {request: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIR01HNENBUUF3RERFS01BZ0dBMVVFQXd3QllUQlpNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQTBJQUJBb3h6NkdUbHB6WVk5RVFNUHdMaDlMUXRoS216OHg2NEVxWFRsTFNNbG9EczVzMVhlTC9YWnJOVldEcU9uaGdEWFhwTDNDQUFQTnc2SFNqaFlndG10bWdBREFLQmdncWhrak9QUVFEQWdOSUFEQkZBaUFlYldVN2hXWi9ic3pqVU1saXRwaTNjVkp4T0svZmNvNk14SkphNjNhd2RBSWhBTStydlczTWQvaXJCUTFlNjJZWVZEMTFPWHJLS2NqbXpWcURyM1V5MXdEZAotLS0tLUVORCBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0K, signerName: a.io/b, usages: [client auth]}}",
        &[(
            "/spec/signerName",
            Value::Null,
            &["spec.signerName: Required value"],
        )],
    );
    creates(
        "{apiVersion: podvisor.io/v1alpha1, kind: SupervisorNamespace, metadata: {name: demo-app-01}, spec: {limits: {cpu: 4, memory: 4Gi}, permissions: [{subject: alice@podvisor.local, role: edit}]}}",
        &[
            (
                "/spec/permissions/0/role",
                json!("king"),
                &[
                    "spec.permissions[0].role: Unsupported value: \"king\": supported values: \"edit\", \"owner\", \"view\"",
                ],
            ),
            (
                "/spec/permissions/0/subject",
                json!("alice"),
                &[
                    "spec.permissions[0].subject: Invalid value: \"alice\": must be of the form name@domain, such as alice@podvisor.local",
                ],
            ),
        ],
    );
}

#[test]
fn addresses_of_services() {
    let address = "
apiVersion: networking.k8s.io/v1
kind: IPAddress
metadata: {name: 10.96.0.7}
spec: {parentRef: {resource: services, namespace: default, name: web}}
";
    creates(
        address,
        &[
            (
                "/spec/parentRef",
                Value::Null,
                &["spec.parentRef: Required value"],
            ),
            (
                "/spec/parentRef/name",
                json!(""),
                &["spec.parentRef.name: Required value"],
            ),
            (
                "/spec/parentRef/resource",
                json!("a/b"),
                &["spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'"],
            ),
        ],
    );
    updates(
        address,
        &[(
            "/spec/parentRef/name",
            json!("other"),
            &["spec.parentRef: Invalid value: ..."],
        )],
    );
    let range = "
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [10.1.0.0/16]}
";
    creates(
        range,
        &[
            (
                "/spec/cidrs",
                json!([]),
                &["spec.cidrs: Required value: at least one CIDR required"],
            ),
            ("/spec/cidrs", json!(["10.1.0.0/16", "fd00::/64"]), &[]),
            (
                "/spec/cidrs",
                json!(["10.1.0.0/16", "10.2.0.0/16"]),
                &[
                    "spec.cidrs: Invalid value: [\"10.1.0.0/16\",\"10.2.0.0/16\"]: may specify no more than \
                     one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
                ],
            ),
            (
                "/spec/cidrs",
                json!(["10.1.0.0"]),
                &[
                    "spec.cidrs[0]: Invalid value: \"10.1.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or \
                     2001:db8::/64)",
                ],
            ),
        ],
    );
    updates(
        range,
        &[(
            "/spec/cidrs/0",
            json!("10.2.0.0/16"),
            &["spec.cidrs[0]: Invalid value: \"10.2.0.0/16\": field is immutable"],
        )],
    );
}

#[test]
fn policies_of_jobs_and_scopes_of_quotas() {
    creates(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: d}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
        &[
            (
                "/spec/successPolicy",
                json!({"rules": [{}]}),
                &[
                    "spec.successPolicy: Invalid value: {\"Rules\":[{\"SucceededIndexes\":null,\"SucceededCount\":null}]}: \
                     requires indexed completion mode",
                ],
            ),
            (
                "/spec/maxFailedIndexes",
                json!(1),
                &[
                    "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                    "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
                ],
            ),
            (
                "/spec/podFailurePolicy",
                json!({"rules": [
                    {"action": "FailIndex", "onPodConditions": [{"type": "x", "status": "True"}]},
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "containerName": "z", "values": [3, 0]}}]}),
                &[
                    "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex \
                     to be set",
                    "spec.podFailurePolicy.rules[1].onExitCodes.containerName: Invalid value: \"z\": must be one of the \
                     container or initContainer names in the pod template",
                    "spec.podFailurePolicy.rules[1].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In \
                     operator",
                    "spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [3,0]: must be ordered",
                    "spec.podReplacementPolicy: Unsupported value: \"TerminatingOrFailed\": supported values: \"Failed\"",
                ],
            ),
        ],
    );
    creates(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: d}, spec: {completionMode: Indexed, completions: 3, successPolicy: {rules: [{succeededCount: 1}]}, template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
        &[(
            "/spec/successPolicy/rules",
            json!([{}, {"succeededCount": 4}]),
            &[
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be \
                 specified",
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number \
                 of specified completions)",
            ],
        )],
    );
    creates(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a, namespace: d}, spec: {scopes: [BestEffort], hard: {pods: 1}}}",
        &[
            (
                "/spec/hard",
                json!({"cpu": "1"}),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            ("/spec/scopes", json!(["NotTerminating"]), &[]),
        ],
    );
}
