//! Probes: what the guest is told to ask, and what follows from what it has found.
//!
//! When to ask and what the answers mean is known in the guest (`guest_api::probing`), which goes on with it while no agent
//! is there. It tells a state: counts and a verdict for each probe. Here that becomes events, metrics, the status and the
//! end of the unhealthy. Ports are known by number there; names are looked up here, as the kubelet asks its node for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{Probe, ProbeKind, ProbeState, SetProbesRequest, Tally};
use k8s_openapi::api::core::v1::{Container, Pod, Probe as Spec};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::actions::{Job, resolve};
use super::owner::Owner;
use super::record::{State, container_of};
use super::{Context, Machine, Stage};
use crate::events;

/// All of them, in the order in which they come to speak.
const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness];
/// How long the guest may take to be told.
const CALL: Duration = Duration::from_secs(30);
/// Until it is told again.
const RETRY: Duration = Duration::from_secs(1);
/// At least so long after an event comes the next like it: an honest guest asks once a second.
const QUIET: Duration = Duration::from_millis(500);
/// As many characters of its words are shown.
const WORDS: usize = 10 << 10;
/// What is said of a VM whose agent came with a host agent of old.
const OLD: &str = "Probes are not asked: the VM was made by an earlier version of the host agent; delete the Pod to have \
                   it made anew";

/// The word for it in events and metrics.
fn name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Liveness => "Liveness",
    }
}

/// The probe of a container.
pub(super) fn of(kind: ProbeKind, container: &Container) -> Option<&Spec> {
    match kind {
        ProbeKind::Startup => container.startup_probe.as_ref(),
        ProbeKind::Readiness => container.readiness_probe.as_ref(),
        ProbeKind::Liveness => container.liveness_probe.as_ref(),
    }
}

/// What there is to the probes of a run that goes on.
pub(super) struct Watch {
    /// An earlier agent has attended to the run: what was heard then is not told again.
    adopted: bool,
    /// What was heard of each probe: its successes, failures and errors.
    counts: HashMap<ProbeKind, [u64; 3]>,
    /// When each of those was last worth an event.
    spoken: HashMap<(ProbeKind, usize), Instant>,
    /// It is being ended for its health.
    pub(super) condemned: bool,
    /// Ends whoever tells the guest what to ask.
    cancel: CancellationToken,
}

impl Watch {
    pub(super) fn new(adopted: bool) -> Self {
        Self {
            adopted,
            counts: HashMap::new(),
            spoken: HashMap::new(),
            condemned: false,
            cancel: CancellationToken::new(),
        }
    }

    /// What is new in a state: how many successes, failures and errors there were since the last, and of which of the three
    /// there is something to say. A guest that says more than an honest one has to say is not heard out.
    fn news(&mut self, state: &ProbeState, now: Instant) -> ([u64; 3], [bool; 3]) {
        let (kind, tallies) = (state.kind(), tallies(state));
        let counts = tallies.map(|tally| tally.map_or(0, |tally| tally.count));
        let before = self.counts.insert(kind, counts);
        let known = before.unwrap_or_default();
        let more: [u64; 3] = std::array::from_fn(|outcome| counts[outcome].saturating_sub(known[outcome]));
        let untold = match before {
            None if self.adopted => tallies.map(|tally| tally.map_or(0, |tally| tally.unheard)),
            _ => more,
        };
        let told = std::array::from_fn(|outcome| {
            let said = || self.spoken.get(&(kind, outcome));
            let tell = untold[outcome] > 0 && said().is_none_or(|last| now - *last >= QUIET);
            if tell {
                self.spoken.insert((kind, outcome), now);
            }
            tell
        });
        (more, told)
    }
}

