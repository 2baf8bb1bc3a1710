//! The text of scalars: plain, in quotes, and as blocks, with their lines folded or kept.

use super::scan::{Kind, Scanner};
use super::text::{is_blank, is_break, is_gap, is_line_end};
use super::words::Fault;

/// Breaks that were read and are not yet known to be a space or themselves.
#[derive(Debug, Default)]
struct Fold {
    blanks: String,
    first: Option<char>,
    others: String,
    /// Whether a line has ended.
    is_folded: bool,
}

impl Fold {
    /// Takes blanks and breaks.
    fn take(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let c = scanner.text.here();
        if is_blank(c) {
            scanner.text.take();
            if !self.is_folded {
                self.blanks.push(c);
            }
        } else {
            scanner.text.need(2)?;
            let end = scanner.text.take_break();
            if self.is_folded {
                self.others.extend(end);
            } else {
                self.blanks.clear();
                self.first = end;
                self.is_folded = true;
            }
        }
        scanner.text.need(1)
    }

    /// Adds what they mean.
    fn join(&mut self, text: &mut String) {
        if self.is_folded {
            match self.first.take() {
                Some('\n') if self.others.is_empty() => text.push(' '),
                Some('\n') => {}
                first => text.extend(first),
            }
            text.push_str(&self.others);
        } else {
            text.push_str(&self.blanks);
            self.blanks.clear();
        }
        self.others.clear();
        self.is_folded = false;
    }
}

