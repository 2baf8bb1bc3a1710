//! A Pod that gets more than its VM was started with: the VM grows, nothing begins anew, and the next agent goes on from
//! there.

use anyhow::{Context, Result, ensure};
use e2e::pods::LIMIT;
use e2e::{Lab, LabOptions, wait_for};
use serde_json::{Value, json};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: grows}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: '1', memory: 128Mi}}
";

/// Takes so many MiB at once, in one buffer.
fn takes(lab: &Lab, mib: u64) -> Result<()> {
    let text = lab.script(
        "grows",
        &format!("dd if=/dev/zero of=/dev/null bs={mib}M count=1 2>&1"),
    )?;
    ensure!(text.starts_with("1+0 records in"), "{mib} MiB: {text}");
    Ok(())
}

fn resize(lab: &Lab, cpu: &str, memory: &str) -> Result<()> {
    let limits = json!({"limits": {"cpu": cpu, "memory": memory}});
    let patch = json!({"spec": {"containers": [{"name": "main", "resources": limits}]}});
    lab.kubectl(&[
        "patch",
        "pod",
        "grows",
        "--subresource=resize",
        "-p",
        &patch.to_string(),
    ])?;
    Ok(())
}

fn resizing(pod: &Value) -> Option<&Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| {
        let kind = condition["type"].as_str();
        kind.is_some_and(|kind| kind.starts_with("PodResize"))
    })
}

/// Waits until these limits are in force, in the same run of the container.
fn resized(lab: &Lab, cpu: &str, memory: &str) -> Result<()> {
    let pod = lab.wait_pod("grows", "resized", |pod| {
        let limits = &pod["status"]["containerStatuses"][0]["resources"]["limits"];
        limits["cpu"] == cpu && limits["memory"] == memory && resizing(pod).is_none()
    })?;
    ensure!(
        pod["status"]["containerStatuses"][0]["restartCount"] == 0,
        "{}",
        pod["status"]
    );
    Ok(())
}

/// What the container sees: processors, and MiB of memory.
fn sees(lab: &Lab) -> Result<(u32, u64)> {
    let text = lab.script("grows", "nproc; grep MemTotal /proc/meminfo")?;
    let mut words = text.split_whitespace();
    let vcpus = words.next().context("a number of processors")?.parse()?;
    let kib: u64 = words.nth(1).context("an amount of memory")?.parse()?;
    Ok((vcpus, kib >> 10))
}

#[test]
fn a_running_pod_gets_more_than_its_vm_began_with() -> Result<()> {
    let mut lab = Lab::start(LabOptions::default())?;
    lab.apply(POD)?;
    let pod = lab.wait_ready("grows")?;
    let process = lab.vm_process(&pod)?;
    let before = sees(&lab)?;
    ensure!(before.0 == 1 && before.1 < 256, "it begins with {before:?}");

    resize(&lab, "2", "512Mi")?;
    resized(&lab, "2", "512Mi")?;
    lab.wait_event("grows", "ResizeCompleted: Pod resize completed: {")?;
    let host = lab.script("grows", "cat /sys/fs/cgroup/memory.max")?;
    ensure!(host == (512 << 20).to_string(), "its limit is {host}");
    let now = sees(&lab)?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        now.0 as usize == cores.min(2) && (560..900).contains(&now.1),
        "it has {now:?} then"
    );
    takes(&lab, 400)?;

    // The next agent knows how large it is by now, and that it can still grow.
    lab.kill_supervisor()?;
    lab.start_supervisor()?;
    resize(&lab, "2", "1Gi")?;
    resized(&lab, "2", "1Gi")?;
    let now = sees(&lab)?;
    ensure!((1080..1600).contains(&now.1), "it has {now:?} in the end");
    takes(&lab, 900)?;
    let inspected: Value =
        serde_json::from_str(&lab.run_podvisor(&["pod", "inspect", "grows", "-o", "json"])?)?;
    let memory = inspected["vm"]["memoryMiB"].as_u64();
    ensure!(
        memory.is_some_and(|mib| (1080..1600).contains(&mib)),
        "{}",
        inspected["vm"]
    );
    ensure!(lab.vm_process(&lab.pod("grows")?)? == process, "it is another VM");

    // More than the host has is refused, as on any node, and costs nothing.
    let requests = json!({"requests": {"memory": "64Ti"}, "limits": {"memory": "64Ti"}});
    let patch = json!({"spec": {"containers": [{"name": "main", "resources": requests}]}});
    lab.kubectl(&[
        "patch",
        "pod",
        "grows",
        "--subresource=resize",
        "-p",
        &patch.to_string(),
    ])?;
    let pod = lab.wait_pod("grows", "refused", |pod| resizing(pod).is_some())?;
    let told = resizing(&pod).context("a condition")?;
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        told["type"] == "PodResizePending"
            && told["reason"] == "Infeasible"
            && message.starts_with("Node didn't have enough capacity: memory, requested: 70368744177664"),
        "{told}"
    );
    lab.kubectl(&["delete", "pod", "grows", "--timeout=60s"])?;
    wait_for("the VM's end", LIMIT, || {
        ensure!(lab.machines()?.is_empty(), "there is a VM");
        Ok(())
    })?;
    lab.stop()
}
