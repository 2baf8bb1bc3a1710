//! Pulls from a real registry on loopback: Debian's `docker-registry`, filled over its own HTTP API by `skopeo`.
//!
//! Images are made here as OCI layouts, so that every case is data: good, foreign, corrupt.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use images::{Credentials, Host, ImageStore, ImagesConfig, Mirrors, PullPolicy, PullProgress, PullSecret};
use serde_json::{Value, json};
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
        let config = directory.path().join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: '127.0.0.1:0'\n{further}",
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
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry: run `cargo xtask setup`");
        let log = BufReader::new(child.stderr.take().expect("a log"));
        let mut registry = Self {
            child,
            port: 0,
            directory,
        };
        // It takes a free port, listens, and says which.
        let mut lines = log.lines().map_while(Result::ok);
        registry.port = lines
            .find_map(|line| {
                let (_, port) = line.split_once("listening on 127.0.0.1:")?;
                let end = port.find(|letter: char| !letter.is_ascii_digit());
                port[..end.unwrap_or(port.len())].parse().ok()
            })
            .expect("the registry listens");
        // It goes on to write, and would end if nobody read.
        std::thread::spawn(move || lines.for_each(drop));
        registry
    }

    fn push(&self, name: &str, architecture: &str, layer: &[u8], diff_id: Option<&str>) {
        let layout = self
            .directory
            .path()
            .join("layout")
            .join(name.replace([':', '/'], "-"));
        write_layout(&layout, architecture, layer, diff_id);
        self.copy(&layout, name);
    }

    /// Brings an OCI layout here.
    fn copy(&self, layout: &Path, name: &str) {
        self.copy_as(layout, name, &[]);
    }

    /// Likewise, with more words to skopeo.
    fn copy_as(&self, layout: &Path, name: &str, more: &[&str]) {
        let status = Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
            // Asked for by few.
            .args(["--dest-creds", "user:s3cret"])
            .args(more)
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
    let diff_id = diff_id.map_or_else(|| digest(tar), str::to_owned);
    let layer = put_layer(layout, tar);
    write_manifest(layout, architecture, &[layer], &[diff_id]);
}

/// A blob of a layout: its digest and size.
fn put(layout: &Path, bytes: &[u8]) -> (String, usize) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let name = digest(bytes);
    fs::write(blobs.join(name.trim_start_matches("sha256:")), bytes).expect("written");
    (name, bytes.len())
}

fn put_layer(layout: &Path, tar: &[u8]) -> Value {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(tar).expect("compressed");
    let (digest, size) = put(layout, &gzip.finish().expect("finished"));
    json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": size})
}

/// What makes layers that are there an image.
fn write_manifest(layout: &Path, architecture: &str, layers: &[Value], diff_ids: &[String]) {
    let manifest = put_manifest(layout, architecture, layers, diff_ids);
    write_index(layout, &manifest);
}

/// The layout begins with this.
fn write_index(layout: &Path, first: &Value) {
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
    let index = json!({"schemaVersion": 2, "manifests": [first]});
    fs::write(layout.join("index.json"), index.to_string()).expect("written");
}

/// A manifest and its configuration; the manifest's descriptor.
fn put_manifest(layout: &Path, architecture: &str, layers: &[Value], diff_ids: &[String]) -> Value {
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["GREETING=hello"], "Cmd": ["/bin/app"], "User": "7"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (config, config_size) = put(layout, config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": layers,
    });
    let (manifest, size) = put(layout, manifest.to_string().as_bytes());
    json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size})
}

fn layer() -> Vec<u8> {
    layer_that_says("hello")
}

fn layer_that_says(word: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(word.len() as u64);
    header.set_mode(0o755);
    builder
        .append_data(&mut header, "bin/app", word.as_bytes())
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
                    .ensure("app:1", PullPolicy::IfNotPresent, &[], &count)
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
        .ensure("app:1", PullPolicy::Always, &[], &quiet)
        .await
        .expect("checked");
    assert!(!result.pulled);
    assert_eq!(again.list().len(), 1);
    // Removed is what is named, and nothing else.
    let removed = |id: &str| {
        let ids = std::collections::HashSet::from([id.to_owned()]);
        again.remove(&ids).expect("removed")
    };
    assert_eq!(removed("another"), 0);
    assert_eq!(again.list().len(), 1);
    assert!(removed(&image.id) > 0);
    assert!(again.get("app:1").is_none() && !image.disk.exists());
}

