//! Probes: when to ask and what the answers mean. The guest agent acts (so no packet leaves the Pod for it); the timing
//! and the thresholds are here (kubelet: `prober/worker.go`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::actions::Job;
use super::{Context, Input, Machine, Report};
use crate::events;

/// What a probe decides about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Whether the container has started.
    Startup,
    /// Whether it may get traffic.
    Readiness,
    /// Whether it is to go on.
    Liveness,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    /// The probe of a container.
    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// One probe of one run.
pub struct Prober {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM.
    pub machine: Machine,
    /// The container.
    pub container: Container,
    /// The run.
    pub run: String,
    /// When it began: initial delays count from there.
    pub since: Timestamp,
    /// Which probe.
    pub kind: Kind,
    /// Where to report.
    pub owner: mpsc::Sender<Input>,
    /// Ends with the run.
    pub cancel: CancellationToken,
}

impl Prober {
    /// Probes until cancelled; reports each change of the verdict.
    pub async fn run(self) {
        let cancel = self.cancel.clone();
        cancel.run_until_cancelled(self.probe()).await;
    }

    async fn probe(&self) {
        let Some(probe) = self.kind.of(&self.container).cloned() else {
            return;
        };
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
        };
        let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let passed = Duration::try_from(Timestamp::now().duration_since(self.since)).unwrap_or_default();
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0).saturating_sub(passed)).await;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::new(&probe);
        loop {
            ticks.tick().await;
            let result = match Job::of_probe(&self.container, &self.run, &probe) {
                Ok(job) => job.run(&self.machine, timeout).await,
                // What cannot be asked has no answer: it counts neither way.
                Err(problem) => {
                    let words = "probe errored and resulted in unknown state";
                    self.tell(format!("{} {words}: {problem}", self.kind.name()));
                    None
                }
            };
            // A guest that cannot be asked is no verdict: a busy host must not fail a probe.
            let Some((success, output)) = result else {
                continue;
            };
            let is_http = probe.http_get.is_some();
            let probe = self.kind.name();
            self.context
                .probes
                .count(&self.pod, &self.container.name, probe, success);
            if success && is_http && !output.is_empty() {
                self.record("ProbeWarning", format!("{probe} probe warning: {output}"));
            }
            if !success {
                self.tell(format!("{} probe failed: {output}", self.kind.name()));
            }
            if let Some(verdict) = counter.count(success) {
                let report = Report::Probe {
                    run: self.run.clone(),
                    kind: self.kind,
                    success: verdict,
                };
                let decided = self.owner.send(Input::Job(report)).await;
                let over = match self.kind {
                    Kind::Startup => true,
                    Kind::Liveness => !verdict,
                    Kind::Readiness => false,
                };
                if decided.is_err() || over {
                    return;
                }
            }
        }
    }

    fn tell(&self, message: String) {
        self.record("Unhealthy", message);
    }

    fn record(&self, reason: &'static str, message: String) {
        let kind = events::Kind::Warning;
        let recorder = &self.context.recorder;
        recorder.container(&self.pod, &self.container.name, kind, reason, message);
    }
}

/// Counts results until a threshold is met, and tells a verdict when it changes.
#[derive(Debug)]
struct Counter {
    success_threshold: i32,
    failure_threshold: i32,
    last: Option<bool>,
    count: i32,
    verdict: Option<bool>,
}

impl Counter {
    fn new(probe: &Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            last: None,
            count: 0,
            verdict: None,
        }
    }

    fn count(&mut self, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.count = self.count.saturating_add(1);
        } else {
            self.last = Some(success);
            self.count = 1;
        }
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.count < threshold || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        Some(success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thresholds() {
        let probe: Probe =
            serde_json::from_value(json!({"successThreshold": 2, "failureThreshold": 3})).expect("a probe");
        let mut counter = Counter::new(&probe);
        let verdicts: Vec<Option<bool>> = "++++---+---++"
            .chars()
            .map(|result| counter.count(result == '+'))
            .collect();
        let expected = [
            None,
            Some(true),
            None,
            None,
            None,
            None,
            Some(false),
            None,
            None,
            None,
            None,
            None,
            Some(true),
        ];
        assert_eq!(verdicts, expected);
    }
}
