//! The in-process client: `kube` on a tower service instead of a socket, with the rights of its own user.

#![allow(clippy::unwrap_used)]
use super::common;

use apiserver::user::User;
use common::Server;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};

#[tokio::test]
async fn kube_speaks_to_it() {
    let server = Server::start().await;
    let service = server
        .api
        .local_service(User::new("system:kube-scheduler", &["system:masters"]));
    let client = kube::Client::new(service, "default");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let names: Vec<_> = namespaces
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter_map(|n| n.metadata.name)
        .collect();
    assert_eq!(
        names,
        ["default", "kube-node-lease", "kube-public", "kube-system"]
    );

    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut map = ConfigMap::default();
    map.metadata.name = Some("a".into());
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    let version = made.metadata.resource_version.unwrap();
    let mut events = maps
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    let patch = serde_json::json!({"data": {"k": "v"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
    match events.try_next().await.unwrap() {
        Some(WatchEvent::Modified(m)) => assert_eq!(m.data.unwrap()["k"], "v"),
        other => panic!("{other:?}"),
    }
    // The streaming list of informers.
    let mut informer = watcher(maps.clone(), watcher::Config::default().streaming_lists())
        .applied_objects()
        .boxed();
    assert_eq!(
        informer
            .try_next()
            .await
            .unwrap()
            .unwrap()
            .metadata
            .name
            .as_deref(),
        Some("a")
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
}
