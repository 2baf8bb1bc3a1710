//! The owner task of one Pod: takes inputs one at a time, decides, starts jobs, shows the result.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use images::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::boot::{self, Arrived, Boot};
use super::end::{self, Verdict};
use super::fetch::First;
use super::plan::{self, Action};
use super::prepare::{self, Prepared};
use super::probes::Watch;
use super::publish::{self, Wanted};
use super::record::{PodFile, Record, Role, State, records};
use super::requests::Asked;
use super::resize::{self, Wish};
use super::seed::{renew, seed};
use super::stop::{self, Stop};
use super::{Context, Input, Machine, Origin, Report, Stage, View};
use crate::backoff::{self, Backoff};
use crate::events::Kind;
use crate::logs::PodLogs;
use crate::size::{Most, VmSize};
use crate::status;

/// The grace period of Pods that name none (`DefaultTerminationGracePeriodSeconds`).
const GRACE: i64 = 30;

/// Why a Pod is taken down; later ones outrank earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Its VM ended, but it shall go on in another.
    Again,
    /// It ended, well or not.
    Finished,
    /// The host is to be empty.
    Evacuate,
    /// Its object is being deleted.
    Deleted,
    /// Its object is gone.
    Forgotten,
}

pub(super) struct Owner {
    pub(super) context: Arc<Context>,
    pub(super) pod: Arc<Pod>,
    pub(super) records: Vec<Record>,
    pub(super) logs: Arc<PodLogs>,
    /// The owner's own queue, for its jobs.
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) view: watch::Sender<View>,
    pub(super) jobs: JoinSet<()>,
    pub(super) stage: Stage,
    pub(super) size: VmSize,
    /// What the VM can grow to.
    pub(super) most: Most,
    pub(super) machine: Option<Machine>,
    /// The runs that are attended to, with what is known of their probes.
    pub(super) probes: HashMap<String, Watch>,
    /// Runs whose start is under way, and what ends their wait for an image that is no longer wanted.
    pub(super) launching: HashMap<String, CancellationToken>,
    /// Runs that are being ended because their container changed.
    pub(super) replacing: HashSet<String>,
    /// Containers whose image was changed while their VM was on its way with the one before.
    pub(super) stale: HashSet<String>,
    /// Number of the present or last VM: what comes from earlier ones is told apart.
    pub(super) number: u64,
    ip: Option<Ipv4Addr>,
    prepared: Option<Arc<Prepared>>,
    /// The images of containers that have not started in this VM.
    pub(super) first: HashMap<String, First>,
    /// Ends preparing or booting.
    effort: CancellationToken,
    /// A boot job is under way: it cleans up after itself, and nothing else may meanwhile.
    booting: bool,
    boot_backoff: Backoff,
    boot_after: Option<Timestamp>,
    why: Option<Why>,
    stopping: bool,
    deadline: watch::Sender<Instant>,
    /// Why the Pod ends as a whole, once it does.
    verdict: Option<Verdict>,
    /// It was not taken at all.
    rejected: bool,
    /// The status is another agent's or an earlier life's: it is not to be written.
    frozen: bool,
    publish: watch::Sender<Wanted>,
    /// The object as the API tells of it, for who brings it the status.
    seen: watch::Sender<Option<Arc<Pod>>>,
    status: PodStatus,
    pub(super) written: Option<Vec<Record>>,
    /// Resources that the object asks for and that are not in force.
    pub(super) wish: Option<Wish>,
    start_time: Timestamp,
    wake: Option<Timestamp>,
}

