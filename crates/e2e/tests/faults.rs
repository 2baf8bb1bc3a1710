//! Things that go wrong under real Pod VMs, each with the status and the event that Kubernetes gives it, and nothing left
//! behind: ends of containers and VMs, agents that die in every state, power cuts, full disks, deletions at any moment.
//!
//! Faults that do not disturb each other share a Lab and happen at one time: most of a test is emulated booting.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::pods::{LIMIT, container};
use e2e::{Fault, FaultyRegistry, Lab, LabOptions, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

#[path = "faults/probes.rs"]
mod probes;

/// How the processes of a Pod's containers and VM may end.
const ENDS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: calm, image: busybox, command: [sleep, '1000000'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 32Mi}}}
  - {name: killed, image: busybox, command: [sleep, '777777'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 16Mi}}}
  - name: greedy
    image: busybox
    command: [sh, -c, 'while [ ! -e /go ]; do sleep 1; done; tail /dev/zero; sleep 1000000']
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: unlimited}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: calm, image: busybox, command: [sleep, '1000000']}
  - name: greedy
    image: busybox
    command: [sh, -c, 'while [ ! -e /go ]; do sleep 1; done; tail /dev/zero; sleep 1000000']
---
apiVersion: v1
kind: Pod
metadata: {name: panics}
spec:
  hostPID: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    securityContext: {privileged: true}
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, command: [sleep, '1000000'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}}
"#;

/// Last state of a container: exit code, reason, restarts.
fn last(pod: &Value, name: &str) -> (i64, String, i64) {
    let status = container(pod, name);
    let ended = &status["lastState"]["terminated"];
    (
        ended["exitCode"].as_i64().unwrap_or(-1),
        ended["reason"].as_str().unwrap_or_default().to_owned(),
        status["restartCount"].as_i64().unwrap_or(-1),
    )
}

fn runs_again(pod: &Value, name: &str, reason: &str) -> bool {
    container(pod, name)["state"]["running"].is_object() && last(pod, name) == (137, reason.to_owned(), 1)
}