/// Successes, failures and errors.
fn tallies(state: &ProbeState) -> [Option<&Tally>; 3] {
    [&state.successes, &state.failures, &state.errors].map(Option::as_ref)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Owner {
    /// Has the guest told which probes a run has: all of them while the Pod is to go on, then readiness alone, so that
    /// others see when it serves no more.
    pub(super) fn assign(&mut self, index: usize) {
        let record = &self.records[index];
        let (Some(machine), Some(container)) = (self.machine.clone(), container_of(&self.pod, &record.name))
        else {
            return;
        };
        let State::Running { id: run, .. } = &record.state else {
            return;
        };
        let Some(watch) = self.probes.get_mut(run) else {
            return;
        };
        if record.hooking || KINDS.iter().all(|kind| of(*kind, &container).is_none()) {
            return;
        }
        let goes_on = self.stage == Stage::Running;
        let wanted = KINDS
            .into_iter()
            .filter(|kind| goes_on || *kind == ProbeKind::Readiness)
            .filter_map(|kind| Some(Wanted::new(kind, of(kind, &container)?, &container, run)));
        watch.cancel.cancel();
        watch.cancel = machine.life.child_token();
        let assignment = Assignment {
            context: Arc::clone(&self.context),
            pod: Arc::clone(&self.pod),
            wanted: wanted.collect(),
            machine,
            container: record.name.clone(),
            run: run.clone(),
        };
        let cancel = watch.cancel.clone();
        self.jobs.spawn(async move {
            cancel.run_until_cancelled(assignment.run()).await;
        });
    }

    /// The guest tells what the probes of a run have found. `runs`: it has not ended. True: something follows from it.
    pub(super) fn probed(&mut self, index: usize, found: &[ProbeState], runs: bool) -> bool {
        let run = self.records[index].run_id();
        let mut follows = false;
        for state in found.iter().take(KINDS.len()) {
            let Some(watch) = self.probes.get_mut(&run) else {
                break;
            };
            let (more, told) = watch.news(state, Instant::now());
            self.tell_probe(index, state, more, told);
            follows |= runs && self.judge(index, state);
        }
        follows
    }

    fn tell_probe(&self, index: usize, state: &ProbeState, more: [u64; 3], told: [bool; 3]) {
        let (container, probe) = (&self.records[index].name, name(state.kind()));
        let [successes, failures, _] = more;
        for (success, number) in [(true, successes), (false, failures)] {
            if number > 0 {
                let counts = &self.context.probes;
                counts.add(&self.pod, container, probe, success, number);
            }
        }
        let words = [
            ("ProbeWarning", "probe warning"),
            ("Unhealthy", "probe failed"),
            ("Unhealthy", "probe errored and resulted in unknown state"),
        ];
        for ((tell, tally), (reason, words)) in told.into_iter().zip(tallies(state)).zip(words) {
            let said = tally.map_or("", |tally| tally.words.as_str());
            // A success is worth a word only if its server had one.
            if !tell || said.is_empty() && reason == "ProbeWarning" {
                continue;
            }
            let said: String = said.chars().take(WORDS).collect();
            let (recorder, kind) = (&self.context.recorder, events::Kind::Warning);
            let message = format!("{probe} {words}: {said}");
            recorder.container(&self.pod, container, kind, reason, message);
        }
    }

    fn judge(&mut self, index: usize, state: &ProbeState) -> bool {
        let container = container_of(&self.pod, &self.records[index].name);
        let readiness = container.is_some_and(|c| c.readiness_probe.is_some());
        let record = &mut self.records[index];
        let before = (record.started, record.ready);
        match (state.kind(), state.verdict) {
            (ProbeKind::Startup, Some(true)) if !record.started => {
                record.started = true;
                record.ready = !readiness;
            }
            (ProbeKind::Readiness, Some(ready)) => record.ready = record.started && ready,
            (kind @ (ProbeKind::Startup | ProbeKind::Liveness), Some(false)) => {
                let watch = self.probes.get_mut(&record.run_id());
                if let Some(watch) = watch.filter(|watch| self.stage == Stage::Running && !watch.condemned) {
                    watch.condemned = true;
                    self.kill_unhealthy(index, kind);
                    return true;
                }
            }
            _ => {}
        }
        let record = &self.records[index];
        before != (record.started, record.ready)
    }
}

/// A probe as the guest is to be told of it.
struct Wanted {
    probe: Probe,
    /// Whom it asks, if that is known by name.
    name: Option<String>,
    limit: Duration,
}

impl Wanted {
    fn new(kind: ProbeKind, spec: &Spec, container: &Container, run: &str) -> Self {
        let millis = |seconds: Option<i32>, default: u32| {
            seconds
                .and_then(|seconds| u32::try_from(seconds).ok())
                .unwrap_or(default)
                .saturating_mul(1000)
        };
        let times = |value: Option<i32>, default: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .unwrap_or(default)
                .max(1)
        };
        let limit = Duration::from_millis(millis(spec.timeout_seconds, 1).max(1000).into());
        let mut probe = Probe {
            initial_delay_ms: millis(spec.initial_delay_seconds, 0),
            period_ms: millis(spec.period_seconds, 10).max(1000),
            success_threshold: times(spec.success_threshold, 1),
            failure_threshold: times(spec.failure_threshold, 3),
            ..Probe::default()
        };
        probe.set_kind(kind);
        let mut name = None;
        match Job::of_probe(container, run, spec) {
            Ok(job) => {
                let host = job.host.clone();
                let known = host.is_empty() || host.parse::<std::net::IpAddr>().is_ok();
                name = (!known).then(|| host.clone());
                probe.request = Some(job.request(host, limit));
            }
            Err(problem) => probe.problem = problem,
        }
        Self { probe, name, limit }
    }

    /// Looks its name up. True: what comes of it is news.
    async fn look_up(&mut self) -> bool {
        let (Some(name), Some(request)) = (&self.name, &mut self.probe.request) else {
            return false;
        };
        let found = tokio::time::timeout(self.limit, resolve(name)).await;
        let (host, problem) = match found {
            Ok(Ok(address)) => (address, String::new()),
            // The guest knows no name either: it says so at each question, which is a failure.
            Ok(Err(_)) => (name.clone(), String::new()),
            // A resolver of the host that does not answer is no fault of the Pod's.
            Err(_) if request.host != *name => return false,
            Err(_) => (name.clone(), format!("lookup {name}: i/o timeout")),
        };
        let news = (&request.host, &self.probe.problem) != (&host, &problem);
        (request.host, self.probe.problem) = (host, problem);
        news
    }
}

