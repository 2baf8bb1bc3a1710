//! What came to light when the inputs of upstream's own tests of validation were sent to both servers: one or two cases of
//! each rule.

use crate::kind_of;
use crate::validation::{creates, ready, updates};
use machinery::{prepare_update, service_address_errors, warnings};
use serde_json::{Value, json};

const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: d}, spec: {clusterIP: 10.96.0.9, \
                       clusterIPs: [10.96.0.9], ports: [{port: 80}], ipFamilies: [IPv4], ipFamilyPolicy: SingleStack}}";

#[test]
fn services() {
    creates(
        SERVICE,
        &[
            (
                "/spec/ports",
                json!([{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 80, "protocol": "TCP"}]),
                &[
                    "spec.ports[1]: Duplicate value: {\"Name\":\"\",\"Protocol\":\"TCP\",\"AppProtocol\":null,\"Port\":80,\
                     \"TargetPort\":0,\"NodePort\":0}",
                ],
            ),
            (
                "/spec/externalIPs",
                json!(["010.1.2.3"]),
                &["spec.externalTrafficPolicy: Required value"],
            ),
            (
                "/spec/sessionAffinity",
                json!("ClientIP"),
                &["spec.sessionAffinityConfig: Required value: when session affinity type is ClientIP"],
            ),
            (
                "/metadata/annotations",
                json!({"service.beta.kubernetes.io/load-balancer-source-ranges": "1.2.3.4/33"}),
                &[
                    "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Forbidden: may only be \
                     used when `type` is 'LoadBalancer'",
                    "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \
                     \"1.2.3.4/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                ],
            ),
        ],
    );
    updates(
        SERVICE,
        &[(
            "/spec/ipFamilies",
            json!(["IPv6"]),
            &[
                "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
                "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ],
        )],
    );
}

#[test]
fn addresses_of_services() {
    type Case = (Value, &'static [&'static str]);
    let cases: [Case; 5] = [
        (json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}), &[]),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None", "fd00::1"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"None\",\"fd00::1\"]: 'None' must be the first and only value",
            ],
        ),
        (
            json!({"clusterIPs": ["10.0.0.1"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
            ],
        ),
        (
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            &[
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP \
                 family",
            ],
        ),
        (
            json!({"ipFamilies": ["IPv4", "IPv4", "x"], "ipFamilyPolicy": "Both"}),
            &[
                "spec.ipFamilies[1]: Duplicate value: \"IPv4\"",
                "spec.ipFamilies[2]: Unsupported value: \"x\": supported values: \"IPv4\", \"IPv6\"",
                "spec.ipFamilyPolicy: Unsupported value: \"Both\": supported values: \"PreferDualStack\", \
                 \"RequireDualStack\", \"SingleStack\"",
            ],
        ),
    ];
    for (spec, expected) in cases {
        let errors = service_address_errors(&json!({"spec": spec}), &Value::Null);
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(told, expected, "{spec}");
    }
}

#[test]
fn volumes_and_claims() {
    let volume = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: \
                  [ReadWriteOnce], csi: {driver: d.io, volumeHandle: h}, nodeAffinity: {required: {nodeSelectorTerms: \
                  [{matchExpressions: [{key: beta.kubernetes.io/os, operator: In, values: [linux]}]}]}}}}";
    creates(
        volume,
        &[
            (
                "/spec/accessModes",
                json!([]),
                &["spec.accessModes: Required value"],
            ),
            (
                "/spec/volumeAttributesClassName",
                json!(""),
                &["spec.volumeAttributesClassName: Required value: an empty string is disallowed"],
            ),
            (
                "/spec/volumeMode",
                json!(""),
                &["spec.volumeMode: Unsupported value: \"\": supported values: \"Block\", \"Filesystem\""],
            ),
        ],
    );
    let key = "/spec/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/key";
    updates(
        volume,
        &[
            (key, json!("kubernetes.io/os"), &[]),
            (
                "/spec/csi/volumeHandle",
                json!("i<"),
                &[
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n\
                     @@ -22,7 +22,7 @@\n  \"StorageOS\": null,\n  \"CSI\": {\n   \"Driver\": \"d.io\",\n\
                     -  \"VolumeHandle\": \"h\",\n+  \"VolumeHandle\": \"i\\u003c\",\n   \"ReadOnly\": false,\n   \"FSType\": \"\",\n\
                     \x20  \"VolumeAttributes\": null,\n",
                ],
            ),
            (
                key,
                json!("x"),
                &[
                    "nodeAffinity: Invalid value: {\"Required\":{\"NodeSelectorTerms\":[{\"MatchExpressions\":[{\"Key\":\"x\",\
                     \"Operator\":\"In\",\"Values\":[\"linux\"]}],\"MatchFields\":null}]}}: field is immutable, except for \
                     updating from beta label to GA",
                ],
            ),
            (
                "/spec/csi/controllerExpandSecretRef",
                json!({"name": "s", "namespace": "d"}),
                &[],
            ),
        ],
    );
    creates(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a, namespace: d}, spec: {accessModes: [ReadWriteOnce], \
         resources: {requests: {storage: 1Gi}}, dataSourceRef: {kind: PersistentVolumeClaim, name: b}}}",
        &[
            (
                "/spec/dataSource",
                json!({"kind": "PersistentVolumeClaim", "name": "c"}),
                &["spec: Invalid value: {}: must match dataSourceRef"],
            ),
            (
                "/spec/dataSourceRef/name",
                json!(""),
                &[
                    "spec.dataSourceRef.name: Required value",
                    "spec: Invalid value: {}: must match dataSourceRef",
                ],
            ),
        ],
    );
}

