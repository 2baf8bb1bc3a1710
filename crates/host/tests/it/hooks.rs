//! Probes and lifecycle hooks: what counts as a failure and what does not, on a simulated host.

#![allow(clippy::unwrap_used)]

use super::common;

use std::collections::BTreeSet;

use common::{Host, eventually, restarts, state};
use guest_api::v1::probe_request::Action;
use serde_json::{Value, json};

fn with(lifecycle: Value) -> Value {
    json!({"containers": [{"name": "app", "image": "example.test/app:1", "args": ["serve"],
        "lifecycle": lifecycle}]})
}

/// Who gets no answer and no refusal says nothing of the container: nothing counts until there is one.
#[tokio::test]
async fn nobody_fails_a_probe_without_an_answer() {
    let host = Host::start().await;
    let probe = |action: Value| {
        let mut probe = json!({"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1});
        probe
            .as_object_mut()
            .unwrap()
            .extend(action.as_object().unwrap().clone());
        probe
    };
    let secret = probe(json!({"httpGet": {"port": 443, "scheme": "HTTPS"}}));
    // A name is looked up by the host.
    let named = probe(json!({"httpGet": {"port": 80, "host": "localhost"}}));
    let app = json!({"name": "app", "image": "example.test/app:1", "args": ["serve"],
        "livenessProbe": secret, "readinessProbe": named});
    // Absent before the first question, which comes after the first container.
    let first = json!({"name": "first", "image": "example.test/app:1", "args": ["serve"]});
    let spec = json!({"initContainers": [first], "containers": [app]});
    host.create("web", spec).await;
    let pod = host
        .wait("web", "in its first container", |pod| {
            state(pod, "first") == "running"
        })
        .await;
    let guest = host.guest(&pod);
    guest.set_absent(true);
    guest.end("first_0", 0, false);
    let asked = || -> BTreeSet<(bool, String, bool)> {
        let probes = guest.probes().into_iter().map(|probe| {
            let local = probe
                .host
                .parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            match probe.action {
                Some(Action::Http(get)) => (get.tls, get.host, local),
                other => panic!("{other:?}"),
            }
        });
        probes.collect()
    };
    eventually("both questions", async || asked().len() >= 2).await;
    assert_eq!(
        asked().into_iter().collect::<Vec<_>>(),
        [
            (false, "localhost".to_owned(), true),
            (true, String::new(), false)
        ]
    );
    let events = host.events("web").await;
    assert!(
        !events.iter().any(|event| event.starts_with("Unhealthy")),
        "{events:#?}"
    );
    assert_eq!(restarts(&host.pods().get("web").await.unwrap()), 0);
    guest.set_sick(Some("connection refused"));
    guest.set_absent(false);
    for words in [
        "Unhealthy: Liveness probe failed: connection refused",
        "Unhealthy: Readiness probe failed: connection refused",
        "Killing: Container app failed liveness probe, will be restarted",
    ] {
        eventually(words, async || {
            host.events("web").await.iter().any(|event| event == words)
        })
        .await;
    }
}

/// Whatever a server answers to a hook, it was told.
#[tokio::test]
async fn any_answer_will_do_for_a_hook() {
    let host = Host::start().await;
    let get = |scheme: &str| json!({"httpGet": {"port": 8080, "path": "/hook", "scheme": scheme}});
    let mut spec = with(json!({"postStart": get("HTTP"), "preStop": get("HTTPS")}));
    spec["initContainers"] = json!([{"name": "first", "image": "example.test/app:1", "args": ["serve"]}]);
    host.create("asks", spec).await;
    let first = host.wait("asks", "in its first container", |pod| {
        state(pod, "first") == "running"
    });
    let guest = host.guest(&first.await);
    guest.set_answer(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    guest.end("first_0", 0, false);
    let ip = host.ready("asks").await.status.unwrap().pod_ip.unwrap();
    host.delete("asks", None).await;
    assert_eq!(guest.dialled().last(), Some(&8080));
    let fallback = format!(
        "LifecycleHTTPFallback: request to HTTPS lifecycle hook {ip}:8080 got HTTP response, retry with HTTP succeeded"
    );
    eventually("the event", async || {
        host.events("asks").await.contains(&fallback)
    })
    .await;
    let events = host.events("asks").await;
    assert!(
        !events.iter().any(|event| event.contains("Hook failed")),
        "{events:#?}"
    );
}

/// A command and a connection before a container is told to end; and one that fails after the start.
#[tokio::test]
async fn hooks_come_before_the_signal() {
    let host = Host::start().await;
    let exec = json!({"exec": {"command": ["drain", "--now"]}});
    let tcp = json!({"tcpSocket": {"port": 9}});
    for (name, hook) in [("exec", &exec), ("tcp", &tcp)] {
        host.create(name, with(json!({"preStop": hook}))).await;
        let guest = host.guest(&host.ready(name).await);
        guest.set_sick((name == "tcp").then_some("dial tcp4 10.244.0.9:9: connect: connection refused"));
        host.delete(name, None).await;
        let asked = guest.probes().into_iter().map(|probe| probe.action.unwrap());
        let asked: Vec<Action> = asked.collect();
        match (name, &asked[..]) {
            ("exec", [Action::Exec(start)]) => {
                assert_eq!(start.container, "app_0");
                assert_eq!(start.command, ["drain", "--now"]);
            }
            ("tcp", [Action::TcpPort(9)]) => {}
            other => panic!("{other:?}"),
        }
    }
    let failed = "FailedPreStopHook: PreStopHook failed".to_owned();
    eventually("the event", async || host.events("tcp").await.contains(&failed)).await;
    assert!(!host.events("exec").await.contains(&failed));
    // An echo is no HTTP: the hook fails, and its container with it.
    let get = json!({"httpGet": {"port": 8080}});
    let mut spec = with(json!({"postStart": get}));
    spec["restartPolicy"] = json!("Never");
    host.create("garbled", spec).await;
    let pod = host.phase("garbled", "Succeeded").await;
    assert_eq!(state(&pod, "app"), "Completed 0");
    for event in [
        "FailedPostStartHook: PostStartHook failed",
        "Killing: FailedPostStartHook",
    ] {
        let event = event.to_owned();
        eventually(&event, async || host.events("garbled").await.contains(&event)).await;
    }
}
