//! The tree of an expression, macros expanded, and how a finding about it is shown.

use crate::value::Value;

/// One node.
#[derive(Debug)]
pub(crate) struct Expr {
    /// Offset in the text, in characters.
    pub at: usize,
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value<'static>),
    Ident(String),
    /// `operand.field`, `operand.?field`; with `test` the macro `has`.
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
        optional: bool,
    },
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
        /// A regular expression given as a literal, compiled once.
        regex: Option<regex::Regex>,
    },
    /// Elements; optional ones (`?e`) are left out when they hold nothing.
    List(Vec<(Expr, bool)>),
    /// Entries: key, value, optional.
    Map(Vec<(Expr, Expr, bool)>),
    /// `Name{field: value}`.
    Message(String, Vec<Given>),
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, init, body)`; with `through` set the macros `optMap` and `optFlatMap`.
    Bind {
        name: String,
        init: Box<Expr>,
        body: Box<Expr>,
        through: Option<Through>,
    },
}

/// A field of a message; an optional one is left out when it holds nothing.
#[derive(Debug)]
pub(crate) struct Given {
    /// Offset of the colon.
    pub at: usize,
    pub name: String,
    pub value: Expr,
    pub optional: bool,
}

/// How a binding goes through an optional value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    Map,
    FlatMap,
}

/// A macro that walks a list or map.
#[derive(Debug)]
pub(crate) struct Comprehension {
    pub walk: Walk,
    pub range: Expr,
    /// The element; of a map its key.
    pub first: String,
    /// With two variables: the value, `first` being index or key.
    pub second: Option<String>,
    pub filter: Option<Expr>,
    pub body: Expr,
}

/// What a comprehension makes of its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
    SortBy,
}

impl Expr {
    pub(crate) fn new(at: usize, kind: Kind) -> Expr {
        Expr { at, kind }
    }
}

/// Where a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// It is about the whole.
    Nowhere,
    /// Where something ought to be of which nothing was found: one before the first character.
    Before,
    /// An offset in characters.
    At(usize),
}

/// A finding: where in the text, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub at: Place,
    pub what: String,
}

impl Finding {
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Finding {
        Finding::placed(Place::At(at), what)
    }

    pub(crate) fn nowhere(what: impl Into<String>) -> Finding {
        Finding::placed(Place::Nowhere, what)
    }

    pub(crate) fn placed(at: Place, what: impl Into<String>) -> Finding {
        Finding {
            at,
            what: what.into(),
        }
    }
}

/// Findings that are shown at most; of the rest the number is told.
const SHOWN: usize = 100;
/// The longest line that is shown, in bytes.
const LINE: usize = 16_384;

/// Findings with the line they are in and a mark below the place, in the order of their places.
pub(crate) fn render(text: &str, findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().take(SHOWN).collect();
    sorted.sort_by_key(|finding| finding.at);
    let mut shown: Vec<String> = sorted.iter().map(|finding| show(text, finding)).collect();
    if findings.len() > SHOWN {
        shown.push(format!("{} more errors were truncated", findings.len() - SHOWN));
    }
    shown.join("\n")
}

fn show(text: &str, finding: &Finding) -> String {
    let what = &finding.what;
    let at = match finding.at {
        Place::Nowhere => return format!("ERROR: <input>:-1:0: {what}"),
        // In nothing there is no place to show.
        _ if text.is_empty() => return format!("ERROR: <input>:1:0: {what}"),
        Place::Before => None,
        Place::At(at) => Some(at),
    };
    let bytes = text
        .char_indices()
        .nth(at.unwrap_or(0))
        .map_or(text.len(), |(byte, _)| byte);
    let start = text[..bytes].rfind('\n').map_or(0, |end| end + 1);
    let row = text[..bytes].matches('\n').count() + 1;
    let line = text[start..].split('\n').next().unwrap_or("");
    let before = text[start..bytes].chars();
    let column = at.map_or(0, |_| before.clone().count() + 1);
    let mut out = format!("ERROR: <input>:{row}:{column}: {what}");
    if line.len() <= LINE {
        // Characters that take more than a byte are taken to be wide.
        let marks: String = before
            .map(|c| if c.is_ascii() { '.' } else { '\u{ff0e}' })
            .collect();
        let wide = text[bytes..].starts_with(|c: char| !c.is_ascii());
        let mark = if wide { '\u{ff3e}' } else { '^' };
        out.push_str(&format!("\n | {}\n | {marks}{mark}", line.replace('\t', " ")));
    }
    out
}
