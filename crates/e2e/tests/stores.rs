//! Where objects are kept: the guestbook on a real etcd of three members, and a backup of the embedded store.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Guestbook, Lab, LabOptions, wait_for};

const LIMIT: Duration = Duration::from_secs(120);
/// Pods of the guestbook.
const PODS: usize = 6;

/// Name, uid and phase of the Pods in `guestbook`.
fn pods(lab: &Lab) -> Result<Vec<String>> {
    let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.uid} {.status.phase}{\"\\n\"}{end}";
    let text = lab.kubectl(&["get", "pods", "-n", "guestbook", "-o", path])?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn running(lab: &Lab) -> Result<Vec<String>> {
    wait_for("the guestbook's Pods", LIMIT, || {
        let pods = pods(lab)?;
        let count = pods.iter().filter(|pod| pod.ends_with(" Running")).count();
        ensure!(count == PODS && pods.len() == PODS, "{pods:?}");
        Ok(pods)
    })
}

fn apply_guestbook(lab: &Lab) -> Result<Vec<String>> {
    lab.kubectl(&["create", "namespace", "guestbook"])?;
    let manifest = Guestbook::manifest().display().to_string();
    lab.kubectl(&["apply", "-n", "guestbook", "-f", &manifest])?;
    running(lab)
}

#[test]
fn the_guestbook_runs_on_etcd() -> Result<()> {
    let mut lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        etcd_members: 3,
        ..LabOptions::default()
    })?;
    ensure!(
        !lab.data_dir().join("state.redb").exists(),
        "there is an embedded store as well"
    );
    let before = apply_guestbook(&lab)?;
    lab.stop_supervisor()?;
    lab.start_supervisor()?;
    ensure!(running(&lab)? == before, "other Pods than before the restart");
    // Two of three members are enough, also for the next start.
    lab.kill_etcd_member(2)?;
    wait_for("a write without one member", LIMIT, || {
        lab.kubectl(&["label", "namespace", "guestbook", "a=b", "--overwrite"])
    })?;
    lab.kill_supervisor()?;
    lab.start_supervisor()?;
    ensure!(running(&lab)? == before, "other Pods than before the crash");
    lab.stop()
}

/// Everything that a backup must bring back, with what tells one state of an object from another.
fn objects(lab: &Lab) -> Result<Vec<String>> {
    let kinds = "namespaces,pods,deployments,services,configmaps,secrets,serviceaccounts,clusterroles";
    let path = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
    let text = lab.kubectl(&["get", kinds, "-A", "-o", path])?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines)
}

/// Waits until every namespace has what controllers put into it.
fn settled(lab: &Lab) -> Result<()> {
    wait_for("what every namespace has", LIMIT, || {
        let names = lab.kubectl(&["get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let there = objects(lab)?.join("\n");
        for name in names.split(' ') {
            for wanted in [
                format!("ServiceAccount {name}/default "),
                format!("ConfigMap {name}/kube-root-ca.crt "),
            ] {
                ensure!(there.contains(&wanted), "`{wanted}` is not in:\n{there}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_backup_is_taken_while_it_serves_and_restored() -> Result<()> {
    let mut lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })?;
    let pods = apply_guestbook(&lab)?;
    settled(&lab)?;
    lab.kubectl(&["create", "secret", "generic", "treasure", "--from-literal=a=b"])?;
    let before = objects(&lab)?;
    let file = lab.directory().join("backup").display().to_string();
    let told = lab.run_podvisor(&["backup", &file])?;
    ensure!(told.contains(" objects, "), "{told}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file)?.permissions());
    ensure!(mode & 0o077 == 0, "others may read the backup: {mode:o}");
    // Written after the copy: lost, and its revision never given again.
    lab.kubectl(&["create", "configmap", "late"])?;
    let revision = |lab: &Lab, what: &str| -> Result<u64> {
        let text = lab.kubectl(&[
            "get",
            "configmap",
            what,
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ])?;
        text.parse().with_context(|| format!("`{text}`"))
    };
    let late = revision(&lab, "late")?;
    // A Supervisor's directory is not overwritten, running or not.
    let data = lab.data_dir().display().to_string();
    let refusal = |lab: &Lab| -> Result<String> {
        let output = lab.output("podvisor", &["restore", &file, "--data-dir", &data])?;
        ensure!(!output.status.success(), "it was overwritten");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let text = refusal(&lab)?;
    ensure!(text.contains("is in use by process"), "{text}");
    lab.stop_supervisor()?;
    let text = refusal(&lab)?;
    ensure!(text.contains("is not empty"), "{text}");

    // A new machine: only the keys were kept.
    let old = lab.directory().join("old");
    fs::rename(&data, &old)?;
    fs::create_dir(&data)?;
    fs::rename(old.join("pki"), lab.data_dir().join("pki"))?;
    let told = lab.run_podvisor(&["restore", &file, "--data-dir", &data])?;
    ensure!(told.contains("the store goes on at revision"), "{told}");
    lab.start_supervisor()?;
    let after = objects(&lab)?;
    ensure!(after == before, "before:\n{before:#?}\nafter:\n{after:#?}");
    ensure!(running(&lab)? == pods, "other Pods than before");
    let secret = lab.kubectl(&["get", "secret", "treasure", "-o", "jsonpath={.data.a}"])?;
    ensure!(secret == "Yg==", "{secret}");
    let gone = lab.kubectl_refused(&["get", "configmap", "late"])?;
    ensure!(gone.contains("NotFound"), "{gone}");
    // Watches of what was lost are told so.
    let watch = format!("/api/v1/configmaps?watch=1&timeoutSeconds=5&resourceVersion={late}");
    let text = lab.kubectl(&["get", "--raw", &watch])?;
    ensure!(text.contains("\"code\":410"), "{text}");
    lab.kubectl(&["create", "configmap", "late"])?;
    let again = revision(&lab, "late")?;
    ensure!(again > late, "revision {again} after {late}");
    lab.stop()
}