#[test]
fn limits_in_order() {
    creates(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a, namespace: d}, spec: {limits: [{type: Container, min: \
         {memory: 512Mi}, max: {memory: 2Gi}}]}}",
        &[
            (
                "/spec/limits/0/maxLimitRequestRatio",
                json!({"memory": "10"}),
                &[
                    "spec.limits[0].maxLimitRequestRatio[memory]: Invalid value: \"10\": ratio 10 is greater than max/min = \
                     4.000000",
                ],
            ),
            (
                "/spec/limits/0/type",
                json!("PersistentVolumeClaim"),
                &[
                    "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither \
                     was provided",
                ],
            ),
        ],
    );
}

#[test]
fn classes_of_ingresses() {
    let class = "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a}, spec: {controller: a.io/b, \
                 parameters: {kind: K, name: p}}}";
    creates(
        class,
        &[
            (
                "/spec/controller",
                json!(""),
                &["spec.controller: Required value"],
            ),
            (
                "/spec/controller",
                json!("plain"),
                &[
                    "spec.controller: Invalid value: \"plain\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                ],
            ),
            (
                "/spec/parameters/scope",
                json!("Namespace"),
                &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
            ),
            (
                "/spec/parameters/kind",
                json!("a/b"),
                &["spec.parameters.kind: Invalid value: \"a/b\": may not contain '/'"],
            ),
        ],
    );
    updates(
        class,
        &[(
            "/spec/controller",
            json!("c.io/d"),
            &["spec.controller: Invalid value: \"c.io/d\": field is immutable"],
        )],
    );
}

#[test]
fn indexed_jobs() {
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: a, namespace: d}, spec: {completionMode: Indexed, \
               completions: 5, backoffLimitPerIndex: 1, successPolicy: {rules: [{succeededCount: 1}]}, template: {spec: \
               {restartPolicy: Never, containers: [{name: c, image: i}]}}}}";
    creates(
        job,
        &[
            (
                "/spec/maxFailedIndexes",
                json!(6),
                &["spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions"],
            ),
            (
                "/spec/completions",
                json!(100_001),
                &[
                    "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                ],
            ),
            (
                "/spec/successPolicy/rules",
                json!([{"succeededIndexes": "0-2", "succeededCount": 4}, {"succeededIndexes": "x"}]),
                &[
                    "spec.successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number \
                     of indexes in the specified succeededIndexes field)",
                    "spec.successPolicy.rules[1].succeededIndexes: Invalid value: \"x\": error parsing succeededIndexes: \
                     cannot convert string to integer for index: \"x\"",
                ],
            ),
        ],
    );
}

#[test]
fn what_is_stored_and_warned_of() {
    let cases = [
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
                "spec": {"type": "ClusterIP", "externalIPs": ["010.1.2.3"]}}),
            "spec.externalIPs[0]: non-standard IP address \"010.1.2.3\" will be considered invalid in a future Kubernetes \
             release: use \"10.1.2.3\"",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": "kubernetes.io/tls",
                "data": {"tls.crt": "YQ==", "tls.key": "YQ=="}}),
            "tls: failed to find any PEM data in certificate input",
        ),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"},
                "spec": {"egress": [{"to": [{"ipBlock": {"cidr": "10.1.2.3/16"}}]}]}}),
            "spec.egress[0].to[0].ipBlock.cidr: CIDR value \"10.1.2.3/16\" is ambiguous in this context (should be \
             \"10.1.0.0/16\" or \"10.1.2.3/32\"?)",
        ),
        (
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": "a", "annotations": {"volume.beta.kubernetes.io/storage-class": "x"}}}),
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" \
             attribute instead",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "a", "annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}),
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to \
             isolate access to mounted secrets",
        ),
    ];
    for (object, expected) in cases {
        let kind = kind_of(&object);
        assert_eq!(warnings(kind, &object, None), [expected], "{object}");
    }
}

#[test]
fn an_account_is_warned_of_its_secrets_once() {
    let plain = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
    let mut confined = plain.clone();
    confined["metadata"]["annotations"] = json!({"kubernetes.io/enforce-mountable-secrets": "true"});
    let kind = kind_of(&plain);
    assert_eq!(warnings(kind, &confined, Some(&plain)).len(), 1);
    assert!(warnings(kind, &confined, Some(&confined)).is_empty());
}

#[test]
fn stateful_sets() {
    let set = "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a, namespace: d}, spec: {selector: {matchLabels: {a: \
               b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}";
    creates(
        set,
        &[
            (
                "/metadata/name",
                json!("a.b"),
                &["metadata.name: Invalid value: \"a.b\": must not contain dots"],
            ),
            ("/spec/template/spec/hostname", json!("Each_Pod.has-its-own"), &[]),
            (
                "/spec/updateStrategy",
                json!({"type": "x"}),
                &[
                    "spec.updateStrategy: Invalid value: {\"Type\":\"x\",\"RollingUpdate\":null}: must be 'RollingUpdate' or \
                     'OnDelete'",
                ],
            ),
        ],
    );
    let explicit = set.replace(
        "spec: {selector",
        "spec: {updateStrategy: {type: RollingUpdate}, selector",
    );
    assert!(ready(&explicit)["spec"]["updateStrategy"]["rollingUpdate"].is_null());
}

#[test]
fn who_asked_for_a_certificate_stays() {
    let old = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "a"},
        "spec": {"request": "eA==", "signerName": "a.io/b", "username": "alice"}});
    let mut new = old.clone();
    new["spec"]["username"] = json!("system:admin");
    new["spec"]["request"] = json!("eQ==");
    prepare_update(kind_of(&old), &mut new, &old, None);
    assert_eq!(new, old);
}
