//! Signals as images and manifests name them: by number or name, with or without `SIG`, real-time ones too (containerd:
//! `moby/sys/signal`).

use nix::sys::signal::Signal;

/// The real-time signals that programs know; the C library of most of them keeps the two before for itself.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The number of a signal.
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=*REAL_TIME.end()).contains(&number).then_some(number);
    }
    let name = text.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let distance = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(distance) => distance.parse::<i32>().ok(),
        None => rest.is_empty().then_some(0),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REAL_TIME.start() + distance(rest, '+')?
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        REAL_TIME.end() - distance(rest, '-')?
    } else {
        return format!("SIG{name}")
            .parse()
            .ok()
            .map(|signal: Signal| signal as i32);
    };
    REAL_TIME.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("sigrtmax-2", Some(62)),
            ("SIGRTMAX", Some(64)),
            ("37", Some(37)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN-1", None),
            ("0", None),
            ("65", None),
            ("SIGNONSENSE", None),
            ("", None),
        ] {
            assert_eq!(super::parse(text), expected, "{text}");
        }
    }
}
