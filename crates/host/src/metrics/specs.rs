//! What containers may take and since when they run, in cAdvisor's figures (vendor/github.com/google/cadvisor/metrics of
//! upstream): dashboards set usage against these.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Sample;
use super::prometheus::{Page, pod_labels};
use crate::env;
use crate::podvm::View;
use crate::podvm::record::State;
use crate::size;

/// Microseconds of a period of CPU limits, as the kubelet sets it.
const PERIOD: u64 = 100_000;

/// A container that runs.
struct Running<'a> {
    container: &'a Container,
    labels: String,
    since: Timestamp,
    seen: Timestamp,
}

impl Running<'_> {
    fn amount(&self, limit: bool, name: &str, read: fn(&Quantity) -> Option<u64>) -> Option<u64> {
        let resources = self.container.resources.as_ref()?;
        let list = match limit {
            true => &resources.limits,
            false => &resources.requests,
        };
        read(list.as_ref()?.get(name)?)
    }

    /// Thousandths of a processor.
    fn cpu(&self, limit: bool) -> Option<u64> {
        self.amount(limit, "cpu", size::milli)
    }
}

fn running(all: &[(View, Sample)]) -> Vec<Running<'_>> {
    let mut found = Vec::new();
    for (view, sample) in all {
        let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
        for record in view.records.iter() {
            let State::Running { started_at, id } = &record.state else {
                continue;
            };
            let mut containers = env::all_containers(&view.pod);
            let Some(container) = containers.find(|container| container.name == record.name) else {
                continue;
            };
            found.push(Running {
                container,
                labels: format!(
                    "{{container=\"{}\",id=\"/podvisor/{uid}/{id}\",image=\"{}\",name=\"{id}\",{}}}",
                    record.name,
                    container.image.as_deref().unwrap_or_default(),
                    pod_labels(view)
                ),
                since: *started_at,
                seen: sample.time,
            });
        }
    }
    found
}

type Figure = fn(&Running<'_>) -> Option<u64>;

/// Writes them.
pub(super) fn write(page: &mut Page, all: &[(View, Sample)]) {
    let running = running(all);
    let families: [(&str, &str, Figure); 8] = [
        (
            "last_seen",
            "Last time a container was seen by the exporter",
            |c| u64::try_from(c.seen.as_second()).ok(),
        ),
        (
            "start_time_seconds",
            "Start time of the container since unix epoch in seconds.",
            |c| u64::try_from(c.since.as_second()).ok(),
        ),
        ("spec_cpu_period", "CPU period of the container.", |_| {
            Some(PERIOD)
        }),
        ("spec_cpu_quota", "CPU quota of the container.", |c| {
            Some(c.cpu(true)?.saturating_mul(PERIOD) / 1000)
        }),
        ("spec_cpu_shares", "CPU share of the container.", |c| {
            let asked = c.cpu(false).or_else(|| c.cpu(true)).unwrap_or(0);
            Some((asked.saturating_mul(1024) / 1000).clamp(2, 262_144))
        }),
        (
            "spec_memory_limit_bytes",
            "Memory limit for the container.",
            |c| Some(c.amount(true, "memory", size::whole).unwrap_or(0)),
        ),
        (
            "spec_memory_reservation_limit_bytes",
            "Memory reservation limit for the container.",
            |_| Some(0),
        ),
        (
            "spec_memory_swap_limit_bytes",
            "Memory swap limit for the container.",
            |_| Some(0),
        ),
    ];
    for (name, help, figure) in families {
        let lines = running
            .iter()
            .filter_map(|c| Some(format!("{} {}", c.labels, figure(c)?)));
        page.family(&format!("container_{name}"), "gauge", help, lines);
    }
}
