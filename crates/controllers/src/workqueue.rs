//! What the controllers' queues do, in the `workqueue_*` series that dashboards made for upstream's controller manager read.
//!
//! A controller here looks at everything that is to be looked at in one sweep, so its queue holds one item at most:
//! "something changed".
//! An item is added by a change that is seen (or by the time being due), waits until the controller has rested, and is
//! being worked on while the controller sweeps; a sweep that failed is a retry.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the histograms, in seconds: upstream's, powers of ten.
const BUCKETS: [(f64, &str); 12] = [
    (1e-8, "1e-08"),
    (1e-7, "1e-07"),
    (1e-6, "1e-06"),
    (1e-5, "9.999999999999999e-06"),
    (1e-4, "9.999999999999999e-05"),
    (1e-3, "0.001"),
    (1e-2, "0.01"),
    (1e-1, "0.1"),
    (1.0, "1"),
    (10.0, "10"),
    (100.0, "100"),
    (1000.0, "1000"),
];

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.count += 1;
        self.sum += seconds;
        for (slot, (bound, _)) in self.buckets.iter_mut().zip(BUCKETS) {
            *slot += u64::from(seconds <= bound);
        }
    }

    fn render(&self, out: &mut String, name: &str, queue: &str) {
        // Writing into a string cannot fail.
        for (count, (_, bound)) in self.buckets.iter().zip(BUCKETS) {
            let _ = writeln!(out, "{name}_bucket{{name=\"{queue}\",le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(
            out,
            "{name}_bucket{{name=\"{queue}\",le=\"+Inf\"}} {}",
            self.count
        );
        let _ = writeln!(out, "{name}_sum{{name=\"{queue}\"}} {}", self.sum);
        let _ = writeln!(out, "{name}_count{{name=\"{queue}\"}} {}", self.count);
    }
}

/// Name, kind, help and value of a plain series.
type Plain = (&'static str, &'static str, &'static str, fn(&Queue) -> f64);

/// Name, help and content of a histogram.
type OfTime = (&'static str, &'static str, fn(&Queue) -> &Histogram);

fn seconds(since: Option<Instant>) -> f64 {
    since.map_or(0.0, |s| s.elapsed().as_secs_f64())
}

/// A controller's name as a label.
fn shown(name: &str) -> String {
    name.replace(' ', "_")
}

/// The state and history of one queue.
#[derive(Default)]
struct Queue {
    adds: u64,
    retries: u64,
    waiting: Option<Instant>,
    working: Option<Instant>,
    waited: Histogram,
    worked: Histogram,
    looks: u64,
}

/// The queues of all controllers of one manager, by name.
#[derive(Default)]
pub struct WorkQueues(Mutex<BTreeMap<&'static str, Queue>>);

impl WorkQueues {
    /// Queues that nothing was ever added to.
    pub fn new() -> Arc<WorkQueues> {
        Arc::default()
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<&'static str, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed; more of it while the item waits adds nothing, as with upstream's queues.
    pub(crate) fn add(&self, name: &'static str) {
        let mut queues = self.queues();
        let queue = queues.entry(name).or_default();
        if queue.waiting.is_none() {
            queue.adds += 1;
            queue.waiting = Some(Instant::now());
        }
    }

    /// The controller takes its item up.
    pub(crate) fn begin(&self, name: &'static str) {
        let mut queues = self.queues();
        let queue = queues.entry(name).or_default();
        if let Some(since) = queue.waiting.take() {
            queue.waited.add(since.elapsed());
        }
        queue.working = Some(Instant::now());
    }

    /// The controller is done; after a failure it will try again.
    pub(crate) fn end(&self, name: &'static str, failed: bool) {
        let mut queues = self.queues();
        let queue = queues.entry(name).or_default();
        if let Some(since) = queue.working.take() {
            queue.worked.add(since.elapsed());
        }
        if failed {
            queue.retries += 1;
        }
    }

    /// The controller has looked at so many objects in all its sweeps.
    pub(crate) fn looked(&self, name: &'static str, looks: u64) {
        self.queues().entry(name).or_default().looks = looks;
    }

    /// How many objects a controller has looked at in all its sweeps, if it chooses among them.
    pub fn looks(&self, name: &str) -> u64 {
        self.queues().get(name).map_or(0, |queue| queue.looks)
    }

    /// The series in Prometheus' text form.
    pub fn render(&self) -> String {
        let queues = self.queues();
        let mut out = String::new();
        let plain: [Plain; 5] = [
            (
                "adds_total",
                "counter",
                "Total number of adds handled by workqueue",
                |q| q.adds as f64,
            ),
            ("depth", "gauge", "Current depth of workqueue", |q| {
                f64::from(u8::from(q.waiting.is_some()))
            }),
            (
                "longest_running_processor_seconds",
                "gauge",
                "How many seconds has the longest running processor for workqueue been running.",
                |q| seconds(q.working),
            ),
            (
                "retries_total",
                "counter",
                "Total number of retries handled by workqueue",
                |q| q.retries as f64,
            ),
            (
                "unfinished_work_seconds",
                "gauge",
                "How many seconds of work has done that is in progress and hasn't been observed by work_duration.",
                |q| seconds(q.working),
            ),
        ];
        for (name, kind, help, value) in plain {
            // Writing into a string cannot fail.
            let _ = writeln!(
                out,
                "# HELP workqueue_{name} {help}\n# TYPE workqueue_{name} {kind}"
            );
            for (queue, of) in queues.iter() {
                let _ = writeln!(out, "workqueue_{name}{{name=\"{}\"}} {}", shown(queue), value(of));
            }
        }
        let histograms: [OfTime; 2] = [
            (
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested.",
                |q| &q.waited,
            ),
            (
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes.",
                |q| &q.worked,
            ),
        ];
        for (name, help, of) in histograms {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            for (queue, state) in queues.iter() {
                of(state).render(&mut out, name, &shown(queue));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_waits_is_worked_on_and_done() {
        let queues = WorkQueues::new();
        let shows = |line: &str| assert!(queues.render().contains(line), "{line} in\n{}", queues.render());
        queues.add("job");
        queues.add("job");
        shows("workqueue_adds_total{name=\"job\"} 1\n");
        shows("workqueue_depth{name=\"job\"} 1\n");
        queues.begin("job");
        // A change during the work waits for the next turn.
        queues.add("job");
        shows("workqueue_adds_total{name=\"job\"} 2\n");
        shows("workqueue_queue_duration_seconds_count{name=\"job\"} 1\n");
        assert!(
            !queues
                .render()
                .contains("workqueue_unfinished_work_seconds{name=\"job\"} 0\n")
        );
        queues.end("job", true);
        shows("workqueue_retries_total{name=\"job\"} 1\n");
        shows("workqueue_work_duration_seconds_bucket{name=\"job\",le=\"1000\"} 1\n");
        shows("workqueue_unfinished_work_seconds{name=\"job\"} 0\n");
    }
}
