//! Tokens of an expression: kinds and places, and the pieces of text that are no token.

/// What a token is. The order is that in which expected tokens are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Sort {
    End,
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Dot,
    Comma,
    Minus,
    Not,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Double,
    Int,
    Uint,
    Text,
    Bytes,
    Ident,
    /// A field name in backticks, which the grammar knows but Kubernetes does not allow.
    Quoted,
}

impl Sort {
    /// All of them, in order, each as messages name it.
    pub(crate) const NAMES: [(Sort, &str); 36] = [
        (Sort::End, "<EOF>"),
        (Sort::Equals, "'=='"),
        (Sort::NotEquals, "'!='"),
        (Sort::In, "'in'"),
        (Sort::Less, "'<'"),
        (Sort::LessEquals, "'<='"),
        (Sort::GreaterEquals, "'>='"),
        (Sort::Greater, "'>'"),
        (Sort::And, "'&&'"),
        (Sort::Or, "'||'"),
        (Sort::OpenBracket, "'['"),
        (Sort::CloseBracket, "']'"),
        (Sort::OpenBrace, "'{'"),
        (Sort::CloseBrace, "'}'"),
        (Sort::OpenParen, "'('"),
        (Sort::CloseParen, "')'"),
        (Sort::Dot, "'.'"),
        (Sort::Comma, "','"),
        (Sort::Minus, "'-'"),
        (Sort::Not, "'!'"),
        (Sort::Question, "'?'"),
        (Sort::Colon, "':'"),
        (Sort::Plus, "'+'"),
        (Sort::Star, "'*'"),
        (Sort::Slash, "'/'"),
        (Sort::Percent, "'%'"),
        (Sort::True, "'true'"),
        (Sort::False, "'false'"),
        (Sort::Null, "'null'"),
        (Sort::Double, "NUM_FLOAT"),
        (Sort::Int, "NUM_INT"),
        (Sort::Uint, "NUM_UINT"),
        (Sort::Text, "STRING"),
        (Sort::Bytes, "BYTES"),
        (Sort::Ident, "IDENTIFIER"),
        (Sort::Quoted, "ESC_IDENTIFIER"),
    ];
}

/// One token: its characters are those from `start` up to `end`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Token {
    pub sort: Sort,
    pub start: usize,
    pub end: usize,
}

/// Characters that begin no token, with the one that made it sure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Junk {
    pub start: usize,
    pub end: usize,
    /// Index of the token that follows.
    pub before: usize,
}

/// A text in tokens; the last is [`Sort::End`].
#[derive(Debug)]
pub(crate) struct Tokens {
    pub chars: Vec<char>,
    pub list: Vec<Token>,
    pub junk: Vec<Junk>,
}

impl Tokens {
    pub(crate) fn of(text: &str) -> Tokens {
        let mut lexer = Lexer {
            chars: text.chars().collect(),
            at: 0,
        };
        let (mut list, mut junk) = (Vec::new(), Vec::new());
        loop {
            lexer.skip_blank();
            let start = lexer.at;
            let Some(first) = lexer.peek(0) else {
                list.push(Token {
                    sort: Sort::End,
                    start,
                    end: start,
                });
                break;
            };
            match lexer.token(first) {
                Found::Token(sort, end) => {
                    list.push(Token { sort, start, end });
                    lexer.at = end;
                }
                Found::Nothing(stopped) => {
                    let end = lexer.chars.len().min(stopped + 1);
                    let before = list.len();
                    junk.push(Junk { start, end, before });
                    lexer.at = end;
                }
            }
        }
        Tokens {
            chars: lexer.chars,
            list,
            junk,
        }
    }

    /// The characters of a token.
    pub(crate) fn text(&self, token: Token) -> String {
        self.chars[token.start..token.end].iter().collect()
    }
}

