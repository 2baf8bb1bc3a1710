//! What is refused about Pods, and what they are warned of, in the words of upstream's server: one fault at a time.

use crate::{defaulted, kind_of};
use machinery::{prepare_create, validate_create, warnings};
use serde_json::{Value, json};

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns}, spec: {containers: [{name: c, image: i}], volumes: [{name: v, emptyDir: {}}]}}";

fn pod(at: &str, value: &Value) -> Value {
    let mut object = crate::yaml(POD);
    let (parent, field) = at.rsplit_once('/').expect("a pointer");
    match object.pointer_mut(parent).expect("there") {
        Value::Array(items) => items[0] = value.clone(),
        other => other[field] = value.clone(),
    }
    let mut object = defaulted(&object.to_string());
    prepare_create(kind_of(&object), &mut object);
    object
}

#[test]
fn refusals() {
    const C: &str = "/spec/containers/0";
    const E: &str = "spec.containers[0].env[0].valueFrom";
    let of = |field: &str| format!("{C}/{field}");
    let env = |source: Value| json!([{"name": "A", "valueFrom": source}]);
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
        alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let cases: Vec<(String, Value, Vec<String>)> = vec![
        (of("terminationMessagePolicy"), json!("x"), vec!["spec.containers[0].terminationMessagePolicy: Unsupported value: \"x\": supported values: \"File\", \"FallbackToLogsOnError\"".into()]),
        (of("ports"), json!([{"containerPort": 1, "hostIP": "x"}]), vec![]),
        (of("env"), env(json!({"fieldRef": {"apiVersion": "v9", "fieldPath": "metadata.name"}})), vec![format!("{E}.fieldRef.fieldPath: Invalid value: \"metadata.name\": error converting fieldPath: unsupported pod version: v9")]),
        (of("env"), env(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "3"}})), vec![format!("{E}.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource")]),
        (of("env"), env(json!({"secretKeyRef": {"name": "A_", "key": "k"}})), vec![format!("{E}.secretKeyRef.name: Invalid value: \"A_\": {subdomain}")]),
        (of("envFrom"), json!([{}]), vec!["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`".into()]),
        (of("envFrom"), json!([{"configMapRef": {"name": "A_"}}]), vec![format!("spec.containers[0].envFrom[0].configMapRef.name: Invalid value: \"A_\": {subdomain}")]),
        (of("volumeMounts"), json!([{"name": "v", "mountPath": "/a", "subPath": "/x"}]), vec!["spec.containers[0].volumeMounts.subPath: Invalid value: \"/x\": must be a relative path".into()]),
        (of("volumeMounts"), json!([{"name": "v", "mountPath": "/a", "mountPropagation": "x"}]), vec!["spec.containers[0].volumeMounts.mountPropagation: Unsupported value: \"x\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"".into()]),
        (of("resources"), json!({"requests": {"foo": "1"}}), vec![
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified".into(),
            "spec.containers[0].resources.requests[foo]: Invalid value: \"foo\": must be a standard resource for containers".into()]),
        (of("resources"), json!({"limits": {"hugepages-2Mi": "2Mi"}}), vec!["spec.containers[0].resources: Forbidden: HugePages require cpu or memory".into()]),
        (of("resources"), json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}), vec![
            "spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi".into(),
            "spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi".into()]),
        (of("resources"), json!({"claims": [{"name": "x"}]}), vec!["spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty".into()]),
        (of("securityContext"), json!({"seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "a"}}), vec!["spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {\"Type\":\"RuntimeDefault\",\"LocalhostProfile\":\"a\"}: can only be set when seccomp type is Localhost".into()]),
        (of("lifecycle"), json!({"preStop": {"sleep": {"seconds": 100}}}), vec!["spec.containers[0].lifecycle.preStop.sleep: Invalid value: 100: must be non-negative and less than terminationGracePeriodSeconds (30)".into()]),
        (of("readinessProbe"), json!({"exec": {"command": ["a"]}, "terminationGracePeriodSeconds": 3}), vec!["spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 3: must not be set for readinessProbes".into()]),
        (of("livenessProbe"), json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "a b", "value": ""}]}}), vec!["spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into()]),
        (of("resizePolicy"), json!([{"resourceName": "x", "restartPolicy": "NotRequired"}]), vec!["spec.containers[0].resizePolicy: Unsupported value: \"x\": supported values: \"cpu\", \"memory\"".into()]),
        ("/spec/restartPolicy".into(), json!("x"), vec!["spec.restartPolicy: Unsupported value: \"x\": supported values: \"Always\", \"OnFailure\", \"Never\"".into()]),
        ("/spec/dnsPolicy".into(), json!("x"), vec!["spec.dnsPolicy: Unsupported value: \"x\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"".into()]),
        ("/spec/tolerations".into(), json!([{"key": "a", "operator": "Exists", "value": "b"}]), vec!["spec.tolerations[0].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'".into()]),
        ("/spec/terminationGracePeriodSeconds".into(), json!(-1), vec![]),
        ("/spec/imagePullSecrets".into(), json!([{}]), vec![]),
        ("/spec/topologySpreadConstraints".into(), json!([{"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["x"]}]), vec!["spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set".into()]),
        ("/spec/resourceClaims".into(), json!([{"name": "x"}]), vec!["spec.resourceClaims[0]: Invalid value: {\"Name\":\"x\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`".into()]),
        ("/spec/volumes/0".into(), json!({"name": "v", "image": {}}), vec!["spec.volumes[0].image.reference: Required value".into()]),
        ("/spec/volumes/0".into(), json!({"name": "v", "gitRepo": {"repository": "a", "directory": ".."}}), vec!["spec.volumes[0].gitRepo.directory: Invalid value: \"..\": must not contain '..'".into()]),
        ("/spec/volumes/0".into(), json!({"name": "v", "downwardAPI": {"items": [{"path": "a"}]}}), vec!["spec.volumes[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required".into()]),
    ];
    for (at, value, expected) in cases {
        let object = pod(&at, &value);
        let told: Vec<String> = validate_create(kind_of(&object), &object)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told, expected, "{at} = {value}");
    }
}

#[test]
fn warned_of() {
    let c = |field: &str| format!("/spec/containers/0/{field}");
    let cases: Vec<(String, Value, &str)> = vec![
        (
            c("ports"),
            json!([{"containerPort": 1, "hostIP": "x"}]),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP HostIP:x}",
        ),
        (
            c("ports"),
            json!([{"containerPort": 1}, {"containerPort": 1}]),
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
        ),
        (
            c("env"),
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
        ),
        (
            c("resources"),
            json!({"requests": {"memory": "1m"}}),
            "spec.containers[0].resources.requests[memory]: fractional byte value \"1m\" is invalid, must be an integer",
        ),
        (
            "/spec/imagePullSecrets".into(),
            json!([{}]),
            "spec.imagePullSecrets[0].name: invalid empty name \"\"",
        ),
        (
            "/spec/nodeSelector".into(),
            json!({"beta.kubernetes.io/os": "linux"}),
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        ),
        (
            "/spec/volumes/0".into(),
            json!({"name": "v", "gitRepo": {"repository": "a"}}),
            "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
        ),
    ];
    for (at, value, expected) in cases {
        let object = pod(&at, &value);
        let kind = kind_of(&object);
        assert_eq!(warnings(kind, &object, None), [expected], "{at} = {value}");
        assert!(
            warnings(kind, &object, Some(&object)).is_empty(),
            "Pods are told once"
        );
    }
    assert!(warnings(kind_of(&crate::yaml(POD)), &defaulted(POD), None).is_empty());
    let template = defaulted(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d, generation: 1}, spec: {template: {spec: {imagePullSecrets: [{}], terminationGracePeriodSeconds: -1, containers: []}}}}",
    );
    let told = [
        "spec.template.spec.imagePullSecrets[0].name: invalid empty name \"\"",
        "spec.template.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
    ];
    assert_eq!(warnings(kind_of(&template), &template, None), told);
    assert!(
        warnings(kind_of(&template), &template, Some(&template)).is_empty(),
        "only of a new generation"
    );
}
