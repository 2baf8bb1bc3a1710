//! What tests ask of Pods again and again: how one stands, what its events say, which process its VM is, whether anything
//! is left of it.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::Lab;
use crate::traces::Traces;
use crate::wait::wait_for;

/// How long one step may take: a VM boots in seconds, on busy cores in many.
pub const LIMIT: Duration = Duration::from_secs(180);

impl Lab {
    /// A Pod of the namespace `default`.
    pub fn pod(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.kubectl(&["get", "pod", name, "-o", "json"])?,
        )?)
    }

    /// Waits until a Pod is so; fails with its status, its events and the end of the Supervisor's log.
    pub fn wait_pod(&self, name: &str, what: &str, mut is: impl FnMut(&Value) -> bool) -> Result<Value> {
        let found = wait_for(&format!("{name} {what}"), LIMIT, || {
            let pod = self.pod(name)?;
            ensure!(is(&pod), "{}", pod["status"]);
            Ok(pod)
        });
        found.with_context(|| {
            let events = self.events(name).unwrap_or_default();
            format!("events:\n{}\nlog:\n{}", events.join("\n"), self.log_tail())
        })
    }

    /// Waits until a Pod is ready.
    pub fn wait_ready(&self, name: &str) -> Result<Value> {
        self.wait_pod(name, "ready", |pod| {
            let conditions = pod["status"]["conditions"].as_array();
            let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            conditions.is_some_and(|conditions| conditions.iter().any(ready))
        })
    }

    /// The events of a Pod, `REASON: MESSAGE` each, the oldest first.
    pub fn events(&self, name: &str) -> Result<Vec<String>> {
        let list = self.get(&format!(
            "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name}"
        ))?;
        let text = |event: &Value| {
            let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", word("reason"), word("message"))
        };
        Ok(list["items"].as_array().into_iter().flatten().map(text).collect())
    }

    /// Waits for an event that contains these words.
    pub fn wait_event(&self, name: &str, words: &str) -> Result<()> {
        wait_for(&format!("the event `{words}` of {name}"), LIMIT, || {
            let events = self.events(name)?;
            ensure!(
                events.iter().any(|event| event.contains(words)),
                "{}",
                events.join("\n")
            );
            Ok(())
        })
    }

    /// Waits until a log is this to the letter: the last words of a container that has ended may be on their way. `whose`:
    /// what `kubectl logs` is asked for.
    pub fn wait_log(&self, whose: &[&str], words: &str) -> Result<()> {
        wait_for(&format!("the log of {}", whose.join(" ")), LIMIT, || {
            let said = self.kubectl(&[&["logs"][..], whose].concat())?;
            ensure!(said == words, "it says:\n{said}");
            Ok(())
        })
    }

    /// A `kubectl logs -f` that follows: its request is answered, of which it tells. Before that what is to be followed may be
    /// gone, or stand in an older file.
    pub fn follow(&self, whose: &[&str]) -> Result<Child> {
        let mut follower = self
            .command("kubectl")
            .args(["logs", "-f", "-v", "6"])
            .args(whose)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut words = BufReader::new(follower.stderr.take().context("no errors")?);
        let mut told = String::new();
        let follows = |told: &str| {
            let asked = told.split_once("follow=true");
            asked.is_some_and(|(_, rest)| rest.contains("200 OK"))
        };
        while !follows(&told) {
            ensure!(words.read_line(&mut told)? > 0, "it does not follow: {told}");
        }
        // What it tells from now on finds a reader all the same.
        std::thread::spawn(move || io::copy(&mut words, &mut io::sink()));
        Ok(follower)
    }

    /// The version of the Pods of the namespace `default`, with which [`Self::pods_since`] begins.
    pub fn pods_version(&self) -> Result<String> {
        let list = self.get("/api/v1/namespaces/default/pods?limit=1")?;
        let version = list["metadata"]["resourceVersion"].as_str();
        Ok(version.context("a list has a version")?.to_owned())
    }

    /// Every state that Pods of the namespace `default` have had since a version, one after the other, until there are enough:
    /// those among them that nobody would meet who asks now and then.
    pub fn pods_since(&self, version: &str, enough: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
        let path = format!(
            "/api/v1/namespaces/default/pods?watch=1&resourceVersion={version}&timeoutSeconds={}",
            LIMIT.as_secs()
        );
        let mut watch = self
            .command("kubectl")
            .args(["get", "--raw", &path])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
        let mut seen = Vec::new();
        for line in lines {
            let event: Value = serde_json::from_str(&line?)?;
            seen.push(event["object"].clone());
            if enough(&seen) {
                break;
            }
        }
        watch.kill()?;
        watch.wait()?;
        let statuses: Vec<&Value> = seen.iter().map(|pod| &pod["status"]).collect();
        ensure!(enough(&seen), "not within {} s: {statuses:?}", LIMIT.as_secs());
        Ok(seen)
    }

    /// What a shell script prints in the first container of a Pod.
    pub fn script(&self, pod: &str, script: &str) -> Result<String> {
        let text = self.kubectl(&["exec", pod, "--", "sh", "-c", script])?;
        Ok(text.trim().to_owned())
    }

    /// The process of a Pod's VM, as the host agent has recorded it.
    pub fn vm_process(&self, pod: &Value) -> Result<i32> {
        let uid = pod["metadata"]["uid"].as_str().context("a Pod has a uid")?;
        let file = self.run_dir().join("vms").join(uid).join("vm.json");
        let record: Value = serde_json::from_slice(&fs::read(&file)?)?;
        Ok(i32::try_from(
            record["pid"].as_i64().context("a VM has a process")?,
        )?)
    }

    /// Deletes all Pods of the namespace `default` and waits until the machine is as it was.
    pub fn leaves_nothing(&self, before: &Traces) -> Result<()> {
        self.kubectl(&["delete", "pod", "--all", "--timeout=120s"])?;
        wait_for("the traces of the Pods to be gone", LIMIT, || {
            let after = self.traces()?;
            ensure!(after == *before, "left behind:\n{}", before.difference(&after));
            Ok(())
        })
    }
}

/// A container's status by its name, of whatever sort it is.
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = [
        "initContainerStatuses",
        "containerStatuses",
        "ephemeralContainerStatuses",
    ];
    let statuses = lists
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten();
    let mut found = statuses.filter(|status| status["name"] == name);
    found.next().unwrap_or(&Value::Null)
}
