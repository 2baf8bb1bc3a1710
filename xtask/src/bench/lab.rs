//! `cargo xtask bench lab`: what a person waits for, and what a host pays for it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e::machines::{cpu_seconds, resident_kib};
use e2e::{Guestbook, Lab, LabOptions};

use super::{Report, bare, largest, median};
use crate::build::{self, Profile};
use crate::run::step;
use crate::setup;

/// Arguments of `cargo xtask bench lab`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Measure the unoptimised binary.
    #[arg(long)]
    dev: bool,
    /// Measure this binary instead of building one.
    #[arg(long, value_name = "FILE", conflicts_with = "dev")]
    binary: Option<std::path::PathBuf>,
    /// How many single Pods, and how many bare VMs, are started one after another.
    #[arg(long, default_value_t = 5, value_name = "N")]
    repeat: u32,
}

/// Builds, measures in a Lab of its own, writes `target/bench/lab.json`.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(false)?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            let profile = Profile::of(!arguments.dev);
            build::all(profile)?;
            profile.podvisor()
        }
    };
    build::demo_images()?;
    let lab = Lab::start(LabOptions {
        podvisor: Some(binary),
        ..LabOptions::default()
    })?;
    let mut report = Report::default();
    let result = guestbook(&lab, &mut report).and_then(|()| pods(&lab, arguments.repeat, &mut report));
    lab.stop()?;
    result?;
    report.write("lab")
}

fn guestbook(lab: &Lab, report: &mut Report) -> Result<()> {
    let mut guestbook = Guestbook::new(lab);
    guestbook.prepare_namespace()?;
    guestbook.sign_in(e2e::guestbook::ALICE)?;
    // The first time pulls the images; the figure is about what comes after.
    step("The guestbook for the first time", || guestbook.apply())?;
    guestbook.delete()?;
    step("The guestbook, images cached", || {
        let start = Instant::now();
        guestbook.apply()?;
        guestbook.use_the_page()?;
        report.add("guestbook_apply_to_serving_ms", millis(start));
        let machines = lab.machines()?;
        let resident: Vec<f64> = machines
            .iter()
            .map(|machine| machine.resident_kib as f64 / 1024.0)
            .collect();
        report.add("pod_vm_resident_p50_mib", median(&resident));
        report.add("pod_vm_resident_max_mib", largest(&resident));
        let given = machines
            .first()
            .and_then(e2e::Machine::memory_mib)
            .context("no VM runs")?;
        report.add("pod_vm_given_mib", given as f64);
        let supervisor = lab.supervisor_id().context("no Supervisor runs")?;
        let resident = resident_kib(i32::try_from(supervisor)?)?;
        report.add("podvisor_resident_mib", resident as f64 / 1024.0);
        let start = Instant::now();
        guestbook.delete()?;
        report.add("guestbook_delete_to_nothing_left_ms", millis(start));
        Ok(())
    })
}

/// Single Pods and bare VMs in turn, so that both meet the same load of the machine.
fn pods(lab: &Lab, repeat: u32, report: &mut Report) -> Result<()> {
    let supervisor = i32::try_from(lab.supervisor_id().context("no Supervisor runs")?)?;
    let (mut created, mut vm_cpu, mut own_cpu) = (Vec::new(), Vec::new(), Vec::new());
    let (mut booted, mut boot_cpu, mut bare_resident) = (Vec::new(), Vec::new(), Vec::new());
    step("Single Pods and bare VMs in turn", || {
        for number in 0..=repeat {
            let name = format!("single-{number}");
            let cpu_before = cpu_seconds(supervisor)?;
            let start = Instant::now();
            lab.kubectl(&["run", &name, "--image=busybox:1.35", "--", "sleep", "3600"])?;
            let running = "--for=jsonpath={.status.phase}=Running";
            lab.kubectl(&["wait", running, &format!("pod/{name}"), "--timeout=120s"])?;
            let elapsed = millis(start);
            let machine = lab.machines()?.pop().context("no VM runs")?;
            // The first one pulls the image: it is not counted.
            if number > 0 {
                created.push(elapsed);
                vm_cpu.push(machine.cpu_seconds()? * 1000.0);
                own_cpu.push((cpu_seconds(supervisor)? - cpu_before) * 1000.0);
                let boot = bare::boot(&machine, Path::new(lab.directory()))?;
                booted.push(boot.wall.as_secs_f64() * 1000.0);
                boot_cpu.push(boot.cpu_seconds * 1000.0);
                bare_resident.push(boot.resident_mib);
            }
            lab.kubectl(&["delete", "pod", &name, "--grace-period=1", "--timeout=60s"])?;
        }
        Ok(())
    })?;
    report.add("create_to_running_p50_ms", median(&created));
    report.add("create_to_running_max_ms", largest(&created));
    report.add("create_to_running_vm_cpu_p50_ms", median(&vm_cpu));
    report.add("create_to_running_podvisor_cpu_p50_ms", median(&own_cpu));
    report.add("bare_boot_p50_ms", median(&booted));
    report.add("bare_boot_cpu_p50_ms", median(&boot_cpu));
    report.add("bare_vm_resident_p50_mib", median(&bare_resident));
    report.add(
        "create_to_running_over_bare_boot_percent",
        100.0 * median(&created) / median(&booted),
    );
    Ok(())
}

fn millis(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
