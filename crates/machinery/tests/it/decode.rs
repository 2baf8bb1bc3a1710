//! Parsing within bounds, strict decoding, type errors.

use crate::{kind_of, yaml};
use machinery::{FieldValidation, Source, decode_check, parse_json_checked, parse_yaml_checked};
use serde_json::{Value, json};

fn faults(duplicates: &[machinery::Duplicate]) -> Vec<String> {
    duplicates.iter().map(machinery::Duplicate::fault).collect()
}

#[test]
fn duplicates_are_noticed_and_the_last_wins() {
    let (value, duplicates) = parse_json_checked(br#"{"a":1,"b":[{"c":1},{"c":2,"c":3}],"a":2}"#).unwrap();
    assert_eq!(value, json!({"a": 2, "b": [{"c": 1}, {"c": 3}]}));
    assert_eq!(
        faults(&duplicates),
        ["duplicate field \"b[1].c\"", "duplicate field \"a\""]
    );
    let (value, duplicates) = parse_yaml_checked(b"a: 1\nb:\n  c: x\n  c: z\n").unwrap();
    assert_eq!(value, json!({"a": 1, "b": {"c": "z"}}));
    assert_eq!(faults(&duplicates), ["line 4: key \"c\" already set in map"]);
}

#[test]
fn towers_and_bombs_are_refused() {
    let tower = "[".repeat(100_000);
    assert_eq!(parse_json_checked(tower.as_bytes()).unwrap_err().code, 400);
    assert_eq!(parse_yaml_checked(tower.as_bytes()).unwrap_err().code, 400);
    // CVE-2019-11253: nine levels of nine aliases.
    let mut bomb =
        String::from("a: &a [\"web\",\"web\",\"web\",\"web\",\"web\",\"web\",\"web\",\"web\",\"web\"]\n");
    for (this, last) in ["b", "c", "d", "e", "f", "g", "h", "i"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
    {
        bomb.push_str(&format!(
            "{this}: &{this} [{}]\n",
            vec![format!("*{last}"); 9].join(",")
        ));
    }
    assert_eq!(parse_yaml_checked(bomb.as_bytes()).unwrap_err().code, 400);
    for bad in ["", "{", "{\"a\":}", "nul", "{} {}"] {
        assert_eq!(parse_json_checked(bad.as_bytes()).unwrap_err().code, 400, "{bad}");
    }
}

/// As deep as we allow, on a thread with the stack of a worker; deeper is refused, however it is written.
#[test]
fn deep_yaml_needs_no_deep_stack() {
    let small = std::thread::Builder::new().stack_size(512 << 10);
    let parsing = small.spawn(|| {
        for levels in [100, 120] {
            let block = "- ".repeat(levels) + "x";
            assert!(parse_yaml_checked(block.as_bytes()).is_ok(), "{levels}");
        }
        for text in [
            "- ".repeat(200),
            "- ".repeat(500_000),
            "? ".repeat(200_000),
            "[".repeat(200_000),
        ] {
            assert!(parse_yaml_checked(text.as_bytes()).is_err(), "{:.20}", text);
        }
    });
    parsing.unwrap().join().unwrap();
}

#[test]
fn yaml_scalars_become_json() {
    assert_eq!(
        yaml("a: 1\nb: \"1\"\nc: true\nd: null\ne: 1.5\n8080: x\nf: |\n  text\n"),
        json!({"a": 1, "b": "1", "c": true, "d": null, "e": 1.5, "8080": "x", "f": "text\n"})
    );
}

fn deployment() -> Value {
    yaml(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  replicsa: 2
  template:
    spec:
      containers:
      - name: web
        imagee: x
        resources: {limits: {cpu: 0.5, memory: 1024Mi}}
",
    )
}

#[test]
fn faults_are_told_in_the_order_of_the_body() {
    let body =
        br#"{"kind":"Deployment","apiVersion":"apps/v1","spec":{"unknown1":1,"unknownDupe":1,"unknownDupe":2,
        "paused":true,"paused":false,"template":{"spec":{"containers":[{"name":"a"},{"name":"b","zulu":1,
        "image":"x","image":"y","alpha":2}]}},"another":1},"metadata":{"name":"web","nothing":1}}"#;
    let (mut object, duplicates) = parse_json_checked(body).unwrap();
    let source = Source {
        duplicates: &duplicates,
        json: body,
    };
    let got = decode_check(kind_of(&object), &mut object, source, FieldValidation::Warn)
        .unwrap()
        .faults;
    assert_eq!(
        got,
        [
            "unknown field \"spec.unknown1\"",
            "unknown field \"spec.unknownDupe\"",
            "duplicate field \"spec.paused\"",
            "unknown field \"spec.template.spec.containers[1].zulu\"",
            "duplicate field \"spec.template.spec.containers[1].image\"",
            "unknown field \"spec.template.spec.containers[1].alpha\"",
            "unknown field \"spec.another\"",
            "unknown field \"metadata.nothing\"",
        ]
    );
}

