//! Volumes of real Pod VMs: what a claim's disk keeps through an ended, a killed and a deleted VM, how it grows, and
//! that it goes with its claim.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Lab, LabOptions, wait_for};
use serde_json::Value;

#[path = "volumes/modes.rs"]
mod modes;

/// A VM boots in seconds, on busy cores in many.
const LIMIT: Duration = Duration::from_secs(180);

const SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 1
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {fsGroup: 2000}
      containers:
      - name: main
        image: busybox
        command: [sh, -c, 'echo start >> /data/starts; sync; exec sleep 1000000']
        resources: {limits: {cpu: 500m, memory: 64Mi}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      resources: {requests: {storage: 64Mi}}
"#;

const KINDS: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: raw}
spec:
  accessModes: [ReadWriteOnce]
  volumeMode: Block
  resources: {requests: {storage: 32Mi}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: kept}
spec:
  accessModes: [ReadWriteOnce]
  capacity: {storage: 32Mi}
  storageClassName: ""
  hostPath: {path: /srv/kept, type: DirectoryOrCreate}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  volumeName: kept
  resources: {requests: {storage: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: kinds}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'sleep 1000000']
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    volumeDevices: [{name: raw, devicePath: /dev/raw-disk}]
    volumeMounts: [{name: own, mountPath: /own}, {name: kept, mountPath: /kept, subPath: below}]
  volumes:
  - name: kept
    persistentVolumeClaim: {claimName: kept}
  - name: raw
    persistentVolumeClaim: {claimName: raw}
  - name: own
    ephemeral:
      volumeClaimTemplate:
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 32Mi}}}
"#;

fn get(lab: &Lab, what: &[&str]) -> Result<Value> {
    let text = lab.kubectl(&[&["get", "-o", "json"][..], what].concat())?;
    Ok(serde_json::from_str(&text)?)
}

fn wait_ready(lab: &Lab, pod: &str, restarts: u64) -> Result<Value> {
    let ready = wait_for(&format!("{pod} ready"), LIMIT, || {
        let object = get(lab, &["pod", pod])?;
        let status = &object["status"]["containerStatuses"][0];
        ensure!(
            status["ready"] == true && status["restartCount"].as_u64() >= Some(restarts),
            "{}",
            object["status"]
        );
        Ok(object)
    });
    ready.with_context(|| lab.kubectl(&["get", "events,pv,pvc", "-A"]).unwrap_or_default() + &lab.log_tail())
}

fn exec(lab: &Lab, pod: &str, script: &str) -> Result<String> {
    lab.kubectl(&["exec", pod, "--", "sh", "-c", script])
        .map(|text| text.trim().to_owned())
}

/// Kilobytes of the file system at a path in a Pod.
fn kilobytes(lab: &Lab, pod: &str, path: &str) -> Result<u64> {
    let text = exec(lab, pod, &format!("df -kP {path} | tail -1 | awk '{{print $2}}'"))?;
    text.parse().with_context(|| format!("df printed {text}"))
}

/// The QEMU process of a Pod, as the host agent has recorded it.
fn qemu(lab: &Lab, pod: &Value) -> Result<i32> {
    let uid = pod["metadata"]["uid"].as_str().context("a Pod has a uid")?;
    let file = lab.run_dir().join("vms").join(uid).join("vm.json");
    let record: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let id = record["pid"].as_i64().context("a VM has a process")?;
    Ok(i32::try_from(id)?)
}

fn files(lab: &Lab) -> Result<usize> {
    Ok(fs::read_dir(lab.data_dir().join("host/volumes"))?.count())
}

fn says(lab: &Lab, pod: &str, script: &str, expected: &str) -> Result<()> {
    let said = exec(lab, pod, script)?;
    ensure!(said == expected, "`{script}` printed {said:?}, not {expected:?}");
    Ok(())
}

