//! `cargo xtask fuzz`: every parser of foreign bytes, fed with mutated samples; with `--guided` by libFuzzer, which
//! follows the coverage and keeps the inputs that reach new code.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{cargo, show, step};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --seconds 600
  cargo xtask fuzz --seconds 60 yaml cel
  cargo xtask fuzz --guided --seconds 600 protobuf
  cargo xtask fuzz --guided --keep --seconds 600")]
pub struct Arguments {
    /// How long each target runs: seconds of a processor.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Follow the coverage, by libFuzzer: builds everything once more, with what counts the branches taken (ten minutes
    /// on two cores). New inputs go to `target/fuzz/TARGET`.
    #[arg(long)]
    guided: bool,
    /// Keep what was found: as few inputs as reach the same code, in `crates/fuzz/found/TARGET.tar.gz`.
    #[arg(long, requires = "guided")]
    keep: bool,
    /// The targets; all of them when none is named (`crates/fuzz/corpus` has a directory for each).
    targets: Vec<String>,
}

/// What makes rustc count branches and comparisons, as `cargo fuzz` does; the stable compiler knows all of it.
const COUNTING: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";
/// With a target named, build scripts and macros stay as they are.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// No input may take longer, in seconds.
const LIMIT: u64 = 10;
/// No input may make the process larger, in MiB.
const MEMORY: u64 = 2048;
/// Largest input, in bytes.
const MAX_INPUT: u64 = 64 << 10;

/// Builds the fuzzer and runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.guided {
        return guided(arguments);
    }
    let mut fuzz = cargo();
    fuzz.args(["run", "-p", "fuzz", "--", &arguments.seconds.to_string()]);
    show(fuzz.args(&arguments.targets))
}

fn guided(arguments: &Arguments) -> Result<()> {
    let workspace = e2e::paths::workspace();
    let samples = workspace.join("crates/fuzz/corpus");
    let all = names(&samples)?;
    for name in &arguments.targets {
        ensure!(
            all.contains(name),
            "there is no target {name}; there are {}",
            all.join(", ")
        );
    }
    let wanted = match arguments.targets.is_empty() {
        true => &all,
        false => &arguments.targets,
    };
    step("Building with counters of branches", || {
        let mut build = cargo();
        build.env("RUSTFLAGS", COUNTING);
        build.args([
            "build",
            "--package",
            "fuzz",
            "--features",
            "guided",
            "--bin",
            "guided",
        ]);
        show(build.args(["--profile", "guided", "--target", TRIPLE]))
    })?;
    let program = workspace.join("target").join(TRIPLE).join("guided/guided");
    let mut failed = Vec::new();
    for name in wanted {
        let kept = workspace.join("target/fuzz").join(name);
        std::fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
        let archive = workspace.join(format!("crates/fuzz/found/{name}.tar.gz"));
        if archive.exists() {
            show(
                Command::new("tar")
                    .args(["-xzf".as_ref(), archive.as_os_str(), "-C".as_ref()])
                    .arg(&kept),
            )?;
        }
        let mut fuzz = Command::new(&program);
        fuzz.env("FUZZ_TARGET", name).arg(&kept).arg(samples.join(name));
        fuzz.arg(format!(
            "-artifact_prefix={}/failed-",
            samples.join(name).display()
        ));
        for (option, value) in [
            ("max_total_time", arguments.seconds),
            ("timeout", LIMIT),
            ("rss_limit_mb", MEMORY),
            ("max_len", MAX_INPUT),
            ("print_final_stats", 1),
        ] {
            fuzz.arg(format!("-{option}={value}"));
        }
        if let Err(error) = step(name, || show(&mut fuzz)) {
            failed.push(format!("{error:#}"));
        }
        if arguments.keep {
            keep(&program, name, &[&kept, &samples.join(name)], &archive)
                .with_context(|| format!("cannot keep what was found for {name}"))?;
        }
    }
    if !failed.is_empty() {
        bail!("{} target(s) failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    Ok(())
}

/// Packs as few of the inputs as reach all code that they reach together; the same inputs make the same archive.
fn keep(program: &Path, target: &str, inputs: &[&Path], archive: &Path) -> Result<()> {
    let fewest = tempfile::tempdir()?;
    let mut merge = Command::new(program);
    // How often a branch is taken does not count: it would keep five times as many.
    merge
        .env("FUZZ_TARGET", target)
        .args(["-set_cover_merge=1", "-use_counters=0"]);
    show(merge.arg(fewest.path()).args(inputs))?;
    std::fs::create_dir_all(archive.parent().context("no directory")?)?;
    let mut tar = Command::new("tar");
    tar.args([
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",
    ]);
    tar.args(["--use-compress-program", "gzip -9n", "-cf"]);
    show(tar.arg(archive).arg("-C").arg(fewest.path()).arg("."))
}

/// What is in a directory: the targets, where it is that of their samples.
fn names(samples: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(samples).with_context(|| format!("cannot read {}", samples.display()))?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
