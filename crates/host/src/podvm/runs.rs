//! The owner's dealings with runs of containers: starting, what the guest says of them, probes, ends.

use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{self, ProbeKind};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::launch::{Launch, SUPERSEDED};
use super::owner::Owner;
use super::probes::{self, Watch};
use super::pump::Pump;
use super::record::{Exit, Record, Role, State, container_of, run_id, target_of};
use super::stop::{self, Killer};
use crate::backoff::Backoff;
use crate::events::Kind;
use crate::guest::GuestEvent;

/// Exit code of what ended with its VM: as if by SIGKILL.
const KILLED: i32 = 137;
/// Exit code and reason of a process that could not be started (containerd).
const NOT_STARTED: i32 = 128;
pub(crate) const START_ERROR: &str = "StartError";

impl Owner {
    /// Starts the container at this place.
    pub(super) fn launch(&mut self, index: usize, now: Timestamp) {
        let Some(mut machine) = self.machine.clone() else {
            return;
        };
        let Some(container) = container_of(&self.pod, &self.records[index].name).map(|c| c.into_owned())
        else {
            return;
        };
        let record = &mut self.records[index];
        if self.stale.remove(&record.name) || record.changed(&container) {
            record.backoff = Backoff::default();
            record.image_id.clear();
            let mut images = (*machine.images).clone();
            if let Some(old) = images.remove(&record.name) {
                // Its disk stays in the VM: it is not to be plugged in twice when it is wanted again.
                images.insert(format!("{} before, {}", record.name, old.id), old);
            }
            machine.images = Arc::new(images);
            self.machine = Some(machine.clone());
        }
        record.image.clone_from(&container.image);
        let (reason, message) = match &record.state {
            State::Waiting { reason, message } => (reason.clone(), message.clone()),
            State::Exited(exit) => {
                record.last = Some(exit.clone());
                (String::new(), String::new())
            }
            State::Starting { .. } | State::Running { .. } => return,
        };
        if record.runs > 0
            && let Some(exit) = &record.last
        {
            record.backoff.next(exit.finished_at, now);
        }
        // The guest keeps an ended run for its log; the one before the last is of no use to anybody.
        if record.runs > 1 {
            let old = run_id(&record.name, record.runs - 2);
            self.jobs.spawn(stop::remove(machine.clone(), old));
        }
        record.runs += 1;
        record.begun = true;
        record.retry_at = None;
        record.state = State::Starting { reason, message };
        let run = record.run_id();
        let target = target_of(&self.pod, &container.name).map(|target| {
            let mut records = self.records.iter();
            records
                .find(|record| record.name == target && record.running())
                .map(|record| record.run_id())
        });
        let launch = Launch {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            machine,
            run,
            container,
            index,
            target,
            first: self.first.remove(&self.records[index].name),
            wanted: CancellationToken::new(),
            view: self.view.subscribe(),
            owner: self.inputs.clone(),
        };
        self.launching.insert(launch.run.clone(), launch.wanted.clone());
        self.jobs.spawn(launch.run());
    }

    /// Ends the runs of containers for which the spec names another image by now (kubelet: `containerChanged`).
    pub(super) fn replace_changed(&mut self) {
        for index in 0..self.records.len() {
            let record = &self.records[index];
            let changed = |record: &Record| {
                container_of(&self.pod, &record.name).is_some_and(|container| record.changed(&container))
            };
            if record.running() && changed(record) && self.replacing.insert(record.run_id()) {
                let message = format!("Container {} definition changed, will be restarted", record.name);
                self.kill_run(index, None, message, true);
            }
        }
    }

