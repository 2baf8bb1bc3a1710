//! The Pod contract beyond starting and ending, in real VMs and through kubectl: debugging, terminals, hooks, probes over
//! TLS, names, mounts that are passed on, logs for collectors, a Supervisor that comes back in the middle of it.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::pods::container;
use e2e::{Lab, LabOptions, wait_for};

#[path = "contract/engine.rs"]
mod engine;
#[path = "contract/streams.rs"]
mod streams;

const LIMIT: Duration = Duration::from_secs(120);

const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: desk}
spec:
  terminationGracePeriodSeconds: 5
  hostname: office
  subdomain: house
  setHostnameAsFQDN: true
  hostAliases:
  - {ip: 192.0.2.7, hostnames: [printer, copier]}
  dnsConfig: {options: [{name: ndots, value: "2"}]}
  initContainers:
  - name: side
    image: busybox:1.35
    restartPolicy: Always
    command: ["sh", "-c", "touch /shared/set; trap 'cat /shared/order; echo side ends; exit 0' TERM; while :; do sleep 0.2; done"]
    startupProbe: {periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 60, exec: {command: ["test", "-e", "/shared/set"]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: busybox:1.35
    command: ["sh", "-c", "trap 'sleep 1; echo main ended >> /shared/order; exit 0' TERM; echo ready to serve; while :; do sleep 0.2; done"]
    lifecycle: {postStart: {exec: {command: ["sh", "-c", "sleep 1; touch /shared/hooked"]}}}
    securityContext: {seccompProfile: {type: RuntimeDefault}}
    readinessProbe:
      periodSeconds: 2
      timeoutSeconds: 10
      httpGet: {scheme: HTTPS, host: 10.96.0.1, port: 443, path: /readyz}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: term
    image: busybox:1.35
    tty: true
    stdin: true
    command: ["sh", "-c", "ls /shared; exec sh"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: sink
    image: busybox:1.35
    stdin: true
    stdinOnce: true
    command: ["sh", "-c", "nc -ll -p 9000 -e cat & md5sum; sleep 1000000; true"]
  - name: printer
    image: busybox:1.35
    stdin: true
    command: ["sh", "-c", "now() { cut -d' ' -f1 /proc/uptime | tr -d .; }; while read count; do since=$(now); echo begin $count; seq 1 $count; echo done in $(($(now) - since)); done"]
  - name: builder
    image: busybox:1.35
    securityContext: {privileged: true}
    command: ["sleep", "1000000"]
    volumeMounts: [{name: passed, mountPath: /passed, mountPropagation: Bidirectional}]
  - name: watcher
    image: busybox:1.35
    command: ["sleep", "1000000"]
    volumeMounts: [{name: passed, mountPath: /passed, mountPropagation: HostToContainer}]
  volumes:
  - {name: shared, emptyDir: {}}
  - {name: passed, emptyDir: {}}
"#;

/// A privileged container is as good as a machine: what `docker build` and `dockerd` do, step by step.
const BUILD: &str = "set -e
mkdir -p /passed/in /build && mount -t tmpfs none /passed/in && echo seen > /passed/in/file
mount -t tmpfs none /build && mkdir /build/upper /build/work /build/merged
mount -t overlay overlay -o lowerdir=/bin,upperdir=/build/upper,workdir=/build/work /build/merged
echo '#!/bin/sh' > /build/merged/new && ls /build/upper
unshare --mount --pid --fork --net --uts sh -c 'hostname inner; mount -t proc proc /proc; ip link set lo up; echo pid $$'
mkdir -p /cg && mount -t cgroup2 none /cg && mkdir /cg/inner && rmdir /cg/inner
test -c /dev/null && mknod /build/null c 1 3 && echo built";

#[test]
fn debug_terminals_hooks_names_and_mounts() -> Result<()> {
    let mut lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(MANIFEST)?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/desk", "--timeout=120s"])
        .with_context(|| lab.kubectl(&["describe", "pod", "desk"]).unwrap_or_default())?;

    // A container that follows one with a `postStart` hook begins after the hook.
    wait_for("the list of the shared directory", LIMIT, || {
        let listed = lab.kubectl(&["logs", "desk", "-c", "term"])?;
        ensure!(listed.contains("hooked"), "the hook had not run: {listed}");
        Ok(())
    })?;
    names(&lab)?;
    security(&lab)?;
    terminals(&lab)?;
    let built = in_container(&lab, "builder", BUILD)?;
    ensure!(built == "new\npid 1\nbuilt\n", "the build printed: {built}");
    ensure!(in_container(&lab, "watcher", "cat /passed/in/file")? == "seen\n");
    streams::all(&lab, "kubectl-1.32", 2 << 20)?;
    streams::left_alone(&lab)?;
    streams::channels(&lab)?;
    streams::lines(&lab, 200_000, LIMIT)?;
    streams::attached(&lab, 200_000)?;
    another_image(&lab)?;
    debug(&mut lab)?;
    inspect(&lab)?;

    // Its probe asks the API, which was away.
    let pod = lab.wait_ready("desk")?;
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let ready = ready.context("a condition")?;
    ensure!(ready["message"].is_null(), "words of old stay: {ready}");

    // Sidecars end last; their logs are followed to the last word.
    let follower = Session::start(&lab, "kubectl logs -f desk -c side -v 6")?;
    // It follows once its request is answered, of which it tells; before that the Pod may be gone under its hands.
    wait_for("the answer to who follows", LIMIT, || {
        let text = follower.text();
        let asked = text.split_once("follow=true").context("it has not asked")?.1;
        ensure!(asked.contains("200 OK"), "it shows:\n{text}");
        Ok(())
    })?;
    lab.kubectl(&["delete", "pod", "--all", "--timeout=60s"])?;
    follower.wait_for("main ended\nside ends")?;
    wait_for("the traces of the Pods to be gone", LIMIT, || {
        let after = lab.traces()?;
        ensure!(after == before, "left behind:\n{}", before.difference(&after));
        Ok(())
    })?;
    lab.stop()
}

/// Minutes under emulation: `cargo nextest run -p e2e --test contract --run-ignored only`.
#[test]
#[ignore = "takes many minutes; a short form runs with the others"]
fn a_hundred_megabytes_through_each_stream_and_a_million_lines() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(MANIFEST)?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/desk", "--timeout=120s"])?;
    for kubectl in ["kubectl-1.32", "kubectl-1.20"] {
        streams::all(&lab, kubectl, 100 << 20)?;
    }
    streams::left_alone(&lab)?;
    streams::channels(&lab)?;
    streams::lines(&lab, 1_000_000, Duration::from_secs(600))?;
    streams::attached(&lab, 5_000_000)?;
    lab.kubectl(&["delete", "pod", "desk", "--now", "--timeout=60s"])?;
    lab.stop()
}

/// Eleven minutes: `cargo nextest run -p e2e --test contract --run-ignored only idle`.
#[test]
#[ignore = "takes eleven minutes, in which nothing happens"]
fn a_hundred_idle_commands_stay_open_for_ten_minutes() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    lab.apply(MANIFEST)?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/desk", "--timeout=120s"])?;
    streams::idle(&lab, 100, Duration::from_secs(600))?;
    lab.kubectl(&["delete", "pod", "desk", "--now", "--timeout=60s"])?;
    lab.stop()
}

/// Twenty megabytes of an engine in Go start several times: `cargo nextest run -p e2e --test contract --run-ignored only engine`.
#[test]
#[ignore = "takes more than a minute under emulation; `BUILD` does the same by hand and runs always"]
fn an_engine_runs_in_a_privileged_pod() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    engine::all(&lab)?;
    lab.stop()
}

