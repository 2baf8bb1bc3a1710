//! Rows of workloads: what makes Pods and scales them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE, UNKNOWN, UNSET};
use super::{AGE, Column, NAME, Printer, flag, number, text as column, wide};

const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");
const DESIRED: Column = number("Desired");
const CURRENT: Column = number("Current");
const READY: Column = column("Ready");
const READY_COUNT: Column = number("Ready");
const UP_TO_DATE: Column = number("Up-to-date");
const AVAILABLE: Column = number("Available");

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("apps", "Deployment") => Printer {
            columns: const {
                &[
                    NAME,
                    READY,
                    column("Up-to-date"),
                    column("Available"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: deployment,
        },
        ("apps", "ReplicaSet") => Printer {
            columns: const {
                &[
                    NAME,
                    DESIRED,
                    CURRENT,
                    READY_COUNT,
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: |object, now| replicas(object, now, text::selector(object, "/spec/selector")),
        },
        ("", "ReplicationController") => Printer {
            columns: const {
                &[
                    NAME,
                    DESIRED,
                    CURRENT,
                    READY_COUNT,
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: |object, now| replicas(object, now, text::labels(object, "/spec/selector")),
        },
        ("apps", "StatefulSet") => Printer {
            columns: const { &[NAME, READY, AGE, CONTAINERS, IMAGES] },
            cells: stateful_set,
        },
        ("apps", "DaemonSet") => Printer {
            columns: const {
                &[
                    NAME,
                    DESIRED,
                    CURRENT,
                    READY_COUNT,
                    UP_TO_DATE,
                    AVAILABLE,
                    column("Node Selector"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: daemon_set,
        },
        ("apps", "ControllerRevision") => Printer {
            columns: const { &[NAME, column("Controller"), column("Revision"), AGE] },
            cells: controller_revision,
        },
        ("batch", "Job") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Status"),
                    column("Completions"),
                    column("Duration"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: job,
        },
        ("batch", "CronJob") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Schedule"),
                    column("Timezone"),
                    flag("Suspend"),
                    number("Active"),
                    column("Last Schedule"),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            },
            cells: cron_job,
        },
        ("autoscaling", "HorizontalPodAutoscaler") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Reference"),
                    column("Targets"),
                    column("MinPods"),
                    column("MaxPods"),
                    column("Replicas"),
                    AGE,
                ]
            },
            cells: autoscaler,
        },
        ("autoscaling", "Scale") => Printer {
            columns: const { &[column("Name"), DESIRED, AVAILABLE, AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::int(object, "/spec/replicas")),
                    json!(text::int(object, "/status/replicas")),
                    text::created(object, now),
                ]
            },
        },
        ("policy", "PodDisruptionBudget") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Min Available"),
                    column("Max Unavailable"),
                    number("Allowed Disruptions"),
                    AGE,
                ]
            },
            cells: budget,
        },
        ("", "PodTemplate") => Printer {
            columns: const { &[NAME, column("Containers"), column("Images"), column("Pod Labels")] },
            cells: |object, _| {
                let [names, images] = containers(object, "/template/spec/containers");
                vec![
                    text::name(object),
                    names,
                    images,
                    json!(text::labels(object, "/template/metadata/labels")),
                ]
            },
        },
        _ => return None,
    })
}

/// Names and images.
fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let containers = text::list(object, pointer);
    [
        json!(text::joined(containers, "name", ",")),
        json!(text::joined(containers, "image", ",")),
    ]
}

const TEMPLATE: &str = "/spec/template/spec/containers";

fn deployment(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        text::name(object),
        json!(ready(object)),
        json!(text::int(object, "/status/updatedReplicas")),
        json!(text::int(object, "/status/availableReplicas")),
        text::created(object, now),
        names,
        images,
        json!(text::selector(object, "/spec/selector")),
    ]
}

fn ready(object: &Value) -> String {
    format!(
        "{}/{}",
        text::int(object, "/status/readyReplicas"),
        text::int(object, "/spec/replicas")
    )
}

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        text::name(object),
        json!(text::int(object, "/spec/replicas")),
        json!(text::int(object, "/status/replicas")),
        json!(text::int(object, "/status/readyReplicas")),
        text::created(object, now),
        names,
        images,
        json!(selector),
    ]
}

fn stateful_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    vec![
        text::name(object),
        json!(ready(object)),
        text::created(object, now),
        names,
        images,
    ]
}

fn daemon_set(object: &Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = containers(object, TEMPLATE);
    let number = |field: &str| json!(text::int(object, &format!("/status/{field}")));
    vec![
        text::name(object),
        number("desiredNumberScheduled"),
        number("currentNumberScheduled"),
        number("numberReady"),
        number("updatedNumberScheduled"),
        number("numberAvailable"),
        json!(text::labels(object, "/spec/template/spec/nodeSelector")),
        text::created(object, now),
        names,
        images,
        json!(text::selector(object, "/spec/selector")),
    ]
}