/// Starts the task; the view follows it.
pub(super) fn spawn(
    context: Arc<Context>,
    pod: Arc<Pod>,
    origin: Origin,
    logs: Arc<PodLogs>,
    inputs: mpsc::Sender<Input>,
    queue: mpsc::Receiver<Input>,
) -> watch::Receiver<View> {
    let now = Timestamp::now();
    let size = pod
        .spec
        .as_ref()
        .map(VmSize::of)
        .unwrap_or(VmSize::of(&Default::default()));
    let file = match &origin {
        Origin::Adopted(file) => Some(&**file),
        _ => None,
    };
    let records = seed(&pod, file, now);
    let status = pod.status.clone().unwrap_or_default();
    let start_time = status.start_time.as_ref().map_or(now, |time| time.0);
    let (view, view_receiver) = watch::channel(View {
        pod: Arc::clone(&pod),
        stage: Stage::Preparing,
        records: Arc::new(records.clone()),
        machine: None,
        size,
        most: Most::only(&size),
        number: file.map_or(0, |file| u64::from(file.boots)),
        over: false,
    });
    let (publish, wanted) = watch::channel(Wanted::default());
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (seen, objects) = watch::channel(None);
    let subject = publish::Subject {
        client: context.deps.client.clone(),
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
    };
    tokio::spawn(publish::run(subject, wanted, objects, inputs.downgrade()));
    let owner = Owner {
        number: file.map_or(0, |file| u64::from(file.boots)),
        ip: file.map(|file| file.ip),
        effort: context.cancel.child_token(),
        context,
        pod,
        records,
        logs,
        inputs,
        view,
        jobs: JoinSet::new(),
        stage: Stage::Preparing,
        size,
        most: Most::only(&size),
        machine: None,
        probes: HashMap::new(),
        launching: HashMap::new(),
        replacing: HashSet::new(),
        stale: HashSet::new(),
        prepared: None,
        first: HashMap::new(),
        booting: false,
        boot_backoff: Backoff::default(),
        boot_after: None,
        why: None,
        stopping: false,
        deadline: watch::channel(Instant::now()).0,
        verdict: None,
        rejected: false,
        frozen: false,
        publish,
        seen,
        status,
        written: None,
        wish: None,
        start_time,
        wake: None,
    };
    tokio::spawn(owner.run(origin, queue));
    view_receiver
}

impl Owner {
    async fn run(mut self, origin: Origin, mut queue: mpsc::Receiver<Input>) {
        self.begin(origin);
        let cancel = self.context.cancel.clone();
        let mut freed = self.context.requests.freed();
        let mut follows = true;
        loop {
            // Most answers of probes change nothing.
            if std::mem::replace(&mut follows, true) {
                self.reconcile();
                self.show();
            }
            if self.stage == Stage::Gone {
                return;
            }
            let timer = sleep_until(self.wake);
            tokio::select! {
                () = cancel.cancelled() => return,
                input = queue.recv() => match input {
                    Some(input) => follows = self.take(input),
                    None => return,
                },
                Some(_) = self.jobs.join_next(), if !self.jobs.is_empty() => {}
                Ok(()) = freed.changed(), if self.waits_for_room() => self.resize(),
                () = timer => {}
            }
            while let Ok(input) = queue.try_recv() {
                follows |= self.take(input);
            }
        }
    }

