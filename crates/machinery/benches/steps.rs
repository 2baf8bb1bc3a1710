//! What each step of a write costs, one after another on one core: `cargo bench -p machinery`.
//!
//! A Pod of 3 KiB, as `cargo xtask bench api` creates them. Every line is the mean of many rounds in microseconds of the
//! processor, the copy that a step works on included; `copy` says what such a copy alone costs. An argument chooses the
//! steps whose name contains it: `cargo bench -p machinery -- managed`.

use kinds::KindInfo;
use machinery::FieldValidation;
use machinery::apply::update_managers;
use serde_json::{Value, json};
use std::hint::black_box;

const ROUNDS: u32 = 20_000;
const NOW: &str = "2026-01-01T00:00:00Z";

fn main() {
    let kind = kinds::find_resource("", "v1", "pods").unwrap_or_else(|| panic!("Pods are a kind"));
    let body = serde_json::to_vec(&pod()).unwrap_or_default();
    println!("body of {} bytes", body.len());
    let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
    time("parse", || {
        serde_json::from_slice::<Value>(&body).unwrap_or_default()
    });
    time("parse, checked", || machinery::parse_json_checked(&body).is_ok());
    time("copy", || parsed.clone());
    let mut checked = parsed.clone();
    time("decode check", || {
        let mut object = parsed.clone();
        let _ = machinery::decode_check(kind, &mut object, &[], FieldValidation::Strict);
        checked.clone_from(&object);
    });
    let mut defaulted = checked.clone();
    machinery::default(kind, &mut defaulted);
    time("default", || {
        let mut object = checked.clone();
        machinery::default(kind, &mut object);
        object
    });
    let mut managed = defaulted.clone();
    update_managers(kind, None, &mut managed, "bench", "Update", None, NOW);
    time("managed fields", || {
        let mut object = defaulted.clone();
        update_managers(kind, None, &mut object, "bench", "Update", None, NOW);
        object
    });
    time("prepare", || {
        let mut object = managed.clone();
        machinery::prepare_create(kind, &mut object);
        object
    });
    machinery::prepare_create(kind, &mut managed);
    time("validate", || machinery::validate_create(kind, &managed));
    assert!(
        machinery::validate_create(kind, &managed).is_empty(),
        "the Pod is valid"
    );
    time("encode", || serde_json::to_vec(&managed).unwrap_or_default());
    update(kind, &managed);
}

/// A patch that changes an annotation.
fn update(kind: &'static KindInfo, old: &Value) {
    let mut new = old.clone();
    new["metadata"]["annotations"]["turn"] = "2".into();
    time("update: prepare", || {
        let mut object = new.clone();
        machinery::prepare_update(kind, &mut object, old, None);
        object
    });
    time("update: managed fields", || {
        let mut object = new.clone();
        update_managers(kind, Some(old), &mut object, "other", "Update", None, NOW);
        object
    });
    time("update: validate", || {
        machinery::validate_update(kind, &new, old, None)
    });
}

fn time<T>(step: &str, mut work: impl FnMut() -> T) {
    let chosen = std::env::args()
        .nth(1)
        .filter(|argument| !argument.starts_with("--"));
    if chosen.is_some_and(|part| !step.contains(&part)) {
        return;
    }
    let start = on_processor();
    for _ in 0..ROUNDS {
        black_box(work());
    }
    let each = (on_processor() - start) / f64::from(ROUNDS);
    println!("{step:24} {each:8.2} µs");
}

/// Microseconds that this process has had a processor: neighbours on the machine do not count.
fn on_processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanos.unwrap_or_default() / 1000.0
}

fn pod() -> Value {
    let container = |name: &str| {
        let variables: Vec<Value> = (0..8)
            .map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value-{n}")}))
            .collect();
        json!({
            "name": name,
            "image": "registry.example.com/team/application:1.2.3",
            "args": ["--listen=:8080", "--verbose"],
            "env": variables,
            "ports": [{"name": format!("{name}-http"), "containerPort": 8080}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5},
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}, {"name": "settings", "mountPath": "/etc/app"}],
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "pod-00001", "namespace": "default",
            "labels": {"app": "bench", "tier": "backend", "release": "r1"},
            "annotations": {"example.com/owner": "team-a", "pad": "x".repeat(900)},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [container("main"), container("aside")],
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "settings", "configMap": {"name": "settings"}}],
            "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "bench", "effect": "NoSchedule"}],
        },
    })
}
