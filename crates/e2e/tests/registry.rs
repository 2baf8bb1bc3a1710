//! Pulls from a registry that is slow, dies, lies or breaks off, seen as Pods see them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::machines::anonymous_kib;
use e2e::pods::{LIMIT, container};
use e2e::{Fault, FaultyRegistry, Form, Lab, LabOptions, PrivateRegistry, private, wait_for};
use serde_json::{Value, json};

const PROXY: u16 = 5001;
const PRIVATE: u16 = 5002;
/// Bytes of a large image, and the memory that an agent may have, its Supervisor in the same process included.
const LARGE: u64 = 1 << 30;
const BOUND_KIB: u64 = 100_000_000 >> 10;
/// Less than a third of the layer of `busybox`.
const CUT: u64 = 256 << 10;

fn pod(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
         containers:\n  - {{name: main, image: '{image}', command: [sleep, '1000000'], resources: {{limits: {{memory: 64Mi}}}}}}\n"
    )
}

fn waits_for(pod: &Value, reason: &str) -> bool {
    container(pod, "main")["state"]["waiting"]["reason"] == reason
}

/// Files of pulls that are under way.
fn unfinished(lab: &Lab) -> Result<usize> {
    Ok(fs::read_dir(lab.data_dir().join("host/images/tmp"))?.count())
}

#[test]
fn pulls_survive_their_registry() -> Result<()> {
    let lab = Lab::start(LabOptions {
        registry_mirror_of: Some("docker.io".to_owned()),
        arguments: vec![
            "--registry-mirror".to_owned(),
            format!("faulty.test=http://127.0.0.1:{PROXY}"),
        ],
        ..LabOptions::default()
    })?;
    let registry = FaultyRegistry::start(&lab, PROXY)?;
    let before = lab.untouched()?;

    // A layer that is not what its digest says is refused, and nothing of it stays.
    registry.set(Fault::Corrupt);
    let version = lab.pods_version()?;
    lab.apply(&pod("first", "faulty.test/library/busybox:1.35"))?;
    lab.wait_event(
        "first",
        "Failed: Failed to pull image \"faulty.test/library/busybox:1.35\": failed to pull and unpack image",
    )?;
    lab.wait_event("first", "unexpected commit digest sha256:")?;
    lab.wait_event("first", "Failed: Error: ErrImagePull")?;
    // One that breaks off again and again is gone on with where it broke off.
    registry.set(Fault::Cut(CUT));
    // That it backs off may be over when somebody looks.
    let backs_off = |pod: &Value| waits_for(pod, "ImagePullBackOff");
    lab.pods_since(&version, |seen| seen.last().is_some_and(backs_off))?;
    lab.wait_event("first", "BackOff: Back-off pulling image")?;
    lab.wait_event("first", "Pulled: Successfully pulled image")?;
    // Whole layers, be they right or not, are asked for without a range.
    let ranges: Vec<u64> = registry
        .requests()
        .iter()
        .filter_map(|request| {
            request
                .range
                .strip_prefix("bytes=")?
                .trim_end_matches('-')
                .parse()
                .ok()
        })
        .collect();
    ensure!(
        ranges.len() >= 3 && ranges.is_sorted() && ranges[0] == CUT,
        "asked for: {ranges:?}"
    );
    lab.wait_ready("first")?;
    wait_for("nothing to be left of refused layers", LIMIT, || {
        let left = unfinished(&lab)?;
        ensure!(left == 0, "{left} files");
        Ok(())
    })?;

    // Another pull stands still, and a third finds nobody; neither holds up the deletion of its Pod.
    registry.set(Fault::Held);
    lab.apply(&pod("held", "faulty.test/library/redis:7"))?;
    wait_for("a layer that stands still", LIMIT, || {
        ensure!(registry.held() > 0, "nothing is held");
        Ok(())
    })?;
    // A Pod whose image is here does not wait for one whose image is not.
    lab.apply(&pod("second", "faulty.test/library/busybox:1.35"))?;
    lab.wait_ready("second")?;
    // Held back for as long as the registry has patience it would not go in this time.
    lab.kubectl(&["delete", "pod", "held", "--timeout=60s"])?;
    wait_for("the end of a pull that nobody wants", LIMIT, || {
        let left = unfinished(&lab)?;
        ensure!(left == 0, "{left} unfinished pulls");
        Ok(())
    })?;

    registry.set(Fault::Dead);
    // A neighbour whose image is here runs meanwhile.
    let here = "  - {name: here, image: 'faulty.test/library/busybox:1.35', command: [sleep, '1000000']}\n";
    lab.apply(&(pod("dead", "faulty.test/library/redis:7") + here))?;
    lab.wait_event(
        "dead",
        "failed to resolve reference \"faulty.test/library/redis:7\": failed to do request: ",
    )?;
    lab.wait_pod("dead", "half there", |pod| {
        let waits = waits_for(pod, "ErrImagePull") || waits_for(pod, "ImagePullBackOff");
        waits && container(pod, "here")["state"]["running"].is_object()
    })?;
    // Slow, but it comes: as a disk of the VM that runs.
    registry.set(Fault::Slow(Duration::from_millis(5)));
    lab.wait_ready("dead")?;
    lab.leaves_nothing(&before)?;
    lab.stop()
}

