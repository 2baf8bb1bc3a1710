//! When the probes of a container are asked, and what the answers mean (kubelet: `prober/worker.go`).
//!
//! [`Schedule`] only counts and reckons: it is told the time. [`Probing`] is one at work, in a guest: it asks on, whether
//! a host listens or not, and what it has found is a state, as large after a year as after a minute.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::v1::{Probe, ProbeKind, ProbeReply, ProbeRequest, ProbeState, Tally, probe_request};

/// The shortest time between two questions.
const SHORTEST: Duration = Duration::from_secs(1);
/// Events that a host may be behind and still be told of probes.
const BEHIND: usize = 32;
/// Until one that was behind is tried again.
const LATER: Duration = Duration::from_millis(500);

/// The probes of one run of a container. All times count from the start of the container.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    probe: Probe,
    state: ProbeState,
    /// The last answer, and how many like it have come in a row.
    row: Option<(bool, u32)>,
    /// The first question; all others are whole periods later, or would be if answers were quick.
    first: Duration,
    /// The next one.
    due: Duration,
    /// The last one, as long as it has no answer.
    asked: Option<Duration>,
    /// Nothing more is asked: it has started, or is to be ended.
    over: bool,
}

/// What is to be done at a moment.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    /// What is to be asked; each waits for [`Schedule::answered`] before it is asked again.
    pub questions: Vec<(ProbeKind, ProbeRequest)>,
    /// Something was found without a question.
    pub changed: bool,
}

impl Schedule {
    /// Gives it these probes: those of a kind that it has go on, others end or begin.
    pub fn set(&mut self, now: Duration, probes: Vec<Probe>) {
        self.entries
            .retain(|entry| probes.iter().any(|probe| probe.kind == entry.probe.kind));
        for probe in probes {
            match self
                .entries
                .iter_mut()
                .find(|entry| entry.probe.kind == probe.kind)
            {
                Some(entry) => entry.probe = probe,
                None => self.entries.push(Entry::new(probe, now)),
            }
        }
        self.entries.sort_by_key(|entry| entry.probe.kind);
    }

    /// What is to be asked now.
    pub fn due(&mut self, now: Duration, heard: bool) -> Due {
        let mut due = Due::default();
        let gated = self.gated();
        for entry in &mut self.entries {
            if entry.waits(gated).is_none_or(|at| at > now) {
                continue;
            }
            entry.asked = Some(now);
            if entry.probe.problem.is_empty() {
                let request = entry.probe.request.clone().unwrap_or_default();
                due.questions.push((entry.probe.kind(), request));
            } else {
                let words = entry.probe.problem.clone();
                count(&mut entry.state.errors, words, heard);
                entry.next();
                due.changed = true;
            }
        }
        due
    }

    /// When something is to be asked next.
    pub fn next(&self) -> Option<Duration> {
        let gated = self.gated();
        self.entries.iter().filter_map(|entry| entry.waits(gated)).min()
    }

    /// What came of a question; nothing if nobody could be asked, which counts neither way. `heard`: a host listens. True:
    /// there is something to tell.
    pub fn answered(
        &mut self,
        kind: ProbeKind,
        now: Duration,
        reply: Option<ProbeReply>,
        heard: bool,
    ) -> bool {
        let mut entries = self.entries.iter_mut();
        let found = entries.find(|entry| entry.probe.kind() == kind && entry.asked.is_some());
        let Some(entry) = found else {
            return false;
        };
        entry.next();
        let Some(reply) = reply else {
            return false;
        };
        if reply.unknown {
            // It counts neither way (kubelet: `probe.Unknown`).
            count(&mut entry.state.errors, reply.output, heard);
            return true;
        }
        let success = reply.success;
        // Only an HTTP server can succeed and be warned of.
        let asked = entry
            .probe
            .request
            .as_ref()
            .and_then(|request| request.action.as_ref());
        let http = matches!(asked, Some(probe_request::Action::Http(_)));
        let (tally, words) = match success {
            true if http => (&mut entry.state.successes, reply.output),
            true => (&mut entry.state.successes, String::new()),
            false => (&mut entry.state.failures, reply.output),
        };
        count(tally, words, heard);
        if entry.judge(success) && kind == ProbeKind::Startup && success {
            // The others may be asked from here on, and at once.
            for entry in &mut self.entries {
                entry.begin(now);
            }
        }
        true
    }

    /// What has been found.
    pub fn states(&self) -> Vec<ProbeState> {
        self.entries.iter().map(|entry| entry.state.clone()).collect()
    }

    /// The same for a host that has just come: with what nobody has heard, which is told to one alone.
    pub fn list(&mut self) -> Vec<ProbeState> {
        let states = self.states();
        for entry in &mut self.entries {
            let state = &mut entry.state;
            let tallies = [&mut state.successes, &mut state.failures, &mut state.errors];
            tallies.into_iter().flatten().for_each(|tally| tally.unheard = 0);
        }
        states
    }

