//! Characters to tokens. Indentation becomes tokens of its own, and a key is only known as one when its `:` is found, so
//! that tokens wait in a queue while one of them may yet turn out to be a key: upon which depends, too, what fault of
//! several is found first.

use super::text::{Mark, Text, is_blank, is_break, is_gap, is_line_end};
use super::words::Fault;
use std::collections::{HashMap, VecDeque};

/// Levels of flow and of indentation that upstream takes.
const MAX_LEVELS: usize = 10_000;
/// Characters of a key on one line.
const MAX_KEY: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    StreamEnd,
    Version(u8, u8),
    TagDirective { handle: String, prefix: String },
    DocumentStart,
    DocumentEnd,
    BlockSequence,
    BlockMapping,
    BlockEnd,
    FlowSequence,
    FlowSequenceEnd,
    FlowMapping,
    FlowMappingEnd,
    BlockEntry,
    FlowEntry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, is_plain: bool },
}

#[derive(Debug)]
pub(super) struct Token {
    pub kind: Kind,
    /// Where it begins, from 0.
    pub line: usize,
}

/// Where a key may have begun, on one level of flow.
#[derive(Debug, Clone, Copy, Default)]
struct SimpleKey {
    is_possible: bool,
    /// Whether nothing else can stand there.
    is_required: bool,
    token: usize,
    mark: Mark,
}

#[derive(Debug)]
pub(super) struct Scanner<'t> {
    pub(super) text: Text<'t>,
    tokens: VecDeque<Token>,
    /// Tokens that have left the queue.
    taken: usize,
    /// Whether the first token of the queue is known for what it is.
    is_ready: bool,
    keys: Vec<SimpleKey>,
    /// The level of each token that may begin a key.
    levels: HashMap<usize, usize>,
    pub(super) may_begin_key: bool,
    /// Levels of flow that are open.
    pub(super) flow: usize,
    /// The column of the innermost block; none outside of all.
    pub(super) indent: Option<usize>,
    indents: Vec<Option<usize>>,
}

const DEEP: &str = "exceeded max depth of 10000";

impl<'t> Scanner<'t> {
    pub fn new(bytes: &'t [u8]) -> Self {
        Scanner {
            text: Text::new(bytes),
            tokens: VecDeque::new(),
            taken: 0,
            is_ready: false,
            keys: vec![SimpleKey::default()],
            levels: HashMap::new(),
            may_begin_key: true,
            flow: 0,
            indent: None,
            indents: Vec::new(),
        }
    }

    /// The next token.
    pub fn peek(&mut self) -> Result<&Token, Fault> {
        if !self.is_ready {
            while self.needs_more()? {
                self.fetch()?;
            }
            self.is_ready = true;
        }
        self.tokens
            .front()
            .ok_or_else(|| Fault::new("the text has ended"))
    }

    /// Takes the token that was peeked at.
    pub fn take(&mut self) -> Option<Token> {
        self.is_ready = false;
        self.taken += 1;
        self.tokens.pop_front()
    }

    pub(super) fn fault(&self, words: &str) -> Fault {
        Fault::of_scan(self.text.mark.line, words)
    }

    fn needs_more(&mut self) -> Result<bool, Fault> {
        if self.tokens.is_empty() {
            return Ok(true);
        }
        match self.levels.get(&self.taken).copied() {
            Some(level) => self.is_valid_key(level),
            None => Ok(false),
        }
    }

    /// Whether a key may still have begun there: not on an earlier line, nor too far away.
    fn is_valid_key(&mut self, level: usize) -> Result<bool, Fault> {
        let here = self.text.mark;
        let Some(key) = self.keys.get_mut(level).filter(|key| key.is_possible) else {
            return Ok(false);
        };
        if key.mark.line < here.line || key.mark.index + MAX_KEY < here.index {
            if key.is_required {
                return Err(self.fault("could not find expected ':'"));
            }
            key.is_possible = false;
            return Ok(false);
        }
        Ok(true)
    }

    fn push(&mut self, kind: Kind, line: usize) {
        self.tokens.push_back(Token { kind, line });
    }

    /// Puts a token in front of one that waits; behind all where that one is gone.
    fn insert(&mut self, number: Option<usize>, kind: Kind, line: usize) {
        let place = number.and_then(|number| number.checked_sub(self.taken));
        let place = place.unwrap_or(self.tokens.len()).min(self.tokens.len());
        self.tokens.insert(place, Token { kind, line });
    }

    /// Takes an indicator of one character.
    fn push_indicator(&mut self, kind: Kind) {
        let line = self.text.mark.line;
        self.text.take();
        self.push(kind, line);
    }

