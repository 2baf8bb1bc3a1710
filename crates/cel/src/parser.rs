//! From tokens to a tree, by recursive descent with a bound on depth. Macros are expanded on the way.
//!
//! It only tells good from bad: why a text is bad is found out afterwards, by [`syntax`].

use crate::ast::{Expr, Finding, Given, Kind};
use crate::lexer::{Sort, Token, Tokens};
use crate::room::with_room;
use crate::value::{Str, Value};
use crate::{literal, macros, syntax};
use std::sync::Arc;

/// Nesting at most: brackets within brackets. Upstream has the same bound.
const DEPTH: usize = 250;
/// Links of one chain of operators or selections at most.
const CHAIN: usize = 250;
/// Longest text, in characters.
const LENGTH: usize = 100_000;

/// Why there is no tree.
pub(crate) enum Refused {
    /// The text is no expression.
    Broken,
    /// It is one, of more levels or links than are let through.
    Deep(usize),
}

type Parsed<T> = Result<T, Refused>;

/// Parses a text.
pub(crate) fn parse(text: &str, binds: bool) -> Result<Expr, Vec<Finding>> {
    let length = if text.len() > LENGTH {
        text.chars().count()
    } else {
        0
    };
    if length > LENGTH {
        let what = format!("expression code point size exceeds limit: size: {length}, limit {LENGTH}");
        return Err(vec![Finding::nowhere(what)]);
    }
    let mut parser = Parser {
        tokens: Tokens::of(text),
        at: 0,
        depth: 0,
        binds,
    };
    let refused = match parser.whole() {
        Ok(expr) => return Ok(expr),
        Err(refused) => refused,
    };
    let findings = syntax::findings(&parser.tokens, binds);
    match (findings.is_empty(), refused) {
        (false, _) => Err(findings),
        (true, Refused::Deep(limit)) => {
            let what = format!("expression recursion limit exceeded: {limit}");
            Err(vec![Finding::nowhere(what)])
        }
        (true, Refused::Broken) => {
            let at = parser.token().start;
            Err(vec![Finding::new(at, "Syntax error: not an expression")])
        }
    }
}

struct Parser {
    tokens: Tokens,
    at: usize,
    depth: usize,
    /// `cel.bind` is known.
    binds: bool,
}

impl Parser {
    fn token(&self) -> Token {
        self.tokens.list[self.at]
    }

    fn peek(&self) -> Sort {
        self.token().sort
    }

    fn offset(&self) -> usize {
        self.token().start
    }

    fn is(&self, sort: Sort) -> bool {
        self.peek() == sort
    }

    fn next_is(&self, sort: Sort) -> bool {
        self.tokens
            .list
            .get(self.at + 1)
            .is_some_and(|next| next.sort == sort)
    }

    fn take(&mut self, sort: Sort) -> bool {
        let found = self.is(sort);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sort: Sort) -> Parsed<()> {
        match self.take(sort) {
            true => Ok(()),
            false => Err(Refused::Broken),
        }
    }

    /// The text of a token that must be there.
    fn text(&mut self, sort: Sort) -> Parsed<String> {
        let token = self.token();
        self.expect(sort)?;
        Ok(self.tokens.text(token))
    }

