//! `/stats/summary` (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`).

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Volume;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{HostUsage, Sample, stalls};
use crate::datastore::attach::{self, VolumeDisk};
use crate::env;
use crate::logs::PodLogs;
use crate::podvm::View;
use crate::podvm::record::{Record, State};
use crate::size;

/// The node and its Pods.
pub fn summary(
    data_dir: &Path,
    node: &str,
    host: &HostUsage,
    images: Option<(u64, u64)>,
    pods: &[(View, Sample)],
) -> Value {
    let now = Time(Timestamp::now());
    let used = host.memory_total.saturating_sub(host.memory_available);
    let disk = json!({
        "time": now,
        "availableBytes": host.disk_free,
        "capacityBytes": host.disk_total,
        "usedBytes": host.disk_total.saturating_sub(host.disk_free),
        "inodes": host.inodes,
        "inodesFree": host.inodes_free,
        "inodesUsed": host.inodes.saturating_sub(host.inodes_free),
    });
    // Images may lie on a disk of their own.
    let mut image_disk = disk.clone();
    if let Some((total, free)) = images {
        image_disk["availableBytes"] = json!(free);
        image_disk["capacityBytes"] = json!(total);
        image_disk["usedBytes"] = json!(total.saturating_sub(free));
    }
    let pods: Vec<Value> = pods
        .iter()
        .map(|(view, sample)| pod(data_dir, view, sample, &disk))
        .collect();
    let mut summary = json!({
        "node": {
            "nodeName": node,
            "startTime": Time(host.boot),
            "cpu": {"time": now, "usageNanoCores": host.cpu_nano_cores, "usageCoreNanoSeconds": host.cpu_ns},
            "memory": {
                "time": now,
                "availableBytes": host.memory_available,
                "usageBytes": used,
                "workingSetBytes": used,
                "rssBytes": host.memory_rss,
                "pageFaults": host.page_faults,
                "majorPageFaults": host.major_page_faults,
            },
            "fs": disk,
            "network": network(&now),
            "rlimit": processes(&now),
            "runtime": {"imageFs": image_disk, "containerFs": disk},
        },
        "pods": pods,
    });
    stalls::add_to(&mut summary["node"], host.stalls, &json!(now));
    summary
}

/// The machine's network devices but those of its Pods and its loopback; the first of them speaks for it.
fn network(now: &Time) -> Value {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let device = |line: &str| {
        let (name, figures) = line.split_once(':')?;
        let name = name.trim();
        // Whatever has a device of the hardware behind it.
        if !Path::new("/sys/class/net").join(name).join("device").exists() {
            return None;
        }
        let figures: Vec<u64> = figures
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        let figure = |at: usize| figures.get(at).copied().unwrap_or(0);
        Some(
            json!({"name": name, "rxBytes": figure(0), "rxErrors": figure(2), "txBytes": figure(8),
            "txErrors": figure(10)}),
        )
    };
    let interfaces: Vec<Value> = text.lines().filter_map(device).collect();
    let mut network = interfaces.first().cloned().unwrap_or(json!({"name": ""}));
    network["time"] = json!(now);
    network["interfaces"] = json!(interfaces);
    network
}

/// How many tasks the machine may have, and has.
fn processes(now: &Time) -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let most: u64 = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(0);
    let load = read("/proc/loadavg");
    let tasks = load
        .split_whitespace()
        .nth(3)
        .and_then(|field| field.split_once('/'));
    let count: u64 = tasks.and_then(|(_, all)| all.parse().ok()).unwrap_or(0);
    json!({"time": now, "maxpid": most, "curproc": count})
}

fn started(record: &Record) -> Option<Time> {
    match record.state {
        State::Running { started_at, .. } => Some(Time(started_at)),
        _ => None,
    }
}

