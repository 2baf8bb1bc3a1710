//! etcd behind TLS: a real member with certificates, a client with the right ones and with wrong ones.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use store::etcd::{EtcdStore, EtcdTls};
use store::{Revision, Store};

/// An authority: certificate as PEM, and what signs.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

/// A certificate for loopback and its key, PEM.
fn issue(issuer: &Issuer<'static, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A member that asks clients for certificates; ended when dropped.
struct Etcd(Child, String);

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, ca: &str, (certificate, key): &(String, String)) -> Etcd {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/etcd");
    let program = if unpacked.exists() {
        unpacked
    } else {
        "etcd".into()
    };
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let address = common::address().to_string();
    let peer_url = format!("http://{}", common::address());
    let url = format!("https://{address}");
    let process = Command::new(program)
        .args(["--name", "m", "--unsafe-no-fsync", "--data-dir"])
        .arg(dir.join("data"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args([
            "--listen-peer-urls",
            &peer_url,
            "--initial-advertise-peer-urls",
            &peer_url,
        ])
        .args([
            "--initial-cluster",
            &format!("m={peer_url}"),
            "--client-cert-auth",
        ])
        .arg("--trusted-ca-file")
        .arg(file("ca.crt", ca))
        .arg("--cert-file")
        .arg(file("m.crt", certificate))
        .arg("--key-file")
        .arg(file("m.key", key))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd: run `cargo xtask setup --tests`");
    Etcd(process, address)
}

#[tokio::test]
async fn members_and_clients_prove_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, issuer) = authority();
    let etcd = start(dir.path(), &ca, &issue(&issuer));
    let with = |ca_pem: &str, client_pem| EtcdTls {
        ca_pem: ca_pem.to_owned(),
        client_pem,
    };
    // The first member does not exist: the next one is asked.
    let members = ["127.0.0.1:1".to_owned(), etcd.1.clone()];
    let store = EtcdStore::connect_tls(&members, &with(&ca, Some(issue(&issuer)))).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.health().await.is_err() {
        assert!(Instant::now() < deadline, "it did not start");
        tokio::task::yield_now().await;
    }
    let mut watch = store.watch(b"cp/", store.current().await.unwrap()).await.unwrap();
    let made = store.create(Bytes::from("cp/a"), Bytes::from("1")).await.unwrap();
    // The first batch is the history, which is empty.
    let event = loop {
        let batch = watch.next().await.unwrap().unwrap();
        if let Some(event) = batch.events.first() {
            break event.clone();
        }
    };
    assert_eq!(event.record.revision, made);
    let (found, _) = store.get(b"cp/a", None).await.unwrap();
    assert_eq!(found.unwrap().value, "1");

    let (other_ca, other) = authority();
    let cases = [
        ("no certificate of ours", with(&ca, None), "etcd"),
        ("one of another authority", with(&ca, Some(issue(&other))), "etcd"),
        (
            "an authority that is not etcd's",
            with(&other_ca, Some(issue(&issuer))),
            "invalid peer certificate",
        ),
    ];
    for (name, tls, told) in cases {
        let store = EtcdStore::connect_tls(&members[1..], &tls).unwrap();
        let error = store.create(Bytes::from("cp/b"), Bytes::from("1")).await;
        let error = error.expect_err(name).to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
    let error = EtcdStore::connect_tls(&members, &with("", None))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("no certificate"), "{error}");
    assert_eq!(
        store.current().await.unwrap(),
        Revision(made.0),
        "nobody else wrote"
    );
}
