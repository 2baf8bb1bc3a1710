//! One module per subcommand. All but `up`, `down` and `doctor` are thin clients of the API.

pub mod backup;
pub mod dns;
pub mod doctor;
pub mod down;
pub mod host;
pub mod image;
pub mod login;
pub mod namespace;
pub mod pod;
pub mod status;
pub mod up;
pub mod user;

use anyhow::{Context, Result};

/// The administrator's client: the kubeconfig that kubectl would use, without one that of the data directory.
async fn administrator(data_dir: &std::path::Path) -> Result<kube::Client> {
    use kube::config::{KubeConfigOptions, Kubeconfig};
    let file = data_dir.join("admin.kubeconfig");
    let config = if std::env::var_os("KUBECONFIG").is_none() && file.exists() {
        let kubeconfig =
            Kubeconfig::read_from(&file).with_context(|| format!("cannot read {}", file.display()))?;
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?
    } else {
        kube::Config::infer()
            .await
            .context("no usable kubeconfig: set KUBECONFIG")?
    };
    Ok(kube::Client::try_from(config)?)
}

/// A client for the kubeconfig that kubectl would use, and a runtime to drive it.
fn with_client<T, F>(work: impl FnOnce(kube::Client) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = kube::Client::try_default()
            .await
            .context("no usable kubeconfig: set KUBECONFIG, or sign in with `podvisor login`")?;
        work(client).await
    })
}