    /// Nobody but the startup probe is asked until that one has succeeded.
    fn gated(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.probe.kind() == ProbeKind::Startup && entry.state.verdict != Some(true))
    }
}

impl Entry {
    fn new(probe: Probe, now: Duration) -> Self {
        let verdict = match probe.kind() {
            ProbeKind::Startup => None,
            ProbeKind::Readiness => Some(false),
            ProbeKind::Liveness => Some(true),
        };
        let mut entry = Self {
            state: ProbeState {
                kind: probe.kind,
                verdict,
                ..ProbeState::default()
            },
            probe,
            row: None,
            first: Duration::ZERO,
            due: Duration::ZERO,
            asked: None,
            over: false,
        };
        entry.begin(now);
        entry
    }

    fn begin(&mut self, now: Duration) {
        let delay = Duration::from_millis(self.probe.initial_delay_ms.into());
        (self.first, self.due) = (delay.max(now), delay.max(now));
    }

    /// When it is asked next, if it is.
    fn waits(&self, gated: bool) -> Option<Duration> {
        let held = gated && self.probe.kind() != ProbeKind::Startup;
        (!self.over && !held && self.asked.is_none()).then_some(self.due)
    }

    /// The question has its answer. The next one comes a period after it was put, or when this answer came if that was
    /// later; those that were missed meanwhile are not made up for.
    fn next(&mut self) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        let period = Duration::from_millis(self.probe.period_ms.into()).max(SHORTEST);
        let passed = asked.saturating_sub(self.first).as_nanos() / period.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.due = self.first + period.saturating_mul(passed.saturating_add(1));
    }

    /// Counts an answer. True: there is a verdict.
    fn judge(&mut self, success: bool) -> bool {
        let row = match self.row {
            Some((last, count)) if last == success => count.saturating_add(1),
            _ => 1,
        };
        self.row = Some((success, row));
        let threshold = match success {
            true => self.probe.success_threshold,
            false => self.probe.failure_threshold,
        };
        if row < threshold {
            return false;
        }
        self.state.verdict = Some(success);
        self.over = match self.probe.kind() {
            ProbeKind::Startup => true,
            ProbeKind::Liveness => !success,
            ProbeKind::Readiness => false,
        };
        true
    }
}

fn count(tally: &mut Option<Tally>, words: String, heard: bool) {
    let tally = tally.get_or_insert_default();
    tally.count += 1;
    tally.unheard += u64::from(!heard);
    tally.words = words;
}

/// What a [`Probing`] is in.
pub trait Surroundings: Send + Sync + 'static {
    /// Asks, within the time that the request names. Nothing: nobody could be asked.
    fn ask(&self, request: ProbeRequest) -> impl Future<Output = Option<ProbeReply>> + Send;
    /// Whether a host listens and keeps up.
    fn heard(&self) -> bool;
    /// Tells the host what has been found. False: one listens, but has more to hear than it takes.
    fn tell(&self) -> bool;
}

/// Whether whoever listens to these events keeps up with them, and may be told of probes too. A host that hangs is told
/// nothing more until it goes on: what has been found is a state, which can wait, and is needed but once.
pub fn keeps_up<T>(events: &broadcast::Sender<T>) -> bool {
    events.receiver_count() == 0 || events.len() < BEHIND
}

/// A schedule at work. It ends when this is dropped.
#[derive(Debug)]
pub struct Probing {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    schedule: Mutex<Schedule>,
    changed: Notify,
}