#[test]
fn claims_keep_what_was_written() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(SET)?;
    let pod = wait_ready(&lab, "db-0", 0)?;
    let claim = get(&lab, &["pvc", "data-db-0"])?;
    ensure!(claim["status"]["phase"] == "Bound", "{claim:#}");
    says(&lab, "db-0", "stat -c %g:%a /data", "2000:2775")?;
    let small = kilobytes(&lab, "db-0", "/data")?;
    ensure!(small < 64 << 10, "{small} KiB");

    // The claim grows under the running Pod.
    let grow = r#"{"spec":{"resources":{"requests":{"storage":"256Mi"}}}}"#;
    lab.kubectl(&["patch", "pvc", "data-db-0", "-p", grow])?;
    wait_for("the bigger file system", LIMIT, || {
        let claim = get(&lab, &["pvc", "data-db-0"])?;
        ensure!(
            claim["status"]["capacity"]["storage"] == "256Mi",
            "{}",
            claim["status"]
        );
        let now = kilobytes(&lab, "db-0", "/data")?;
        ensure!(now > 200 << 10, "{now} KiB");
        Ok(())
    })?;

    // A killed VM loses nothing that was synced.
    exec(&lab, "db-0", "echo synced > /data/word; sync")?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(qemu(&lab, &pod)?),
        nix::sys::signal::Signal::SIGKILL,
    )?;
    wait_ready(&lab, "db-0", 1)?;
    // A container runs before its program has done anything.
    wait_for("the second start", LIMIT, || {
        says(&lab, "db-0", "cat /data/word; wc -l < /data/starts", "synced\n2")
    })?;

    // A deleted Pod's successor finds even what nobody synced.
    let write = "head -c 20000000 /dev/urandom > /data/big; md5sum /data/big > /data/sum";
    exec(&lab, "db-0", write)?;
    lab.kubectl(&["delete", "pod", "db-0", "--wait=false"])?;
    let first = pod["metadata"]["uid"].clone();
    wait_for("a new db-0", LIMIT, || {
        let uid = get(&lab, &["pod", "db-0"])?["metadata"]["uid"].clone();
        ensure!(uid != first, "the old one is there");
        Ok(())
    })?;
    wait_ready(&lab, "db-0", 0)?;
    says(&lab, "db-0", "md5sum -c /data/sum", "/data/big: OK")?;

    lab.kubectl(&["delete", "statefulset/db", "--timeout=120s"])?;
    lab.kubectl(&["delete", "pvc/data-db-0", "--timeout=120s"])?;
    wait_for("the end of the volume", LIMIT, || {
        ensure!(files(&lab)? == 0, "its file is there");
        let objects = lab.kubectl(&["get", "pv", "-o", "name"])?;
        ensure!(objects.is_empty(), "its object is there");
        Ok(())
    })?;

    lab.apply(KINDS)?;
    wait_ready(&lab, "kinds", 0)?;
    let disk = "test -b /dev/raw-disk && echo block > /dev/raw-disk && head -c 5 /dev/raw-disk";
    says(&lab, "kinds", disk, "block")?;
    says(&lab, "kinds", "echo x > /own/x && cat /own/x", "x")?;
    says(&lab, "kinds", "echo kept > /kept/word && cat /kept/word", "kept")?;
    let kept = lab.data_dir().join("host/node/srv/kept/below/word");
    ensure!(fs::read_to_string(kept)? == "kept\n");
    lab.kubectl(&["delete", "pod/kinds", "--timeout=120s"])?;
    lab.kubectl(&["delete", "pvc/raw", "--timeout=120s"])?;
    wait_for("the end of both volumes", LIMIT, || {
        ensure!(files(&lab)? == 0, "a file is there");
        Ok(())
    })?;
    lab.stop()
}

