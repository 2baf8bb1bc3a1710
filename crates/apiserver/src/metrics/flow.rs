//! Requests by their FlowSchema and level (KEP-1040): what is being answered, what was, what was refused for want of a place.

use super::{Latency, SERIES, head};
use crate::view::{GroupResource, View};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const LEVELS: (&str, &str) = ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations");

#[derive(Default)]
struct Series {
    executing: u64,
    dispatched: u64,
    rejected: u64,
    /// Of requests that end, and of watches until they begin.
    latencies: [Latency; 2],
}

/// The counters of one flow: what is counted, and the labels as they are written out.
#[derive(Default)]
struct Counted {
    labels: String,
    series: Mutex<Series>,
}

/// The names of a schema and a level.
type Names = Arc<(String, String)>;

/// Counters of one server, by the names of schema and level.
#[derive(Default)]
pub struct Flows(Mutex<HashMap<Names, Arc<Counted>>>);

/// A request that is being answered.
pub struct Executing(Arc<Counted>);

impl Drop for Executing {
    fn drop(&mut self) {
        let mut series = self.0.series.lock();
        series.executing = series.executing.saturating_sub(1);
    }
}

impl Executing {
    /// The request is answered: it was refused for want of a place, or it took so long.
    pub fn end(&self, refused: bool, watches: bool, took: Duration) {
        let mut series = self.0.series.lock();
        match refused {
            true => series.rejected += 1,
            false => {
                series.dispatched += 1;
                series.latencies[usize::from(watches)].add(took.as_secs_f64());
            }
        }
    }
}

impl Flows {
    /// Counts a request among those of its flow (names of schema and level) that are being answered, until the value is
    /// dropped. None where there are more flows than are told apart.
    pub fn begin(&self, names: &Names) -> Option<Executing> {
        let mut all = self.0.lock();
        let known = all.get(names).cloned();
        let counted = match known {
            Some(counted) => counted,
            None if all.len() >= SERIES => return None,
            None => {
                let labels = format!("flow_schema=\"{}\",priority_level=\"{}\"", names.0, names.1);
                let counted = Arc::new(Counted {
                    labels,
                    ..Counted::default()
                });
                all.insert(names.clone(), counted.clone());
                counted
            }
        };
        drop(all);
        counted.series.lock().executing += 1;
        Some(Executing(counted))
    }

    /// Forgets what was counted. What is going on stays.
    pub fn reset(&self) {
        for counted in self.0.lock().values() {
            let mut series = counted.series.lock();
            let executing = series.executing;
            *series = Series {
                executing,
                ..Series::default()
            };
        }
    }

    /// All counters, in the order of their labels.
    fn sorted(&self) -> Vec<Arc<Counted>> {
        let mut all: Vec<Arc<Counted>> = self.0.lock().values().cloned().collect();
        all.sort_by(|a, b| a.labels.cmp(&b.labels));
        all
    }

    /// The exposition text. `seats` are the requests that are shared out among the levels.
    pub fn render(&self, out: &mut String, view: &dyn View, seats: usize) {
        let all = self.sorted();
        let gauges = |series: &Series| series.executing;
        let dispatched = |series: &Series| series.dispatched;
        let refused = |series: &Series| series.rejected;
        type Read<'r> = &'r dyn Fn(&Series) -> u64;
        let lines: [(&str, &str, &str, &str, Read<'_>, bool); 4] = [
            (
                "current_executing_requests",
                "gauge",
                "",
                "Requests being answered.",
                &gauges,
                true,
            ),
            (
                "current_executing_seats",
                "gauge",
                "",
                "Places taken by requests being answered.",
                &gauges,
                true,
            ),
            (
                "dispatched_requests_total",
                "counter",
                "",
                "Requests that were answered.",
                &dispatched,
                false,
            ),
            (
                "rejected_requests_total",
                "counter",
                ",reason=\"queue-full\"",
                "Requests that were refused since their user had too many under way.",
                &refused,
                false,
            ),
        ];
        for (name, kind, more, help, read, zeros) in lines {
            let name = format!("apiserver_flowcontrol_{name}");
            head(out, &name, kind, help);
            for counted in &all {
                let (labels, number) = (&counted.labels, read(&counted.series.lock()));
                if zeros || number > 0 {
                    // Writing into a string cannot fail.
                    let _ = writeln!(out, "{name}{{{labels}{more}}} {number}");
                }
            }
        }
        let name = "apiserver_flowcontrol_request_execution_seconds";
        head(out, name, "histogram", "Time to answer requests.");
        for counted in &all {
            let series = counted.series.lock();
            for (latency, kind) in series.latencies.iter().zip(["regular", "watch"]) {
                if latency.count > 0 {
                    latency.render(out, name, &format!("{},type=\"{kind}\"", counted.labels));
                }
            }
        }
        render_limits(out, view, seats);
    }
}

/// The seats of each level, by the shares that the levels name.
fn render_limits(out: &mut String, view: &dyn View, seats: usize) {
    let levels = view.list(&GroupResource::new(LEVELS.0, LEVELS.1), None);
    let mut limits: Vec<(String, [u64; 4])> = Vec::new();
    let part = |level: &Value, field: &str| {
        ["limited", "exempt"]
            .iter()
            .find_map(|part| level["spec"][part][field].as_u64())
    };
    let shares = |level: &Value| part(level, "nominalConcurrencyShares").unwrap_or(0);
    let total: u64 = levels.iter().map(|level| shares(level)).sum();
    for level in &levels {
        let nominal = (seats as u64 * shares(level)).div_ceil(total.max(1));
        let percent = |field: &str| part(level, field).map(|share| (nominal * share + 50) / 100);
        let lower = nominal.saturating_sub(percent("lendablePercent").unwrap_or(0));
        let upper = percent("borrowingLimitPercent").map_or(seats as u64, |more| nominal + more);
        let name = level["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        limits.push((name, [nominal, lower, upper, nominal]));
    }
    limits.sort();
    for (at, (which, help)) in [
        ("nominal", "Seats that a level has by its shares."),
        ("lower", "Seats that a level keeps when it lends."),
        ("upper", "Seats that a level has at most when it borrows."),
        ("current", "Seats that a level has now."),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("apiserver_flowcontrol_{which}_limit_seats");
        head(out, &name, "gauge", help);
        for (level, limits) in &limits {
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{name}{{priority_level=\"{level}\"}} {}", limits[at]);
        }
    }
}