#[test]
fn unknown_fields_by_mode() {
    let cases = [
        (
            FieldValidation::Strict,
            Err(
                "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: duplicate field \
                 \"spec.replicas\", unknown field \"spec.replicsa\", unknown field \
                 \"spec.template.spec.containers[0].imagee\"",
            ),
        ),
        (
            FieldValidation::Warn,
            Ok(vec![
                "duplicate field \"spec.replicas\"",
                "unknown field \"spec.replicsa\"",
                "unknown field \"spec.template.spec.containers[0].imagee\"",
            ]),
        ),
        (FieldValidation::Ignore, Ok(vec![])),
    ];
    for (mode, expected) in cases {
        let mut object = deployment();
        let kind = kind_of(&object);
        let got = decode_check(kind, &mut object, &["spec.replicas".into()], mode);
        match expected {
            Ok(warnings) => assert_eq!(got.unwrap().faults, warnings),
            Err(message) => {
                let status = got.unwrap_err();
                assert_eq!((status.code, status.message.as_str()), (400, message));
            }
        }
        if mode != FieldValidation::Strict {
            assert!(object["spec"].get("replicsa").is_none());
            // Quantities come out in their canonical form.
            let limits = &object["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
            assert_eq!(limits, &json!({"cpu": "500m", "memory": "1Gi"}));
        }
    }
}

#[test]
fn wrong_types_in_the_words_of_go() {
    let cases = [
        (
            "/spec/replicas",
            json!("three"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/replicas",
            json!(1.5),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/replicas",
            json!(99999999999_i64),
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 99999999999_i64}}),
            "json: cannot unmarshal number 99999999999 into Go struct field \
             RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            "/spec/template/spec/containers",
            json!("x"),
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            "/spec/template/spec/containers/0/name",
            json!(1),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            "/metadata/labels",
            json!([]),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            "/metadata/labels",
            json!({"a": 1}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "/spec/template/spec/containers/0/ports",
            json!([{"protocol": 1}]),
            "json: cannot unmarshal number into Go struct field ContainerPort.spec.template.spec.containers.ports.protocol of \
             type v1.Protocol",
        ),
        // Behind a quantity that is none, nothing is read; what was wrong before is forgotten over it.
        (
            "/spec/template/spec/containers",
            json!([{"name": 1, "resources": {"limits": {"cpu": "x"}}, "stdin": 1}]),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "/spec/template/spec/containers/0/securityContext",
            json!({"capabilities": {"add": [1]}}),
            "json: cannot unmarshal number into Go struct field \
             Capabilities.spec.template.spec.containers.securityContext.capabilities.add of type v1.Capability",
        ),
        (
            "/spec/template/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field \
             HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            "/spec/template/spec/volumes",
            json!([{"secret": {"items": "x"}}]),
            "json: cannot unmarshal string into Go struct field \
             SecretVolumeSource.spec.template.spec.volumes.VolumeSource.secret.items of type []v1.KeyToPath",
        ),
        (
            "/spec/template/spec/securityContext",
            json!({"supplementalGroups": {}}),
            "json: cannot unmarshal object into Go struct field \
             PodSecurityContext.spec.template.spec.securityContext.supplementalGroups of type []int64",
        ),
        (
            "/metadata/creationTimestamp",
            json!("2024-01-01t00:00:00z"),
            "parsing time \"2024-01-01t00:00:00z\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"t00:00:00z\" as \"T\"",
        ),
        (
            "/spec/template/spec/containers/0/resources/limits/cpu",
            json!("much"),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ];
    for (at, value, expected) in cases {
        let mut object = deployment();
        let kind = kind_of(&object);
        let (parent, field) = at.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
        let status = decode_check(kind, &mut object, &[], FieldValidation::Ignore).unwrap_err();
        let prefix = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
        assert_eq!(status.message, format!("{prefix}{expected}"), "{at}");
    }
}

/// Of several values of a wrong type the first of the document is told.
#[test]
fn the_first_wrong_type_is_told() {
    let body = br#"{"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": 1, "hostname": 2}}"#;
    let (mut object, duplicates) = parse_json_checked(body).unwrap();
    let source = Source {
        duplicates: &duplicates,
        json: body,
    };
    let status = decode_check(
        kind_of(&object.clone()),
        &mut object,
        source,
        FieldValidation::Ignore,
    )
    .unwrap_err();
    assert_eq!(
        status.message,
        "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field \
         PodSpec.spec.nodeName of type string"
    );
}

/// Named types, numbers of 64 bits, structs without names, times and bytes.
#[test]
fn wrong_types_by_their_names_in_go() {
    let field = "json: cannot unmarshal number into Go struct field ";
    for (manifest, at, value, expected) in [
        (
            "{apiVersion: v1, kind: Service, spec: {}}",
            "/spec/type",
            json!(1),
            format!("{field}ServiceSpec.spec.type of type v1.ServiceType"),
        ),
        (
            "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, spec: {volumeLifecycleModes: []}}",
            "/spec/volumeLifecycleModes",
            json!([1]),
            format!("{field}CSIDriverSpec.spec.volumeLifecycleModes of type v1.VolumeLifecycleMode"),
        ),
        (
            "{apiVersion: v1, kind: PersistentVolume, spec: {nfs: {}}}",
            "/spec/nfs/path",
            json!(1),
            format!("{field}NFSVolumeSource.spec.PersistentVolumeSource.nfs.path of type string"),
        ),
        (
            "{apiVersion: storage.k8s.io/v1, kind: CSINode, spec: {drivers: [{allocatable: {}}]}}",
            "/spec/drivers/0/allocatable/count",
            json!(2_147_483_648_i64),
            "json: cannot unmarshal number 2147483648 into Go struct field \
             VolumeNodeResources.spec.drivers.allocatable.count of type int32"
                .into(),
        ),
        (
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, spec: {}}",
            "/spec/renewTime",
            json!("2024-01-01T00:00:00.000000Zé"),
            "parsing time \"2024-01-01T00:00:00.000000Z\\xc3\\xa9\": extra text: \"\\xc3\\xa9\"".into(),
        ),
        (
            "{apiVersion: v1, kind: Secret, data: {}}",
            "/data/a",
            json!("YQ"),
            "illegal base64 data at input byte 0".into(),
        ),
        (
            "{apiVersion: v1, kind: Secret, data: {}}",
            "/data/a",
            json!("aGFsb"),
            "illegal base64 data at input byte 4".into(),
        ),
    ] {
        let mut object = yaml(manifest);
        let kind = kind_of(&object);
        let (parent, name) = at.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[name] = value;
        let status = decode_check(kind, &mut object, &[], FieldValidation::Ignore).unwrap_err();
        let (version, name) = (kind.version, kind.kind);
        let prefix = format!("{name} in version {version:?} cannot be handled as a {name}: ");
        assert_eq!(status.message, format!("{prefix}{expected}"), "{at}");
    }
    // A list without numbers is bytes to Go, which drops bits that are left over; blanks are no part of a quantity.
    for (manifest, at, value, out) in [
        (
            "{apiVersion: v1, kind: Secret, data: {}}",
            "/data/a",
            json!([]),
            json!(""),
        ),
        (
            "{apiVersion: v1, kind: Secret, data: {}}",
            "/data/a",
            json!("YR=="),
            json!("YQ=="),
        ),
        (
            "{apiVersion: v1, kind: ResourceQuota, spec: {hard: {}}}",
            "/spec/hard/pods",
            json!(" 4"),
            json!("4"),
        ),
    ] {
        let mut object = yaml(manifest);
        let kind = kind_of(&object);
        let (parent, name) = at.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[name] = value;
        decode_check(kind, &mut object, &[], FieldValidation::Strict).unwrap();
        assert_eq!(object.pointer(at), Some(&out));
    }
}

