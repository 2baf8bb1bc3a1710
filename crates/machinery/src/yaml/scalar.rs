//! How a scalar is written: plain, in single or double quotes, or as a literal block, and the text of each.

use super::plain::{Plain, is_base_60, meaning};
use super::text::{is_blank, is_break};
use super::write::{Place, Writer};

/// Columns after which a text is folded at its next space.
const WIDTH: usize = 80;
/// Bytes of the longest key that stands on one line with its value.
const MAX_SIMPLE_KEY: usize = 128;

/// Where the text of a scalar goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Columns in front of its further lines.
    pub indent: usize,
    /// What a literal block names as its indentation, where that is not plain to see.
    pub hint: usize,
    /// Whether it may have several lines.
    pub may_fold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

/// A text with the style that one would like for it and those that can hold it.
#[derive(Debug)]
pub(super) struct Scalar<'t> {
    text: &'t str,
    liked: Style,
    has_breaks: bool,
    allows_plain: bool,
    allows_single: bool,
    allows_literal: bool,
}

impl<'t> Scalar<'t> {
    /// What is no text: a number, a flag, null.
    pub fn plain(text: &'t str) -> Self {
        Scalar::analyzed(text, Style::Plain)
    }

    /// A text, which must be read as one.
    pub fn of(text: &'t str) -> Self {
        let liked = if text.contains('\n') {
            Style::Literal
        } else if meaning(text) == Plain::Text && !is_base_60(text) {
            Style::Plain
        } else {
            Style::Double
        };
        Scalar::analyzed(text, liked)
    }