/// Whether the agent has called the guest of a Pod's VM, which need not answer for minutes then.
fn is_called(lab: &Lab, pod: &Value, process: i32) -> Result<bool> {
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
    let socket = format!("{uid}/channel.sock");
    // A connection is listed in the namespace of either side. The state stands before the inode and the path; 01 is a listener's.
    let is_open = |line: &str| line.ends_with(&socket) && line.split_whitespace().nth(5) != Some("01");
    let agent = i32::try_from(lab.supervisor_id().context("an agent")?)?;
    for side in [agent, process] {
        let sockets = fs::read_to_string(format!("/proc/{side}/net/unix"))?;
        if sockets.lines().any(is_open) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to {pid}"))
}

#[test]
fn ends_are_told_apart() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(ENDS)?;
    let pods = ["ends", "unlimited", "panics", "once"];
    let mut vms = Vec::new();
    for pod in pods {
        vms.push(lab.vm_process(&lab.wait_ready(pod)?)?);
    }

    // They share processes below one that is nobody's, with nothing of the VM in sight.
    let seen = lab.script(
        "ends",
        "echo $(tr '\\0' ' ' < /proc/1/cmdline) $(grep Uid: /proc/1/status)
         (sleep 0 &) ; left=?; n=0; while [ \"$left\" ] && [ $n -lt 100 ]; do
           sleep 0.5; n=$((n+1)); left=$(grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null); done; echo -n \"$left\"; ls /proc/1/root 2>&1 | grep -o 'ermission denied'
         for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -o '^sleep 777777'; done; true",
    )?;
    ensure!(
        seen.trim() == "/pause Uid: 65535 65535 65535 65535\nermission denied\nsleep 777777",
        "{seen}"
    );

    // A process is killed; another takes more than its container may; a third more than there is.
    lab.script(
        "ends",
        "for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline)\" = 'sleep 777777 ' ] && kill -9 ${p#/proc/}; done; true",
    )?;
    for pod in ["ends", "unlimited"] {
        lab.kubectl(&["exec", pod, "-c", "greedy", "--", "touch", "/go"])?;
    }
    // The image goes while Pods run from it; the VM that ends now needs it again.
    remove_images(&lab)?;
    signal(vms[3], Signal::SIGKILL)?;
    // The guest's kernel ends with this command, and the command's answer with it.
    let _ = lab.script("panics", "echo c > /proc/sysrq-trigger");

    let pod = lab.wait_pod("ends", "through both ends", |pod| {
        runs_again(pod, "killed", "Error") && runs_again(pod, "greedy", "OOMKilled")
    })?;
    ensure!(container(&pod, "calm")["restartCount"] == 0, "{pod}");
    ensure!(lab.vm_process(&pod)? == vms[0], "its VM is another one");

    let pod = lab.wait_pod("unlimited", "out of memory", |pod| {
        runs_again(pod, "greedy", "OOMKilled")
    })?;
    ensure!(container(&pod, "calm")["restartCount"] == 0, "{pod}");
    ensure!(lab.vm_process(&pod)? == vms[1], "its VM is another one");

    let pod = lab.wait_pod("panics", "in another VM", |pod| runs_again(pod, "main", "Error"))?;
    let words = "the kernel of its VM panicked: sysrq triggered crash";
    ensure!(
        container(&pod, "main")["lastState"]["terminated"]["message"] == words,
        "{pod}"
    );
    lab.wait_event(
        "panics",
        "SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
    )?;
    lab.wait_event("panics", &format!("VmEnded: {words}"))?;
    lab.wait_event("panics", "Pulled: Successfully pulled image \"busybox\"")?;
    ensure!(lab.vm_process(&pod)? != vms[2]);

    let pod = lab.wait_pod("once", "failed", |pod| pod["status"]["phase"] == "Failed")?;
    let ended = &container(&pod, "main")["state"]["terminated"];
    ensure!(ended["exitCode"] == 137 && ended["reason"] == "Error", "{ended}");
    ensure!(
        ended["message"]
            .as_str()
            .is_some_and(|words| words.starts_with("its VM ended")),
        "{ended}"
    );
    lab.leaves_nothing(&before)?;
    lab.stop()
}

fn has_failed(pod: &Value, reason: &str) -> bool {
    pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == reason
}

/// As somebody does who makes room by hand.
fn remove_images(lab: &Lab) -> Result<()> {
    for file in fs::read_dir(lab.data_dir().join("host/images/disks"))? {
        fs::remove_file(file?.path())?;
    }
    Ok(())
}

/// Programs of the host that stand still when they are told to, so that an agent can be met in the middle of its work.
struct Holds {
    directory: PathBuf,
}

impl Holds {
    /// Puts one in front of each program on the Lab's path. Held ones fail when the agent dies, as they would with it.
    fn install(lab: &Lab, programs: &[(&str, &str)]) -> Result<Self> {
        let directory = lab.directory().join("bin");
        for (program, when) in programs {
            let real = Command::new("sh")
                .args(["-c", &format!("command -v {program}")])
                .output()?;
            let real = String::from_utf8(real.stdout)?;
            let hold = directory.join(format!("{program}.hold"));
            let hold = hold.display();
            let script = format!(
                "#!/bin/sh\nagent=$PPID\n\
                 case \"$*\" in {when})\n  while [ -e {hold} ]; do\n    : > {hold}.met\n    \
                 kill -0 $agent 2> /dev/null || exit 1\n    sleep 0.1\n  done;;\nesac\nexec {} \"$@\"\n",
                real.trim()
            );
            let path = directory.join(program);
            fs::write(&path, script)?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { directory })
    }

    fn hold(&self, program: &str) -> Result<()> {
        Ok(fs::write(self.directory.join(format!("{program}.hold")), "")?)
    }

    fn wait(&self, program: &str) -> Result<()> {
        let met = self.directory.join(format!("{program}.hold.met"));
        wait_for(&format!("{program} to be called"), LIMIT, || {
            ensure!(met.exists(), "it was not");
            Ok(())
        })
    }

    fn release(&self, program: &str) -> Result<()> {
        Ok(fs::remove_file(self.directory.join(format!("{program}.hold")))?)
    }
}

/// One Pod for each state of the VM's state machine.
fn states(name: &str) -> String {
    let spec = match name {
        "serves" => {
            "containers:
  - name: main
    image: busybox
    securityContext: {capabilities: {add: [SYS_TIME]}}
    command: [sh, -c, 'cp -r /config /www; mkdir /www/cgi-bin; echo -e \"#!/bin/sh\\necho; nslookup kubernetes.default.svc.cluster.local\" >
      /www/cgi-bin/name; chmod +x /www/cgi-bin/name; i=0; (while sleep 1; do echo tick $((i=i+1)); done) & exec httpd -f -p 80 -h /www']
    readinessProbe: {httpGet: {port: 80, path: /text}, periodSeconds: 1, timeoutSeconds: 10}
    livenessProbe: {exec: {command: ['true']}, periodSeconds: 1, timeoutSeconds: 10}
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}
    volumeMounts: [{name: config, mountPath: /config}]
  volumes: [{name: config, configMap: {name: config}}]"
        }
        "done" => {
            "restartPolicy: Never
  containers:
  - {name: main, image: busybox, command: ['true'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}}"
        }
        "starts" => {
            "restartPolicy: Never
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, 'echo once >> /shared/starts; while [ ! -e /shared/go ]; do sleep 1; done']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'cat /shared/starts; sleep 1000000']
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]"
        }
        "ending" => {
            "terminationGracePeriodSeconds: 600
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'trap \"\" TERM; while [ ! -e /go ]; do sleep 1; done; echo farewell']
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}"
        }
        "late" => {
            "terminationGracePeriodSeconds: 30
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'trap \"\" TERM; sleep 1000000']
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}"
        }
        "evicted" => {
            "containers:
  - name: main
    image: busybox
    command: [sleep, '1000000']
    resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}
    volumeMounts: [{name: cache, mountPath: /cache}]
  volumes: [{name: cache, emptyDir: {sizeLimit: 1Mi}}]"
        }
        "pulls" => {
            "containers:
  - {name: main, image: 'faulty.test/library/busybox:1.35', command: [sleep, '1000000'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}}"
        }
        _ => {
            "containers:
  - {name: main, image: busybox, command: [sleep, '1000000'], resources: {requests: {cpu: 10m}, limits: {cpu: '1', memory: 64Mi}}}"
        }
    };
    let grace = match name {
        "ending" | "late" => "",
        _ => "terminationGracePeriodSeconds: 1\n  ",
    };
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {grace}{spec}\n")
}