const LIMITED: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: limited}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: imported.example/tools:7
    imagePullPolicy: Never
    command: [sh, -c, 'sleep 1000000']
    resources: {limits: {cpu: 500m, memory: 96Mi}}
    volumeMounts:
    - {name: cache, mountPath: /cache}
    - {name: ram, mountPath: /ram}
    - {name: ram, mountPath: /below, subPath: made}
    - {name: model, mountPath: /model}
    - {name: node, mountPath: /node}
    - {name: file, mountPath: /file}
  volumes:
  - name: node
    hostPath: {path: /srv/shared, type: DirectoryOrCreate}
  - name: file
    hostPath: {path: /srv/one, type: FileOrCreate}
  - name: cache
    emptyDir: {sizeLimit: 20Mi}
  - name: ram
    emptyDir: {medium: Memory, sizeLimit: 4Mi}
  - name: model
    image: {reference: redis, pullPolicy: IfNotPresent}
"#;

const WRONG: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: wrong}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    volumeMounts: [{name: node, mountPath: /node}]
  volumes:
  - name: node
    hostPath: {path: /srv/one, type: Directory}
"#;

/// Four seconds of a loop that never rests: percent of a processor that it had, and how often it was held back.
const SPIN: &str = "stat() { grep $1 /sys/fs/cgroup/cpu.stat | cut -d' ' -f2; }
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }
used=$(stat usage_usec); since=$(now)
timeout 4 sh -c 'while :; do :; done'
echo $(( ($(stat usage_usec) - used) / (($(now) - since) * 100) )) $(stat nr_throttled)";

#[test]
fn what_a_pod_has_is_limited() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    // An image by hand, without a registry.
    let archive = lab.directory().join("tools.tar").display().to_string();
    let from = format!("docker://{}/library/busybox:latest", e2e::lab::REGISTRY);
    let to = format!("docker-archive:{archive}:imported.example/tools:7");
    lab.run("skopeo", &["copy", "--src-tls-verify=false", &from, &to])?;
    let podvisor = lab.podvisor().display().to_string();
    let printed = lab.run(&podvisor, &["image", "import", &archive])?;
    ensure!(
        printed.starts_with("imported.example/tools:7\tsha256:"),
        "{printed}"
    );

    lab.apply(LIMITED)?;
    wait_ready(&lab, "limited", 0)?;
    says(
        &lab,
        "limited",
        "test -e /model/etc && touch /model/x 2>/dev/null || echo no",
        "no",
    )?;
    let full = "head -c 5000000 /dev/zero > /ram/x 2>/dev/null && echo fits || echo full";
    says(&lab, "limited", full, "full")?;

    // As on a node: memory has the sticky bit, a subPath is as open as its volume, and everybody may write to /tmp.
    says(&lab, "limited", "stat -c %a /ram /below", "1777\n1777")?;
    let tmp = fs::metadata(lab.data_dir().join("host/node/tmp"))?;
    ensure!(tmp.permissions().mode() & 0o7777 == 0o1777, "{tmp:?}");

    // The node's file system is a directory of ours, seen at once on both sides; links do not lead out of it.
    let node = lab.data_dir().join("host/node/srv");
    exec(
        &lab,
        "limited",
        "echo hello > /node/word; echo one > /file; ln -s /etc/passwd /node/link",
    )?;
    ensure!(fs::read_to_string(node.join("shared/word"))? == "hello\n");
    ensure!(fs::read_to_string(node.join("one"))? == "one\n");
    fs::write(node.join("shared/answer"), "from the host")?;
    says(&lab, "limited", "cat /node/answer", "from the host")?;
    lab.apply(WRONG)?;
    let words = "hostPath type check failed: /srv/one is not a directory";
    lab.wait_event(
        "wrong",
        &format!("FailedMount: MountVolume.SetUp failed for volume \"node\" : {words}"),
    )?;
    lab.wait_pod("wrong", "waiting", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        pod["status"]["phase"] == "Pending" && waiting["reason"] == "ContainerCreating"
    })?;
    lab.kubectl(&["delete", "pod/wrong", "--timeout=120s"])?;

    // CPU and memory change under the running container.
    let group = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/memory.max";
    says(&lab, "limited", group, "50000 100000\n100663296")?;
    let measured = exec(&lab, "limited", SPIN)?;
    let (share, throttled) = measured.trim().split_once(' ').context("two numbers")?;
    ensure!(
        // Time that the VM itself was kept waiting counts as used; without a limit it would be all of it.
        share.parse::<u32>()? <= 75 && throttled.parse::<u32>()? > 0,
        "half a processor is allowed; percent used and times throttled: {measured}"
    );
    let resources = r#"{"spec":{"containers":[{"name":"main","resources":{
        "requests":{"cpu":"800m","memory":"64Mi"},"limits":{"cpu":"800m","memory":"64Mi"}}}]}}"#;
    lab.kubectl(&[
        "patch",
        "pod",
        "limited",
        "--subresource",
        "resize",
        "-p",
        resources,
    ])?;
    wait_for("the new limits", LIMIT, || {
        says(&lab, "limited", group, "80000 100000\n67108864")
    })?;
    let pod = get(&lab, &["pod", "limited"])?;
    ensure!(
        pod["status"]["containerStatuses"][0]["restartCount"] == 0,
        "{pod:#}"
    );

    // More than was agreed ends it.
    exec(&lab, "limited", "head -c 25000000 /dev/zero > /cache/x; sync")?;
    wait_for("the eviction", LIMIT, || {
        let status = get(&lab, &["pod", "limited"])?["status"].clone();
        ensure!(
            status["phase"] == "Failed" && status["reason"] == "Evicted",
            "{status}"
        );
        let words = "Usage of EmptyDir volume \"cache\" exceeds the limit \"20Mi\". ";
        ensure!(status["message"] == words, "{status}");
        Ok(())
    })?;
    lab.stop()
}

