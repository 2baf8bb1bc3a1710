//! Validation of CronJobs: their schedules, zones and Jobs. Sources: `pkg/apis/batch/validation` of Kubernetes v1.35, and
//! the parser of `github.com/robfig/cron/v3`, whose words these are.

use super::errors::Errors;
use super::{jobs, selectors};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Longest name: its Jobs append eleven characters.
const MAX_NAME: usize = 52;

/// Checks a CronJob; `old` is what an update replaces, else null: what is odd in it and stays is let be.
pub(super) fn cron_job(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before, at) = (obj.at("spec"), old.at("spec"), Path::new("spec"));
    schedule(spec, before, &at.child("schedule"), errors);
    errors.not_negative(spec, "startingDeadlineSeconds", &at);
    if old.is_null() || spec.at("timeZone") != before.at("timeZone") {
        zone(spec.at("timeZone"), &at.child("timeZone"), errors);
    }
    errors.one_of(spec, "concurrencyPolicy", &at, &["Allow", "Forbid", "Replace"]);
    template(
        spec.at("jobTemplate.spec"),
        &at.child("jobTemplate").child("spec"),
        errors,
    );
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        errors.not_negative(spec, field, &at);
    }
    let name = obj.str_at("metadata.name");
    if old.is_null() && name.len() > MAX_NAME {
        let text = format!("must be no more than {MAX_NAME} characters");
        errors.invalid(&Path::new("metadata").child("name"), name, text);
    }
}

fn schedule(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let schedule = spec.str_at("schedule");
    if schedule.is_empty() {
        errors.required(at, "");
        return;
    }
    if let Err(text) = form(schedule) {
        errors.invalid(at, schedule, text);
    }
    let zoned = |text: &str| text.contains("TZ");
    if zoned(schedule) && !zoned(old.str_at("schedule")) {
        let text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.invalid(at, schedule, text);
    } else if zoned(schedule) && spec.has("timeZone") {
        let text = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.invalid(at, schedule, text);
    }
}

/// Zones have names in one spelling.
fn knows_zone(name: &str) -> bool {
    let zone = jiff::tz::TimeZone::get(name);
    zone.is_ok_and(|zone| zone.iana_name().is_none_or(|known| known == name))
}

fn zone(zone: &Value, at: &Path, errors: &mut Errors) {
    let Some(name) = zone.as_str() else {
        return;
    };
    if name.is_empty() {
        errors.invalid(at, "", "timeZone must be nil or non-empty string");
        return;
    }
    if name.eq_ignore_ascii_case("Local") {
        let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(at, name, text);
    }
    if name != "Local" && !knows_zone(name) {
        errors.invalid(at, name, format!("unknown time zone {name}"));
    }
}

fn template(spec: &Value, at: &Path, errors: &mut Errors) {
    jobs::job_spec(spec, at, errors);
    if spec.has("selector") {
        errors.invalid_shown(
            &at.child("selector"),
            &selectors::shown(spec.at("selector")),
            "`selector` will be auto-generated",
        );
    }
    if spec.bool_at("manualSelector") {
        errors.not_supported_in_order(&at.child("manualSelector"), true, &["nil", "false"]);
    }
}

/// Bounds of the five fields.
const BOUNDS: [(i64, i64); 5] = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The form of a schedule: five fields of numbers, names, ranges, lists and steps; or `@daily` and the like.
fn form(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    let zoned = ["TZ=", "CRON_TZ="]
        .iter()
        .find_map(|start| schedule.strip_prefix(start));
    if let Some(zoned) = zoned {
        let Some((name, after)) = zoned.split_once(' ') else {
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        if !name.is_empty() && name != "Local" && !knows_zone(name) {
            return Err(format!("provided bad location {name}: unknown time zone {name}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != BOUNDS.len() {
        let (count, all) = (fields.len(), fields.join(" "));
        return Err(format!("expected exactly 5 fields, found {count}: [{all}]"));
    }
    for (place, field) in fields.into_iter().enumerate() {
        for part in field.split(',').filter(|part| !part.is_empty()) {
            range(part, place)?;
        }
    }
    Ok(())
}

fn descriptor(word: &str) -> Result<(), String> {
    if let Some(duration) = word.strip_prefix("@every ") {
        return go_duration(duration).map_err(|why| format!("failed to parse duration {word}: time: {why}"));
    }
    let known = [
        "@yearly",
        "@annually",
        "@monthly",
        "@weekly",
        "@daily",
        "@midnight",
        "@hourly",
    ];
    if known.contains(&word) {
        Ok(())
    } else {
        Err(format!("unrecognized descriptor: {word}"))
    }
}

/// A part of the field at a place: a number, a range, either with a step.
fn range(part: &str, place: usize) -> Result<(), String> {
    let (least, most) = BOUNDS[place];
    let mut halves = part.split('/');
    let ends: Vec<&str> = halves.next().unwrap_or_default().split('-').collect();
    let (start, mut end) = match ends[..] {
        ["*" | "?", ..] => (least, most),
        [one] => (number(one, place)?, number(one, place)?),
        [first, last] => (number(first, place)?, number(last, place)?),
        _ => {
            number(ends[0], place)?;
            return Err(format!("too many hyphens: {part}"));
        }
    };
    let step = match halves.collect::<Vec<_>>()[..] {
        [] => 1,
        [step] => {
            if ends.len() == 1 {
                end = most;
            }
            whole(step)?
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if start < least {
        return Err(format!(
            "beginning of range ({start}) below minimum ({least}): {part}"
        ));
    }
    if end > most {
        return Err(format!("end of range ({end}) above maximum ({most}): {part}"));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

/// A number, or the name of a month or a day where these are told.
fn number(text: &str, place: usize) -> Result<i64, String> {
    let lower = text.to_lowercase();
    let (names, first): (&[&str], i64) = match place {
        3 => (&MONTHS, 1),
        4 => (&DAYS, 0),
        _ => (&[], 0),
    };
    match (first..).zip(names).find(|(_, name)| **name == lower) {
        Some((number, _)) => Ok(number),
        None => whole(text),
    }
}

fn whole(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(number),
        Err(why) => {
            let what = match why.kind() {
                PosOverflow | NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Err(format!(
                "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {what}"
            ))
        }
    }
}

/// Whether Go's `time.ParseDuration` takes a text, or what it says.
fn go_duration(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid duration {text:?}");
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(rest);
        rest = &rest[whole..];
        let mut fraction = 0;
        if let Some(after) = rest.strip_prefix('.') {
            fraction = digits(after);
            rest = &after[fraction..];
        }
        if whole + fraction == 0 {
            return Err(invalid());
        }
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (unit, after) = rest.split_at(end);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {text:?}"));
        }
        if !["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"].contains(&unit) {
            return Err(format!("unknown unit {unit:?} in duration {text:?}"));
        }
        rest = after;
    }
    Ok(())
}