impl Scanner<'_> {
    pub(super) fn scan_plain(&mut self) -> Result<Kind, Fault> {
        let least = self.indent.map_or(0, |indent| indent + 1);
        let (mut text, mut fold) = (String::new(), Fold::default());
        loop {
            self.text.need(4)?;
            if self.text.is_any_marker() || self.text.here() == '#' {
                break;
            }
            loop {
                let c = self.text.here();
                let is_flow_end = self.flow > 0 && matches!(c, ',' | '?' | '[' | ']' | '{' | '}');
                if is_gap(c) || is_flow_end || (c == ':' && is_gap(self.text.peek(1))) {
                    break;
                }
                if fold.is_folded || !fold.blanks.is_empty() {
                    fold.join(&mut text);
                }
                text.push(self.text.take());
                self.text.need(2)?;
            }
            let goes_on = |c| is_blank(c) || is_break(c);
            if !goes_on(self.text.here()) {
                break;
            }
            while goes_on(self.text.here()) {
                if fold.is_folded && self.text.mark.column < least && self.text.here() == '\t' {
                    return Err(self.fault("found a tab character that violates indentation"));
                }
                fold.take(self)?;
            }
            if self.flow == 0 && self.text.mark.column < least {
                break;
            }
        }
        if fold.is_folded {
            self.may_begin_key = true;
        }
        Ok(Kind::Scalar { text, is_plain: true })
    }

    pub(super) fn scan_quoted(&mut self) -> Result<Kind, Fault> {
        let quote = self.text.take();
        let (mut text, mut fold) = (String::new(), Fold::default());
        loop {
            self.text.need(4)?;
            if self.text.is_any_marker() {
                return Err(self.fault("found unexpected document indicator"));
            }
            if self.text.here() == '\0' {
                return Err(self.fault("found unexpected end of stream"));
            }
            while !is_gap(self.text.here()) {
                let (c, next) = (self.text.here(), self.text.peek(1));
                if c == '\'' && quote == c && next == c {
                    self.text.skip(2);
                    text.push(c);
                } else if c == quote {
                    break;
                } else if quote == '"' && c == '\\' && is_break(next) {
                    self.text.need(3)?;
                    self.text.take();
                    self.text.take_break();
                    fold.is_folded = true;
                    break;
                } else if quote == '"' && c == '\\' {
                    text.push(self.scan_escape()?);
                } else {
                    text.push(self.text.take());
                }
                self.text.need(2)?;
            }
            self.text.need(1)?;
            if self.text.here() == quote {
                break;
            }
            while is_blank(self.text.here()) || is_break(self.text.here()) {
                fold.take(self)?;
            }
            fold.join(&mut text);
        }
        self.text.take();
        Ok(Kind::Scalar {
            text,
            is_plain: false,
        })
    }

    fn scan_escape(&mut self) -> Result<char, Fault> {
        let digits = match self.text.peek(1) {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            letter => {
                let Some(c) = escaped(letter) else {
                    return Err(self.fault("found unknown escape character"));
                };
                self.text.skip(2);
                return Ok(c);
            }
        };
        self.text.skip(2);
        self.text.need(digits)?;
        let mut code: u32 = 0;
        for at in 0..digits {
            let Some(digit) = self.text.peek(at).to_digit(16) else {
                return Err(self.fault("did not find expected hexdecimal number"));
            };
            code = code << 4 | digit;
        }
        let Some(c) = char::from_u32(code) else {
            return Err(self.fault("found invalid Unicode character escape code"));
        };
        self.text.skip(digits);
        Ok(c)
    }

    pub(super) fn scan_block_scalar(&mut self, is_literal: bool) -> Result<Kind, Fault> {
        self.text.take();
        self.text.need(1)?;
        let mut keeps = None;
        let mut increment = None;
        // The two indicators may come in either order.
        for _ in 0..2 {
            match self.text.here() {
                c @ ('+' | '-') if keeps.is_none() => keeps = Some(c == '+'),
                '0' if increment.is_none() => {
                    return Err(self.fault("found an indentation indicator equal to 0"));
                }
                c if c.is_ascii_digit() && increment.is_none() => increment = c.to_digit(10),
                _ => break,
            }
            self.text.take();
            self.text.need(1)?;
        }
        self.end_line()?;
        let increment = increment.map(|increment| increment as usize);
        let mut indent = increment.map_or(0, |increment| self.indent.unwrap_or(0) + increment);
        let (mut text, mut breaks, mut first) = (String::new(), String::new(), None);
        self.scan_block_breaks(&mut indent, &mut breaks)?;
        self.text.need(1)?;
        let mut was_blank = false;
        while self.text.mark.column == indent && self.text.here() != '\0' {
            let is_blank = is_blank(self.text.here());
            if !is_literal && first == Some('\n') && !was_blank && !is_blank {
                if breaks.is_empty() {
                    text.push(' ');
                }
                first = None;
            }
            text.extend(first.take());
            text.push_str(&breaks);
            breaks.clear();
            was_blank = is_blank;
            while !is_line_end(self.text.here()) {
                text.push(self.text.take());
                self.text.need(1)?;
            }
            self.text.need(2)?;
            first = self.text.take_break();
            self.scan_block_breaks(&mut indent, &mut breaks)?;
        }
        if keeps != Some(false) {
            text.extend(first);
        }
        if keeps == Some(true) {
            text.push_str(&breaks);
        }
        Ok(Kind::Scalar {
            text,
            is_plain: false,
        })
    }

    /// Skips indentation and takes the breaks of empty lines. The first line that is not empty tells the indentation.
    fn scan_block_breaks(&mut self, indent: &mut usize, breaks: &mut String) -> Result<(), Fault> {
        let mut widest = 0;
        loop {
            self.text.need(1)?;
            let is_outside = |column: usize| *indent == 0 || column < *indent;
            while is_outside(self.text.mark.column) && self.text.here() == ' ' {
                self.text.take();
                self.text.need(1)?;
            }
            widest = widest.max(self.text.mark.column);
            if is_outside(self.text.mark.column) && self.text.here() == '\t' {
                return Err(self.fault("found a tab character where an indentation space is expected"));
            }
            if !is_break(self.text.here()) {
                break;
            }
            self.text.need(2)?;
            breaks.extend(self.text.take_break());
        }
        if *indent == 0 {
            *indent = widest.max(self.indent.map_or(0, |indent| indent + 1)).max(1);
        }
        Ok(())
    }
}

/// What a letter means after a backslash.
fn escaped(letter: char) -> Option<char> {
    Some(match letter {
        '0' => '\0',
        'a' => '\u{7}',
        'b' => '\u{8}',
        't' | '\t' => '\t',
        'n' => '\n',
        'v' => '\u{b}',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        ' ' | '"' | '\'' | '\\' => letter,
        'N' => '\u{85}',
        '_' => '\u{a0}',
        'L' => '\u{2028}',
        'P' => '\u{2029}',
        _ => return None,
    })
}
