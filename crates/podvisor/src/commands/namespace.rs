//! `podvisor namespace create|set|grant|revoke|list`: edits `SupervisorNamespace` objects.
//!
//! The objects do the work: a reconciler turns each into a Namespace with its bindings, quota and defaults.
//! `kubectl apply` of the same object has the same effect.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::with_client;

/// How long a new namespace may take to become active.
const ACTIVE_LIMIT: Duration = Duration::from_secs(30);

/// How often a change is tried that others' writes come between, and by how much each pause is longer than the last.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// What can be done with Supervisor namespaces.
#[derive(Subcommand)]
pub enum Command {
    /// Create a Supervisor namespace and wait until it can be used.
    #[command(after_help = "Examples:
  podvisor namespace create demo-app-01 --cpu 4 --memory 4Gi --storage 20Gi
  podvisor namespace create sandbox")]
    Create {
        /// The namespace's name.
        name: String,
        #[command(flatten)]
        limits: Limits,
        /// A line for the people who see it.
        #[arg(long)]
        description: Option<String>,
    },
    /// Change the limits of a Supervisor namespace; what is not named stays.
    #[command(after_help = "Examples:
  podvisor namespace set demo-app-01 --memory 8Gi
  podvisor namespace set demo-app-01 --pods 50")]
    Set {
        /// The namespace's name.
        name: String,
        #[command(flatten)]
        limits: Limits,
    },
    /// Let a person or a group use a namespace.
    #[command(after_help = "Examples:
  podvisor namespace grant demo-app-01 alice@podvisor.local edit
  podvisor namespace grant demo-app-01 --group Developers@podvisor.local view")]
    Grant {
        /// The namespace's name.
        name: String,
        /// The person or group, as NAME@DOMAIN.
        subject: String,
        /// What they may do.
        role: Role,
        /// The subject is a group.
        #[arg(long)]
        group: bool,
    },
    /// Take a grant back.
    #[command(after_help = "Examples:
  podvisor namespace revoke demo-app-01 bob@podvisor.local")]
    Revoke {
        /// The namespace's name.
        name: String,
        /// The person or group, as NAME@DOMAIN.
        subject: String,
    },
    /// List Supervisor namespaces.
    #[command(after_help = "Examples:
  podvisor namespace list")]
    List,
}

/// How much a namespace may use.
#[derive(clap::Args)]
pub struct Limits {
    /// CPUs, for example 4 or 500m.
    #[arg(long, value_name = "QUANTITY")]
    cpu: Option<String>,
    /// Memory, for example 4Gi.
    #[arg(long, value_name = "QUANTITY")]
    memory: Option<String>,
    /// Storage of volumes, for example 20Gi.
    #[arg(long, value_name = "QUANTITY")]
    storage: Option<String>,
    /// Number of Pods.
    #[arg(long, value_name = "N")]
    pods: Option<u32>,
}

impl Limits {
    fn to_value(&self) -> Value {
        let mut limits = serde_json::Map::new();
        let named = [
            ("cpu", &self.cpu),
            ("memory", &self.memory),
            ("storage", &self.storage),
        ];
        for (name, quantity) in named {
            if let Some(quantity) = quantity {
                limits.insert(name.to_owned(), json!(quantity));
            }
        }
        if let Some(pods) = self.pods {
            limits.insert("pods".to_owned(), json!(pods.to_string()));
        }
        Value::Object(limits)
    }
}

/// What a subject may do in a namespace.
#[derive(Clone, Copy, ValueEnum)]
pub enum Role {
    /// Read everything but Secrets.
    View,
    /// Create, change and delete workloads.
    Edit,
    /// Everything in the namespace, its roles included.
    Owner,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Edit => "edit",
            Self::Owner => "owner",
        }
    }
}

/// Runs the subcommand with the caller's kubeconfig.
pub fn run(command: &Command) -> Result<()> {
    with_client(|client| async move {
        let api: Api<DynamicObject> = Api::all_with(client, &resource());
        match command {
            Command::Create {
                name,
                limits,
                description,
            } => create(&api, name, limits, description).await,
            Command::Set { name, limits } => set(&api, name, limits).await,
            Command::Grant {
                name,
                subject,
                role,
                group,
            } => {
                let kind = if *group { "Group" } else { "User" };
                change_permissions(&api, name, subject, Some((kind, *role))).await?;
                println!("{subject} may {} {name}", role.name());
                Ok(())
            }
            Command::Revoke { name, subject } => {
                change_permissions(&api, name, subject, None).await?;
                println!("{subject} has no grant on {name} any more");
                Ok(())
            }
            Command::List => list(&api).await,
        }
    })
}

fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("podvisor.io", "v1alpha1", "SupervisorNamespace");
    ApiResource::from_gvk_with_plural(&kind, "supervisornamespaces")
}

