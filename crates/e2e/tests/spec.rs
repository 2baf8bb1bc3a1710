//! What a Pod's spec says and a real VM does, clause by clause: Pods that try many fields each and print what they found, so
//! that one boot serves them all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::pods::{LIMIT, container};
use e2e::{Lab, LabOptions, wait_for};
use serde_json::Value;

/// `told` prints what it was given and ends in as many ways as it has containers; `late` lives too long; `sick` fails its
/// probe once; `served` waits for a gate, has a port of the host and takes its time to end.
const PODS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, size: large}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: told, labels: {tier: front}}
spec:
  restartPolicy: Never
  securityContext:
    runAsUser: 1000
    runAsGroup: 3000
    fsGroup: 2000
    supplementalGroups: [4000]
    sysctls: [{name: net.ipv4.ping_group_range, value: "0 2000"}]
  containers:
  - name: env
    image: busybox
    workingDir: /scratch/work
    command: [sh, -c, 'pwd; env | grep -E "^(P_|TIER|CPU|MEMORY|AT)" | sort; id | cut -d" " -f1-3; grep -E "^(CapEff|NoNewPrivs)" /proc/self/status;
      touch /x 2>/dev/null || echo cannot write; cat /proc/sys/net/ipv4/ping_group_range; stat -c %g:%a /scratch; stat -L -c %g:%a /keys/dir/token;
      echo mine > /part/file && cat /scratch/front/file; touch /fixed/y 2>/dev/null || echo fixed']
    envFrom: [{prefix: P_, configMapRef: {name: settings}}]
    env:
    - {name: TIER, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: requests.memory, divisor: 1Mi}}}
    - {name: AT, value: "at $(TIER), not $$(TIER) or $(NOBODY)"}
    resources: {requests: {memory: 48Mi}, limits: {cpu: 250m, memory: 64Mi}}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
    - {name: scratch, mountPath: /part, subPathExpr: $(TIER)}
    - {name: scratch, mountPath: /fixed, readOnly: true}
    - {name: keys, mountPath: /keys}
  - {name: words, image: busybox, command: [sh, -c, 'echo last words > /dev/termination-log; echo shared > /dev/shm/new; mv /dev/shm/new /dev/shm/word']}
  - name: lines
    image: busybox
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, 'until cat /dev/shm/word 2>/dev/null; do sleep 0.1; done; exit 3']
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400, items: [{key: token, path: dir/token}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  activeDeadlineSeconds: 3
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [sleep, '1000000'], resources: {limits: {cpu: 100m, memory: 64Mi}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: sick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'mkdir /mark/once && touch /sick; exec sleep 1000000']
    startupProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 10}
    livenessProbe: {exec: {command: [test, '!', -e, /sick]}, periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2}
    volumeMounts: [{name: mark, mountPath: /mark}]
  volumes: [{name: mark, emptyDir: {medium: Memory}}]
---
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  readinessGates: [{conditionType: example.com/allowed}]
  terminationGracePeriodSeconds: 120
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'echo page > /tmp/index.html; httpd -p 80 -h /tmp; trap "echo told to end; exit 0" TERM; while :; do sleep 0.1; done']
    ports: [{containerPort: 80, hostPort: 8081}]
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, timeoutSeconds: 10}
    lifecycle: {preStop: {sleep: {seconds: 3}}}
    resources: {requests: {cpu: 10m}, limits: {memory: 64Mi, example.com/device: '1'}}
"#;

const TOLD: &str = "/scratch/work
AT=at front, not $(TIER) or $(NOBODY)
CPU=250
MEMORY=48
P_colour=green
P_size=large
TIER=front
uid=1000 gid=3000 groups=2000,3000,4000
CapEff:\t0000000000000000
NoNewPrivs:\t1
cannot write
0\t2000
2000:2777
2000:440
mine
fixed
";

