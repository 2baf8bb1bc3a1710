//! Foreign clients against a whole Supervisor with a simulated host: Helm 3 and 4 as administrator and as tenant, the
//! Python client typed and dynamic, a kopf operator, the JavaScript client, and kubectl from 1.20 to 1.37.
//!
//! `cargo xtask setup --tests` brings the clients (`e2e::clients`); what they are told to do lies in `fixtures/`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use e2e::clients::{HELMS, KUBECTLS, command, fixture};
use e2e::process::Process;
use e2e::{Lab, LabOptions, wait_for};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(120);
const TENANT: &str = "carol@podvisor.local";
const PASSWORD: &str = "a tenant's password 1";

fn simulated() -> Result<Lab> {
    Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })
}

/// What is run, and its name for whoever reads of a failure.
type Job<'a> = (String, Box<dyn FnOnce() -> Result<()> + Send + 'a>);

/// Runs several jobs at once and fails with every one that failed.
fn together(jobs: Vec<Job<'_>>) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = jobs
            .into_iter()
            .map(|(name, job)| (name, scope.spawn(job)))
            .collect();
        let mut failed = Vec::new();
        for (name, thread) in running {
            let outcome = thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")));
            if let Err(error) = outcome {
                failed.push(format!("{name}: {error:#}"));
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
        Ok(())
    })
}

fn output(command: &mut Command, succeeds: bool) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.success() != succeeds {
        bail!("{command:?} ended with {}:\n{text}", output.status);
    }
    Ok(text)
}

/// One Helm as one person in one namespace.
struct Helm<'a> {
    lab: &'a Lab,
    program: &'static str,
    namespace: String,
    /// The tenant's kubeconfig; the administrator's without.
    kubeconfig: Option<&'a Path>,
}

impl Helm<'_> {
    fn run(&self, arguments: &[&str], succeeds: bool) -> Result<String> {
        let mut command = command(self.lab, self.program)?;
        command.args(arguments).args(["--namespace", &self.namespace]);
        if let Some(kubeconfig) = self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        output(&mut command, succeeds)
    }

    fn read(&self, what: &str, path: &str) -> Result<String> {
        let path = format!("jsonpath={path}");
        self.lab
            .kubectl(&["get", what, "-n", &self.namespace, "-o", &path])
    }

    /// Waits until as many as wanted are ready and nobody else is there: Helm waits for new Pods, by what their ReplicaSet says,
    /// and neither for the Deployment to say so nor for the end of the old ones.
    fn rolled_out(&self, replicas: &str) -> Result<()> {
        let rollout = ["rollout", "status", "deployment/shop", "--timeout=120s"];
        let arguments = [&rollout[..], &["-n", &self.namespace]].concat();
        self.lab.kubectl(&arguments)?;
        ensure!(self.read("deployment/shop", "{.status.readyReplicas}")? == replicas);
        Ok(())
    }

    /// The life of a release: every command that people have in their pipelines.
    fn life(&self) -> Result<()> {
        let chart = fixture("chart").display().to_string();
        let mut extra = vec!["--wait", "--timeout", "120s"];
        if self.kubeconfig.is_some() {
            // A tenant may not define kinds, and has no right on those of others.
            extra.extend(["--skip-crds", "--set", "gadgets=false"]);
        }
        let with = |words: &[&'static str]| -> Vec<&str> {
            let mut all = vec![words[0], "shop"];
            all.extend(&words[1..]);
            if matches!(words[0], "install" | "upgrade") {
                all.push(&chart);
                all.extend(&extra);
            }
            all
        };
        let installed = self.run(&with(&["install"]), true)?;
        let notes = format!("welcome: shop runs in {}, revision 1.", self.namespace);
        ensure!(
            installed.contains("STATUS: deployed") && installed.contains(&notes),
            "{installed}"
        );
        ensure!(self.read("configmap/shop-message", "{.data.deployments}")? == "served");
        ensure!(
            self.read("configmap/shop-message", "{.data.server}")?
                .starts_with("v1.35.")
        );
        self.rolled_out("2")?;
        let key = self.read("secret/shop-settings", "{.data.key}")?;

        self.run(
            &with(&["upgrade", "--set", "message=second", "--set", "replicas=3"]),
            true,
        )?;
        self.rolled_out("3")?;
        ensure!(
            self.read("secret/shop-settings", "{.data.key}")? == key,
            "`lookup` did not find the key of the first revision"
        );
        let failed = self.run(&with(&["upgrade", "--set", "hookExit=1", "--atomic"]), false)?;
        ensure!(failed.contains("has been rolled back due to"), "{failed}");
        let history = self.run(&["history", "shop"], true)?;
        for state in ["superseded", "failed", "Rollback to 2"] {
            ensure!(history.contains(state), "{history}");
        }
        ensure!(self.read("configmap/shop-message", "{.data.message}")? == "second");
        self.run(&with(&["rollback", "1", "--wait", "--timeout", "120s"]), true)?;
        ensure!(self.read("deployment/shop", "{.spec.replicas}")? == "2");
        let tested = self.run(&with(&["test", "--logs", "--timeout", "120s"]), true)?;
        ensure!(tested.contains("Phase:          Succeeded"), "{tested}");
        let dry = self.run(
            &with(&["upgrade", "--install", "--dry-run=server", "--set", "message=dry"]),
            true,
        )?;
        ensure!(dry.contains("dry: shop runs in"), "{dry}");
        ensure!(self.run(&["list"], true)?.contains("shop-1.2.3"));
        ensure!(self.run(&["status", "shop"], true)?.contains("REVISION: 5"));
        ensure!(
            self.run(&["get", "all", "shop"], true)?
                .contains("kind: StatefulSet")
        );
        self.run(&with(&["uninstall", "--wait", "--timeout", "120s"]), true)?;
        let left = self.lab.kubectl(&[
            "get",
            "deployments,statefulsets,services,ingresses,secrets",
            "-l",
            "app.kubernetes.io/instance=shop",
            "-n",
            &self.namespace,
            "-o",
            "name",
        ])?;
        ensure!(left.is_empty(), "the uninstalled release left {left}");
        Ok(())
    }
}