/// What begins at a place: a token with its end, or nothing, known at the character that fits nothing.
enum Found {
    Token(Sort, usize),
    Nothing(usize),
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
            match c {
                '\t' | ' ' | '\r' | '\n' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    /// The end of the run of characters of a class that begins at a place.
    fn run(&self, from: usize, class: impl Fn(char) -> bool) -> usize {
        let rest = &self.chars[from.min(self.chars.len())..];
        from + rest.iter().take_while(|c| class(**c)).count()
    }

    fn token(&self, first: char) -> Found {
        let second = self.peek(1);
        let one = |sort| Found::Token(sort, self.at + 1);
        let two = |wanted: char, sort, alone: Option<Sort>| match (second == Some(wanted), alone) {
            (true, _) => Found::Token(sort, self.at + 2),
            (false, Some(alone)) => Found::Token(alone, self.at + 1),
            (false, None) => Found::Nothing(self.at + 1),
        };
        match first {
            '=' => two('=', Sort::Equals, None),
            '!' => two('=', Sort::NotEquals, Some(Sort::Not)),
            '<' => two('=', Sort::LessEquals, Some(Sort::Less)),
            '>' => two('=', Sort::GreaterEquals, Some(Sort::Greater)),
            '&' => two('&', Sort::And, None),
            '|' => two('|', Sort::Or, None),
            '[' => one(Sort::OpenBracket),
            ']' => one(Sort::CloseBracket),
            '{' => one(Sort::OpenBrace),
            '}' => one(Sort::CloseBrace),
            '(' => one(Sort::OpenParen),
            ')' => one(Sort::CloseParen),
            ',' => one(Sort::Comma),
            '-' => one(Sort::Minus),
            '?' => one(Sort::Question),
            ':' => one(Sort::Colon),
            '+' => one(Sort::Plus),
            '*' => one(Sort::Star),
            '/' => one(Sort::Slash),
            '%' => one(Sort::Percent),
            '.' if !second.is_some_and(|c| c.is_ascii_digit()) => one(Sort::Dot),
            '0'..='9' | '.' => self.number(),
            '`' => self.quoted(),
            '\'' | '"' => self.literal(self.at, false, Sort::Text),
            'a'..='z' | 'A'..='Z' | '_' => self.word(first),
            _ => Found::Nothing(self.at),
        }
    }

    fn number(&self) -> Found {
        let digits = |from| self.run(from, |c| c.is_ascii_digit());
        let unsigned = |end: usize| matches!(self.chars.get(end), Some('u' | 'U'));
        let whole = |end: usize| match unsigned(end) {
            true => Found::Token(Sort::Uint, end + 1),
            false => Found::Token(Sort::Int, end),
        };
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') {
            let end = self.run(self.at + 2, |c| c.is_ascii_hexdigit());
            if end > self.at + 2 {
                return whole(end);
            }
        }
        let mut end = digits(self.at);
        let mut double = false;
        if self.chars.get(end) == Some(&'.') && digits(end + 1) > end + 1 {
            (double, end) = (true, digits(end + 1));
        }
        if matches!(self.chars.get(end), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.chars.get(end + 1), Some('+' | '-')));
            let from = end + 1 + sign;
            if digits(from) > from {
                (double, end) = (true, digits(from));
            }
        }
        match double {
            true => Found::Token(Sort::Double, end),
            false => whole(end),
        }
    }

    fn quoted(&self) -> Found {
        let end = self.run(self.at + 1, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' ')
        });
        match self.chars.get(end) {
            Some('`') if end > self.at + 1 => Found::Token(Sort::Quoted, end + 1),
            _ => Found::Nothing(end),
        }
    }

    /// A name, a word of the language, or a literal with a prefix.
    fn word(&self, first: char) -> Found {
        let bytes = matches!(first, 'b' | 'B');
        let ahead = usize::from(bytes);
        let raw = matches!(self.peek(ahead), Some('r' | 'R'));
        let ahead = ahead + usize::from(raw);
        if ahead > 0 && matches!(self.peek(ahead), Some('\'' | '"')) {
            let sort = if bytes { Sort::Bytes } else { Sort::Text };
            if let Found::Token(sort, end) = self.literal(self.at + ahead, raw, sort) {
                return Found::Token(sort, end);
            }
        }
        let end = self.run(self.at, |c| c.is_ascii_alphanumeric() || c == '_');
        let is = |word: &str| word.chars().eq(self.chars[self.at..end].iter().copied());
        let sort = match first {
            'i' if is("in") => Sort::In,
            't' if is("true") => Sort::True,
            'f' if is("false") => Sort::False,
            'n' if is("null") => Sort::Null,
            _ => Sort::Ident,
        };
        Found::Token(sort, end)
    }

    /// A literal whose first quote is at `open`: the longest there is, in one quote or in three.
    fn literal(&self, open: usize, raw: bool, sort: Sort) -> Found {
        let quote = self.chars[open];
        let mut stopped = open;
        for width in [3, 1] {
            let is_quotes = |at: usize| (0..width).all(|i| self.chars.get(at + i) == Some(&quote));
            if !is_quotes(open) {
                continue;
            }
            let mut at = open + width;
            loop {
                if is_quotes(at) {
                    return Found::Token(sort, at + width);
                }
                match self.chars.get(at) {
                    Some('\n' | '\r') if width == 1 => break,
                    Some('\\') if !raw => match self.escape(at) {
                        Ok(end) => at = end,
                        Err(wrong) => {
                            at = wrong;
                            break;
                        }
                    },
                    Some(_) => at += 1,
                    None => break,
                }
            }
            stopped = stopped.max(at);
        }
        Found::Nothing(stopped)
    }

    /// The end of the escape sequence at a place, or where it stops to be one.
    fn escape(&self, at: usize) -> Result<usize, usize> {
        let (radix, count) = match self.chars.get(at + 1) {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => (16, 0),
            Some('0'..='3') => (8, 2),
            Some('x' | 'X') => (16, 2),
            Some('u') => (16, 4),
            Some('U') => (16, 8),
            _ => return Err(at + 1),
        };
        let from = at + 2;
        let end = self.run(from, |c| c.is_digit(radix)).min(from + count);
        match end == from + count {
            true => Ok(end),
            false => Err(end),
        }
    }
}
