//! Defaults, kind by kind: what comes out of a small manifest.

use crate::defaulted;
use serde_json::{Value, json};

/// Fields that must have come, by pointer.
fn check(manifest: &str, expected: &[(&str, Value)]) {
    let object = defaulted(manifest);
    for (at, value) in expected {
        assert_eq!(object.pointer(at), Some(value), "{at} of {object:#}");
    }
}

#[test]
fn a_pod() {
    let object = defaulted(
        "
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: d}
spec:
  serviceAccountName: robot
  containers:
  - name: c
    image: redis:7
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: 1}}
    livenessProbe: {httpGet: {port: 80}}
    env: [{name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
  volumes:
  - {name: v}
  - {name: s, secret: {secretName: s}}
",
    );
    assert_eq!(
        object["spec"],
        json!({
            "serviceAccountName": "robot", "serviceAccount": "robot",
            "containers": [{
                "name": "c", "image": "redis:7",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"}}}],
                "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
        })
    );
}

/// A negative grace is one second of a Pod; a template keeps what it says.
#[test]
fn negative_grace() {
    let spec = "{terminationGracePeriodSeconds: -1, containers: [{name: c, image: i}]}";
    check(
        &format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {spec}}}"),
        &[("/spec/terminationGracePeriodSeconds", json!(1))],
    );
    check(
        &format!("{{apiVersion: v1, kind: PodTemplate, metadata: {{name: a}}, template: {{spec: {spec}}}}}"),
        &[("/template/spec/terminationGracePeriodSeconds", json!(-1))],
    );
}

#[test]
fn pull_policies() {
    let digest = "a".repeat(64);
    let (bare, tagged) = (
        format!("redis@sha256:{digest}"),
        format!("redis:latest@sha256:{digest}"),
    );
    for (image, policy) in [
        ("redis", "Always"),
        ("redis:latest", "Always"),
        ("redis:7", "IfNotPresent"),
        ("localhost:5000/redis", "Always"),
        (&bare, "IfNotPresent"),
        (&tagged, "Always"),
        // What is no name has no tag.
        ("redis:latest@sha256:aa", "IfNotPresent"),
        ("Redis", "IfNotPresent"),
        ("a..b", "IfNotPresent"),
        ("a:b:c", "IfNotPresent"),
        ("a--b__c.d", "Always"),
    ] {
        let manifest = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: c, image: '{image}'}}]}}}}"
        );
        check(
            &manifest,
            &[("/spec/containers/0/imagePullPolicy", json!(policy))],
        );
    }
}

#[test]
fn workloads() {
    let template = "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
    let of = |api: &str, kind: &str, more: &str| {
        format!("{{apiVersion: {api}, kind: {kind}, metadata: {{name: a}}, spec: {{{more}{template}}}}}")
    };
    check(
        &of("apps/v1", "Deployment", ""),
        &[
            ("/spec/replicas", json!(1)),
            (
                "/spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
            ),
            ("/spec/revisionHistoryLimit", json!(10)),
            ("/spec/progressDeadlineSeconds", json!(600)),
            ("/spec/template/spec/restartPolicy", json!("Always")),
        ],
    );
    assert!(
        defaulted(&of("apps/v1", "Deployment", ""))
            .pointer("/spec/template/spec/enableServiceLinks")
            .is_none()
    );
    check(
        &of("apps/v1", "DaemonSet", ""),
        &[(
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}),
        )],
    );
    check(
        &of("apps/v1", "StatefulSet", ""),
        &[
            ("/spec/podManagementPolicy", json!("OrderedReady")),
            ("/spec/updateStrategy/rollingUpdate/partition", json!(0)),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            ),
        ],
    );
    check(
        &of("batch/v1", "Job", ""),
        &[
            ("/spec/completions", json!(1)),
            ("/spec/parallelism", json!(1)),
            ("/spec/backoffLimit", json!(6)),
            ("/spec/completionMode", json!("NonIndexed")),
            ("/metadata/labels", json!({"a": "b"})),
        ],
    );
    assert!(
        defaulted(&of("batch/v1", "Job", "parallelism: 2, "))
            .pointer("/spec/completions")
            .is_none()
    );
    check(
        &of("v1", "ReplicationController", ""),
        &[
            ("/spec/selector", json!({"a": "b"})),
            ("/metadata/labels", json!({"a": "b"})),
        ],
    );
}

#[test]
fn services() {
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}",
        &[(
            "/spec",
            json!({"ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}], "sessionAffinity": "None",
                "type": "ClusterIP", "internalTrafficPolicy": "Cluster"}),
        )],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: web}]}}",
        &[
            ("/spec/allocateLoadBalancerNodePorts", json!(true)),
            ("/spec/externalTrafficPolicy", json!("Cluster")),
            ("/spec/ports/0/targetPort", json!("web")),
            (
                "/spec/sessionAffinityConfig/clientIP/timeoutSeconds",
                json!(10800),
            ),
            ("/status/loadBalancer", json!({})),
        ],
    );
    // Who reports an address says nothing of how packets come with it.
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, ports: [{port: 80}]}, \
          status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {hostname: a.example}, {ip: 203.0.113.2, ipMode: Proxy}]}}}",
        &[(
            "/status/loadBalancer/ingress",
            json!([{"ip": "203.0.113.1", "ipMode": "VIP"}, {"hostname": "a.example"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}]),
        )],
    );
}

#[test]
fn the_rest() {
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: eA==}, stringData: {a: yy, b: z}}",
        &[
            ("/data", json!({"a": "eXk=", "b": "eg=="})),
            ("/type", json!("Opaque")),
        ],
    );
    check(
        "{apiVersion: v1, kind: Namespace, metadata: {name: demo}}",
        &[
            ("/metadata/labels", json!({"kubernetes.io/metadata.name": "demo"})),
            ("/status/phase", json!("Active")),
        ],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s}]}",
        &[
            ("/roleRef/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/0/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/1", json!({"kind": "ServiceAccount", "name": "s"})),
        ],
    );
    check(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Container, max: {cpu: 2}, min: {memory: 1Mi}}]}}",
        &[
            ("/spec/limits/0/default", json!({"cpu": "2"})),
            (
                "/spec/limits/0/defaultRequest",
                json!({"cpu": "2", "memory": "1Mi"}),
            ),
        ],
    );
    check(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelector: {}, egress: [{ports: [{port: 53}]}]}}",
        &[
            ("/spec/policyTypes", json!(["Ingress", "Egress"])),
            ("/spec/egress/0/ports/0/protocol", json!("TCP")),
        ],
    );
    check(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: d}}}",
        &[
            ("/spec/minReplicas", json!(1)),
            ("/spec/metrics/0/resource/target/averageUtilization", json!(80)),
        ],
    );
    check(
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a}, provisioner: p.io/x}",
        &[
            ("/reclaimPolicy", json!("Delete")),
            ("/volumeBindingMode", json!("Immediate")),
        ],
    );
}