/// Of an image for several processors the one for this host is taken, wherever it stands, and however registries write it
/// down: OCI's index, Docker's list, and single manifests of both.
#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_manifest_is_understood() {
    let registry = Registry::start();
    let layout = registry.directory.path().join("several");
    let one = |platform: &str| {
        let tar = layer_that_says(&format!("this is {platform}"));
        let mut entry = put_manifest(&layout, platform, &[put_layer(&layout, &tar)], &[digest(&tar)]);
        entry["platform"] = json!({"os": "linux", "architecture": platform});
        entry
    };
    let index = "application/vnd.oci.image.index.v1+json";
    let list = json!({"schemaVersion": 2, "mediaType": index, "manifests": [one("arm64"), one("amd64")]});
    let (list, size) = put(&layout, list.to_string().as_bytes());
    write_index(
        &layout,
        &json!({"mediaType": index, "digest": list, "size": size}),
    );
    let docker = ["--format", "v2s2"];
    registry.copy_as(&layout, "library/several:oci", &["--all"]);
    registry.copy_as(
        &layout,
        "library/several:docker",
        &["--all", docker[0], docker[1]],
    );
    let single = registry.directory.path().join("single");
    write_layout(&single, "amd64", &layer_that_says("this is amd64"), None);
    registry.copy_as(&single, "library/several:single", &docker);

    let expected = [
        ("oci", index),
        (
            "docker",
            "application/vnd.docker.distribution.manifest.list.v2+json",
        ),
        ("single", "application/vnd.docker.distribution.manifest.v2+json"),
    ];
    for (tag, kind) in expected {
        let place = format!("docker://127.0.0.1:{}/library/several:{tag}", registry.port);
        let raw = Command::new("skopeo")
            .args(["inspect", "--raw", "--tls-verify=false", &place])
            .output()
            .expect("skopeo")
            .stdout;
        let manifest: Value = serde_json::from_slice(&raw).expect("a manifest");
        assert_eq!(manifest["mediaType"], kind, "{tag}");
        let store = registry.store(tag);
        let name = format!("several:{tag}");
        let pulled = store.ensure(&name, PullPolicy::Always, &[], &quiet).await;
        let image = pulled.expect(tag).image;
        // The image is known by what its name stands for.
        let known = format!("docker.io/library/several@{}", digest(&raw));
        assert_eq!(
            (image.repo_digest.as_str(), image.config.user.as_str()),
            (known.as_str(), "7")
        );
        let disk = fs::read(&image.disk).expect("a disk");
        let says = |word: &[u8]| disk.windows(word.len()).any(|found| found == word);
        assert!(says(b"this is amd64") && !says(b"this is arm64"), "{tag}");
    }
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
            .ensure(name, policy, &[], &quiet)
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
        .ensure("app", PullPolicy::Always, &[], &quiet)
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
    let open = |name: &str, authorities: Vec<(Host, Vec<u8>)>| {
        let config = ImagesConfig {
            mirrors: Mirrors(vec![(
                "*".to_owned(),
                format!("https://127.0.0.1:{}", registry.port),
            )]),
            authorities,
            ..ImagesConfig::default()
        };
        ImageStore::open(&registry.directory.path().join(name), config).expect("opened")
    };
    let of = |host: &str| vec![(Host(host.to_owned()), authority.clone())];
    for (name, authorities) in [("stranger", Vec::new()), ("another's", of("registry.example"))] {
        let error = open(name, authorities)
            .ensure("app:1", PullPolicy::IfNotPresent, &[], &quiet)
            .await
            .expect_err("an unknown authority")
            .to_string();
        assert!(error.contains("certificate"), "{name}: {error}");
    }
    let pulled = open("friend", of("127.0.0.1"))
        .ensure("app:1", PullPolicy::IfNotPresent, &[], &quiet)
        .await
        .expect("pulled");
    assert!(pulled.pulled && pulled.image.disk.exists());
}