#[test]
fn helm_serves_administrators_and_tenants() -> Result<()> {
    let lab = simulated()?;
    let file = lab.directory().join("tenant-password");
    fs::write(&file, PASSWORD)?;
    let file = file.display().to_string();
    lab.run_podvisor(&["user", "create", TENANT, "--password-file", &file])?;
    let kubeconfig = lab.directory().join("tenant-kubeconfig");
    for helm in HELMS {
        lab.kubectl(&["create", "namespace", &format!("admin-{helm}")])?;
        let tenant = format!("tenant-{helm}");
        let limits = ["--cpu", "4", "--memory", "4Gi", "--storage", "20Gi"];
        lab.run_podvisor(&[&["namespace", "create", &tenant][..], &limits].concat())?;
        lab.run_podvisor(&["namespace", "grant", &tenant, TENANT, "edit"])?;
    }
    let server = format!("--server={}", e2e::lab::API);
    let mut login = lab.command("kubectl");
    login
        .args([
            "podvisor",
            "login",
            &server,
            "-u",
            TENANT,
            "--insecure-skip-tls-verify",
        ])
        .env("KUBECONFIG", &kubeconfig)
        .env("KUBECTL_VSPHERE_PASSWORD", PASSWORD);
    output(&mut login, true)?;
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for &program in HELMS {
        for (who, kubeconfig) in [("admin", None), ("tenant", Some(kubeconfig.as_path()))] {
            let namespace = format!("{who}-{program}");
            let helm = Helm {
                lab: &lab,
                program,
                namespace: namespace.clone(),
                kubeconfig,
            };
            jobs.push((namespace, Box::new(move || helm.life())));
        }
    }
    together(jobs)?;
    lab.stop()
}

#[test]
fn libraries_of_other_languages_and_an_operator_work() -> Result<()> {
    let lab = simulated()?;
    let script = |interpreter: &'static str, name: &'static str| -> Result<()> {
        let mut command = command(&lab, interpreter)?;
        output(command.arg(fixture(name)), true).map(drop)
    };
    let script = &script;
    together(vec![
        (
            "Python, typed".into(),
            Box::new(move || script("python3", "python/typed.py")),
        ),
        (
            "Python, dynamic".into(),
            Box::new(move || script("python3", "python/generic.py")),
        ),
        (
            "JavaScript".into(),
            Box::new(move || script("node", "node/client.mjs")),
        ),
        ("kopf".into(), Box::new(|| operator(&lab))),
    ])?;
    lab.stop()
}

