//! Tokens of an expression.

use crate::ast::Finding;

/// One token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    /// A field name in backticks.
    Quoted(String),
    Int(i64),
    /// Digits of `9223372036854775808`, which only a minus makes an int.
    IntMin,
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

/// Symbols, longer ones first.
const SYMBOLS: [&str; 27] = [
    "==", "!=", "<=", ">=", "&&", "||", "[?", ".?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(",
    ")", "[", "]", "{", "}", ",", ".", "=",
];

/// Splits a text; each token with its offset in characters.
pub(crate) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Finding> {
    let mut lexer = Lexer {
        chars: text.chars().collect(),
        at: 0,
    };
    let mut out = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.next_token()?;
        let end = token == Token::End;
        out.push((at, token));
        if end {
            return Ok(out);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(c) = self.peek(0) {
            if c.is_whitespace() {
                self.at += 1;
            } else if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    fn fail(&self, at: usize, what: impl Into<String>) -> Finding {
        Finding::new(at, what)
    }

    fn next_token(&mut self) -> Result<Token, Finding> {
        let Some(c) = self.peek(0) else {
            return Ok(Token::End);
        };
        if c.is_ascii_digit() || (c == '.' && self.peek(1).is_some_and(|d| d.is_ascii_digit())) {
            return self.number();
        }
        if let Some(token) = self.literal()? {
            return Ok(token);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let start = self.at;
            while self
                .peek(0)
                .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            {
                self.at += 1;
            }
            return Ok(Token::Ident(self.chars[start..self.at].iter().collect()));
        }
        if c == '`' {
            let start = self.at;
            self.at += 1;
            let from = self.at;
            while self.peek(0).is_some_and(|c| c != '`') {
                self.at += 1;
            }
            if self.peek(0).is_none() {
                return Err(self.fail(start, "Syntax error: token recognition error at: '`'"));
            }
            let name = self.chars[from..self.at].iter().collect();
            self.at += 1;
            return Ok(Token::Quoted(name));
        }
        for symbol in SYMBOLS {
            if symbol.chars().enumerate().all(|(i, s)| self.peek(i) == Some(s)) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err(self.fail(
            self.at,
            format!("Syntax error: token recognition error at: '{c}'"),
        ))
    }

    fn number(&mut self) -> Result<Token, Finding> {
        let start = self.at;
        let hex = self.peek(0) == Some('0') && matches!(self.peek(1), Some('x' | 'X'));
        if hex {
            self.at += 2;
            while self.peek(0).is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 1;
            }
            let digits: String = self.chars[start + 2..self.at].iter().collect();
            return self.whole(start, &digits, 16);
        }
        let mut fractional = false;
        while let Some(c) = self.peek(0) {
            let digit_follows = self.peek(1).is_some_and(|d| d.is_ascii_digit());
            match c {
                '0'..='9' => {}
                '.' if digit_follows && !fractional => fractional = true,
                'e' | 'E' => {
                    let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
                    if !self.peek(1 + sign).is_some_and(|d| d.is_ascii_digit()) {
                        break;
                    }
                    fractional = true;
                    self.at += 1 + sign;
                    while self.peek(0).is_some_and(|d| d.is_ascii_digit()) {
                        self.at += 1;
                    }
                    break;
                }
                _ => break,
            }
            self.at += 1;
        }
        let digits: String = self.chars[start..self.at].iter().collect();
        if fractional {
            return match digits.parse() {
                Ok(number) => Ok(Token::Double(number)),
                Err(_) => Err(self.fail(start, "invalid double literal")),
            };
        }
        self.whole(start, &digits, 10)
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, Finding> {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return match u64::from_str_radix(digits, radix) {
                Ok(number) => Ok(Token::Uint(number)),
                Err(_) => Err(self.fail(start, "invalid uint literal")),
            };
        }
        match u64::from_str_radix(digits, radix) {
            Ok(number) if number <= i64::MAX as u64 => Ok(Token::Int(number as i64)),
            Ok(number) if number == 1 << 63 => Ok(Token::IntMin),
            _ => Err(self.fail(start, "invalid int literal")),
        }
    }

    /// Texts and bytes: `"…"`, `'…'`, tripled quotes, prefixes `r` and `b`.
    fn literal(&mut self) -> Result<Option<Token>, Finding> {
        let start = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        while let Some(c) = self.peek(ahead) {
            match c {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => break,
            }
            ahead += 1;
        }
        let Some(quote) = self.peek(ahead).filter(|c| matches!(c, '"' | '\'')) else {
            return Ok(None);
        };
        self.at += ahead;
        let tripled = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let width = if tripled { 3 } else { 1 };
        self.at += width;
        let (mut text, mut data) = (String::new(), Vec::new());
        loop {
            let closes = (0..width).all(|i| self.peek(i) == Some(quote));
            if closes {
                self.at += width;
                break;
            }
            let unfinished = || {
                Finding::new(
                    start,
                    format!("Syntax error: token recognition error at: '{quote}'"),
                )
            };
            let c = self.peek(0).ok_or_else(unfinished)?;
            if c == '\n' && !tripled {
                return Err(unfinished());
            }
            if c != '\\' || raw {
                self.at += 1;
                text.push(c);
                data.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            self.escaped(bytes, &mut text, &mut data)?;
        }
        Ok(Some(if bytes {
            Token::Bytes(data)
        } else {
            Token::Text(text)
        }))
    }

    fn escaped(&mut self, bytes: bool, text: &mut String, data: &mut Vec<u8>) -> Result<(), Finding> {
        let at = self.at;
        let bad = || Finding::new(at, "Syntax error: invalid escape sequence");
        let c = self.peek(1).ok_or_else(bad)?;
        self.at += 2;
        let digits = |lexer: &mut Lexer, count: usize, radix: u32| -> Result<u32, Finding> {
            let mut number = 0;
            for _ in 0..count {
                let digit = lexer.peek(0).and_then(|d| d.to_digit(radix)).ok_or_else(bad)?;
                number = number * radix + digit;
                lexer.at += 1;
            }
            Ok(number)
        };
        let simple = match c {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            '\\' | '"' | '\'' | '`' | '?' => Some(c),
            _ => None,
        };
        let code = match (simple, c) {
            (Some(c), _) => u32::from(c),
            (None, 'x' | 'X') => digits(self, 2, 16)?,
            (None, 'u') if !bytes => digits(self, 4, 16)?,
            (None, 'U') if !bytes => digits(self, 8, 16)?,
            (None, '0'..='3') => {
                self.at -= 1;
                digits(self, 3, 8)?
            }
            _ => return Err(bad()),
        };
        if bytes {
            data.push(u8::try_from(code).map_err(|_| bad())?);
        } else {
            text.push(char::from_u32(code).ok_or_else(bad)?);
        }
        Ok(())
    }
}
