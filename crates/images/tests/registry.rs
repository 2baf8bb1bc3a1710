//! Pulls from a real registry on loopback: Debian's `docker-registry`, filled over its own HTTP API by `skopeo`.
//!
//! Images are made here as OCI layouts, so that every case is data: good, foreign, corrupt.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use images::{ImageStore, ImagesConfig, Mirrors, PullPolicy, PullProgress};
use serde_json::json;
use sha2::{Digest, Sha256};

/// A registry of its own for each test, gone with it.
struct Registry {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process's crypto provider, which `podvisor` installs in its `main`.
fn install_crypto() {
    // A second test in the same process finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

impl Registry {
    fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts with further lines of the `http` section, made in the registry's directory.
    fn start_with(further: impl FnOnce(&Path) -> String) -> Self {
        install_crypto();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let further = further(directory.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let config = directory.path().join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: '127.0.0.1:{port}'\n{further}",
                directory.path().join("storage").display()
            ),
        )
        .expect("written");
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/docker-registry");
        let program = if unpacked.exists() {
            unpacked
        } else {
            PathBuf::from("docker-registry")
        };
        let child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry: run `cargo xtask setup`");
        let registry = Self {
            child,
            port,
            directory,
        };
        let end = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "the registry does not answer");
            std::thread::yield_now();
        }
        registry
    }

    fn push(&self, name: &str, architecture: &str, layer: &[u8], diff_id: Option<&str>) {
        let layout = self
            .directory
            .path()
            .join("layout")
            .join(name.replace([':', '/'], "-"));
        write_layout(&layout, architecture, layer, diff_id);
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", layout.display()))
            .arg(format!("docker://127.0.0.1:{}/{name}", self.port))
            .status()
            .expect("skopeo: run `cargo xtask setup`");
        assert!(status.success());
    }

    fn store(&self, name: &str) -> ImageStore {
        let mirrors = Mirrors(vec![("*".to_owned(), format!("http://127.0.0.1:{}", self.port))]);
        let config = ImagesConfig {
            mirrors,
            ..ImagesConfig::default()
        };
        ImageStore::open(&self.directory.path().join(name), config).expect("opened")
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// An OCI layout with one layer.
fn write_layout(layout: &Path, architecture: &str, tar: &[u8], diff_id: Option<&str>) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let put = |bytes: &[u8]| {
        let name = digest(bytes);
        fs::write(blobs.join(name.trim_start_matches("sha256:")), bytes).expect("written");
        (name, bytes.len())
    };
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).expect("compressed");
    let (layer, layer_size) = put(&gzip.finish().expect("finished"));
    let diff_id = diff_id.map_or_else(|| digest(tar), str::to_owned);
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["GREETING=hello"], "Cmd": ["/bin/app"], "User": "7"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let (config, config_size) = put(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": layer_size}],
    });
    let (manifest, size) = put(manifest.to_string().as_bytes());
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    let index = json!({"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size}]});
    fs::write(layout.join("index.json"), index.to_string()).expect("written");
}

fn layer() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    builder
        .append_data(&mut header, "bin/app", "hello".as_bytes())
        .expect("appended");
    builder.into_inner().expect("finished")
}