/// Tells the guest what to ask, and again when a name leads elsewhere.
struct Assignment {
    context: Arc<Context>,
    pod: Arc<Pod>,
    wanted: Vec<Wanted>,
    machine: Machine,
    container: String,
    run: String,
}

impl Assignment {
    async fn run(mut self) {
        let mut news = true;
        loop {
            for wanted in &mut self.wanted {
                news |= wanted.look_up().await;
            }
            if news && !self.tell().await {
                return;
            }
            news = false;
            let named = self.wanted.iter().filter(|wanted| wanted.name.is_some());
            let Some(period) = named.map(|wanted| wanted.probe.period_ms).min() else {
                return;
            };
            tokio::time::sleep(Duration::from_millis(period.into())).await;
        }
    }

    /// False: there is nobody to be told, or none who would understand.
    async fn tell(&self) -> bool {
        let request = SetProbesRequest {
            id: self.run.clone(),
            probes: self.wanted.iter().map(|wanted| wanted.probe.clone()).collect(),
        };
        loop {
            let call = async {
                let mut client = self.machine.guest.client().await.ok()?;
                Some(client.set_probes(request.clone()).await)
            };
            match tokio::time::timeout(CALL, call).await {
                Ok(Some(Ok(_))) => return true,
                Ok(Some(Err(status))) => match status.code() {
                    // It has ended.
                    Code::FailedPrecondition | Code::NotFound => return false,
                    Code::Unimplemented => {
                        let (recorder, kind) = (&self.context.recorder, events::Kind::Warning);
                        recorder.container(&self.pod, &self.container, kind, "Unhealthy", OLD);
                        return false;
                    }
                    _ => tracing::debug!(run = self.run, %status, "probes"),
                },
                Ok(None) | Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state with so many failures, of which so many were not heard.
    fn failures(count: u64, unheard: u64) -> ProbeState {
        ProbeState {
            failures: Some(Tally {
                count,
                unheard,
                words: "refused".to_owned(),
            }),
            ..ProbeState::default()
        }
    }

    #[test]
    fn what_is_news() {
        // (adopted, [(milliseconds, failures, unheard, how many are new, whether they are told)])
        type Step = (u64, u64, u64, u64, bool);
        let cases: [(&str, bool, &[Step]); 4] = [
            (
                "a run of ours",
                false,
                &[(0, 1, 0, 1, true), (1000, 2, 0, 1, true)],
            ),
            (
                "an adopted one of which all was heard",
                true,
                &[(0, 7, 0, 7, false), (1000, 8, 0, 1, true)],
            ),
            (
                "an adopted one with what nobody heard",
                true,
                &[(0, 7, 3, 7, true), (1000, 7, 0, 0, false)],
            ),
            (
                "a guest that says more than it can know",
                false,
                &[
                    (0, 1, 0, 1, true),
                    (1, 1000, 0, 999, false),
                    (2, 10, 0, 0, false),
                    (600, 11, 0, 1, true),
                ],
            ),
        ];
        let begun = Instant::now();
        for (case, adopted, steps) in cases {
            let mut watch = Watch::new(adopted);
            for (at, count, unheard, new, told) in steps {
                let now = begun + Duration::from_millis(*at);
                let news = watch.news(&failures(*count, *unheard), now);
                assert_eq!(news, ([0, *new, 0], [false, *told, false]), "{case} at {at}");
            }
        }
    }
}