    /// A start succeeded or failed.
    pub(super) fn launched(&mut self, index: usize, run: &str, result: Result<(), (&'static str, String)>) {
        let now = Timestamp::now();
        self.launching.remove(run);
        let Some(record) = self.records.get_mut(index) else {
            return;
        };
        if record.run_id() != run || !matches!(record.state, State::Starting { .. }) {
            return;
        }
        match result {
            Ok(()) => self.began(index, now, true),
            // Of a VM that is taken down meanwhile nobody knows whether anything ran.
            Err(("RunContainerError", message)) if self.stage == Stage::Running => {
                record.again = false;
                record.state = State::Exited(Exit {
                    code: NOT_STARTED,
                    signal: None,
                    reason: START_ERROR.to_owned(),
                    message,
                    started_at: None,
                    finished_at: now,
                    id: run.to_owned(),
                });
                self.logs
                    .end(&self.records[index].name.clone(), self.records[index].restarts());
            }
            Err((reason, message)) => {
                // Nothing ran: the run does not count.
                record.runs = record.runs.saturating_sub(1);
                record.begun = record.runs > 0;
                if reason == SUPERSEDED {
                    record.state = State::fresh();
                    return;
                }
                record.retry_at = now.checked_add(super::plan::CONFIG_RETRY).ok();
                record.state = State::Waiting {
                    reason: reason.to_owned(),
                    message,
                };
            }
        }
    }

    /// A run is going on: attend to it. `fresh`: its `postStart` hook, if it has one, is at work or about to be.
    fn began(&mut self, index: usize, started_at: Timestamp, fresh: bool) {
        let record = &mut self.records[index];
        let run = record.run_id();
        record.learnt = Some(Instant::now());
        record.state = State::Running {
            started_at,
            id: run.clone(),
        };
        let container = container_of(&self.pod, &record.name);
        let hook = container.is_some_and(|c| c.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some()));
        record.hooking = fresh && hook;
        record.unhooked = None;
        record.again = false;
        self.enable(index);
        self.attend(index, false);
    }

    /// What is true of a run before its probes have spoken.
    fn enable(&mut self, index: usize) {
        let record = &mut self.records[index];
        let container = container_of(&self.pod, &record.name);
        let startup = container.as_ref().is_some_and(|c| c.startup_probe.is_some());
        let readiness = container.as_ref().is_some_and(|c| c.readiness_probe.is_some());
        record.started = !startup && !record.hooking;
        record.ready = record.started && !readiness;
    }

    /// A `postStart` hook is over.
    pub(super) fn hooked(&mut self, run: &str, result: Result<(), String>) {
        let is = |record: &Record| record.hooking && record.running() && record.run_id() == run;
        let Some(index) = self.records.iter().position(is) else {
            return;
        };
        self.records[index].hooking = false;
        self.enable(index);
        match result {
            Ok(()) => self.assign(index),
            Err(words) => {
                self.records[index].unhooked = Some(words);
                self.kill_run(index, None, "FailedPostStartHook".to_owned(), false);
            }
        }
    }

    /// Starts log and probes of a run that is going on; `adopted`: since before this agent came.
    fn attend(&mut self, index: usize, adopted: bool) {
        self.pump(index);
        let run = self.records[index].run_id();
        self.probes.entry(run).or_insert_with(|| Watch::new(adopted));
        self.assign(index);
    }

    fn pump(&mut self, index: usize) {
        let Some(machine) = self.machine.clone() else {
            return;
        };
        let record = &self.records[index];
        let pump = Pump {
            machine,
            container: record.name.clone(),
            number: record.restarts(),
            run: record.run_id(),
            logs: Arc::clone(&self.logs),
            view: self.view.subscribe(),
        };
        // Shown first: a pump that sees a run which is not shown takes it for ended.
        self.show_records();
        self.jobs.spawn(pump.run());
    }

    fn show_records(&self) {
        let records = Arc::new(self.records.clone());
        let machine = self.machine.clone();
        self.view.send_modify(|view| {
            view.records = records;
            view.machine = machine;
        });
    }

    /// Ends a run that has not passed its probe.
    pub(super) fn kill_unhealthy(&mut self, index: usize, kind: ProbeKind) {
        let record = &self.records[index];
        let Some(container) = container_of(&self.pod, &record.name) else {
            return;
        };
        let own = probes::of(kind, &container).and_then(|probe| probe.termination_grace_period_seconds);
        let spec = self.pod.spec.as_ref();
        let grace = own
            .or_else(|| spec.and_then(|spec| spec.termination_grace_period_seconds))
            .unwrap_or(30);
        let what = if kind == ProbeKind::Startup {
            "startup"
        } else {
            "liveness"
        };
        // Whoever is unhealthy begins anew unless it never does, though it ends well when it is told to end; its rules
        // speak of ends of its own (kubelet: `computePodActions`, `computeInitContainerActions`).
        let policy = container.restart_policy.as_deref();
        let policy = policy.or(spec.and_then(|spec| spec.restart_policy.as_deref()));
        let (who, again) = match record.role {
            Role::Sidecar => ("Init container", true),
            _ => ("Container", policy != Some("Never")),
        };
        let mut message = format!("{who} {} failed {what} probe", record.name);
        if again && record.role == Role::Main {
            message += ", will be restarted";
        }
        self.kill_run(index, Some(grace), message, again);
    }

