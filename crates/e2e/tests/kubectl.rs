//! kubectl with its default options against a whole Supervisor with simulated hosts: what people type all day.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Lab, LabOptions, wait_for};

const LIMIT: Duration = Duration::from_secs(120);

fn simulated(hosts: u32) -> Result<Lab> {
    Lab::start(LabOptions {
        simulated_hosts: Some(hosts),
        no_registry: true,
        ..LabOptions::default()
    })
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "example/web:1", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}
"#;

#[test]
fn a_deployment_is_applied_watched_scaled_rolled_and_deleted() -> Result<()> {
    let lab = simulated(2)?;
    let applied = lab.apply(WEB)?;
    ensure!(
        applied == "deployment.apps/web created\nservice/web created\n",
        "apply printed: {applied}"
    );
    let rollout = |lab: &Lab| lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    ensure!(rollout(&lab)?.ends_with("deployment \"web\" successfully rolled out\n"));
    ensure!(lab.apply(WEB)? == "deployment.apps/web unchanged\nservice/web unchanged\n");

    let wide = lab.kubectl(&["get", "deployment", "web", "-o", "wide"])?;
    let heading: Vec<&str> = wide
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        heading
            == [
                "NAME",
                "READY",
                "UP-TO-DATE",
                "AVAILABLE",
                "AGE",
                "CONTAINERS",
                "IMAGES",
                "SELECTOR"
            ],
        "{wide}"
    );
    ensure!(wide.contains("3/3"), "{wide}");
    wait_for("six addresses in Endpoints and slices", LIMIT, || {
        for (kind, path) in [
            ("endpoints/web", "{.subsets[*].addresses[*].ip}"),
            (
                "endpointslices -l kubernetes.io/service-name=web",
                "{.items[*].endpoints[*].addresses[0]}",
            ),
        ] {
            let words: Vec<&str> = kind.split(' ').collect();
            let path = format!("jsonpath={path}");
            let addresses = lab.kubectl(&[&["get"][..], &words, &["-o", &path]].concat())?;
            ensure!(addresses.split_whitespace().count() == 3, "{kind}: {addresses}");
        }
        Ok(())
    })?;
    wait_for("the address of the Service", LIMIT, || {
        let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        let vip = lab.kubectl(&["get", "service", "web", "-o", path])?;
        ensure!(vip.starts_with("198.51.100."), "the Service got `{vip}`");
        Ok(())
    })?;

    // A watch sees the two new Pods; it ends with its process.
    let mut watch = lab
        .command("kubectl")
        .args(["get", "pods", "-w", "-o", "name"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no pipe")?).lines();
    let mut old = BTreeSet::new();
    while old.len() < 3 {
        old.insert(lines.next().context("the watch ended")??);
    }
    lab.kubectl(&["scale", "deployment/web", "--replicas=5"])?;
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        // What is told again of the first three is not meant.
        seen.extend(Some(lines.next().context("the watch ended")??).filter(|pod| !old.contains(pod)));
    }
    watch.kill()?;
    watch.wait()?;
    rollout(&lab)?;

    lab.kubectl(&["set", "image", "deployment/web", "web=example/web:2"])?;
    rollout(&lab)?;
    let history = lab.kubectl(&["rollout", "history", "deployment/web"])?;
    ensure!(history.contains("\n2 "), "{history}");
    lab.kubectl(&["rollout", "undo", "deployment/web"])?;
    rollout(&lab)?;
    let images = lab.kubectl(&[
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].spec.containers[0].image}",
    ])?;
    ensure!(
        images.split(' ').any(|image| image == "example/web:1"),
        "{images}"
    );

    // The first may be one of the old that is about to go, and its events may be on their way.
    wait_for("the description of a Pod", LIMIT, || {
        let name = "jsonpath={.items[0].metadata.name}";
        let pod = lab.kubectl(&["get", "pods", "-l", "app=web", "-o", name])?;
        let described = lab.kubectl(&["describe", "pod", &pod])?;
        for part in [
            "Events:",
            "Successfully assigned default/",
            "Started",
            "QoS Class:",
        ] {
            ensure!(described.contains(part), "`{part}` is not in:\n{described}");
        }
        Ok(())
    })?;
    lab.kubectl(&["delete", "deployment/web", "service/web"])?;
    // Not by `kubectl wait`: of a selector that nobody fits any more some versions make an error.
    wait_for("the end of its Pods and ReplicaSets", LIMIT, || {
        let left = lab.kubectl(&["get", "pods,replicasets", "-o", "name"])?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })?;
    lab.stop()
}

