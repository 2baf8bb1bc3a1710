//! Rows of hosts, namespaces, events, quotas, extensions and metrics.

use jiff::Timestamp;
use kinds::quantity::Quantity;
use serde_json::{Value, json};

use super::text::{self, NONE, UNKNOWN};
use super::{AGE, CREATED_AT, NAME, Printer, flag, number, text as column, wide};

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("", "Node") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Status"),
                    column("Roles"),
                    AGE,
                    column("Version"),
                    wide("Internal-IP"),
                    wide("External-IP"),
                    wide("OS-Image"),
                    wide("Kernel-Version"),
                    wide("Container-Runtime"),
                ]
            },
            cells: node,
        },
        ("", "Namespace") => Printer {
            columns: const { &[NAME, column("Status"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/status/phase")),
                    text::created(object, now),
                ]
            },
        },
        ("" | "events.k8s.io", "Event") => Printer {
            columns: const {
                &[
                    column("Last Seen"),
                    column("Type"),
                    column("Reason"),
                    column("Object"),
                    wide("Subobject"),
                    wide("Source"),
                    column("Message"),
                    wide("First Seen"),
                    wide("Count"),
                    super::Column { priority: 1, ..NAME },
                ]
            },
            cells: event,
        },
        ("", "ResourceQuota") => Printer {
            columns: const { &[NAME, column("Request"), column("Limit"), AGE] },
            cells: quota,
        },
        ("", "ComponentStatus") => Printer {
            columns: const { &[NAME, column("Status"), column("Message"), column("Error")] },
            cells: component,
        },
        ("coordination.k8s.io", "Lease") => Printer {
            columns: const { &[NAME, column("Holder"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/spec/holderIdentity")),
                    text::created(object, now),
                ]
            },
        },
        ("node.k8s.io", "RuntimeClass") => Printer {
            columns: const { &[NAME, column("Handler"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/handler")),
                    text::created(object, now),
                ]
            },
        },
        ("scheduling.k8s.io", "PriorityClass") => Printer {
            columns: const {
                &[
                    NAME,
                    number("Value"),
                    flag("Global-Default"),
                    AGE,
                    column("PreemptionPolicy"),
                ]
            },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::int(object, "/value")),
                    json!(text::is(object, "/globalDefault")),
                    text::created(object, now),
                    json!(text::at(object, "/preemptionPolicy")),
                ]
            },
        },
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Printer {
            columns: const { &[NAME, CREATED_AT] },
            cells: |object, _| {
                vec![
                    text::name(object),
                    json!(text::at(object, "/metadata/creationTimestamp")),
                ]
            },
        },
        ("apiregistration.k8s.io", "APIService") => Printer {
            columns: const { &[NAME, column("Service"), column("Available"), AGE] },
            cells: api_service,
        },
        ("podvisor.io", "SupervisorNamespace") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Status"),
                    column("CPU"),
                    column("Memory"),
                    number("Permissions"),
                    AGE,
                    wide("Description"),
                ]
            },
            cells: supervisor_namespace,
        },
        ("metrics.k8s.io", "PodMetrics" | "NodeMetrics") => Printer {
            columns: const { &[NAME, column("CPU"), column("Memory"), column("Window")] },
            cells: metrics,
        },
        _ => return None,
    })
}

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut status = match text::condition(object, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if text::is(object, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |ty: &str| {
        let found = text::list(object, "/status/addresses")
            .iter()
            .find(|address| address["type"] == ty);
        json!(found.map_or(NONE, |address| text::at(address, "/address")))
    };
    let info = |field: &str| json!(text::or(object, &format!("/status/nodeInfo/{field}"), UNKNOWN));
    vec![
        text::name(object),
        json!(status),
        json!(roles(object)),
        text::created(object, now),
        json!(text::at(object, "/status/nodeInfo/kubeletVersion")),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(object: &Value) -> String {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let mut roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        NONE.to_owned()
    } else {
        roles.join(",")
    }
}

/// Both versions of Event; the newer one calls the fields of the older one deprecated.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |pointers: &[&'static str]| {
        pointers
            .iter()
            .map(|pointer| text::at(object, pointer))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    };
    let time_of = |pointers: &[&'static str]| {
        let found = pointers.iter().find_map(|pointer| text::moment(object, pointer));
        found.map_or_else(|| UNKNOWN.to_owned(), |moment| text::age(moment, now))
    };
    const FIRST: [&str; 3] = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"];
    // A series tells both, be it nothing.
    let of_series = object.pointer("/series").is_some_and(Value::is_object);
    let last = match of_series {
        true => time_of(&["/series/lastObservedTime"]),
        false => time_of(&[
            "/lastTimestamp",
            "/deprecatedLastTimestamp",
            FIRST[0],
            FIRST[1],
            FIRST[2],
        ]),
    };
    let count = match of_series {
        true => text::int(object, "/series/count"),
        false => ["/count", "/deprecatedCount"]
            .iter()
            .map(|pointer| text::int(object, pointer))
            .find(|count| *count != 0)
            .unwrap_or(1),
    };
    let about = ["/involvedObject", "/regarding"]
        .iter()
        .find_map(|pointer| object.pointer(pointer));
    let about = about.unwrap_or(&Value::Null);
    let target = match (text::at(about, "/kind").to_lowercase(), text::at(about, "/name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    let component = first_of(&[
        "/source/component",
        "/deprecatedSource/component",
        "/reportingComponent",
        "/reportingController",
    ]);
    let instance = first_of(&["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = if instance.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {instance}")
    };
    vec![
        json!(last),
        json!(text::at(object, "/type")),
        json!(text::at(object, "/reason")),
        json!(target),
        json!(text::at(about, "/fieldPath")),
        json!(source),
        json!(first_of(&["/message", "/note"]).trim()),
        json!(time_of(&FIRST)),
        json!(count),
        text::name(object),
    ]
}

