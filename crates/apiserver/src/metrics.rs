//! What the server counts, in the Prometheus text format, under upstream's names where there is one.

use crate::cache::Caches;
use crate::request::Attributes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 60.0];
/// Distinct label sets kept.
const SERIES: usize = 5000;

#[derive(Default, Clone)]
struct Latency {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

type Labels = (String, String, String, String, String);

/// Counters of one server.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(Labels, u16), u64>>,
    latency: Mutex<BTreeMap<String, Latency>>,
}

impl Metrics {
    /// Counts a finished request (for watches: one that has begun to answer).
    pub fn record(&self, a: &Attributes, code: u16, took: Duration) {
        let verb = a.verb.to_ascii_uppercase();
        let labels: Labels = match a.is_resource {
            true => (
                verb.clone(),
                a.group.clone(),
                a.version.clone(),
                a.resource.clone(),
                a.subresource.clone(),
            ),
            false => (
                verb.clone(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ),
        };
        let mut requests = self.requests.lock();
        if requests.len() < SERIES || requests.contains_key(&(labels.clone(), code)) {
            *requests.entry((labels, code)).or_default() += 1;
        }
        drop(requests);
        if a.verb != "watch" {
            let seconds = took.as_secs_f64();
            let mut latency = self.latency.lock();
            let series = latency.entry(verb).or_default();
            series.count += 1;
            series.sum += seconds;
            for (slot, bound) in series.buckets.iter_mut().zip(BUCKETS) {
                *slot += u64::from(seconds <= bound);
            }
        }
    }

    /// The exposition text.
    pub fn render(&self, caches: &Caches) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _ = writeln!(out, "{text}");
        };
        line(format_args!(
            "# HELP apiserver_request_total Counter of apiserver requests by verb, resource and code."
        ));
        line(format_args!("# TYPE apiserver_request_total counter"));
        for (((verb, group, version, resource, subresource), code), count) in self.requests.lock().iter() {
            line(format_args!(
                "apiserver_request_total{{code=\"{code}\",group=\"{group}\",resource=\"{resource}\",\
                 subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\"}} {count}"
            ));
        }
        line(format_args!(
            "# HELP apiserver_request_duration_seconds Response latency in seconds by verb."
        ));
        line(format_args!(
            "# TYPE apiserver_request_duration_seconds histogram"
        ));
        for (verb, series) in self.latency.lock().iter() {
            for (count, bound) in series.buckets.iter().zip(BUCKETS) {
                line(format_args!(
                    "apiserver_request_duration_seconds_bucket{{verb=\"{verb}\",le=\"{bound}\"}} {count}"
                ));
            }
            line(format_args!(
                "apiserver_request_duration_seconds_bucket{{verb=\"{verb}\",le=\"+Inf\"}} {}",
                series.count
            ));
            line(format_args!(
                "apiserver_request_duration_seconds_sum{{verb=\"{verb}\"}} {}",
                series.sum
            ));
            line(format_args!(
                "apiserver_request_duration_seconds_count{{verb=\"{verb}\"}} {}",
                series.count
            ));
        }
        line(format_args!(
            "# HELP apiserver_storage_objects Number of stored objects by resource."
        ));
        line(format_args!("# TYPE apiserver_storage_objects gauge"));
        line(format_args!(
            "# HELP apiserver_longrunning_requests Open watches by resource."
        ));
        line(format_args!("# TYPE apiserver_longrunning_requests gauge"));
        let mut all = caches.all();
        all.sort_by(|a, b| a.resource().cmp(b.resource()));
        for cache in all {
            let resource = cache.resource();
            line(format_args!(
                "apiserver_storage_objects{{resource=\"{resource}\"}} {}",
                cache.len()
            ));
            let watches = cache.watcher_count();
            if watches > 0 {
                line(format_args!(
                    "apiserver_longrunning_requests{{resource=\"{resource}\",verb=\"WATCH\"}} {watches}"
                ));
            }
        }
        process(&mut out);
        out
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
