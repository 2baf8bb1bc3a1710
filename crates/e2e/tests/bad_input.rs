//! What people get wrong, and what they are told: images, sizes, manifests, machines that lack something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process::Process;
use e2e::{Lab, LabOptions, paths, wait_for};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// A Pod's name, its container, the waiting reasons that it may show, and what an event must say.
const IMAGES: &[(&str, &str, &str)] = &[
    ("unknown", "library/no-such-image:1", "manifest unknown"),
    ("other-machine", "library/wrong-arch:1", "arm64"),
    ("unreachable", "127.0.0.1:1/library/busybox:1", "127.0.0.1:1"),
];

#[test]
fn images_that_cannot_be_pulled_say_why() -> Result<()> {
    // Only the images of the default registry are mirrored, so that one named with an address is looked for there.
    let lab = Lab::start(LabOptions {
        registry_mirror_of: Some("docker.io".to_owned()),
        ..LabOptions::default()
    })?;
    let version = lab.pods_version()?;
    for (name, image, _) in IMAGES {
        lab.kubectl(&["run", name, &format!("--image={image}"), "--restart=Never"])?;
    }
    // Each of the two is there for a moment, or for a few seconds, and comes again later and later.
    lab.pods_since(&version, |seen| {
        let waited = |name: &str, reason: &str| {
            let status =
                |pod: &Value| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
            seen.iter()
                .any(|pod| pod["metadata"]["name"] == name && status(pod) == reason)
        };
        let both = |name: &str| waited(name, "ErrImagePull") && waited(name, "ImagePullBackOff");
        IMAGES.iter().all(|(name, ..)| both(name))
    })?;
    for (name, image, word) in IMAGES {
        lab.wait_event(name, &format!("Failed to pull image \"{image}\""))?;
        lab.wait_event(name, word)?;
        lab.wait_event(name, &format!("Back-off pulling image \"{image}\""))?;
    }
    ensure!(lab.machines()?.is_empty(), "a VM runs for a Pod without an image");
    lab.kubectl(&["delete", "pod", "--all", "--timeout=120s"])?;
    lab.stop()
}

#[test]
fn manifests_that_cannot_run_say_which_field() -> Result<()> {
    let lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })?;
    let overrides = r#"{"spec":{"containers":[{"name":"a","image":"a","resources":{"requests":{"cpu":"900","memory":"9Ti"}}}]}}"#;
    lab.kubectl(&["run", "giant", "--image=a", &format!("--overrides={overrides}")])?;
    wait_for("an event that says what is missing", LIMIT, || {
        let events = lab.kubectl(&["events", "--for", "pod/giant"])?;
        ensure!(
            events.contains("0/1 nodes are available") && events.contains("Insufficient cpu"),
            "{events}"
        );
        ensure!(events.contains("Insufficient memory"), "{events}");
        Ok(())
    })?;
    let phase = lab.kubectl(&["get", "pod", "giant", "-o", "jsonpath={.status.phase}"])?;
    ensure!(phase == "Pending", "giant is {phase}");

    let file = lab.directory().join("invalid.yaml");
    fs::write(
        &file,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Wrong_Name}\nspec:\n  containers:\n  - name: a\n    image: a\n    \
         ports: [{containerPort: 70000}]\n",
    )?;
    let refused = lab.kubectl_refused(&["create", "-f", &file.display().to_string()])?;
    for part in [
        "The Pod \"Wrong_Name\" is invalid",
        "metadata.name: Invalid value: \"Wrong_Name\"",
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ] {
        ensure!(refused.contains(part), "`{part}` is not in:\n{refused}");
    }
    lab.stop()
}

