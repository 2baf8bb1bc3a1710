//! Image garbage collection by high and low marks (kubelet: `images.ImageGCManager`): when the file system of the images
//! is fuller than the high mark, the images that nobody has used for longest go until it is below the low one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::agent::Pods;
use crate::env;
use crate::events::Kind;
use crate::podvm::{Context, Stage};

/// When images are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGc {
    /// Per cent of the file system in use from which images go (`imageGCHighThresholdPercent`).
    pub high_percent: u8,
    /// Per cent to which they go (`imageGCLowThresholdPercent`).
    pub low_percent: u8,
    /// Images that came or were used more recently stay (`imageMinimumGCAge`).
    pub min_age: Duration,
    /// Between two looks (kubelet: `ImageGCPeriod`).
    pub period: Duration,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            min_age: Duration::from_secs(120),
            period: Duration::from_secs(300),
        }
    }
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    id: String,
    bytes: u64,
    /// Since it was last seen in use, or came.
    idle: Duration,
    in_use: bool,
}

/// Images to remove, and the bytes that should become free; none below the high mark.
fn plan(
    policy: &ImageGc,
    candidates: &[Candidate],
    capacity: u64,
    available: u64,
) -> Option<(Vec<String>, u64)> {
    let available = available.min(capacity);
    let used = 100 - u64::try_from(u128::from(available) * 100 / u128::from(capacity.max(1))).unwrap_or(100);
    if used < u64::from(policy.high_percent) {
        return None;
    }
    let free_wanted = u128::from(capacity) * u128::from(100 - policy.low_percent.min(100)) / 100;
    let wanted = u64::try_from(free_wanted)
        .unwrap_or(u64::MAX)
        .saturating_sub(available);
    let mut idle: Vec<&Candidate> = candidates
        .iter()
        .filter(|image| !image.in_use && image.idle >= policy.min_age)
        .collect();
    idle.sort_by(|a, b| b.idle.cmp(&a.idle).then_with(|| a.id.cmp(&b.id)));
    let mut freed = 0_u64;
    let mut chosen = Vec::new();
    for image in idle {
        if freed >= wanted {
            break;
        }
        freed = freed.saturating_add(image.bytes);
        chosen.push(image.id.clone());
    }
    Some((chosen, wanted))
}

/// Looks after the images of a host until the agent ends.
pub(crate) async fn run(context: Arc<Context>, pods: Pods) {
    let policy = context.config.image_gc;
    let mut seen: HashMap<String, Instant> = HashMap::new();
    let work = async {
        loop {
            sweep(&context, &pods, &policy, &mut seen);
            tokio::time::sleep(policy.period).await;
        }
    };
    context.cancel.run_until_cancelled(work).await;
}

fn sweep(context: &Context, pods: &Pods, policy: &ImageGc, seen: &mut HashMap<String, Instant>) {
    let all = context.deps.images.list();
    let used = used(context, pods);
    let now = Instant::now();
    seen.retain(|id, _| all.iter().any(|(image, _)| image.id == *id));
    for (image, _) in &all {
        let last = seen.entry(image.id.clone()).or_insert(now);
        if used.contains(&image.id) {
            *last = now;
        }
    }
    let (capacity, available) = match context.deps.images.space() {
        Ok(space) => space,
        Err(error) => return tracing::warn!(%error, "the images' file system cannot be measured"),
    };
    let candidates: Vec<Candidate> = all
        .iter()
        .map(|(image, _)| Candidate {
            id: image.id.clone(),
            bytes: image.size_bytes,
            idle: seen
                .get(&image.id)
                .map(|at| now.duration_since(*at))
                .unwrap_or_default(),
            in_use: used.contains(&image.id),
        })
        .collect();
    let Some((chosen, wanted)) = plan(policy, &candidates, capacity, available) else {
        return;
    };
    let kept: HashSet<String> = candidates
        .iter()
        .filter(|image| !chosen.contains(&image.id))
        .map(|image| image.id.clone())
        .collect();
    let say = |reason, message: String| {
        let node = crate::events::node(&context.config.node_name);
        context.recorder.record(node, Kind::Warning, reason, message);
    };
    match context.deps.images.remove_unused(&kept) {
        Ok(freed) if freed < wanted => say(
            "FreeDiskSpaceFailed",
            format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
                 {freed} bytes eligible to free."
            ),
        ),
        Ok(freed) => tracing::info!(images = chosen.len(), freed, "unused images removed"),
        Err(error) => say("ImageGCFailed", error.to_string()),
    }
}

/// The images of all VMs, and those that Pods on their way will want.
fn used(context: &Context, pods: &Pods) -> HashSet<String> {
    let mut used = HashSet::new();
    for view in pods.all().iter().map(crate::podvm::PodVm::view) {
        if let Some(machine) = &view.machine {
            used.extend(machine.images.values().map(|image| image.id.clone()));
            used.extend(machine.disks.iter().map(|disk| disk.handle.clone()));
        }
        if matches!(view.stage, Stage::Finished | Stage::Gone) {
            continue;
        }
        let named = env::all_containers(&view.pod).filter_map(|container| container.image.as_deref());
        let volumes = view
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        let mounted = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        used.extend(
            named
                .chain(mounted)
                .filter_map(|reference| context.deps.images.get(reference))
                .map(|image| image.id.clone()),
        );
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let image = |id: &str, bytes, idle, in_use| Candidate {
            id: id.to_owned(),
            bytes,
            idle: Duration::from_secs(idle),
            in_use,
        };
        let images = [
            image("used", 10, 900, true),
            image("old", 3, 800, false),
            image("older", 3, 900, false),
            image("new", 10, 60, false),
        ];
        let policy = ImageGc::default();
        let check = |available: u64, expected: Option<(&[&str], u64)>| {
            let said = plan(&policy, &images, 100, available);
            let said = said
                .as_ref()
                .map(|(ids, wanted)| (ids.iter().map(String::as_str).collect::<Vec<_>>(), *wanted));
            assert_eq!(
                said,
                expected.map(|(ids, wanted)| (ids.to_vec(), wanted)),
                "{available}"
            );
        };
        check(50, None);
        check(16, None);
        // One is not enough to come from 15 to 20 per cent free; the one idle for longest goes first.
        check(15, Some((&["older", "old"], 5)));
        check(18, None);
        check(0, Some((&["older", "old"], 20)));
    }
}