fn quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let mut entries: Vec<(&String, String)> = hard
        .into_iter()
        .flatten()
        .map(|(name, hard)| {
            let used = object.pointer("/status/used").and_then(|used| used.get(name));
            let used = used.map_or_else(|| "0".to_owned(), text::plain);
            (name, format!("{name}: {used}/{}", text::plain(hard)))
        })
        .collect();
    entries.sort();
    let part = |limits: bool| {
        let texts = entries
            .iter()
            .filter(|(name, _)| name.starts_with("limits") == limits);
        json!(
            texts
                .map(|(_, text)| text.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )
    };
    vec![
        text::name(object),
        part(false),
        part(true),
        text::created(object, now),
    ]
}

fn component(object: &Value, _: Timestamp) -> Vec<Value> {
    let condition = text::list(object, "/conditions")
        .iter()
        .find(|condition| condition["type"] == "Healthy");
    let status = match condition.map(|condition| text::at(condition, "/status")) {
        Some("True") => "Healthy",
        Some("False") => "Unhealthy",
        _ => "Unknown",
    };
    let field = |pointer: &str| json!(condition.map_or("", |condition| text::at(condition, pointer)));
    vec![
        text::name(object),
        json!(status),
        field("/message"),
        field("/error"),
    ]
}

fn api_service(object: &Value, now: Timestamp) -> Vec<Value> {
    let service = match text::at(object, "/spec/service/name") {
        "" => "Local".to_owned(),
        name => format!("{}/{name}", text::at(object, "/spec/service/namespace")),
    };
    let available = match text::condition(object, "Available") {
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => format!(
            "{} ({})",
            text::at(condition, "/status"),
            text::at(condition, "/reason")
        ),
        None => "Unknown".to_owned(),
    };
    vec![
        text::name(object),
        json!(service),
        json!(available),
        text::created(object, now),
    ]
}

fn supervisor_namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    let share = |resource: &str| {
        let quantity = |pointer: String, otherwise: &str| {
            object
                .pointer(&pointer)
                .map_or_else(|| otherwise.to_owned(), text::plain)
        };
        let used = quantity(format!("/status/used/{resource}"), "0");
        json!(format!(
            "{used}/{}",
            quantity(format!("/spec/limits/{resource}"), "unlimited")
        ))
    };
    let phase = if text::is_deleted(object) {
        "Terminating"
    } else {
        text::at(object, "/status/phase")
    };
    vec![
        text::name(object),
        json!(phase),
        share("cpu"),
        share("memory"),
        json!(text::count(object, "/spec/permissions")),
        text::created(object, now),
        json!(text::at(object, "/spec/description")),
    ]
}

fn metrics(object: &Value, _: Timestamp) -> Vec<Value> {
    let total = |resource: &str| {
        let own = object.pointer(&format!("/usage/{resource}"));
        let parts = text::list(object, "/containers")
            .iter()
            .filter_map(|part| part["usage"].get(resource));
        let quantities = own
            .into_iter()
            .chain(parts)
            .filter_map(|value| Quantity::from_json(value).ok());
        json!(
            quantities
                .fold(Quantity::ZERO, |sum, one| sum.add(&one))
                .to_string()
        )
    };
    vec![
        text::name(object),
        total("cpu"),
        total("memory"),
        json!(text::at(object, "/window")),
    ]
}
