//! Probes while the agent hangs or is away: they are the guest's, and go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::pods::{LIMIT, container};
use e2e::{Lab, LabOptions, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::signal;

/// `main` counts its probes and tells their number to whoever asks; who asks for the fall makes the others ill.
const PROBED: &str = r##"
apiVersion: v1
kind: Pod
metadata: {name: probed}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'mkdir -p /www/cgi-bin; touch /www/asked; echo -e "#!/bin/sh\necho; touch /shared/unready /shared/ill" > /www/cgi-bin/fall;
      chmod +x /www/cgi-bin/fall; exec httpd -f -p 80 -h /www']
    readinessProbe: {exec: {command: [sh, -c, 'echo once >> /www/asked']}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}
    livenessProbe: {httpGet: {port: 80, path: /asked}, periodSeconds: 1, timeoutSeconds: 10}
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 32Mi}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: unready
    image: busybox
    command: [sleep, '1000000']
    readinessProbe: {exec: {command: [test, '!', -e, /shared/unready]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 1}
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 16Mi}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: ill
    image: busybox
    command: [sh, -c, 'rm -f /shared/ill; exec sleep 1000000']
    startupProbe: {exec: {command: [test, '!', -e, /shared/ill]}, periodSeconds: 1, timeoutSeconds: 10}
    livenessProbe: {exec: {command: [test, '!', -e, /shared/ill]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 16Mi}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {medium: Memory}}]
"##;
/// How often `main` is asked while the agent hangs, once a second.
const TIMES: usize = 20;
/// How much longer that may take under emulation.
const PATIENCE: u32 = 2;

/// Goes on when this value goes.
struct Stopped(i32);

impl Drop for Stopped {
    fn drop(&mut self) {
        // It has ended when the Lab has.
        let _ = signal(self.0, Signal::SIGCONT);
    }
}

#[test]
fn they_go_on_without_an_agent() -> Result<()> {
    let mut lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(PROBED)?;
    let pod = lab.wait_ready("probed")?;
    let address = pod["status"]["podIP"].as_str().context("an address")?.to_owned();

    // The agent hangs: nobody fails a probe, and none is late.
    let supervisor = i32::try_from(lab.supervisor_id().context("a Supervisor")?)?;
    signal(supervisor, Signal::SIGSTOP)?;
    let stopped = Stopped(supervisor);
    let (since, asked) = (Instant::now(), count(&lab, &address)?);
    more(&lab, &address, asked + TIMES)?;
    let took = since.elapsed();
    let due = Duration::from_secs(TIMES as u64);
    ensure!(
        took < due * PATIENCE,
        "{TIMES} probes with a period of a second took {took:?}"
    );
    drop(stopped);
    more(&lab, &address, asked + TIMES + 2)?;
    let after = lab.wait_ready("probed")?;
    ensure!(ready(&pod) == ready(&after), "{}", after["status"]);
    ensure!(restarts(&after) == [0, 0, 0], "{}", after["status"]);

    // What happens while it is away is known to the next.
    lab.kill_supervisor()?;
    lab.run("curl", &["-sSf", &format!("http://{address}/cgi-bin/fall")])?;
    let asked = count(&lab, &address)?;
    // Each of the others has been asked often enough meanwhile.
    more(&lab, &address, asked + TIMES / 2)?;
    lab.start_supervisor()?;
    let pod = lab.wait_pod("probed", "unready and restarted", |pod| {
        let ill = container(pod, "ill");
        container(pod, "unready")["ready"] == false && restarts(pod) == [1, 0, 0] && ill["ready"] == true
    })?;
    ensure!(ready(&pod)["status"] == "False", "{}", pod["status"]);
    lab.wait_event("probed", "Unhealthy: Readiness probe failed: ")?;
    lab.wait_event(
        "probed",
        "Killing: Container ill failed liveness probe, will be restarted",
    )?;
    // It is asked on by whom it was asked before.
    let asked = count(&lab, &address)?;
    more(&lab, &address, asked + 2)?;
    lab.kubectl(&["exec", "probed", "-c", "unready", "--", "rm", "/shared/unready"])?;
    let pod = lab.wait_ready("probed")?;
    ensure!(restarts(&pod) == [1, 0, 0], "{}", pod["status"]);
    lab.leaves_nothing(&before)?;
    lab.stop()
}

/// How often `main` was asked so far.
fn count(lab: &Lab, address: &str) -> Result<usize> {
    let page = format!("http://{address}/asked");
    let lines = lab.run("curl", &["-sSf", "--max-time", "10", &page])?;
    Ok(lines.matches("once").count())
}

fn more(lab: &Lab, address: &str, wanted: usize) -> Result<()> {
    wait_for("more probes", LIMIT, || {
        let asked = count(lab, address)?;
        ensure!(asked >= wanted, "{asked} so far, {wanted} wanted");
        Ok(())
    })
}

/// The condition `Ready`.
fn ready(pod: &Value) -> &Value {
    let conditions = pod["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.find(|condition| condition["type"] == "Ready")
        .unwrap_or(&Value::Null)
}

/// Restarts of all containers, in the order of their names.
fn restarts(pod: &Value) -> Vec<u64> {
    ["ill", "main", "unready"]
        .iter()
        .map(|name| container(pod, name)["restartCount"].as_u64().unwrap_or(u64::MAX))
        .collect()
}