/// A pull secret with these entries: registry and password.
fn pull_secret(name: &str, entries: &[(&str, &str)]) -> String {
    let entry = |(registry, password): &(&str, &str)| {
        let entry = json!({"username": private::USER, "password": password});
        ((*registry).to_owned(), entry)
    };
    let auths: serde_json::Map<String, Value> = entries.iter().map(entry).collect();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json!({"auths": auths}).to_string()}});
    secret.to_string()
}

/// Two containers of one image, by the manifests of OCI and of Docker, with some pull secrets.
fn private_pod(name: &str, policy: &str, secrets: &[&str]) -> String {
    let container = |name: &str| {
        json!({"name": name, "image": format!("private.test/team/app:{name}"),
        "command": ["sleep", "1000000"], "resources": {"limits": {"memory": "48Mi"}}})
    };
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({"name": name})).collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 1, "imagePullSecrets": secrets,
        "securityContext": {"supplementalGroups": [4000], "supplementalGroupsPolicy": policy},
        "containers": [container("oci"), container("docker")]}});
    pod.to_string()
}

fn with_private_registry() -> Result<Lab> {
    Lab::start(LabOptions {
        registry_mirror_of: Some("docker.io".to_owned()),
        arguments: vec![
            "--registry-mirror".to_owned(),
            format!("private.test=http://127.0.0.1:{PRIVATE}"),
        ],
        ..LabOptions::default()
    })
}

/// An image of a gigabyte is pulled and started by an agent that has less than a tenth of that.
#[test]
#[ignore = "takes minutes and four gigabytes of disk; the pull alone has a short form in the crate `images`"]
fn a_gigabyte_is_pulled_and_started_by_a_small_agent() -> Result<()> {
    let lab = with_private_registry()?;
    let registry = PrivateRegistry::start(&lab, PRIVATE)?;
    registry.publish(&lab, "team/app:oci", Form::Oci, &[], LARGE)?;
    lab.apply(&pull_secret("right", &[("private.test", private::PASSWORD)]))?;
    let agent = i32::try_from(lab.supervisor_id().context("an agent")?)?;
    let before = anonymous_kib(agent)?;
    let mut pod: Value = serde_json::from_str(&private_pod("large", "Merge", &["right"]))?;
    if let Some(containers) = pod["spec"]["containers"].as_array_mut() {
        containers.truncate(1);
    }
    lab.apply(&pod.to_string())?;
    let mut most = before;
    wait_for("the Pod of a large image", LIMIT * 4, || {
        most = most.max(anonymous_kib(agent)?);
        let pod = lab.pod("large")?;
        ensure!(container(&pod, "oci")["ready"] == true, "{}", pod["status"]);
        Ok(())
    })?;
    let size = lab.script("large", "stat -c %s /noise")?;
    ensure!(size == LARGE.to_string(), "{size}");
    println!("agent: {before} KiB before, {most} KiB at most");
    ensure!(most < BOUND_KIB, "the agent grew from {before} to {most} KiB");
    lab.kubectl(&["delete", "pod", "--all", "--timeout=60s"])?;
    registry.stop()?;
    lab.stop()
}

