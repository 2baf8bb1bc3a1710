//! What clients see of ResourceQuotas: use that is shown when they are answered, and limits that hold among many.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use futures::future::join_all;
use serde_json::{Value, json};

const QUOTA: &str = "/api/v1/namespaces/default/resourcequotas/q";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn limited(hard: Value) -> Server {
    let s = Server::guarded().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    let (code, made) = s
        .json("POST", "/api/v1/namespaces/default/resourcequotas", &quota)
        .await;
    assert_eq!(code, 201, "{made}");
    s
}

fn map(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test]
async fn who_is_answered_finds_the_use_shown() {
    let s = limited(
        json!({"count/configmaps": "3", "services.nodeports": "4", "services": "5", "resourcequotas": "1"}),
    )
    .await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "NodePort",
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
    let one = json!({"spec": {"ports": [{"name": "a", "port": 80}]}});
    let plain = json!({"spec": {"type": "ClusterIP"}});
    let dry = &format!("{MAPS}?dryRun=All");
    // request, its code => ConfigMaps, node ports and Services (with `kubernetes`) in use
    let steps: [(&str, &str, Value, u16, [&str; 3]); 7] = [
        ("POST", MAPS, map("a"), 201, ["1", "0", "1"]),
        ("POST", dry, map("b"), 201, ["1", "0", "1"]),
        ("POST", MAPS, map("a"), 409, ["1", "0", "1"]),
        ("POST", MAPS, map("b"), 201, ["2", "0", "1"]),
        ("POST", SERVICES, service, 201, ["2", "2", "2"]),
        ("PUT", "one", one, 200, ["2", "1", "2"]),
        ("PUT", "one", plain, 200, ["2", "0", "2"]),
    ];
    for (method, path, body, expected, used) in steps {
        let (code, answer) = match path {
            "one" => {
                let path = format!("{SERVICES}/web");
                let (_, mut present) = s.get(&path).await;
                for (field, value) in body["spec"].as_object().unwrap() {
                    present["spec"][field] = value.clone();
                }
                s.json(method, &path, &present).await
            }
            path => s.json(method, path, &body).await,
        };
        assert_eq!(code, expected, "{method} {path}: {answer}");
        let (_, quota) = s.get(QUOTA).await;
        let names = ["count/configmaps", "services.nodeports", "services"];
        let shown = names.map(|name| quota["status"]["used"][name].as_str().unwrap_or_default());
        assert_eq!(shown, used, "after {method} {path}: {quota}");
        assert_eq!(quota["status"]["hard"], quota["spec"]["hard"]);
        assert_eq!(quota["status"]["used"]["resourcequotas"], "1");
    }
}

#[tokio::test]
async fn many_at_once_get_what_there_is_and_the_status_says_so() {
    let s = limited(json!({"count/configmaps": "7"})).await;
    let s = &s;
    let attempts = (0..20).map(|i| async move {
        let (code, answer) = s.json("POST", MAPS, &map(&format!("m{i}"))).await;
        if code == 201 {
            // At least itself.
            let (_, quota) = s.get(QUOTA).await;
            let used: usize = quota["status"]["used"]["count/configmaps"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!((1..=7).contains(&used), "{quota}");
        } else {
            assert_eq!(code, 403, "{answer}");
        }
        usize::from(code == 201)
    });
    let made: usize = join_all(attempts).await.into_iter().sum();
    assert_eq!(made, 7);
    let (_, quota) = s.get(QUOTA).await;
    assert_eq!(quota["status"]["used"]["count/configmaps"], "7");
}
