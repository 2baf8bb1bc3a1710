//! Probes: when to ask and what the answers mean. The guest agent acts (so no packet leaves the Pod for it); the timing
//! and the thresholds are here (kubelet: `prober/worker.go`).

use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{Grpc, ProbeRequest, probe_request};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Context, Input, Machine, Report, launch};
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
        tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counter = Counter::new(&probe);
        loop {
            ticks.tick().await;
            let result = match request(&self.container, &self.run, &probe, timeout) {
                Ok(request) => self.ask(request, timeout).await,
                Err(problem) => Some((false, problem)),
            };
            // A guest that cannot be asked is no verdict: a busy host must not fail a probe.
            let Some((success, output)) = result else {
                continue;
            };
            let probe = self.kind.name();
            self.context
                .probes
                .count(&self.pod, &self.container.name, probe, success);
            if !success {
                let message = format!("{} probe failed: {output}", self.kind.name());
                self.context.recorder.container(
                    &self.pod,
                    &self.container.name,
                    events::Kind::Warning,
                    "Unhealthy",
                    message,
                );
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

    async fn ask(&self, request: ProbeRequest, timeout: Duration) -> Option<(bool, String)> {
        let mut client = self.machine.guest.client().await.ok()?;
        // The guest keeps the probe's own timeout; this one is for a guest that does not answer.
        let limit = timeout + Duration::from_secs(10);
        match tokio::time::timeout(limit, client.probe(request)).await {
            Ok(Ok(reply)) => {
                let reply = reply.into_inner();
                Some((reply.success, reply.output))
            }
            Ok(Err(_)) => None,
            Err(_) => Some((false, "the guest does not answer".to_owned())),
        }
    }
}

fn request(
    container: &Container,
    run: &str,
    probe: &Probe,
    timeout: Duration,
) -> Result<ProbeRequest, String> {
    let mut host = String::new();
    let action = if let Some(action) = &probe.exec {
        probe_request::Action::Exec(launch::exec(run, action.command.as_deref().unwrap_or_default()))
    } else if let Some(action) = &probe.http_get {
        host = action.host.clone().unwrap_or_default();
        probe_request::Action::Http(launch::http(container, action)?)
    } else if let Some(action) = &probe.tcp_socket {
        host = action.host.clone().unwrap_or_default();
        probe_request::Action::TcpPort(launch::port(container, &action.port)?)
    } else if let Some(action) = &probe.grpc {
        probe_request::Action::Grpc(Grpc {
            port: u32::try_from(action.port).unwrap_or(0),
            service: action.service.clone().unwrap_or_default(),
        })
    } else {
        return Err("missing probe handler".to_owned());
    };
    Ok(ProbeRequest {
        action: Some(action),
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        host,
    })
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

    #[test]
    fn ports_by_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("a container");
        let probe: Probe =
            serde_json::from_value(json!({"httpGet": {"port": "web", "path": "/h"}})).expect("a probe");
        let request = request(&container, "c.0", &probe, Duration::from_secs(1)).expect("a request");
        let Some(probe_request::Action::Http(http)) = request.action else {
            panic!("no HTTP action");
        };
        assert_eq!((http.port, http.path.as_str()), (8080, "/h"));
        let probe: Probe = serde_json::from_value(json!({"tcpSocket": {"port": "no"}})).expect("a probe");
        assert!(super::request(&container, "c.0", &probe, Duration::from_secs(1)).is_err());
    }
}
