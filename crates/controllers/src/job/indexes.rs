//! Sets of completion indexes and the short way Jobs write them down: `0,2-5,9`.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Reads `0,2-5,9`; what is no number is left out, so is everything from `limit` on.
pub(super) fn parse(text: &str, limit: u64) -> BTreeSet<u64> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u64>(), last.parse::<u64>()) {
            set.extend(first..last.saturating_add(1).min(limit));
        }
    }
    set
}

/// Writes a set; runs of three and more become ranges.
pub(super) fn format(set: &BTreeSet<u64>) -> String {
    let mut text = String::new();
    let mut rest = set.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        if !text.is_empty() {
            text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = match last - first {
            0 => write!(text, "{first}"),
            1 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}-{last}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn sets_are_written_short() {
        for (long, short) in [
            ("", ""),
            ("3", "3"),
            ("0,1", "0,1"),
            ("0,1,2,4", "0-2,4"),
            ("7,0-3,5,6", "0-3,5-7"),
        ] {
            assert_eq!(format(&parse(long, 100)), short, "{long}");
        }
        assert_eq!(format(&parse("0-4000000000", 3)), "0-2", "no larger than the Job");
    }
}