    fn fetch(&mut self) -> Result<(), Fault> {
        self.text.need(1)?;
        self.skip_gaps()?;
        self.unroll(Some(self.text.mark.column));
        self.text.need(4)?;
        let c = self.text.here();
        if c == '\0' {
            return self.fetch_stream_end();
        }
        if self.text.mark.column == 0 && c == '%' {
            self.unroll(None);
            self.remove_key()?;
            self.may_begin_key = false;
            let line = self.text.mark.line;
            let kind = self.scan_directive()?;
            self.push(kind, line);
            return Ok(());
        }
        if self.text.is_marker("---") {
            return self.fetch_marker(Kind::DocumentStart);
        }
        if self.text.is_marker("...") {
            return self.fetch_marker(Kind::DocumentEnd);
        }
        let in_flow = self.flow > 0;
        let next = self.text.peek(1);
        match c {
            '[' => self.fetch_flow_start(Kind::FlowSequence),
            '{' => self.fetch_flow_start(Kind::FlowMapping),
            ']' => self.fetch_flow_end(Kind::FlowSequenceEnd),
            '}' => self.fetch_flow_end(Kind::FlowMappingEnd),
            ',' => {
                self.remove_key()?;
                self.may_begin_key = true;
                self.push_indicator(Kind::FlowEntry);
                Ok(())
            }
            '-' if is_gap(next) => self.fetch_block_entry(),
            '?' if in_flow || is_gap(next) => self.fetch_key(),
            ':' if in_flow || is_gap(next) => self.fetch_value(),
            '*' => self.fetch_one(|scanner| Ok(Kind::Alias(scanner.scan_anchor()?))),
            '&' => self.fetch_one(|scanner| Ok(Kind::Anchor(scanner.scan_anchor()?))),
            '!' => self.fetch_one(Self::scan_tag),
            '|' | '>' if !in_flow => {
                self.remove_key()?;
                self.may_begin_key = true;
                let line = self.text.mark.line;
                let kind = self.scan_block_scalar(c == '|')?;
                self.push(kind, line);
                Ok(())
            }
            '\'' | '"' => self.fetch_one(|scanner| scanner.scan_quoted()),
            '-' if !is_blank(next) => self.fetch_one(Self::scan_plain),
            '?' | ':' if !in_flow && !is_gap(next) => self.fetch_one(Self::scan_plain),
            '-' | '?' | ':' | '#' | '|' | '>' | '%' | '@' | '`' => Err(self.no_token()),
            c if is_gap(c) => Err(self.no_token()),
            _ => self.fetch_one(Self::scan_plain),
        }
    }

    fn no_token(&self) -> Fault {
        self.fault("found character that cannot start any token")
    }

    /// A token that may be a key, and after which none may begin.
    fn fetch_one(&mut self, scan: fn(&mut Self) -> Result<Kind, Fault>) -> Result<(), Fault> {
        self.save_key()?;
        self.may_begin_key = false;
        let line = self.text.mark.line;
        let kind = scan(self)?;
        self.push(kind, line);
        Ok(())
    }

    /// Skips blanks, comments and breaks. A tab is none where a key might begin.
    fn skip_gaps(&mut self) -> Result<(), Fault> {
        loop {
            self.text.need(1)?;
            if self.text.mark.index == 0 && self.text.here() == '\u{feff}' {
                self.text.take();
            }
            self.text.need(1)?;
            let allows_tabs = self.flow > 0 || !self.may_begin_key;
            while self.text.here() == ' ' || (allows_tabs && self.text.here() == '\t') {
                self.text.take();
                self.text.need(1)?;
            }
            self.text.skip_comment()?;
            if !is_break(self.text.here()) {
                return Ok(());
            }
            self.text.need(2)?;
            self.text.take_break();
            if self.flow == 0 {
                self.may_begin_key = true;
            }
        }
    }

    fn save_key(&mut self) -> Result<(), Fault> {
        if !self.may_begin_key {
            return Ok(());
        }
        let mark = self.text.mark;
        let token = self.taken + self.tokens.len();
        self.remove_key()?;
        let level = self.keys.len() - 1;
        self.keys[level] = SimpleKey {
            is_possible: true,
            is_required: self.flow == 0 && self.indent == Some(mark.column),
            token,
            mark,
        };
        self.levels.insert(token, level);
        Ok(())
    }

    /// What has begun here is no key.
    fn remove_key(&mut self) -> Result<(), Fault> {
        let level = self.keys.len() - 1;
        let key = &mut self.keys[level];
        if key.is_possible {
            if key.is_required {
                return Err(self.fault("could not find expected ':'"));
            }
            key.is_possible = false;
            self.levels.remove(&key.token);
        }
        Ok(())
    }

