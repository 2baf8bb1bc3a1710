//! Writes a value: block style, lists not indented under their key, keys in their order, `{}` and `[]` for what is empty.

use super::keys;
use super::plain::{float_text, json_number};
use super::scalar::{Layout, Scalar};
use serde_json::{Map, Number, Value};

/// Spaces of one level.
const STEP: usize = 2;

/// A value as YAML text.
pub fn write(value: &Value) -> String {
    written(value, Writer::default())
}

/// A value as YAML text that has long lines where a text is long, as `yaml.v3` writes what is not nested deep.
pub(crate) fn write_wide(value: &Value) -> String {
    let writer = Writer {
        folds: false,
        ..Writer::default()
    };
    written(value, writer)
}

fn written(value: &Value, mut writer: Writer) -> String {
    writer.node(value, Place::default());
    writer.indent = None;
    writer.new_line();
    writer.out
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// As a key or a value of a mapping.
    pub in_mapping: bool,
    /// As a key on one line with its value.
    pub is_simple_key: bool,
}

/// The text so far, and what the next piece depends on.
#[derive(Debug)]
pub(super) struct Writer {
    pub out: String,
    pub column: usize,
    /// The indentation of the level; none before the first one.
    pub indent: Option<usize>,
    /// Whether the last that was written is a space, in effect.
    pub after_space: bool,
    /// Whether only indentation and indicators stand on the line.
    pub at_indentation: bool,
    /// Whether long texts go over several lines.
    folds: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Writer {
            out: String::new(),
            column: 0,
            indent: None,
            after_space: true,
            at_indentation: true,
            folds: true,
        }
    }
}

impl Writer {
    pub fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    pub fn line_break(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Goes to the indentation of the level, on a new line where needed.
    pub fn new_line(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.at_indentation || self.column > indent || (self.column == indent && !self.after_space) {
            self.line_break();
        }
        while self.column < indent {
            self.put(' ');
        }
        self.after_space = true;
        self.at_indentation = true;
    }

    /// Writes an indicator; `keeps_indentation` for those after which a block may begin on the same line.
    pub fn indicator(&mut self, indicator: char, needs_space: bool, keeps_indentation: bool) {
        if needs_space && !self.after_space {
            self.put(' ');
        }
        self.put(indicator);
        self.after_space = false;
        self.at_indentation &= keeps_indentation;
    }

    fn enter(&mut self, is_same_level: bool) -> Option<usize> {
        let outer = self.indent;
        self.indent = match outer {
            None => Some(0),
            Some(indent) if is_same_level => Some(indent),
            Some(indent) => Some(indent + STEP),
        };
        outer
    }

    fn node(&mut self, value: &Value, place: Place) {
        match value {
            Value::Null => self.scalar(&Scalar::plain("null"), place),
            Value::Bool(flag) => self.scalar(&Scalar::plain(if *flag { "true" } else { "false" }), place),
            Value::Number(number) => self.scalar(&Scalar::plain(&number_text(number)), place),
            Value::String(text) => self.scalar(&Scalar::of(text), place),
            Value::Array(list) if list.is_empty() => self.empty('[', ']'),
            Value::Array(list) => self.list(list, place),
            Value::Object(fields) if fields.is_empty() => self.empty('{', '}'),
            Value::Object(fields) => self.mapping(fields),
        }
    }

    fn scalar(&mut self, scalar: &Scalar<'_>, place: Place) {
        let outer = self.indent;
        let layout = Layout {
            indent: outer.map_or(STEP, |indent| indent + STEP),
            hint: STEP,
            may_fold: self.folds && !place.is_simple_key,
        };
        self.indent = Some(layout.indent);
        scalar.write(self, layout, place);
        self.indent = outer;
    }

    fn empty(&mut self, open: char, close: char) {
        self.indicator(open, true, false);
        self.indicator(close, false, false);
    }

    fn list(&mut self, list: &[Value], place: Place) {
        let outer = self.enter(place.in_mapping && !self.at_indentation);
        for item in list {
            self.new_line();
            self.indicator('-', true, true);
            self.node(item, Place::default());
        }
        self.indent = outer;
    }

    fn mapping(&mut self, fields: &Map<String, Value>) {
        let outer = self.enter(false);
        let key = Place {
            in_mapping: true,
            is_simple_key: false,
        };
        let simple = Place {
            is_simple_key: true,
            ..key
        };
        for (name, value) in keys::sorted(fields.iter().map(|entry| (entry, entry.0.chars().collect()))) {
            let scalar = Scalar::of(name);
            self.new_line();
            if scalar.is_simple_key() {
                self.scalar(&scalar, simple);
                self.indicator(':', false, false);
            } else {
                self.indicator('?', true, true);
                self.scalar(&scalar, key);
                self.new_line();
                self.indicator(':', true, true);
            }
            self.node(value, key);
        }
        self.indent = outer;
    }
}

fn number_text(number: &Number) -> String {
    if !number.is_f64() {
        return number.to_string();
    }
    let float = number.as_f64().unwrap_or_default();
    match json_number(float) {
        Some(whole) if !whole.is_f64() => whole.to_string(),
        _ => float_text(float),
    }
}