#[test]
fn an_agent_may_die_in_every_state() -> Result<()> {
    let mut scene = Scene::start()?;
    scene.reach_every_state()?;
    scene.die(Duration::from_secs(3))?;
    scene.everything_goes_on()?;
    scene.lose_power()?;
    scene.what_should_run_is_back()?;
    scene.lab.leaves_nothing(&scene.before)?;
    scene.lab.stop()
}

#[test]
#[ignore = "takes six minutes, five of which are waiting; the short form runs always"]
fn an_agent_may_be_away_for_five_minutes() -> Result<()> {
    let mut scene = Scene::start()?;
    scene.reach_every_state()?;
    scene.die(Duration::from_secs(300))?;
    scene.everything_goes_on()?;
    scene.lab.leaves_nothing(&scene.before)?;
    scene.lab.stop()
}

struct Scene {
    lab: Lab,
    holds: Holds,
    registry: FaultyRegistry,
    before: e2e::Traces,
    boot_id: String,
    starting: i32,
}

const PROXY: u16 = 5001;

/// A Lab whose images of `faulty.test` come through a [`FaultyRegistry`], to be started at [`PROXY`].
fn beside_a_faulty_registry() -> LabOptions {
    LabOptions {
        registry_mirror_of: Some("docker.io".to_owned()),
        arguments: vec![
            "--registry-mirror".to_owned(),
            format!("faulty.test=http://127.0.0.1:{PROXY}"),
        ],
        ..LabOptions::default()
    }
}

impl Scene {
    fn start() -> Result<Self> {
        let lab = Lab::start(beside_a_faulty_registry())?;
        let registry = FaultyRegistry::start(&lab, PROXY)?;
        let holds = Holds::install(&lab, &[("mkfs.ext4", "*"), ("ip", "*-batch*")])?;
        let before = lab.untouched()?;
        Ok(Self {
            lab,
            holds,
            registry,
            before,
            boot_id: String::new(),
            starting: 0,
        })
    }