async fn create(
    api: &Api<DynamicObject>,
    name: &str,
    limits: &Limits,
    description: &Option<String>,
) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "podvisor.io/v1alpha1",
        "kind": "SupervisorNamespace",
        "metadata": {"name": name},
        "spec": {"limits": limits.to_value(), "description": description.clone().unwrap_or_default()},
    }))?;
    api.create(&PostParams::default(), &object).await?;
    let active = |object: Option<&DynamicObject>| {
        object.is_some_and(|object| object.data["status"]["phase"] == json!("Active"))
    };
    let wait = kube::runtime::wait::await_condition(api.clone(), name, active);
    tokio::time::timeout(ACTIVE_LIMIT, wait).await.with_context(|| {
        format!(
            "{name} was created but is not active after {} s: see `kubectl describe svns {name}`",
            ACTIVE_LIMIT.as_secs()
        )
    })??;
    println!("namespace {name} is ready");
    Ok(())
}

async fn set(api: &Api<DynamicObject>, name: &str, limits: &Limits) -> Result<()> {
    let limits = limits.to_value();
    if limits.as_object().is_none_or(serde_json::Map::is_empty) {
        bail!("nothing to set: give --cpu, --memory, --storage or --pods");
    }
    let patch = Patch::Merge(json!({"spec": {"limits": limits}}));
    api.patch(name, &PatchParams::default(), &patch).await?;
    println!("limits of {name} are set");
    Ok(())
}

/// Replaces the subject's grant, or removes it. The namespace's controller writes the same object (its status), and so
/// may another administrator: a refused write is done anew on what is there then, so that no grant is lost.
async fn change_permissions(
    api: &Api<DynamicObject>,
    name: &str,
    subject: &str,
    grant: Option<(&str, Role)>,
) -> Result<()> {
    if !subject.contains('@') {
        bail!("`{subject}` is not NAME@DOMAIN, for example alice@podvisor.local");
    }
    for attempt in 0..ATTEMPTS {
        tokio::time::sleep(PAUSE * attempt).await;
        let mut object = api.get(name).await?;
        let spec = &mut object.data["spec"];
        let mut permissions = spec["permissions"].as_array().cloned().unwrap_or_default();
        permissions.retain(|permission| permission["subject"] != json!(subject));
        if let Some((kind, role)) = grant {
            permissions.push(json!({"subject": subject, "kind": kind, "role": role.name()}));
        }
        spec["permissions"] = Value::Array(permissions);
        match api.replace(name, &PostParams::default(), &object).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{name} was changed by others {ATTEMPTS} times meanwhile; try again")
}

async fn list(api: &Api<DynamicObject>) -> Result<()> {
    println!(
        "{:<30} {:<12} {:<8} {:<10} {:<10} WHO",
        "NAME", "PHASE", "CPU", "MEMORY", "STORAGE"
    );
    for object in api.list(&ListParams::default()).await? {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let spec = &object.data["spec"];
        let who: Vec<String> = spec["permissions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|permission| format!("{}={}", text(&permission["subject"]), text(&permission["role"])))
            .collect();
        println!(
            "{:<30} {:<12} {:<8} {:<10} {:<10} {}",
            object.metadata.name.unwrap_or_default(),
            text(&object.data["status"]["phase"]),
            text(&spec["limits"]["cpu"]),
            text(&spec["limits"]["memory"]),
            text(&spec["limits"]["storage"]),
            who.join(",")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A server whose object is changed by somebody else before each of the first `conflicts` writes.
    fn server(conflicts: u32, writes: Arc<AtomicU32>) -> Api<DynamicObject> {
        let answer = move |request: http::Request<kube::client::Body>| {
            let written = match request.method().as_str() {
                "PUT" => writes.fetch_add(1, Ordering::SeqCst) + 1,
                _ => 0,
            };
            async move {
                let refused = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "the object has been modified", "reason": "Conflict", "code": 409});
                let object = json!({"apiVersion": "podvisor.io/v1alpha1", "kind": "SupervisorNamespace",
                    "metadata": {"name": "demo", "resourceVersion": "1"}, "spec": {}});
                let (code, body) = match written > 0 && written <= conflicts {
                    true => (409, refused),
                    false => (200, object),
                };
                let body = kube::client::Body::from(body.to_string().into_bytes());
                http::Response::builder().status(code).body(body)
            }
        };
        let client = kube::Client::new(tower::service_fn(answer), "default");
        Api::all_with(client, &resource())
    }

    #[tokio::test]
    async fn a_grant_survives_the_writes_of_others() {
        let cases = [(0, true, 1), (3, true, 4), (u32::MAX, false, ATTEMPTS)];
        for (conflicts, granted, expected) in cases {
            let writes = Arc::new(AtomicU32::new(0));
            let api = server(conflicts, writes.clone());
            let grant = Some(("User", Role::Edit));
            let done = change_permissions(&api, "demo", "alice@podvisor.local", grant).await;
            assert_eq!(
                (done.is_ok(), writes.load(Ordering::SeqCst)),
                (granted, expected),
                "{done:?}"
            );
        }
    }
}