const PARROTS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: parrots.birds.example.com}
spec:
  group: birds.example.com
  scope: Namespaced
  names: {plural: parrots, singular: parrot, kind: Parrot}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
            status: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

/// Creation, a changed field, events, a watched built-in kind, and a deletion that waits for the operator.
fn operator(lab: &Lab) -> Result<()> {
    lab.apply(PARROTS)?;
    lab.kubectl(&[
        "wait",
        "--for=condition=established",
        "crd/parrots.birds.example.com",
    ])?;
    lab.kubectl(&["create", "namespace", "birds"])?;
    let mut kopf = command(lab, "python3")?;
    kopf.args(["-m", "kopf", "run", "--standalone", "--namespace=birds"])
        .arg(fixture("python/parrots.py"));
    let mut kopf = Process::start("kopf", kopf, &lab.directory().join("kopf.log"))?;
    let get = |what: &str, path: &str| {
        let path = format!("jsonpath={path}");
        lab.kubectl(&["get", what, "-n", "birds", "-o", &path])
    };
    let lasts = |what: &str, path: &str, wanted: &str| {
        wait_for(what, LIMIT, || {
            let found = get(what, path)?;
            ensure!(found == wanted, "{found}");
            Ok(())
        })
        .with_context(|| kopf.log_tail())
    };
    let polly = "
apiVersion: birds.example.com/v1
kind: Parrot
metadata: {name: polly, namespace: birds}
spec: {words: hello}
";
    let file = lab.directory().join("polly.yaml");
    fs::write(&file, polly)?;
    lab.kubectl(&["apply", "-f", &file.display().to_string()])?;
    lasts("configmap/polly-says", "{.data.says}", "hello")?;
    lasts("parrot/polly", "{.status.phase}", "Talking")?;
    ensure!(get("configmap/polly-says", "{.metadata.ownerReferences[0].kind}")? == "Parrot");
    // Its handlers take turns: until it has noted what it has handled, a change is a part of the creation.
    wait_for("the end of the creation", LIMIT, || {
        let handled = r"{.metadata.annotations.kopf\.zalando\.org/last-handled-configuration}";
        let noted = get("parrot/polly", handled)?;
        ensure!(noted.contains("hello"), "it has noted: {noted}");
        Ok(())
    })
    .with_context(|| kopf.log_tail())?;
    let words = r#"{"spec":{"words":"goodbye"}}"#;
    lab.kubectl(&[
        "patch",
        "parrot",
        "polly",
        "-n",
        "birds",
        "--type=merge",
        "-p",
        words,
    ])?;
    lasts("configmap/polly-says", "{.data.says}", "goodbye")?;
    lasts(
        "events",
        "{.items[?(@.reason==\"Hatched\")].message}",
        "polly talks",
    )?;
    lab.kubectl(&[
        "run",
        "perch",
        "--image=example/perch",
        "-n",
        "birds",
        "-l",
        "watched=yes",
    ])?;
    lasts("pod/perch", "{.metadata.annotations.seen}", "yes")?;
    lab.kubectl(&["delete", "parrot", "polly", "-n", "birds", "--timeout=120s"])?;
    get("configmap/polly-farewell", "{.metadata.name}")?;
    wait_for("the garbage collector", LIMIT, || {
        let left = lab.kubectl(&["get", "configmaps", "-n", "birds", "-o", "name"])?;
        ensure!(!left.contains("polly-says"), "{left}");
        Ok(())
    })?;
    kopf.stop(Signal::SIGTERM, LIMIT)?;
    Ok(())
}

