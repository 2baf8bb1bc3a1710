//! `/inspect/NAMESPACE/POD`: what stands behind a Pod on this host, for `podvisor pod inspect`: VM, disks, channel, the
//! timings of its start, shares, cgroup and user. It tells what the machine's administrator can see anyway.

use std::time::Duration;

use guest_api::v1::HelloRequest;
use http::Response;
use serde_json::{Value, json};

use super::{Body, json as answer};
use crate::podvm::record::{Record, State};
use crate::podvm::{Context, Machine, NODE_FILES, PodVm, SCRATCH, View, image_serial};

/// How long a guest may take to say who it is.
const HELLO: Duration = Duration::from_secs(3);

/// Answers with one object.
pub async fn inspect(context: &Context, pod: &PodVm) -> Response<Body> {
    let view = pod.view();
    let metadata = &view.pod.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let mut object = json!({
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": uid,
        "node": context.config.node_name,
        "stage": format!("{:?}", view.stage),
        "containers": view.records.iter().map(|record| container(&view, record)).collect::<Vec<_>>(),
        "logs": pod.logs.directory().display().to_string(),
    });
    if let Some(machine) = &view.machine {
        object["vm"] = vm(context, &view, machine, uid).await;
        object["guest"] = guest(machine).await;
        object["disks"] = Value::Array(disks(context, machine, uid));
        object["shares"] = shares(context, &view);
        let timing =
            |timing: &crate::podvm::record::Timing| json!({"phase": timing.phase, "millis": timing.millis});
        object["start"] = machine.timings.iter().map(timing).collect();
    }
    answer(&object)
}

async fn vm(context: &Context, view: &View, machine: &Machine, uid: &str) -> Value {
    let hypervisor = &context.deps.hypervisor;
    let (cgroup, user) = machine.vm.confinement().unzip();
    let stats = machine.vm.stats().await;
    json!({
        "id": machine.vm.id().as_str(),
        "hypervisor": hypervisor.name(),
        "acceleration": hypervisor.accel().name,
        "number": view.number,
        "pid": machine.vm.pid(),
        "user": user,
        "cgroup": cgroup,
        "runDirectory": context.run_dir(uid),
        "vcpus": view.size.vcpus,
        "memoryMiB": view.size.memory_mib,
        "growsTo": {"vcpus": view.most.vcpus, "memoryMiB": view.most.memory_mib},
        "cpuRequestMillis": view.size.cpu_request_millis,
        "cpuLimitMillis": view.size.cpu_limit_millis,
        "cpuUsedMillis": stats.cpu_usage_ns / 1_000_000,
        "memoryResidentBytes": stats.memory_rss_bytes,
        "address": machine.ip.to_string(),
        "mac": crate::ipam::mac(machine.ip).map(|byte| format!("{byte:02x}")).join(":"),
    })
}

/// What the guest says at the other end of its channel.
async fn guest(machine: &Machine) -> Value {
    let call = async {
        let mut client = machine.guest.client().await.ok()?;
        client.hello(HelloRequest {}).await.ok()
    };
    let since = std::time::Instant::now();
    match tokio::time::timeout(HELLO, call).await {
        Ok(Some(hello)) => {
            let hello = hello.into_inner();
            json!({
                "channel": "open",
                "answeredAfterMillis": u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
                "kernel": hello.kernel,
                "agent": hello.agent,
                "bootId": hello.boot_id,
                "readyAfterMillis": hello.ready_after_us / 1000,
            })
        }
        _ => json!({"channel": "no answer"}),
    }
}

fn disks(context: &Context, machine: &Machine, uid: &str) -> Vec<Value> {
    let disk = |serial: String, path: &std::path::Path, read_only: bool, what: String| {
        let size = std::fs::metadata(path).map(|data| data.len()).unwrap_or(0);
        json!({"serial": serial, "file": path, "readOnly": read_only, "bytes": size, "for": what})
    };
    let mut list = Vec::new();
    let scratch = context.disk_dir(uid).join("scratch.img");
    if scratch.exists() {
        let what = "writable layers and emptyDirs".to_owned();
        list.push(disk(SCRATCH.to_owned(), &scratch, false, what));
    }
    let mut seen: std::collections::BTreeMap<String, Vec<&str>> = std::collections::BTreeMap::new();
    for (name, image) in machine.images.iter() {
        seen.entry(image_serial(&image.id)).or_default().push(name);
    }
    for (serial, names) in seen {
        if let Some(image) = machine.images.get(names[0]) {
            let what = format!("image of {}", names.join(", "));
            list.push(disk(serial, &image.disk, true, what));
        }
    }
    for volume in machine.disks.iter() {
        let what = format!("volume {} ({})", volume.volume, volume.handle);
        list.push(json!({"serial": volume.serial(), "readOnly": volume.read_only, "for": what}));
    }
    list
}

/// Directories of the host that the VM sees.
fn shares(context: &Context, view: &View) -> Value {
    if !crate::volumes::uses_node(
        &view.pod,
        view.machine
            .as_ref()
            .map_or(&[], |machine| machine.disks.as_slice()),
    ) {
        return json!([]);
    }
    let data_dir = &context.config.data_dir;
    json!([
        {"tag": crate::volumes::NODE_TAG, "directory": data_dir.join(NODE_FILES), "readOnly": false},
        {"tag": "logs", "directory": data_dir.join(crate::logs::DIRECTORY), "readOnly": true},
    ])
}

fn container(view: &View, record: &Record) -> Value {
    let state = match &record.state {
        State::Waiting { reason, .. } | State::Starting { reason, .. } if !reason.is_empty() => {
            reason.clone()
        }
        State::Waiting { .. } => "waiting".to_owned(),
        State::Starting { .. } => "starting".to_owned(),
        State::Running { .. } => "running".to_owned(),
        State::Exited(exit) => format!("ended with {}", exit.code),
    };
    let image = view
        .machine
        .as_ref()
        .and_then(|machine| machine.images.get(&record.name));
    json!({
        "name": record.name,
        "role": format!("{:?}", record.role).to_lowercase(),
        "run": record.run_id(),
        "restarts": record.restarts(),
        "state": state,
        "disk": image.map(|image| image_serial(&image.id)),
    })
}
