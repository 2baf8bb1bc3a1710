//! Events: what controllers and the scheduler tell about objects. Controllers do it as `client-go/tools/record` does, in
//! the fields that came first; the scheduler as `client-go/tools/events` does, which also says what was being done.

use super::World;
use super::told::{Saying, Verdict};
use crate::obj::{digest, int, meta, now};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Instant;

/// How much may be told at once (`NoteLengthLimit`).
const LONGEST: usize = 1024;
/// What follows when more was to be told.
const CUT: &str = " ...";

/// How an Event begins that stands for many.
const COMBINED: &str = "(combined from similar events): ";

/// Something to tell in the newer way.
#[derive(Debug, Clone, Copy)]
pub struct Note<'n> {
    /// Who tells it.
    pub source: &'n str,
    /// Of what.
    pub about: &'n Value,
    /// What else is concerned.
    pub related: Option<&'n Value>,
    /// It is a warning.
    pub warning: bool,
    /// What was being done.
    pub action: &'n str,
    /// Why it is told, in one word.
    pub reason: &'n str,
    /// It.
    pub message: &'n str,
}

impl World {
    /// Records an Event about an object; failures are only logged. Equal events are counted, not repeated; of many that
    /// differ in their words alone, the later ones are counted together.
    pub async fn event(&self, source: &str, about: &Value, warning: bool, reason: &str, message: &str) {
        let now = now();
        let kind = kind(warning);
        let saying = Saying {
            source,
            about: meta(about, "uid"),
            kind,
            reason,
            message,
        };
        let verdict = self.shared.told.lock().judge(&saying, Instant::now());
        let (message, identity) = match verdict {
            Verdict::Silent => return,
            Verdict::Single => (message.to_owned(), message),
            Verdict::Combined => (format!("{COMBINED}{message}"), COMBINED),
        };
        let name = name(about, &[source, kind, reason, identity]);
        let event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace(about)}, "involvedObject": reference(about),
            "type": kind, "reason": reason, "message": message, "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": source}, "reportingComponent": source, "reportingInstance": "",
        });
        let again = |old: &Value| {
            let count = int(old, "/count", 1) + 1;
            json!({"count": count, "lastTimestamp": now, "message": message})
        };
        self.record(&event, again).await;
    }

    /// Records an Event in the newer way; failures are only logged. Equal events become a series.
    pub async fn note(&self, note: Note<'_>) {
        let Note {
            source,
            about,
            action,
            reason,
            ..
        } = note;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        let kind = kind(note.warning);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut event = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {
                "name": name(about, &[source, kind, reason, action, note.message]), "namespace": namespace(about),
            },
            "involvedObject": reference(about), "type": kind, "action": action, "reason": reason,
            "message": shortened(note.message), "eventTime": now,
            "reportingComponent": source, "reportingInstance": format!("{source}-{}", host.trim()),
        });
        if let Some(related) = note.related {
            event["related"] = reference(related);
        }
        let again = |old: &Value| {
            let series = json!({"count": int(old, "/series/count", 1) + 1, "lastObservedTime": now});
            json!({"series": series})
        };
        self.record(&event, again).await;
    }

    /// Creates an Event, or makes the change `again` when it was told before.
    async fn record(&self, event: &Value, again: impl Fn(&Value) -> Value) {
        let base = format!("/api/v1/namespaces/{}/events", meta(event, "namespace"));
        let reason = &event["reason"];
        match self.send("POST", base.clone(), "application/json", event).await {
            Err(e) if e.code() == 409 => {
                let at = format!("{base}/{}", meta(event, "name"));
                let old = self.send("GET", at.clone(), "application/json", &Value::Null);
                let Ok(old) = old.await else { return };
                let change = again(&old);
                let change = self.send("PATCH", at, "application/merge-patch+json", &change);
                if let Err(error) = change.await {
                    tracing::debug!(%error, %reason, "event not counted");
                }
            }
            Err(error) => tracing::debug!(%error, %reason, "event not recorded"),
            Ok(_) => {}
        }
    }
}

fn kind(warning: bool) -> &'static str {
    if warning { "Warning" } else { "Normal" }
}

fn namespace(about: &Value) -> &str {
    match meta(about, "namespace") {
        "" => "default",
        namespace => namespace,
    }
}

/// One name for all events that are equal.
fn name(about: &Value, told: &[&str]) -> String {
    let [first, rest @ ..] = told else {
        return String::new();
    };
    let text = format!("{first}{}{}", meta(about, "uid"), rest.concat());
    format!("{}.{}", meta(about, "name"), digest(&text, 16))
}

fn reference(about: &Value) -> Value {
    json!({
        "apiVersion": about["apiVersion"], "kind": about["kind"], "name": meta(about, "name"),
        "namespace": meta(about, "namespace"), "uid": meta(about, "uid"),
        "resourceVersion": meta(about, "resourceVersion"),
    })
}

/// A text that is not too long for an Event.
fn shortened(message: &str) -> String {
    if message.len() <= LONGEST {
        return message.to_string();
    }
    let end = message.floor_char_boundary(LONGEST - CUT.len());
    format!("{}{CUT}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut() {
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(
            shortened(&long),
            format!("{}{CUT}", "x".repeat(LONGEST - CUT.len()))
        );
        assert_eq!(shortened(&long[1..]), long[1..]);
    }
}
