//! Who removes a Lab when the process that holds it is killed: a test beyond its time has no chance to.
//!
//! It waits at a pipe. A word means that all is in order; the pipe's end without one, that nobody is left to clean up.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::lab::Lab;

/// Arguments: the namespace's name and file, the binary, the Lab's directory.
const SCRIPT: &str = "\
read -r word && exit
nsenter --net=\"$2\" -- \"$3\" down
ip netns pids \"$1\" | xargs -r kill -KILL
ip netns delete \"$1\"
rm -rf \"$4\"";

/// Waits for this process's end.
#[derive(Debug)]
pub struct Heir(Child);

impl Heir {
    /// Of a Lab, which may not run yet.
    pub fn start(lab: &Lab) -> Result<Self> {
        let netns = lab.netns();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "lab-heir", netns.name()]);
        command.args([netns.path().as_path(), lab.podvisor(), lab.directory()]);
        let child = command
            .envs(lab.places())
            // Whoever kills a test kills its process group.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the Lab's heir")?;
        Ok(Self(child))
    }

    /// There is nothing to inherit.
    pub fn dismiss(mut self) -> Result<()> {
        let mut pipe = self.0.stdin.take().context("a pipe")?;
        writeln!(pipe, "done")?;
        self.0.wait()?;
        Ok(())
    }
}
