//! `podvisor login|logout`, also as `kubectl podvisor …` and `kubectl vsphere …`.
//!
//! The flags are those of the vSphere plug-in, so that scripts written for it go on working; the protocol and the
//! kubeconfig that is written are in `identity::client`.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use identity::client::{self, LoginOptions};
use identity::kubeconfig::{self, Trust};

/// Arguments of `login`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  podvisor login --server=10.0.0.5 -u alice@podvisor.local
  KUBECTL_VSPHERE_PASSWORD=… podvisor login --server=10.0.0.5 -u alice@podvisor.local
  podvisor login --server=127.0.0.1:6443 -u bob@podvisor.local --insecure-skip-tls-verify")]
pub struct Arguments {
    /// The Supervisor, as HOST or HOST:PORT (443 is tried first, then 6443, when no port is given).
    #[arg(long, value_name = "HOST[:PORT]")]
    server: String,
    /// Who signs in, as NAME@DOMAIN.
    #[arg(
        short = 'u',
        long = "vsphere-username",
        visible_alias = "username",
        value_name = "NAME@DOMAIN"
    )]
    username: Option<String>,
    /// Do not check the server's certificate. The connection can then be listened to.
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// Trust the certificate authority in this PEM file.
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// Log in to this cluster of a namespace (not offered by this Supervisor yet: refused with a clear error).
    #[arg(long, value_name = "NAME")]
    tanzu_kubernetes_cluster_name: Option<String>,
    /// The namespace of that cluster.
    #[arg(long, value_name = "NAMESPACE")]
    tanzu_kubernetes_cluster_namespace: Option<String>,
    /// How much to say (accepted for compatibility).
    #[arg(short = 'v', long, default_value_t = 0, value_name = "LEVEL")]
    verbose: u8,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    request_timeout: u64,
}

/// Arguments of `logout`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  podvisor logout
  podvisor logout --server=10.0.0.5")]
pub struct LogoutArguments {
    /// Only what was written for this Supervisor.
    #[arg(long, value_name = "HOST[:PORT]")]
    server: Option<String>,
}

/// Signs in and writes the contexts.
pub fn run(arguments: &Arguments) -> Result<()> {
    let username = match &arguments.username {
        Some(username) => username.clone(),
        None => prompt("Username: ")?,
    };
    let password = match env::var("KUBECTL_VSPHERE_PASSWORD") {
        Ok(password) => password,
        Err(_) => rpassword::prompt_password("Password: ")
            .context("no terminal to ask for the password: set KUBECTL_VSPHERE_PASSWORD")?,
    };
    let trust = match (
        &arguments.certificate_authority,
        arguments.insecure_skip_tls_verify,
    ) {
        (_, true) => Trust::Insecure,
        (Some(path), false) => Trust::Authority(
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        ),
        (None, false) => Trust::System,
    };
    let options = LoginOptions {
        server: arguments.server.clone(),
        username,
        password,
        trust,
        kubeconfig: kubeconfig_path()?,
        guest_cluster: arguments
            .tanzu_kubernetes_cluster_name
            .clone()
            .map(|name| (name, arguments.tanzu_kubernetes_cluster_namespace.clone())),
        timeout: Duration::from_secs(arguments.request_timeout.max(1)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(client::login(&options))?;
    if !done.banner.is_empty() {
        println!("{}", done.banner);
    }
    print!("{}", done.message());
    Ok(())
}

/// Removes the contexts, clusters and users that `login` wrote.
pub fn logout(arguments: &LogoutArguments) -> Result<()> {
    let removed = client::logout(&kubeconfig_path()?, arguments.server.as_deref())?;
    if removed.is_empty() {
        println!("You were not logged in.");
    } else {
        println!(
            "Your KUBECONFIG context has changed.\nLogged out of {} context(s).",
            removed.len()
        );
    }
    Ok(())
}

fn kubeconfig_path() -> Result<PathBuf> {
    kubeconfig::default_path().context("no home directory to keep a kubeconfig in: set KUBECONFIG")
}

fn prompt(question: &str) -> Result<String> {
    use std::io::Write;
    let mut out = std::io::stderr();
    write!(out, "{question}")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_owned();
    if answer.is_empty() {
        bail!("no user name: give -u NAME@DOMAIN");
    }
    Ok(answer)
}
