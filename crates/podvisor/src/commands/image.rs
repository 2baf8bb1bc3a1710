//! `podvisor image`: images of this machine's host without any registry.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use host::control::{self, Reply, Request};

use crate::config::Places;

/// What can be done with images.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Take the images of an archive (`docker save`, OCI layout as a tar file) into this host's store.
    #[command(after_help = "Examples:
  podvisor image import web.tar
  podvisor image import --name registry.example/web:1 oci-layout.tar.gz")]
    Import {
        /// The archive.
        file: PathBuf,
        /// A name for an image that has none in the archive.
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
        #[command(flatten)]
        places: Places,
    },
}

/// Runs the command.
pub fn run(command: &Command) -> Result<()> {
    let Command::Import { file, name, places } = command;
    let path = file
        .canonicalize()
        .with_context(|| format!("cannot read {}", file.display()))?;
    let run_dir = places.resolve().run_dir;
    let request = Request::ImportImages {
        path,
        name: name.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let reply = runtime
        .block_on(control::ask(&run_dir, &request))
        .with_context(|| {
            format!(
                "no host agent answers at {}: is `podvisor up` running, and this its user? \
             (another --run-dir is given like there)",
                control::socket(&run_dir).display()
            )
        })?;
    match reply {
        Reply::Imported(images) => {
            for (reference, id) in images {
                println!("{reference}\t{id}");
            }
            Ok(())
        }
        Reply::Failed(problem) => bail!("cannot import {}: {problem}", file.display()),
    }
}