fn in_container(lab: &Lab, container: &str, script: &str) -> Result<String> {
    lab.kubectl(&["exec", "desk", "-c", container, "--", "sh", "-c", script])
}

fn names(lab: &Lab) -> Result<()> {
    let ip = lab.kubectl(&["get", "pod", "desk", "-o", "jsonpath={.status.podIP}"])?;
    let full = "office.house.default.svc.cluster.local";
    let script = "hostname; echo $HOSTNAME; tail -n 4 /etc/hosts; cat /etc/resolv.conf";
    let expected = format!(
        "{full}\n{full}\n{ip}\t{full}\toffice\n\n# Entries added by HostAliases.\n192.0.2.7\tprinter\tcopier\n\
         search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:2\n"
    );
    let found = in_container(lab, "main", script)?;
    ensure!(found == expected, "names inside:\n{found}");
    Ok(())
}

/// Filters of system calls, pipes that break, and what is refused before a VM is made.
fn security(lab: &Lab) -> Result<()> {
    let script =
        "grep Seccomp: /proc/self/status; yes | head -n 1; unshare -m true 2>/dev/null || echo refused";
    let found = in_container(lab, "main", script)?;
    ensure!(found == "Seccomp:\t2\ny\nrefused\n", "in the container: {found}");
    let found = in_container(lab, "watcher", "grep Seccomp: /proc/self/status")?;
    ensure!(found == "Seccomp:\t0\n", "without a profile: {found}");
    lab.apply(UNSAFE)?;
    lab.wait_event(
        "unsafe",
        "SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
    )?;
    wait_for("its status", LIMIT, || {
        let listed = lab.kubectl(&["get", "pod", "unsafe", "--no-headers"])?;
        ensure!(listed.contains(" SysctlForbidden "), "{listed}");
        Ok(())
    })?;
    lab.kubectl(&["delete", "pod", "unsafe"])?;
    Ok(())
}