/// A proxy that hands every connection on to one registry; how many there were.
async fn proxy(registry: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", registry)).await?;
                // Requests through a proxy name their host, which a server takes as it takes others.
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_may_have_a_proxy() {
    let registry = Registry::start();
    registry.push("library/app:1", "amd64", &layer(), None);
    let (port, count) = proxy(registry.port).await;
    let host = |name: &str| Host(name.to_owned());
    let open = |name: &str, proxies: Vec<(Host, String)>| {
        let config = ImagesConfig {
            mirrors: Mirrors(vec![
                ("docker.io".to_owned(), "http://registry.invalid".to_owned()),
                (
                    "near.example".to_owned(),
                    format!("http://127.0.0.1:{}", registry.port),
                ),
            ]),
            proxies,
            ..ImagesConfig::default()
        };
        ImageStore::open(&registry.directory.path().join(name), config).expect("opened")
    };
    let url = format!("http://127.0.0.1:{port}");
    let through = open("through", vec![(host("registry.invalid"), url.clone())]);
    let pull =
        async |store: &ImageStore, image: &str| store.ensure(image, PullPolicy::Always, &[], &quiet).await;
    // Nobody but the proxy knows this name.
    pull(&through, "app:1").await.expect("pulled");
    let used = count.load(Ordering::SeqCst);
    assert!(used > 0);
    pull(&through, "near.example/library/app:1")
        .await
        .expect("pulled");
    let all_but_one = vec![(host("*"), url), (host("127.0.0.1"), images::DIRECT.to_owned())];
    let around = open("around", all_but_one);
    pull(&around, "near.example/library/app:1").await.expect("pulled");
    assert_eq!(
        count.load(Ordering::SeqCst),
        used,
        "a proxy was used for another registry"
    );
    pull(&around, "app:1").await.expect("pulled");
    assert!(count.load(Ordering::SeqCst) > used);
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a line");
    let kib = line
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number");
    kib << 10
}

/// Pulls an image of so many bytes that do not shrink.
async fn pull_large(bytes: u64) {
    let registry = Registry::start();
    let layout = registry.directory.path().join("large");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let draft = blobs.join("draft");
    let mut builder = tar::Builder::new(std::io::BufWriter::new(fs::File::create(&draft).expect("made")));
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    let noise = fs::File::open("/dev/urandom").expect("there");
    builder
        .append_data(&mut header, "big", std::io::Read::take(noise, bytes))
        .expect("appended");
    drop(builder.into_inner().expect("finished"));
    let sum = Command::new("sha256sum")
        .arg(&draft)
        .output()
        .expect("sha256sum")
        .stdout;
    let layer = String::from_utf8_lossy(&sum[..64]).into_owned();
    fs::rename(&draft, blobs.join(&layer)).expect("renamed");
    let size = fs::metadata(blobs.join(&layer)).expect("there").len();
    let layers = [
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{layer}"), "size": size}),
    ];
    write_manifest(&layout, "amd64", &layers, &[format!("sha256:{layer}")]);
    registry.copy(&layout, "library/large:1");
    registry
        .store("store")
        .ensure("large:1", PullPolicy::Always, &[], &quiet)
        .await
        .expect("pulled");
    assert!(peak() < 100 << 20, "{} MiB", peak() >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_takes_little_memory() {
    pull_large(160 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and four gigabytes of disk; the short form runs always"]
async fn a_gigabyte_takes_little_memory() {
    pull_large(1 << 30).await;
}

/// As many layers as overlays of other runtimes can have at most, each hiding a file of the one before.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_127_layers() {
    let registry = Registry::start();
    let layout = registry.directory.path().join("deep");
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for number in 0..127 {
        let mut builder = tar::Builder::new(Vec::new());
        let mut names = vec![format!("layer-{number}")];
        if number > 0 {
            names.push(format!(".wh.layer-{}", number - 1));
        }
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, name, std::io::empty())
                .expect("appended");
        }
        let tar = builder.into_inner().expect("finished");
        diff_ids.push(digest(&tar));
        layers.push(put_layer(&layout, &tar));
    }
    write_manifest(&layout, "amd64", &layers, &diff_ids);
    registry.copy(&layout, "library/deep:1");
    let store = registry.store("store");
    let image = store
        .ensure("deep:1", PullPolicy::Always, &[], &quiet)
        .await
        .expect("pulled")
        .image;
    // Names stand in an EROFS as they are.
    let disk = fs::read(&image.disk).expect("a disk");
    let has = |name: &[u8]| disk.windows(name.len()).any(|found| found == name);
    assert!(has(b"layer-126") && !has(b"layer-125") && !has(b"layer-0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_may_want_a_password() {
    let registry = Registry::start_with(|directory| {
        let file = directory.join("htpasswd");
        let line = "user:$2b$04$Ck95a/ASB6.tSlw041nXnu8HmbY/TVuVXhqc.wUd0APbjSdDt2PDW\n";
        fs::write(&file, line).expect("written");
        format!(
            "auth:\n  htpasswd:\n    realm: here\n    path: {}\n",
            file.display()
        )
    });
    registry.push("library/app:1", "amd64", &layer(), None);
    let store = registry.store("store");
    let credentials = |name: &str, password: &str| {
        vec![Credentials {
            username: "user".to_owned(),
            password: password.to_owned(),
            secret: PullSecret {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                uid: format!("uid-of-{name}"),
            },
        }]
    };
    for given in [Vec::new(), credentials("pull", "guess")] {
        let error = store
            .ensure("app:1", PullPolicy::Always, &given, &quiet)
            .await
            .expect_err("refused")
            .to_string();
        assert!(error.contains("pull access denied"), "{error}");
    }
    let right = credentials("pull", "s3cret");
    let both = [credentials("old", "guess"), right.clone()].concat();
    let pulled = store
        .ensure("app:1", PullPolicy::Always, &both, &quiet)
        .await
        .expect("pulled");
    assert!(pulled.pulled);
    // What is here is still asked for with the password of whoever asks.
    let error = store.ensure("app:1", PullPolicy::Always, &[], &quiet).await;
    assert!(error.is_err());

    // So it is with what need not be asked for, unless one has what it was given for; the next store knows it, too.
    drop(store);
    let store = registry.store("store");
    let other = credentials("other", "s3cret");
    let cases = [
        ("with nothing", Vec::new(), false),
        ("with another password", credentials("stranger", "guess"), false),
        ("with the Secret", right.clone(), true),
        (
            "with the Secret as it was changed",
            credentials("pull", "newer"),
            true,
        ),
        ("with the password of before", credentials("old", "s3cret"), false),
    ];
    for (who, has, may) in cases {
        let never = store.ensure("app:1", PullPolicy::Never, &has, &quiet).await;
        assert_eq!(never.is_ok(), may, "{who}: {never:?}");
        let usable = store.usable("app:1", &has).is_some();
        assert_eq!(usable, may, "{who}");
    }
    // The registry decides about who is not known, and what it says is remembered.
    for (has, may) in [(&Vec::new(), false), (&other, true)] {
        let asked = store.ensure("app:1", PullPolicy::IfNotPresent, has, &quiet).await;
        let told = asked.as_ref().map(|found| (found.asked, found.pulled)).ok();
        assert_eq!(told, may.then_some((true, false)), "{asked:?}");
        let never = store.ensure("app:1", PullPolicy::Never, has, &quiet).await;
        assert_eq!(never.is_ok(), may, "{never:?}");
    }
    let id = pulled.image.id.clone();
    store.remove(&HashSet::from([id])).expect("removed");
    let index = fs::read_to_string(registry.directory.path().join("store/index.json")).expect("readable");
    assert!(!index.contains("shop"), "{index}");
}
