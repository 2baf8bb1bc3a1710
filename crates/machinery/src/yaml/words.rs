//! What is wrong with a text, and on which line, in the words of upstream's reader.

use std::fmt;

/// A fault of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The line as upstream counts, which for some faults is one less than a reader would say; none for the first.
    line: Option<usize>,
    words: String,
}

impl Fault {
    /// Of the whole text.
    pub fn new(words: impl Into<String>) -> Self {
        Fault {
            line: None,
            words: words.into(),
        }
    }

    /// Found in characters, on a line counted from 0.
    pub(super) fn of_scan(line: usize, words: impl Into<String>) -> Self {
        Fault {
            line: (line > 0).then_some(line + 1),
            words: words.into(),
        }
    }

    /// Found in the order of tokens, the wrong one on a line counted from 0.
    pub(super) fn of_tree(line: usize, words: impl Into<String>) -> Self {
        Fault {
            line: (line > 0).then_some(line),
            words: words.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "yaml: line {line}: {}", self.words),
            None => write!(f, "yaml: {}", self.words),
        }
    }
}
