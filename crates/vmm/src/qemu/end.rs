//! How a VM ends: one task a VM listens to QEMU's events and learns why.
//!
//! ```text
//! running ──guest powers off, resets or panics──> paused ──console read, `quit`──> gone
//!    └────────────killed, or QEMU dies───────────────────────────────────────────> gone
//! ```
//! QEMU is told to stop and not to leave when its guest ends: the console's last words are in its memory, a ring of
//! bounded size, so that a guest that floods its console fills no disk. While no agent is there to listen, an ended VM
//! waits in that state for the next one.
//!
//! The same task wakes a VM that stands still: one that writes to a disk for which the host has no room tries again
//! every other second until there is some, and one that an earlier agent held, and then died, goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::process::Process;
use super::qmp::{Qmp, QmpError};
use crate::vm::ExitReason;

/// Name of the console's ring.
pub(super) const CONSOLE: &str = "console";
/// Bytes of console that are kept; a power of two.
pub(super) const CONSOLE_BYTES: u64 = 64 << 10;
/// What the kernel writes when it gives up, before its reason.
const PANIC: &str = "Kernel panic - not syncing: ";
/// Characters of a reason that are kept: the guest's words may be anything.
const WORDS: usize = 200;
/// A write or read that failed; one that stops the VM is tried again when it goes on.
const NO_ROOM: &str = "BLOCK_IO_ERROR";
/// Between two attempts to write to a host that has no room.
const ROOM_RETRY: Duration = Duration::from_secs(2);
/// How long an ended QEMU may take to leave.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts to open the event socket of a QEMU that starts.
const RETRY: Duration = Duration::from_millis(20);

/// The end of a VM, watched by a task of its own for as long as this lives.
pub(super) struct End {
    reason: watch::Receiver<Option<ExitReason>>,
    wanted: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl End {
    /// Starts to watch. `words` gives what QEMU itself wrote.
    pub fn watch(
        socket: PathBuf,
        process: Arc<Process>,
        words: impl Fn() -> String + Send + 'static,
    ) -> Self {
        let (sender, reason) = watch::channel(None);
        let wanted = Arc::new(AtomicBool::new(false));
        let by_us = Arc::clone(&wanted);
        let task = tokio::spawn(async move {
            let told = tokio::select! {
                told = listen(&socket) => told,
                () = process.wait() => None,
            };
            let told = match told {
                Some((reason, mut qmp)) => {
                    // Its answer may be lost in its leaving.
                    let _ = qmp.command("quit", json!({})).await;
                    Some(reason)
                }
                None => None,
            };
            let ended = tokio::time::timeout(QUIT_LIMIT, process.wait()).await;
            if ended.is_err() {
                // Its guest is over; nothing is lost by force.
                let _ = process.signal(rustix::process::Signal::KILL);
                process.wait().await;
            }
            let reason = match told {
                Some(reason) => reason,
                None if by_us.load(Ordering::Acquire) => ExitReason::Shutdown,
                None => ExitReason::Crashed(words()),
            };
            sender.send_replace(Some(reason));
        });
        Self { reason, wanted, task }
    }

    /// An end that comes from now on is no crash.
    pub fn expect(&self) {
        self.wanted.store(true, Ordering::Release);
    }

    /// Waits for the end.
    pub async fn reason(&self) -> ExitReason {
        let mut reason = self.reason.clone();
        let found = reason.wait_for(Option::is_some).await;
        found.ok().and_then(|reason| reason.clone()).unwrap_or_else(|| {
            // The task ends with the runtime only.
            ExitReason::Crashed("the host agent ends".to_owned())
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Follows QEMU until its guest ends; it then waits to be dismissed. `None`: QEMU ended without saying why.
async fn listen(socket: &Path) -> Option<(ExitReason, Qmp)> {
    loop {
        match follow(socket).await {
            Ok(told) => return told,
            // Not listening yet, or in the hands of an agent that is just leaving; the end of the process ends this.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn follow(socket: &Path) -> Result<Option<(ExitReason, Qmp)>, QmpError> {
    let mut qmp = Qmp::connect(socket).await?;
    let status = qmp.command("query-status", json!({})).await?;
    // The guest may have ended while nobody listened.
    if status["status"] != json!("shutdown") {
        if status["status"] == json!("paused") || status["status"] == json!("io-error") {
            qmp.command("cont", json!({})).await?;
        }
        loop {
            match qmp.event().await? {
                Some(event) if event.name == "SHUTDOWN" && event.data["guest"] == json!(true) => break,
                Some(event) if event.name == NO_ROOM && event.data["action"] == json!("stop") => {
                    wait_for_room(&mut qmp).await?;
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }
    let text = read_console(&mut qmp).await.unwrap_or_default();
    Ok(Some((reason(&text), qmp)))
}

/// Wakes a VM until its writes succeed.
async fn wait_for_room(qmp: &mut Qmp) -> Result<(), QmpError> {
    loop {
        tokio::time::sleep(ROOM_RETRY).await;
        qmp.command("cont", json!({})).await?;
        // Each of the writes that were held back has told of itself; they are one matter.
        qmp.forget(NO_ROOM);
        let status = qmp.command("query-status", json!({})).await?;
        if status["status"] != json!("io-error") {
            return Ok(());
        }
    }
}

/// What the console tells of the end.
fn reason(console: &str) -> ExitReason {
    let found = console.rfind(PANIC).map(|at| &console[at + PANIC.len()..]);
    match found.and_then(|rest| rest.lines().next()) {
        Some(words) => ExitReason::Panicked(words.chars().take(WORDS).collect()),
        None => ExitReason::Shutdown,
    }
}

/// Takes what the console's ring holds.
pub(super) async fn read_console(qmp: &mut Qmp) -> Result<String, QmpError> {
    let arguments = json!({"device": CONSOLE, "size": CONSOLE_BYTES, "format": "utf8"});
    let text = qmp.command("ringbuf-read", arguments).await?;
    Ok(text.as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_panic_on_the_console_is_the_reason() {
        let panicked = |words: &str| ExitReason::Panicked(words.to_owned());
        for (console, expected) in [
            ("", ExitReason::Shutdown),
            ("guest agent: session: broken\r\n", ExitReason::Shutdown),
            (
                "[ 1.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\r\n[ 1.1] CPU: 0\r\n",
                panicked("Attempted to kill init! exitcode=0x0000000b"),
            ),
            (
                "Kernel panic - not syncing: said a container\nKernel panic - not syncing: really",
                panicked("really"),
            ),
        ] {
            assert_eq!(reason(console), expected, "{console:?}");
        }
    }
}
