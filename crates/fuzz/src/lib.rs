//! Every parser of foreign bytes as a function of bytes, and a small fuzzer that needs no other toolchain.
//!
//! A target ([`targets`]) must neither panic nor hang, and what it accepts must keep the promise it checks (a fixed
//! point, a bound). Inputs are mutations ([`mutate`]) of the samples in `corpus/TARGET/`; an input that fails is
//! written to `corpus/TARGET/failed-…` and stays there as a sample of its own once it is mended.
//!
//! `tests/short.rs` runs each target for a moment; `cargo xtask fuzz --seconds 600` for as long as you like; and with
//! `--guided` libFuzzer drives the same targets along their coverage (`guided.rs`). What that has found is kept in
//! `found/TARGET.tar.gz`, as few inputs as reach the same code, and is fed to the target with the samples.

mod credentials;
mod foreign;
pub mod mutate;
mod objects;
pub mod targets;

use std::fs;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mutate::Mutator;
use rustix::time::{ClockId, clock_gettime};
use targets::Target;

/// No input may take more of a processor, in a build without optimisation. (On the clock of the wall a busy machine
/// would make innocent inputs look slow.)
const LIMIT: Duration = Duration::from_secs(5);
/// Largest input, in bytes.
const MAX_INPUT: usize = 64 << 10;

/// What a run has done.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Inputs tried.
    pub inputs: u64,
    /// What the slowest of them took of a processor.
    pub slowest: Duration,
}

/// The samples of a target, by name.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn corpus(target: &str) -> Result<Vec<Vec<u8>>> {
    let directory = directory(target);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("no samples in {}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    let samples: Vec<Vec<u8>> = paths.iter().map(|p| Ok(fs::read(p)?)).collect::<Result<_>>()?;
    ensure!(!samples.is_empty(), "no samples in {}", directory.display());
    Ok(samples)
}

/// The inputs that the guided fuzzer has found for a target; none when it has not run yet.
///
/// # Errors
/// When they cannot be read.
pub fn found(target: &str) -> Result<Vec<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("found/{target}.tar.gz"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let unreadable = || format!("cannot read {}", path.display());
    let file = fs::File::open(&path).with_context(unreadable)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut inputs = Vec::new();
    for entry in archive.entries().with_context(unreadable)? {
        let mut entry = entry.with_context(unreadable)?;
        if entry.header().entry_type().is_file() {
            let mut input = Vec::new();
            entry.read_to_end(&mut input).with_context(unreadable)?;
            inputs.push(input);
        }
    }
    Ok(inputs)
}

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Feeds a target with its samples and then with mutations of them, for so much time of a processor.
///
/// # Errors
/// With the name of the file that holds the input which failed.
pub fn run(target: &Target, time: Duration, seed: u64) -> Result<Run> {
    let mut samples = corpus(target.name)?;
    samples.extend(found(target.name)?);
    let mut mutator = Mutator::new(seed, target.words);
    let mut run = Run {
        inputs: 0,
        slowest: Duration::ZERO,
    };
    for sample in &samples {
        try_one(target, sample, &mut run)?;
    }
    let begun = computed();
    while computed() - begun < time {
        let input = mutator.input(&samples, MAX_INPUT);
        try_one(target, &input, &mut run)?;
    }
    Ok(run)
}

fn try_one(target: &Target, input: &[u8], run: &mut Run) -> Result<()> {
    let begun = computed();
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = computed() - begun;
    run.inputs += 1;
    run.slowest = run.slowest.max(took);
    if outcome.is_ok() && took < LIMIT {
        return Ok(());
    }
    let file = directory(target.name).join(format!("failed-{:016x}", fingerprint(input)));
    fs::write(&file, input)?;
    ensure!(
        outcome.is_ok(),
        "{}: {} makes it panic",
        target.name,
        file.display()
    );
    anyhow::bail!(
        "{}: {} takes {took:?} of a processor",
        target.name,
        file.display()
    )
}

/// The time of processors that this process has had: some targets parse on a thread of their own.
fn computed() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Tells inputs apart in file names (FNV-1a).
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
