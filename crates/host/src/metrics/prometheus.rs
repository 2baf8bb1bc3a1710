//! Figures in Prometheus' text format, under the names that dashboards and alerts know: `/metrics/resource` and
//! `/metrics/cadvisor` as the kubelet serves them, and in `/metrics` those of volumes and of the VMs themselves.

use std::fmt::Write as _;

use guest_api::v1::{ContainerStats, StatsReply};

use super::kubelet;
use super::specs;
use super::stalls;
use super::starts::Starts;
use super::summary::volume_of;
use super::{HostUsage, Sample};
use crate::podvm::View;
use crate::podvm::record::State;

/// The labels of the machine as a whole in cAdvisor's figures.
const MACHINE: &str = "id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"";

/// Families of figures, written one after the other.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// A family: name, `counter` or `gauge`, what it means, its lines without the name.
    pub(super) fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        lines: impl IntoIterator<Item = String>,
    ) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for line in lines {
            let _ = writeln!(self.0, "{name}{line}");
        }
    }

    /// What is written, without the comments.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<&str> {
        self.0.lines().filter(|line| !line.starts_with('#')).collect()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(super) fn pod_labels(view: &View) -> String {
    let metadata = &view.pod.metadata;
    format!(
        "namespace=\"{}\",pod=\"{}\"",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}

/// The labels of a Pod as a whole in cAdvisor's figures, which has the names of no container.
fn whole_pod(view: &View) -> String {
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    let labels = pod_labels(view);
    format!("container=\"\",id=\"/podvisor/{uid}\",image=\"\",name=\"\",{labels}")
}

/// A line for each Pod that has the figure.
fn pods<T: std::fmt::Display>(
    all: &[(View, Sample)],
    value: impl Fn(&View, &Sample) -> Option<T>,
) -> Vec<String> {
    let lines = all.iter().filter_map(|(view, sample)| {
        let value = value(view, sample)?;
        Some(format!("{{{}}} {value}", pod_labels(view)))
    });
    lines.collect()
}

/// Lines for the machine and for each Pod as a whole, which cAdvisor has beside those of containers.
fn wholes<T: std::fmt::Display>(
    host: &HostUsage,
    all: &[(View, Sample)],
    more: &str,
    of_host: impl Fn(&HostUsage) -> T,
    of_pod: impl Fn(&Sample) -> T,
) -> impl Iterator<Item = String> {
    let machine = format!("{{container=\"\",{more}{MACHINE}}} {}", of_host(host));
    let pods = all.iter().map(|(view, sample)| {
        let labels = whole_pod(view);
        let labels = labels.trim_start_matches("container=\"\",");
        format!("{{container=\"\",{more}{labels}}} {}", of_pod(sample))
    });
    let lines: Vec<String> = std::iter::once(machine).chain(pods).collect();
    lines.into_iter()
}

/// A line for each running container, with more labels than name and Pod.
fn containers<T: std::fmt::Display>(
    all: &[(View, Sample)],
    more: impl Fn(&View, &ContainerStats) -> String,
    value: impl Fn(&ContainerStats) -> T,
) -> Vec<String> {
    containers_with(all, more, |stats| Some(value(stats)))
}

/// Likewise, for each that has the figure.
fn containers_with<T: std::fmt::Display>(
    all: &[(View, Sample)],
    more: impl Fn(&View, &ContainerStats) -> String,
    value: impl Fn(&ContainerStats) -> Option<T>,
) -> Vec<String> {
    let lines = all.iter().flat_map(|(view, sample)| {
        let stats = sample.guest.iter().flat_map(|reply| &reply.containers);
        stats.filter_map(|stats| {
            let value = value(stats)?;
            let (name, labels) = (&stats.name, pod_labels(view));
            let more = more(view, stats);
            Some(format!("{{container=\"{name}\",{more}{labels}}} {value}"))
        })
    });
    lines.collect()
}

/// `/metrics/resource`.
pub fn resource(host: &HostUsage, all: &[(View, Sample)]) -> String {
    let mut page = Page::default();
    page.family(
        "node_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        [format!(" {}", seconds(host.cpu_ns))],
    );
    let used = host.memory_total.saturating_sub(host.memory_available);
    page.family(
        "node_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the node in bytes",
        [format!(" {used}")],
    );
    page.family(
        "pod_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        pods(all, |_, sample| Some(seconds(sample.cpu_ns))),
    );
    page.family(
        "pod_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the pod in bytes",
        pods(all, |_, sample| Some(sample.memory_bytes)),
    );
    let none = |_: &View, _: &ContainerStats| String::new();
    page.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        containers(all, none, |c| seconds(c.cpu_usage_ns)),
    );
    page.family(
        "container_memory_working_set_bytes",
        "gauge",
        "[STABLE] Current working set of the container in bytes",
        containers(all, none, |c| c.memory_working_set),
    );
    let started = all.iter().flat_map(|(view, _)| {
        view.records.iter().filter_map(|record| match record.state {
            State::Running { started_at, .. } => Some(format!(
                "{{container=\"{}\",{}}} {}",
                record.name,
                pod_labels(view),
                started_at.as_second()
            )),
            _ => None,
        })
    });
    page.family(
        "container_start_time_seconds",
        "gauge",
        "[STABLE] Start time of the container since unix epoch in seconds",
        started,
    );
    page.family(
        "resource_scrape_error",
        "gauge",
        "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise",
        [" 0".to_owned()],
    );
    page.0
}