fn quiet(_: PullProgress) {}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_becomes_a_disk_once() {
    let registry = Registry::start();
    registry.push("library/app:1", "amd64", &layer(), None);
    let store = Arc::new(registry.store("store"));
    let builds = Arc::new(AtomicUsize::new(0));
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let (store, builds) = (Arc::clone(&store), Arc::clone(&builds));
            tokio::spawn(async move {
                let count = move |progress| {
                    if progress == PullProgress::BuildingDisk {
                        builds.fetch_add(1, Ordering::SeqCst);
                    }
                };
                store
                    .ensure("app:1", PullPolicy::IfNotPresent, None, &count)
                    .await
                    .expect("pulled")
            })
        })
        .collect();
    let mut pulled = 0;
    for pull in pulls {
        let result = pull.await.expect("no panic");
        pulled += usize::from(result.pulled);
        assert_eq!(result.image.config.cmd, ["/bin/app"]);
        assert!(
            result
                .image
                .repo_digest
                .starts_with("docker.io/library/app@sha256:")
        );
    }
    assert_eq!((pulled, builds.load(Ordering::SeqCst)), (1, 1));
    let image = store.get("docker.io/library/app:1").expect("known");
    let magic = fs::read(&image.disk).expect("a disk")[1024..1028].to_vec();
    assert_eq!(magic, 0xE0F5_E1E2_u32.to_le_bytes(), "EROFS magic");
    // A second store on the same directory knows it, and Always pulls nothing that is here.
    let again = registry.store("store");
    let result = again
        .ensure("app:1", PullPolicy::Always, None, &quiet)
        .await
        .expect("checked");
    assert!(!result.pulled);
    assert_eq!(again.list().len(), 1);
    assert!(
        again
            .remove_unused(&std::collections::HashSet::new())
            .expect("removed")
            > 0
    );
    assert!(again.get("app:1").is_none() && !image.disk.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why_and_leave_nothing() {
    let registry = Registry::start();
    registry.push("library/arm:1", "arm64", &layer(), None);
    let wrong = format!("sha256:{}", "0".repeat(64));
    registry.push("library/corrupt:1", "amd64", &layer(), Some(&wrong));
    let store = registry.store("store");
    let cases = [
        ("nope:1", PullPolicy::Always, "not found"),
        ("arm:1", PullPolicy::IfNotPresent, "linux/arm64"),
        ("corrupt:1", PullPolicy::IfNotPresent, "digest mismatch"),
        (
            "app:1",
            PullPolicy::Never,
            "is not present with pull policy of Never",
        ),
        ("Bad Name", PullPolicy::Always, "couldn't parse image name"),
    ];
    for (name, policy, expected) in cases {
        let error = store
            .ensure(name, policy, None, &quiet)
            .await
            .expect_err(name)
            .to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let left: Vec<_> = ["store/tmp", "store/disks"]
        .iter()
        .flat_map(|path| fs::read_dir(registry.directory.path().join(path)).expect("there"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_is_named() {
    install_crypto();
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let mirrors = Mirrors(vec![("*".to_owned(), "http://127.0.0.1:1".to_owned())]);
    let config = ImagesConfig {
        mirrors,
        ..ImagesConfig::default()
    };
    let store = ImageStore::open(scratch.path(), config).expect("opened");
    let error = store
        .ensure("app", PullPolicy::Always, None, &quiet)
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("127.0.0.1:1") && error.contains("refused"),
        "{error}"
    );
}

/// A certificate for 127.0.0.1 by an authority of its own; returns that authority.
fn secure(directory: &Path) -> (Vec<u8>, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()])
        .expect("parameters")
        .signed_by(&key, &Issuer::new(authority, authority_key))
        .expect("signed");
    let (certificate_file, key_file) = (directory.join("server.crt"), directory.join("server.key"));
    fs::write(&certificate_file, server.pem()).expect("written");
    fs::write(&key_file, key.serialize_pem()).expect("written");
    let section = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        certificate_file.display(),
        key_file.display()
    );
    (root.der().to_vec(), section)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_needs_a_known_authority() {
    let mut authority = Vec::new();
    let registry = Registry::start_with(|directory| {
        let (root, section) = secure(directory);
        authority = root;
        section
    });
    registry.push("library/app:1", "amd64", &layer(), None);
    let open = |name: &str, authorities: Vec<Vec<u8>>| {
        let config = ImagesConfig {
            mirrors: Mirrors(vec![(
                "*".to_owned(),
                format!("https://127.0.0.1:{}", registry.port),
            )]),
            authorities,
        };
        ImageStore::open(&registry.directory.path().join(name), config).expect("opened")
    };
    let error = open("stranger", Vec::new())
        .ensure("app:1", PullPolicy::IfNotPresent, None, &quiet)
        .await
        .expect_err("an unknown authority")
        .to_string();
    assert!(error.contains("certificate"), "{error}");
    let pulled = open("friend", vec![authority])
        .ensure("app:1", PullPolicy::IfNotPresent, None, &quiet)
        .await
        .expect("pulled");
    assert!(pulled.pulled && pulled.image.disk.exists());
}
