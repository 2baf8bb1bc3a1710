//! Pods as upstream's own tests of validation know them: what is reported of one, what its annotations say, what may change,
//! and what is dropped of it without a word.

use crate::kind_of;
use crate::validation::{creates, ready, texts, updates};
use machinery::{early_warnings, prepare_update, status_warnings, validate_update};
use serde_json::{Value, json};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d}, spec: {restartPolicy: Never, containers: \
                   [{name: c, image: i}], volumes: [{name: v, emptyDir: {}}]}}";

/// The status that a report leaves, and what is wrong with it.
fn report(spec: Value, old: Value, new: Value) -> (Value, Vec<String>) {
    let mut before = ready(POD);
    for (part, more) in [("spec", spec), ("status", old)] {
        let fields = before[part].as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
    }
    let mut after = before.clone();
    after["status"] = new;
    let kind = kind_of(&before);
    prepare_update(kind, &mut after, &before, Some("status"));
    let errors = texts(validate_update(kind, &after, &before, Some("status")));
    (after["status"].take(), errors)
}

#[test]
fn statuses() {
    let families = "may specify no more than one IP for each IP family";
    let (ended, runs) = (
        |code: i64| json!([{"name": "c", "state": {"terminated": {"exitCode": code}}}]),
        json!([{"name": "c", "state": {"running": {}}}]),
    );
    let again =
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
    let rules = json!({"containers": [{"name": "c", "image": "i", "restartPolicy": "Never", "restartPolicyRules":
        [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]});
    let cases = [
        (json!({}), json!({}), json!({"podIP": "1.1.1.01", "podIPs": [{"ip": "1.1.1.01"}]}), vec![]),
        (
            json!({}),
            json!({}),
            json!({"podIPs": [{"ip": "::1"}, {"ip": "::2"}]}),
            vec![format!("status.podIPs: Invalid value: [{{\"IP\":\"::1\"}},{{\"IP\":\"::2\"}}]: {families}")],
        ),
        (
            json!({}),
            json!({}),
            json!({"hostIP": "1.1.1.1", "hostIPs": [{"ip": "x"}]}),
            vec![
                "status.hostIPs[0].ip: Invalid value: \"x\": must be equal to `hostIP`".to_owned(),
                "status.hostIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
                    .to_owned(),
            ],
        ),
        (
            json!({"nodeName": "n"}),
            json!({}),
            json!({"nominatedNodeName": "m", "observedGeneration": -1}),
            vec![
                "status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node".to_owned(),
                "status.observedGeneration: Invalid value: -1: must be a non-negative integer".to_owned(),
            ],
        ),
        (
            json!({}),
            json!({"containerStatuses": ended(42)}),
            json!({"containerStatuses": runs}),
            vec![again.to_owned()],
        ),
        (rules, json!({"containerStatuses": ended(42)}), json!({"containerStatuses": runs}), vec![]),
        (
            json!({}),
            json!({}),
            json!({"resourceClaimStatuses": [{"name": "x"}], "qosClass": "Guaranteed"}),
            vec![
                "status.qosClass: Invalid value: \"Guaranteed\": field is immutable".to_owned(),
                "status.resourceClaimStatuses[0].name: Invalid value: \"x\": must match the name of an entry in \
                 `spec.resourceClaims`"
                    .to_owned(),
            ],
        ),
        (
            json!({}),
            json!({}),
            json!({"containerStatuses": [{"name": "c", "user": {"linux": {"uid": -1, "gid": 0}}}]}),
            vec![
                "status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive"
                    .to_owned(),
            ],
        ),
    ];
    for (spec, old, new, expected) in cases {
        assert_eq!(report(spec, old, new.clone()).1, expected, "{new}");
    }
    let old = json!({"observedGeneration": 3, "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]});
    let (kept, _) = report(
        json!({}),
        old,
        json!({"conditions": [{"type": "Ready", "status": "False"}], "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.2"}],
            "resources": {"requests": {"cpu": "1"}}}),
    );
    let expected = json!({"qosClass": "BestEffort", "observedGeneration": 3, "podIP": "10.1.1.1",
        "podIPs": [{"ip": "10.1.1.1"}], "conditions": [{"type": "Ready", "status": "False", "observedGeneration": 2}]});
    assert_eq!(
        kept, expected,
        "what is left out is kept, what is off is dropped, one address is right"
    );
    let mut odd = ready(POD);
    odd["status"]["podIPs"] = json!([{"ip": "1.1.1.01"}, {"ip": "0::1"}]);
    assert_eq!(
        status_warnings(kind_of(&odd), &odd),
        [
            "status.podIPs[0].ip: non-standard IP address \"1.1.1.01\" will be considered invalid in a future Kubernetes \
             release: use \"1.1.1.1\"",
            "status.podIPs[1].ip: IPv6 address \"0::1\" should be in RFC 5952 canonical format (\"::1\")",
        ]
    );
}

#[test]
fn annotations() {
    let of = |name: &str, value: &str| json!({name: value});
    let (armor, seccomp) = (
        "container.apparmor.security.beta.kubernetes.io/c",
        "seccomp.security.alpha.kubernetes.io/pod",
    );
    creates(
        POD,
        &[
            (
                "/metadata/annotations",
                of("kubernetes.io/config.mirror", ""),
                &[
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"\": must set spec.nodeName if mirror \
                     pod annotation is set",
                ],
            ),
            (
                "/metadata/annotations",
                of("controller.kubernetes.io/pod-deletion-cost", "+10"),
                &[
                    "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+10\": must be a 32bit \
                     integer",
                ],
            ),
            (
                "/metadata/annotations",
                of(seccomp, "localhost/../x"),
                &[&format!(
                    "metadata.annotations.{seccomp}: Invalid value: \"../x\": must not contain '..'"
                )],
            ),
            (
                "/metadata/annotations",
                of(armor, "x"),
                &[&format!(
                    "metadata.annotations[{armor}]: Invalid value: \"x\": invalid AppArmor profile name: \"x\""
                )],
            ),
        ],
    );
    let mirror = POD.replace(
        "namespace: d}",
        "namespace: d, annotations: {kubernetes.io/config.mirror: x}}",
    );
    updates(
        &mirror.replace("spec: {", "spec: {nodeName: node, "),
        &[(
            "/metadata/annotations",
            Value::Null,
            &[
                "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
            ],
        )],
    );
    let profile = POD.replace(
        "namespace: d}",
        &format!("namespace: d, annotations: {{{armor}: localhost/a}}}}"),
    );
    let sent = crate::defaulted(&profile);
    assert_eq!(
        early_warnings(kind_of(&sent), &sent),
        [format!(
            "metadata.annotations[{armor}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
        )]
    );
    creates(
        &profile,
        &[(
            "/spec/containers/0/securityContext/appArmorProfile",
            json!({"type": "RuntimeDefault"}),
            &[
                "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
            ],
        )],
    );
}

#[test]
fn changes() {
    let forbidden = "spec: Forbidden: pod updates may not change fields other than \
                     `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` \
                     (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if \
                     it was previously negative)\n";
    updates(
        POD,
        &[
            (
                "/spec/hostname",
                json!("h<"),
                &[
                    "spec.hostname: Invalid value...",
                    &format!(
                        "{forbidden}@@ -101,7 +101,7 @@\n   \"SELinuxChangePolicy\": null\n  }},\n  \"ImagePullSecrets\": null,\n- \
                     \"Hostname\": \"\",\n+ \"Hostname\": \"h\\u003c\",\n  \"Subdomain\": \"\",\n  \"SetHostnameAsFQDN\": null,\n  \
                     \"Affinity\": null,\n"
                    ),
                ],
            ),
            (
                "/spec/activeDeadlineSeconds",
                json!(-30),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: -30: must be between 1 and 2147483647, inclusive",
                    "spec.activeDeadlineSeconds: Invalid value: -30: must be between 0 and 2147483647, inclusive",
                ],
            ),
        ],
    );
    let gated = POD.replace(
        "spec: {",
        "spec: {schedulingGates: [{name: g}], nodeSelector: {a: b}, affinity: {nodeAffinity: \
         {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: In, \
         values: [x]}]}]}}}, ",
    );
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let place =
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    updates(
        &gated,
        &[
            (
                "/spec/nodeSelector",
                Value::Null,
                &[
                    "spec.nodeSelector: Invalid value: null: only additions to spec.nodeSelector are allowed (no mutations or deletions)",
                ],
            ),
            (
                terms,
                json!([{"matchExpressions": [{"key": "k", "operator": "Exists"}]}]),
                &[&format!(
                    "{place}: Invalid value: {{\"MatchExpressions\":[{{\"Key\":\"k\",\"Operator\":\"Exists\",\"Values\":null}}],\
                     \"MatchFields\":null}}: only additions are allowed (no mutations or deletions)"
                )],
            ),
        ],
    );
}

/// What is written otherwise than it was sent.
#[test]
fn forms() {
    let pod = ready(
        "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: d, labels: {app: x}}, spec: {containers: [{name: c, image: i, \
         resources: {limits: {hugepages-2Mi: 4Mi, cpu: 1}}}], resources: {limits: {cpu: 2}}, workloadRef: {name: w}, \
         volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: a/b, keyType: ED25519}}]}}], \
         topologySpreadConstraints: [{maxSkew: 1, topologyKey: k, whenUnsatisfiable: DoNotSchedule, labelSelector: {}, \
         matchLabelKeys: [app]}]}}",
    );
    let spec = &pod["spec"];
    assert_eq!(
        spec["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]})
    );
    assert_eq!(spec["volumes"][0]["projected"]["sources"], json!([{}]));
    assert_eq!(spec.get("workloadRef"), None);
    assert_eq!(
        spec["resources"],
        json!({"limits": {"cpu": "2", "hugepages-2Mi": "4Mi"}, "requests": {"cpu": "1", "hugepages-2Mi": "4Mi"}})
    );
}

/// Warnings that are about the Pod as a whole.
#[test]
fn hardly_meant() {
    let pod = ready(
        "{apiVersion: v1, kind: Pod, metadata: {name: p.q, namespace: d}, spec: {containers: [{name: c, image: i}], nodeSelector: \
         {beta.kubernetes.io/instance-type: x}, hostAliases: [{ip: 010.0.0.1}], volumes: [{name: v, projected: {sources: \
         [{configMap: {name: m, items: [{key: k, path: a/b}]}}, {serviceAccountToken: {path: a}}]}}]}}",
    );
    assert_eq!(
        machinery::warnings(kind_of(&pod), &pod, None),
        [
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [must not contain dots]",
            "spec.nodeSelector[beta.kubernetes.io/instance-type]: deprecated since v1.17; use \
             \"node.kubernetes.io/instance-type\" instead",
            "volume \"v\" (Projected): overlapping paths: \"a\" (ServiceAccountToken) with \"a/b\" (ConfigMap \"m\")",
            "spec.hostAliases[0].ip: non-standard IP address \"010.0.0.1\" will be considered invalid in a future Kubernetes \
             release: use \"10.0.0.1\"",
        ]
    );
}