    fn make(&self, name: &str) -> Result<()> {
        self.lab.apply(&states(name)).map(drop)
    }

    /// One Pod stands in each state when this returns.
    fn reach_every_state(&mut self) -> Result<()> {
        let lab = &self.lab;
        // Pulling: a layer stands still.
        self.registry.set(Fault::Held);
        self.make("pulls")?;
        wait_for("a layer that stands still", LIMIT, || {
            ensure!(self.registry.held() > 0, "nothing is held");
            Ok(())
        })?;
        lab.kubectl(&["create", "configmap", "config", "--from-literal=text=first"])?;
        for pod in ["serves", "done", "starts", "ending", "goes", "late", "evicted"] {
            self.make(pod)?;
        }
        lab.wait_pod("done", "succeeded", |pod| pod["status"]["phase"] == "Succeeded")?;
        for pod in ["serves", "ending", "goes", "late", "evicted"] {
            lab.wait_ready(pod)?;
        }
        lab.wait_pod("starts", "in its init container", |pod| {
            container(pod, "first")["state"]["running"].is_object()
        })?;
        self.boot_id = self.boot_id_of("serves")?;
        // Booting: QEMU has begun and is stopped before its guest answers.
        self.make("boots")?;
        self.starting = wait_for("a QEMU that begins", LIMIT, || {
            let pod = lab.pod("boots")?;
            let process = lab.vm_process(&pod)?;
            // One that does not even open its sockets is given up sooner than all that follows may take.
            let runs = container(&pod, "main")["state"]["running"].is_object();
            ensure!(
                runs || is_called(lab, &pod, process)?,
                "nobody waits for its guest yet"
            );
            Ok(process)
        })?;
        signal(self.starting, Signal::SIGSTOP)?;
        // Making disks.
        self.holds.hold("mkfs.ext4")?;
        self.make("disks")?;
        self.holds.wait("mkfs.ext4")?;
        // Removing: the tap is about to go. And terminating: within the grace period.
        self.holds.hold("ip")?;
        lab.kubectl(&["delete", "pod", "goes", "ending", "--wait=false"])?;
        self.holds.wait("ip")?;
        // Ended by the host's own verdict: one within its grace period, one whose VM is about to go.
        lab.script(
            "evicted",
            "dd if=/dev/zero of=/cache/big bs=1M count=2 2> /dev/null",
        )?;
        lab.wait_pod("evicted", "evicted", |pod| has_failed(pod, "Evicted"))?;
        let past = r#"{"spec": {"activeDeadlineSeconds": 1}}"#;
        lab.kubectl(&["patch", "pod", "late", "-p", past])?;
        lab.wait_event("late", "DeadlineExceeded: ")?;
        ensure!(lab.pod("late")?["status"]["phase"] == "Running");
        lab.wait_event("ending", "Killing: Stopping container main")
    }

    fn boot_id_of(&self, pod: &str) -> Result<String> {
        self.lab.script(pod, "cat /proc/sys/kernel/random/boot_id")
    }

    fn page(&self) -> Result<String> {
        let pod = self.lab.pod("serves")?;
        self.page_at(pod["status"]["podIP"].as_str().context("an address")?, "text")
    }

    fn page_at(&self, ip: &str, page: &str) -> Result<String> {
        self.lab.run(
            "curl",
            &["-sSf", "--max-time", "30", &format!("http://{ip}/{page}")],
        )
    }

    /// The agent is killed, is away for a while and comes back. VMs serve all the time.
    fn die(&mut self, away: Duration) -> Result<()> {
        let pod = self.lab.pod("serves")?;
        let ip = pod["status"]["podIP"].as_str().context("an address")?.to_owned();
        // Meanwhile the guest's clock goes wrong.
        self.lab.script("serves", "date -s @$(($(date +%s) - 3600))")?;
        self.lab.kill_supervisor()?;
        // Its helpers fail with it, the registry has lost its client, and the guest that was booting boots on.
        self.holds.release("ip")?;
        self.holds.release("mkfs.ext4")?;
        self.registry.set(Fault::None);
        signal(self.starting, Signal::SIGCONT)?;
        let end = Instant::now() + away;
        let mut answers = 0;
        while Instant::now() < end || answers < 3 {
            ensure!(self.page_at(&ip, "text")? == "first");
            self.names_are_answered(&ip)?;
            answers += 1;
        }
        let earlier = self.lab.dns_process()?;
        self.lab.start_supervisor()?;
        // The new agent has somebody of its own answer, and again when that one fails.
        // Until it does the earlier one does, and for a moment both are there.
        let present = wait_for("a new process for cluster DNS", LIMIT, || {
            let present = self.lab.dns_process()?;
            ensure!(present != earlier, "process {earlier} answers still");
            Ok(present)
        })?;
        self.names_are_answered(&ip)?;
        signal(present, Signal::SIGKILL)?;
        wait_for("another process that answers", LIMIT, || {
            ensure!(self.lab.dns_process()? != present, "it has ended");
            self.names_are_answered(&ip)
        })
    }

