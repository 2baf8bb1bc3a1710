//! kubectl itself, with its default options, against a running server. Skipped where kubectl is not installed.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

struct Kubectl {
    server: String,
    home: tempfile::TempDir,
}

impl Kubectl {
    fn of(server: &Server) -> Kubectl {
        Kubectl {
            server: format!("http://{}", server.address),
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// Runs a command line; answers whether it succeeded, and what it printed (both streams).
    async fn run(&self, line: &str, input: &str) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .arg(format!("--server={}", self.server))
            .args(line.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
        let output = output.expect("kubectl ended in time").unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    async fn ok(&self, line: &str, input: &str) -> String {
        let (success, text) = self.run(line, input).await;
        assert!(success, "kubectl {line}: {text}");
        text
    }
}

fn installed() -> bool {
    std::process::Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .is_ok()
}

const GUESTBOOK: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: example.com/web:1
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: demo}
data: {a: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: demo}
stringData: {k: v}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: demo}
rules: [{apiGroups: [""], resources: [pods], verbs: [get, list]}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn daily_work() {
    if !installed() {
        eprintln!("kubectl is not installed; nothing was tested");
        return;
    }
    let server = Server::start().await;
    let kubectl = Kubectl::of(&server);

    let created = kubectl.ok("apply -f -", GUESTBOOK).await;
    for line in [
        "namespace/demo created",
        "deployment.apps/web created",
        "service/web created",
        "configmap/settings created",
        "secret/key created",
        "role.rbac.authorization.k8s.io/reader created",
    ] {
        assert!(created.contains(line), "{created}");
    }
    let again = kubectl.ok("apply -f -", GUESTBOOK).await;
    assert!(again.contains("deployment.apps/web unchanged"), "{again}");
    assert!(again.contains("service/web unchanged"), "{again}");
    let changed = kubectl
        .ok("apply -f -", &GUESTBOOK.replace("web:1", "web:2"))
        .await;
    assert!(changed.contains("deployment.apps/web configured"), "{changed}");
    let image = "get deploy web -n demo -o jsonpath={.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.ok(image, "").await, "example.com/web:2");

    let table = kubectl.ok("get deployments -n demo", "").await;
    assert!(table.starts_with("NAME"), "{table}");
    assert!(table.contains("READY") && table.contains("0/2"), "{table}");
    let services = kubectl.ok("get svc -n demo -o wide", "").await;
    assert!(
        services.contains("LoadBalancer") && services.contains("<pending>"),
        "{services}"
    );
    let all = kubectl.ok("get all -n demo", "").await;
    assert!(
        all.contains("deployment.apps/web") && all.contains("service/web"),
        "{all}"
    );

    let described = kubectl.ok("describe deployment web -n demo", "").await;
    assert!(
        described.contains("example.com/web:2") && described.contains("RollingUpdate"),
        "{described}"
    );
    kubectl.ok("scale deployment web -n demo --replicas=5", "").await;
    assert_eq!(
        kubectl
            .ok("get deploy web -n demo -o jsonpath={.spec.replicas}", "")
            .await,
        "5"
    );
    kubectl.ok("label deployment web -n demo tier=front", "").await;
    kubectl.ok("annotate cm settings -n demo note=x", "").await;
    let patch = r#"patch deployment web -n demo -p {"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.com/web:3"}]}}}}"#;
    kubectl.ok(patch, "").await;
    assert_eq!(kubectl.ok(image, "").await, "example.com/web:3");
    let env = "get deploy web -n demo -o jsonpath={.spec.template.spec.containers[0].env[0].value}";
    assert_eq!(
        kubectl.ok(env, "").await,
        "1",
        "a strategic patch merges containers by name"
    );

    let (success, refused) = kubectl
        .run("apply -f -", &GUESTBOOK.replace("replicas: 2", "replica: 2"))
        .await;
    assert!(
        !success && refused.contains("unknown field \"spec.replica\""),
        "{refused}"
    );
    let (success, invalid) = kubectl
        .run("apply -f -", &GUESTBOOK.replace("replicas: 2", "replicas: -2"))
        .await;
    assert!(!success && invalid.contains("spec.replicas"), "{invalid}");

    let applied = kubectl
        .ok("apply --server-side --force-conflicts -f -", GUESTBOOK)
        .await;
    assert!(
        applied.contains("deployment.apps/web serverside-applied"),
        "{applied}"
    );
    if apiserver::wire::protobuf::OFFERED {
        // `kubectl create` sends protobuf and does not try again.
        let generated = "create configmap made -n demo --from-literal=a=b";
        assert!(kubectl.ok(generated, "").await.contains("configmap/made created"));
        kubectl
            .ok("wait --for=create configmap/made -n demo --timeout=50s", "")
            .await;
    }
    let version = kubectl.ok("version", "").await;
    assert!(version.contains("Server Version: v1.35.0"), "{version}");
    let resources = kubectl.ok("api-resources", "").await;
    assert!(
        resources.contains("deployments") && resources.contains("deploy"),
        "{resources}"
    );
    let explained = kubectl.ok("explain deployment.spec.replicas", "").await;
    assert!(explained.contains("FIELD: replicas"), "{explained}");

    let gone = kubectl.ok("delete deployment/web service/web -n demo", "").await;
    assert!(gone.contains("deployment.apps \"web\" deleted"), "{gone}");
    assert!(
        kubectl
            .ok("get deploy -n demo", "")
            .await
            .contains("No resources found")
    );
}

/// kubectl looks into the OpenAPI of a custom kind to choose how it patches.
#[tokio::test(flavor = "multi_thread")]
async fn custom_objects_are_applied_again() {
    if !installed() {
        eprintln!("kubectl is not installed; nothing was tested");
        return;
    }
    const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.e2e.example.com}
spec:
  group: e2e.example.com
  scope: Namespaced
  names: {plural: foos, kind: Foo}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}, parts: {type: array, items: {type: object, properties: {a: {type: string}}}}}}