    /// A block begins in a column further in.
    fn roll(&mut self, column: usize, number: Option<usize>, kind: Kind, line: usize) -> Result<(), Fault> {
        if self.flow > 0 || self.indent.is_some_and(|indent| indent >= column) {
            return Ok(());
        }
        self.indents.push(self.indent);
        self.indent = Some(column);
        if self.indents.len() > MAX_LEVELS {
            return Err(self.fault(DEEP));
        }
        self.insert(number, kind, line);
        Ok(())
    }

    /// Blocks end that stand further in than a column.
    fn unroll(&mut self, column: Option<usize>) {
        if self.flow > 0 {
            return;
        }
        while self.indent > column {
            self.push(Kind::BlockEnd, self.text.mark.line);
            self.indent = self.indents.pop().flatten();
        }
    }

    fn fetch_stream_end(&mut self) -> Result<(), Fault> {
        if self.text.mark.column != 0 {
            self.text.mark.column = 0;
            self.text.mark.line += 1;
        }
        self.unroll(None);
        self.remove_key()?;
        self.may_begin_key = false;
        self.push(Kind::StreamEnd, self.text.mark.line);
        Ok(())
    }

    fn fetch_marker(&mut self, kind: Kind) -> Result<(), Fault> {
        self.unroll(None);
        self.remove_key()?;
        self.may_begin_key = false;
        let line = self.text.mark.line;
        self.text.skip(3);
        self.push(kind, line);
        Ok(())
    }

    fn fetch_flow_start(&mut self, kind: Kind) -> Result<(), Fault> {
        self.save_key()?;
        self.keys.push(SimpleKey {
            token: self.taken + self.tokens.len(),
            mark: self.text.mark,
            ..SimpleKey::default()
        });
        self.flow += 1;
        if self.flow > MAX_LEVELS {
            return Err(self.fault(DEEP));
        }
        self.may_begin_key = true;
        self.push_indicator(kind);
        Ok(())
    }

    fn fetch_flow_end(&mut self, kind: Kind) -> Result<(), Fault> {
        self.remove_key()?;
        if self.flow > 0 {
            self.flow -= 1;
            if let Some(key) = self.keys.pop() {
                self.levels.remove(&key.token);
            }
        }
        self.may_begin_key = false;
        self.push_indicator(kind);
        Ok(())
    }

    fn fetch_block_entry(&mut self) -> Result<(), Fault> {
        if self.flow == 0 {
            if !self.may_begin_key {
                return Err(self.fault("block sequence entries are not allowed in this context"));
            }
            let mark = self.text.mark;
            self.roll(mark.column, None, Kind::BlockSequence, mark.line)?;
        }
        self.remove_key()?;
        self.may_begin_key = true;
        self.push_indicator(Kind::BlockEntry);
        Ok(())
    }

    fn fetch_key(&mut self) -> Result<(), Fault> {
        if self.flow == 0 {
            if !self.may_begin_key {
                return Err(self.fault("mapping keys are not allowed in this context"));
            }
            let mark = self.text.mark;
            self.roll(mark.column, None, Kind::BlockMapping, mark.line)?;
        }
        self.remove_key()?;
        self.may_begin_key = self.flow == 0;
        self.push_indicator(Kind::Key);
        Ok(())
    }

    fn fetch_value(&mut self) -> Result<(), Fault> {
        let level = self.keys.len() - 1;
        if self.is_valid_key(level)? {
            let SimpleKey { token, mark, .. } = self.keys[level];
            self.insert(Some(token), Kind::Key, mark.line);
            self.roll(mark.column, Some(token), Kind::BlockMapping, mark.line)?;
            self.keys[level].is_possible = false;
            self.levels.remove(&token);
            self.may_begin_key = false;
        } else {
            if self.flow == 0 {
                if !self.may_begin_key {
                    return Err(self.fault("mapping values are not allowed in this context"));
                }
                let mark = self.text.mark;
                self.roll(mark.column, None, Kind::BlockMapping, mark.line)?;
            }
            self.may_begin_key = self.flow == 0;
        }
        self.push_indicator(Kind::Value);
        Ok(())
    }

    /// Skips what may follow on the line of a directive or the beginning of a block scalar, and the break.
    pub(super) fn end_line(&mut self) -> Result<(), Fault> {
        self.text.skip_while(is_blank)?;
        self.text.skip_comment()?;
        if !is_line_end(self.text.here()) {
            return Err(self.fault("did not find expected comment or line break"));
        }
        if is_break(self.text.here()) {
            self.text.need(2)?;
            self.text.take_break();
        }
        Ok(())
    }
}
