//! How upstream's API server shows parts of a Pod in errors: not as the API writes them, but as its own structures are
//! encoded, with every field in the order in which they have it. The orders stand in `internal.txt`.

use crate::walk::{At, keep};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

/// A field: how it is shown, how it is called in the API, what it holds.
struct Field {
    shown: &'static str,
    name: String,
    holds: &'static str,
}

static TYPES: LazyLock<BTreeMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("internal.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap_or_default(), words.map(field).collect())
        })
        .collect()
});

fn field(word: &'static str) -> Field {
    let (label, holds) = word.split_once(':').unwrap_or((word, ""));
    let (shown, name) = match label.split_once('=') {
        Some((shown, name)) => (shown, name.to_owned()),
        None => {
            let bare = label.trim_start_matches('~');
            let first = bare.get(..1).unwrap_or_default().to_lowercase();
            (label, first + bare.get(1..).unwrap_or_default())
        }
    };
    Field { shown, name, holds }
}

/// What is written, in order.
enum Shown {
    Raw(Value),
    List(Vec<Shown>),
    Fields(Vec<(String, Shown)>),
}

/// A value of a type on one line.
pub(crate) fn line(ty: &str, value: &Value) -> String {
    let mut out = String::new();
    write(&of(ty, value), None, &mut out);
    out
}

/// A list of values of a type on one line; none is told from an empty one.
pub(crate) fn list_line(ty: &str, values: &Value) -> String {
    let list = format!("[]{ty}");
    let mut out = String::new();
    write(&held(&list, values), None, &mut out);
    out
}

/// A Pod's spec over many lines.
pub(super) fn spec_lines(spec: &Value) -> String {
    lines("PodSpec", &with_host(spec))
}

/// A template of Pods on one line.
pub(super) fn template_line(template: &Value) -> String {
    let mut template = template.clone();
    let spec = with_host(template.at("spec"));
    crate::walk::set(&mut template, "spec", spec);
    line("PodTemplateSpec", &template)
}

/// Namespaces of the host are part of the security context there, which is never missing.
fn with_host(spec: &Value) -> Value {
    let (whole, mut spec) = (spec, spec.clone());
    crate::walk::or_set(&mut spec, "securityContext", Value::Object(Default::default()));
    if let Some(context) = crate::walk::get_mut(&mut spec, "securityContext") {
        for field in [
            "hostNetwork",
            "hostPID",
            "hostIPC",
            "shareProcessNamespace",
            "hostUsers",
        ] {
            keep(context, whole, field);
        }
    }
    spec
}

/// A value of a type over many lines.
pub(super) fn lines(ty: &str, value: &Value) -> String {
    let mut out = String::new();
    write(&of(ty, value), Some(0), &mut out);
    out
}

fn of(ty: &str, value: &Value) -> Shown {
    let mut out = Vec::new();
    fill(ty, value, &mut out);
    Shown::Fields(out)
}

fn fill(ty: &str, value: &Value, out: &mut Vec<(String, Shown)>) {
    for field in TYPES.get(ty).into_iter().flatten() {
        if let Some(ty) = field.shown.strip_prefix('+') {
            // Only a claim's template says its metadata apart.
            let value = if ty == "ObjectMeta" {
                value.at("metadata")
            } else {
                value
            };
            fill(ty, value, out);
            continue;
        }
        let own = value.at(&field.name);
        match field.shown.strip_prefix('~') {
            Some(_) if value.is_empty_at(&field.name) => {}
            Some(name) => out.push((name.to_owned(), held(field.holds, own))),
            None => out.push((field.shown.to_owned(), held(field.holds, own))),
        }
    }
}

fn held(holds: &str, value: &Value) -> Shown {
    if let Some(ty) = holds.strip_prefix("[]") {
        return match value {
            Value::Array(items) => Shown::List(items.iter().map(|item| of(ty, item)).collect()),
            _ => Shown::Raw(Value::Null),
        };
    }
    let zero: Value = match holds {
        "." => Value::Null,
        "" => "".into(),
        "#" => 0.into(),
        "!" => false.into(),
        "0" => "0".into(),
        ty if ty.starts_with('*') && value.is_null() => Value::Null,
        ty => return of(ty.trim_start_matches('*'), value),
    };
    Shown::Raw(if value.is_null() { zero } else { value.clone() })
}

/// Writes JSON as Go does: `depth` is how far lines stand in; none: all on one line.
fn write(shown: &Shown, depth: Option<usize>, out: &mut String) {
    let inner = depth.map(|depth| depth + 1);
    let begin = |first: bool, out: &mut String| {
        if !first {
            out.push(',');
        }
        if let Some(depth) = inner {
            let _ = write!(out, "\n{:depth$}", "");
        }
    };
    let end = |out: &mut String| {
        if let Some(depth) = depth {
            let _ = write!(out, "\n{:depth$}", "");
        }
    };
    match shown {
        Shown::Raw(Value::Array(items)) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                begin(i == 0, out);
                write(&Shown::Raw(item.clone()), inner, out);
            }
            end(out);
            out.push(']');
        }
        Shown::Raw(Value::Object(fields)) if !fields.is_empty() => {
            out.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                begin(i == 0, out);
                text(name, depth.is_some(), out);
                write(&Shown::Raw(value.clone()), inner, out);
            }
            end(out);
            out.push('}');
        }
        Shown::Raw(value) => out.push_str(&escaped(&value.to_string())),
        Shown::List(items) if items.is_empty() => out.push_str("[]"),
        Shown::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                begin(i == 0, out);
                write(item, inner, out);
            }
            end(out);
            out.push(']');
        }
        Shown::Fields(fields) if fields.is_empty() => out.push_str("{}"),
        Shown::Fields(fields) => {
            out.push('{');
            for (i, (name, value)) in fields.iter().enumerate() {
                begin(i == 0, out);
                text(name, depth.is_some(), out);
                write(value, inner, out);
            }
            end(out);
            out.push('}');
        }
    }
}

fn text(name: &str, spaced: bool, out: &mut String) {
    out.push_str(&escaped(&Value::from(name).to_string()));
    out.push_str(if spaced { ": " } else { ":" });
}

/// Go writes what HTML knows by its number.
pub(crate) fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}
