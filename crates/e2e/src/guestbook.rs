//! The main job, step by step, as a person would do it: used by the demo and by the end-to-end test.
//!
//! Every step checks what it promises and fails with what it saw.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Lab;
use crate::traces::Traces;
use crate::wait::wait_for;

/// The namespace of the scenario.
pub const NAMESPACE: &str = "demo-app-01";
/// The developer, and one who may only look.
pub const ALICE: &str = "alice@podvisor.local";
/// The one who may only look.
pub const BOB: &str = "bob@podvisor.local";
/// Six Pods under emulation, one kernel each.
const PODS: usize = 6;
/// How long the slowest steps may take on two busy cores under emulation.
const RUNNING_LIMIT: Duration = Duration::from_secs(240);
const QUICK_LIMIT: Duration = Duration::from_secs(120);

/// The scenario in progress.
pub struct Guestbook<'a> {
    lab: &'a Lab,
    state: State,
}

/// What the scenario remembers; outlives the borrow of a Lab that is changed on the way.
#[derive(Debug, Clone, Default)]
pub struct State {
    before: Option<Traces>,
    vip: Option<String>,
}

impl State {
    /// The address of the guestbook's page.
    pub fn vip(&self) -> Result<&str> {
        self.vip.as_deref().context("the page was not used yet")
    }
}

impl<'a> Guestbook<'a> {
    /// Begins the scenario in a Lab.
    pub fn new(lab: &'a Lab) -> Self {
        Self::resumed(lab, State::default())
    }

    /// Goes on where an earlier value of this type was.
    pub fn resumed(lab: &'a Lab, state: State) -> Self {
        Self { lab, state }
    }

    /// What [`Self::resumed`] needs.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// As the operator: a namespace with limits, two people, their grants.
    pub fn prepare_namespace(&self) -> Result<()> {
        let lab = self.lab;
        let podvisor = lab.podvisor().display().to_string();
        let limits = ["--cpu", "4", "--memory", "4Gi", "--storage", "20Gi"];
        lab.run(
            &podvisor,
            &[&["namespace", "create", NAMESPACE][..], &limits].concat(),
        )?;
        for (user, role) in [(ALICE, "edit"), (BOB, "view")] {
            let file = lab.directory().join(user);
            fs::write(&file, password(user))?;
            lab.run(
                &podvisor,
                &[
                    "user",
                    "create",
                    user,
                    "--password-file",
                    &file.display().to_string(),
                ],
            )?;
            lab.run(&podvisor, &["namespace", "grant", NAMESPACE, user, role])?;
        }
        Ok(())
    }

    /// As a developer: sign in with kubectl's plug-in; contexts are listed, one per namespace.
    pub fn sign_in(&self, user: &str) -> Result<String> {
        let server = format!("--server={}", crate::lab::API);
        self.sign_in_by(user, &["podvisor", "login", &server, "-u", user])
    }

    /// The same under the name and with the flags that people bring from vSphere.
    pub fn sign_in_as_vsphere(&self, user: &str) -> Result<String> {
        let server = ["--server", crate::lab::API];
        let name = ["--vsphere-username", user];
        self.sign_in_by(user, &[&["vsphere", "login"][..], &server, &name].concat())
    }

    fn sign_in_by(&self, user: &str, login: &[&str]) -> Result<String> {
        let mut command = self.as_user(user, "kubectl");
        command.args(login).arg("--insecure-skip-tls-verify");
        let text = text_of(command.env("KUBECTL_VSPHERE_PASSWORD", password(user)))?;
        ensure!(
            text.contains("Logged in successfully"),
            "sign-in printed:\n{text}"
        );
        ensure!(
            text.contains(NAMESPACE),
            "sign-in does not list {NAMESPACE}:\n{text}"
        );
        self.kubectl(user, &["config", "use-context", NAMESPACE])?;
        Ok(text)
    }