#[test]
fn fields_mean_what_they_say() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    // The host has devices that nobody of ours knows, as an operator says.
    let node = lab.kubectl(&["get", "nodes", "-o", "name"])?;
    let devices = r#"{"status":{"capacity":{"example.com/device":"1"}}}"#;
    lab.kubectl(&["patch", node.trim(), "--subresource=status", "-p", devices])?;
    lab.apply(PODS)?;

    let pod = lab.wait_pod("told", "over", |pod| pod["status"]["phase"] == "Failed")?;
    lab.wait_log(&["told", "-c", "env"], TOLD)?;
    let ends = [
        ("env", 0, "Completed", ""),
        ("words", 0, "Completed", "last words\n"),
        ("lines", 3, "Error", "shared\n"),
    ];
    for (name, code, reason, message) in ends {
        let end = &container(&pod, name)["state"]["terminated"];
        let said = end["message"].as_str().unwrap_or_default();
        ensure!(
            end["exitCode"] == code && end["reason"] == reason && said == message,
            "{name} ended with {end}"
        );
    }
    ensure!(pod["status"]["qosClass"] == "Burstable", "{}", pod["status"]);

    let pod = lab.wait_pod("late", "too late", |pod| pod["status"]["phase"] == "Failed")?;
    let words = "Pod was active on the node longer than the specified deadline";
    ensure!(
        pod["status"]["reason"] == "DeadlineExceeded" && pod["status"]["message"] == words,
        "{}",
        pod["status"]
    );
    ensure!(pod["status"]["qosClass"] == "Guaranteed", "{}", pod["status"]);

    let pod = lab.wait_pod("sick", "well again", |pod| {
        let main = container(pod, "main");
        main["restartCount"] == 1 && main["ready"] == true
    })?;
    ensure!(pod["status"]["qosClass"] == "BestEffort", "{}", pod["status"]);
    let ended = &container(&pod, "main")["lastState"]["terminated"];
    ensure!(ended["exitCode"] == 137 && ended["reason"] == "Error", "{ended}");
    lab.wait_event("sick", "Unhealthy: Liveness probe failed: ")?;
    lab.wait_event(
        "sick",
        "Killing: Container main failed liveness probe, will be restarted",
    )?;

    figures(&lab, node.trim())?;
    served(&lab)?;
    lab.leaves_nothing(&before)?;
    lab.stop()
}

