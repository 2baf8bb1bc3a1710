//! Image garbage collection by high and low marks (kubelet: `images.ImageGCManager`): when the file system of the images
//! is fuller than the high mark, the images that nobody has used for longest go until it is below the low one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use images::Image;
use parking_lot::Mutex;

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
    /// Images that came more recently stay (`imageMinimumGCAge`).
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
    /// Since it came, or since this agent did.
    age: Duration,
    /// Since it was last seen in use; for ever if it never was.
    idle: Duration,
    in_use: bool,
}

/// Since when images are here, and when they were last seen in use.
#[derive(Debug, Default)]
pub struct Sights(Mutex<HashMap<String, Sight>>);

#[derive(Debug, Clone, Copy)]
struct Sight {
    came: Instant,
    used: Option<Instant>,
}

/// Images that may go, those first that nobody has used for longest.
fn idle<'a>(policy: &ImageGc, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
    let mut idle: Vec<&Candidate> = candidates
        .iter()
        .filter(|image| !image.in_use && image.age >= policy.min_age)
        .collect();
    let order = |image: &Candidate| (std::cmp::Reverse((image.idle, image.age)), image.id.clone());
    idle.sort_by_key(|image| order(image));
    idle
}

/// Images to remove, and the bytes that should become free; none below the high mark.
fn plan(
    policy: &ImageGc,
    candidates: &[Candidate],
    capacity: u64,
    available: u64,
) -> Option<(HashSet<String>, u64)> {
    let available = available.min(capacity);
    let used = 100 - u64::try_from(u128::from(available) * 100 / u128::from(capacity.max(1))).unwrap_or(100);
    if used < u64::from(policy.high_percent) {
        return None;
    }
    let free_wanted = u128::from(capacity) * u128::from(100 - policy.low_percent.min(100)) / 100;
    let wanted = u64::try_from(free_wanted)
        .unwrap_or(u64::MAX)
        .saturating_sub(available);
    let mut freed = 0_u64;
    let mut chosen = HashSet::new();
    for image in idle(policy, candidates) {
        if freed >= wanted {
            break;
        }
        freed = freed.saturating_add(image.bytes);
        chosen.insert(image.id.clone());
    }
    Some((chosen, wanted))
}

/// Looks after the images of a host until the agent ends.
pub(crate) async fn run(context: Arc<Context>, pods: Pods) {
    let policy = context.config.image_gc;
    let work = async {
        loop {
            sweep(&context, &pods, &policy);
            tokio::time::sleep(policy.period).await;
        }
    };
    context.cancel.run_until_cancelled(work).await;
}

fn sweep(context: &Context, pods: &Pods, policy: &ImageGc) {
    let candidates = look(context, pods);
    let (capacity, available) = match context.deps.images.space() {
        Ok(space) => space,
        Err(error) => return tracing::warn!(%error, "the images' file system cannot be measured"),
    };
    let Some((chosen, wanted)) = plan(policy, &candidates, capacity, available) else {
        return;
    };
    match remove(context, pods, chosen) {
        Ok(freed) if freed < wanted => say(
            context,
            "FreeDiskSpaceFailed",
            format!(
                "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found \
                 {freed} bytes eligible to free."
            ),
        ),
        Ok(_) => {}
        Err(error) => say(context, "ImageGCFailed", error.to_string()),
    }
}

/// Removes every image that nobody uses, because the host needs the room (kubelet: `DeleteUnusedImages`).
pub(crate) fn reclaim(context: &Context, pods: &Pods) {
    let candidates = look(context, pods);
    let all = idle(&context.config.image_gc, &candidates);
    let chosen = all.into_iter().map(|image| image.id.clone()).collect();
    if let Err(error) = remove(context, pods, chosen) {
        say(context, "ImageGCFailed", error.to_string());
    }
}

fn say(context: &Context, reason: &'static str, message: String) {
    let node = crate::events::node(&context.config.node_name);
    context.recorder.record(node, Kind::Warning, reason, message);
}

/// Removes those of the chosen that still nobody uses; images that came since they were chosen are not among them.
fn remove(context: &Context, pods: &Pods, mut chosen: HashSet<String>) -> std::io::Result<u64> {
    let used = used(context, pods);
    chosen.retain(|id| !used.contains(id));
    if chosen.is_empty() {
        return Ok(0);
    }
    let freed = context.deps.images.remove(&chosen)?;
    tracing::info!(images = chosen.len(), freed, "unused images removed");
    Ok(freed)
}

/// The images that there are, with what was seen of them so far.
fn look(context: &Context, pods: &Pods) -> Vec<Candidate> {
    let all = context.deps.images.list();
    let used = used(context, pods);
    let now = Instant::now();
    let mut sights = context.sights.0.lock();
    sights.retain(|id, _| all.iter().any(|(image, _)| image.id == *id));
    let candidate = |(image, _): &(Arc<Image>, Vec<String>)| {
        let new = Sight {
            came: now,
            used: None,
        };
        let sight = sights.entry(image.id.clone()).or_insert(new);
        let in_use = used.contains(&image.id);
        if in_use {
            sight.used = Some(now);
        }
        Candidate {
            id: image.id.clone(),
            bytes: image.size_bytes,
            age: now.duration_since(sight.came),
            idle: sight.used.map_or(Duration::MAX, |used| now.duration_since(used)),
            in_use,
        }
    };
    all.iter().map(candidate).collect()
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
        let image = |id: &str, bytes, (age, idle): (u64, u64), in_use| Candidate {
            id: id.to_owned(),
            bytes,
            age: Duration::from_secs(age),
            idle: Duration::from_secs(idle),
            in_use,
        };
        let images = [
            image("used", 10, (900, 0), true),
            image("late", 3, (900, 10), false),
            image("early", 3, (800, 700), false),
            image("new", 10, (60, u64::MAX), false),
        ];
        let policy = ImageGc::default();
        let check = |available: u64, expected: Option<(&[&str], u64)>| {
            let said = plan(&policy, &images, 100, available);
            let expected = expected.map(|(ids, wanted)| {
                let ids: HashSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
                (ids, wanted)
            });
            assert_eq!(said, expected, "{available}");
        };
        check(50, None);
        check(16, None);
        // The one idle for longest goes first; that is enough to come from 17 to 20 per cent free, and not from 15.
        let earlier = |available| {
            plan(
                &ImageGc {
                    high_percent: 83,
                    ..policy
                },
                &images,
                100,
                available,
            )
        };
        let (ids, wanted) = earlier(17).expect("above the high mark");
        assert_eq!((ids, wanted), (HashSet::from(["early".to_owned()]), 3));
        check(15, Some((&["early", "late"], 5)));
        check(18, None);
        check(0, Some((&["early", "late"], 20)));
    }
}