    fn analyzed(text: &'t str, liked: Style) -> Self {
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut has_breaks, mut is_special, mut space_break, mut break_space) = (false, false, false, false);
        let (mut after_space, mut after_break, mut after_gap) = (false, false, true);
        let mut chars = text.chars().peekable();
        let mut is_first = true;
        while let Some(c) = chars.next() {
            let before_gap = chars.peek().is_none_or(|c| is_blank(*c));
            indicators |= match c {
                '#' => after_gap,
                ':' => before_gap,
                '?' | '-' => is_first && before_gap,
                ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => {
                    is_first
                }
                _ => false,
            };
            is_special |= !is_printable(c);
            has_breaks |= is_break(c);
            break_space |= c == ' ' && after_break;
            space_break |= is_break(c) && after_space;
            after_space = c == ' ';
            after_break = is_break(c);
            after_gap = is_blank(c) || is_break(c) || c == '\0';
            is_first = false;
        }
        let is_edged = text.starts_with(' ') || text.ends_with(' ');
        let is_unquotable = space_break || is_special;
        Scalar {
            text,
            liked,
            has_breaks,
            allows_plain: !(is_edged || has_breaks || break_space || is_unquotable || indicators),
            allows_single: !(break_space || is_unquotable),
            allows_literal: !(text.is_empty() || text.ends_with(' ') || is_unquotable),
        }
    }

    /// Whether it can be a key on one line with its value.
    pub fn is_simple_key(&self) -> bool {
        !self.has_breaks && self.text.len() <= MAX_SIMPLE_KEY
    }

    fn style(&self, place: Place) -> Style {
        match self.liked {
            Style::Literal if !self.allows_literal || place.is_simple_key => Style::Double,
            Style::Plain if self.allows_plain => Style::Plain,
            Style::Plain if self.allows_single => Style::Single,
            Style::Plain => Style::Double,
            liked => liked,
        }
    }

    pub fn write(&self, writer: &mut Writer, layout: Layout, place: Place) {
        match self.style(place) {
            Style::Plain => self.write_plain(writer, layout),
            Style::Single => self.write_single(writer, layout),
            Style::Double => self.write_double(writer, layout),
            Style::Literal => self.write_literal(writer, layout),
        }
    }

    fn write_plain(&self, writer: &mut Writer, layout: Layout) {
        if !writer.after_space {
            writer.put(' ');
        }
        let mut after_space = false;
        let mut chars = self.text.chars().peekable();
        while let Some(c) = chars.next() {
            let is_last_space = c == ' ' && chars.peek() != Some(&' ');
            if is_last_space && layout.may_fold && !after_space && writer.column > WIDTH {
                writer.new_line();
            } else {
                writer.put(c);
            }
            after_space = c == ' ';
        }
        writer.after_space = false;
        writer.at_indentation = false;
    }

    fn write_single(&self, writer: &mut Writer, layout: Layout) {
        writer.indicator('\'', true, false);
        let (mut after_space, mut after_break) = (false, false);
        let mut chars = self.text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            if c == ' ' {
                let is_inner = at > 0 && next.is_some_and(|next| next != ' ');
                if is_inner && layout.may_fold && !after_space && writer.column > WIDTH {
                    writer.new_line();
                } else {
                    writer.put(c);
                }
                after_space = true;
            } else if is_break(c) {
                // Two breaks in the text for one that is meant; only those of other kinds stand for themselves.
                if !after_break && c == '\n' {
                    writer.line_break();
                }
                write_break(writer, c);
                writer.at_indentation = true;
                after_break = true;
            } else {
                if after_break {
                    writer.new_line();
                }
                if c == '\'' {
                    writer.put(c);
                }
                writer.put(c);
                writer.at_indentation = false;
                (after_space, after_break) = (false, false);
            }
        }
        writer.indicator('\'', false, false);
    }

    fn write_double(&self, writer: &mut Writer, layout: Layout) {
        writer.indicator('"', true, false);
        // Upstream's writer looks for this mark at the beginning of the text whatever character it is at.
        let is_all_escaped = self.text.starts_with('\u{feff}');
        let mut after_space = false;
        let mut chars = self.text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            if is_all_escaped || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                escape(writer, c);
                after_space = false;
            } else if c == ' ' {
                let is_inner = at > 0 && next.is_some();
                if is_inner && layout.may_fold && !after_space && writer.column > WIDTH {
                    writer.new_line();
                    if next == Some(' ') {
                        writer.put('\\');
                    }
                } else {
                    writer.put(c);
                }
                after_space = true;
            } else {
                writer.put(c);
                after_space = false;
            }
        }
        writer.indicator('"', false, false);
    }

    fn write_literal(&self, writer: &mut Writer, layout: Layout) {
        writer.indicator('|', true, false);
        if self.text.starts_with(|c| c == ' ' || is_break(c)) {
            let digit = char::from_digit(layout.hint as u32, 10).unwrap_or('2');
            writer.indicator(digit, false, false);
        }
        // `-` for a text without a break at its end, `+` for one that has more than one.
        let mut ending = self.text.chars().rev();
        match (ending.next().is_some_and(is_break), ending.next()) {
            (false, _) => writer.indicator('-', false, false),
            (true, before) if before.is_none_or(is_break) => writer.indicator('+', false, false),
            (true, _) => {}
        }
        writer.line_break();
        writer.at_indentation = true;
        writer.after_space = true;
        let mut after_break = true;
        for c in self.text.chars() {
            if is_break(c) {
                write_break(writer, c);
                writer.at_indentation = true;
                after_break = true;
            } else {
                if after_break {
                    writer.new_line();
                }
                writer.put(c);
                writer.at_indentation = false;
                after_break = false;
            }
        }
    }
}

fn write_break(writer: &mut Writer, c: char) {
    if c == '\n' {
        writer.line_break();
    } else {
        writer.put(c);
        writer.column = 0;
    }
}

/// What stands in a text as it is. What lies beyond the first 65,536 characters does not, to upstream's writer.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

fn escape(writer: &mut Writer, c: char) {
    let letter = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c => {
            let code = c as u32;
            let escaped = match code {
                ..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
            escaped.chars().for_each(|c| writer.put(c));
            return;
        }
    };
    writer.put('\\');
    writer.put(letter);
}