/// A Pod with one claim at `/data`.
fn with_claim(name: &str, claim: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{fsGroup: 2000}}
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'sleep 1000000']
    resources: {{limits: {{cpu: 300m, memory: 64Mi}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]
---
"#
    )
}

fn claim(name: &str, mode: &str, size: &str, more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}}}
spec:
  accessModes: [{mode}]
  resources: {{requests: {{storage: {size}}}}}
  {more}
---
"#
    )
}

const SNAPSHOT: &str = r#"
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: before}
spec: {source: {persistentVolumeClaimName: many}}
"#;

#[test]
fn pods_share_a_volume_and_its_copies_are_whole() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(
        &[
            claim("many", "ReadWriteMany", "64Mi", ""),
            with_claim("a", "many"),
            with_claim("b", "many"),
        ]
        .concat(),
    )?;
    wait_ready(&lab, "a", 0)?;
    wait_ready(&lab, "b", 0)?;
    exec(&lab, "a", "echo one > /data/word; mkdir /data/dir; sync")?;
    says(&lab, "b", "cat /data/word; stat -c %g:%a /data", "one\n2000:2775")?;
    exec(&lab, "b", "echo two >> /data/word")?;
    says(&lab, "a", "cat /data/word", "one\ntwo")?;
    // Its size holds, and grows under both.
    let fill =
        "dd if=/dev/zero of=/data/big bs=1M count=80 2>/dev/null && echo fits || echo full; rm /data/big";
    says(&lab, "a", fill, "full")?;
    let grow = r#"{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}"#;
    lab.kubectl(&["patch", "pvc", "many", "-p", grow])?;
    let is_big = || {
        let status = get(&lab, &["pvc", "many"])?["status"].clone();
        ensure!(status["capacity"]["storage"] == "128Mi", "{status}");
        Ok(())
    };
    let waits = wait_for("the bigger volume", LIMIT, || {
        let status = get(&lab, &["pvc", "many"])?["status"].clone();
        let waits = status["conditions"][0]["type"] == "FileSystemResizePending";
        ensure!(waits || status["capacity"]["storage"] == "128Mi", "{status}");
        Ok(waits)
    })?;
    if waits {
        // A machine without CAP_SYS_RESOURCE: it grows when nobody has it.
        lab.kubectl(&["delete", "pod/a", "pod/b", "--timeout=120s"])?;
        wait_for("the bigger volume", LIMIT, is_big)?;
        lab.apply(&[with_claim("a", "many"), with_claim("b", "many")].concat())?;
        wait_ready(&lab, "a", 0)?;
        wait_ready(&lab, "b", 0)?;
    }
    is_big()?;
    let now = kilobytes(&lab, "b", "/data")?;
    ensure!(now > 100 << 10, "{now} KiB");

    // A snapshot keeps what was, even what nobody synced.
    exec(&lab, "a", "echo kept > /data/dir/kept")?;
    lab.apply(SNAPSHOT)?;
    wait_for("the snapshot", LIMIT, || {
        let snapshot = get(&lab, &["volumesnapshot", "before"])?;
        ensure!(snapshot["status"]["readyToUse"] == true, "{snapshot:#}");
        Ok(())
    })?;
    let table = lab.kubectl(&["get", "volumesnapshot"])?;
    let words: Vec<&str> = table
        .lines()
        .flat_map(|line| line.split_whitespace().take(12))
        .collect();
    ensure!(
        words.starts_with(&[
            "NAME",
            "READYTOUSE",
            "SOURCEPVC",
            "SOURCESNAPSHOTCONTENT",
            "RESTORESIZE"
        ]) && words.contains(&"128Mi")
            && words.contains(&"datastore"),
        "{table}"
    );
    exec(&lab, "a", "echo three > /data/word; rm -r /data/dir")?;
    let from = "dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: before}";
    let back = claim("back", "ReadWriteOnce", "128Mi", from);
    lab.apply(&[back, with_claim("c", "back")].concat())?;
    wait_ready(&lab, "c", 0)?;
    says(&lab, "c", "cat /data/word /data/dir/kept", "one\ntwo\nkept")?;
    // Of a disk that a VM writes to, its guest makes the copy whole.
    exec(&lab, "c", "echo four > /data/word")?;
    let from = "dataSource: {kind: PersistentVolumeClaim, name: back}";
    let copy = claim("copy", "ReadWriteOnce", "128Mi", from);
    lab.apply(&[copy, with_claim("d", "copy")].concat())?;
    wait_ready(&lab, "d", 0)?;
    says(&lab, "d", "cat /data/word /data/dir/kept", "four\nkept")?;
    says(&lab, "c", "echo five > /data/word; cat /data/word", "five")?;

    let path = format!("/api/v1/nodes/{}/proxy/stats/summary", node(&lab)?);
    wait_for("figures of all claims", LIMIT, || {
        let summary: Value = serde_json::from_str(&lab.kubectl(&["get", "--raw", &path])?)?;
        let volumes = summary["pods"].as_array().into_iter().flatten();
        let claims = volumes
            .filter(|pod| pod["volume"][0]["pvcRef"]["name"].is_string())
            .count();
        ensure!(claims == 4, "{summary:#}");
        Ok(())
    })?;

    lab.kubectl(&["delete", "pod/a", "pod/b", "pod/c", "pod/d", "--timeout=120s"])?;
    lab.kubectl(&["delete", "volumesnapshot/before", "--timeout=60s"])?;
    lab.kubectl(&["delete", "pvc/many", "pvc/back", "pvc/copy", "--timeout=60s"])?;
    wait_for("the end of everything", LIMIT, || {
        ensure!(files(&lab)? == 0, "a file is there");
        Ok(())
    })?;
    lab.stop()
}