/// `/metrics/cadvisor`: what of cAdvisor's figures means something for a VM.
pub fn cadvisor(host: &HostUsage, cpu_millis: u64, all: &[(View, Sample)]) -> String {
    let mut page = Page::default();
    let cores = cpu_millis.div_ceil(1000);
    page.family(
        "machine_cpu_cores",
        "gauge",
        "Number of logical CPU cores.",
        [format!(" {cores}")],
    );
    let memory = host.memory_total;
    page.family(
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
        [format!(" {memory}")],
    );
    let more = |view: &View, stats: &ContainerStats| {
        let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
        let spec = view.pod.spec.as_ref();
        let image = spec
            .and_then(|spec| spec.containers.iter().find(|c| c.name == stats.name))
            .and_then(|container| container.image.as_deref())
            .unwrap_or_default();
        format!(
            "id=\"/podvisor/{uid}/{id}\",image=\"{image}\",name=\"{id}\",",
            id = stats.id
        )
    };
    let used = |host: &HostUsage| host.memory_total.saturating_sub(host.memory_available);
    page.family(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
        wholes(
            host,
            all,
            "cpu=\"total\",",
            |h| seconds(h.cpu_ns),
            |s| seconds(s.cpu_ns),
        )
        .chain(containers(
            all,
            |view, stats| format!("cpu=\"total\",{}", more(view, stats)),
            |c| seconds(c.cpu_usage_ns),
        )),
    );
    page.family(
        "container_memory_usage_bytes",
        "gauge",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        wholes(host, all, "", used, |s| s.memory_bytes).chain(containers(all, more, |c| c.memory_usage)),
    );
    page.family(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set in bytes.",
        wholes(host, all, "", used, |s| s.memory_bytes)
            .chain(containers(all, more, |c| c.memory_working_set)),
    );
    page.family(
        "container_memory_cache",
        "gauge",
        "Number of bytes of page cache memory.",
        containers(all, more, |c| c.memory_cache),
    );
    page.family(
        "container_memory_rss",
        "gauge",
        "Size of RSS in bytes.",
        containers(all, more, |c| c.memory_rss),
    );
    let faults = [
        ("pgfault", (|c| c.page_faults) as fn(&ContainerStats) -> u64),
        ("pgmajfault", |c| c.major_page_faults),
    ];
    let faults = faults.map(|(kind, value)| {
        let more = move |view: &View, stats: &ContainerStats| {
            format!(
                "failure_type=\"{kind}\",scope=\"container\",{}",
                more(view, stats)
            )
        };
        containers(all, more, value)
    });
    page.family(
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
        faults.into_iter().flatten(),
    );
    page.family(
        "container_cpu_cfs_periods_total",
        "counter",
        "Number of elapsed enforcement period intervals.",
        containers(all, more, |c| c.cpu_periods),
    );
    page.family(
        "container_cpu_cfs_throttled_periods_total",
        "counter",
        "Number of throttled period intervals.",
        containers(all, more, |c| c.cpu_throttled_periods),
    );
    page.family(
        "container_cpu_cfs_throttled_seconds_total",
        "counter",
        "Total time duration the container has been throttled.",
        containers(all, more, |c| seconds(c.cpu_throttled_ns)),
    );
    for (at, (kind, word)) in stalls::KINDS.into_iter().enumerate() {
        let words = [
            ("stalled", "no tasks in the container could make progress"),
            ("waiting", "tasks in the container have waited"),
        ];
        for (name, what) in words {
            let total = |stall: stalls::Stall| match name {
                "stalled" => seconds(stall.full.total.saturating_mul(1000)),
                _ => seconds(stall.some.total.saturating_mul(1000)),
            };
            let of_host =
                host.stalls[at].map(|stall| format!("{{container=\"\",{MACHINE}}} {}", total(stall)));
            let told = |c: &ContainerStats| stalls::of_guest(&c.pressures)[at];
            let of_containers = containers_with(all, more, |c| told(c).map(total));
            page.family(
                &format!("container_pressure_{kind}_{name}_seconds_total"),
                "counter",
                &format!("Total time duration {what} due to {word} congestion."),
                of_host.into_iter().chain(of_containers),
            );
        }
    }
    let network = |value: fn(&StatsReply) -> u64| {
        let lines = all.iter().filter_map(|(view, sample)| {
            let value = value(sample.guest.as_ref()?);
            Some(format!("{{interface=\"eth0\",{}}} {value}", whole_pod(view)))
        });
        lines.collect::<Vec<_>>()
    };
    page.family(
        "container_network_receive_bytes_total",
        "counter",
        "Cumulative count of bytes received",
        network(|g| g.rx_bytes),
    );
    page.family(
        "container_network_transmit_bytes_total",
        "counter",
        "Cumulative count of bytes transmitted",
        network(|g| g.tx_bytes),
    );
    let guest = |value: fn(&StatsReply) -> u64| {
        let lines = all.iter().filter_map(|(view, sample)| {
            let value = value(sample.guest.as_ref()?);
            Some(format!("{{{}}} {value}", whole_pod(view)))
        });
        lines.collect::<Vec<_>>()
    };
    page.family(
        "container_fs_usage_bytes",
        "gauge",
        "Number of bytes that are consumed by the container on this filesystem.",
        guest(|g| g.scratch_used),
    );
    page.family(
        "container_fs_limit_bytes",
        "gauge",
        "Number of bytes that can be consumed by the container on this filesystem.",
        guest(|g| g.scratch_total),
    );
    page.family(
        "container_fs_reads_bytes_total",
        "counter",
        "Cumulative count of bytes read",
        guest(|g| g.disk_read_bytes),
    );
    page.family(
        "container_fs_writes_bytes_total",
        "counter",
        "Cumulative count of bytes written",
        guest(|g| g.disk_written_bytes),
    );
    specs::write(&mut page, all);
    page.0
}

