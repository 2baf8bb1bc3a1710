//! The directory and the first user, over an API server of a hundred lines: paths to objects, no rules.

#![allow(clippy::unwrap_used)]

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use identity::directory::{ApiDirectory, Directory};
use identity::passwords::Passwords;
use identity::{ADMINISTRATOR, bootstrap};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

fn client(objects: &Objects) -> Client {
    let objects = objects.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let objects = objects.clone();
        async move { Ok::<_, Infallible>(answer(&objects, request).await) }
    });
    Client::new(service, "default")
}

async fn answer(objects: &Objects, request: Request<Body>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path().to_string();
    let mut objects = objects.lock().unwrap();
    let (status, answer) = match head.method {
        Method::POST => {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
            objects.insert(path, body.clone());
            (StatusCode::CREATED, body)
        }
        Method::PATCH => {
            let entry = objects.entry(path).or_insert(json!({}));
            for (key, value) in body.as_object().unwrap() {
                entry[key] = value.clone();
            }
            (StatusCode::OK, entry.clone())
        }
        Method::DELETE if objects.contains_key(&path) => (StatusCode::OK, objects.remove(&path).unwrap()),
        _ => match objects.get(&path) {
            Some(found) => (StatusCode::OK, found.clone()),
            None if head.method == Method::GET && path.matches('/').count() == 4 => {
                let prefix = format!("{path}/");
                let items: Vec<&Value> = objects
                    .iter()
                    .filter(|(k, _)| k.starts_with(&prefix))
                    .map(|(_, v)| v)
                    .collect();
                let list = json!({ "apiVersion": "podvisor.io/v1alpha1", "kind": "List", "metadata": {}, "items": items });
                (StatusCode::OK, list)
            }
            None => {
                let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404 });
                (StatusCode::NOT_FOUND, status)
            }
        },
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = status;
    response
}

/// Sets up the first user; answers where its password is.
async fn administrator(client: &kube::Client, dir: &Path, file: Option<&Path>) -> PathBuf {
    let first = bootstrap::first_password(client, dir, file).await.unwrap();
    bootstrap::administrator(client, &first).await.unwrap();
    first.password_file
}

#[tokio::test]
async fn the_first_user_can_sign_in() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Objects::default();
    let client = client(&objects);
    let path = administrator(&client, dir.path(), None).await;
    let password = std::fs::read_to_string(&path).unwrap();
    assert_eq!(password.trim().len(), 20);

    let directory = ApiDirectory::new(client.clone());
    let passwords = Passwords::default();
    let hash = directory.password_hash(ADMINISTRATOR).await.unwrap();
    assert!(passwords.verify(password.trim(), hash.as_deref()).await.unwrap());
    assert_eq!(
        directory.groups(ADMINISTRATOR).await.unwrap(),
        ["Administrators@podvisor.local"]
    );

    // A second start changes nothing; an operator's file wins.
    administrator(&client, dir.path(), None).await;
    assert_eq!(directory.password_hash(ADMINISTRATOR).await.unwrap(), hash);
    let given = dir.path().join("given");
    std::fs::write(&given, "chosen\n").unwrap();
    administrator(&client, dir.path(), Some(&given)).await;
    let hash = directory.password_hash(ADMINISTRATOR).await.unwrap();
    assert!(passwords.verify("chosen", hash.as_deref()).await.unwrap());

    // A file that does not exist is where the first password goes.
    let client = self::client(&Objects::default());
    let wanted = dir.path().join("elsewhere/password");
    let path = administrator(&client, dir.path(), Some(&wanted)).await;
    assert_eq!(path, wanted);
    let password = std::fs::read_to_string(&wanted).unwrap();
    let hash = ApiDirectory::new(client)
        .password_hash(ADMINISTRATOR)
        .await
        .unwrap();
    assert!(passwords.verify(password.trim(), hash.as_deref()).await.unwrap());
    let objects = objects.lock().unwrap();
    let binding = &objects["/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/podvisor:administrators"];
    assert_eq!(
        binding["subjects"][0]["name"],
        "sso:Administrators@podvisor.local"
    );
}

#[tokio::test]
async fn users_groups_and_namespaces() {
    let objects = Objects::default();
    let directory = ApiDirectory::new(client(&objects));
    directory.ensure_user("Alice", "Alice", Some("pw")).await.unwrap();
    directory
        .ensure_user("alice@podvisor.local", "Other", None)
        .await
        .unwrap();
    directory
        .ensure_group("Ops@podvisor.local", &["alice@podvisor.local"])
        .await
        .unwrap();
    directory
        .ensure_group("Ops@podvisor.local", &["bob@podvisor.local"])
        .await
        .unwrap();
    assert!(
        directory
            .password_hash("alice@podvisor.local")
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        directory
            .password_hash("eve@podvisor.local")
            .await
            .unwrap()
            .is_none()
    );
    assert!(directory.ensure_user("no/good", "", None).await.is_err());

    let namespace = |name: &str, subject: &str, kind: &str| {
        let object = json!({
            "metadata": { "name": name },
            "spec": { "permissions": [{ "subject": subject, "kind": kind, "role": "edit" }] },
        });
        objects.lock().unwrap().insert(
            format!("/apis/podvisor.io/v1alpha1/supervisornamespaces/{name}"),
            object,
        );
    };
    namespace("mine", "alice@podvisor.local", "User");
    namespace("ours", "Ops@podvisor.local", "Group");
    namespace("theirs", "bob@podvisor.local", "User");
    let groups = directory.groups("alice@podvisor.local").await.unwrap();
    assert_eq!(groups, ["Ops@podvisor.local"]);
    assert_eq!(
        directory
            .namespaces("alice@podvisor.local", &groups)
            .await
            .unwrap(),
        ["mine", "ours"]
    );
    assert!(
        directory
            .namespaces("eve@podvisor.local", &[])
            .await
            .unwrap()
            .is_empty()
    );
    let all = ["Administrators@podvisor.local".to_string()];
    assert_eq!(directory.namespaces(ADMINISTRATOR, &all).await.unwrap().len(), 3);
}

#[tokio::test]
async fn users_come_and_go() {
    let objects = Objects::default();
    let directory = ApiDirectory::new(client(&objects));
    directory.create_user("bob", None, "pw").await.unwrap();
    directory
        .create_user("alice", Some("Alice A."), "pw")
        .await
        .unwrap();
    let twice = directory
        .create_user("alice", None, "pw")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        twice.starts_with("user alice@podvisor.local exists already"),
        "{twice}"
    );
    let users = directory.list_users().await.unwrap();
    let shown: Vec<_> = users
        .iter()
        .map(|u| (u.name.as_str(), u.display_name.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("alice@podvisor.local", Some("Alice A.")),
            ("bob@podvisor.local", None)
        ]
    );

    directory
        .ensure_group("Ops@podvisor.local", &["alice@podvisor.local"])
        .await
        .unwrap();
    directory.delete_user("alice").await.unwrap();
    assert!(directory.groups("alice@podvisor.local").await.unwrap().is_empty());
    assert!(
        directory
            .password_hash("alice@podvisor.local")
            .await
            .unwrap()
            .is_none()
    );
    let left: Vec<String> = objects
        .lock()
        .unwrap()
        .keys()
        .filter(|k| k.contains("alice"))
        .cloned()
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for gone in [
        directory.delete_user("alice").await,
        directory.set_password("alice", "x").await,
    ] {
        assert!(
            gone.unwrap_err()
                .to_string()
                .starts_with("there is no user alice@podvisor.local")
        );
    }
}
