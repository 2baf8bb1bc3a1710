//! Events of Pods and the Node, as the kubelet names and words them: the same event again is counted, not repeated.
//!
//! Recording never waits: a bounded queue, one task that writes, and what does not fit is dropped with a log line.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;

/// Events that may wait for the API.
const QUEUE: usize = 1024;
/// Events that are remembered for counting.
const REMEMBERED: usize = 512;

/// Normal or Warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it should be.
    Normal,
    /// Not as it should be.
    Warning,
}

#[derive(Debug, Clone, PartialEq)]
struct Item {
    object: ObjectReference,
    kind: Kind,
    reason: Cow<'static, str>,
    message: String,
    time: Timestamp,
}

/// Records events.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Item>,
}

impl Recorder {
    /// Starts the task that writes. It ends with the last recorder.
    pub fn new(client: kube::Client, node: &str) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        tokio::spawn(write(client, Arc::from(node), items));
        Self { queue }
    }

    /// Records an event of an object.
    pub fn record(
        &self,
        object: ObjectReference,
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: String,
    ) {
        let reason = reason.into();
        tracing::info!(
            object = object.name.as_deref().unwrap_or_default(),
            %reason,
            message,
            "event"
        );
        let item = Item {
            object,
            kind,
            reason,
            message,
            time: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(item) {
            tracing::warn!(reason = %error.into_inner().reason, "too many events: one is dropped");
        }
    }

    /// Records an event of a Pod.
    pub fn pod(
        &self,
        pod: &Pod,
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.record(reference(pod, None), kind, reason, message.into());
    }

    /// Records an event of a container.
    pub fn container(
        &self,
        pod: &Pod,
        container: &str,
        kind: Kind,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) {
        self.record(reference(pod, Some(container)), kind, reason, message.into());
    }
}

/// The Node, as events name it.
pub(crate) fn node(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let field_path = container.map(|name| {
        let named = |list: Option<&Vec<k8s_openapi::api::core::v1::Container>>| {
            list.into_iter().flatten().any(|container| container.name == name)
        };
        let spec = pod.spec.as_ref();
        let list = if named(spec.map(|spec| &spec.containers)) {
            "containers"
        } else if named(spec.and_then(|spec| spec.init_containers.as_ref())) {
            "initContainers"
        } else {
            "ephemeralContainers"
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

struct Known {
    item: Item,
    name: String,
    count: i32,
}

async fn write(client: kube::Client, node: Arc<str>, mut items: mpsc::Receiver<Item>) {
    let mut known: VecDeque<Known> = VecDeque::new();
    while let Some(item) = items.recv().await {
        let namespace = item
            .object
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let again = known.iter_mut().find(|known| same(&known.item, &item));
        let counted = match again {
            Some(known) => {
                known.count += 1;
                let patch = json!({"count": known.count, "lastTimestamp": Time(item.time)});
                api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch))
                    .await
                    .is_ok()
            }
            None => false,
        };
        if counted {
            continue;
        }
        known.retain(|known| !same(&known.item, &item));
        let object = item.object.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", item.time.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: item.object.clone(),
            reason: Some(item.reason.clone().into_owned()),
            message: Some(item.message.clone()),
            type_: Some(
                match item.kind {
                    Kind::Normal => "Normal",
                    Kind::Warning => "Warning",
                }
                .to_owned(),
            ),
            count: Some(1),
            first_timestamp: Some(Time(item.time)),
            last_timestamp: Some(Time(item.time)),
            source: Some(EventSource {
                component: Some("kubelet".to_owned()),
                host: Some(node.to_string()),
            }),
            reporting_component: Some("kubelet".to_owned()),
            reporting_instance: Some(node.to_string()),
            ..Event::default()
        };
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, reason = %item.reason, "an event is lost");
            continue;
        }
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(Known { item, name, count: 1 });
    }
}

fn same(a: &Item, b: &Item) -> bool {
    a.kind == b.kind
        && a.reason == b.reason
        && a.message == b.message
        && a.object.uid == b.object.uid
        && a.object.field_path == b.object.field_path
}
