//! Every child that ends: containers and execs of ours, and orphans that fall to PID 1.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::sync::lock;

/// How a process ended: the code a shell would show, and the signal if there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code, or 128 plus the signal.
    pub code: i32,
    /// 0 when it ended by itself.
    pub signal: u32,
}

/// Waits for children and tells whoever asked.
#[derive(Clone, Default)]
pub struct Reaper {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<i32, oneshot::Sender<Ended>>,
    /// Ended before anybody asked.
    early: HashMap<i32, Ended>,
}

/// Early endings kept: more orphans than this are nobody's.
const EARLY_KEPT: usize = 1024;

impl Reaper {
    /// Resolves when the process has ended.
    pub fn wait(&self, pid: i32) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.state);
        match state.early.remove(&pid) {
            // A receiver that is gone does not want to know.
            Some(ended) => drop(sender.send(ended)),
            None => drop(state.waiting.insert(pid, sender)),
        }
        receiver
    }

    /// Registers for children that end.
    pub fn listen() -> std::io::Result<Signal> {
        signal(SignalKind::child())
    }

    /// Reaps for ever.
    pub async fn run(self, mut children: Signal) {
        loop {
            self.reap();
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    fn reap(&self) {
        loop {
            let (pid, ended) = match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ended { code, signal: 0 }),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (
                    pid,
                    Ended {
                        code: 128 + signal as i32,
                        signal: signal as u32,
                    },
                ),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let mut state = lock(&self.state);
            match state.waiting.remove(&pid.as_raw()) {
                Some(sender) => drop(sender.send(ended)),
                None if state.early.len() < EARLY_KEPT => drop(state.early.insert(pid.as_raw(), ended)),
                None => {}
            }
        }
    }
}