/// One line, on a machine that lacks something or is used already; it names the cure.
#[test]
fn a_host_that_cannot_start_says_the_cure() -> Result<()> {
    let lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })?;
    let scratch = lab.directory().join("scratch");
    fs::create_dir(&scratch)?;
    // Every program of the machine but the one that is missing.
    let path_without = |missing: &str| -> Result<String> {
        let directory = scratch.join(format!("path-without-{missing}"));
        fs::create_dir(&directory)?;
        for place in ["/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
            for entry in fs::read_dir(place)?.flatten() {
                let link = directory.join(entry.file_name());
                if entry.file_name() != missing && !link.exists() {
                    std::os::unix::fs::symlink(entry.path(), link)?;
                }
            }
        }
        Ok(directory.display().to_string())
    };
    let file = scratch.join("not-a-directory");
    fs::write(&file, "")?;
    let unreadable = scratch.join("damaged");
    fs::create_dir(&unreadable)?;
    fs::write(unreadable.join("state.redb"), "this is no database")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o755))?;
    let bundle = scratch.join("empty-bundle");
    fs::create_dir(&bundle)?;
    let text = |path: &std::path::Path| path.display().to_string();
    let path = std::env::var("PATH")?;
    // (what is wrong, the path, arguments beside the usual ones, what the last line must hold)
    let cases: &[(&str, String, Vec<String>, &[&str])] = &[
        (
            "no QEMU",
            path_without("qemu-system-x86_64")?,
            vec![],
            &["qemu-system-x86_64", "apt-get install qemu-system-x86"],
        ),
        (
            "no nft",
            path_without("nft")?,
            vec![],
            &["nft", "apt-get install nftables"],
        ),
        (
            "no kernel",
            path.clone(),
            vec!["--guest-bundle".to_owned(), text(&bundle)],
            &["empty-bundle", "cargo xtask build"],
        ),
        (
            "port taken",
            path.clone(),
            vec!["--listen".to_owned(), e2e::lab::API.to_owned()],
            &["cannot listen on 127.0.0.1:6443", "--listen"],
        ),
        (
            "a file for a data directory",
            path.clone(),
            vec!["--data-dir".to_owned(), text(&file)],
            &["not-a-directory", "--data-dir"],
        ),
        (
            "a damaged store",
            path.clone(),
            vec!["--data-dir".to_owned(), text(&unreadable)],
            &["state.redb"],
        ),
        (
            "a bad setting",
            path.clone(),
            vec!["--pod-cidr".to_owned(), "10.0.0.1/16".to_owned()],
            &["--pod-cidr: `10.0.0.1/16` has bits beyond its prefix: write 10.0.0.0/16"],
        ),
    ];
    for (number, (what, path, arguments, wanted)) in cases.iter().enumerate() {
        let own = scratch.join(format!("case-{number}"));
        let podvisor = |arguments: &[String]| {
            let mut command = lab.command(lab.podvisor());
            // By environment, so that the case's own flags win.
            command
                .args(arguments)
                .env("PATH", path)
                .env("PODVISOR_LISTEN", "127.0.0.1:7443")
                .env("PODVISOR_HOST_ADDRESS", "192.0.2.77")
                .env("PODVISOR_GUEST_BUNDLE", paths::guest_bundle())
                .env("PODVISOR_DATA_DIR", own.join("data"))
                .env("PODVISOR_RUN_DIR", own.join("run"))
                .env(
                    "PODVISOR_CGROUP_PARENT",
                    format!("{}-{number}", lab.cgroup_parent()),
                );
            command
        };
        let log = scratch.join(format!("log-{number}"));
        let up = [&["up".to_owned()][..], arguments].concat();
        let mut process = Process::start("podvisor up", podvisor(&up), &log)?;
        let status = process.wait(LIMIT).with_context(|| format!("case `{what}`"))?;
        let text = fs::read_to_string(&log)?;
        ensure!(!status.success(), "{what}: it ended well:\n{text}");
        let last = text
            .lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or_default();
        for part in *wanted {
            ensure!(
                last.contains(part),
                "{what}: `{part}` is not in the last line:\n{text}"
            );
        }
        let down = podvisor(&["down".to_owned()])
            .env("PATH", std::env::var("PATH")?)
            .output()?;
        ensure!(
            down.status.success(),
            "{what}: down: {}",
            String::from_utf8_lossy(&down.stderr)
        );
    }
    lab.stop()
}