#[test]
fn logs_exec_and_copies_reach_a_container() -> Result<()> {
    let lab = simulated(1)?;
    lab.kubectl(&["run", "shell", "--image=example/shell"])?;
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/shell", "--timeout=120s"])?;
    // A simulated container answers with what it was asked.
    let answer = lab.kubectl(&["exec", "shell", "--", "echo", "hello"])?;
    ensure!(answer.contains("hello"), "exec printed: {answer}");
    lab.kubectl(&["logs", "shell"])?;
    let refused = lab.kubectl_refused(&["logs", "shell", "-c", "other"])?;
    ensure!(
        refused.contains("container other is not valid for pod shell"),
        "{refused}"
    );
    lab.kubectl(&["delete", "pod", "shell", "--wait=true", "--timeout=120s"])?;
    lab.stop()
}

/// What `kubectl get KIND` must be able to print for each kind of the first day.
const KINDS: &[&str] = &[
    "namespaces",
    "pods",
    "deployments",
    "replicasets",
    "services",
    "endpoints",
    "endpointslices",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "nodes",
    "events",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "leases",
];

#[test]
fn every_kind_prints_and_rights_are_told() -> Result<()> {
    let lab = simulated(1)?;
    for kind in KINDS {
        for output in ["", "wide", "yaml", "json", "name"] {
            let format = if output.is_empty() {
                vec![]
            } else {
                vec!["-o", output]
            };
            lab.kubectl(&[&["get", kind, "-A"][..], &format].concat())?;
        }
    }
    lab.kubectl(&["create", "namespace", "team"])?;
    lab.kubectl(&["create", "serviceaccount", "robot", "-n", "team"])?;
    lab.kubectl(&[
        "create",
        "role",
        "reader",
        "-n",
        "team",
        "--verb=get,list",
        "--resource=pods",
    ])?;
    lab.kubectl(&[
        "create",
        "rolebinding",
        "reader",
        "-n",
        "team",
        "--role=reader",
        "--serviceaccount=team:robot",
    ])?;
    let can = |verb: &str, resource: &str| -> Result<String> {
        let arguments = ["auth", "can-i", verb, resource, "-n", "team"];
        let output = lab.output(
            "kubectl",
            &[&arguments[..], &["--as=system:serviceaccount:team:robot"]].concat(),
        )?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ensure!(can("list", "pods")? == "yes");
    ensure!(can("delete", "pods")? == "no");
    let file = lab.directory().join("patch.yaml");
    fs::write(&file, "metadata: {labels: {stage: test}}\n")?;
    lab.kubectl(&[
        "patch",
        "namespace",
        "team",
        "--patch-file",
        &file.display().to_string(),
    ])?;
    ensure!(lab.kubectl(&["get", "namespaces", "-l", "stage=test", "-o", "name"])? == "namespace/team\n");
    lab.kubectl(&["delete", "namespace", "team", "--timeout=120s"])?;
    lab.stop()
}

#[test]
fn nodes_are_drained_and_come_back() -> Result<()> {
    let lab = simulated(2)?;
    lab.apply(WEB)?;
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    lab.kubectl(&["drain", "simulated-1", "--ignore-daemonsets", "--timeout=120s"])?;
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let on = |node: &str| {
        let field = format!("--field-selector=spec.nodeName={node}");
        lab.kubectl(&["get", "pods", &field, "-o", "name"])
    };
    wait_for("the drained node to be empty", LIMIT, || {
        let left = on("simulated-1")?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })?;
    let nodes = lab.kubectl(&["get", "nodes"])?;
    ensure!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    lab.kubectl(&["uncordon", "simulated-1"])?;
    lab.kubectl(&["scale", "deployment/web", "--replicas=6"])?;
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    ensure!(
        !on("simulated-1")?.is_empty(),
        "nothing is scheduled on the node that came back"
    );
    maintenance(&lab)?;
    lab.stop()
}

/// The same by our own command, which waits for what a budget protects.
fn maintenance(lab: &Lab) -> Result<()> {
    let podvisor = lab.podvisor().display().to_string();
    let host = |arguments: &[&str]| lab.run(&podvisor, &[&["host"], arguments].concat());
    lab.kubectl(&[
        "create",
        "poddisruptionbudget",
        "web",
        "--selector=app=web",
        "--min-available=6",
    ])?;
    let refused = match host(&["maintenance", "simulated-2", "--timeout=1"]) {
        Ok(text) => anyhow::bail!("a budget was broken: {text}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{refused}"
    );
    lab.kubectl(&[
        "patch",
        "poddisruptionbudget",
        "web",
        "-p",
        "{\"spec\": {\"minAvailable\": 3}}",
    ])?;
    host(&["maintenance", "simulated-2", "--timeout=120"])?;
    let left = lab.kubectl(&[
        "get",
        "pods",
        "--field-selector=spec.nodeName=simulated-2",
        "-o",
        "name",
    ])?;
    ensure!(left.is_empty(), "left: {left}");
    let listed = host(&["list"])?;
    ensure!(listed.contains("in maintenance since "), "{listed}");
    host(&["resume", "simulated-2"])?;
    let listed = host(&["list"])?;
    ensure!(
        listed.lines().all(|line| line.ends_with(" in service")),
        "{listed}"
    );
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    Ok(())
}