const UNSAFE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: unsafe}
spec:
  securityContext: {sysctls: [{name: kernel.msgmax, value: "65536"}]}
  containers: [{name: c, image: busybox:1.35}]
"#;

/// A container whose image is changed is another one; its neighbours go on.
fn another_image(lab: &Lab) -> Result<()> {
    lab.kubectl(&["set", "image", "pod/desk", "watcher=redis:7"])?;
    wait_for("the other image", LIMIT, || {
        let version = in_container(lab, "watcher", "redis-cli --version")?;
        ensure!(version.starts_with("redis-cli"), "{version}");
        Ok(())
    })?;
    let pod = lab.wait_pod("desk", "said to have it", |pod| {
        container(pod, "watcher")["restartCount"] == 1
    })?;
    ensure!(container(&pod, "main")["restartCount"] == 0, "{}", pod["status"]);
    lab.wait_event("desk", "Container watcher definition changed, will be restarted")
}

fn terminals(lab: &Lab) -> Result<()> {
    let mut shell = Session::start(lab, "stty cols 101 rows 33; kubectl exec -it desk -c main -- sh")?;
    shell.type_in("tty; test -t 0 && echo is-$((40+2))\r")?;
    shell.wait_for("/dev/pts/0")?;
    shell.wait_for("is-42")?;
    // The size has a way of its own beside what is typed. (It does not stand in what is echoed.)
    shell.type_in("until stty size | grep \"$((30+3)) 101\"; do sleep 0.2; done\r")?;
    shell.wait_for("33 101")?;
    // The foreground process gets Ctrl-C, and the shell goes on.
    shell.type_in("echo begun-$((1+1)); sleep 1000\r")?;
    shell.wait_for("begun-2")?;
    shell.type_in("\u{3}")?;
    shell.type_in("echo ended with $?; exit 7\r")?;
    shell.wait_for("ended with 130")?;
    ensure!(
        !shell.text().contains("job control turned off"),
        "{}",
        shell.text()
    );
    let ends = ["exec", "desk", "-c", "main", "--", "sh", "-c", "exit 42"];
    let ended = lab.output("kubectl", &ends)?;
    let words = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.code() == Some(42) && words.contains("command terminated with exit code 42"),
        "{ended:?}"
    );
    // `tty: true`, and attach to it.
    let mut attached = Session::start(lab, "kubectl attach -it desk -c term")?;
    attached.wait_for("If you don't see a command prompt")?;
    attached.type_in("tty; test -c /dev/console && echo console-$((1+1))\r")?;
    attached.wait_for("/dev/pts/0")?;
    attached.wait_for("console-2")?;
    Ok(())
}

