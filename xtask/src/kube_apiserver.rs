//! Upstream's API server, which the user names and nobody installs, on an etcd of its own: a baseline, and the one that is right.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::process::Process;
use identity::authority::{Authority, Request};
use identity::kubeconfig::Kubeconfig;
use store::Store;
use store::etcd::EtcdStore;

use crate::run::on_path;

/// Starts `binary`, a kube-apiserver, on an etcd of its own: certificates, these flags, and upstream's defaults otherwise.
/// `kubeconfig` becomes that of an administrator.
pub async fn start(
    binary: &Path,
    directory: &Path,
    kubeconfig: &Path,
    flags: &[(&str, &str)],
) -> Result<Vec<Process>> {
    let (etcd, store) = start_etcd(directory).await?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let pki = directory.join("upstream-pki");
    let authority = Authority::load_or_create(&pki)?;
    let server = authority.issue(&Request::server("kube-apiserver", ["127.0.0.1", "localhost"]))?;
    let admin = authority.issue(&Request::client("admin", Some("system:masters")))?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = pki.join(name);
        identity::files::write_private(&path, text.as_bytes())?;
        Ok(path.display().to_string())
    };
    let (certificate, key) = (
        file("server.pem", &server.certificate_pem)?,
        file("server-key.pem", &server.key_pem)?,
    );
    let mut command = Command::new(binary);
    for (flag, value) in [
        ("etcd-servers", store.as_str()),
        ("bind-address", "127.0.0.1"),
        ("secure-port", &port.to_string()),
        // Only written into an object: an address for documentation, which nobody is asked at.
        ("advertise-address", "192.0.2.1"),
        ("endpoint-reconciler-type", "none"),
        ("service-cluster-ip-range", "10.96.0.0/16"),
        ("client-ca-file", &file("ca.pem", authority.certificate_pem())?),
        ("tls-cert-file", &certificate),
        ("tls-private-key-file", &key),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", &certificate),
        ("service-account-signing-key-file", &key),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    for (flag, value) in flags {
        command.arg(format!("--{flag}={value}"));
    }
    Kubeconfig::for_certificate(
        "upstream",
        &format!("https://127.0.0.1:{port}"),
        authority.certificate_pem(),
        "admin",
        &admin,
    )
    .save(kubeconfig)?;
    let log = directory.join("kube-apiserver.log");
    Ok(vec![Process::start("kube-apiserver", command, &log)?, etcd])
}

/// The etcd of the path, or the one that `cargo xtask setup --tests` has unpacked.
pub fn etcd_program() -> Option<PathBuf> {
    let unpacked = e2e::paths::tools().join("etcd");
    match on_path("etcd") {
        true => Some("etcd".into()),
        false => unpacked.exists().then_some(unpacked),
    }
}

/// Starts etcd on loopback, with its data in `directory`; answers it and its address when it serves.
pub async fn start_etcd(directory: &Path) -> Result<(Process, String)> {
    let free = || -> Result<String> {
        Ok(format!(
            "http://{}",
            TcpListener::bind("127.0.0.1:0")?.local_addr()?
        ))
    };
    let (client, peer) = (free()?, free()?);
    let program = etcd_program().context("etcd is not installed: run `cargo xtask setup --tests`")?;
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(directory.join("etcd"));
    for (flag, value) in [
        ("listen-client-urls", client.as_str()),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &format!("default={peer}")),
        ("quota-backend-bytes", "4294967296"),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    let mut process = Process::start("etcd", command, &directory.join("etcd.log"))?;
    let store = EtcdStore::connect(std::slice::from_ref(&client))?;
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.health().await {
        process.check_alive()?;
        anyhow::ensure!(Instant::now() < end, "etcd does not serve: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((process, client))
}
