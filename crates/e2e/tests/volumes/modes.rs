//! Whom the files of a Pod's volumes belong to, who may write to them, what of the node they may be, and what a reader sees
//! while they change: three VMs, one after the other, each with several containers that look at something else.

use std::fs;
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, ensure};
use e2e::{Lab, LabOptions, wait_for};

use super::{LIMIT, claim, exec, get, says, wait_ready};

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: pair}\nstringData: {one: '0', two: '0'}\n---\n";

/// Reads both keys of the Secret again and again by one directory, and counts pairs that do not fit. A directory that goes
/// meanwhile is nobody's pair.
const READER: &str = "
while :; do
  cd -P /pair/..data 2>/dev/null || continue
  one=$(cat one 2>/dev/null) && two=$(cat two 2>/dev/null) || continue
  [ $one = $two ] || echo torn $one $two
  [ \"$one\" = \"$last\" ] || { echo saw $one; last=$one; }
done";

/// A Pod with the claim `data`, in which `security` is the Pod's context and `more` are further volumes, mounted by all.
fn pod(name: &str, security: &str, read_only: bool, mounts: &str, volumes: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {security}
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    resources: {{limits: {{cpu: 300m, memory: 64Mi}}}}
    volumeMounts:
    - {{name: data, mountPath: /data}}
{mounts}
  volumes:
  - {{name: data, persistentVolumeClaim: {{claimName: data, readOnly: {read_only}}}}}
{volumes}
---
"#
    )
}

/// What a node has that is neither file nor directory; the profile that a container names.
fn furnish(lab: &Lab) -> Result<UnixListener> {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let node = lab.data_dir().join("host/node");
    for path in ["srv", "var/lib/kubelet/seccomp"] {
        fs::create_dir_all(node.join(path))?;
    }
    let (all, srv) = (Mode::from_bits_truncate(0o666), node.join("srv"));
    mknod(&srv.join("character"), SFlag::S_IFCHR, all, makedev(1, 5))?;
    mknod(&srv.join("block"), SFlag::S_IFBLK, all, makedev(8, 0))?;
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}"#;
    fs::write(node.join("var/lib/kubelet/seccomp/quiet.json"), profile)?;
    Ok(UnixListener::bind(srv.join("socket"))?)
}

const NODE_MOUNTS: &str = "    - {name: character, mountPath: /node/character}
    - {name: block, mountPath: /node/block}
    - {name: socket, mountPath: /node/socket}
  - name: quiet
    image: busybox
    command: [sleep, '1000000']
    securityContext: {seccompProfile: {type: Localhost, localhostProfile: quiet.json}}
    resources: {limits: {cpu: 100m, memory: 32Mi}}";

const NODE_VOLUMES: &str = "  - {name: character, hostPath: {path: /srv/character, type: CharDevice}}
  - {name: block, hostPath: {path: /srv/block, type: BlockDevice}}
  - {name: socket, hostPath: {path: /srv/socket, type: Socket}}";

const LIVE_MOUNTS: &str = "    - {name: pair, mountPath: /pair}
    - {name: seen, mountPath: /seen}
  - name: reader
    image: busybox
    command: [sh, /script/loop]
    volumeMounts: [{name: pair, mountPath: /pair}, {name: script, mountPath: /script}]
    resources: {limits: {cpu: 500m, memory: 32Mi}}";

const LIVE_VOLUMES: &str = "  - {name: pair, secret: {secretName: pair}}
  - {name: script, configMap: {name: script}}
  - {name: seen, persistentVolumeClaim: {claimName: seen}}";