    /// The Pod that serves looks up a name of the cluster.
    fn names_are_answered(&self, ip: &str) -> Result<()> {
        let said = self.page_at(ip, "cgi-bin/name")?;
        ensure!(said.contains("10.96.0.1\n"), "{said}");
        Ok(())
    }

    fn everything_goes_on(&mut self) -> Result<()> {
        let lab = &self.lab;
        // Running: the same VM, no restart, probes and logs go on, nothing of the log is lost or twice.
        let pod = lab.wait_ready("serves")?;
        ensure!(container(&pod, "main")["restartCount"] == 0, "{pod}");
        // That they run was said before; the agent that is there now has to find them first.
        for (pod, container) in [("serves", "main"), ("starts", "first"), ("ending", "main")] {
            wait_for("the agent to serve its Pods again", LIMIT, || {
                lab.kubectl(&["exec", pod, "-c", container, "--", "true"])
            })?;
        }
        ensure!(
            self.boot_id_of("serves")? == self.boot_id,
            "serves has another VM"
        );
        self.log_has_no_gap()?;
        wait_for("the guest's clock to be right", LIMIT, || {
            let told: u64 = lab.script("serves", "date +%s")?.trim().parse()?;
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            ensure!(
                told.abs_diff(now) < 10,
                "its clock tells {told}, the host's {now}"
            );
            Ok(())
        })?;
        lab.script("serves", "mv /www/text /www/hidden")?;
        let ready = |wanted: &'static str| {
            move |pod: &Value| {
                let conditions = pod["status"]["conditions"].as_array();
                conditions.is_some_and(|all| {
                    all.iter()
                        .any(|one| one["type"] == "Ready" && one["status"] == wanted)
                })
            }
        };
        lab.wait_pod("serves", "not ready", ready("False"))?;
        lab.script("serves", "mv /www/hidden /www/text")?;
        lab.wait_pod("serves", "ready again", ready("True"))?;
        // Starting: the init container goes on and is not begun again.
        lab.kubectl(&["exec", "starts", "-c", "first", "--", "touch", "/shared/go"])?;
        let pod = lab.wait_ready("starts")?;
        ensure!(container(&pod, "first")["restartCount"] == 0, "{pod}");
        wait_for("what the first container has left", LIMIT, || {
            let said = lab.kubectl(&["logs", "starts"])?;
            ensure!(said == "once\n", "{said:?}");
            Ok(())
        })?;
        // Terminating: still within its grace, and it ends in peace.
        lab.kubectl(&["exec", "ending", "--", "touch", "/go"])?;
        self.is_gone("ending")?;
        // Removing.
        self.is_gone("goes")?;
        // Ended by a verdict: that holds, and the grace period ends when it would have ended.
        for (name, reason) in [("late", "DeadlineExceeded"), ("evicted", "Evicted")] {
            let pod = lab.wait_pod(name, "failed", |pod| has_failed(pod, reason))?;
            ensure!(container(&pod, "main")["restartCount"] == 0, "{pod}");
            wait_for("the end of its VM", LIMIT, || {
                ensure!(lab.vm_process(&pod).is_err(), "{name} has one still");
                Ok(())
            })?;
        }
        // Pulling, making disks, booting: begun anew, and no container was there to be restarted.
        for name in ["pulls", "disks", "boots"] {
            let pod = lab.wait_ready(name)?;
            ensure!(container(&pod, "main")["restartCount"] == 0, "{pod}");
        }
        // Ended.
        ensure!(lab.pod("done")?["status"]["phase"] == "Succeeded");
        Ok(())
    }

    /// Everything ends at once, and what does not outlast the machine's end is gone: processes, the run directory,
    /// devices, rules, routes, addresses, cgroups.
    fn lose_power(&mut self) -> Result<()> {
        self.lab.kubectl(&[
            "delete",
            "pod",
            "pulls",
            "disks",
            "boots",
            "late",
            "evicted",
            "--timeout=60s",
        ])?;
        self.lab.kill_supervisor()?;
        for machine in self.lab.machines()? {
            signal(machine.pid, Signal::SIGKILL)?;
        }
        signal(self.lab.dns_process()?, Signal::SIGKILL)?;
        wait_for("the end of all VMs", LIMIT, || {
            let left = self.lab.machines()?;
            ensure!(left.is_empty(), "{left:?}");
            Ok(())
        })?;
        let traces = self.lab.traces()?;
        for device in &traces.devices {
            self.lab.run("ip", &["link", "delete", device])?;
        }
        self.lab.run("nft", &["flush", "ruleset"])?;
        self.lab.run("ip", &["route", "flush", "proto", "112"])?;
        self.lab.run("ip", &["address", "flush", "dev", "lo"])?;
        self.lab
            .run("ip", &["address", "add", "127.0.0.1/8", "dev", "lo"])?;
        for cgroup in traces.cgroups.iter().rev() {
            wait_for("an empty cgroup", LIMIT, || Ok(fs::remove_dir(cgroup)?))?;
        }
        fs::remove_dir_all(self.lab.run_dir())?;
        self.lab.start_supervisor()
    }

    fn what_should_run_is_back(&self) -> Result<()> {
        let lab = &self.lab;
        // Ready it was before, and is said to be until the next agent has looked.
        let pod = lab.wait_pod("serves", "back", |pod| {
            let main = container(pod, "main");
            main["ready"] == true && main["restartCount"].as_i64() > Some(0)
        })?;
        ensure!(
            last(&pod, "main") == (255, "Unknown".to_owned(), 1),
            "{}",
            pod["status"]
        );
        ensure!(self.page()? == "first");
        // What had ended stays ended; what was never to run twice has failed.
        ensure!(lab.pod("done")?["status"]["phase"] == "Succeeded");
        let pod = lab.wait_pod("starts", "failed", |pod| pod["status"]["phase"] == "Failed")?;
        let ended = &container(&pod, "main")["state"]["terminated"];
        ensure!(
            ended["exitCode"] == 255 && ended["reason"] == "Unknown",
            "{ended}"
        );
        let vms = lab.machines()?.len();
        ensure!(vms == 1, "{vms} VMs run");
        Ok(())
    }

    fn log_has_no_gap(&self) -> Result<()> {
        let text = self.lab.kubectl(&["logs", "serves"])?;
        let ticks: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("tick ")?.parse().ok())
            .collect();
        let expected: Vec<u64> = (1..=ticks.len() as u64).collect();
        ensure!(!ticks.is_empty() && ticks == expected, "ticks: {ticks:?}");
        Ok(())
    }

    fn is_gone(&self, name: &str) -> Result<()> {
        self.lab
            .kubectl(&["wait", "--for=delete", &format!("pod/{name}"), "--timeout=180s"])
            .map(drop)
    }
}