impl Probing {
    /// Begins with the start of a container, without any probes.
    pub fn start(surroundings: impl Surroundings) -> Self {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            schedule: Mutex::default(),
            changed: Notify::new(),
        });
        let task = tokio::spawn(run(Arc::clone(&shared), Arc::new(surroundings))).abort_handle();
        Self { shared, task }
    }

    /// See [`Schedule::set`].
    pub fn set(&self, probes: Vec<Probe>) {
        let now = self.shared.begun.elapsed();
        self.shared.schedule().set(now, probes);
        self.shared.changed.notify_one();
    }

    /// See [`Schedule::states`].
    pub fn states(&self) -> Vec<ProbeState> {
        self.shared.schedule().states()
    }

    /// See [`Schedule::list`].
    pub fn list(&self) -> Vec<ProbeState> {
        self.shared.schedule().list()
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Counting does not panic.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run<S: Surroundings>(shared: Arc<Shared>, surroundings: Arc<S>) {
    // At most one question of each kind.
    let mut questions = JoinSet::new();
    let mut untold = false;
    loop {
        let (due, next) = {
            let mut schedule = shared.schedule();
            let due = schedule.due(shared.begun.elapsed(), surroundings.heard());
            (due, schedule.next())
        };
        untold = (untold || due.changed) && !surroundings.tell();
        for (kind, request) in due.questions {
            let surroundings = Arc::clone(&surroundings);
            questions.spawn(async move { (kind, surroundings.ask(request).await) });
        }
        let again = untold.then(|| Instant::now() + LATER);
        let wake = next
            .map(|next| shared.begun + next)
            .into_iter()
            .chain(again)
            .min();
        let timer = async {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(Ok((kind, reply))) = questions.join_next(), if !questions.is_empty() => {
                let (now, heard) = (shared.begun.elapsed(), surroundings.heard());
                untold |= shared.schedule().answered(kind, now, reply, heard);
            }
            () = timer => {}
            () = shared.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProbeKind::{Liveness, Readiness, Startup};

    const fn probe(kind: ProbeKind, delay: u32, period: u32, success: u32, failure: u32) -> Probe {
        Probe {
            kind: kind as i32,
            request: None,
            initial_delay_ms: delay,
            period_ms: period,
            success_threshold: success,
            failure_threshold: failure,
            problem: String::new(),
        }
    }

    fn letter(kind: ProbeKind) -> char {
        match kind {
            Startup => 'S',
            Readiness => 'R',
            Liveness => 'L',
        }
    }

    /// Plays a schedule on a clock of its own: each probe has its answers in order (`+`, `-`, and `?` for nobody who could
    /// be asked), each of which takes `latency`. Tells questions and changed verdicts with their times in milliseconds.
    fn play(probes: &[(Probe, &str)], latency: u64, until: u64) -> String {
        let mut schedule = Schedule::default();
        schedule.set(
            Duration::ZERO,
            probes.iter().map(|(probe, _)| probe.clone()).collect(),
        );
        let mut scripts: Vec<_> = probes
            .iter()
            .map(|(probe, script)| (probe.kind(), script.chars()))
            .collect();
        let mut under_way: Vec<(Duration, ProbeKind)> = Vec::new();
        let mut told = Vec::new();
        let verdicts = |schedule: &Schedule| {
            let states = schedule.states();
            states.iter().map(|state| state.verdict).collect::<Vec<_>>()
        };
        let mut clock = Duration::ZERO;
        loop {
            let coming = under_way.iter().map(|(at, _)| *at).chain(schedule.next()).min();
            let Some(now) = coming.filter(|now| *now <= Duration::from_millis(until)) else {
                return told.join(" ");
            };
            let now = now.max(clock);
            clock = now;
            if let Some(place) = under_way.iter().position(|(at, _)| *at <= now) {
                let (_, kind) = under_way.remove(place);
                let script = scripts.iter_mut().find(|(known, _)| *known == kind);
                let answer = script.and_then(|(_, script)| script.next()).unwrap_or('?');
                let reply = (answer != '?').then(|| ProbeReply {
                    success: answer == '+',
                    unknown: answer == 'x',
                    output: String::new(),
                });
                let before = verdicts(&schedule);
                schedule.answered(kind, now, reply, true);
                for (state, before) in schedule.states().iter().zip(before) {
                    if let Some(verdict) = state.verdict.filter(|verdict| before != Some(*verdict)) {
                        told.push(format!("{}={verdict}", letter(state.kind())));
                    }
                }
                continue;
            }
            for (kind, _) in schedule.due(now, true).questions {
                told.push(format!("{}{}", letter(kind), now.as_millis()));
                under_way.push((now + Duration::from_millis(latency), kind));
            }
        }
    }

    #[test]
    fn schedules() {
        type Case<'a> = (&'a str, &'a [(Probe, &'a str)], u64, u64, &'a str);
        let cases: [Case; 10] = [
            (
                "thresholds",
                &[(probe(Readiness, 0, 1000, 2, 3), "++++---+---++")],
                0,
                12_000,
                "R0 R1000 R=true R2000 R3000 R4000 R5000 R6000 R=false R7000 R8000 R9000 R10000 R11000 R12000 R=true",
            ),
            (
                "a startup probe comes first, then the others at once but for their own delays",
                &[
                    (probe(Liveness, 5000, 4000, 1, 3), "+++"),
                    (probe(Readiness, 0, 4000, 1, 3), "+++"),
                    (probe(Startup, 0, 1000, 1, 3), "--+"),
                ],
                0,
                9000,
                "S0 S1000 S2000 S=true R2000 R=true L5000 R6000 L9000",
            ),
            (
                "what does not start is asked no more",
                &[
                    (probe(Startup, 0, 1000, 1, 2), "--"),
                    (probe(Readiness, 0, 1000, 1, 3), "+++"),
                ],
                0,
                9000,
                "S0 S1000 S=false",
            ),
            (
                "who is to be ended is asked no more, but whether it is ready",
                &[
                    (probe(Liveness, 0, 1000, 1, 2), "+--"),
                    (probe(Readiness, 0, 2000, 1, 1), "++-"),
                ],
                0,
                4000,
                "R0 L0 R=true L1000 R2000 L2000 L=false R4000 R=false",
            ),
            (
                "a command that cannot be started counts neither way",
                &[(probe(Liveness, 0, 1000, 1, 2), "-xx-")],
                0,
                9000,
                "L0 L1000 L2000 L3000 L=false",
            ),
            (
                "a verdict that comes back",
                &[(probe(Readiness, 0, 1000, 1, 1), "+-+")],
                0,
                2000,
                "R0 R=true R1000 R=false R2000 R=true",
            ),
            (
                "delays count from the start",
                &[(probe(Liveness, 3000, 2000, 1, 3), "+++")],
                0,
                7000,
                "L3000 L5000 L7000",
            ),
            (
                "answers that take a part of the period move nothing",
                &[(probe(Liveness, 0, 1000, 1, 3), "+++")],
                900,
                2000,
                "L0 L1000 L2000",
            ),
            (
                "one question was missed, and is put when there is time; no more are made up for",
                &[(probe(Liveness, 0, 1000, 1, 3), "+++")],
                2500,
                6000,
                "L0 L2500 L5000",
            ),
            (
                "nobody who could be asked counts neither way",
                &[(probe(Liveness, 0, 1000, 1, 2), "-?-")],
                0,
                9000,
                "L0 L1000 L2000 L=false",
            ),
        ];
        for (case, probes, latency, until, expected) in cases {
            assert_eq!(play(probes, latency, until), expected, "{case}");
        }
    }

    fn reply(success: bool, output: &str) -> Option<ProbeReply> {
        Some(ProbeReply {
            success,
            output: output.to_owned(),
            unknown: false,
        })
    }

    /// (verdict, successes, failures with those unheard of, last words of a failure)
    fn told(state: &ProbeState) -> (Option<bool>, u64, (u64, u64), &str) {
        let failures = state.failures.as_ref();
        (
            state.verdict,
            state.successes.as_ref().map_or(0, |tally| tally.count),
            failures.map_or((0, 0), |tally| (tally.count, tally.unheard)),
            failures.map_or("", |tally| &tally.words),
        )
    }

    #[test]
    fn what_nobody_heard_is_told_once() {
        let mut schedule = Schedule::default();
        schedule.set(Duration::ZERO, vec![probe(Liveness, 0, 1000, 1, 3)]);
        let answers = [
            (false, true, "first"),
            (false, false, "second"),
            (false, false, "third"),
        ];
        for (second, (success, heard, words)) in (0..).zip(answers) {
            let now = Duration::from_secs(second);
            assert_eq!(schedule.due(now, heard).questions.len(), 1);
            assert!(schedule.answered(Liveness, now, reply(success, words), heard));
        }
        assert_eq!(told(&schedule.list()[0]), (Some(false), 0, (3, 2), "third"));
        assert_eq!(told(&schedule.list()[0]), (Some(false), 0, (3, 0), "third"));
    }

    #[test]
    fn probes_that_are_named_again_go_on() {
        let mut schedule = Schedule::default();
        let (ready, alive) = (probe(Readiness, 0, 1000, 1, 3), probe(Liveness, 0, 1000, 1, 3));
        schedule.set(Duration::ZERO, vec![ready.clone(), alive]);
        schedule.due(Duration::ZERO, true);
        schedule.answered(Readiness, Duration::ZERO, reply(true, ""), true);
        // The question to the other is under way when that one ends.
        schedule.set(Duration::from_millis(100), vec![ready]);
        assert!(!schedule.answered(Liveness, Duration::from_millis(200), reply(false, ""), true));
        assert_eq!(schedule.states().len(), 1);
        assert_eq!(told(&schedule.states()[0]), (Some(true), 1, (0, 0), ""));
        assert_eq!(schedule.next(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_cannot_be_asked_says_so_each_time() {
        let mut schedule = Schedule::default();
        let mut odd = probe(Readiness, 0, 1000, 1, 1);
        odd.problem = "invalid port number: 0".to_owned();
        schedule.set(Duration::ZERO, vec![odd]);
        for second in 0..3 {
            let due = schedule.due(Duration::from_secs(second), true);
            assert_eq!((due.questions.len(), due.changed), (0, true));
        }
        let state = &schedule.states()[0];
        let errors = state.errors.as_ref().expect("errors");
        assert_eq!(
            (errors.count, errors.words.as_str()),
            (3, "invalid port number: 0")
        );
        assert_eq!(state.verdict, Some(false));
    }
}