#[test]
fn volumes_are_as_their_modes_say() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let _socket = furnish(&lab)?;
    lab.apply(&claim("data", "ReadWriteOnce", "64Mi", ""))?;

    // The whole tree is the group's; nodes of every kind; a profile of the node.
    lab.apply(&pod(
        "first",
        "{fsGroup: 2000, runAsUser: 0, supplementalGroups: [4000]}",
        false,
        NODE_MOUNTS,
        NODE_VOLUMES,
    ))?;
    wait_ready(&lab, "first", 0)?;
    let mismatch = "mkdir /data/dir && echo kept > /data/dir/file && chown 5:5 /data/dir/file && chmod 600 /data/dir/file; \
                    stat -c %g:%a /data; stat -c %u:%g:%a /data/dir/file; sync";
    says(&lab, "first", mismatch, "2000:2775\n5:5:600")?;
    let kinds = "cd /node; test -c character && test -b block && test -S socket && head -c 1 character | od -An -tx1; \
                 head -c 1 block 2>&1 | grep -o 'Operation not permitted'";
    says(&lab, "first", kinds, "00\nOperation not permitted")?;
    let quiet = |script: &str| lab.kubectl(&["exec", "first", "-c", "quiet", "--", "sh", "-c", script]);
    let text = quiet("mkdir /tmp/x 2>&1 || echo refused; echo y > /tmp/y && cat /tmp/y")?;
    ensure!(
        text.contains("Operation not permitted") && text.ends_with("refused\ny\n"),
        "{text}"
    );

    // Each kind is told from the others.
    for (kind, path, words) in [
        ("Socket", "character", "is not a socket file"),
        ("CharDevice", "block", "is not a character device"),
        ("BlockDevice", "socket", "is not a block device"),
    ] {
        let name = kind.to_lowercase();
        let volume = format!("  - {{name: v, hostPath: {{path: /srv/{path}, type: {kind}}}}}");
        lab.apply(
            &pod(&name, "{}", false, "    - {name: v, mountPath: /v}", &volume).replace(
                "persistentVolumeClaim: {claimName: data, readOnly: false}",
                "emptyDir: {}",
            ),
        )?;
        let event = format!("hostPath type check failed: /srv/{path} {words}");
        lab.wait_event(&name, &event)?;
        lab.kubectl(&["delete", "pod", &name, "--timeout=60s"])?;
    }
    lab.kubectl(&["delete", "pod", "first", "--timeout=60s"])?;

    // A root that fits is taken for a tree that fits; what may only be read is not written.
    let script = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "script"},
        "data": {"loop": READER}});
    let from = "dataSource: {kind: PersistentVolumeClaim, name: data}";
    let seen = claim("seen", "ReadOnlyMany", "64Mi", from);
    lab.apply(&[SECRET, &seen, &script.to_string()].concat())?;
    let lazy = "{fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch}";
    lab.apply(&pod("second", lazy, false, LIVE_MOUNTS, LIVE_VOLUMES))?;
    wait_ready(&lab, "second", 0)?;
    says(&lab, "second", "stat -c %u:%g:%a /data/dir/file", "5:5:600")?;
    says(
        &lab,
        "second",
        "cat /seen/dir/file; touch /seen/x 2>&1 | grep -o 'Read-only.*'",
        "kept\nRead-only file system",
    )?;
    live(&lab)?;
    exec(&lab, "second", "chgrp 7 /data; sync")?;
    lab.kubectl(&["delete", "pod", "second", "--timeout=60s"])?;

    // Two may read what nobody writes; a root that does not fit is a tree that does not.
    let readers = [
        pod("third", lazy, false, "", ""),
        pod("fourth", "{fsGroup: 2001}", true, "", "").replace("claimName: data", "claimName: seen"),
        pod("fifth", "{}", false, "", "").replace("claimName: data", "claimName: seen"),
    ];
    lab.apply(&readers.concat())?;
    wait_ready(&lab, "third", 0)?;
    says(&lab, "third", "stat -c %u:%g:%a /data/dir/file", "5:2000:660")?;
    for name in ["fourth", "fifth"] {
        wait_ready(&lab, name, 0)?;
        says(
            &lab,
            name,
            "cat /data/dir/file; touch /data/x 2>/dev/null || echo no",
            "kept\nno",
        )?;
    }
    lab.kubectl(&["delete", "pod", "--all", "--timeout=120s"])?;

    // A claim that may be written, mounted by a Pod that only reads.
    lab.apply(&pod("sixth", "{fsGroup: 2002}", true, "", ""))?;
    wait_ready(&lab, "sixth", 0)?;
    let reads = "stat -c %u:%g:%a /data/dir/file; touch /data/x 2>/dev/null || echo no";
    says(&lab, "sixth", reads, "5:2000:660\nno")?;
    lab.kubectl(&["delete", "pod", "--all", "--timeout=120s"])?;
    lab.stop()
}

/// A Secret changes three times under a reader that never rests.
fn live(lab: &Lab) -> Result<()> {
    let log = || lab.kubectl(&["logs", "second", "-c", "reader"]);
    for number in 0..=3 {
        // The first is there already; the reader may not have begun.
        if number > 0 {
            let data = format!(r#"{{"stringData":{{"one":"{number}","two":"{number}"}}}}"#);
            lab.kubectl(&["patch", "secret", "pair", "-p", &data])?;
        }
        wait_for("the new Secret", LIMIT, || {
            let text = log()?;
            ensure!(text.contains(&format!("saw {number}\n")), "{text}");
            Ok(())
        })?;
    }
    let text = log()?;
    ensure!(text == "saw 0\nsaw 1\nsaw 2\nsaw 3\n", "{text}");
    let pod = get(lab, &["pod", "second"])?;
    let statuses = pod["status"]["containerStatuses"]
        .as_array()
        .context("statuses")?;
    ensure!(
        statuses.iter().all(|status| status["restartCount"] == 0),
        "{pod:#}"
    );
    Ok(())
}