const SITE: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {text: one}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: site}
spec:
  replicas: 1
  selector: {matchLabels: {app: site}}
  template:
    metadata: {labels: {app: site}}
    spec:
      containers: [{name: site, image: \"example/site:1\", ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: site}
spec: {selector: {app: site}, ports: [{port: 80}]}
";

#[test]
fn kubectl_of_every_age_works() -> Result<()> {
    let lab = simulated()?;
    let file = lab.directory().join("site.yaml");
    fs::write(&file, SITE)?;
    let file = file.display().to_string();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for &program in KUBECTLS {
        let (lab, file) = (&lab, file.as_str());
        jobs.push((
            program.to_owned(),
            Box::new(move || kubectl_day(lab, program, file)),
        ));
    }
    together(jobs)?;
    lab.stop()
}

/// A day's work with one kubectl in a namespace of its own.
fn kubectl_day(lab: &Lab, program: &str, file: &str) -> Result<()> {
    let namespace = program.replace('.', "-");
    let run = |words: &str, succeeds: bool| -> Result<String> {
        let mut command = command(lab, program)?;
        command.args(["--namespace", &namespace]).args(words.split(' '));
        output(&mut command, succeeds)
    };
    let yes = |words: &str| run(words, true);
    yes(&format!("create namespace {namespace}"))?;
    let applied = yes(&format!("apply -f {file}"))?;
    ensure!(
        applied.ends_with("configmap/page created\ndeployment.apps/site created\nservice/site created\n"),
        "{applied}"
    );
    // Who compares asks twice, and a Deployment that rolls out changes in between.
    yes("rollout status deployment/site --timeout=120s")?;
    ensure!(yes(&format!("diff -f {file}"))?.is_empty());
    yes(&format!("apply -f {file} --dry-run=server"))?;
    yes(&format!(
        "apply -f {file} --server-side --force-conflicts --field-manager=ci"
    ))?;
    yes("rollout status deployment/site --timeout=120s")?;
    yes("create configmap extra --from-literal=a=b")?;
    yes("create secret generic hidden --from-literal=a=b")?;
    yes("create job once --image=example/once")?;
    yes("create service clusterip plain --tcp=80")?;
    yes("create serviceaccount robot")?;
    yes("create quota small --hard=pods=10")?;
    yes("label configmap extra stage=test")?;
    yes("annotate configmap extra note=here")?;
    ensure!(yes("get configmap -l stage=test -o name")? == "configmap/extra\n");
    yes("scale deployment/site --replicas=2")?;
    yes("set env deployment/site MODE=fast")?;
    yes("rollout status deployment/site --timeout=120s")?;
    ensure!(yes("rollout history deployment/site")?.contains("2 "));
    yes("rollout undo deployment/site")?;
    yes("rollout restart deployment/site")?;
    yes("autoscale deployment/site --min=1 --max=3 --cpu-percent=80")?;
    yes("expose deployment/site --name=other --port=80")?;
    // Describing all Pods lists them and then asks for each: none may go in between.
    yes("rollout status deployment/site --timeout=120s")?;
    wait_for("the Pods of before to be gone", LIMIT, || {
        let going = yes("get pods -o jsonpath={.items[*].metadata.deletionTimestamp}")?;
        ensure!(going.is_empty(), "going since {going}");
        Ok(())
    })?;
    for kind in [
        "all",
        "pods",
        "deployments",
        "horizontalpodautoscalers",
        "resourcequotas",
        "nodes",
    ] {
        yes(&format!("get {kind} -o wide"))?;
        yes(&format!(
            "describe {}",
            if kind == "all" { "deployment/site" } else { kind }
        ))?;
    }
    ensure!(yes("explain deployment.spec.strategy")?.contains("rollingUpdate"));
    yes("api-resources")?;
    yes("api-versions")?;
    ensure!(yes("auth can-i create pods")?.trim() == "yes");
    yes("run shell --image=example/shell")?;
    yes("wait --for=condition=Ready pod/shell --timeout=120s")?;
    ensure!(yes("exec shell -- echo hello")?.contains("hello"));
    yes("logs shell")?;
    ensure!(
        run("get pod absent", false)?.contains("Error from server (NotFound): pods \"absent\" not found")
    );
    yes("delete pod shell --grace-period=0 --force")?;
    yes(&format!("delete -f {file} --wait=true --timeout=120s"))?;
    yes(&format!("delete namespace {namespace} --timeout=120s"))?;
    Ok(())
}
