//! One record of a CRI log file: `TIME stdout|stderr F|P CONTENT`.

use std::fmt::Write as _;

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A record, borrowed from the line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// RFC 3339 with nanoseconds, as it stands in the file.
    pub time: &'a str,
    /// Where it came from.
    pub source: Source,
    /// The line goes on in the next record.
    pub partial: bool,
    /// The content, without its line end.
    pub content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line without its line end.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let source = match parts.next()? {
            b"stdout" => Source::Stdout,
            b"stderr" => Source::Stderr,
            _ => return None,
        };
        let tag = parts.next()?;
        Some(Self {
            time,
            source,
            partial: tag.starts_with(b"P"),
            content: parts.next().unwrap_or_default(),
        })
    }

    /// When it was written.
    pub fn timestamp(&self) -> Option<jiff::Timestamp> {
        self.time.parse().ok()
    }
}

/// Appends a record to a buffer.
pub fn push(buffer: &mut Vec<u8>, time: jiff::Timestamp, source: Source, partial: bool, content: &[u8]) {
    let mut head = String::with_capacity(48);
    let tag = if partial { "P" } else { "F" };
    let _ = write!(head, "{time:.9} {} {tag} ", source.name());
    buffer.extend_from_slice(head.as_bytes());
    buffer.extend_from_slice(content);
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let mut buffer = Vec::new();
        let time: jiff::Timestamp = "2026-11-28T06:00:00.5Z".parse().expect("a time");
        push(&mut buffer, time, Source::Stderr, true, b"a b  c");
        assert_eq!(buffer, b"2026-11-28T06:00:00.500000000Z stderr P a b  c\n");
        let line = Line::parse(buffer.strip_suffix(b"\n").expect("ended")).expect("a record");
        assert_eq!(
            (line.source, line.partial, line.content),
            (Source::Stderr, true, &b"a b  c"[..])
        );
        assert_eq!(line.timestamp(), Some(time));
        assert_eq!(Line::parse(b"rubbish"), None);
    }
}
