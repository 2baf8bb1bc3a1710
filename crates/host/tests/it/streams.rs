//! The agent's HTTP interface: logs, exec, port-forward, figures, as the API server uses it.

#![allow(clippy::unwrap_used)]
use super::common;

use bytes::Bytes;
use common::Host;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Sends a request to the agent.
async fn send(host: &Host, path: &str, headers: &[(&str, &str)]) -> http::Response<hyper::body::Incoming> {
    let stream = TcpStream::connect(host.agent.address()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let method = if path.starts_with("/run/") { "POST" } else { "GET" };
    let mut request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "agent");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender
        .send_request(request.body(Empty::<Bytes>::new()).unwrap())
        .await
        .unwrap()
}

async fn text(host: &Host, path: &str) -> (u16, String) {
    let response = send(host, path, &[]).await;
    let code = response.status().as_u16();
    let body = common::await_limited(response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn socket(
    host: &Host,
    path: &str,
    protocol: &str,
) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    let response = send(host, path, &headers).await;
    assert_eq!(response.status().as_u16(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], protocol);
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

fn pod(args: &[&str]) -> Value {
    json!({"containers": [{"name": "app", "image": "example.test/app:1", "args": args}]})
}

/// Who is told that a container runs reads what it has written so far.
#[tokio::test]
async fn a_log_is_complete_when_its_container_is_told_to_run() {
    let host = Host::start().await;
    host.create("web", pod(&["late"])).await;
    host.ready("web").await;
    let path = "/containerLogs/default/web/app";
    assert_eq!(text(&host, path).await, (200, "simulated: late\n".into()));
}

/// The guest may take its time over them, and the VM stays until then.
#[tokio::test]
async fn last_words_are_not_lost() {
    let host = Host::start().await;
    let whole = |words: &str| (200, format!("simulated: {words}\nsimulated: last words\n"));
    host.create("ends", pod(&["slow", "exit=0"])).await;
    host.create("deleted", pod(&["slow"])).await;
    host.ready("deleted").await;
    host.wait("ends", "restarted", |pod| common::restarts(pod) > 0)
        .await;
    let previous = "/containerLogs/default/ends/app?previous=true&follow=true";
    let follow = "/containerLogs/default/deleted/app?follow=true";
    // Who follows is answered at once; only then the container is told to end.
    let following = send(&host, follow, &[]).await;
    let code = following.status().as_u16();
    host.delete("deleted", None).await;
    let body = common::await_limited(following.into_body().collect()).await;
    let followed = String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!((code, followed), whole("slow"));
    common::eventually("the last words of the run before", async || {
        text(&host, previous).await == whole("slow exit=0")
    })
    .await;
}

/// The node's `/var/log`, with the links by which collectors know logs.
#[tokio::test]
async fn the_directory_of_logs() {
    let host = Host::start().await;
    let page = |names: &[&str]| {
        let links: String = names
            .iter()
            .map(|name| format!("<a href=\"{name}\">{name}</a>\n"))
            .collect();
        format!(
            "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n{links}</pre>\n"
        )
    };
    assert_eq!(
        text(&host, "/logs/").await,
        (200, page(&["containers/", "pods/"]))
    );
    host.create("web", pod(&["serve"])).await;
    let uid = host.ready("web").await.metadata.uid.unwrap();
    let directory = format!("default_web_{uid}");
    let file = format!("/logs/pods/{directory}/app/0.log");
    common::eventually("the line", async || {
        text(&host, &file)
            .await
            .1
            .ends_with("stdout F simulated: serve\n")
    })
    .await;
    let shown = page(&[&format!("{directory}/")]);
    assert_eq!(text(&host, "/logs/pods/").await, (200, shown));
    assert_eq!(text(&host, "/logs/pods").await.0, 301);
    let links = text(&host, "/logs/containers/").await.1;
    let link = links
        .split('"')
        .find(|part| part.starts_with("web_default_app-"))
        .unwrap();
    let linked = text(&host, &format!("/logs/containers/{link}")).await;
    assert_eq!(linked, text(&host, &file).await);
    for path in ["/logs/none", "/logs/../disks", "/logs/%2e%2e/disks"] {
        assert_eq!(text(&host, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn logs_of_running_and_finished_containers() {
    let host = Host::start().await;
    host.create("web", pod(&["serve"])).await;
    host.ready("web").await;
    common::eventually("the line", async || {
        text(&host, "/containerLogs/default/web/app").await == (200, "simulated: serve\n".to_owned())
    })
    .await;
    host.create("loop", pod(&["exit=1"])).await;
    host.wait("loop", "in a crash loop", |pod| {
        common::state(pod, "app") == "CrashLoopBackOff"
    })
    .await;
    let (code, log) = text(&host, "/containerLogs/default/loop/app?follow=true&previous=true").await;
    assert_eq!((code, log.as_str()), (200, "simulated: exit=1\n"));
    let cases = [
        (
            "/containerLogs/default/web/app?tail=all&tailLines=0",
            200,
            "simulated: serve\n",
        ),
        ("/containerLogs/default/web/app?tail=0", 200, ""),
        (
            "/containerLogs/default/none/app",
            404,
            "pod \"none\" does not exist",
        ),
        (
            "/containerLogs/default/web/other",
            404,
            "container \"other\" not found in pod \"web\"",
        ),
        (
            "/containerLogs/default/web/app?previous=true",
            400,
            "previous terminated container \"app\" in pod \"web\" not found",
        ),
        (
            "/containerLogs/default/web/app?tailLines=x",
            400,
            "invalid tailLines: \"x\"",
        ),
    ];
    for (path, code, words) in cases {
        assert_eq!(text(&host, path).await, (code, words.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn exec_over_websocket() {
    let host = Host::start().await;
    host.create("web", pod(&["serve"])).await;
    host.ready("web").await;
    let path = "/exec/default/web/app?command=echo&command=hi&input=1&output=1&error=1";
    let mut socket = socket(&host, path, "v5.channel.k8s.io").await;
    let mut output = Vec::new();
    socket
        .send(Message::Binary(Bytes::from_static(b"\x00typed")))
        .await
        .unwrap();
    socket
        .send(Message::Binary(Bytes::from_static(b"\xff\x00")))
        .await
        .unwrap();
    let mut status = Value::Null;
    while let Some(Ok(message)) = common::await_limited(socket.next()).await {
        let data = match message {
            Message::Binary(data) => data,
            _ => break,
        };
        match data[0] {
            1 => output.extend_from_slice(&data[1..]),
            3 => status = serde_json::from_slice(&data[1..]).unwrap(),
            channel => panic!("channel {channel}"),
        }
    }
    assert_eq!(String::from_utf8(output).unwrap(), "echo hi\ntyped");
    assert_eq!(status["status"], "Success");
}

#[tokio::test]
async fn commands_are_run_for_their_output() {
    let host = Host::start().await;
    host.create("web", pod(&["serve"])).await;
    let uid = host.ready("web").await.metadata.uid.unwrap();
    for (path, code, words) in [
        ("/run/default/web/app?cmd=echo%20hi".to_owned(), 200, "echo hi\n"),
        (
            format!("/run/default/web/{uid}/app?cmd=echo%20hi"),
            200,
            "echo hi\n",
        ),
        (
            "/run/default/web/no?cmd=echo".to_owned(),
            500,
            "container not found (\"no\")",
        ),
    ] {
        assert_eq!(text(&host, &path).await, (code, words.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn exec_needs_a_running_container_and_streams() {
    let host = Host::start().await;
    host.create("web", pod(&["serve"])).await;
    host.ready("web").await;
    let cases = [
        (
            "/exec/default/web/app?command=x",
            400,
            "you must specify at least 1 of stdin, stdout, stderr",
        ),
        (
            "/exec/default/web/app?output=1",
            400,
            "you must specify at least 1 command",
        ),
        (
            "/exec/default/web/app?output=1&command=x",
            400,
            "Upgrade request required",
        ),
        (
            "/exec/default/web/no?output=1&command=x",
            500,
            "container not found (\"no\")",
        ),
        (
            "/attach/default/web/no?output=1",
            500,
            "container no not found in pod web_default",
        ),
        (
            "/exec/default/web/another-uid/app?output=1&command=x",
            404,
            "pod does not exist",
        ),
    ];
    for (path, code, words) in cases {
        assert_eq!(text(&host, path).await, (code, words.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn figures() {
    let host = Host::start().await;
    host.create("web", pod(&["serve"])).await;
    let web = host.ready("web").await;
    host.guest(&web).fill("cache", 7 << 20);
    for path in ["/pods", "/pods/", "/runningpods/"] {
        let (_, pods) = text(&host, path).await;
        let pods: Value = serde_json::from_str(&pods).unwrap();
        assert_eq!(pods["kind"], "PodList");
        assert_eq!(pods["items"][0]["metadata"]["name"], "web", "{path}");
    }
    let (_, metrics) = text(&host, "/podmetrics").await;
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(metrics[0]["metadata"]["name"], "web");
    assert_eq!(metrics[0]["containers"][0]["name"], "app");
    assert_eq!(metrics[0]["vm"]["vcpus"], 1);
    let (_, summary) = text(&host, "/stats/summary").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["node"]["nodeName"], common::NODE);
    let web = &summary["pods"][0];
    assert_eq!(web["volume"][0]["name"], "cache", "{web}");
    assert_eq!(web["volume"][0]["usedBytes"], 7 << 20, "{web}");
    for part in ["rootfs", "logs"] {
        assert!(web["containers"][0][part]["usedBytes"].is_u64(), "{web}");
    }
    // Clients of the kubelet read these without asking whether they are there.
    for field in ["rssBytes", "pageFaults", "majorPageFaults"] {
        for memory in [&summary["node"], web, &web["containers"][0]].map(|part| &part["memory"]) {
            assert!(memory[field].is_u64(), "{field} in {memory}");
        }
    }
    let (_, cadvisor) = text(&host, "/metrics/cadvisor").await;
    for family in [
        "memory_rss",
        "memory_failures_total",
        "cpu_cfs_throttled_seconds_total",
    ] {
        let start = format!("container_{family}{{container=\"app\",");
        assert!(cadvisor.contains(&start), "{start} in {cadvisor}");
    }
    for start in [
        "container_cpu_usage_seconds_total{container=\"\",cpu=\"total\",id=\"/\",",
        "container_memory_working_set_bytes{container=\"\",id=\"/podvisor/",
        "container_spec_cpu_shares{container=\"app\",id=\"/podvisor/",
        "container_start_time_seconds{container=\"app\",",
        "container_network_receive_bytes_total{interface=\"eth0\",container=\"\",id=\"/podvisor/",
    ] {
        assert!(cadvisor.contains(start), "{start} in {cadvisor}");
    }
    assert!(
        summary["node"]["rlimit"]["curproc"].as_u64() > Some(0),
        "{summary}"
    );
    assert_eq!(web["network"]["interfaces"][0]["name"], "eth0", "{web}");
    for kind in ["cpu", "io", "memory"] {
        let total = |part: &Value| part[kind]["psi"]["some"]["total"].as_u64();
        let here = std::path::Path::new("/proc/pressure").join(kind).exists();
        assert_eq!(total(&summary["node"]).is_some(), here, "{kind}");
        assert_eq!(
            (total(web), total(&web["containers"][0])),
            (Some(4711), Some(4711)),
            "{web}"
        );
        let series = format!("container_pressure_{kind}_waiting_seconds_total{{container=\"");
        assert_eq!(cadvisor.contains(&format!("{series}\",")), here, "{kind}");
        assert!(
            cadvisor.contains(&format!("{series}app\",")),
            "{series} in {cadvisor}"
        );
    }
    let (_, counted) = text(&host, "/metrics").await;
    for line in [
        "kubelet_started_pods_total 1",
        "kubelet_started_user_namespaced_pods_errors_total 0",
        "kubelet_running_containers{container_state=\"running\"} 1",
        "volume_manager_total_volumes{plugin_name=\"kubernetes.io/projected\",state=\"desired_state_of_world\"} 1",
    ] {
        assert!(counted.lines().any(|known| known == line), "{line} in {counted}");
    }
    let (_, configured) = text(&host, "/configz").await;
    let configured: Value = serde_json::from_str(&configured).unwrap();
    assert_eq!(configured["kubeletconfig"]["clusterDomain"], "cluster.local");
    let (_, text) = text(&host, "/metrics/resource").await;
    assert!(
        text.contains("pod_memory_working_set_bytes{namespace=\"default\",pod=\"web\"} 0"),
        "{text}"
    );
    // A watch goes on by itself.
    let response = send(&host, "/podmetrics?watch=1", &[]).await;
    let mut lines = response.into_body();
    for _ in 0..2 {
        let frame = common::await_limited(lines.frame())
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        let list: Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(list["items"][0]["metadata"]["name"], "web");
    }
}

/// What is told of a VM is what its guest uses, not what its Pod asks for: it stays large after it has grown, and the next
/// agent finds that out.
#[tokio::test]
async fn figures_of_a_vm_that_has_grown() {
    let mut host = Host::start().await;
    let resources = |cpu: &str, memory: &str| {
        let list = json!({"cpu": cpu, "memory": memory});
        json!({"limits": list, "requests": list})
    };
    let spec = json!({"containers": [{"name": "app", "image": "x", "resources": resources("1", "128Mi")}]});
    host.create("grows", spec).await;
    host.ready("grows").await;
    for (cpu, memory) in [("2", "512Mi"), ("1", "64Mi")] {
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": resources(cpu, memory)}]}});
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let pods = host.pods();
        let patched = pods.patch_subresource("resize", "grows", &params, &patch).await;
        patched.unwrap();
        host.wait("grows", "resized", |pod| {
            let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
            let limits = status.resources.as_ref().and_then(|all| all.limits.as_ref());
            limits.is_some_and(|limits| limits["memory"].0 == memory)
        })
        .await;
    }
    host.restart_agent().await;
    common::eventually("the VM with the next agent", async || {
        let (_, inspected) = text(&host, "/inspect/default/grows").await;
        let inspected: Value = serde_json::from_str(&inspected).unwrap_or_default();
        let vm = &inspected["vm"];
        vm["vcpus"] == 2 && vm["memoryMiB"] == 768 && vm["growsTo"] == json!({"vcpus": 4, "memoryMiB": 8192})
    })
    .await;
    let (_, metrics) = text(&host, "/podmetrics").await;
    let metrics: Value = serde_json::from_str(&metrics).unwrap();
    assert_eq!(
        (&metrics[0]["vm"]["vcpus"], &metrics[0]["vm"]["memory"]),
        (&json!(2), &json!("768Mi"))
    );
}
