//! Cron schedules: five fields, names of months and days, `@daily` and its sisters, in a time zone.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// Why a schedule cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ScheduleError {
    /// Not five fields.
    #[error("expected exactly 5 fields, found {found}: {text}")]
    Fields {
        /// How many there are.
        found: usize,
        /// The schedule.
        text: String,
    },
    /// A field is out of range or no number.
    #[error("{field}: cannot read {part:?}; say a number between {least} and {most}, a range or a step")]
    Field {
        /// Which field.
        field: &'static str,
        /// The part that cannot be read.
        part: String,
        /// Smallest value.
        least: u8,
        /// Largest value.
        most: u8,
    },
    /// No duration behind `@every`.
    #[error("failed to parse duration {0}")]
    Duration(String),
    /// An unknown time zone.
    #[error("unknown time zone {0}")]
    Zone(String),
}

/// A schedule.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// `*` in both day fields means every day; with one restricted only that one counts; with both either does.
    any_day: bool,
    any_weekday: bool,
    zone: TimeZone,
    /// `@every` so much time, whatever the calendar says.
    every: Option<SignedDuration>,
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// No schedule that matches at all is silent for longer than this (29 February of every fourth year, with a gap of eight).
const HORIZON_YEARS: i64 = 9;

/// One field as a set of bits.
fn field(name: &'static str, text: &str, least: u8, most: u8, names: &[&str]) -> Result<u64, ScheduleError> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let bad = || ScheduleError::Field {
            field: name,
            part: part.into(),
            least,
            most,
        };
        let number = |word: &str| {
            let word = word.to_ascii_lowercase();
            let named = names
                .iter()
                .position(|n| *n == word)
                .and_then(|at| u8::try_from(at).ok());
            // Months are named from 1, days of the week from 0.
            let value = named
                .map(|at| at + u8::from(least == 1))
                .or_else(|| word.parse().ok())
                .ok_or_else(bad)?;
            if value < least || value > most {
                Err(bad())
            } else {
                Ok(value)
            }
        };
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (
                range,
                Some(step.parse::<u8>().ok().filter(|s| *s > 0).ok_or_else(bad)?),
            ),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            // What follows a star says nothing.
            _ if ["*", "?"].contains(&range.split('-').next().unwrap_or_default()) => (least, most),
            Some((first, last)) => (number(first)?, number(last)?),
            // "5/15" means from 5 on.
            None => (number(range)?, if step.is_some() { most } else { number(range)? }),
        };
        if first > last {
            return Err(bad());
        }
        (first..=last)
            .step_by(usize::from(step.unwrap_or(1)))
            .for_each(|n| bits |= 1 << n);
    }
    Ok(bits)
}

/// A duration in whole seconds, one at least.
fn duration(words: &str) -> Option<SignedDuration> {
    let seconds = words.parse::<SignedDuration>().ok()?.as_secs();
    Some(SignedDuration::from_secs(seconds.max(1)))
}

