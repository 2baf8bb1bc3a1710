//! Local storage of a Pod against its limits: who writes more than was agreed is evicted, in the kubelet's words
//! (`pkg/kubelet/eviction`, `localStorageEviction`).
//!
//! The writable disk has some room beyond the limit, so that the eviction comes before "No space left on device"; the
//! host is never in danger, since the disk ends there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::StatsRequest;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};

use super::{Input, Machine, Report, View};
use crate::logs::PodLogs;
use crate::size;

/// Between two looks (kubelet: the eviction manager's 10 seconds).
const LOOK: Duration = Duration::from_secs(10);
/// Counting files takes time in a guest with many of them.
const CALL: Duration = Duration::from_secs(60);

/// Bytes that a Pod has on local disks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Writable layer and logs of each container, by its name.
    pub containers: BTreeMap<String, u64>,
    /// Each emptyDir, those in memory included, by the volume's name.
    pub empty_dirs: BTreeMap<String, u64>,
}

fn limit(container: &Container) -> Option<(u64, String)> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    let quantity = limits.get("ephemeral-storage")?;
    Some((size::whole(quantity)?, quantity.0.clone()))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.into_iter().flat_map(|spec| {
        let all = spec.init_containers.iter().flatten();
        all.filter(|container| size::is_sidecar(container))
    });
    let main = spec.into_iter().flat_map(|spec| &spec.containers);
    main.chain(sidecars)
}

/// Whether anything of a Pod is limited.
pub fn limited(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let sized = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.empty_dir.as_ref())
        .any(|empty| empty.size_limit.is_some());
    sized || containers(pod).any(|container| limit(container).is_some())
}

/// Why a Pod is to be evicted.
pub fn verdict(pod: &Pod, usage: &Usage) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut on_disk = 0_u64;
    for volume in spec.volumes.iter().flatten() {
        let Some(empty) = &volume.empty_dir else { continue };
        let used = usage.empty_dirs.get(&volume.name).copied().unwrap_or(0);
        if empty.medium.as_deref().unwrap_or_default().is_empty() {
            on_disk = on_disk.saturating_add(used);
        }
        let Some(quantity) = &empty.size_limit else {
            continue;
        };
        if size::whole(quantity).is_some_and(|most| most > 0 && used > most) {
            let name = &volume.name;
            return Some(format!(
                "Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ",
                quantity.0
            ));
        }
    }
    let total: u64 = usage.containers.values().sum::<u64>().saturating_add(on_disk);
    // As soon as one container has a limit, their sum is the Pod's (kubelet: `podEphemeralStorageLimitEviction`).
    if let Some(most) = size::limited(spec, "ephemeral-storage").filter(|most| total > *most) {
        let most = kinds::quantity::Quantity::from_bytes(i128::from(most));
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {most}. "
        ));
    }
    containers(pod).find_map(|container| {
        let (most, words) = limit(container)?;
        let used = usage.containers.get(&container.name).copied().unwrap_or(0);
        (used > most).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit \"{words}\". ",
                container.name
            )
        })
    })
}

/// Looks after one VM of a Pod until it ends.
pub(super) async fn run(
    machine: Machine,
    view: watch::Receiver<View>,
    logs: Arc<PodLogs>,
    owner: mpsc::Sender<Input>,
    pause: Option<Duration>,
) {
    let life = machine.life.clone();
    let work = async {
        loop {
            tokio::time::sleep(pause.unwrap_or(LOOK)).await;
            let pod = Arc::clone(&view.borrow().pod);
            if !limited(&pod) {
                continue;
            }
            let Some(usage) = measure(&machine, &view, &logs).await else {
                continue;
            };
            if let Some(message) = verdict(&pod, &usage) {
                // What it did itself is no disruption.
                let disrupted = false;
                let report = Report::Evicted { message, disrupted };
                let _ = owner.send(Input::Job(report)).await;
                return;
            }
        }
    };
    life.run_until_cancelled(work).await;
}

/// Asks the guest, and adds the logs, which are here.
async fn measure(machine: &Machine, view: &watch::Receiver<View>, logs: &PodLogs) -> Option<Usage> {
    let mut client = machine.guest.client().await.ok()?;
    let call = client.stats(StatsRequest { disk: true });
    let reply = tokio::time::timeout(CALL, call).await.ok()?.ok()?.into_inner();
    let records = Arc::clone(&view.borrow().records);
    let mut usage = Usage {
        containers: BTreeMap::new(),
        empty_dirs: reply.empty_dirs.into_iter().collect(),
    };
    for record in records.iter().filter(|record| record.running()) {
        let stats = reply.containers.iter().find(|stats| stats.id == record.run_id());
        let layer = stats.map_or(0, |stats| stats.disk_used);
        usage.containers.insert(
            record.name.clone(),
            layer.saturating_add(logs.bytes(&record.name)),
        );
    }
    Some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(
        containers: serde_json::Value,
        volumes: serde_json::Value,
        used: &[(&str, u64)],
        expected: Option<&str>,
    ) {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": containers, "volumes": volumes}}))
                .expect("a Pod");
        let mut usage = Usage::default();
        for (name, mib) in used {
            let map = match name.strip_prefix("volume ") {
                Some(_) => &mut usage.empty_dirs,
                None => &mut usage.containers,
            };
            map.insert(name.trim_start_matches("volume ").to_owned(), mib << 20);
        }
        assert_eq!(verdict(&pod, &usage).as_deref(), expected, "{used:?}");
    }

    #[test]
    fn verdicts() {
        let c = |name: &str, limit: &str| match limit {
            "" => json!({"name": name}),
            limit => json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}}),
        };
        let cache = json!([{"name": "cache", "emptyDir": {"sizeLimit": "10Mi"}}, {"name": "free", "emptyDir": {}},
            {"name": "ram", "emptyDir": {"medium": "Memory"}}]);
        let one = json!([c("a", "")]);
        check(
            one.clone(),
            cache.clone(),
            &[("a", 900), ("volume cache", 10)],
            None,
        );
        check(
            one,
            cache.clone(),
            &[("volume cache", 11)],
            Some("Usage of EmptyDir volume \"cache\" exceeds the limit \"10Mi\". "),
        );
        let two = json!([c("a", "20Mi"), c("b", "20Mi")]);
        check(
            two.clone(),
            cache.clone(),
            &[("a", 21)],
            Some("Container a exceeded its local ephemeral storage limit \"20Mi\". "),
        );
        check(
            two.clone(),
            cache.clone(),
            &[("a", 20), ("b", 20), ("volume ram", 9)],
            None,
        );
        check(
            two,
            cache.clone(),
            &[("a", 20), ("b", 10), ("volume free", 11)],
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 40Mi. "),
        );
        // One container without a limit: what all have together must still be within the other's.
        check(
            json!([c("a", "20Mi"), c("b", "")]),
            cache.clone(),
            &[("a", 10), ("b", 10)],
            None,
        );
        check(
            json!([c("a", "20Mi"), c("b", "")]),
            cache.clone(),
            &[("a", 10), ("b", 900)],
            Some("Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "),
        );
        check(json!([c("a", ""), c("b", "")]), cache, &[("b", 900)], None);
    }
}
