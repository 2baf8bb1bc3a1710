//! The characters of a text, one after another, with the line and column of each.

use super::words::Fault;

/// Bytes that upstream's reader looks at in one go: what is wrong among them is found before any fault in them.
const CHUNK: usize = 512;

const INCOMPLETE: &str = "incomplete UTF-8 octet sequence";

pub(super) fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// A break, or the end of the text.
pub(super) fn is_line_end(c: char) -> bool {
    is_break(c) || c == '\0'
}

/// A blank, a break, or the end of the text.
pub(super) fn is_gap(c: char) -> bool {
    is_blank(c) || is_line_end(c)
}

pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A place in a text. Lines and columns count from 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    pub index: usize,
    pub line: usize,
    pub column: usize,
}

#[derive(Debug)]
pub(super) struct Text<'t> {
    rest: &'t str,
    pub mark: Mark,
    /// What no text may hold, and the index of the character from which on it is noticed.
    bad: Option<(usize, &'static str)>,
}

impl<'t> Text<'t> {
    pub fn new(bytes: &'t [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let (good, why) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, None),
            Err(e) => {
                let (good, bad) = bytes.split_at(e.valid_up_to());
                (
                    std::str::from_utf8(good).unwrap_or_default(),
                    Some(utf8_words(bad)),
                )
            }
        };
        let control = good.char_indices().find(|(_, c)| !is_allowed(*c));
        let (good, why) = match control {
            Some((at, _)) => (&good[..at], Some("control characters are not allowed")),
            None => (good, why),
        };
        Text {
            bad: why.map(|why| match why {
                // Only at the end is it clear that nothing more comes.
                INCOMPLETE => (good.chars().count(), why),
                _ => (chunk_start(good), why),
            }),
            rest: good,
            mark: Mark::default(),
        }
    }

    /// Sees to it that so many characters are known.
    pub fn need(&self, count: usize) -> Result<(), Fault> {
        match self.bad {
            Some((from, why)) if self.mark.index + count > from => Err(Fault::new(why)),
            _ => Ok(()),
        }
    }

    /// The character so many further on; NUL beyond the end.
    pub fn peek(&self, ahead: usize) -> char {
        self.rest.chars().nth(ahead).unwrap_or('\0')
    }

    pub fn here(&self) -> char {
        self.peek(0)
    }

    /// Whether `---` or `...` stands here, alone.
    pub fn is_marker(&self, marker: &str) -> bool {
        self.mark.column == 0
            && self
                .rest
                .strip_prefix(marker)
                .is_some_and(|rest| is_gap(rest.chars().next().unwrap_or('\0')))
    }

    pub fn is_any_marker(&self) -> bool {
        self.is_marker("---") || self.is_marker("...")
    }

    /// Takes a character.
    pub fn take(&mut self) -> char {
        let Some(c) = self.rest.chars().next() else {
            return '\0';
        };
        self.rest = &self.rest[c.len_utf8()..];
        self.mark.index += 1;
        self.mark.column += 1;
        c
    }

    pub fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.take();
        }
    }

    /// Takes a break, which means a line feed or, for two kinds, itself; none where there is no break.
    pub fn take_break(&mut self) -> Option<char> {
        let c = self.here();
        if !is_break(c) {
            return None;
        }
        self.take();
        if c == '\r' && self.here() == '\n' {
            self.take();
        }
        self.mark.line += 1;
        self.mark.column = 0;
        Some(if matches!(c, '\u{2028}' | '\u{2029}') {
            c
        } else {
            '\n'
        })
    }

    pub fn skip_while(&mut self, is_one: fn(char) -> bool) -> Result<(), Fault> {
        self.need(1)?;
        while is_one(self.here()) {
            self.take();
            self.need(1)?;
        }
        Ok(())
    }

    pub fn take_while(&mut self, is_one: fn(char) -> bool) -> Result<String, Fault> {
        let mut taken = String::new();
        self.need(1)?;
        while is_one(self.here()) {
            taken.push(self.take());
            self.need(1)?;
        }
        Ok(taken)
    }

    /// Skips a comment, if one stands here.
    pub fn skip_comment(&mut self) -> Result<(), Fault> {
        if self.here() == '#' {
            self.skip_while(|c| !is_line_end(c))?;
        }
        Ok(())
    }
}

fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The index of the first character that is read together with what follows the text.
fn chunk_start(good: &str) -> usize {
    let (mut start, mut index) = (0, 0);
    loop {
        let mut end = start + CHUNK;
        if end > good.len() {
            return index;
        }
        // A character that is cut off waits for the next chunk.
        while !good.is_char_boundary(end) {
            end -= 1;
        }
        index += good[start..end].chars().count();
        start = end;
    }
}

fn utf8_words(bad: &[u8]) -> &'static str {
    let width = match bad[0] {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => return "invalid leading UTF-8 octet",
    };
    if bad.len() < width {
        return INCOMPLETE;
    }
    if bad[1..width].iter().any(|octet| octet & 0xc0 != 0x80) {
        return "invalid trailing UTF-8 octet";
    }
    match (bad[0], bad[1]) {
        (0xc0 | 0xc1, _) | (0xe0, ..0xa0) | (0xf0, ..0x90) => "invalid length of a UTF-8 sequence",
        _ => "invalid Unicode character",
    }
}
