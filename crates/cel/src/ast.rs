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
    /// `Name{field: value}`: fields, optional ones left out when they hold nothing.
    Message(String, Vec<(String, Expr, bool)>),
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, init, body)`; with `through` set the macros `optMap` and `optFlatMap`.
    Bind {
        name: String,
        init: Box<Expr>,
        body: Box<Expr>,
        through: Option<Through>,
    },
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

/// A finding: where in the text (in characters), and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub at: usize,
    pub what: String,
}

impl Finding {
    pub(crate) fn new(at: usize, what: impl Into<String>) -> Finding {
        Finding {
            at,
            what: what.into(),
        }
    }
}

/// Findings with the line they are in and a mark below the place.
pub(crate) fn render(text: &str, findings: &[Finding]) -> String {
    let mut shown = Vec::new();
    for finding in findings {
        // In nothing there is no place to show.
        if text.is_empty() {
            shown.push(format!("ERROR: <input>:1:0: {}", finding.what));
            continue;
        }
        let before: String = text.chars().take(finding.at).collect();
        let row = before.matches('\n').count();
        let column = before.rsplit('\n').next().unwrap_or("").chars().count();
        let line = text.split('\n').nth(row).unwrap_or("");
        shown.push(format!(
            "ERROR: <input>:{}:{}: {}\n | {line}\n | {}^",
            row + 1,
            column + 1,
            finding.what,
            ".".repeat(column)
        ));
    }
    shown.join("\n")
}
