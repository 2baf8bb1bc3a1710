//! How often Pods were judged by the Pod Security Standards, by what was asked for and what came of it (KEP-2579).

use super::{SERIES, head};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One judgement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Evaluation {
    /// Whether it was passed.
    pub allowed: bool,
    /// The level asked for, such as `baseline`.
    pub level: &'static str,
    /// `latest`, `v1.N`, or `future`.
    pub version: Cow<'static, str>,
    /// `enforce`, `audit` or `warn`.
    pub mode: &'static str,
    /// `create` or `update`.
    pub operation: &'static str,
    /// `pod`, or `controller` for what makes Pods.
    pub resource: &'static str,
    /// Of the Pod, or empty.
    pub subresource: &'static str,
}

/// Counters of one server.
#[derive(Default)]
pub struct Evaluations(Mutex<BTreeMap<Evaluation, u64>>);

impl Evaluations {
    /// Counts one.
    pub fn count(&self, evaluation: Evaluation) {
        let mut all = self.0.lock();
        if all.len() < SERIES || all.contains_key(&evaluation) {
            *all.entry(evaluation).or_default() += 1;
        }
    }

    pub(super) fn reset(&self) {
        self.0.lock().clear();
    }

    pub(super) fn render(&self, out: &mut String) {
        let name = "pod_security_evaluations_total";
        let all = self.0.lock();
        if all.is_empty() {
            return;
        }
        head(
            out,
            name,
            "counter",
            "How often Pods were judged by the policy of their namespace.",
        );
        for (evaluation, count) in all.iter() {
            let decision = if evaluation.allowed { "allow" } else { "deny" };
            let Evaluation {
                level,
                version,
                mode,
                operation,
                resource,
                subresource,
                ..
            } = evaluation;
            // Writing into a string cannot fail.
            let _ = writeln!(
                out,
                "{name}{{decision=\"{decision}\",mode=\"{mode}\",policy_level=\"{level}\",policy_version=\"{version}\",\
                 request_operation=\"{operation}\",resource=\"{resource}\",subresource=\"{subresource}\"}} {count}"
            );
        }
    }
}