fn controller_revision(object: &Value, now: Timestamp) -> Vec<Value> {
    let owner = text::list(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner["controller"] == true);
    let controller = owner.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let kind = text::at(owner, "/kind").to_lowercase();
            let name = text::at(owner, "/name");
            match text::at(owner, "/apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{group}/{name}"),
                None => format!("{kind}/{name}"),
            }
        },
    );
    vec![
        text::name(object),
        json!(controller),
        json!(text::int(object, "/revision")),
        text::created(object, now),
    ]
}

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let done = text::int(object, "/status/succeeded");
    let parallel = text::int(object, "/spec/parallelism");
    let completions = match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(needed) => format!("{done}/{needed}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    };
    let start = text::moment(object, "/status/startTime");
    let end = text::moment(object, "/status/completionTime").unwrap_or(now);
    let conditions = [
        ("Complete", "Complete"),
        ("Failed", "Failed"),
        ("", "Terminating"),
        ("Suspended", "Suspended"),
        ("FailureTarget", "FailureTarget"),
        ("SuccessCriteriaMet", "SuccessCriteriaMet"),
    ];
    let status = conditions
        .iter()
        .find(|(ty, _)| {
            if ty.is_empty() {
                text::is_deleted(object)
            } else {
                text::holds(object, ty)
            }
        })
        .map_or("Running", |(_, word)| *word);
    let [names, images] = containers(object, TEMPLATE);
    vec![
        text::name(object),
        json!(status),
        json!(completions),
        json!(start.map(|start| text::age(start, end)).unwrap_or_default()),
        text::created(object, now),
        names,
        images,
        json!(text::selector(object, "/spec/selector")),
    ]
}

fn cron_job(object: &Value, now: Timestamp) -> Vec<Value> {
    let suspend = match object.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => UNSET,
    };
    let last = text::moment(object, "/status/lastScheduleTime");
    let [names, images] = containers(object, "/spec/jobTemplate/spec/template/spec/containers");
    vec![
        text::name(object),
        json!(text::at(object, "/spec/schedule")),
        json!(text::or(object, "/spec/timeZone", NONE)),
        json!(suspend),
        json!(text::count(object, "/status/active")),
        json!(last.map_or_else(|| NONE.to_owned(), |last| text::age(last, now))),
        text::created(object, now),
        names,
        images,
        json!(text::selector(object, "/spec/jobTemplate/spec/selector")),
    ]
}

fn autoscaler(object: &Value, now: Timestamp) -> Vec<Value> {
    let kind = text::at(object, "/spec/scaleTargetRef/kind");
    let name = text::at(object, "/spec/scaleTargetRef/name");
    vec![
        text::name(object),
        json!(format!("{kind}/{name}")),
        json!(targets(object)),
        json!(text::int_or(object, "/spec/minReplicas", UNSET)),
        json!(text::int(object, "/spec/maxReplicas")),
        json!(text::int(object, "/status/currentReplicas")),
        text::created(object, now),
    ]
}

/// `cpu: 10%/80%`, at most two of them. Version 1 knows the CPU only.
fn targets(object: &Value) -> String {
    let percent = |value: Option<&Value>, otherwise: &str| {
        value
            .and_then(Value::as_i64)
            .map_or_else(|| otherwise.to_owned(), |n| format!("{n}%"))
    };
    let metrics = text::list(object, "/spec/metrics");
    if let Some(target) = object.pointer("/spec/targetCPUUtilizationPercentage") {
        let current = percent(object.pointer("/status/currentCPUUtilizationPercentage"), UNKNOWN);
        return format!("cpu: {current}/{}", percent(Some(target), "<auto>"));
    }
    if metrics.is_empty() {
        return NONE.to_owned();
    }
    let texts: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| {
            let ty = text::at(metric, "/type");
            let field = match ty.split_at_checked(1) {
                Some((head, tail)) => format!("{}{tail}", head.to_lowercase()),
                None => return UNKNOWN.to_owned(),
            };
            let target = &metric[&field]["target"];
            let measured = object.pointer(&format!("/status/currentMetrics/{index}/{field}"));
            let current = measured.and_then(|measured| measured.get("current"));
            let averaged = matches!(ty, "External" | "Object") && target.get("averageValue").is_some();
            let quantity = |field: &str| {
                // What Go makes of an amount that is not there, where it does not look for it.
                let missing = match measured {
                    Some(Value::Object(_)) if !averaged => "<nil>",
                    _ => UNKNOWN,
                };
                let now = current
                    .and_then(|current| current.get(field))
                    .map_or(missing.to_owned(), text::plain);
                format!("{now}/{}", text::plain(&target[field]))
            };
            let value = if target.get("averageValue").is_some() {
                let mark = if averaged { " (avg)" } else { "" };
                format!("{}{mark}", quantity("averageValue"))
            } else if target.get("value").is_some() {
                quantity("value")
            } else {
                let now = percent(
                    current.and_then(|current| current.get("averageUtilization")),
                    UNKNOWN,
                );
                format!("{now}/{}", percent(target.get("averageUtilization"), "<auto>"))
            };
            match text::at(&metric[&field], "/name") {
                "" => value,
                name => format!("{name}: {value}"),
            }
        })
        .collect();
    match texts.len() {
        0..=2 => texts.join(", "),
        all => format!("{} + {} more...", texts[..2].join(", "), all - 2),
    }
}

fn budget(object: &Value, now: Timestamp) -> Vec<Value> {
    let bound = |pointer: &str| json!(object.pointer(pointer).map_or("N/A".to_owned(), text::plain));
    vec![
        text::name(object),
        bound("/spec/minAvailable"),
        bound("/spec/maxUnavailable"),
        json!(text::int(object, "/status/disruptionsAllowed")),
        text::created(object, now),
    ]
}