fn pod(data_dir: &Path, view: &View, sample: &Sample, host_disk: &Value) -> Value {
    let metadata = &view.pod.metadata;
    let time = Time(sample.time);
    let guest = sample.guest.as_ref();
    let scratch = guest
        .map(|g| (g.scratch_total, g.scratch_free))
        .unwrap_or_default();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let logs = PodLogs::new(
        data_dir,
        &text(&metadata.namespace),
        &text(&metadata.name),
        &text(&metadata.uid),
    );
    let containers: Vec<Value> = view
        .records
        .iter()
        .filter(|record| record.running())
        .map(|record| {
            let run = record.run_id();
            let stats = guest.and_then(|reply| reply.containers.iter().find(|c| c.id == run));
            let mut container = json!({
                "name": record.name,
                "startTime": started(record),
                "cpu": {
                    "time": time,
                    "usageNanoCores": sample.containers.get(&run).copied().unwrap_or(0),
                    "usageCoreNanoSeconds": stats.map_or(0, |c| c.cpu_usage_ns),
                },
                "memory": {
                    "time": time,
                    "usageBytes": stats.map_or(0, |c| c.memory_usage),
                    "workingSetBytes": stats.map_or(0, |c| c.memory_working_set),
                    "rssBytes": stats.map_or(0, |c| c.memory_rss),
                    "pageFaults": stats.map_or(0, |c| c.page_faults),
                    "majorPageFaults": stats.map_or(0, |c| c.major_page_faults),
                },
                // The layer is on the VM's disk, the logs on the host's.
                "rootfs": {
                    "time": time,
                    "capacityBytes": scratch.0,
                    "availableBytes": scratch.1,
                    "usedBytes": stats.map_or(0, |c| c.disk_used),
                },
                "logs": {
                    "time": time,
                    "capacityBytes": host_disk["capacityBytes"],
                    "availableBytes": host_disk["availableBytes"],
                    "usedBytes": logs.bytes(&record.name),
                },
            });
            if let Some(limit) = memory_limit(view, &record.name) {
                let used = stats.map_or(0, |c| c.memory_working_set);
                container["memory"]["availableBytes"] = json!(limit.saturating_sub(used));
            }
            let pressures = stats.map_or(&[][..], |c| &c.pressures);
            stalls::add_to(&mut container, stalls::of_guest(pressures), &json!(time));
            container
        })
        .collect();
    let inside = |value: fn(&guest_api::v1::ContainerStats) -> u64| -> u64 {
        guest.map_or(0, |reply| reply.containers.iter().map(value).sum())
    };
    let mut volumes: Vec<Value> = view
        .machine
        .iter()
        .flat_map(|machine| machine.disks.iter())
        .filter_map(|disk| volume(view, sample, disk))
        .collect();
    let empty_dirs = guest.into_iter().flat_map(|reply| &reply.empty_dirs);
    let mut empty_dirs: Vec<(&String, &u64)> = empty_dirs.collect();
    empty_dirs.sort();
    volumes.extend(empty_dirs.into_iter().map(|(name, used)| {
        json!({
            "name": name,
            "time": time,
            "capacityBytes": scratch.0,
            "availableBytes": scratch.1,
            "usedBytes": used,
        })
    }));
    let mut pod = json!({
        "podRef": {"name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid},
        "startTime": view.pod.status.as_ref().and_then(|status| status.start_time.clone()),
        "containers": containers,
        "cpu": {"time": time, "usageNanoCores": sample.cpu_nano_cores, "usageCoreNanoSeconds": sample.cpu_ns},
        "memory": {
            "time": time,
            "usageBytes": sample.memory_bytes,
            "workingSetBytes": sample.memory_bytes,
            "rssBytes": sample.memory_bytes,
            "pageFaults": inside(|c| c.page_faults),
            "majorPageFaults": inside(|c| c.major_page_faults),
        },
        "network": {
            "time": time,
            "name": "eth0",
            "rxBytes": guest.map_or(0, |g| g.rx_bytes),
            "txBytes": guest.map_or(0, |g| g.tx_bytes),
            "interfaces": [{
                "name": "eth0",
                "rxBytes": guest.map_or(0, |g| g.rx_bytes),
                "txBytes": guest.map_or(0, |g| g.tx_bytes),
            }],
        },
        "volume": volumes,
        "ephemeral-storage": {
            "time": time,
            "usedBytes": guest.map_or(0, |g| g.scratch_used),
            "capacityBytes": scratch.0,
            "availableBytes": scratch.1,
        },
    });
    let pressures = guest.map_or(&[][..], |reply| &reply.pressures);
    stalls::add_to(&mut pod, stalls::of_guest(pressures), &json!(time));
    pod
}

/// The memory that a container may take, if it is limited.
fn memory_limit(view: &View, name: &str) -> Option<u64> {
    let container = env::all_containers(&view.pod).find(|container| container.name == name)?;
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    size::whole(limits.get("memory")?)
}

/// The claim of a volume and what the guest says of its disk.
pub(super) fn volume_of<'a>(
    view: &'a View,
    sample: &'a Sample,
    disk: &VolumeDisk,
) -> Option<(&'a Volume, String, &'a guest_api::v1::VolumeStats)> {
    let serial = disk.serial();
    let reply = sample.guest.as_ref()?;
    let stats = reply.volumes.iter().find(|stats| stats.serial == serial)?;
    let volumes = view.pod.spec.as_ref()?.volumes.as_deref()?;
    let volume = volumes.iter().find(|volume| volume.name == disk.volume)?;
    let (claim, _) = attach::claim(&view.pod, volume)?;
    Some((volume, claim, stats))
}

fn volume(view: &View, sample: &Sample, disk: &VolumeDisk) -> Option<Value> {
    let (volume, claim, stats) = volume_of(view, sample, disk)?;
    Some(json!({
        "name": volume.name,
        "pvcRef": {"name": claim, "namespace": view.pod.metadata.namespace},
        "time": Time(sample.time),
        "capacityBytes": stats.capacity,
        "availableBytes": stats.available,
        "usedBytes": stats.capacity.saturating_sub(stats.available),
        "inodes": stats.inodes,
        "inodesFree": stats.inodes_free,
        "inodesUsed": stats.inodes.saturating_sub(stats.inodes_free),
    }))
}