/// How far the start of a Pod has come when it is deleted.
const STAGES: [&str; 8] = [
    "created",
    "run directory",
    "disk",
    "process",
    "address",
    "sandbox",
    "running",
    "ready",
];

#[test]
fn deletion_meets_every_stage_of_a_start() -> Result<()> {
    create_and_delete(STAGES.len())
}

#[test]
#[ignore = "fifty starts of one Pod take three minutes; the short form runs always"]
fn fifty_creates_and_deletes_of_one_name() -> Result<()> {
    create_and_delete(50)
}

fn create_and_delete(times: usize) -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    for (number, stage) in STAGES.iter().cycle().take(times).enumerate() {
        lab.apply(&states("again"))?;
        let uid = lab.kubectl(&["get", "pod", "again", "-o", "jsonpath={.metadata.uid}"])?;
        reach(&lab, stage, &uid).with_context(|| format!("{stage} of Pod {number}"))?;
        lab.kubectl(&["delete", "pod", "again", "--timeout=60s"])?;
        // At the moment the object is gone nothing is left, but for the cgroups that the kernel takes away in its time.
        wait_for(
            &format!("nothing of a Pod deleted at the stage `{stage}`"),
            LIMIT,
            || {
                let after = lab.traces()?;
                ensure!(after == before, "left behind:\n{}", before.difference(&after));
                Ok(())
            },
        )?;
        for directory in ["disks", "logs/pods", "logs/containers"] {
            let left = fs::read_dir(lab.data_dir().join("host").join(directory)).map_or(0, Iterator::count);
            ensure!(left == 0, "{directory} of a Pod deleted at the stage `{stage}`");
        }
    }
    lab.stop()
}

