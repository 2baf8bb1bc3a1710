//! The web console in a real Chromium, against a Supervisor whose Pods are real VMs.
//!
//! This starts the Lab, makes the guestbook's namespace and people, publishes the console on loopback as the demo does,
//! and hands over to `crates/console/app/e2e/run.mjs`, which plays the people and prints one line for each checked step.
//! `PODVISOR_E2E_PICTURES=docs` makes it write the README's pictures, too.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::guestbook::{ALICE, BOB, NAMESPACE, password};
use e2e::lab::ADMIN_USER;
use e2e::{Guestbook, Lab, LabOptions, paths};
use serde_json::json;

#[test]
fn console_in_chromium() -> Result<()> {
    let app = paths::workspace().join("crates/console/app");
    for needed in ["dist/index.html", "node_modules/playwright-core/package.json"] {
        let file = app.join(needed);
        ensure!(
            file.exists(),
            "{} is missing: run `cargo xtask build`",
            file.display()
        );
    }
    ensure!(
        Path::new("/usr/bin/chromium").exists(),
        "Chromium is missing: run `cargo xtask setup --tests`"
    );
    let lab = Lab::start(LabOptions::default())?;
    let guestbook = Guestbook::new(&lab);
    guestbook.prepare_namespace()?;
    guestbook.sign_in(ALICE)?;
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, 6443));
    let port = lab.publish(0, api)?;

    let users = json!({
        "administrator": {"name": ADMIN_USER, "password": lab.admin_password()?},
        "alice": {"name": ALICE, "password": password(ALICE)},
        "bob": {"name": BOB, "password": password(BOB)},
    });
    let mut node = Command::new("node");
    node.arg("e2e/run.mjs")
        .current_dir(&app)
        .env("PODVISOR_E2E_URL", format!("https://127.0.0.1:{port}/console"))
        .env("PODVISOR_E2E_USERS", users.to_string())
        .env("PODVISOR_E2E_NAMESPACE", NAMESPACE)
        .env("PODVISOR_E2E_MANIFEST", Guestbook::manifest())
        .env("PODVISOR_E2E_KUBECTL", kubectl(&lab)?)
        .env("PODVISOR_E2E_OUTPUT", paths::target().join("console-e2e"));
    if let Some(directory) = env::var_os("PODVISOR_E2E_PICTURES") {
        // Relative to the checkout, wherever the test runner stands.
        node.env("PODVISOR_E2E_PICTURES", paths::workspace().join(directory));
    }
    let status = node
        .status()
        .context("cannot run `node`: run `cargo xtask setup --tests`")?;
    ensure!(
        status.success(),
        "the console's test ended with {status}; the Supervisor's log ends:\n{}",
        lab.log_tail()
    );
    lab.stop()
}

/// The command line of alice's kubectl inside the Lab, as a JSON array: the browser runs outside of it.
fn kubectl(lab: &Lab) -> Result<String> {
    let command = lab.command("kubectl");
    let kubeconfig = lab.directory().join(format!("{ALICE}.kubeconfig"));
    let mut words = vec!["env".to_owned(), format!("KUBECONFIG={}", kubeconfig.display())];
    for (name, value) in command.get_envs() {
        if let (true, Some(value)) = (name == "PATH", value) {
            words.push(format!("PATH={}", value.to_string_lossy()));
        }
    }
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    Ok(serde_json::to_string(&words)?)
}
