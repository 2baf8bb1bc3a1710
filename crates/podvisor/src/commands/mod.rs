//! One module per subcommand. All but `up`, `down` and `doctor` are thin clients of the API.

pub mod doctor;
pub mod down;
pub mod image;
pub mod login;
pub mod namespace;
pub mod pod;
pub mod status;
pub mod up;
pub mod user;

use anyhow::{Context, Result};

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