    /// The guestbook's manifest.
    pub fn manifest() -> PathBuf {
        crate::paths::workspace().join("examples/guestbook/guestbook.yaml")
    }

    /// `kubectl apply` as alice; returns how long it took until all six Pods ran and were ready.
    pub fn apply(&mut self) -> Result<Duration> {
        self.state.before = Some(self.lab.untouched()?);
        let start = Instant::now();
        self.kubectl(ALICE, &["apply", "-f", &Self::manifest().display().to_string()])?;
        wait_for("six running Pods", RUNNING_LIMIT, || {
            let pods = self.pods()?;
            let ready = pods
                .iter()
                .filter(|(_, phase, ready)| phase == "Running" && ready == "True")
                .count();
            ensure!(ready == PODS, "{ready} of {PODS} Pods are ready: {pods:?}");
            Ok(())
        })
        .with_context(|| self.situation())?;
        Ok(start.elapsed())
    }

    /// One VM a Pod, each with a kernel of its own.
    pub fn check_machines(&self) -> Result<()> {
        let vms = self.lab.traces()?.vm_count();
        ensure!(vms == PODS, "{vms} QEMU processes run, not {PODS}");
        let mut boots = BTreeSet::new();
        for (name, _, _) in self.pods()? {
            let boot = self.kubectl(
                ALICE,
                &["exec", &name, "--", "cat", "/proc/sys/kernel/random/boot_id"],
            )?;
            boots.insert(boot.trim().to_owned());
        }
        ensure!(boots.len() == PODS, "boot ids: {boots:?}");
        Ok(())
    }

    /// The page at its load-balancer address; a message written through it is read back from the slaves.
    pub fn use_the_page(&mut self) -> Result<String> {
        let vip = wait_for("a load-balancer address", QUICK_LIMIT, || {
            let query = "jsonpath={.status.loadBalancer.ingress[0].ip}";
            let vip = self.kubectl(ALICE, &["get", "service", "frontend", "-o", query])?;
            ensure!(!vip.is_empty(), "the Service frontend has none");
            Ok(vip)
        })?;
        let url = format!("http://{vip}/");
        let page = wait_for("the guestbook's page", QUICK_LIMIT, || self.curl(&[&url]))?;
        ensure!(page.contains("Guestbook"), "the page says:\n{page}");
        // The page writes by way of another Service, which the network may hear of later.
        wait_for("Redis by the name of its Service", QUICK_LIMIT, || {
            let ping = [
                "exec",
                "deploy/redis-slave",
                "--",
                "redis-cli",
                "-h",
                "redis-master",
                "ping",
            ];
            let answer = self.kubectl(ALICE, &ping)?;
            ensure!(answer.trim() == "PONG", "it answers: {answer}");
            Ok(())
        })?;
        let message = "hello-from-a-pod-vm";
        self.curl(&["--data-urlencode", &format!("message={message}"), &url])?;
        wait_for("the message in the slaves", QUICK_LIMIT, || {
            let messages = self.curl(&[&format!("{url}messages")])?;
            ensure!(messages.contains(message), "messages: {messages}");
            Ok(())
        })?;
        let list = ["redis-cli", "lrange", "messages", "0", "-1"];
        for deployment in ["deploy/redis-master", "deploy/redis-slave"] {
            // The slave that has answered the page need not be the one that is asked here.
            wait_for(&format!("the message in {deployment}"), QUICK_LIMIT, || {
                let kept = self.kubectl(ALICE, &[&["exec", deployment, "--"][..], &list].concat())?;
                ensure!(kept.contains(message), "it holds: {kept}");
                Ok(())
            })?;
        }
        self.state.vip = Some(vip.clone());
        Ok(vip)
    }