/// Secrets are for the registry that they name and all that fit are tried; of an image for several processors the one for
/// this host's is taken, however its manifests are written.
#[test]
fn a_private_registry_serves_whoever_may() -> Result<()> {
    let lab = with_private_registry()?;
    let registry = PrivateRegistry::start(&lab, PRIVATE)?;
    let groups = [("etc/group", "root:x:0:\nwheel:x:10:root\n")];
    registry.publish(&lab, "team/app:oci", Form::Oci, &groups, 0)?;
    registry.publish(&lab, "team/app:docker", Form::Docker, &groups, 0)?;
    let kinds = ["oci", "docker"].map(|tag| registry.media_type(&lab, &format!("team/app:{tag}")));
    let [oci, docker] = kinds;
    ensure!(oci? == "application/vnd.oci.image.index.v1+json");
    ensure!(docker? == "application/vnd.docker.distribution.manifest.list.v2+json");

    let right = private::PASSWORD;
    for secret in [
        pull_secret(
            "elsewhere",
            &[
                ("private.tes", right),
                ("private.test:5000", right),
                ("private.test/teams", right),
            ],
        ),
        pull_secret(
            "wrong",
            &[
                ("private.test/team/app", "guess"),
                ("https://private.test/v1/", "guess"),
            ],
        ),
        pull_secret("right", &[("*.test", right)]),
    ] {
        lab.apply(&secret)?;
    }
    // Credentials of other registries, or none, open nothing; what is missing is told.
    for (name, secrets) in [("without", vec!["missing"]), ("stranger", vec!["elsewhere"])] {
        lab.apply(&private_pod(name, "Merge", &secrets))?;
        lab.wait_event(name, "pull access denied")?;
    }
    let words = "FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (missing); attempting to pull \
                 the image may not succeed.";
    lab.wait_event("without", words)?;
    lab.kubectl(&["delete", "pod", "--all", "--timeout=60s"])?;

    lab.apply(&private_pod("first", "Strict", &["elsewhere", "wrong", "right"]))?;
    lab.wait_ready("first")?;
    lab.apply(&private_pod("second", "Merge", &["right"]))?;
    lab.wait_ready("second")?;
    for (pod, expected) in [("first", "0 4000"), ("second", "0 10 4000")] {
        for container in ["oci", "docker"] {
            let script = "id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '";
            let groups = lab.kubectl(&["exec", pod, "-c", container, "--", "sh", "-c", script])?;
            ensure!(groups.trim() == expected, "{pod} {container}: {groups}");
        }
    }
    // That the images are here now opens them to nobody: whoever has no Secret for them is refused by the registry, or at
    // once where it is not to be asked; and whoever has one needs no registry.
    lab.apply(&private_pod("thief", "Merge", &[]))?;
    lab.wait_event("thief", "pull access denied")?;
    let never = |name: &str, secrets: &[&str]| -> Result<()> {
        let mut pod: Value = serde_json::from_str(&private_pod(name, "Merge", secrets))?;
        for container in pod["spec"]["containers"].as_array_mut().into_iter().flatten() {
            container["imagePullPolicy"] = json!("Never");
        }
        lab.apply(&pod.to_string())?;
        Ok(())
    };
    never("patient", &["wrong"])?;
    let words = "ErrImageNeverPull: Container image \"private.test/team/app:oci\" is not present with pull policy of Never";
    lab.wait_event("patient", words)?;
    never("third", &["right"])?;
    lab.wait_ready("third")?;
    let words = "Pulled: Container image \"private.test/team/app:oci\" already present on machine and can be accessed by the pod";
    lab.wait_event("third", words)?;
    lab.kubectl(&["delete", "pod", "--all", "--timeout=60s"])?;
    registry.stop()?;
    lab.stop()
}
