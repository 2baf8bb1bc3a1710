//! A registry of a test's own in the Lab, with a password, and images made for it: those of several platforms, by the
//! manifests of OCI and of Docker.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::{Lab, REGISTRY};
use crate::process::Process;
use crate::wait::wait_for;

/// Who may come in, as `htpasswd` writes it: [`USER`] with [`PASSWORD`].
const PEOPLE: &str = "user:$2b$04$Ck95a/ASB6.tSlw041nXnu8HmbY/TVuVXhqc.wUd0APbjSdDt2PDW\n";
/// The user's name.
pub const USER: &str = "user";
/// The user's password.
pub const PASSWORD: &str = "s3cret";
/// How long the registry may take to start, or to end.
const LIMIT: Duration = Duration::from_secs(60);

/// Which manifests an image is described by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An image index of OCI.
    Oci,
    /// A manifest list and manifests of Docker, version 2.2.
    Docker,
}

/// The registry.
#[derive(Debug)]
pub struct PrivateRegistry {
    address: String,
    directory: PathBuf,
    process: Process,
}

impl PrivateRegistry {
    /// Listens on `127.0.0.1:port` inside the Lab.
    pub fn start(lab: &Lab, port: u16) -> Result<Self> {
        let directory = lab.directory().join(format!("registry-{port}"));
        fs::create_dir_all(&directory)?;
        let people = directory.join("people");
        fs::write(&people, PEOPLE)?;
        let address = format!("127.0.0.1:{port}");
        let config = directory.join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: '{address}'}}\n\
                 auth:\n  htpasswd: {{realm: here, path: {}}}\n",
                directory.join("storage").display(),
                people.display()
            ),
        )?;
        let mut command = lab.command("docker-registry");
        command.arg("serve").arg(&config);
        let mut process = Process::start("docker-registry", command, &directory.join("log"))?;
        wait_for("the private registry", LIMIT, || {
            process.check_alive()?;
            let user = format!("{USER}:{PASSWORD}");
            lab.run("curl", &["-sf", "-u", &user, &format!("http://{address}/v2/")])
        })?;
        Ok(Self {
            address,
            directory,
            process,
        })
    }

    /// Makes an image of the Lab's own `busybox` with files on top, and one for another processor that cannot run here,
    /// which comes first; brings both under one name. `noise`: so many random bytes in a file `noise`, none for 0.
    pub fn publish(
        &self,
        lab: &Lab,
        name: &str,
        form: Form,
        files: &[(&str, &str)],
        noise: u64,
    ) -> Result<()> {
        let layout = self.directory.join(name.replace(['/', ':'], "-"));
        let place = |layout: &Path| format!("oci:{}", layout.display());
        let from = format!("docker://{REGISTRY}/library/busybox:latest");
        lab.run(
            "skopeo",
            &["copy", "--src-tls-verify=false", &from, &place(&layout)],
        )?;
        let read = |digest: &Value| -> Result<Value> {
            let digest = digest.as_str().context("a digest")?;
            Ok(serde_json::from_slice(&fs::read(blob(&layout, digest))?)?)
        };
        let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
        let mut manifest = read(&index["manifests"][0]["digest"])?;
        let mut config = read(&manifest["config"]["digest"])?;
        let more = layer(&layout, files, noise)?;
        push(&mut manifest["layers"], more.clone());
        push(&mut config["rootfs"]["diff_ids"], more["digest"].clone());
        config["history"] = Value::Null;
        let own = image(&layout, "amd64", &mut config, &mut manifest)?;
        // Nothing of it could be started.
        let useless = layer(&layout, &[("bin/sh", "for another processor\n")], 0)?;
        config["rootfs"]["diff_ids"] = json!([useless["digest"]]);
        manifest["layers"] = json!([useless]);
        let other = image(&layout, "arm64", &mut config, &mut manifest)?;
        let list = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [other, own]});
        let mut list = put(&layout, list.to_string().as_bytes())?;
        list["mediaType"] = json!("application/vnd.oci.image.index.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [list]});
        fs::write(layout.join("index.json"), index.to_string())?;
        let credentials = format!("{USER}:{PASSWORD}");
        let to = format!("docker://{}/{name}", self.address);
        let mut words = vec![
            "copy",
            "--all",
            "--dest-tls-verify=false",
            "--dest-creds",
            &credentials,
        ];
        if form == Form::Docker {
            words.extend(["--format", "v2s2"]);
        }
        let from = place(&layout);
        words.extend([from.as_str(), &to]);
        lab.run("skopeo", &words).map(drop)
    }

    /// What the registry says that a name is: the media type of its manifest.
    pub fn media_type(&self, lab: &Lab, name: &str) -> Result<String> {
        let credentials = format!("{USER}:{PASSWORD}");
        let image = format!("docker://{}/{name}", self.address);
        let words = [
            "inspect",
            "--raw",
            "--tls-verify=false",
            "--creds",
            &credentials,
            &image,
        ];
        let manifest: Value = serde_json::from_str(&lab.run("skopeo", &words)?)?;
        Ok(manifest["mediaType"].as_str().unwrap_or_default().to_owned())
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.process.stop(Signal::SIGTERM, LIMIT).map(drop)
    }
}

fn push(list: &mut Value, more: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(more);
    }
}

fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout
        .join("blobs/sha256")
        .join(digest.trim_start_matches("sha256:"))
}

/// Puts bytes into a layout; a descriptor without its media type.
fn put(layout: &Path, bytes: &[u8]) -> Result<Value> {
    let draft = layout.join("draft");
    fs::write(&draft, bytes)?;
    take(layout, &draft)
}

/// Likewise, of a file that goes there.
fn take(layout: &Path, draft: &Path) -> Result<Value> {
    let sum = Command::new("sha256sum").arg(draft).output()?.stdout;
    let sum = String::from_utf8_lossy(&sum);
    let sum = sum.split(' ').next().context("a sum")?;
    let digest = format!("sha256:{sum}");
    let size = fs::metadata(draft)?.len();
    fs::rename(draft, blob(layout, &digest))?;
    Ok(json!({"digest": digest, "size": size}))
}

/// A layer with some files of root, and one of random bytes.
fn layer(layout: &Path, files: &[(&str, &str)], noise: u64) -> Result<Value> {
    let tree = tempfile::tempdir_in(layout)?;
    for (path, text) in files {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(path, text)?;
    }
    let mut names: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    if noise > 0 {
        let mut source = fs::File::open("/dev/urandom")?.take(noise);
        io::copy(&mut source, &mut fs::File::create(tree.path().join("noise"))?)?;
        names.push("noise");
    }
    let draft = layout.join("draft");
    let packed = Command::new("tar")
        .args(["--owner=0", "--group=0", "-C"])
        .arg(tree.path())
        .arg("-cf")
        .arg(&draft)
        .args(names)
        .output()?;
    ensure!(
        packed.status.success(),
        "tar: {}",
        String::from_utf8_lossy(&packed.stderr)
    );
    let mut layer = take(layout, &draft)?;
    layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar");
    Ok(layer)
}

/// An image of a platform; its entry in an index.
fn image(layout: &Path, platform: &str, config: &mut Value, manifest: &mut Value) -> Result<Value> {
    config["architecture"] = json!(platform);
    let mut descriptor = put(layout, config.to_string().as_bytes())?;
    descriptor["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    manifest["config"] = descriptor;
    manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    let mut entry = put(layout, manifest.to_string().as_bytes())?;
    entry["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    entry["platform"] = json!({"os": "linux", "architecture": platform});
    Ok(entry)
}