fn debug(lab: &mut Lab) -> Result<()> {
    // The image is none of the Pod's: its disk is plugged in.
    let command = "tr '\\0' ' ' < /proc/1/cmdline; echo; sleep 1000000";
    let debug = [
        "debug",
        "desk",
        "--image=redis:7",
        "--target=main",
        "--container=doctor",
    ];
    lab.kubectl(&[&debug[..], &["--", "sh", "-c", command]].concat())?;
    let state = "jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}/\
                 {.status.ephemeralContainerStatuses[0].restartCount}";
    let doctor = |lab: &Lab| lab.kubectl(&["get", "pod", "desk", "-o", state]);
    wait_for("the ephemeral container", LIMIT, || {
        let state = doctor(lab)?;
        ensure!(
            state.ends_with("Z/0"),
            "{}",
            lab.kubectl(&["describe", "pod", "desk"])?
        );
        let seen = lab.kubectl(&["logs", "desk", "-c", "doctor"])?;
        ensure!(seen.contains("echo ready to serve"), "process 1 is: {seen}");
        Ok(())
    })?;
    wait_for("the event of its start", LIMIT, || {
        let each = "jsonpath={range .items[*]}{.involvedObject.fieldPath} {.message}{\"\\n\"}{end}";
        let events = lab.kubectl(&["get", "events", "-o", each])?;
        let started = "spec.ephemeralContainers{doctor} Container started";
        ensure!(events.lines().any(|event| event == started), "{events}");
        Ok(())
    })?;
    let mut shell = Session::start(
        lab,
        "kubectl debug -it desk --image=busybox:1.35 --container=nurse",
    )?;
    // What it has printed before anybody was attached may be gone, the first prompt among it; what is typed is not.
    shell.type_in("tty; hostname\r")?;
    shell.wait_for("/dev/pts/0")?;
    shell.wait_for("office.house")?;
    shell.wait_for("# ")?;

    // The next agent finds everything as it was.
    let before = doctor(lab)?;
    lab.kill_supervisor()?;
    lab.start_supervisor()?;
    wait_for("the ephemeral container after the agent's restart", LIMIT, || {
        let version = in_container(lab, "doctor", "redis-cli --version")?;
        ensure!(version.starts_with("redis-cli"), "{version}");
        Ok(())
    })?;
    ensure!(doctor(lab)? == before, "it was restarted: {}", doctor(lab)?);

    // A copy, and the node itself, with the logs of its Pods where collectors look for them.
    lab.kubectl(&[
        "debug",
        "desk",
        "--copy-to=copy",
        "--container=main",
        "--image=busybox:1.35",
        "--",
        "sleep",
        "1000000",
    ])?;
    let node = lab.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])?;
    let script = "ls /host/var/log/containers; cat /host/var/log/pods/default_desk_*/main/0.log; touch /host/var/log/pods/x || echo refused; sleep 1000000";
    let told = lab.kubectl(&[
        "debug",
        &format!("node/{node}"),
        "--image=busybox:1.35",
        "--",
        "sh",
        "-c",
        script,
    ])?;
    let name = told
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger-"));
    let name = name.with_context(|| format!("kubectl printed: {told}"))?;
    lab.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/copy",
        &format!("pod/{name}"),
        "--timeout=120s",
    ])?;
    let processes = ["exec", name, "--", "cat", "/proc/1/comm"];
    ensure!(
        lab.kubectl(&processes)? == "init\n",
        "hostPID shows others than the VM's processes"
    );
    wait_for("logs in the node's file system", LIMIT, || {
        let seen = lab.kubectl(&["logs", name])?;
        for wanted in ["desk_default_main-", "stdout F ready to serve", "refused"] {
            ensure!(seen.contains(wanted), "`{wanted}` is not in: {seen}");
        }
        Ok(())
    })?;
    lab.kubectl(&["delete", "pod", "copy", name, "--now", "--timeout=60s"])?;
    Ok(())
}

fn inspect(lab: &Lab) -> Result<()> {
    let text = lab.run_podvisor(&["pod", "inspect", "desk", "-o", "json"])?;
    let found: serde_json::Value = serde_json::from_str(&text)?;
    let disks = found["disks"].as_array().map(Vec::len);
    ensure!(
        disks == Some(3),
        "a writable disk and two images are expected: {text}"
    );
    ensure!(
        found["vm"]["pid"].is_u64() && found["guest"]["channel"] == "open",
        "{text}"
    );
    let phases = found["start"].as_array().into_iter().flatten();
    let phases: Vec<_> = phases.filter_map(|phase| phase["phase"].as_str()).collect();
    ensure!(
        phases.contains(&"VM process") && phases.contains(&"guest kernel and agent"),
        "{text}"
    );
    let text = lab.run_podvisor(&["pod", "inspect", "desk"])?;
    ensure!(
        text.contains("image of doctor, read-only") || text.contains("doctor"),
        "{text}"
    );
    Ok(())
}

/// A command at a terminal of its own, as a person has it; it ends with the value.
struct Session {
    child: Child,
    text: Arc<Mutex<String>>,
}

impl Session {
    fn start(lab: &Lab, command: &str) -> Result<Self> {
        let mut child = lab
            .command("script")
            .args(["--quiet", "--flush", "--command", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("script (apt-get install bsdutils)")?;
        let mut output = child.stdout.take().context("no output")?;
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                let new = String::from_utf8_lossy(&buffer[..length]).replace('\r', "");
                if let Ok(mut text) = written.lock() {
                    text.push_str(&new);
                }
            }
        });
        Ok(Self { child, text })
    }

    fn text(&self) -> String {
        self.text.lock().map(|text| text.clone()).unwrap_or_default()
    }

    fn type_in(&mut self, keys: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no input")?;
        input.write_all(keys.as_bytes())?;
        Ok(input.flush()?)
    }

    fn wait_for(&self, wanted: &str) -> Result<()> {
        wait_for(&format!("`{wanted}` at the terminal"), LIMIT, || {
            let text = self.text();
            ensure!(text.contains(wanted), "it shows:\n{text}");
            Ok(())
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