    fn begin(&mut self, origin: Origin) {
        let ended = matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        match origin {
            Origin::New if ended => {
                self.frozen = true;
                self.stage = Stage::Finished;
            }
            Origin::New => {
                for record in &mut self.records {
                    renew(record);
                }
                if self.is_over() {
                    // Its containers went with the machine and are not to run twice (kubelet: `computePodActions`).
                    self.stop(Why::Finished, 0);
                } else {
                    self.prepare();
                }
            }
            Origin::Rejected(reason, message) => {
                self.context
                    .recorder
                    .pod(&self.pod, Kind::Warning, reason.clone(), message.clone());
                self.rejected = true;
                let message = format!("Pod was rejected: {message}");
                self.verdict = Some(Verdict::new(reason, message, 0));
                self.stage = Stage::Finished;
            }
            Origin::Adopted(file) => {
                self.stage = Stage::Booting;
                self.booting = true;
                let verdict = file.verdict.clone();
                // The VM has what an earlier agent gave it; what the object asks for beyond that is a wish.
                if !file.resources.is_empty() {
                    let wanted = Arc::clone(&self.pod);
                    self.pod = Arc::new(resize::with(&wanted, &file.resources));
                    self.size = self.pod.spec.as_ref().map_or(self.size, VmSize::of);
                    self.heed_resources(wanted);
                }
                self.most = file.most.unwrap_or(Most::only(&self.size));
                let (context, inputs) = (Arc::clone(&self.context), self.inputs.clone());
                let (effort, deadline) = (self.effort.clone(), self.deadline.subscribe());
                self.jobs.spawn(async move {
                    // A guest that hangs must not make a deleted Pod outlive its grace period.
                    let patience = async {
                        effort.cancelled().await;
                        stop::passed(deadline, None).await;
                    };
                    let machine = tokio::select! {
                        machine = boot::adopt(&context, &file) => machine,
                        () = patience => None,
                    };
                    let _ = inputs
                        .send(Input::Job(Report::Adopted(machine.map(Box::new))))
                        .await;
                });
                if ended {
                    // The agent before this one told its end and did not come to take its VM down.
                    self.frozen = true;
                    self.stop(Why::Finished, 0);
                } else if let Some(verdict) = verdict {
                    let left = verdict.left(self.grace());
                    self.verdict = Some(verdict);
                    self.stop(Why::Finished, left);
                }
            }
        }
        self.heed_deletion();
    }