/// The name of the only host.
fn node(lab: &Lab) -> Result<String> {
    let nodes = get(lab, &["nodes"])?;
    let name = nodes["items"][0]["metadata"]["name"].as_str();
    Ok(name.context("a node has a name")?.to_owned())
}

const INFORMED: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: one}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
data: {key: value}
---
apiVersion: v1
kind: Pod
metadata: {name: informed, labels: {tier: first}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'sleep 1000000']
    resources: {limits: {cpu: 300m, memory: 64Mi}}
    volumeMounts: [{name: all, mountPath: /all}, {name: other, mountPath: /other}]
  volumes:
  - {name: other, configMap: {name: other}}
  - name: all
    projected:
      sources:
      - serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}
      - configMap: {name: words}
      - clusterTrustBundle: {name: roots, path: roots.pem, optional: true}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#;

/// What the API server says of a token for `audience`.
fn review(lab: &Lab, token: &str, audience: &str) -> Result<Value> {
    let request = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]}});
    let file = lab.directory().join("review.json");
    fs::write(&file, request.to_string())?;
    let text = lab.kubectl(&["create", "-o", "json", "-f", &file.display().to_string()])?;
    Ok(serde_json::from_str::<Value>(&text)?["status"].clone())
}

#[test]
fn projected_sources_follow_their_objects() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(INFORMED)?;
    wait_ready(&lab, "informed", 0)?;
    let token = exec(&lab, "informed", "cat /all/token")?;
    let status = review(&lab, &token, "vault")?;
    ensure!(
        status["authenticated"] == true
            && status["user"]["username"] == "system:serviceaccount:default:default"
            && status["user"]["extra"]["authentication.kubernetes.io/pod-name"][0] == "informed",
        "{status}"
    );
    ensure!(review(&lab, &token, "other")?["authenticated"] != true);
    says(
        &lab,
        "informed",
        "cat /all/word /all/labels; cat /all/roots.pem",
        "onetier=\"first\"",
    )?;

    // A volume that lacks something from now on keeps what it had and holds up no other.
    lab.kubectl(&["delete", "configmap", "other"])?;
    let root = lab.kubectl(&[
        "get",
        "configmap",
        "kube-root-ca.crt",
        "-o",
        r"jsonpath={.data.ca\.crt}",
    ])?;
    let bundle = serde_json::json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
        "metadata": {"name": "roots"}, "spec": {"trustBundle": format!("Words are left out.\n{root}")}});
    lab.apply(&bundle.to_string())?;
    wait_for("the bundle in the Pod", LIMIT, || {
        says(&lab, "informed", "cat /all/roots.pem", root.trim())
    })?;
    lab.kubectl(&["label", "pod", "informed", "--overwrite", "tier=second"])?;
    lab.kubectl(&["patch", "configmap", "words", "-p", r#"{"data":{"word":"two"}}"#])?;
    wait_for("the new words", LIMIT, || {
        says(
            &lab,
            "informed",
            "cat /all/word /all/labels",
            "twotier=\"second\"",
        )
    })?;
    says(
        &lab,
        "informed",
        "cat /all/token /other/key",
        &format!("{token}value"),
    )?;
    lab.wait_event(
        "informed",
        "FailedMount: MountVolume.SetUp failed for volume \"other\" : configmap \"other\" not found",
    )?;

    // Tokens end with their Pod.
    lab.kubectl(&["delete", "pod", "informed", "--timeout=60s"])?;
    wait_for("the end of the token", LIMIT, || {
        let status = review(&lab, &token, "vault")?;
        ensure!(status["authenticated"] != true, "{status}");
        Ok(())
    })?;
    lab.stop()
}

/// Nine minutes, most of a token's shortest life: `cargo nextest run -p e2e --test volumes --run-ignored only renewed`.
#[test]
#[ignore = "takes nine minutes, in which nothing happens"]
fn a_token_is_renewed_before_it_ends() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(INFORMED)?;
    wait_ready(&lab, "informed", 0)?;
    let first = exec(&lab, "informed", "cat /all/token")?;
    let second = wait_for("another token", Duration::from_secs(540), || {
        let token = exec(&lab, "informed", "cat /all/token")?;
        ensure!(token != first, "still the first one");
        Ok(token)
    })?;
    for token in [&first, &second] {
        let status = review(&lab, token, "vault")?;
        ensure!(status["authenticated"] == true, "{status}");
    }
    lab.kubectl(&["delete", "pod", "informed", "--timeout=60s"])?;
    lab.stop()
}
