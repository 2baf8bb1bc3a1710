//! What the server counts, in the Prometheus text format, under upstream's names where there is one.

mod asked;
mod flow;
mod pod_security;

pub use asked::Verdict;
pub use flow::Executing;
pub use pod_security::Evaluation;

use crate::cache::Caches;
use crate::request::{Attributes, parameter, query_pairs, query_true};
use http::Method;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency histograms, in seconds: some of upstream's, among them those that alerts look at.
const BUCKETS: [f64; 12] = [
    0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];
/// Distinct label sets kept of each metric.
const SERIES: usize = 5000;

/// Histograms beside that of requests: name and help.
const HISTOGRAMS: [(&str, &str); 3] = [
    (
        "apiserver_admission_step_admission_duration_seconds",
        "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
    ),
    (
        "apiserver_admission_webhook_admission_duration_seconds",
        "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validating or admit).",
    ),
    (
        "etcd_request_duration_seconds",
        "Latency of requests to the store in seconds, for each operation and object type.",
    ),
];

/// One of the histograms that [`Metrics::observe`] fills.
#[derive(Clone, Copy)]
pub enum Histogram {
    /// A step of admission.
    AdmissionStep,
    /// A call of a webhook.
    AdmissionWebhook,
    /// A write to the store.
    Store,
}

/// A histogram of so many bounds.
#[derive(Clone)]
struct Latency<const N: usize = { BUCKETS.len() }> {
    buckets: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Default for Latency<N> {
    fn default() -> Self {
        Latency {
            buckets: [0; N],
            count: 0,
            sum: 0.0,
        }
    }
}

impl<const N: usize> Latency<N> {
    fn add_to(&mut self, seconds: f64, bounds: &[f64; N]) {
        self.count += 1;
        self.sum += seconds;
        for (slot, bound) in self.buckets.iter_mut().zip(bounds) {
            *slot += u64::from(seconds <= *bound);
        }
    }

    fn render_with(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64; N]) {
        let (before, of_all) = match labels {
            "" => (String::new(), String::new()),
            labels => (format!("{labels},"), format!("{{{labels}}}")),
        };
        // Writing into a string cannot fail.
        for (count, bound) in self.buckets.iter().zip(bounds) {
            let _ = writeln!(out, "{name}_bucket{{{before}le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{{before}le=\"+Inf\"}} {}", self.count);
        let _ = writeln!(out, "{name}_sum{of_all} {}", self.sum);
        let _ = writeln!(out, "{name}_count{of_all} {}", self.count);
    }
}

impl Latency {
    fn add(&mut self, seconds: f64) {
        self.add_to(seconds, &BUCKETS);
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        self.render_with(out, name, labels, &BUCKETS);
    }
}

/// The lines before the values of a metric.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Requests of one sort.
#[derive(Default)]
struct Requests {
    codes: Vec<(u16, u64)>,
    latency: Latency,
}

/// Counters of one server. The keys are labels as they are written out.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<String, Requests>>,
    histograms: [Mutex<BTreeMap<String, Latency>>; HISTOGRAMS.len()],
    /// Requests being answered: those that change something, and the others.
    inflight: [AtomicI64; 2],
    checks: Mutex<BTreeMap<String, Checked>>,
    /// What was asked for though it is deprecated.
    deprecated: Mutex<BTreeSet<String>>,
    /// By FlowSchema and level.
    pub flows: flow::Flows,
    /// Who asked, and whether they might.
    pub asked: asked::Asked,
    /// How Pods were judged.
    pub pod_security: pod_security::Evaluations,
}

/// What one check of health has said: at last, and how often it was well and was not.
#[derive(Default)]
struct Checked {
    well: bool,
    successes: u64,
    errors: u64,
}

/// A request that is being answered.
pub struct InFlight<'m>(&'m AtomicI64);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the metrics look at of the head of a request.
pub struct Line {
    method: Method,
    applies: bool,
    watches: bool,
    dry_run: &'static str,
}

impl Line {
    /// Looks at it.
    pub fn of(head: &http::request::Parts) -> Line {
        let query = head.uri.query().unwrap_or_default();
        let media = head.headers.get(http::header::CONTENT_TYPE);
        let dry_runs: Vec<(String, String)> =
            query_pairs(query).filter(|(name, _)| name == "dryRun").collect();
        let dry_run = match dry_runs.as_slice() {
            [] => "",
            given if given.iter().all(|(_, value)| value == "All") => "All",
            _ => "invalid",
        };
        Line {
            method: head.method.clone(),
            applies: media.is_some_and(|v| v == "application/apply-patch+yaml"),
            watches: parameter(query, "watch").is_some_and(|v| query_true(&v)),
            dry_run,
        }
    }

