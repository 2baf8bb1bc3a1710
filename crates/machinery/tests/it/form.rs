//! What Go's encoder writes of zero values, as upstream v1.35 answers it.

use crate::{kind_of, yaml};
use machinery::{apply::update_managers, default, prepare_create};
use serde_json::{Value, json};

fn made(text: &str) -> Value {
    let mut object = yaml(text);
    let kind = kind_of(&object);
    default(kind, &mut object);
    prepare_create(kind, &mut object);
    object
}

#[test]
fn fields_without_omitempty_are_always_there() {
    // (object, pointer, what stands there)
    let cases = [
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}}",
            "/rules",
            json!(null),
        ),
        (
            "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}, rules: []}",
            "/rules",
            json!(null),
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: [], ports: []}",
            "/endpoints",
            json!(null),
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: [], ports: []}",
            "/ports",
            json!(null),
        ),
        (
            "{apiVersion: v1, kind: Event, metadata: {name: a}, involvedObject: {name: p}}",
            "/eventTime",
            json!(null),
        ),
        (
            "{apiVersion: v1, kind: Event, metadata: {name: a}, involvedObject: {name: p}}",
            "/source",
            json!({}),
        ),
        (
            "{apiVersion: v1, kind: Event, metadata: {name: a}, involvedObject: {name: p}}",
            "/reportingComponent",
            json!(""),
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: a}}",
            "/status/daemonEndpoints",
            json!({"kubeletEndpoint": {"Port": 0}}),
        ),
        (
            "{apiVersion: v1, kind: Node, metadata: {name: a}}",
            "/status/nodeInfo/machineID",
            json!(""),
        ),
        (
            "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: a}}",
            "/value",
            json!(0),
        ),
        (
            "{apiVersion: resource.k8s.io/v1, kind: DeviceClass, metadata: {name: a}}",
            "/spec",
            json!({}),
        ),
        (
            "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {}, template: {spec: {containers: []}}}}",
            "/spec/serviceName",
            json!(""),
        ),
        (
            "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {}, template: {spec: {containers: []}}}}",
            "/status",
            json!({"replicas": 0, "availableReplicas": 0}),
        ),
        (
            "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {maxReplicas: 1, scaleTargetRef: {kind: a, name: b}}}",
            "/status",
            json!({"desiredReplicas": 0, "currentMetrics": null}),
        ),
        (
            "{apiVersion: batch/v1, kind: CronJob, metadata: {name: a}, spec: {schedule: '* * * * *', jobTemplate: {spec: {template: {spec: {containers: []}}}}}}",
            "/spec/jobTemplate/metadata",
            json!({}),
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}",
            "/spec/containers/0/resources",
            json!({}),
        ),
    ];
    for (text, pointer, wanted) in cases {
        assert_eq!(made(text).pointer(pointer), Some(&wanted), "{pointer} of {text}");
    }
}

#[test]
fn zeros_of_omitempty_fields_are_left_out() {
    let cases = [
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: false, hostname: '', containers: [{name: c, image: i, tty: false, env: [{name: E, value: ''}]}]}}",
            [
                "/spec/hostNetwork",
                "/spec/hostname",
                "/spec/containers/0/tty",
                "/spec/containers/0/env/0/value",
            ],
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, generateName: ''}, spec: {paused: false, minReadySeconds: 0, selector: {}, template: {spec: {containers: [], hostPID: false}}}}",
            [
                "/metadata/generateName",
                "/spec/paused",
                "/spec/minReadySeconds",
                "/spec/template/spec/hostPID",
            ],
        ),
        (
            "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: a}, spec: {group: g, scope: Cluster, preserveUnknownFields: false, names: {plural: a, kind: A, singular: ''}, versions: [{name: v, served: false, deprecated: false}]}}",
            [
                "/spec/preserveUnknownFields",
                "/spec/versions/0/deprecated",
                "/spec/versions/0/schema",
                "/spec/names/listKind/0",
            ],
        ),
    ];
    for (text, pointers) in cases {
        let object = made(text);
        for pointer in pointers {
            assert_eq!(object.pointer(pointer), None, "{pointer} of {text}");
        }
    }
    // Behind a pointer, a zero is a value.
    let object = made(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: 0, selector: {}, template: {spec: {containers: [], enableServiceLinks: false}}}}",
    );
    assert_eq!(object["spec"]["replicas"], 0);
    assert_eq!(object["spec"]["template"]["spec"]["enableServiceLinks"], false);
}

#[test]
fn nobody_owns_what_a_blank_object_has() {
    let owned = |text: &str| {
        let mut object = made(text);
        let kind = kind_of(&object);
        update_managers(
            kind,
            None,
            &mut object,
            "m",
            "Update",
            None,
            "2026-01-01T00:00:00Z",
        );
        object["metadata"]["managedFields"][0]["fieldsV1"].take()
    };
    // The template of a ReplicationController is behind a pointer, that of a Deployment is not.
    let fields = owned(
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
    );
    let template = &fields["f:spec"]["f:template"];
    assert!(template.get(".").is_some() && template["f:spec"]["f:containers"].get(".").is_some());
    let fields = owned(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
    );
    let template = &fields["f:spec"]["f:template"];
    assert!(template.get(".").is_none() && template["f:spec"]["f:containers"].get(".").is_none());
    assert!(template["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:resources"].is_object());
    let fields = owned(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a}, data: {a: b}, revision: 0}",
    );
    assert_eq!(fields, json!({"f:data": {}}));
}
