//! `podvisor status`: whether the Supervisor runs, its hosts, its Pod VMs.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};

use crate::config::Places;
use crate::wiring::lock::Lock;

/// Prints what is there; a Supervisor that does not run is an answer and not an error.
pub fn run(places: &Places) -> Result<()> {
    let places = places.resolve();
    let Some(pid) = Lock::holder(&places.data_dir)? else {
        println!(
            "Supervisor: not running (data directory {})",
            places.data_dir.display()
        );
        return Ok(());
    };
    println!(
        "Supervisor: running, process {pid}, data directory {}",
        places.data_dir.display()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(show(&places.data_dir))
}

async fn show(data_dir: &std::path::Path) -> Result<()> {
    let client = super::administrator(data_dir).await?;
    let pods = Api::<Pod>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    for node in Api::<Node>::all(client).list(&ListParams::default()).await? {
        let name = node.metadata.name.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let here = |pod: &&Pod| {
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.node_name.as_deref() == Some(&name))
        };
        let runtime = status
            .node_info
            .map(|info| info.container_runtime_version)
            .unwrap_or_default();
        let state = if ready { "ready" } else { "not ready" };
        println!(
            "Host {name}: {state}, {} Pod VM(s), {runtime}",
            pods.iter().filter(here).count()
        );
    }
    Ok(())
}