fn reach(lab: &Lab, stage: &str, uid: &str) -> Result<()> {
    let vm = lab.run_dir().join("vms").join(uid);
    let path = match stage {
        "created" => return Ok(()),
        "run directory" => vm,
        "disk" => lab.data_dir().join("host/disks").join(uid),
        "process" => vm.join("vm.json"),
        _ => {
            let reached = |pod: &Value| {
                let condition = |name: &str| {
                    let conditions = pod["status"]["conditions"].as_array();
                    conditions.is_some_and(|all| {
                        all.iter()
                            .any(|one| one["type"] == name && one["status"] == "True")
                    })
                };
                match stage {
                    "address" => pod["status"]["podIP"].is_string(),
                    "sandbox" => condition("PodReadyToStartContainers"),
                    "running" => pod["status"]["phase"] == "Running",
                    _ => condition("Ready"),
                }
            };
            return lab.wait_pod("again", stage, reached).map(drop);
        }
    };
    wait_for(stage, LIMIT, || {
        ensure!(path.exists(), "{} is not there", path.display());
        Ok(())
    })
}

/// Room for an image and two disks, and for little else.
const SMALL: &str = "size=32m";

#[test]
fn a_full_disk_is_told_and_relieved() -> Result<()> {
    let mut lab = Lab::start(beside_a_faulty_registry())?;
    let registry = FaultyRegistry::start(&lab, PROXY)?;
    let host = lab.data_dir().join("host");
    lab.stop_supervisor()?;
    let small = Mounted::tmpfs(&host, SMALL)?;
    lab.start_supervisor()?;
    let before = lab.untouched()?;
    lab.apply(&states("writes"))?;
    lab.wait_ready("writes")?;

    // A new image is on its way: a host that is short of room already would take no Pod for it.
    registry.set(Fault::Held);
    lab.kubectl(&[
        "run",
        "new",
        "--image=faulty.test/library/redis:7",
        "--command",
        "--",
        "sleep",
        "1000000",
    ])?;
    wait_for("a layer that stands still", LIMIT, || {
        ensure!(registry.held() > 0, "nothing is held");
        Ok(())
    })?;
    let filler = host.join("filler");
    fill(&filler)?;
    registry.set(Fault::None);

    // It finds no room; the host says that it is short of it, and takes room back as upstream's does.
    lab.wait_event("new", "No space left on device")?;
    lab.wait_event(
        "writes",
        "Evicted: The node was low on resource: ephemeral-storage",
    )?;
    let pressure = "jsonpath={.items[*].status.conditions[?(@.type=='DiskPressure')].status}";
    wait_for("the host to say so", LIMIT, || {
        let status = lab.kubectl(&["get", "nodes", "-o", pressure])?;
        ensure!(status == "True", "DiskPressure: {status}");
        Ok(())
    })?;
    lab.wait_pod("writes", "evicted", |pod| {
        pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "Evicted"
    })?;

    lab.kubectl(&["delete", "pod", "new", "writes", "--timeout=60s"])?;
    fs::remove_file(&filler)?;
    lab.leaves_nothing(&before)?;
    lab.stop_supervisor()?;
    drop(small);
    lab.stop()
}

/// Writes zeros until there is no room.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    let piece = vec![0_u8; 64 << 10];
    loop {
        if let Err(error) = std::io::Write::write_all(&mut file, &piece) {
            ensure!(error.kind() == std::io::ErrorKind::StorageFull, "{error}");
            return Ok(());
        }
    }
}

