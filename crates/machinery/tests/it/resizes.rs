//! Resizes of Pods: what they may change, and what is said of the rest.

use crate::kind_of;
use crate::validation::{ready, texts};
use machinery::{default, prepare_update, validate_update};
use serde_json::{Value, json};

/// What a resize may not do, each with the errors.
#[test]
fn resized_pods() {
    let mut old = ready(
        "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: d}, spec: {containers: [
          {name: c, image: i, resources: {requests: {cpu: 1}}}, {name: d, image: i}]}}",
    );
    old["status"]["qosClass"] = json!("Burstable");
    let (c, d) = (
        old["spec"]["containers"][0].clone(),
        old["spec"]["containers"][1].clone(),
    );
    let with = |field: &str, value: Value| {
        let mut container = c.clone();
        container[field] = value;
        container
    };
    let names = "containers may not be renamed or reordered on resize";
    let cases = [
        (
            vec![with("resources", json!({"requests": {"cpu": "2"}})), d.clone()],
            vec![],
        ),
        (
            vec![d.clone(), c.clone()],
            vec![
                format!("spec.containers[0].name: Forbidden: {names}"),
                format!("spec.containers[1].name: Forbidden: {names}"),
            ],
        ),
        (
            vec![c.clone()],
            vec!["spec.containers: Forbidden: containers may not be added or removed on resize".to_owned()],
        ),
        (
            vec![
                with(
                    "resizePolicy",
                    json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
                ),
                d.clone(),
            ],
            vec!["spec: Forbidden: only cpu and memory resources are mutable".to_owned()],
        ),
        (
            vec![with("resources", json!({})), d],
            vec![
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing"
                    .to_owned(),
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
                    .to_owned(),
            ],
        ),
    ];
    for (containers, expected) in cases {
        let mut new = old.clone();
        new["spec"]["containers"] = json!(containers);
        default(kind_of(&new), &mut new);
        prepare_update(kind_of(&new), &mut new, &old, Some("resize"));
        let found = texts(validate_update(kind_of(&new), &new, &old, Some("resize")));
        assert_eq!(found, expected, "{containers:?}");
    }
}
