//! Namespaces that are being deleted: removes everything in them, then lets them go.

use crate::manager::Reconciler;
use crate::obj::{condition, items, meta, set_condition, text};
use crate::pauses::Pauses;
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NAMESPACES: &str = "namespaces";
const API_SERVICES: &str = "apiservices.apiregistration.k8s.io";
/// Pods take a while to stop; their namespace is looked at again sooner at first, and then after this time.
const LONGEST: Duration = Duration::from_secs(2);

/// The controller of deletions.
#[derive(Default)]
pub(crate) struct Namespaces {
    /// Of those in which something stays.
    pauses: Pauses,
}

/// The resources in namespaces that other servers have, and what keeps us from knowing them all.
async fn aggregated(world: &World) -> (Vec<Resource>, Vec<String>) {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for service in world.all(API_SERVICES) {
        if !service["spec"]["service"].is_object() {
            continue;
        }
        let (group, version) = (text(&service, "/spec/group"), text(&service, "/spec/version"));
        let place = format!("{group}/{version}");
        let available = condition(&service, "Available").is_some_and(|c| c["status"] == "True");
        let list = match available {
            true => world
                .read(&format!("/apis/{place}"))
                .await
                .map_err(|e| e.message()),
            false => Err(format!("stale GroupVersion discovery: {place}")),
        };
        let list = match list {
            Ok(list) => list,
            Err(why) => {
                failures.push(format!("{place}: {why}"));
                continue;
            }
        };
        for resource in items(&list, "/resources") {
            let can = |verb: &str| items(resource, "/verbs").iter().any(|v| v == verb);
            let name = text(resource, "/name");
            if resource["namespaced"] == true && !name.contains('/') && can("list") && can("deletecollection")
            {
                found.push(Resource {
                    group: group.into(),
                    version: version.into(),
                    kind: text(resource, "/kind").into(),
                    plural: name.into(),
                    namespaced: true,
                });
            }
        }
    }
    (found, failures)
}

impl Namespaces {
    /// Empties a namespace; true once nothing is left.
    async fn one(&self, world: &World, namespace: &Value) -> Result<bool, WorldError> {
        let name = meta(namespace, "name");
        let mut remaining: Vec<String> = Vec::new();
        let mut failures: Vec<String> = Vec::new();
        let mut held: BTreeMap<String, usize> = BTreeMap::new();
        let mut resources: Vec<_> = world.resources().into_iter().filter(|r| r.namespaced).collect();
        if let Some(events) = crate::world::builtin("events") {
            resources.push(events);
        }
        let (others, undiscovered) = aggregated(world).await;
        resources.extend(others);
        // Pods first: nothing else of the namespace goes while one of them runs (KEP-5080).
        resources.sort_by_key(|r| (r.key() != "pods", r.plural == "events", r.key()));
        for resource in resources {
            if !remaining.is_empty() && remaining[0].starts_with("pods. ") {
                break;
            }
            match world.empty(&resource, name).await {
                Ok(left) if left.is_empty() => {}
                Ok(left) => {
                    // Upstream prints `plural.group`, and core has an empty group.
                    remaining.push(format!(
                        "{}.{} has {} resource instances",
                        resource.plural,
                        resource.group,
                        left.len()
                    ));
                    for finalizer in left.iter().flat_map(|o| items(o, "/metadata/finalizers")) {
                        *held
                            .entry(finalizer.as_str().unwrap_or("").to_owned())
                            .or_insert(0) += 1;
                    }
                }
                Err(e) if matches!(e.code(), 404 | 405) => {}
                Err(e) => failures.push(format!("{}: {}", resource.key(), e.message())),
            }
        }
        let mut conditions = items(namespace, "/status/conditions").to_vec();
        let mut put = |kind: &str, bad: bool, reason: &str, message: &str| {
            set_condition(
                &mut conditions,
                kind,
                if bad { "True" } else { "False" },
                reason,
                message,
                None,
            );
        };
        match undiscovered.is_empty() {
            true => put(
                "NamespaceDeletionDiscoveryFailure",
                false,
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            false => put(
                "NamespaceDeletionDiscoveryFailure",
                true,
                "DiscoveryFailed",
                &format!(
                    "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                    undiscovered.len(),
                    undiscovered.join(", ")
                ),
            ),
        }
        put(
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        );
        match failures.is_empty() {
            true => put(
                "NamespaceDeletionContentFailure",
                false,
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            false => put(
                "NamespaceDeletionContentFailure",
                true,
                "ContentDeletionFailed",
                &format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    failures.len(),
                    failures.join(", ")
                ),
            ),
        }
        match remaining.is_empty() {
            true => put(
                "NamespaceContentRemaining",
                false,
                "ContentRemoved",
                "All content successfully removed",
            ),
            false => put(
                "NamespaceContentRemaining",
                true,
                "SomeResourcesRemain",
                &format!("Some resources are remaining: {}", remaining.join(", ")),
            ),
        }
        match held.is_empty() {
            true => put(
                "NamespaceFinalizersRemaining",
                false,
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
            false => {
                let held = held
                    .iter()
                    .map(|(name, count)| format!("{name} in {count} resource instances"));
                put(
                    "NamespaceFinalizersRemaining",
                    true,
                    "SomeFinalizersRemain",
                    &format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        held.collect::<Vec<_>>().join(", ")
                    ),
                );
            }
        }
        // What nobody could look at may still be there.
        if !remaining.is_empty() || !failures.is_empty() || !undiscovered.is_empty() {
            let mut status = namespace["status"].clone();
            status["conditions"] = json!(conditions);
            settled(world.update_status(NAMESPACES, namespace, &status).await)?;
            return Ok(false);
        }
        let mut last = namespace.clone();
        let mut finalizers = items(namespace, "/spec/finalizers").to_vec();
        finalizers.retain(|f| f != "kubernetes");
        if !finalizers.is_empty() && namespace["status"]["conditions"] != json!(conditions) {
            // Others still hold the empty namespace, and may read that it is empty.
            let mut status = namespace["status"].clone();
            status["conditions"] = json!(conditions);
            settled(world.update_status(NAMESPACES, namespace, &status).await)?;
            return Ok(false);
        }
        last["spec"]["finalizers"] = json!(finalizers);
        Ok(settled(world.put_sub(NAMESPACES, &last, "finalize").await)?.is_some())
    }
}

#[async_trait]
impl Reconciler for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NAMESPACES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut again = None;
        let mut failed = None;
        for namespace in world.deleting(NAMESPACES) {
            let finalizers = items(&namespace, "/spec/finalizers");
            if !finalizers.iter().any(|f| f == "kubernetes") {
                continue;
            }
            match self.one(world, &namespace).await {
                Ok(true) => self.pauses.passed(meta(&namespace, "uid")),
                Ok(false) => {
                    let pause = self.pauses.refused(meta(&namespace, "uid")).min(LONGEST);
                    again = Some(again.map_or(pause, |again: Duration| again.min(pause)));
                }
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(again), Err)
    }
}
