//! The main job, whole: the guestbook in six VMs, through a crash of the Supervisor, until nothing is left.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::guestbook::{ALICE, BOB, NAMESPACE};
use e2e::{Guestbook, Lab, LabOptions, wait_for};

const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn six_pods_six_machines_and_nothing_left() -> Result<()> {
    let mut lab = Lab::start(LabOptions::default())?;
    let untouched = lab.traces()?;
    let mut guestbook = Guestbook::new(&lab);
    guestbook.prepare_namespace()?;
    guestbook.sign_in(ALICE)?;
    // Bob comes by way of the older plug-in's name and flags.
    let welcome = guestbook.sign_in_as_vsphere(BOB)?;
    ensure!(
        welcome.contains(NAMESPACE),
        "the older plug-in printed: {welcome}"
    );
    guestbook.apply()?;
    guestbook.check_machines()?;
    machines_are_confined(&lab)?;
    guestbook.use_the_page()?;
    names_and_addresses(&guestbook)?;
    guestbook.check_tenancy()?;
    let before = guestbook.state();

    let vip = before.vip()?;
    let machines: BTreeSet<i32> = lab.machines()?.iter().map(|machine| machine.pid).collect();
    lab.kill_supervisor()?;
    // The Pods and the way to them go on. (Names are the agent's to answer: whether Redis is found is not asked here.)
    let status = [
        "--silent",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--max-time",
        "60",
    ];
    lab.run("curl", &[&status[..], &[&format!("http://{vip}/")]].concat())?;
    lab.start_supervisor()?;
    let mut guestbook = Guestbook::resumed(&lab, before);
    let after: BTreeSet<i32> = lab.machines()?.iter().map(|machine| machine.pid).collect();
    ensure!(
        after == machines,
        "VMs before the crash {machines:?}, after it {after:?}"
    );
    wait_for("the agent to serve its Pods again", LIMIT, || {
        names_and_addresses(&guestbook)
    })?;
    guestbook.use_the_page()?;
    let restarts = guestbook.kubectl(
        ALICE,
        &[
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
        ],
    )?;
    ensure!(
        restarts.trim() == "0 0 0 0 0 0",
        "restarts after the crash: {restarts}"
    );
    guestbook.delete()?;

    // `podvisor down` takes what `podvisor up` made: the network and the groups.
    lab.stop_supervisor()?;
    lab.run_podvisor(&["down"])?;
    let left = lab.traces()?;
    ensure!(left.devices.is_empty(), "devices: {:?}", left.devices);
    ensure!(left.routes.is_empty(), "routes: {:?}", left.routes);
    ensure!(left.rules.is_empty(), "rules: {:?}", left.rules);
    ensure!(left.cgroups.is_empty(), "cgroups: {:?}", left.cgroups);
    ensure!(left.mounts == untouched.mounts, "mounts: {:?}", left.mounts);
    ensure!(!lab.run_dir().exists(), "{} is left", lab.run_dir().display());
    ensure!(
        lab.data_dir().join("state.redb").exists(),
        "the data directory must stay"
    );
    lab.stop()
}

/// Each process unprivileged, alone in its group, and as large as its Pod asks.
fn machines_are_confined(lab: &Lab) -> Result<()> {
    let machines = lab.machines()?;
    let mut groups = BTreeSet::new();
    for machine in &machines {
        ensure!(machine.uid != 0, "{} runs as root", machine.pid);
        ensure!(
            machine.capabilities.trim_start_matches('0').is_empty(),
            "{} holds capabilities {}",
            machine.pid,
            machine.capabilities
        );
        let memory = machine
            .memory_mib()
            .with_context(|| format!("no -m in {}", machine.command_line))?;
        // The containers ask for 100 MiB and may use 512 MiB by the namespace's LimitRange.
        ensure!((100..1024).contains(&memory), "a VM of {memory} MiB");
        let parent = lab.cgroup_parent();
        let own = machine
            .cgroups
            .values()
            .find(|group| group.to_string_lossy().contains(&parent))
            .with_context(|| format!("{} is in no group of ours: {:?}", machine.pid, machine.cgroups))?;
        groups.insert(own.clone());
    }
    ensure!(groups.len() == machines.len(), "shared groups: {groups:?}");
    Ok(())
}

/// A Pod reaches Services by short and by full name, and another Pod by its address.
fn names_and_addresses(guestbook: &Guestbook) -> Result<()> {
    let address = guestbook.kubectl(
        ALICE,
        &[
            "get",
            "pods",
            "-l",
            "role=slave",
            "-o",
            "jsonpath={.items[0].status.podIP}",
        ],
    )?;
    let full = format!("redis-slave.{NAMESPACE}.svc.cluster.local");
    for name in ["redis-master", "redis-slave", &full, address.trim()] {
        let answer = guestbook.kubectl(
            ALICE,
            &[
                "exec",
                "deploy/redis-master",
                "--",
                "redis-cli",
                "-h",
                name,
                "ping",
            ],
        )?;
        ensure!(answer.trim() == "PONG", "{name} answered {answer}");
    }
    Ok(())
}
