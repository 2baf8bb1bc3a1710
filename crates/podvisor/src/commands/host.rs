//! `podvisor host maintenance|resume|list`: takes a host out of service without breaking what its Pods promise.
//!
//! Entering cordons the Node, marks it, and evicts its Pods by the API, so that disruption budgets are kept. DaemonSets'
//! Pods stay, as they would be made anew at once. It is what `kubectl drain` does, with the host's state to be seen.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::with_client;

/// On a Node in maintenance: since when.
const MARK: &str = "podvisor.io/maintenance";
/// Between two looks at what is left.
const LOOK: Duration = Duration::from_secs(1);

/// What can be done with hosts.
#[derive(Subcommand)]
pub enum Command {
    /// Let a host take no new Pods, and move those that it has to others.
    #[command(after_help = "Examples:
  podvisor host maintenance esx-03
  podvisor host maintenance esx-03 --timeout 900")]
    Maintenance {
        /// The host's name, as `kubectl get nodes` shows it.
        name: String,
        /// Seconds to wait for its Pods; the host stays closed to new ones afterwards, too.
        #[arg(long, default_value_t = 300, value_name = "SECONDS")]
        timeout: u64,
    },
    /// Put a host back into service.
    #[command(after_help = "Examples:
  podvisor host resume esx-03")]
    Resume {
        /// The host's name.
        name: String,
    },
    /// List hosts and their state.
    #[command(after_help = "Examples:
  podvisor host list")]
    List,
}

/// Runs the subcommand with the caller's kubeconfig.
pub fn run(command: &Command) -> Result<()> {
    with_client(|_| async move {
        // The usual client asks again by itself when it is told "not now", as a budget does, and says nothing of it.
        let mut config = kube::Config::infer().await?;
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        let nodes: Api<Node> = Api::all(client.clone());
        match command {
            Command::Maintenance { name, timeout } => {
                let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                mark(&nodes, name, json!(true), json!(since)).await?;
                empty(&client, name, Duration::from_secs(*timeout)).await?;
                println!("host {name} is in maintenance; `podvisor host resume {name}` ends it");
                Ok(())
            }
            Command::Resume { name } => {
                mark(&nodes, name, Value::Null, Value::Null).await?;
                println!("host {name} is in service");
                Ok(())
            }
            Command::List => {
                for node in nodes.list(&ListParams::default()).await?.items {
                    println!("{:<32} {}", node.name_any(), state(&node));
                }
                Ok(())
            }
        }
    })
}

fn state(node: &Node) -> String {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let ready = conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let unschedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    let words = match (node.annotations().get(MARK), unschedulable) {
        (Some(since), true) => format!("in maintenance since {since}"),
        (_, true) => "cordoned".to_owned(),
        (_, false) => "in service".to_owned(),
    };
    match ready {
        true => words,
        false => format!("not ready, {words}"),
    }
}

async fn mark(nodes: &Api<Node>, name: &str, unschedulable: Value, since: Value) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {MARK: since}}, "spec": {"unschedulable": unschedulable}});
    let patched = nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched
        .map(drop)
        .with_context(|| format!("host {name}: see `podvisor host list`"))
}

/// Whether a Pod has to go: those of DaemonSets would come back, and mirror Pods are only shown by the API.
fn has_to_go(pod: &Pod) -> bool {
    let of_set = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "DaemonSet");
    let mirror = pod.annotations().contains_key("kubernetes.io/config.mirror");
    !of_set && !mirror
}

/// Evicts the Pods of a host until none is left.
async fn empty(client: &kube::Client, name: &str, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    let all: Api<Pod> = Api::all(client.clone());
    let fields = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let mut told = String::new();
    loop {
        let mut left = Vec::new();
        for pod in all.list(&fields).await?.items.iter().filter(|pod| has_to_go(pod)) {
            let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            if pod.metadata.deletion_timestamp.is_some() {
                left.push(format!("{place}: ending"));
                continue;
            }
            let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            match api.evict(&pod.name_any(), &EvictParams::default()).await {
                Ok(_) => left.push(format!("{place}: ending")),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                // A budget says not now.
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    left.push(format!("{place}: {}", status.message));
                }
                Err(error) => return Err(error).with_context(|| format!("cannot evict {place}")),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let words = left.join("\n  ");
        if Instant::now() >= end {
            bail!(
                "host {name} takes no new Pods, but after {} s it still has\n  {words}",
                limit.as_secs()
            );
        }
        if words != told {
            println!("waiting for\n  {words}");
            told = words;
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let node = |spec: Value, annotations: Value, ready: &str| -> Node {
            serde_json::from_value(
                json!({"metadata": {"name": "h", "annotations": annotations}, "spec": spec,
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .expect("a Node")
        };
        let closed = json!({"unschedulable": true});
        let cases = [
            (node(json!({}), json!({}), "True"), "in service"),
            (node(closed.clone(), json!({}), "True"), "cordoned"),
            (
                node(closed, json!({MARK: "2026-01-01T00:00:00Z"}), "False"),
                "not ready, in maintenance since 2026-01-01T00:00:00Z",
            ),
            // Somebody uncordoned it by hand.
            (
                node(json!({}), json!({MARK: "2026-01-01T00:00:00Z"}), "True"),
                "in service",
            ),
        ];
        for (node, expected) in cases {
            assert_eq!(state(&node), expected);
        }
    }
}