    /// Bob reads and does not write; nobody sees another namespace; a limit is named when it is exceeded.
    pub fn check_tenancy(&self) -> Result<()> {
        self.kubectl(BOB, &["get", "pods"])?;
        let refused = self.refused(BOB, &["delete", "deployment", "frontend"])?;
        ensure!(refused.contains("forbidden"), "bob's delete: {refused}");
        let elsewhere = self.refused(ALICE, &["get", "pods", "-n", "kube-system"])?;
        ensure!(elsewhere.contains("forbidden"), "alice elsewhere: {elsewhere}");
        let limits = "--overrides={\"spec\":{\"containers\":[{\"name\":\"big\",\"image\":\"busybox\",\
                      \"resources\":{\"limits\":{\"cpu\":\"1\",\"memory\":\"64Gi\"}}}]}}";
        let exceeded = self.refused(ALICE, &["run", "big", "--image=busybox", limits])?;
        ensure!(
            exceeded.contains("exceeded quota") && exceeded.contains("memory"),
            "a large Pod: {exceeded}"
        );
        Ok(())
    }

    /// `kubectl delete -f`: the Pods go, and nothing of them is left.
    pub fn delete(&self) -> Result<Duration> {
        let start = Instant::now();
        let manifest = Self::manifest().display().to_string();
        self.kubectl(
            ALICE,
            &["delete", "-f", &manifest, "--wait=true", "--timeout=120s"],
        )?;
        wait_for("the Pods to be gone", RUNNING_LIMIT, || {
            let pods = self.pods()?;
            ensure!(pods.is_empty(), "still there: {pods:?}");
            Ok(())
        })?;
        let elapsed = start.elapsed();
        let before = self.state.before.as_ref().context("nothing was applied")?;
        wait_for("the traces of the Pods to be gone", QUICK_LIMIT, || {
            let after = self.lab.traces()?;
            ensure!(after == *before, "left behind:\n{}", before.difference(&after));
            Ok(())
        })?;
        Ok(elapsed)
    }

    /// `kubectl` as a person who has signed in.
    pub fn kubectl(&self, user: &str, arguments: &[&str]) -> Result<String> {
        text_of(self.as_user(user, "kubectl").args(arguments))
    }

    fn refused(&self, user: &str, arguments: &[&str]) -> Result<String> {
        let output = self.as_user(user, "kubectl").args(arguments).output()?;
        ensure!(
            !output.status.success(),
            "`kubectl {}` as {user} was expected to fail",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn as_user(&self, user: &str, program: &str) -> Command {
        let mut command = self.lab.command(program);
        command.env(
            "KUBECONFIG",
            self.lab.directory().join(format!("{user}.kubeconfig")),
        );
        command
    }

    /// (name, phase, ready)
    fn pods(&self) -> Result<Vec<(String, String, String)>> {
        let columns = "jsonpath={range .items[*]}{.metadata.name} {.status.phase} \
                       {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        let text = self
            .lab
            .kubectl(&["get", "pods", "-n", NAMESPACE, "-o", columns])?;
        let parse = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some((
                words.next()?,
                words.next().unwrap_or_default(),
                words.next().unwrap_or_default(),
            ))
        };
        Ok(text.lines().filter_map(parse).collect())
    }

    fn curl(&self, arguments: &[&str]) -> Result<String> {
        let quiet = ["--silent", "--show-error", "--fail", "--max-time", "30"];
        self.lab.run("curl", &[&quiet[..], arguments].concat())
    }

    /// What there is to see when the Pods do not come up.
    fn situation(&self) -> String {
        let show = |arguments: &[&str]| {
            self.lab
                .kubectl(arguments)
                .unwrap_or_else(|error| format!("{error:#}"))
        };
        format!(
            "Pods:\n{}\nevents:\n{}\nlog:\n{}",
            show(&["get", "pods", "-A", "-o", "wide"]),
            show(&["get", "events", "-n", NAMESPACE]),
            self.lab.log_tail()
        )
    }
}

/// The password of one of the two people, which only this scenario uses.
pub fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

fn text_of(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!(
            "`{command:?}` ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
