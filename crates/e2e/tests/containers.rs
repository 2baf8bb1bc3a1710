//! What a container of a Pod VM is told, prints and ends with, seen through kubectl.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Lab, LabOptions, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

const MANIFEST: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green, motd.txt: "welcome\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Pod
metadata: {name: told}
spec:
  restartPolicy: Never
  hostUsers: false
  containers:
  - name: main
    image: busybox:1.35
    command: ["sh", "-c"]
    args: ["echo colour=$(COLOUR) token=$TOKEN $0 $1; cat /config/motd.txt; cat /keys/token; echo; cat /scratch/from-first; grep -c ' /proc/sys ' /proc/mounts; read inside first count < /proc/self/uid_map; echo $inside $((first % 65536)) $((first >= 65536)) $count; stat -c %u:%g /bin /config/motd.txt /scratch/from-first /etc/hosts | sort | uniq -c | tr -s ' '", "zero", "one"]
    securityContext: {procMount: Unmasked}
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: keys, mountPath: /keys}
    - {name: scratch, mountPath: /scratch}
  initContainers:
  - name: first
    image: busybox:1.35
    command: ["sh", "-c", "echo left by the first, $(grep -c ' /proc/sys ' /proc/mounts) masked > /scratch/from-first"]
    volumeMounts:
    - {name: scratch, mountPath: /scratch}
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys}}
  - {name: scratch, emptyDir: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: failing}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.35
    command: ["sh", "-c", "echo try; exit 7"]
---
apiVersion: v1
kind: Pod
metadata: {name: broken}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox:1.35
    command: ["sh", "-c", "echo to stderr >&2; exit 3"]
---
apiVersion: v1
kind: Pod
metadata: {name: healthy}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: etcd
    image: test/etcd:3
    args: ["etcd", "--data-dir", "/data", "--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", "http://127.0.0.1:2379"]
    readinessProbe: {periodSeconds: 1, timeoutSeconds: 10, grpc: {port: 2379}}
  - name: other
    image: busybox:1.35
    command: ["sleep", "1000000"]
    readinessProbe: {periodSeconds: 2, timeoutSeconds: 10, grpc: {port: 2379, service: other}}
    volumeMounts: [{name: files, mountPath: /programs, subPath: usr/bin}]
  - name: lacks
    image: busybox:1.35
    command: ["sleep", "1000000"]
    volumeMounts: [{name: files, mountPath: /programs, subPath: usr/lacks}]
  volumes:
  - {name: files, image: {reference: "test/etcd:3", pullPolicy: IfNotPresent}}
---
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 6
  containers:
  - name: server
    image: busybox:1.35
    command: ["sh", "-c", "mkdir /www; exec httpd -f -p 8080 -h /www"]
    lifecycle: {postStart: {exec: {command: ["sh", "-c", "until nc -w 3 127.0.0.1 8080 < /dev/null; do sleep 1; done"]}}}
    resources: {requests: {cpu: 10m}, limits: {cpu: "1", memory: 32Mi}}
  - name: main
    image: busybox:1.35
    command: ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    resources: {requests: {cpu: 10m}, limits: {cpu: "1", memory: 32Mi}}
    lifecycle:
      postStart: {httpGet: {port: 8080, path: /nowhere}}
      preStop: {exec: {command: ["sh", "-c", "echo drained > /proc/1/fd/1"]}}
"#;

#[test]
fn environment_volumes_ends_and_logs() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(MANIFEST)?;
    let field = |pod: &str, path: &str| lab.kubectl(&["get", "pod", pod, "-o", &format!("jsonpath={path}")]);

    phase(&lab, "told", "Succeeded")?;
    let expected = "colour=green token=s3cret zero one\nwelcome\ns3cret\nleft by the first, 1 masked\n0\n0 0 1 65536\n 4 0:0\n";
    lab.wait_log(&["told"], expected)?;

    phase(&lab, "broken", "Failed")?;
    lab.wait_log(&["broken"], "to stderr\n")?;
    let ended = field("broken", "{.status.containerStatuses[0].state.terminated}")?;
    ensure!(
        ended.contains(r#""exitCode":3"#) && ended.contains(r#""reason":"Error""#),
        "broken ended with {ended}"
    );

    wait_for("the back-off of a failing container", LIMIT, || {
        let reason = field("failing", "{.status.containerStatuses[0].state.waiting.reason}")?;
        let last = field(
            "failing",
            "{.status.containerStatuses[0].lastState.terminated.exitCode}",
        )?;
        ensure!(
            reason == "CrashLoopBackOff" && last == "7",
            "reason `{reason}`, last exit `{last}`"
        );
        Ok(())
    })?;
    ensure!(field("failing", "{.status.phase}")? == "Running");
    lab.wait_log(&["failing", "--previous"], "try\n")?;
    lab.wait_event(
        "failing",
        "Back-off restarting failed container main in pod failing_default",
    )?;

    probes_and_images(&lab)?;
    hooks_and_grace(&lab)?;

    // Another Pod of the image pulls nothing, and nothing is unpacked again: the files are the very same.
    let disks = image_files(&lab)?;
    ensure!(
        !disks.is_empty(),
        "no image is kept in {}",
        lab.data_dir().display()
    );
    lab.kubectl(&[
        "run",
        "later",
        "--image=busybox:1.35",
        "--restart=Never",
        "--",
        "true",
    ])?;
    phase(&lab, "later", "Succeeded")?;
    ensure!(image_files(&lab)? == disks, "files of images changed");
    lab.wait_event(
        "later",
        "Container image \"busybox:1.35\" already present on machine",
    )?;

    lab.kubectl(&["delete", "pod", "--all", "--timeout=60s"])?;
    wait_for("the traces of the Pods to be gone", LIMIT, || {
        let after = lab.traces()?;
        ensure!(after == before, "left behind:\n{}", before.difference(&after));
        Ok(())
    })?;
    lab.stop()
}