    fn whole(&mut self) -> Parsed<Expr> {
        if !self.tokens.junk.is_empty() {
            return Err(Refused::Broken);
        }
        let expr = self.expr()?;
        match self.is(Sort::End) {
            true => Ok(expr),
            false => Err(Refused::Broken),
        }
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Refused::Deep(DEPTH));
        }
        let expr = with_room(|| self.ternary())?;
        self.depth -= 1;
        Ok(expr)
    }

    fn ternary(&mut self) -> Parsed<Expr> {
        let condition = self.or()?;
        let at = self.offset();
        let out = if self.take(Sort::Question) {
            let yes = self.or()?;
            self.expect(Sort::Colon)?;
            let no = self.expr()?;
            call(at, "_?_:_", vec![condition, yes, no])
        } else {
            condition
        };
        Ok(out)
    }

    fn or(&mut self) -> Parsed<Expr> {
        let mut parts = vec![(0, self.and()?)];
        while self.is(Sort::Or) {
            let at = self.offset();
            self.at += 1;
            parts.push((at, self.and()?));
        }
        Ok(balanced("_||_", parts))
    }

    fn and(&mut self) -> Parsed<Expr> {
        let mut parts = vec![(0, self.relation()?)];
        while self.is(Sort::And) {
            let at = self.offset();
            self.at += 1;
            parts.push((at, self.relation()?));
        }
        Ok(balanced("_&&_", parts))
    }

    /// A chain of operators of one rank, grouped from the left.
    fn chain(
        &mut self,
        operand: fn(&mut Parser) -> Parsed<Expr>,
        function: fn(Sort) -> Option<&'static str>,
    ) -> Parsed<Expr> {
        let mut left = operand(self)?;
        let mut links = 0;
        while let Some(function) = function(self.peek()) {
            links = link(links)?;
            let at = self.offset();
            self.at += 1;
            left = call(at, function, vec![left, operand(self)?]);
        }
        Ok(left)
    }

    fn relation(&mut self) -> Parsed<Expr> {
        self.chain(Parser::sum, |sort| match sort {
            Sort::Equals => Some("_==_"),
            Sort::NotEquals => Some("_!=_"),
            Sort::LessEquals => Some("_<=_"),
            Sort::GreaterEquals => Some("_>=_"),
            Sort::Less => Some("_<_"),
            Sort::Greater => Some("_>_"),
            Sort::In => Some("@in"),
            _ => None,
        })
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.chain(Parser::product, |sort| match sort {
            Sort::Plus => Some("_+_"),
            Sort::Minus => Some("_-_"),
            _ => None,
        })
    }

    fn product(&mut self) -> Parsed<Expr> {
        self.chain(Parser::unary, |sort| match sort {
            Sort::Star => Some("_*_"),
            Sort::Slash => Some("_/_"),
            Sort::Percent => Some("_%_"),
            _ => None,
        })
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let at = self.offset();
        let function = match self.peek() {
            Sort::Not => "!_",
            // One sign before a number is part of it.
            Sort::Minus if !self.next_is(Sort::Int) && !self.next_is(Sort::Double) => "-_",
            _ => return self.member(),
        };
        let sign = self.peek();
        let mut count = 0;
        while self.take(sign) {
            count += 1;
        }
        let operand = self.member()?;
        // Pairs of the same sign cancel each other out.
        Ok(match count % 2 {
            0 => operand,
            _ => call(at, function, vec![operand]),
        })
    }

    fn member(&mut self) -> Parsed<Expr> {
        let mut left = self.primary()?;
        let mut links = 0;
        loop {
            let at = self.offset();
            match self.peek() {
                Sort::Dot => {
                    self.at += 1;
                    left = self.selection(at, left)?;
                }
                Sort::OpenBracket => {
                    self.at += 1;
                    let optional = self.take(Sort::Question);
                    let index = Box::new(self.expr()?);
                    self.expect(Sort::CloseBracket)?;
                    let operand = Box::new(left);
                    left = Expr::new(
                        at,
                        Kind::Index {
                            operand,
                            index,
                            optional,
                        },
                    );
                }
                _ => return Ok(left),
            }
            links = link(links)?;
        }
    }

    /// What follows a dot.
    fn selection(&mut self, at: usize, left: Expr) -> Parsed<Expr> {
        let optional = self.take(Sort::Question);
        let name = self.text(Sort::Ident)?;
        let open = self.offset();
        if optional || !self.take(Sort::OpenParen) {
            return Ok(select(at, left, name, optional));
        }
        let args = self.arguments()?;
        macros::member(open, left, name, args, self.binds)
    }

    /// Arguments of a call whose parenthesis was taken.
    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        let mut out = Vec::new();
        if self.take(Sort::CloseParen) {
            return Ok(out);
        }
        loop {
            out.push(self.expr()?);
            if !self.take(Sort::Comma) {
                self.expect(Sort::CloseParen)?;
                return Ok(out);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.token();
        let at = token.start;
        self.at += usize::from(token.sort != Sort::End);
        let written = |parser: &Parser| parser.tokens.text(token);
        let value = match token.sort {
            Sort::Int => Value::Int(sound(literal::int(&written(self)))?),
            Sort::Uint => Value::Uint(sound(literal::uint(&written(self)))?),
            Sort::Double => Value::Double(sound(literal::double(&written(self)))?),
            Sort::Minus => {
                let number = format!("-{}", self.tokens.text(self.token()));
                let value = match self.peek() {
                    Sort::Int => Value::Int(sound(literal::int(&number))?),
                    Sort::Double => Value::Double(sound(literal::double(&number))?),
                    _ => return Err(Refused::Broken),
                };
                self.at += 1;
                value
            }
            Sort::Text => Value::String(Str::from(sound(literal::text(&written(self)).ok())?)),
            Sort::Bytes => Value::Bytes(Arc::from(sound(literal::bytes(&written(self)).ok())?)),
            Sort::True => Value::Bool(true),
            Sort::False => Value::Bool(false),
            Sort::Null => Value::Null,
            Sort::OpenParen => {
                let inner = self.expr()?;
                self.expect(Sort::CloseParen)?;
                return Ok(inner);
            }
            Sort::OpenBracket => return self.list_literal(at),
            Sort::OpenBrace => return self.map_literal(at),
            Sort::Dot => return self.name(true),
            Sort::Ident => {
                self.at -= 1;
                return self.name(false);
            }
            _ => return Err(Refused::Broken),
        };
        Ok(Expr::new(at, Kind::Literal(value)))
    }

    /// A name, a call of a function, or a message. After a dot, which the name keeps, no variable of a macro is meant.
    fn name(&mut self, rooted: bool) -> Parsed<Expr> {
        let at = self.offset();
        let root = if rooted { "." } else { "" };
        if let Some(open) = self.message_ahead() {
            let mut name = format!("{root}{}", self.text(Sort::Ident)?);
            while self.at < open {
                self.expect(Sort::Dot)?;
                name = format!("{name}.{}", self.text(Sort::Ident)?);
            }
            let at = self.offset();
            self.at += 1;
            return self.message(at, name);
        }
        let name = self.text(Sort::Ident)?;
        if kinds::names::is_cel_reserved(&name) {
            return Err(Refused::Broken);
        }
        let open = self.offset();
        if self.take(Sort::OpenParen) {
            let args = self.arguments()?;
            return macros::global(open, format!("{root}{name}"), args);
        }
        Ok(Expr::new(at, Kind::Ident(format!("{root}{name}"))))
    }

    /// Where the brace of a message is, if names joined by dots lead to one.
    fn message_ahead(&self) -> Option<usize> {
        let sort = |at: usize| self.tokens.list.get(at).map(|token| token.sort);
        let mut at = self.at + 1;
        while sort(at) == Some(Sort::Dot) && sort(at + 1) == Some(Sort::Ident) {
            at += 2;
        }
        (sort(at) == Some(Sort::OpenBrace)).then_some(at)
    }

    /// Whether a list goes on: after a comma that may also be its last sign.
    fn goes_on(&mut self, close: Sort) -> Parsed<bool> {
        if self.take(Sort::Comma) {
            return Ok(!self.take(close));
        }
        self.expect(close)?;
        Ok(false)
    }

    /// Whether a list has no elements; then it is over. A lone comma is allowed.
    fn nothing_in(&mut self, close: Sort) -> bool {
        if self.is(Sort::Comma) && self.next_is(close) {
            self.at += 1;
        }
        self.take(close)
    }

    fn list_literal(&mut self, at: usize) -> Parsed<Expr> {
        let mut items = Vec::new();
        let mut more = !self.nothing_in(Sort::CloseBracket);
        while more {
            let optional = self.take(Sort::Question);
            items.push((self.expr()?, optional));
            more = self.goes_on(Sort::CloseBracket)?;
        }
        Ok(Expr::new(at, Kind::List(items)))
    }

    fn message(&mut self, at: usize, name: String) -> Parsed<Expr> {
        let mut fields = Vec::new();
        let mut more = !self.nothing_in(Sort::CloseBrace);
        while more {
            let optional = self.take(Sort::Question);
            let name = self.text(Sort::Ident)?;
            let at = self.offset();
            self.expect(Sort::Colon)?;
            let value = self.expr()?;
            fields.push(Given {
                at,
                name,
                value,
                optional,
            });
            more = self.goes_on(Sort::CloseBrace)?;
        }
        Ok(Expr::new(at, Kind::Message(name, fields)))
    }

    fn map_literal(&mut self, at: usize) -> Parsed<Expr> {
        let mut entries = Vec::new();
        let mut more = !self.nothing_in(Sort::CloseBrace);
        while more {
            let optional = self.take(Sort::Question);
            let key = self.expr()?;
            self.expect(Sort::Colon)?;
            entries.push((key, self.expr()?, optional));
            more = self.goes_on(Sort::CloseBrace)?;
        }
        Ok(Expr::new(at, Kind::Map(entries)))
    }
}

/// One more link of a chain.
fn link(links: usize) -> Parsed<usize> {
    match links >= CHAIN {
        true => Err(Refused::Deep(CHAIN)),
        false => Ok(links + 1),
    }
}

/// A literal, unless it stands for nothing.
fn sound<T>(value: Option<T>) -> Parsed<T> {
    value.ok_or(Refused::Broken)
}

fn select(at: usize, operand: Expr, field: String, optional: bool) -> Expr {
    let kind = Kind::Select {
        operand: Box::new(operand),
        field,
        test: false,
        optional,
    };
    Expr::new(at, kind)
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
