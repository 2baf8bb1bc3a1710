//! Ending containers: `preStop`, the stop signal, the grace period to the second, SIGKILL; and then the VM.

use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{HelloRequest, KillContainerRequest, RemoveContainerRequest, ShutdownRequest};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::record::{Record, Role, State, container_of};
use super::{Context, Input, Machine, Report, View, actions, boot};
use crate::events::Kind;
use crate::logs::PodLogs;

/// How long a killed process may take to be reported as ended.
const REAP: Duration = Duration::from_secs(5);
/// How long a guest may take to answer on the way down.
const CALL: Duration = Duration::from_secs(5);
/// How long a log may say nothing before the guest is asked whether it is still there, and how long the ends of all may take.
const QUIET: Duration = Duration::from_secs(2);
const LOGS: Duration = Duration::from_secs(30);
/// How long the guest may take to write its volumes out.
const FLUSH: Duration = Duration::from_secs(60);
/// How long after the grace period a guest may take to show that it lives at all.
const SIGN: Duration = Duration::from_secs(1);
/// How long after the grace period a guest that lives may still take to report the ends of containers.
const OVERTIME: Duration = Duration::from_secs(4);
/// What each container has at least between the signal and SIGKILL (kubelet: `minimumGracePeriodInSeconds`).
const MOMENT: Duration = Duration::from_secs(2);
/// First and longest pause before what failed to go is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Ends one container. `deadline` may come closer while this waits.
pub struct Killer {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM.
    pub machine: Machine,
    /// The container.
    pub container: Container,
    /// The run to end.
    pub run: String,
    /// How the Pod stands: tells when the run is over.
    pub view: watch::Receiver<View>,
    /// When patience ends.
    pub deadline: watch::Receiver<Instant>,
    /// The text of the `Killing` event.
    pub message: String,
    /// Runs that end before this one is told to.
    pub after: Vec<String>,
}

impl Killer {
    /// Ends the container; returns when it has ended or nothing more can be done to it.
    pub async fn run(mut self) {
        if !self.view.borrow().runs(&self.run) {
            return;
        }
        self.context.recorder.container(
            &self.pod,
            &self.container.name,
            Kind::Normal,
            "Killing",
            self.message.clone(),
        );
        self.pre_stop().await;
        let signal = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.stop_signal.clone())
            .or_else(|| {
                let image = self.machine.images.get(&self.container.name)?;
                Some(image.config.stop_signal.clone()).filter(|signal| !signal.is_empty())
            })
            .unwrap_or_else(|| "SIGTERM".to_owned());
        self.turn().await;
        let soonest = Instant::now() + MOMENT;
        if signal_run(&self.machine, &self.run, &signal, false).await && self.wait(soonest).await {
            return;
        }
        let _ = kill_now(&self.machine, &self.run).await;
        let mut view = self.view.clone();
        let over = view.wait_for(|view| !view.runs(&self.run));
        let _ = tokio::time::timeout(REAP, over).await;
    }

    /// Waits until those have ended that come before, or patience has.
    async fn turn(&self) {
        let mut view = self.view.clone();
        let earlier = |view: &View| self.after.iter().any(|run| view.runs(run));
        tokio::select! {
            _ = view.wait_for(|view| !earlier(view)) => {}
            () = passed(self.deadline.clone(), None) => {}
        }
    }

    async fn pre_stop(&mut self) {
        let Some(hook) = self.container.lifecycle.as_ref().and_then(|l| l.pre_stop.clone()) else {
            return;
        };
        let deadline = *self.deadline.borrow();
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut view = self.view.clone();
        let result = tokio::select! {
            result = actions::hook(&self.machine, &self.container, &self.run, &hook, left) => result,
            _ = view.wait_for(|view| !view.runs(&self.run)) => Ok(None),
            () = passed(self.deadline.clone(), None) => Ok(None),
        };
        if let Ok(Some(server)) = &result {
            let words = actions::fallback_words(server);
            let recorder = &self.context.recorder;
            recorder.pod(&self.pod, Kind::Warning, "LifecycleHTTPFallback", words);
        }
        if let Err(problem) = result {
            self.context.recorder.container(
                &self.pod,
                &self.container.name,
                Kind::Warning,
                "FailedPreStopHook",
                "PreStopHook failed".to_owned(),
            );
            // What a server answered may be secret: it is not told to everybody.
            tracing::debug!(container = self.container.name, problem, "preStop");
        }
    }

    /// Waits for the end of the run, at most until the deadline. True: it ended.
    async fn wait(&self, soonest: Instant) -> bool {
        let mut view = self.view.clone();
        tokio::select! {
            over = view.wait_for(|view| !view.runs(&self.run)) => over.is_ok(),
            () = passed(self.deadline.clone(), Some(soonest)) => false,
        }
    }
}

/// Waits until a deadline that may move has passed, but at least until `soonest`.
pub(super) async fn passed(mut deadline: watch::Receiver<Instant>, soonest: Option<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(soonest.map_or(at, |soonest| at.max(soonest))) => return,
            changed = deadline.changed() => if changed.is_err() {
                tokio::time::sleep_until(soonest.map_or(at, |soonest| at.max(soonest))).await;
                return;
            }
        }
    }
}

/// Sends a signal. False: the guest does not answer.
async fn signal_run(machine: &Machine, run: &str, signal: &str, all: bool) -> bool {
    let request = KillContainerRequest {
        id: run.to_owned(),
        signal: signal.to_owned(),
        all,
    };
    let call = async {
        let mut client = machine.guest.client().await.ok()?;
        client.kill_container(request).await.ok()
    };
    matches!(tokio::time::timeout(CALL, call).await, Ok(Some(_)))
}

