//! Differences by class, the commonest first, each with its smallest example.
//!
//! A class is the kind, the part, and what differs without numbers and quoted texts.

use crate::client::{Answer, Call};
use crate::normal;
use anyhow::Result;
use regex::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

/// At most so many bytes of an example are shown.
const SHOWN: usize = 1200;

struct Difference {
    calls: Vec<Call>,
    ours: Answer,
    theirs: Answer,
    what: Vec<String>,
}

impl Difference {
    fn size(&self) -> usize {
        self.calls.iter().map(|call| call.body.to_string().len()).sum()
    }
}

/// What was sent and what differed.
#[derive(Default)]
pub struct Report {
    /// Cases and differences, by part.
    parts: BTreeMap<String, (u64, u64)>,
    differences: Vec<(String, Difference)>,
}

impl Report {
    /// Takes in the answers to the last of these calls. Whether they are the same.
    pub fn judge(&mut self, part: &str, kind: &str, calls: &[Call], answers: (Answer, Answer)) -> bool {
        let counts = self.parts.entry(part.to_owned()).or_default();
        counts.0 += 1;
        let (ours, theirs) = (normal::answer(&answers.0), normal::answer(&answers.1));
        if ours == theirs {
            return true;
        }
        counts.1 += 1;
        let mut what = Vec::new();
        if ours.code != theirs.code {
            what.push(format!("code {} should be {}", ours.code, theirs.code));
        }
        if ours.warnings != theirs.warnings {
            what.push(format!(
                "warnings {:?} should be {:?}",
                ours.warnings, theirs.warnings
            ));
        }
        match in_any_order(&ours.body) == in_any_order(&theirs.body) {
            // As often as not Go's maps, which have none.
            true => what.push("order of faults".to_owned()),
            false => compare(&ours.body, &theirs.body, &mut String::new(), &mut what),
        }
        let class = format!(
            "{part} {kind}: {}",
            what.first().map(|what| shape(what)).unwrap_or_default()
        );
        let calls = calls.to_vec();
        self.differences.push((
            class,
            Difference {
                calls,
                ours,
                theirs,
                what,
            },
        ));
        false
    }

    /// Writes all differences, one JSON object a line.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut text = String::new();
        for (class, of) in &self.differences {
            let told = |answer: &Answer| json!({"code": answer.code, "warnings": answer.warnings, "body": answer.body});
            let calls: Vec<Value> = of.calls.iter().map(Call::told).collect();
            let line = json!({"class": class, "what": of.what, "calls": calls, "ours": told(&of.ours), "theirs": told(&of.theirs)});
            writeln!(text, "{line}")?;
        }
        Ok(std::fs::write(file, text)?)
    }

    /// The report: counts, and the commonest classes with an example.
    pub fn shown(&self, classes: usize) -> String {
        let mut by_class: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
        for (class, difference) in &self.differences {
            by_class.entry(class).or_default().push(difference);
        }
        let mut sorted: Vec<_> = by_class.into_iter().collect();
        sorted.sort_by_key(|(_, of)| std::cmp::Reverse(of.len()));
        let mut text = String::new();
        for (class, of) in sorted.iter().take(classes).rev() {
            let Some(example) = of.iter().min_by_key(|of| of.size()) else {
                continue;
            };
            let _ = writeln!(text, "\n{} x {class}", of.len());
            for call in &example.calls {
                let _ = writeln!(
                    text,
                    "  {} {} {}",
                    call.method,
                    call.path,
                    cut(&call.body.to_string())
                );
            }
            for what in example.what.iter().take(6) {
                let _ = writeln!(text, "  - {}", cut(what));
            }
        }
        let _ = writeln!(text, "\n{} classes", sorted.len());
        for (part, (cases, differ)) in &self.parts {
            let _ = writeln!(text, "{part}: {cases} cases, {differ} differ");
        }
        text
    }
}

/// A text that is not too long.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A refusal with its causes in an order of ours, and without the text that repeats them.
fn in_any_order(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(causes) = body.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.sort_by_key(Value::to_string);
        body["message"] = Value::Null;
    }
    body
}

/// What differs between two values, place by place.
fn compare(ours: &Value, theirs: &Value, place: &mut String, what: &mut Vec<String>) {
    if ours == theirs {
        return;
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let length = place.len();
                let _ = write!(place, ".{key}");
                let none = Value::Null;
                compare(
                    a.get(key).unwrap_or(&none),
                    b.get(key).unwrap_or(&none),
                    place,
                    what,
                );
                place.truncate(length);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                let length = place.len();
                place.push_str("[]");
                compare(a, b, place, what);
                place.truncate(length);
            }
        }
        _ => what.push(format!("{place}: {ours} should be {theirs}")),
    }
}

/// A difference without numbers and quoted texts.
fn shape(what: &str) -> String {
    static QUOTED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"\\"[^"\\]*\\""#).ok());
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[0-9]+").ok());
    let mut text = what.to_owned();
    if let (Some(quoted), Some(number)) = (&*QUOTED, &*NUMBER) {
        text = quoted.replace_all(&text, "Q").into_owned();
        if !text.starts_with("code ") {
            text = number.replace_all(&text, "N").into_owned();
        }
    }
    text.chars().take(300).collect()
}