"#;
    const FOO: &str = r#"
apiVersion: e2e.example.com/v1
kind: Foo
metadata: {name: f, namespace: default}
spec: {size: 1, parts: [{a: x}, {a: w}]}
"#;
    let server = Server::start().await;
    let kubectl = Kubectl::of(&server);
    kubectl.ok("apply -f -", DEFINITION).await;
    kubectl
        .ok(
            "wait --for=condition=Established crd/foos.e2e.example.com --timeout=50s",
            "",
        )
        .await;
    // A kind is established a moment before discovery lists it.
    let listed = |_: u16, list: &serde_json::Value| list["resources"][0]["name"] == "foos";
    server.until("/apis/e2e.example.com/v1", listed).await;
    let created = kubectl.ok("apply -f -", FOO).await;
    assert!(created.contains("foo.e2e.example.com/f created"), "{created}");
    let again = kubectl.ok("apply -f -", FOO).await;
    assert_eq!(again, "foo.e2e.example.com/f unchanged\n");
    let changed = FOO
        .replace("spec: {size: 1", "spec: {size: 2")
        .replace("{a: x}, ", "");
    let (differs, shown) = kubectl.run("diff -f -", &changed).await;
    assert!(!differs && shown.contains("+  size: 2"), "{shown}");
    let applied = kubectl.ok("apply -f -", &changed).await;
    assert_eq!(applied, "foo.e2e.example.com/f configured\n");
    let spec = kubectl.ok("get foo f -o jsonpath={.spec}", "").await;
    assert_eq!(spec, r#"{"parts":[{"a":"w"}],"size":2}"#);
    let explained = kubectl.ok("explain foo.spec.parts", "").await;
    assert!(explained.contains("a\t<string>"), "{explained}");
}

/// `kubectl get deployments/web --subresource=scale`, `kubectl get --watch -o yaml` and pages, as upstream answers them.
#[tokio::test]
async fn shapes_of_answers() {
    let s = Server::start().await;
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "a": "b" } },
            "template": {
                "metadata": { "labels": { "a": "b" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    let all = "/apis/apps/v1/namespaces/default/deployments";
    let (code, made) = s.json("POST", all, &web).await;
    assert_eq!(code, 201, "{made}");
    let scale = format!("{all}/web/scale");
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let (code, text) = s.text(&scale, &[("accept", accept)]).await;
    let table: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &table["kind"]), (200, &json!("Table")), "{text}");
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<_> = columns.clone().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    assert!(columns.clone().all(|c| c["description"] != ""), "{text}");
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..3],
        [json!("web"), json!(3), json!(0)]
    );
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "web");

    let types = "only the following media types are accepted: application/json, application/yaml, \
                 application/vnd.kubernetes.protobuf";
    let streams = "only the following media types are accepted: application/json;stream=watch, \
                   application/vnd.kubernetes.protobuf;stream=watch";
    let include = "Unable to convert to Table as requested: includeObject: Invalid value: \"all\": must be 'Metadata', \
                   'Object', 'None', or empty";
    let key = "continue key is not valid";
    for (query, accept, wanted, why) in [
        ("watch=1", "application/yaml", 406, streams),
        (
            "watch=1",
            "application/yaml;as=Table;g=meta.k8s.io;v=v1",
            406,
            streams,
        ),
        ("watch=1", "application/json;g=meta.k8s.io;v=v1", 406, types),
        ("", "application/json;g=meta.k8s.io;v=v1", 406, types),
        ("includeObject=all", accept, 400, include),
        ("watch=1&includeObject=all", accept, 400, include),
        ("continue=nonsense", "application/json", 400, key),
        (
            "continue=nonsense&resourceVersion=7",
            "application/json",
            400,
            key,
        ),
        (
            "continue=nonsense&resourceVersion=nonsense",
            "application/json",
            400,
            key,
        ),
    ] {
        let (code, text) = s.text(&format!("{all}?{query}"), &[("accept", accept)]).await;
        // Told in YAML to who asks for YAML, where long lines may be folded.
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = status["message"].as_str().unwrap_or(&folded);
        assert!(
            code == wanted && told.contains(why),
            "{query} {accept}: {code} {told}"
        );
    }
}