/// Figures of a Pod and its VM under all the names by which they are asked for.
fn figures(lab: &Lab, node: &str) -> Result<()> {
    lab.wait_pod("served", "running", |pod| pod["status"]["phase"] == "Running")?;
    let agent = format!("/api/v1/nodes/{}/proxy", node.trim_start_matches("node/"));
    let raw = |path: &str| lab.kubectl(&["get", "--raw", &format!("{agent}{path}")]);
    let figures = wait_for("figures of the Pod", LIMIT, || {
        let top = lab.kubectl(&["top", "pod", "served", "--containers", "--no-headers"])?;
        ensure!(top.contains("main") && top.contains("Mi"), "{top}");
        Ok(())
    });
    figures.with_context(|| raw("/podmetrics").unwrap_or_default() + &lab.log_tail())?;
    wait_for("figures of the node", LIMIT, || {
        let top = lab.kubectl(&["top", "node", "--no-headers"])?;
        let fields: Vec<&str> = top.split_whitespace().collect();
        let name = node.trim_start_matches("node/");
        let percents = |at: usize| {
            fields
                .get(at)
                .and_then(|field| field.strip_suffix('%')?.parse::<u32>().ok())
        };
        ensure!(
            fields.len() == 5 && fields[0] == name && fields[1].ends_with('m') && fields[3].ends_with("Mi"),
            "{top}"
        );
        ensure!(
            percents(2).is_some() && percents(4).is_some_and(|percent| percent > 0),
            "{top}"
        );
        Ok(())
    })?;
    let names = [
        (
            "/metrics/cadvisor",
            "container_cpu_usage_seconds_total{container=\"main\",",
        ),
        (
            "/metrics/cadvisor",
            "container_memory_working_set_bytes{container=\"main\",",
        ),
        (
            "/metrics/cadvisor",
            "container_network_receive_bytes_total{interface=\"eth0\",",
        ),
        ("/metrics/cadvisor", "container_fs_usage_bytes{"),
        ("/metrics/resource", "pod_cpu_usage_seconds_total{"),
        ("/metrics", "podvisor_vm_cpu_ready_seconds_total{"),
        ("/metrics", "podvisor_vm_memory_ballooned_bytes{"),
        ("/metrics", "podvisor_vm_network_receive_bytes_total{"),
        ("/metrics", "podvisor_vm_disk_written_bytes_total{"),
    ];
    // Not all figures are of one measurement: those of the VM and of its containers come each for itself.
    for (page, name) in names {
        wait_for(&format!("{name} in {page}"), LIMIT, || {
            let text = raw(page)?;
            let mut lines = text.lines().filter(|line| line.starts_with(name));
            ensure!(lines.any(|line| line.contains("pod=\"served\"")), "{text}");
            Ok(())
        })?;
    }
    // What a VM costs beyond its containers is measured, told, and taken from what the node has for others.
    let text = raw("/metrics")?;
    let overhead = |line: &str| -> Option<u64> {
        let value = line.strip_prefix("podvisor_vm_memory_overhead_bytes{")?;
        value
            .contains("pod=\"served\"")
            .then(|| value.rsplit(' ').next()?.parse().ok())?
    };
    let overhead = text.lines().find_map(overhead).context("its overhead")?;
    ensure!(
        (8 << 20..512 << 20).contains(&overhead),
        "an overhead of {overhead} bytes"
    );
    let memory = |which: &str| -> Result<u64> {
        let path = format!("jsonpath={{.status.{which}.memory}}");
        let text = lab.kubectl(&["get", node, "-o", &path])?;
        Ok(text.trim_end_matches("Ki").parse::<u64>()? << 10)
    };
    let capacity = memory("capacity")?;
    let own = (capacity / 20).max(256 << 20);
    wait_for("the overhead in what the node has", LIMIT, || {
        let left = memory("allocatable")?;
        ensure!(left + overhead <= capacity - own, "{left} of {capacity} bytes");
        Ok(())
    })?;
    // The first points come by themselves, a quarter of a minute apart.
    wait_for("its history", LIMIT, || {
        let past: Value = serde_json::from_str(&raw("/podmetrics?history=1")?)?;
        let mut all = past.as_array().into_iter().flatten();
        let served = all
            .find(|pod| pod["metadata"]["name"] == "served")
            .context("its figures")?;
        let columns = served["vm"]["history"]["columns"].as_array();
        let columns = columns.with_context(|| served.to_string())?;
        ensure!(columns.contains(&"memoryBallooned".into()), "{served}");
        Ok(())
    })?;
    // A guest that has just booted has not taken all that it may.
    let told = |name: &str| -> Result<u64> {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let mut lines = lines.filter(|line| line.contains("pod=\"served\""));
        let line = lines.next().with_context(|| name.to_owned())?;
        Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    let size = told("podvisor_vm_memory_size_bytes")?;
    let sum = told("podvisor_vm_memory_resident_bytes")? + told("podvisor_vm_memory_ballooned_bytes")?;
    ensure!(
        sum >= size && told("podvisor_vm_disk_read_bytes_total")? > 0,
        "{text}"
    );
    Ok(())
}

/// What is on its way to be ready, and takes its time to go.
fn served(lab: &Lab) -> Result<()> {
    let condition = |pod: &Value, name: &str| -> Value {
        let all = pod["status"]["conditions"].as_array();
        let mut all = all.into_iter().flatten();
        all.find(|one| one["type"] == name).cloned().unwrap_or_default()
    };
    let pod = lab.wait_pod("served", "ready but for its gate", |pod| {
        condition(pod, "ContainersReady")["status"] == "True"
    })?;
    let ready = condition(&pod, "Ready");
    let words = "corresponding condition of pod readiness gate \"example.com/allowed\" does not exist.";
    ensure!(
        ready["status"] == "False"
            && ready["reason"] == "ReadinessGatesNotReady"
            && ready["message"] == words,
        "{ready}"
    );
    ensure!(
        ready["observedGeneration"] == pod["metadata"]["generation"]
            && pod["status"]["observedGeneration"] == pod["metadata"]["generation"],
        "{}",
        pod["status"]
    );
    let allowed = r#"{"status":{"conditions":[{"type":"example.com/allowed","status":"True"}]}}"#;
    lab.kubectl(&["patch", "pod", "served", "--subresource=status", "-p", allowed])?;
    let pod = lab.wait_ready("served")?;

    // The only device is taken.
    let more = "apiVersion: v1\nkind: Pod\nmetadata: {name: more}\nspec:\n  containers:\n  \
                - {name: main, image: busybox, resources: {limits: {example.com/device: '1'}}}\n";
    lab.apply(more)?;
    lab.wait_event(
        "more",
        "0/1 nodes are available: 1 Insufficient example.com/device.",
    )?;
    lab.kubectl(&["delete", "pod", "more", "--now"])?;

    let host = pod["status"]["hostIP"].as_str().context("a host")?;
    let url = format!("http://{host}:8081/");
    wait_for("the port of the host", LIMIT, || {
        let page = lab.run("curl", &["-sSf", "--max-time", "10", &url])?;
        ensure!(page == "page\n", "{page}");
        Ok(())
    })?;

    // Its hook sleeps, then it ends by itself: long before its grace period, and not before the hook.
    let follower = lab.follow(&["served"])?;
    let since = Instant::now();
    lab.kubectl(&["delete", "pod", "served", "--timeout=60s"])?;
    let took = since.elapsed();
    ensure!(
        (Duration::from_secs(3)..Duration::from_secs(60)).contains(&took),
        "it took {took:?}"
    );
    let said = String::from_utf8(follower.wait_with_output()?.stdout)?;
    ensure!(said == "told to end\n", "it said {said:?}");
    Ok(())
}