/// `/metrics`: of the kubelet's own figures those on Pods and volumes, and the VMs.
pub fn agent(node: &str, starts: &Starts, all: &[(View, Sample)]) -> String {
    let mut page = Page::default();
    page.family(
        "kubelet_node_name",
        "gauge",
        "The node's name. The count is always 1.",
        [format!("{{node=\"{node}\"}} 1")],
    );
    page.family(
        "kubelet_running_pods",
        "gauge",
        "Number of pods that have a running pod sandbox",
        [format!(" {}", all.len())],
    );
    starts.write(&mut page);
    kubelet::write(&mut page, all);
    let volumes = |value: fn(&guest_api::v1::VolumeStats) -> u64| {
        let lines = all.iter().flat_map(|(view, sample)| {
            let disks = view.machine.iter().flat_map(|machine| machine.disks.iter());
            disks.filter_map(move |disk| {
                let (_, claim, stats) = volume_of(view, sample, disk)?;
                let namespace = view.pod.metadata.namespace.as_deref().unwrap_or_default();
                let labels = format!("{{namespace=\"{namespace}\",persistentvolumeclaim=\"{claim}\"}}");
                Some(format!("{labels} {}", value(stats)))
            })
        });
        // Of a volume that several Pods share there is one figure.
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines.dedup_by(|a, b| a.split(' ').next() == b.split(' ').next());
        lines
    };
    type Value = fn(&guest_api::v1::VolumeStats) -> u64;
    let families: [(&str, &str, Value); 6] = [
        ("capacity_bytes", "Capacity in bytes of the volume", |v| {
            v.capacity
        }),
        (
            "available_bytes",
            "Number of available bytes in the volume",
            |v| v.available,
        ),
        ("used_bytes", "Number of used bytes in the volume", |v| {
            v.capacity.saturating_sub(v.available)
        }),
        ("inodes", "Maximum number of inodes in the volume", |v| v.inodes),
        ("inodes_free", "Number of free inodes in the volume", |v| {
            v.inodes_free
        }),
        ("inodes_used", "Number of used inodes in the volume", |v| {
            v.inodes.saturating_sub(v.inodes_free)
        }),
    ];
    for (name, help, value) in families {
        page.family(
            &format!("kubelet_volume_stats_{name}"),
            "gauge",
            help,
            volumes(value),
        );
    }
    page.family(
        "podvisor_vm_cpu_usage_seconds_total",
        "counter",
        "CPU time that the host has given to the VM.",
        pods(all, |_, sample| Some(seconds(sample.cpu_ns))),
    );
    page.family(
        "podvisor_vm_cpu_ready_seconds_total",
        "counter",
        "Time for which the VM was ready to run and no processor was free.",
        pods(all, |_, sample| Some(seconds(sample.cpu_ready_ns))),
    );
    page.family(
        "podvisor_vm_memory_size_bytes",
        "gauge",
        "Memory of the VM.",
        pods(all, |view, _| Some(view.size.memory_mib << 20)),
    );
    page.family(
        "podvisor_vm_memory_resident_bytes",
        "gauge",
        "Memory that the host has given to the VM so far.",
        pods(all, |_, sample| Some(sample.memory_bytes)),
    );
    page.family(
        "podvisor_vm_memory_active_bytes",
        "gauge",
        "Memory that the guest really uses.",
        pods(all, |_, sample| {
            let guest = sample.guest.as_ref()?;
            Some(guest.memory_total.saturating_sub(guest.memory_available))
        }),
    );
    page.family(
        "podvisor_vm_memory_overhead_bytes",
        "gauge",
        "Memory that the VM costs the host beyond what its containers use.",
        pods(all, |_, sample| sample.overhead_bytes()),
    );
    page.family(
        "podvisor_vm_memory_ballooned_bytes",
        "gauge",
        "Memory of the VM that the host has for others: never taken, or given back by the balloon.",
        pods(all, |view, sample| Some(sample.ballooned_bytes(&view.size))),
    );
    type Counter = fn(&StatsReply) -> u64;
    let counters: [(&str, &str, Counter); 4] = [
        ("network_receive", "received from the network", |g| g.rx_bytes),
        ("network_transmit", "sent to the network", |g| g.tx_bytes),
        ("disk_read", "read from all disks", |g| g.disk_read_bytes),
        ("disk_written", "written to all disks", |g| g.disk_written_bytes),
    ];
    for (name, what, value) in counters {
        page.family(
            &format!("podvisor_vm_{name}_bytes_total"),
            "counter",
            &format!("Bytes that the VM has {what} since its start."),
            pods(all, |_, sample| sample.guest.as_ref().map(value)),
        );
    }
    page.0
}
