//! `podvisor backup` and `podvisor restore`: all objects as a file, while the Supervisor serves, and back.
//!
//! The copy comes from the API server, at one revision; asking for it is a right of administrators. It holds every
//! Secret, so the file is its owner's alone. Keys and certificates (`pki` in the data directory) are not in it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use store::backup::Backup;

use crate::config::Places;
use crate::wiring::lock::Lock;
use crate::wiring::supervisor::STORE_FILE;

/// What may be in a data directory that counts as empty: keys that shall go on being used, and the lock.
const KEPT: [&str; 3] = ["pki", "podvisor.pid", "lost+found"];

/// Arguments of `podvisor backup`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file to write; an older one is replaced when the new one is complete.
    file: PathBuf,
    #[command(flatten)]
    places: Places,
}

/// Arguments of `podvisor restore`.
#[derive(clap::Args)]
pub struct RestoreArguments {
    /// A file that `podvisor backup` has written.
    file: PathBuf,
    /// The data directory to fill: empty, or with nothing but `pki` in it.
    #[arg(long, env = "PODVISOR_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
}

/// Writes the file.
pub fn run(arguments: &Arguments) -> Result<()> {
    let places = arguments.places.resolve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let unfinished = arguments.file.with_added_extension("unfinished");
    let written = runtime.block_on(fetch(&places.data_dir, &unfinished));
    let checked = written.and_then(|bytes| {
        let records = count(&unfinished)?;
        fs::rename(&unfinished, &arguments.file)
            .with_context(|| format!("cannot write {}", arguments.file.display()))?;
        Ok((bytes, records))
    });
    match checked {
        Ok((bytes, records)) => {
            println!("{records} objects, {bytes} bytes in {}", arguments.file.display());
            Ok(())
        }
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(error)
        }
    }
}

async fn fetch(data_dir: &Path, to: &Path) -> Result<u64> {
    let client = super::administrator(data_dir).await?;
    let request = http::Request::get("/podvisor/backup").body(kube::client::Body::empty())?;
    let response = client.send(request).await?;
    let status = response.status();
    let mut body = response.into_body();
    if !status.is_success() {
        let bytes = body.collect().await?.to_bytes();
        let answer: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        bail!(
            "the Supervisor refused: {}",
            answer["message"].as_str().unwrap_or(status.as_str())
        );
    }
    let cannot = || format!("cannot write {}", to.display());
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .with_context(cannot)?;
    let mut file = BufWriter::new(file);
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the copy broke off: is the Supervisor still there?")?;
        if let Ok(data) = frame.into_data() {
            file.write_all(&data).with_context(cannot)?;
            bytes += data.len() as u64;
        }
    }
    let file = file.into_inner().with_context(cannot)?;
    file.sync_all().with_context(cannot)?;
    Ok(bytes)
}

/// Reads the whole file, as `restore` would.
fn count(file: &Path) -> Result<usize> {
    let backup = Backup::open(BufReader::new(File::open(file)?))?;
    let mut records = 0;
    for record in backup {
        record?;
        records += 1;
    }
    Ok(records)
}

/// Fills a data directory.
pub fn restore(arguments: &RestoreArguments) -> Result<()> {
    let directory = &arguments.data_dir;
    let input = File::open(&arguments.file)
        .with_context(|| format!("cannot read the backup {}", arguments.file.display()))?;
    let backup = Backup::open(BufReader::new(input)).with_context(|| arguments.file.display().to_string())?;
    let _lock = Lock::take(directory)?;
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !KEPT.iter().any(|kept| name == **kept) {
            bail!(
                "{} is not empty (there is `{}`): give an empty --data-dir, or move what is there away; `pki` may stay",
                directory.display(),
                name.to_string_lossy()
            );
        }
    }
    let restored = store::embedded::restore(&directory.join(STORE_FILE), backup)
        .with_context(|| format!("{} was not restored", arguments.file.display()))?;
    println!(
        "{} objects of revision {} are in {}; the store goes on at revision {}",
        restored.records,
        restored.revision,
        directory.display(),
        restored.begins
    );
    println!("start it with `podvisor up --data-dir {}`", directory.display());
    Ok(())
}