    /// The verb as upstream's metrics have it (`cleanVerb` of `endpoints/metrics/metrics.go`): the method, but for what a
    /// method alone does not tell.
    fn verb(&self, a: &Attributes, scope: &str) -> &'static str {
        if a.is_resource
            && matches!(
                a.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            )
        {
            return "CONNECT";
        }
        if a.verb == "watch" {
            return "WATCH";
        }
        match self.method {
            Method::GET if self.watches => "WATCH",
            Method::GET | Method::HEAD if matches!(scope, "" | "resource") => "GET",
            Method::GET | Method::HEAD => "LIST",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH if self.applies => "APPLY",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "other",
        }
    }
}

fn labels(line: &Line, a: &Attributes) -> String {
    let scope = match a.is_resource {
        false => "",
        true if !a.name.is_empty() || a.verb == "create" => "resource",
        true if !a.namespace.is_empty() => "namespace",
        true => "cluster",
    };
    let of = |text: &'_ str| {
        if a.is_resource {
            text.to_owned()
        } else {
            String::new()
        }
    };
    format!(
        "component=\"apiserver\",dry_run=\"{}\",group=\"{}\",resource=\"{}\",scope=\"{scope}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
        line.dry_run,
        of(&a.group),
        of(&a.resource),
        of(&a.subresource),
        line.verb(a, scope),
        of(&a.version),
    )
}

impl Metrics {
    /// Counts a request among those being answered, until the answer is dropped.
    pub fn begin(&self, read_only: bool) -> InFlight<'_> {
        let counter = &self.inflight[usize::from(read_only)];
        counter.fetch_add(1, Ordering::Relaxed);
        InFlight(counter)
    }

    /// Counts a finished request (for watches: one that has begun to answer).
    pub fn record(&self, line: &Line, a: &Attributes, code: u16, took: Duration) {
        let labels = labels(line, a);
        let mut requests = self.requests.lock();
        if requests.len() >= SERIES && !requests.contains_key(&labels) {
            return;
        }
        let series = requests.entry(labels).or_default();
        match series.codes.iter_mut().find(|(c, _)| *c == code) {
            Some((_, count)) => *count += 1,
            None => series.codes.push((code, 1)),
        }
        if a.verb != "watch" {
            series.latency.add(took.as_secs_f64());
        }
    }

    /// Notes that something deprecated was asked for.
    pub fn deprecated(&self, a: &Attributes) {
        let labels = format!(
            "group=\"{}\",removed_release=\"\",resource=\"{}\",subresource=\"{}\",version=\"{}\"",
            a.group, a.resource, a.subresource, a.version
        );
        let mut deprecated = self.deprecated.lock();
        if deprecated.len() < SERIES {
            deprecated.insert(labels);
        }
    }

    /// Forgets what was counted. What is going on stays.
    pub fn reset(&self) {
        self.requests.lock().clear();
        self.histograms
            .iter()
            .for_each(|histogram| histogram.lock().clear());
        self.checks.lock().clear();
        self.deprecated.lock().clear();
        self.flows.reset();
        self.pod_security.reset();
        self.asked.reset();
    }

    /// Takes a time into a histogram. `labels` as they are written out, such as `operation="create",type="pods"`.
    pub fn observe(&self, histogram: Histogram, labels: String, took: Duration) {
        let mut series = self.histograms[histogram as usize].lock();
        if series.len() < SERIES || series.contains_key(&labels) {
            series.entry(labels).or_default().add(took.as_secs_f64());
        }
    }

    /// Takes in what a check said when `endpoint` (such as `readyz`) was asked.
    pub fn checked(&self, name: &str, endpoint: &str, well: bool) {
        let labels = format!("name=\"{name}\",{{}}type=\"{endpoint}\"");
        let mut checks = self.checks.lock();
        let check = checks.entry(labels).or_default();
        check.well = well;
        *(if well {
            &mut check.successes
        } else {
            &mut check.errors
        }) += 1;
    }

    /// The exposition text of `/metrics/slis`: the checks of health since the start.
    pub fn render_checks(&self) -> String {
        let (now, total) = ("kubernetes_healthcheck", "kubernetes_healthchecks_total");
        let mut gauges =
            format!("# HELP {now} Whether a check of health succeeded at last.\n# TYPE {now} gauge\n");
        let mut counters = format!(
            "# HELP {total} How often checks of health succeeded and failed.\n# TYPE {total} counter\n"
        );
        for (labels, check) in self.checks.lock().iter() {
            // Writing into a string cannot fail.
            let _ = writeln!(
                gauges,
                "{now}{{{}}} {}",
                labels.replace("{}", ""),
                u8::from(check.well)
            );
            for (status, count) in [("error", check.errors), ("success", check.successes)] {
                if count > 0 {
                    let labels = labels.replace("{}", &format!("status=\"{status}\","));
                    let _ = writeln!(counters, "{total}{{{labels}}} {count}");
                }
            }
        }
        gauges + &counters
    }

    /// The exposition text. `seats` are the requests that are shared out among levels.
    pub fn render(&self, caches: &Caches, seats: usize) -> String {
        let mut out = String::new();
        let (total, latency) = ("apiserver_request_total", "apiserver_request_duration_seconds");
        let requests = self.requests.lock();
        let help = "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.";
        head(&mut out, total, "counter", help);
        for (labels, series) in requests.iter() {
            for (code, count) in &series.codes {
                let _ = writeln!(out, "{total}{{code=\"{code}\",{labels}}} {count}");
            }
        }
        let help = "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.";
        head(&mut out, latency, "histogram", help);
        for (labels, series) in requests.iter().filter(|(_, s)| s.latency.count > 0) {
            series.latency.render(&mut out, latency, labels);
        }
        // The time that webhooks took is not subtracted, as upstream does: rules that look for the name find it.
        let (sli, help) = (
            "apiserver_request_sli_duration_seconds",
            "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component.",
        );
        head(&mut out, sli, "histogram", help);
        for (labels, series) in requests.iter().filter(|(_, s)| s.latency.count > 0) {
            // What only pretends to write is no service.
            let serving = labels.split_once("dry_run=\"\",");
            if let Some((before, after)) = serving {
                series.latency.render(&mut out, sli, &format!("{before}{after}"));
            }
        }
        drop(requests);
        for ((name, help), series) in HISTOGRAMS.iter().zip(&self.histograms) {
            head(&mut out, name, "histogram", help);
            for (labels, latency) in series.lock().iter() {
                latency.render(&mut out, name, labels);
            }
        }
        let name = "apiserver_current_inflight_requests";
        head(
            &mut out,
            name,
            "gauge",
            "Requests being answered, per request kind.",
        );
        for (kind, counter) in ["mutating", "readOnly"].iter().zip(&self.inflight) {
            let count = counter.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}{{request_kind=\"{kind}\"}} {count}");
        }
        let name = "apiserver_requested_deprecated_apis";
        let help = "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, subresource, and removed_release.";
        head(&mut out, name, "gauge", help);
        for labels in self.deprecated.lock().iter() {
            let _ = writeln!(out, "{name}{{{labels}}} 1");
        }
        let (objects, lasting) = ("apiserver_storage_objects", "apiserver_longrunning_requests");
        let mut all = caches.all();
        all.sort_by(|a, b| a.resource().cmp(b.resource()));
        head(
            &mut out,
            objects,
            "gauge",
            "Number of stored objects by resource.",
        );
        for cache in &all {
            let _ = writeln!(
                out,
                "{objects}{{resource=\"{}\"}} {}",
                cache.resource(),
                cache.len()
            );
        }
        let split = "apiserver_resource_objects";
        let help = "Number of stored objects by group and resource.";
        head(&mut out, split, "gauge", help);
        for cache in &all {
            let (resource, count) = (cache.resource(), cache.len());
            let _ = writeln!(
                out,
                "{split}{{group=\"{}\",resource=\"{}\"}} {count}",
                resource.group, resource.resource
            );
        }
        head(&mut out, lasting, "gauge", "Open watches by resource.");
        for cache in all.iter().filter(|c| c.watcher_count() > 0) {
            let (resource, count) = (cache.resource(), cache.watcher_count());
            let _ = writeln!(
                out,
                "{lasting}{{component=\"apiserver\",group=\"{}\",resource=\"{}\",verb=\"WATCH\"}} {count}",
                resource.group, resource.resource
            );
        }
        self.flows.render(&mut out, caches, seats);
        self.pod_security.render(&mut out);
        self.asked.render(&mut out);
        validation(&mut out);
        process(&mut out);
        out
    }
}