    /// False: nothing follows from it.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Pod(pod) => {
                let before = Arc::clone(&self.pod);
                self.seen.send_replace(Some(Arc::clone(&pod)));
                self.heed_resources(pod);
                let added = self.add_records();
                if added && self.stage == Stage::Preparing {
                    // Whoever is to see why others do not start does not wait for them.
                    self.effort.cancel();
                    self.prepare();
                }
                self.heed_images(&before);
                self.heed_deletion();
            }
            Input::Forgotten => {
                // What runs is given its time though nobody waits for it (kubelet: `calculateEffectiveGracePeriod`).
                let grace = self.pod.metadata.deletion_grace_period_seconds;
                let grace = grace.filter(|grace| *grace > 0).unwrap_or_else(|| self.grace());
                self.stop(Why::Forgotten, grace.max(1));
            }
            Input::Evacuate => self.stop(Why::Evacuate, self.grace()),
            Input::Guest(number, event) => return number == self.number && self.guest(event),
            Input::Job(report) => self.report(report),
        }
        true
    }

    /// Ephemeral containers come to a Pod that runs. True: there is one more.
    fn add_records(&mut self) -> bool {
        let before = self.records.len();
        for record in records(&self.pod) {
            if !self.records.iter().any(|known| known.name == record.name) {
                self.records.push(record);
            }
        }
        self.records.len() > before
    }

    /// Another image is the cure of one that cannot be pulled. A VM that is on its way keeps the images that it has.
    fn heed_images(&mut self, before: &Pod) {
        let old = |name: &str| {
            let mut containers = crate::env::all_containers(before);
            containers.find(|container| container.name == name)?.image.clone()
        };
        let changed: Vec<String> = crate::env::all_containers(&self.pod)
            .filter(|container| container.image != old(&container.name))
            .map(|container| container.name.clone())
            .collect();
        if changed.is_empty() || self.why.is_some() {
            return;
        }
        match self.stage {
            Stage::Preparing => {
                self.effort.cancel();
                self.prepare();
                self.stale.extend(changed);
            }
            Stage::Booting => {
                self.first.retain(|name, _| !changed.contains(name));
                self.stale.extend(changed);
            }
            Stage::Running => {
                // What was fetched for one that has not started is not to be taken.
                self.first.retain(|name, _| !changed.contains(name));
                self.stale.extend(changed.iter().cloned());
                for record in self
                    .records
                    .iter()
                    .filter(|record| changed.contains(&record.name))
                {
                    if let Some(wait) = self.launching.get(&record.run_id()) {
                        wait.cancel();
                    }
                }
            }
            _ => {}
        }
    }

    /// A container has an image that its VM did not boot with. The disk of the one before stays in the VM: it is not to be
    /// plugged in twice when it is wanted again.
    fn imaged(&mut self, container: &str, image: Arc<Image>) {
        if let Some(record) = self.records.iter_mut().find(|record| record.name == container) {
            record.image_id.clone_from(&image.repo_digest);
        }
        if let Some(machine) = &mut self.machine {
            let mut images = (*machine.images).clone();
            let id = image.id.clone();
            let old = images.insert(container.to_owned(), image);
            if let Some(old) = old.filter(|old| old.id != id) {
                images.insert(format!("{container} before, {}", old.id), old);
            }
            machine.images = Arc::new(images);
        }
    }

    fn heed_deletion(&mut self) {
        let metadata = &self.pod.metadata;
        if metadata.deletion_timestamp.is_none() {
            return;
        }
        let grace = metadata
            .deletion_grace_period_seconds
            .unwrap_or_else(|| self.grace());
        // Whatever is asked for, hooks are given a second (kubelet: `calculateEffectiveGracePeriod`).
        self.stop(Why::Deleted, grace.max(1));
    }

    pub(super) fn grace(&self) -> i64 {
        let spec = self.pod.spec.as_ref();
        spec.and_then(|spec| spec.termination_grace_period_seconds)
            .unwrap_or(GRACE)
    }

    pub(super) fn report(&mut self, report: Report) {
        match report {
            Report::Pulling {
                container,
                reason,
                message,
            } => {
                if let Some(record) = self.records.iter_mut().find(|record| record.name == container) {
                    let reason = reason.to_owned();
                    // A start that is under way goes on.
                    record.state = match record.state {
                        State::Starting { .. } => State::Starting { reason, message },
                        _ => State::Waiting { reason, message },
                    };
                }
            }
            Report::Imaged { container, image } => self.imaged(&container, image),
            Report::Hooked { run, result } => self.hooked(&run, result),
            Report::Prepared(prepared, first) if self.stage == Stage::Preparing => {
                for record in &mut self.records {
                    let Some(image) = prepared.images.get(&record.name) else {
                        continue;
                    };
                    record.image_id.clone_from(&image.repo_digest);
                    // What a pull had to say is over.
                    if record.last.is_none() && matches!(record.state, State::Waiting { .. }) {
                        record.state = State::fresh();
                    }
                }
                self.prepared = Some(Arc::from(prepared));
                self.first = first;
                self.stage = Stage::Booting;
            }
            Report::Prepared(..) => {}
            Report::Addressed(ip) => self.ip = Some(ip),
            Report::Booted(result) => self.booted(result),
            Report::Adopted(machine) => {
                self.booting = false;
                if let Some(extent) = machine.as_ref().and_then(|machine| machine.extent) {
                    self.has_grown(extent);
                }
                match machine.map(|machine| machine.follow(self.number, &self.inputs)) {
                    Some(machine) if self.why.is_none() => self.up(machine, true),
                    Some(machine) => self.machine = Some(machine),
                    None if self.why.is_none() => {
                        self.stage = Stage::Running;
                        self.lost("its VM was gone when the host agent came back");
                    }
                    None => {}
                }
            }
            Report::Launched { index, run, result } => self.launched(index, &run, result),
            Report::VmEnded(number, reason) if number == self.number && self.stage == Stage::Running => {
                self.lost(&reason.to_string());
            }
            Report::VmEnded(..) => {}
            Report::Resized(resources, extent, result) => {
                if let Some(extent) = extent {
                    self.has_grown(extent);
                }
                self.resized(resources, result);
            }
            Report::Evicted { message, disrupted } => self.evict(message, disrupted),
            Report::Stopped => self.stopped(),
            Report::Published => self.stage = Stage::Gone,
        }
    }

    fn prepare(&mut self) {
        self.stage = Stage::Preparing;
        self.effort = self.context.cancel.child_token();
        let job = prepare::run(
            Arc::clone(&self.context),
            Arc::clone(&self.pod),
            self.inputs.clone(),
        );
        let effort = self.effort.clone();
        self.jobs.spawn(async move {
            effort.run_until_cancelled_owned(job).await;
        });
    }

    fn boot(&mut self, prepared: Arc<Prepared>) {
        self.booting = true;
        self.number += 1;
        self.new_size();
        let boot = Boot {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            size: self.size,
            most: self.most,
            prepared,
            records: self.records.clone(),
            number: self.number,
            owner: self.inputs.clone(),
            cancel: self.effort.clone(),
        };
        self.jobs.spawn(boot.run());
    }

    fn booted(&mut self, result: Result<Box<Arrived>, String>) {
        self.booting = false;
        match result.map(|machine| machine.follow(self.number, &self.inputs)) {
            Ok(machine) if self.why.is_none() => self.up(machine, false),
            // Too late: the stop job takes it down.
            Ok(machine) => self.machine = Some(machine),
            Err(problem) => {
                if self.why.is_none() {
                    let message = format!("Failed to create pod sandbox: {problem}");
                    self.context
                        .recorder
                        .pod(&self.pod, Kind::Warning, "FailedCreatePodSandBox", message);
                }
                self.delay_boot(Timestamp::now());
            }
        }
    }

    /// Whether every ordinary container has run and none is to run again: then init containers have nothing to ready.
    fn is_over(&self) -> bool {
        let main = || self.records.iter().filter(|record| record.role == Role::Main);
        let ended = |record: &Record| match &record.state {
            State::Exited(exit) => super::record::container_of(&self.pod, &record.name)
                .is_some_and(|container| !plan::goes_on(&self.pod, &container, record, exit.code)),
            _ => false,
        };
        main().next().is_some() && main().all(ended)
    }

    /// The VM is up: just made, or taken over from an earlier agent, who may have died before it wrote the volumes.
    fn up(&mut self, machine: Machine, adopted: bool) {
        self.ip = Some(machine.ip);
        self.stage = Stage::Running;
        let refresh = super::refresh::run(
            Arc::clone(&self.context),
            machine.clone(),
            self.view.subscribe(),
            adopted,
        );
        let evict = super::evict::run(
            machine.clone(),
            self.view.subscribe(),
            Arc::clone(&self.logs),
            self.inputs.clone(),
            self.context.config.eviction_pause,
        );
        self.jobs.spawn(evict);
        self.machine = Some(machine);
        self.written = None;
        self.jobs.spawn(refresh);
        self.resize();
    }

    /// The VM ended by itself: what ran in it ended with it; go on in another one if something is still to run.
    fn lost(&mut self, words: &str) {
        let now = Timestamp::now();
        for index in 0..self.records.len() {
            self.perish(index, now, words);
        }
        let goes_on = self.records.iter().any(|record| match &record.state {
            State::Exited(exit) => super::record::container_of(&self.pod, &record.name)
                .is_some_and(|container| plan::goes_on(&self.pod, &container, record, exit.code)),
            _ => true,
        });
        if goes_on {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            let recorder = &self.context.recorder;
            recorder.pod(&self.pod, Kind::Normal, "SandboxChanged", message);
            // Why, upstream's events do not say.
            recorder.pod(&self.pod, Kind::Warning, "VmEnded", words);
            self.delay_boot(now);
            self.stop(Why::Again, 0);
        } else {
            self.stop(Why::Finished, 0);
        }
    }

    /// The next VM is made at once after a first failure, later after a growing pause.
    fn delay_boot(&mut self, now: Timestamp) {
        self.boot_after = match self.boot_backoff.check(now, now) {
            backoff::Verdict::Wait(until, _) => Some(until),
            backoff::Verdict::Go => None,
        };
        self.boot_backoff.next(now, now);
    }

    /// Begins to take the Pod down, or hurries a stop that is under way.
    pub(super) fn stop(&mut self, why: Why, grace: i64) {
        let wanted = Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        if self.why.is_some() {
            self.deadline.send_if_modified(|deadline| {
                let sooner = wanted < *deadline;
                *deadline = (*deadline).min(wanted);
                sooner
            });
        } else {
            self.deadline.send_replace(wanted);
        }
        if self.stage == Stage::Finished {
            // Everything has gone already but the object.
            self.why = self.why.max(Some(why));
            return self.stopped();
        }
        self.why = self.why.max(Some(why));
        self.first.clear();
        if self.stage != Stage::Gone {
            self.stage = Stage::Stopping;
            self.effort.cancel();
        }
    }

    fn stopped(&mut self) {
        self.stopping = false;
        if let Some(machine) = self.machine.take() {
            machine.life.cancel();
        }
        self.prepared = None;
        let now = Timestamp::now();
        if self.stage == Stage::Stopping {
            for index in 0..self.records.len() {
                self.perish(index, now, "");
            }
            match self.why {
                Some(Why::Finished) | None => end::conclude(&mut self.records, false, now),
                Some(Why::Deleted) => end::conclude(&mut self.records, true, now),
                Some(Why::Again | Why::Evacuate | Why::Forgotten) => {}
            }
        }
        match self.why.take() {
            Some(Why::Again) => {
                self.records.iter_mut().for_each(renew);
                self.grant();
                self.prepare();
            }
            Some(Why::Finished) | None => self.stage = Stage::Finished,
            Some(Why::Evacuate) => self.stage = Stage::Gone,
            Some(Why::Forgotten) => {
                self.remove_logs();
                self.stage = Stage::Gone;
            }
            Some(why @ Why::Deleted) => {
                self.why = Some(why);
                self.stage = Stage::Finished;
                self.remove_logs();
                self.publish_last(now);
            }
        }
    }

    fn remove_logs(&self) {
        if let Err(error) = self.logs.remove() {
            tracing::warn!(%error, "logs of a Pod stay");
        }
    }

    /// Decides what is next.
    fn reconcile(&mut self) {
        let now = Timestamp::now();
        self.wake = None;
        self.check_active_deadline(now);
        match self.stage {
            Stage::Booting if !self.booting => {
                let Some(prepared) = self.prepared.clone() else {
                    return;
                };
                match self
                    .boot_after
                    .filter(|after| backoff::ahead(*after, now, backoff::MAX))
                {
                    None => self.boot(prepared),
                    Some(after) => self.wake_at(after),
                }
            }
            Stage::Running if self.machine.is_some() => {
                if let Some(at) = self.retry_resize(now) {
                    self.wake_at(at);
                }
                self.replace_changed();
                for action in plan::plan(&self.pod, &self.records, now) {
                    self.act(action, now);
                }
            }
            Stage::Stopping if !self.stopping && !self.booting => {
                self.stopping = true;
                for index in 0..self.records.len() {
                    self.assign(index);
                }
                let stop = Stop {
                    context: Arc::clone(&self.context),
                    pod: Arc::clone(&self.pod),
                    machine: self.machine.clone(),
                    logs: Arc::clone(&self.logs),
                    view: self.view.subscribe(),
                    deadline: self.deadline.subscribe(),
                    owner: self.inputs.clone(),
                };
                self.jobs.spawn(stop.run());
            }
            _ => {}
        }
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Start(index) => self.launch(index, now),
            Action::Hold(until) => self.wake_at(until),
            Action::BackOff {
                index,
                until,
                seconds,
            } => {
                self.back_off(index, seconds);
                self.wake_at(until);
            }
            Action::Finish { .. } => self.stop(Why::Finished, self.grace()),
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// `activeDeadlineSeconds`.
    fn check_active_deadline(&mut self, now: Timestamp) {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.active_deadline_seconds);
        let (Some(seconds), None, Stage::Preparing | Stage::Booting | Stage::Running) =
            (seconds, self.why, self.stage)
        else {
            return;
        };
        let Ok(until) = self
            .start_time
            .checked_add(jiff::SignedDuration::from_secs(seconds))
        else {
            return;
        };
        if now < until {
            return self.wake_at(until);
        }
        let message = "Pod was active on the node longer than the specified deadline";
        let reason = status::DEADLINE_EXCEEDED;
        self.context
            .recorder
            .pod(&self.pod, Kind::Normal, reason, message);
        let grace = self.grace();
        self.condemn(Verdict::new(reason.to_owned(), message.to_owned(), grace), grace);
    }

    /// Ends the Pod as a whole. It is written down first, for the next agent: what has begun to end must not go on.
    fn condemn(&mut self, verdict: Verdict, grace: i64) {
        self.verdict = Some(verdict);
        self.save();
        self.stop(Why::Finished, grace);
    }

    /// Ends a Pod that took too much local storage, or more than others of what its host lacks (kubelet: `evictPod`).
    fn evict(&mut self, message: String, disrupted: bool) {
        if self.why.is_some() || self.stage != Stage::Running {
            return;
        }
        self.context
            .recorder
            .pod(&self.pod, Kind::Warning, "Evicted", message.clone());
        let mut verdict = Verdict::new("Evicted".to_owned(), message, end::EVICTION_GRACE);
        verdict.disrupted = disrupted;
        self.condemn(verdict, end::EVICTION_GRACE);
    }

    /// Shows the state: to others in this process, to the API, to the next agent.
    fn show(&mut self) {
        self.show_here();
        self.write_file();
        self.note_request();
        let over = self.why == Some(Why::Deleted) && self.stage == Stage::Finished;
        if self.frozen
            || over
            || matches!(self.why, Some(Why::Forgotten | Why::Evacuate))
            || self.stage == Stage::Gone
            || self.is_replacing()
        {
            return;
        }
        let status = self.compute_status(Timestamp::now());
        if status != self.status || self.publish.borrow().status.is_none() {
            self.status = status.clone();
            self.publish.send_modify(|wanted| wanted.status = Some(status));
        }
    }

    /// Whether a container has ended for its successor, of which nothing can be told yet: the API hears of both at once
    /// (kubelet: one round of `SyncPod` ends the one and starts the other).
    fn is_replacing(&self) -> bool {
        let is = |record: &Record| {
            let ended = match record.state {
                State::Exited(_) => Some(record.run_id()),
                State::Starting { .. } => record.previous_run_id(),
                State::Waiting { .. } | State::Running { .. } => None,
            };
            ended.is_some_and(|run| self.replacing.contains(&run))
        };
        self.stage == Stage::Running && self.why.is_none() && self.records.iter().any(is)
    }

    /// Shows it in this process, where what comes from the API must find it as the API was told.
    fn show_here(&self) {
        self.view.send_replace(View {
            pod: Arc::clone(&self.pod),
            stage: self.stage,
            records: Arc::new(self.records.clone()),
            machine: self.machine.clone(),
            size: self.size,
            most: self.most,
            number: self.number,
            over: self.is_finished() || self.stage == Stage::Gone,
        });
    }

    /// Whether its phase is its last.
    fn is_finished(&self) -> bool {
        self.frozen || self.stage == Stage::Finished || self.why == Some(Why::Finished) && self.settled()
    }

    /// Others may have what an ended Pod had.
    fn note_request(&self) {
        let Some(uid) = &self.pod.metadata.uid else { return };
        if !self.waits_for_room() {
            self.context.requests.withdraw(uid);
        }
        let asked = match self.stage {
            Stage::Finished | Stage::Gone => Asked::default(),
            // A resize that is under way has taken its part already.
            _ if self.allocated().is_some() => return,
            _ => Asked::of(&self.pod),
        };
        self.context.requests.note(uid, asked);
    }

    fn publish_last(&mut self, now: Timestamp) {
        self.show_here();
        let status = (!self.frozen).then(|| self.compute_status(now));
        self.publish.send_modify(|wanted| {
            wanted.status = status.or(wanted.status.take());
            wanted.delete = true;
            wanted.last = true;
        });
    }

    fn compute_status(&self, now: Timestamp) -> PodStatus {
        // Conditions that others own are in the object, times of ours in the last status.
        let mut before = self.status.clone();
        let disruption = end::disruption(&before);
        let theirs = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.clone());
        let ours = before.conditions.get_or_insert_with(Vec::new);
        let wish = self.resize_condition();
        ours.retain(|known| {
            !resize::CONDITIONS.contains(&known.type_.as_str())
                || wish.as_ref().is_some_and(|w| same(w, known))
        });
        if let Some(wish) = wish.filter(|wish| !ours.iter().any(|known| known.type_ == wish.type_)) {
            ours.push(wish);
        }
        let foreign = theirs.into_iter().flatten();
        for condition in foreign.filter(|c| !resize::CONDITIONS.contains(&c.type_.as_str())) {
            match ours.iter_mut().find(|known| known.type_ == condition.type_) {
                Some(_) if OWN_CONDITIONS.contains(&condition.type_.as_str()) => {}
                Some(known) => *known = condition,
                None => ours.push(condition),
            }
        }
        // Only with the last phase: nobody is to be told twice (kubelet: `mergePodStatus`).
        let verdict = self.verdict.as_ref().filter(|verdict| verdict.disrupted);
        if let Some(verdict) = verdict.filter(|_| self.is_finished()) {
            ours.retain(|known| known.type_ != end::DISRUPTION_TARGET);
            let generation = self.pod.metadata.generation;
            ours.push(disruption.unwrap_or_else(|| verdict.condition(generation, now)));
        }
        let view = status::View {
            pod: &self.pod,
            records: &self.records,
            allocated: self.allocated(),
            vm_ready: self.machine.is_some() && self.stage == Stage::Running,
            ip: self
                .ip
                .filter(|_| self.machine.is_some() || self.status.pod_ip.is_some()),
            host_ip: self.context.config.node_ip,
            verdict: self
                .verdict
                .as_ref()
                .map(|verdict| (verdict.reason.as_str(), verdict.message.as_str())),
            finished: self.is_finished(),
            rejected: self.rejected,
            start_time: self.start_time,
        };
        status::of(&view, &before, now)
    }

    /// Nothing runs any more, and no start is under way.
    fn settled(&self) -> bool {
        self.launching.is_empty() && !self.records.iter().any(Record::running)
    }

    fn write_file(&mut self) {
        if self.written.as_ref() != Some(&self.records) && self.stage == Stage::Running {
            self.save();
        }
    }

    fn save(&mut self) {
        let (Some(machine), Some(uid)) = (&self.machine, &self.pod.metadata.uid) else {
            return;
        };
        let file = PodFile {
            uid: uid.clone(),
            namespace: self.pod.metadata.namespace.clone().unwrap_or_default(),
            name: self.pod.metadata.name.clone().unwrap_or_default(),
            ip: machine.ip,
            mac: crate::ipam::mac(machine.ip),
            records: self.records.clone(),
            images: (*machine.images).clone(),
            disks: (*machine.disks).clone(),
            resources: super::resize::of(&self.pod),
            most: Some(self.most),
            boots: u32::try_from(self.number).unwrap_or(u32::MAX),
            timings: (*machine.timings).clone(),
            verdict: self.verdict.clone(),
        };
        match file.write(&self.context.run_dir(uid)) {
            Ok(()) => self.written = Some(self.records.clone()),
            Err(error) => tracing::warn!(%error, uid, "the next agent will know less"),
        }
    }
}

/// Equal but for the time.
fn same(a: &PodCondition, b: &PodCondition) -> bool {
    (&a.type_, &a.reason, &a.message, a.observed_generation)
        == (&b.type_, &b.reason, &b.message, b.observed_generation)
}

/// Conditions that only this host writes.
pub(super) const OWN_CONDITIONS: [&str; 4] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
];

async fn sleep_until(wake: Option<Timestamp>) {
    match wake {
        Some(at) => {
            let left = at.duration_since(Timestamp::now());
            tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        }
        None => std::future::pending().await,
    }
}