/// A file system that goes with this value.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &std::path::Path, options: &str) -> Result<Self> {
        let text = at.display().to_string();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs", &text])
            .status()?;
        ensure!(status.success(), "cannot mount a file system at {text}");
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever still uses it lets it go later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "a guest counts as hung after a minute of silence; the rule itself is tested with simulated time"]
fn a_hung_guest_is_replaced() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let before = lab.untouched()?;
    lab.apply(ENDS)?;
    let stopped = lab.vm_process(&lab.wait_ready("once")?)?;
    lab.wait_ready("panics")?;
    // One by its host, one by its own doing: a container that may do everything freezes the first process.
    signal(stopped, Signal::SIGSTOP)?;
    let mut hang = lab.command("kubectl");
    let script = "cd /proc/1/root/sys/fs/cgroup; mkdir ice; (sleep 1; echo 1 > ice/cgroup.freeze) & \
                  echo 1 > ice/cgroup.procs; sleep 1000";
    hang.args(["exec", "panics", "--", "sh", "-c", script]);
    let mut hang = hang
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let words = "its VM no longer answered";
    lab.wait_event("panics", words)?;
    lab.wait_pod("panics", "in another VM", |pod| runs_again(pod, "main", "Error"))?;
    let pod = lab.wait_pod("once", "failed", |pod| pod["status"]["phase"] == "Failed")?;
    ensure!(
        container(&pod, "main")["state"]["terminated"]["message"] == words,
        "{pod}"
    );
    hang.kill()?;
    hang.wait()?;
    lab.leaves_nothing(&before)?;
    lab.stop()
}

/// Says much once it finds a file, and leaves another that tells for how long.
const TALKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command:
    - sh
    - -c
    - now() { cut -d' ' -f1 /proc/uptime | tr -d .; };
      until [ -e /node/go ]; do sleep 0.2; done; since=$(now);
      awk 'BEGIN { for (i = 1; i <= 200000; i++) printf "%0100d\n", i }';
      echo $(($(now) - since)) > /node/draft; mv /node/draft /node/done; exec sleep 1000000
    resources: {requests: {cpu: 100m}, limits: {cpu: '1', memory: 64Mi}}
    volumeMounts: [{name: node, mountPath: /node}]
  volumes: [{name: node, hostPath: {path: /srv/talk, type: DirectoryOrCreate}}]
"#;
/// Lines that it says: twenty megabytes, of which the guest holds no fifth in memory.
const SAID: u64 = 200_000;

#[test]
fn no_line_is_lost_while_the_agent_is_away() -> Result<()> {
    let mut lab = Lab::start(LabOptions::default())?;
    lab.apply(TALKER)?;
    let pod = lab.wait_ready("talker")?;
    let uid = pod["metadata"]["uid"].as_str().context("a uid")?;
    let place = lab.data_dir().join("host/node/srv/talk");
    lab.kill_supervisor()?;
    fs::write(place.join("go"), "")?;
    // It is done though nobody reads: nothing holds it back.
    let took = wait_for("the end of its words", LIMIT, || {
        Ok(fs::read_to_string(place.join("done"))?)
    })?;
    println!("{SAID} lines in {} hundredths of a second", took.trim());
    lab.start_supervisor()?;

    let directory = lab
        .data_dir()
        .join(format!("host/logs/pods/default_talker_{uid}/main"));
    wait_for("all of its words", LIMIT, || {
        let mut files = Vec::new();
        for entry in fs::read_dir(&directory)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // `0.log` is the newest; before it come those that are named by what they hold.
            let order = name.rsplit('.').next().and_then(|number| number.parse().ok());
            files.push((order.unwrap_or(u64::MAX), entry.path()));
        }
        files.sort();
        let mut expected = 1_u64..;
        for (_, file) in files {
            for line in fs::read_to_string(file)?.lines() {
                let number = line.rsplit(' ').next().unwrap_or_default();
                ensure!(
                    number.parse::<u64>().ok() == expected.next(),
                    "out of order: {line}"
                );
            }
        }
        ensure!(
            expected.start == SAID + 1,
            "{} of {SAID} lines",
            expected.start - 1
        );
        Ok(())
    })?;
    lab.kubectl(&["delete", "pod", "talker", "--timeout=60s"])?;
    lab.stop()
}