/// Upstream validates twice, by hand and by marks of its types, and counts where the two differ or fail. Here is one
/// validation: it agrees with itself.
fn validation(out: &mut String) {
    for (name, help) in [
        (
            "mismatch",
            "Number of times declarative validation differed from handwritten validation.",
        ),
        ("panic", "Number of times declarative validation has panicked."),
    ] {
        let name = format!("apiserver_validation_declarative_validation_{name}_total");
        head(out, &name, "counter", help);
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{name} 0");
    }
}

/// What every process of upstream tells of itself.
fn process(out: &mut String) {
    let version = crate::discovery::GIT_VERSION;
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "# HELP kubernetes_build_info The version whose API is served.\n# TYPE kubernetes_build_info gauge\n\
         kubernetes_build_info{{git_version=\"{version}\",major=\"1\",minor=\"35\"}} 1"
    );
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else {
        return;
    };
    // The name in parentheses may hold anything; fields are counted behind it, from the third on.
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let booted: f64 = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok())
        })
        .unwrap_or(0.0);
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // Linux gives times in hundredths of a second and memory in pages of 4 KiB on every platform we run on.
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            (field(14) + field(15)) / 100.0,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            booted + field(22) / 100.0,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            field(23),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            field(24) * 4096.0,
        ),
        (
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            files as f64,
        ),
        ("process_threads", "gauge", "Number of threads.", field(20)),
    ] {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
}