/// Whether the guest gives a sign of life.
async fn answers(machine: &Machine) -> bool {
    let call = async {
        let mut client = machine.guest.client().await.ok()?;
        client.hello(HelloRequest {}).await.ok()
    };
    matches!(tokio::time::timeout(SIGN, call).await, Ok(Some(_)))
}

/// SIGKILL to all of a container.
pub async fn kill_now(machine: &Machine, run: &str) -> bool {
    signal_run(machine, run, "SIGKILL", true).await
}

/// Removes an ended container from the guest.
pub async fn remove(machine: Machine, run: String) {
    if let Ok(mut client) = machine.guest.client().await {
        let request = RemoveContainerRequest { id: run };
        let _ = tokio::time::timeout(CALL, client.remove_container(request)).await;
    }
}

/// Takes a Pod down.
pub struct Stop {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM, if there is one.
    pub machine: Option<Machine>,
    /// Its logs: the VM stays until they are complete.
    pub logs: Arc<PodLogs>,
    /// How the Pod stands.
    pub view: watch::Receiver<View>,
    /// When patience ends.
    pub deadline: watch::Receiver<Instant>,
    /// Where to report.
    pub owner: mpsc::Sender<Input>,
}

impl Stop {
    /// Ends containers, then VM, tap and files, and reports. Does not give up: what cannot go is tried again.
    pub async fn run(self) {
        let uid = self.pod.metadata.uid.clone().unwrap_or_default();
        if let Some(machine) = &self.machine {
            // A guest that does not answer must not make the Pod outlive its grace period by much.
            let patience = async {
                passed(self.deadline.clone(), None).await;
                let alive = answers(machine).await;
                if alive {
                    tokio::time::sleep(OVERTIME).await;
                }
                alive
            };
            let alive = tokio::select! {
                () = self.end_containers(machine) => true,
                alive = patience => {
                    tracing::warn!(uid, alive, "containers did not end in time: their VM is ended");
                    alive
                }
            };
            if alive {
                let _ = tokio::time::timeout(LOGS, self.complete_logs(machine)).await;
            }
            let shutdown = async {
                let mut client = machine.guest.client().await.ok()?;
                client.shutdown(ShutdownRequest {}).await.ok()
            };
            // Only a courtesy to file systems: the VM is ended in any case.
            if alive && self.context.deps.hypervisor.name() != "simulated" {
                // The guest answers when its volumes are unmounted: what they hold must reach the disk.
                let writes = machine.disks.iter().any(|disk| !disk.read_only);
                let patience = if writes { FLUSH } else { Duration::from_secs(1) };
                let patient = tokio::time::timeout(patience, shutdown);
                tokio::select! {
                    _ = patient => {}
                    _ = machine.vm.exited() => {}
                }
            }
            machine.life.cancel();
        }
        let vm = self.machine.as_ref().map(|machine| &machine.vm);
        let mut pause = RETRY.0;
        loop {
            let problems = boot::take_down(&self.context, &uid, vm).await;
            if problems.is_empty() {
                break;
            }
            let message = format!(
                "error killing pod: failed to remove its VM: {}",
                problems.join("; ")
            );
            self.context
                .recorder
                .pod(&self.pod, Kind::Warning, "FailedKillPod", message);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        let _ = self.owner.send(Input::Job(Report::Stopped)).await;
    }

    /// Last words take a moment from the guest to the file: they are waited for while there is a guest that has them.
    async fn complete_logs(&self, machine: &Machine) {
        let records = Arc::clone(&self.view.borrow().records);
        // Of a run whose start was under way there is no log.
        let over = |record: &&Record| matches!(record.state, State::Exited(_));
        let waits = records.iter().filter(over).map(|record| {
            let mut progress = self.logs.progress(&record.name, record.restarts());
            async move {
                while !progress.borrow_and_update().ended {
                    let changed = tokio::time::timeout(QUIET, progress.changed()).await;
                    if changed.is_err() && !answers(machine).await {
                        return;
                    }
                }
            }
        });
        futures::future::join_all(waits).await;
    }

    /// Sidecars end after everything they served, the last started first; their `preStop` hooks run at once (KEP-753).
    async fn end_containers(&self, machine: &Machine) {
        let records = Arc::clone(&self.view.borrow().records);
        let running = |record: &&Record| record.running();
        let mut after: Vec<String> = records
            .iter()
            .filter(running)
            .filter(|record| matches!(record.role, Role::Main | Role::Init))
            .map(Record::run_id)
            .collect();
        let mut killers = Vec::new();
        for record in records.iter().rev().filter(running) {
            let sidecar = record.role == Role::Sidecar;
            let Some(mut killer) = self.killer(machine, record) else {
                continue;
            };
            if sidecar {
                killer.after.clone_from(&after);
                after.push(record.run_id());
            }
            killers.push(killer.run());
        }
        futures::future::join_all(killers).await;
    }

    fn killer(&self, machine: &Machine, record: &Record) -> Option<Killer> {
        let State::Running { id, .. } = &record.state else {
            return None;
        };
        Some(Killer {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            machine: machine.clone(),
            container: container_of(&self.pod, &record.name)?.into_owned(),
            run: id.clone(),
            view: self.view.clone(),
            deadline: self.deadline.clone(),
            message: format!("Stopping container {}", record.name),
            after: Vec::new(),
        })
    }
}
