//! Of the kubelet's own figures those that are at hand: containers by state, volumes by kind, and the agent's process
//! (upstream: pkg/kubelet/metrics, pkg/kubelet/volumemanager/metrics, and client_golang's process collector).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Volume;

use super::Sample;
use super::prometheus::Page;
use crate::datastore::PROVISIONER;
use crate::datastore::attach::DiskKind;
use crate::podvm::View;
use crate::podvm::record::State;

/// Writes them.
pub(super) fn write(page: &mut Page, all: &[(View, Sample)]) {
    let mut states = BTreeMap::from([("created", 0), ("exited", 0), ("running", 0)]);
    for record in all.iter().flat_map(|(view, _)| view.records.iter()) {
        let state = match record.state {
            State::Waiting { .. } => continue,
            State::Starting { .. } => "created",
            State::Running { .. } => "running",
            State::Exited(_) => "exited",
        };
        *states.entry(state).or_insert(0) += 1;
    }
    page.family(
        "kubelet_running_containers",
        "gauge",
        "[ALPHA] Number of containers currently running",
        states
            .iter()
            .map(|(state, count)| format!("{{container_state=\"{state}\"}} {count}")),
    );
    let plugins = plugins(all);
    let of = |world: &'static str| {
        let lines = plugins.iter();
        lines.map(move |(plugin, count)| format!("{{plugin_name=\"{plugin}\",state=\"{world}\"}} {count}"))
    };
    page.family(
        "volume_manager_total_volumes",
        "gauge",
        "[ALPHA] Number of volumes in Volume Manager",
        of("actual_state_of_world").chain(of("desired_state_of_world")),
    );
    page.family(
        "kubernetes_build_info",
        "gauge",
        "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
        [format!(
            "{{build_date=\"\",compiler=\"rustc\",git_commit=\"\",git_tree_state=\"\",git_version=\"{}\",go_version=\"\",major=\"1\",minor=\"35\",platform=\"linux/{}\"}} 1",
            crate::node::VERSION,
            crate::node::architecture()
        )],
    );
    process(page);
}

/// How many volumes there are of each kind, under the names of the kubelet's plugins.
fn plugins(all: &[(View, Sample)]) -> BTreeMap<String, usize> {
    let mut plugins = BTreeMap::new();
    for (view, _) in all {
        let volumes = view
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let disks = view.machine.iter().flat_map(|machine| machine.disks.iter());
            let kind = disks
                .filter(|disk| disk.volume == volume.name)
                .map(|disk| disk.kind)
                .next();
            if let Some(plugin) = plugin(volume, kind) {
                *plugins.entry(plugin).or_insert(0) += 1;
            }
        }
    }
    plugins
}

fn plugin(volume: &Volume, disk: Option<DiskKind>) -> Option<String> {
    let plain = match disk {
        Some(DiskKind::HostPath) => "host-path",
        Some(DiskKind::Local) => "local-volume",
        Some(DiskKind::Image) => "image",
        Some(_) => return Some(format!("kubernetes.io/csi:{PROVISIONER}")),
        None if volume.config_map.is_some() => "configmap",
        None if volume.secret.is_some() => "secret",
        None if volume.projected.is_some() => "projected",
        None if volume.downward_api.is_some() => "downward-api",
        None if volume.empty_dir.is_some() => "empty-dir",
        None if volume.host_path.is_some() => "host-path",
        None => return None,
    };
    Some(format!("kubernetes.io/{plain}"))
}

/// The process of the agent, out of `/proc/self`.
fn process(page: &mut Page) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; the third field follows it.
    let fields: Vec<f64> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // Linux gives times in hundredths of a second and memory in pages of 4 KiB on every platform we run on.
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (field(14) + field(15)) / 100.0,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            field(23),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            field(24) * 4096.0,
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            files as f64,
        ),
    ] {
        page.family(name, kind, help, [format!(" {value}")]);
    }
}