/// A server that answers `grpc.health.v1`, and its image as a volume.
fn probes_and_images(lab: &Lab) -> Result<()> {
    let statuses = "{range .status.containerStatuses[*]}{.name} {.ready} {.state.waiting.reason} {.state.waiting.message}{'\\n'}{end}";
    let wanted = "etcd true  \nlacks false CreateContainerError ImageVolumeMountFailed: failed to ensure image subpath \
                  \"usr/lacks\": no such file or directory\nother false  \n";
    wait_for("the health of an etcd", LIMIT, || {
        let found = lab.kubectl(&["get", "pod", "healthy", "-o", &format!("jsonpath={statuses}")])?;
        ensure!(found == wanted, "it is\n{found}");
        let events = lab.kubectl(&["events", "--for", "pod/healthy"])?;
        let words = "Readiness probe failed: error: health rpc probe failed: rpc error: code = NotFound desc = unknown service";
        ensure!(events.contains(words), "events: {events}");
        Ok(())
    })?;
    let listed = lab.kubectl(&["exec", "healthy", "-c", "other", "--", "ls", "/programs/etcd"])?;
    ensure!(listed == "/programs/etcd\n", "the image has {listed}");
    Ok(())
}

/// A hook that is answered with 404 has been heard; one before the end may take of the grace period; who does not heed its
/// signal is killed when that is over, and until then the Pod is what it was.
fn hooks_and_grace(lab: &Lab) -> Result<()> {
    let pod = lab.wait_ready("hooked")?;
    let version = pod["metadata"]["resourceVersion"].as_str().context("a version")?;
    lab.kubectl(&[
        "patch",
        "pod",
        "hooked",
        "-p",
        r#"{"spec": {"activeDeadlineSeconds": 1}}"#,
    ])?;
    lab.wait_event("hooked", "Killing: Stopping container main")?;
    // All that it was from there on, however late this looks.
    let is = |pod: &Value| pod["metadata"]["name"] == "hooked";
    let failed = |pod: &Value| is(pod) && pod["status"]["phase"] == "Failed";
    let lives = lab.pods_since(version, |seen| seen.last().is_some_and(failed))?;
    for pod in lives.iter().filter(|pod| is(pod) && !failed(pod)) {
        ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
        ensure!(pod["status"]["reason"].is_null(), "{}", pod["status"]);
    }
    // By the host's clock: that of a guest which hardly gets any time may be late.
    let seconds = |time: &str| {
        lab.run("date", &["-d", time, "+%s"])?
            .trim()
            .parse::<i64>()
            .context("a time")
    };
    let over = seconds("now")?;
    let pod = lab.pod("hooked")?;
    ensure!(pod["status"]["reason"] == "DeadlineExceeded", "{}", pod["status"]);
    let main = e2e::pods::container(&pod, "main");
    let end = &main["state"]["terminated"];
    ensure!(end["exitCode"] == 137 && main["restartCount"] == 0, "{main}");
    lab.wait_log(&["hooked", "-c", "main"], "drained\n")?;
    let selector = "involvedObject.name=hooked,reason=Killing";
    let path = "jsonpath={.items[0].firstTimestamp}";
    let killing = lab.kubectl(&["get", "events", "--field-selector", selector, "-o", path])?;
    let took = over - seconds(&killing)?;
    // Not after the half minute that others have.
    ensure!((6..30).contains(&took), "killed after {took} seconds");
    let events = lab.kubectl(&["events", "--for", "pod/hooked"])?;
    ensure!(!events.contains("Hook failed"), "events: {events}");
    Ok(())
}

fn phase(lab: &Lab, pod: &str, wanted: &str) -> Result<()> {
    wait_for(&format!("{pod} to be {wanted}"), LIMIT, || {
        let phase = lab.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"])?;
        ensure!(
            phase == wanted,
            "it is {phase}\n{}",
            lab.kubectl(&["describe", "pod", pod])?
        );
        Ok(())
    })
}

/// Every file that the host keeps of images: path, inode, size.
fn image_files(lab: &Lab) -> Result<BTreeSet<(PathBuf, u64, u64)>> {
    let mut pending = vec![lab.data_dir().join("host/images")];
    let mut found = BTreeSet::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                found.insert((entry.path(), metadata.ino(), metadata.len()));
            }
        }
    }
    Ok(found)
}
