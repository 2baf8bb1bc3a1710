//! Nodes, Pods, and plans as text: who goes where, and what those hear who go nowhere.

use controllers::obj::meta;
use scheduler::plan::{Outcome, Snapshot, plan};
use scheduler::volumes::Need;
use serde_json::{Value, json};
use std::sync::Arc;

/// A Node for ten Pods.
pub fn node(name: &str, cpu: &str, memory: &str, spec: Value) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}},
    }))
}

/// A Pod of the application `x`.
pub fn pod(name: &str, cpu: &str, spec: Value) -> Arc<Value> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "x"}}, "spec": spec,
    });
    pod["spec"]["containers"] =
        json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "128Mi"}}}]);
    Arc::new(pod)
}

/// The same object with further fields.
pub fn with(object: &Arc<Value>, change: impl FnOnce(&mut Value)) -> Arc<Value> {
    let mut object = (**object).clone();
    change(&mut object);
    Arc::new(object)
}

/// A spec of a Pod that runs on a node.
pub fn on(mut spec: Value, node: &str) -> Value {
    spec["nodeName"] = json!(node);
    spec
}

/// Nodes and Pods, and nothing else.
pub fn of(nodes: Vec<Arc<Value>>, pods: Vec<Arc<Value>>) -> Snapshot {
    Snapshot {
        nodes,
        pods,
        ..Snapshot::default()
    }
}

/// What becomes of each Pod that waits, the most important first.
pub fn said(snapshot: &Snapshot) -> Vec<String> {
    let told = |(_, outcome): (Arc<Value>, Outcome)| match outcome {
        Outcome::Place(node) => format!("-> {node}"),
        Outcome::Wait { why, .. } => why,
        Outcome::Volumes { node, needs } => {
            let needs = needs.iter().map(|need| match need {
                Need::Reserve(_, volume) => format!("reserve {}", meta(volume, "name")),
                Need::Select(_, node) => format!("select {node}"),
            });
            format!("{node}: {}", needs.collect::<Vec<_>>().join(", "))
        }
        Outcome::Preempt { node, victims, .. } => {
            let names: Vec<&str> = victims.iter().map(|v| meta(v, "name")).collect();
            format!("{node} after {}", names.join(" "))
        }
    };
    plan(snapshot).into_iter().map(told).collect()
}

/// What is said of a Pod that fits nowhere: why, and why preemption does not help.
pub fn refused(nodes: usize, why: &str, preemption: &str) -> String {
    let all = format!("0/{nodes} nodes are available:");
    format!("{all} {why}. no new claims to deallocate, preemption: {all} {preemption}.")
}