impl Schedule {
    /// Reads a schedule; `zone` is an IANA name, or empty for UTC.
    pub(crate) fn parse(text: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        let zone = match zone {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.into()))?,
        };
        let every = match text.strip_prefix("@every ") {
            None => None,
            Some(words) => Some(duration(words).ok_or_else(|| ScheduleError::Duration(text.into()))?),
        };
        let long = match text.trim() {
            _ if every.is_some() => "* * * * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = long.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(ScheduleError::Fields {
                found: fields.len(),
                text: text.into(),
            });
        };
        let mut weekdays = field("day of week", weekday, 0, 7, &DAYS)?;
        // Sunday is 0 and 7.
        weekdays |= weekdays >> 7 & 1;
        let any = |f: &str| f.starts_with('*') || f.starts_with('?');
        Ok(Schedule {
            minutes: field("minute", minute, 0, 59, &[])?,
            hours: field("hour", hour, 0, 23, &[])?,
            days: field("day of month", day, 1, 31, &[])?,
            months: field("month", month, 1, 12, &MONTHS)?,
            weekdays,
            any_day: any(day),
            any_weekday: any(weekday),
            zone,
            every,
        })
    }

    fn day_matches(&self, at: &Zoned) -> bool {
        let day = self.days >> at.day() & 1 == 1;
        let weekday = self.weekdays >> Weekday::to_sunday_zero_offset(at.weekday()) & 1 == 1;
        match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        }
    }

    /// The first time after `after`; `None` when there is none (30 February).
    pub(crate) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if let Some(every) = self.every {
            let second = Timestamp::from_second(after.as_second()).ok()?;
            return second.checked_add(every).ok();
        }
        let mut at = after.to_zoned(self.zone.clone());
        at = at
            .with()
            .second(0)
            .subsec_nanosecond(0)
            .build()
            .ok()?
            .checked_add(1.minute())
            .ok()?;
        let horizon = at.checked_add(HORIZON_YEARS.years()).ok()?;
        while at < horizon {
            if self.months >> at.month() & 1 == 0 || !self.day_matches(&at) {
                at = at
                    .start_of_day()
                    .ok()?
                    .checked_add(1.day())
                    .ok()?
                    .start_of_day()
                    .ok()?;
            } else if self.hours >> at.hour() & 1 == 0 {
                at = at.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?;
            } else if self.minutes >> at.minute() & 1 == 0 {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    /// The latest time in (`after`, `now`], and whether so many were missed that something must be wrong (over 100).
    pub(crate) fn latest(&self, after: Timestamp, now: Timestamp) -> (Option<Timestamp>, bool) {
        let Some(first) = self.next(after).filter(|t| *t <= now) else {
            return (None, false);
        };
        let mut missed = 0;
        let mut last = first;
        // From far back one would step for ever: begin near the end, at twice the distance between two of them.
        if let Some(second) = self.next(first) {
            let apart = second.duration_since(first).max(SignedDuration::from_secs(60));
            let near = now.checked_sub(apart.saturating_mul(2)).unwrap_or(first);
            missed = now.duration_since(first).as_secs() / apart.as_secs().max(1);
            if let Some(near) = self.next(near).filter(|t| *t > first && *t <= now) {
                last = near;
            }
        }
        while let Some(next) = self.next(last).filter(|t| *t <= now) {
            last = next;
        }
        (Some(last), missed > 100)
    }
}

/// A time as RFC 3339 writes it in a zone; of an unknown one, as in UTC.
pub(crate) fn in_zone(at: Timestamp, zone: &str) -> String {
    let at = at.to_zoned(TimeZone::get(zone).unwrap_or(TimeZone::UTC));
    match at.offset().is_zero() {
        true => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        false => at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time() {
        let cases = [
            ("*/15 * * * *", "", "2026-01-01T10:07:30Z", "2026-01-01T10:15:00Z"),
            ("0 0 * * *", "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("@hourly", "", "2026-01-01T10:59:59Z", "2026-01-01T11:00:00Z"),
            (
                "30 4 1,15 * 5",
                "",
                "2026-01-02T12:00:00Z",
                "2026-01-09T04:30:00Z",
            ),
            (
                "0 12 * * mon-fri",
                "",
                "2026-01-02T13:00:00Z",
                "2026-01-05T12:00:00Z",
            ),
            ("0 0 29 2 *", "", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 * * 7", "", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            (
                "0 9 * jul *",
                "Europe/Berlin",
                "2026-01-01T00:00:00Z",
                "2026-07-01T07:00:00Z",
            ),
            ("5/20 3 * * *", "", "2026-01-01T03:05:00Z", "2026-01-01T03:25:00Z"),
            (
                "1,,9 *-3 * * *",
                "",
                "2026-01-01T03:05:00Z",
                "2026-01-01T03:09:00Z",
            ),
            (
                "@every 1h30m",
                "",
                "2026-01-01T03:05:07.5Z",
                "2026-01-01T04:35:07Z",
            ),
            ("@every 10ms", "", "2026-01-01T03:05:07Z", "2026-01-01T03:05:08Z"),
        ];
        for (text, zone, after, expected) in cases {
            let schedule = Schedule::parse(text, zone).unwrap();
            assert_eq!(
                schedule
                    .next(after.parse().unwrap())
                    .map(|t| t.to_string())
                    .as_deref(),
                Some(expected),
                "{text}"
            );
        }
        assert_eq!(
            Schedule::parse("0 0 30 2 *", "")
                .unwrap()
                .next("2026-01-01T00:00:00Z".parse().unwrap()),
            None
        );
    }

    #[test]
    fn times_are_told_in_their_zone() {
        let at = "2026-07-01T07:00:00Z".parse().unwrap();
        for (zone, expected) in [
            ("", "2026-07-01T07:00:00Z"),
            ("Etc/UTC", "2026-07-01T07:00:00Z"),
            ("Europe/Berlin", "2026-07-01T09:00:00+02:00"),
        ] {
            assert_eq!(in_zone(at, zone), expected);
        }
    }

    #[test]
    fn the_latest_time() {
        let schedule = Schedule::parse("*/5 * * * *", "").unwrap();
        let at = |t: &str| t.parse::<Timestamp>().unwrap();
        let now = at("2026-01-01T10:07:00Z");
        assert_eq!(schedule.latest(at("2026-01-01T10:06:00Z"), now), (None, false));
        assert_eq!(
            schedule.latest(at("2026-01-01T09:51:00Z"), now),
            (Some(at("2026-01-01T10:05:00Z")), false)
        );
        assert_eq!(
            schedule.latest(at("2025-01-01T00:00:00Z"), now),
            (Some(at("2026-01-01T10:05:00Z")), true)
        );
    }

    #[test]
    fn bad_schedules_are_named() {
        for (text, zone, words) in [
            ("* * *", "", "expected exactly 5 fields, found 3: * * *"),
            (
                "61 * * * *",
                "",
                "minute: cannot read \"61\"; say a number between 0 and 59, a range or a step",
            ),
            (
                "* * * foo *",
                "",
                "month: cannot read \"foo\"; say a number between 1 and 12, a range or a step",
            ),
            ("* * * * *", "Moon/Base", "unknown time zone Moon/Base"),
            ("@every tick", "", "failed to parse duration @every tick"),
        ] {
            assert_eq!(Schedule::parse(text, zone).unwrap_err().to_string(), words);
        }
    }
}