#[test]
fn nulls_are_dropped_where_the_type_is_known() {
    let mut object = yaml(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, creationTimestamp: null}, spec: {containers: null}}",
    );
    let kind = kind_of(&object);
    decode_check(kind, &mut object, &[], FieldValidation::Strict).unwrap();
    assert_eq!(
        object,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}})
    );
}

/// Lists and maps that Go's encoder leaves out are left out, and times have one form.
#[test]
fn what_is_empty_and_how_times_are_written() {
    let cases = [
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a, labels: {}, ownerReferences: [], finalizers: []}, spec: \
             {hostNetwork: false, nodeSelector: {}, tolerations: [], securityContext: {}, containers: [{name: c, command: \
             [], resources: {limits: {}}}], volumes: [{name: v, emptyDir: {}}]}}",
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"hostNetwork": false,
                "securityContext": {}, "containers": [{"name": "c", "resources": {}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}),
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}, rules: []}",
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "a"}, "rules": []}),
        ),
        (
            "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a, creationTimestamp: \
             '2024-01-01T02:00:00.5+02:00'}, spec: {acquireTime: '2024-01-01T00:00:00.000000Z', renewTime: \
             '2024-01-01T01:00:00.123456+01:00', leaseTransitions: 0}}",
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a",
                "creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"acquireTime": "2024-01-01T00:00:00.000000Z",
                "renewTime": "2024-01-01T00:00:00.123456Z", "leaseTransitions": 0}}),
        ),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {k: ''}}, data: {k: ''}, binaryData: {}}",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "annotations": {"k": ""}},
                "data": {"k": ""}}),
        ),
        (
            "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: a}, status: {disruptedPods: {p: \
             '2024-01-01T02:00:00+02:00'}}}",
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"},
                "status": {"disruptedPods": {"p": "2024-01-01T00:00:00Z"}}}),
        ),
        // Bytes may be written as a list of numbers.
        (
            "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: [97, null, 98], b: []}}",
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"a": "YQBi", "b": ""}}),
        ),
    ];
    for (text, expected) in cases {
        let mut object = yaml(text);
        decode_check(kind_of(&object), &mut object, &[], FieldValidation::Strict).unwrap();
        assert_eq!(object, expected, "{text}");
    }
}
