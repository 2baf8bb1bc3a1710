//! `/metrics/probes`: how often each probe of a container has succeeded and failed (kubelet: `prober_probe_total`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::podvm::PodVm;

/// Pod's uid, container, probe, whether it succeeded.
type Key = (String, String, &'static str, bool);

/// The counts of all Pods of the host. Those of Pods that are gone go at the next reading.
#[derive(Default)]
pub struct ProbeCounts(Mutex<BTreeMap<Key, u64>>);

impl ProbeCounts {
    /// Counts so many answers more.
    pub fn add(&self, pod: &Pod, container: &str, probe: &'static str, success: bool, number: u64) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let key = (uid, container.to_owned(), probe, success);
        let mut counts = self.0.lock();
        let count = counts.entry(key).or_default();
        // A guest says so: it may say anything.
        *count = count.saturating_add(number);
    }

    /// In Prometheus' text format.
    pub fn to_text(&self, pods: &[PodVm]) -> String {
        let views: Vec<_> = pods.iter().map(PodVm::view).collect();
        let named: BTreeMap<&str, (&str, &str)> = views
            .iter()
            .filter_map(|view| {
                let metadata = &view.pod.metadata;
                Some((
                    metadata.uid.as_deref()?,
                    (metadata.namespace.as_deref()?, metadata.name.as_deref()?),
                ))
            })
            .collect();
        let mut counts = self.0.lock();
        counts.retain(|(uid, ..), _| named.contains_key(uid.as_str()));
        let mut text =
            "# HELP prober_probe_total Cumulative number of a liveness, readiness or startup probe for a \
                        container by result.\n# TYPE prober_probe_total counter\n"
                .to_owned();
        for ((uid, container, probe, success), count) in counts.iter() {
            let (namespace, name) = named.get(uid.as_str()).copied().unwrap_or_default();
            let result = if *success { "successful" } else { "failed" };
            let _ = writeln!(
                text,
                "prober_probe_total{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{name}\",\
                 pod_uid=\"{uid}\",probe_type=\"{probe}\",result=\"{result}\"}} {count}"
            );
        }
        text
    }
}