    /// Ends the run of a container; `grace` in seconds, the Pod's own by default. `again`: another one begins however this
    /// one ends, else the container's policy decides.
    pub(super) fn kill_run(&mut self, index: usize, grace: Option<i64>, message: String, again: bool) {
        let record = &mut self.records[index];
        record.again |= again;
        let record = &self.records[index];
        let (Some(machine), Some(container)) = (self.machine.clone(), container_of(&self.pod, &record.name))
        else {
            return;
        };
        let grace = grace.unwrap_or_else(|| self.grace());
        let (_keep, deadline) =
            watch::channel(Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
        let killer = Killer {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            machine,
            run: record.run_id(),
            message,
            container: container.into_owned(),
            view: self.view.subscribe(),
            deadline,
            after: Vec::new(),
        };
        self.jobs.spawn(killer.run());
    }

    /// Shows a container that waits for its restart.
    pub(super) fn back_off(&mut self, index: usize, seconds: u64) {
        let pod = super::described(&self.pod);
        let record = &mut self.records[index];
        let State::Exited(exit) = &record.state else {
            return;
        };
        record.last = Some(exit.clone());
        let name = record.name.clone();
        let delay = if seconds < 60 {
            format!("{seconds}s")
        } else {
            format!("{}m{}s", seconds / 60, seconds % 60)
        };
        record.state = State::Waiting {
            reason: "CrashLoopBackOff".to_owned(),
            message: format!("back-off {delay} restarting failed container={name} pod={pod}"),
        };
        let message = format!("Back-off restarting failed container {name} in pod {pod}");
        self.context
            .recorder
            .container(&self.pod, &name, Kind::Warning, "BackOff", message);
    }

    /// What the guest tells. False: nothing follows from it.
    pub(super) fn guest(&mut self, event: GuestEvent) -> bool {
        match event {
            GuestEvent::Connected { containers, asked } => {
                for index in 0..self.records.len() {
                    self.compare(index, &containers, asked);
                }
            }
            GuestEvent::Changed(container) => {
                let index = self.of_run(&container.id);
                return index.is_some_and(|index| self.changed(index, &container));
            }
            GuestEvent::Silent => self.report(super::Report::VmEnded(self.number, vmm::ExitReason::Hung)),
        }
        true
    }

    fn of_run(&self, run: &str) -> Option<usize> {
        self.records
            .iter()
            .position(|record| record.runs > 0 && record.run_id() == run)
    }

    /// Brings a record in line with all that the guest had when it was asked: after an agent was away, or a channel was.
    fn compare(&mut self, index: usize, containers: &[v1::Container], asked: Instant) {
        let record = &self.records[index];
        if record.runs == 0 || !record.begun {
            return;
        }
        let run = record.run_id();
        let found = containers.iter().find(|container| container.id == run);
        // Who starts a container may be quicker than who tells of the session in which it is started.
        if found.is_none() && record.learnt.is_some_and(|learnt| learnt >= asked) {
            return;
        }
        if found.is_none() && !self.launching.contains_key(&run) {
            // Nothing more will come of it; a run whose start is under way is only not known yet.
            self.logs.end(&record.name, record.restarts());
        }
        let attended = self.probes.contains_key(&run);
        match (&record.state, found) {
            (State::Running { .. }, Some(container))
                if container.state() == v1::State::Running && attended =>
            {
                self.probed(index, &container.probes, true);
            }
            (State::Running { .. }, Some(container)) if container.state() == v1::State::Running => {
                // Whoever waited for a hook is no more.
                if std::mem::take(&mut self.records[index].hooking) {
                    self.enable(index);
                }
                self.attend(index, true);
                self.probed(index, &container.probes, true);
                // Whoever was ending it for another run is no more, too.
                let condemned = self.probes.get(&run).is_some_and(|watch| watch.condemned);
                if self.records[index].again && !condemned && self.stage == Stage::Running {
                    let message = format!("Container {} will be restarted", self.records[index].name);
                    self.kill_run(index, None, message, true);
                }
            }
            (_, Some(container)) if container.state() == v1::State::Exited => {
                if !attended && !self.logs.progress(&record.name, record.restarts()).borrow().ended {
                    // What it said last may not have been written.
                    self.pump(index);
                }
                self.changed(index, container);
            }
            // A start that an earlier agent began and did not finish; our own report for themselves.
            (State::Starting { .. }, found) if !self.launching.contains_key(&run) => {
                if found.is_some_and(|container| container.state() == v1::State::Running) {
                    self.began(index, Timestamp::now(), false);
                } else {
                    // It begins again, as the same run.
                    let record = &mut self.records[index];
                    record.runs -= 1;
                    record.begun = record.runs > 0;
                    record.state = State::fresh();
                }
            }
            (_, Some(container)) => {
                self.changed(index, container);
            }
            (State::Running { .. }, None) => {
                let words = "The container could not be located when the pod was checked";
                self.end(
                    index,
                    KILLED,
                    None,
                    "ContainerStatusUnknown",
                    words,
                    Timestamp::now(),
                );
            }
            _ => {}
        }
    }

    /// A run of ours, as the guest has it now. True: something follows from it.
    fn changed(&mut self, index: usize, container: &v1::Container) -> bool {
        let time = |nanos: i64| {
            (nanos > 0)
                .then(|| Timestamp::from_nanosecond(nanos.into()).ok())
                .flatten()
                // A guest's clock may be ahead; nothing has happened later than now.
                .map_or_else(Timestamp::now, |time| time.min(Timestamp::now()))
        };
        let record = &mut self.records[index];
        let mut follows = false;
        if let Some(identity) = &container.identity {
            let identity = Some((identity.uid, identity.gid, identity.groups.clone()));
            follows = record.identity != identity;
            record.identity = identity;
        }
        let record = &self.records[index];
        match container.state() {
            v1::State::Created => {}
            v1::State::Running => {
                if matches!(record.state, State::Starting { .. }) {
                    self.began(
                        index,
                        time(container.started_at_ns),
                        self.launching.contains_key(&container.id),
                    );
                    follows = true;
                }
                follows |= self.probed(index, &container.probes, true);
            }
            v1::State::Exited => {
                if !matches!(record.state, State::Starting { .. } | State::Running { .. }) {
                    return follows;
                }
                if matches!(record.state, State::Starting { .. }) {
                    // So short that its start was not seen.
                    self.began(index, time(container.started_at_ns), false);
                }
                if let State::Running { started_at, .. } = &mut self.records[index].state
                    && container.started_at_ns > 0
                {
                    // Until now it was only known when the report of its start came.
                    *started_at = time(container.started_at_ns);
                }
                let watch = self.probes.entry(container.id.clone());
                watch.or_insert_with(|| Watch::new(true));
                self.probed(index, &container.probes, false);
                let reason = match (container.oom_killed, container.exit_code) {
                    (true, _) => "OOMKilled",
                    (false, 0) => "Completed",
                    (false, _) => "Error",
                };
                let signal = (container.signal != 0).then(|| container.signal.cast_signed());
                self.end(
                    index,
                    container.exit_code,
                    signal,
                    reason,
                    &container.message,
                    time(container.finished_at_ns),
                );
                follows = true;
            }
        }
        follows
    }

    /// A run ended with its VM.
    pub(super) fn perish(&mut self, index: usize, now: Timestamp, words: &str) {
        if self.records[index].running() {
            self.end(index, KILLED, None, "Error", words, now);
        }
    }

    fn end(
        &mut self,
        index: usize,
        code: i32,
        signal: Option<i32>,
        reason: &str,
        message: &str,
        at: Timestamp,
    ) {
        let record = &mut self.records[index];
        let run = record.run_id();
        let started_at = match &record.state {
            State::Running { started_at, .. } => Some(*started_at),
            _ => None,
        };
        record.ready = false;
        record.hooking = false;
        record.started = record.role == Role::Init && code == 0;
        record.state = State::Exited(Exit {
            code,
            signal,
            reason: reason.to_owned(),
            message: message.to_owned(),
            started_at,
            finished_at: at,
            id: run.clone(),
        });
        self.probes.remove(&run);
    }
}
