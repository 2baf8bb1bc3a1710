//! From tokens to a tree, by recursive descent with a bound on depth. Macros are expanded on the way.

use crate::ast::{Expr, Finding, Kind};
use crate::lexer::{Token, tokens};
use crate::macros;
use crate::value::{Str, Value};
use std::sync::Arc;

/// Nesting at most: brackets within brackets, and links of one chain. Evaluation recurses as deep, on small stacks.
const DEPTH: usize = 48;
/// Links of one chain of operators or selections at most.
const CHAIN: usize = 96;
const RECURSION: &str = "expression recursion limit exceeded";
/// Longest text, in bytes.
const LENGTH: usize = 100_000;

/// Parses a text.
pub(crate) fn parse(text: &str, binds: bool) -> Result<Expr, Finding> {
    if text.len() > LENGTH {
        return Err(Finding::new(0, "expression code point size exceeds limit"));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        binds,
    };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("<EOF>")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
    /// `cel.bind` is known.
    binds: bool,
}

/// Operators of relations with their functions.
const RELATIONS: [(&str, &str); 6] = [
    ("==", "_==_"),
    ("!=", "_!=_"),
    ("<=", "_<=_"),
    (">=", "_>=_"),
    ("<", "_<_"),
    (">", "_>_"),
];

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].1
    }

    fn offset(&self) -> usize {
        self.tokens[self.at].0
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), Finding> {
        match self.take(symbol) {
            true => Ok(()),
            false => Err(self.unexpected(symbol)),
        }
    }

    fn unexpected(&self, wanted: &str) -> Finding {
        let got = match self.peek() {
            Token::End => "<EOF>".to_string(),
            Token::Symbol(s) => (*s).to_string(),
            Token::Ident(name) | Token::Quoted(name) => name.clone(),
            Token::Int(n) => n.to_string(),
            Token::IntMin => "9223372036854775808".into(),
            Token::Uint(n) => format!("{n}u"),
            Token::Double(n) => n.to_string(),
            Token::Text(text) => format!("{text:?}"),
            Token::Bytes(_) => "bytes".into(),
        };
        let wanted = if wanted.is_empty() {
            "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
             BYTES, IDENTIFIER}"
                .to_string()
        } else {
            format!("expecting '{wanted}'").replace("'<EOF>'", "<EOF>")
        };
        let closing = matches!(
            wanted.as_str(),
            "expecting ')'" | "expecting ']'" | "expecting '}'"
        );
        let last = matches!(self.tokens.get(self.at + 1), Some((_, Token::End)));
        let what = match self.peek() {
            Token::End if closing => {
                let missing = wanted.trim_start_matches("expecting ");
                format!("Syntax error: missing {missing} at '{got}'")
            }
            // One token too many.
            _ if last && wanted == "expecting <EOF>" => {
                format!("Syntax error: extraneous input '{got}' {wanted}")
            }
            _ => format!("Syntax error: mismatched input '{got}' {wanted}"),
        };
        Finding::new(self.offset(), what)
    }

    fn expr(&mut self) -> Result<Expr, Finding> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Finding::new(self.offset(), RECURSION));
        }
        let condition = self.or()?;
        let at = self.offset();
        let out = if self.take("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expr()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        self.depth -= 1;
        Ok(out)
    }

    /// Counts the links of a chain.
    fn link(&self, links: usize) -> Result<usize, Finding> {
        match links > CHAIN {
            true => Err(Finding::new(self.offset(), RECURSION)),
            false => Ok(links + 1),
        }
    }

    fn or(&mut self) -> Result<Expr, Finding> {
        let mut parts = vec![(0, self.and()?)];
        while self.is("||") {
            let at = self.offset();
            self.at += 1;
            parts.push((at, self.and()?));
        }
        Ok(balanced("_||_", parts))
    }

    fn and(&mut self) -> Result<Expr, Finding> {
        let mut parts = vec![(0, self.relation()?)];
        while self.is("&&") {
            let at = self.offset();
            self.at += 1;
            parts.push((at, self.relation()?));
        }
        Ok(balanced("_&&_", parts))
    }

    fn relation(&mut self) -> Result<Expr, Finding> {
        let mut left = self.sum()?;
        let mut links = 0;
        loop {
            links = self.link(links)?;
            let at = self.offset();
            let function = match self.peek() {
                Token::Symbol(s) => RELATIONS.iter().find(|(symbol, _)| symbol == s).map(|(_, f)| *f),
                Token::Ident(word) if word == "in" => Some("@in"),
                _ => None,
            };
            let Some(function) = function else { return Ok(left) };
            self.at += 1;
            left = call(at, function, vec![left, self.sum()?]);
        }
    }

    fn sum(&mut self) -> Result<Expr, Finding> {
        let mut left = self.product()?;
        let mut links = 0;
        loop {
            links = self.link(links)?;
            let at = self.offset();
            let function = match self.peek() {
                Token::Symbol("+") => "_+_",
                Token::Symbol("-") => "_-_",
                _ => return Ok(left),
            };
            self.at += 1;
            left = call(at, function, vec![left, self.product()?]);
        }
    }

    fn product(&mut self) -> Result<Expr, Finding> {
        let mut left = self.unary()?;
        let mut links = 0;
        loop {
            links = self.link(links)?;
            let at = self.offset();
            let function = match self.peek() {
                Token::Symbol("*") => "_*_",
                Token::Symbol("/") => "_/_",
                Token::Symbol("%") => "_%_",
                _ => return Ok(left),
            };
            self.at += 1;
            left = call(at, function, vec![left, self.unary()?]);
        }
    }

    fn unary(&mut self) -> Result<Expr, Finding> {
        let at = self.offset();
        let (symbol, function) = match self.peek() {
            Token::Symbol("!") => ("!", "!_"),
            Token::Symbol("-") => ("-", "-_"),
            _ => return self.member(),
        };
        let mut count = 0;
        while self.take(symbol) {
            count += 1;
        }
        if symbol == "-" && count == 1 {
            let negative = match self.peek() {
                Token::Int(n) => Some(Value::Int(-n)),
                Token::IntMin => Some(Value::Int(i64::MIN)),
                Token::Double(n) => Some(Value::Double(-n)),
                _ => None,
            };
            if let Some(value) = negative {
                self.at += 1;
                return self.suffixes(Expr::new(at, Kind::Literal(value)));
            }
        }
        let operand = self.member()?;
        // Pairs of the same sign cancel each other out.
        Ok(match count % 2 {
            0 => operand,
            _ => call(at, function, vec![operand]),
        })
    }

    fn member(&mut self) -> Result<Expr, Finding> {
        let primary = self.primary()?;
        self.suffixes(primary)
    }

    fn suffixes(&mut self, mut left: Expr) -> Result<Expr, Finding> {
        let mut links = 0;
        loop {
            links = self.link(links)?;
            let at = self.offset();
            if self.is(".") || self.is(".?") {
                let optional = self.is(".?");
                self.at += 1;
                let name_at = self.offset();
                let (name, quoted) = match self.peek().clone() {
                    Token::Ident(name) => (name, false),
                    Token::Quoted(name) => (name, true),
                    _ => return Err(self.unexpected("IDENTIFIER")),
                };
                self.at += 1;
                if !optional && !quoted && self.is("(") {
                    let open = self.offset();
                    self.at += 1;
                    let args = self.list(")")?;
                    left = macros::member(open, name_at, left, name, args, self.binds)?;
                } else {
                    left = Expr::new(
                        at,
                        Kind::Select {
                            operand: Box::new(left),
                            field: name,
                            test: false,
                            optional,
                        },
                    );
                }
            } else if self.is("[") || self.is("[?") {
                let optional = self.is("[?");
                self.at += 1;
                let index = self.expr()?;
                self.expect("]")?;
                let (operand, index) = (Box::new(left), Box::new(index));
                left = Expr::new(
                    at,
                    Kind::Index {
                        operand,
                        index,
                        optional,
                    },
                );
            } else if self.is("{") && matches!(left.kind, Kind::Ident(_) | Kind::Select { .. }) {
                let Some(name) = dotted(&left) else {
                    return Err(self.unexpected("<EOF>"));
                };
                self.at += 1;
                left = self.message(at, name)?;
            } else {
                return Ok(left);
            }
        }
    }

    /// Expressions up to a closing symbol; a comma may stand before it.
    fn list(&mut self, close: &'static str) -> Result<Vec<Expr>, Finding> {
        let mut out = Vec::new();
        while !self.take(close) {
            out.push(self.expr()?);
            if !self.take(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(out)
    }

    fn primary(&mut self) -> Result<Expr, Finding> {
        let at = self.offset();
        let token = self.peek().clone();
        self.at += usize::from(token != Token::End);
        let value = match token {
            Token::Int(n) => Value::Int(n),
            Token::Uint(n) => Value::Uint(n),
            Token::Double(n) => Value::Double(n),
            Token::Text(text) => Value::String(Str::from(text)),
            Token::Bytes(data) => Value::Bytes(Arc::from(data)),
            Token::Symbol("(") => {
                let inner = self.expr()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Symbol("[") => return self.list_literal(at, false),
            Token::Symbol("[?") => return self.list_literal(at, true),
            Token::Symbol("{") => return self.map_literal(at),
            // A leading dot names the root scope, which is the only one.
            Token::Symbol(".") => return self.primary(),
            Token::Ident(name) => match name.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ if self.is("(") => {
                    let open = self.offset();
                    self.at += 1;
                    let args = self.list(")")?;
                    return macros::global(open, at, name, args);
                }
                "in" => {
                    self.at -= 1;
                    return Err(self.unexpected(""));
                }
                "as" | "break" | "const" | "continue" | "else" | "for" | "function" | "if" | "import"
                | "let" | "loop" | "package" | "namespace" | "return" | "var" | "void" | "while" => {
                    return Err(Finding::new(at, format!("reserved identifier: {name}")));
                }
                _ => return Ok(Expr::new(at, Kind::Ident(name))),
            },
            _ => {
                self.at -= usize::from(token != Token::End);
                return Err(self.unexpected(""));
            }
        };
        Ok(Expr::new(at, Kind::Literal(value)))
    }

    /// `asked`: the first element's question mark was taken with the bracket.
    fn list_literal(&mut self, at: usize, mut asked: bool) -> Result<Expr, Finding> {
        let mut items = Vec::new();
        while asked || !self.take("]") {
            let optional = std::mem::take(&mut asked) || self.take("?");
            items.push((self.expr()?, optional));
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Expr::new(at, Kind::List(items)))
    }

    fn message(&mut self, at: usize, name: String) -> Result<Expr, Finding> {
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let (Token::Ident(field) | Token::Quoted(field)) = self.peek().clone() else {
                return Err(self.unexpected("IDENTIFIER"));
            };
            self.at += 1;
            self.expect(":")?;
            fields.push((field, self.expr()?, optional));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Kind::Message(name, fields)))
    }

    fn map_literal(&mut self, at: usize) -> Result<Expr, Finding> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.expr()?;
            self.expect(":")?;
            entries.push((key, self.expr()?, optional));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(Expr::new(at, Kind::Map(entries)))
    }
}

/// `a.b.c` as one name, when the expression is nothing else.
fn dotted(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select {
            operand,
            field,
            test: false,
            optional: false,
        } => Some(format!("{}.{field}", dotted(operand)?)),
        _ => None,
    }
}

/// A tree of operands that may be grouped at will, as flat as can be.
fn balanced(function: &str, mut parts: Vec<(usize, Expr)>) -> Expr {
    while parts.len() > 1 {
        let mut joined = Vec::with_capacity(parts.len().div_ceil(2));
        let mut rest = parts.into_iter();
        while let Some((at, left)) = rest.next() {
            joined.push(match rest.next() {
                Some((between, right)) => (at, call(between, function, vec![left, right])),
                None => (at, left),
            });
        }
        parts = joined;
    }
    match parts.pop() {
        Some((_, expr)) => expr,
        // Nobody joins nothing.
        None => Expr::new(0, Kind::Literal(Value::Null)),
    }
}

/// A call of a function.
pub(crate) fn call(at: usize, function: &str, args: Vec<Expr>) -> Expr {
    let kind = Kind::Call {
        function: function.to_string(),
        target: None,
        args,
        regex: None,
    };
    Expr::new(at, kind)
}
