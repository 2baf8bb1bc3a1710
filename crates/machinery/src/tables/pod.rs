//! The row of a Pod. Its status text is the most looked-at word of Kubernetes; the rules are upstream's `printPod`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE};
use super::{AGE, Column, NAME, Printer, text as column, wide};

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready"),
    column("Status"),
    column("Restarts"),
    AGE,
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    (group.is_empty() && kind == "Pod").then_some(Printer {
        columns: COLUMNS,
        cells,
    })
}

/// The condition of the row of a Pod that has ended, by which clients filter.
pub(super) fn completed(pod: &Value) -> Option<Value> {
    let (reason, message) = match text::at(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

/// What is counted while walking through container statuses.
#[derive(Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status["restartCount"].as_i64().unwrap_or_default();
        self.last = self
            .last
            .max(text::moment(status, "/lastState/terminated/finishedAt"));
    }

    fn text(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => format!("{} ({} ago)", self.count, text::age(last, now)),
            _ => self.count.to_string(),
        }
    }
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: Restarts,
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarize(pod);
    let gates = text::list(pod, "/spec/readinessGates");
    let passed = gates
        .iter()
        .filter(|gate| text::holds(pod, gate["conditionType"].as_str().unwrap_or_default()));
    let gates = match gates.len() {
        0 => NONE.to_owned(),
        all => format!("{}/{all}", passed.count()),
    };
    vec![
        text::name(pod),
        json!(format!("{}/{}", summary.ready, summary.total)),
        json!(summary.reason),
        json!(summary.restarts.text(now)),
        text::created(pod, now),
        json!(text::or(
            pod,
            "/status/podIPs/0/ip",
            text::or(pod, "/status/podIP", NONE)
        )),
        json!(text::or(pod, "/spec/nodeName", NONE)),
        json!(text::or(pod, "/status/nominatedNodeName", NONE)),
        json!(gates),
    ]
}

fn is_sidecar(pod: &Value, name: &Value) -> bool {
    text::list(pod, "/spec/initContainers")
        .iter()
        .any(|container| &container["name"] == name && container["restartPolicy"] == "Always")
}

fn summarize(pod: &Value) -> Summary {
    let phase = text::at(pod, "/status/phase");
    let inits = text::list(pod, "/spec/initContainers");
    let sidecars = inits
        .iter()
        .filter(|container| container["restartPolicy"] == "Always")
        .count();
    let mut summary = Summary {
        ready: 0,
        total: text::list(pod, "/spec/containers").len() + sidecars,
        reason: text::or(pod, "/status/reason", phase).to_owned(),
        restarts: Restarts::default(),
    };
    if text::condition(pod, "PodScheduled").is_some_and(|condition| condition["reason"] == "SchedulingGated")
    {
        summary.reason = "SchedulingGated".to_owned();
    }
    let (initializing, sidecar_restarts) = walk_init_containers(pod, inits.len(), &mut summary);
    if !initializing || text::holds(pod, "Initialized") {
        summary.restarts = sidecar_restarts;
        walk_containers(pod, &mut summary);
    }
    if text::is_deleted(pod) {
        if text::at(pod, "/status/reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Stops at the first init container that has not done its part. Says whether there is one, and the restarts of sidecars.
fn walk_init_containers(pod: &Value, inits: usize, summary: &mut Summary) -> (bool, Restarts) {
    let mut sidecar_restarts = Restarts::default();
    for (index, status) in text::list(pod, "/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        summary.restarts.add(status);
        let sidecar = is_sidecar(pod, &status["name"]);
        if sidecar {
            sidecar_restarts.add(status);
        }
        let terminated = status
            .pointer("/state/terminated")
            .filter(|state| state.is_object());
        let waiting = text::at(status, "/state/waiting/reason");
        summary.reason = match terminated {
            Some(state) if state["exitCode"].as_i64().unwrap_or_default() == 0 => continue,
            _ if sidecar && status["started"] == true => {
                summary.ready += usize::from(status["ready"] == true);
                continue;
            }
            Some(state) => format!("Init:{}", ended(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            None => format!("Init:{index}/{inits}"),
        };
        return (true, sidecar_restarts);
    }
    (false, sidecar_restarts)
}

fn walk_containers(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    for status in text::list(pod, "/status/containerStatuses").iter().rev() {
        summary.restarts.add(status);
        let waiting = text::at(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(state) = status
            .pointer("/state/terminated")
            .filter(|state| state.is_object())
        {
            summary.reason = ended(state);
        } else if status["ready"] == true && status.pointer("/state/running").is_some_and(Value::is_object) {
            running = true;
            summary.ready += 1;
        }
    }
    // One container has ended, others go on: the Pod as a whole is no finished one.
    if running && summary.reason == "Completed" {
        summary.reason = if text::holds(pod, "Ready") {
            "Running"
        } else {
            "NotReady"
        }
        .to_owned();
    }
}

/// Why a container has ended: its reason, or the signal or code when there is none.
fn ended(state: &Value) -> String {
    match (text::at(state, "/reason"), text::int(state, "/signal")) {
        ("", 0) => format!("ExitCode:{}", text::int(state, "/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
