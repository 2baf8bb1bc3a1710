//! What Go's decoder says of bytes that are no JSON. Ours finds the same faults in other words, so the text is read
//! once more, only to name the first of them.

/// The words of `encoding/json` for the first fault of a text; `None` for JSON that is well-formed.
pub(crate) fn json_fault(text: &[u8]) -> Option<String> {
    let mut scan = Scan { text, at: 0 };
    let mut open: Vec<u8> = Vec::new();
    match scan.values(&mut open) {
        Ok(()) => None,
        Err(Fault::End) => Some("unexpected end of JSON input".into()),
        Err(Fault::At(c, place)) => Some(format!("invalid character {} {place}", shown(c))),
    }
}

enum Fault {
    End,
    At(u8, String),
}

fn shown(c: u8) -> String {
    match c {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        // Go names what has no letter of its own by its number.
        c if c.is_ascii_control() && !matches!(c, 7..=13) => format!("'\\x{c:02x}'"),
        c => {
            let quoted = kinds::field::quoted(&char::from(c).to_string());
            format!("'{}'", quoted.trim_matches('"'))
        }
    }
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
}

const OF_VALUE: &str = "looking for beginning of value";
const OF_KEY: &str = "looking for beginning of object key string";

impl Scan<'_> {
    fn next(&mut self) -> Result<u8, Fault> {
        let c = *self.text.get(self.at).ok_or(Fault::End)?;
        self.at += 1;
        Ok(c)
    }

    fn blank(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn next_mark(&mut self) -> Result<u8, Fault> {
        self.blank();
        self.next()
    }

    /// One value after another, as brackets open and close: no recursion, since nobody bounded the depth yet.
    fn values(&mut self, open: &mut Vec<u8>) -> Result<(), Fault> {
        loop {
            // A value begins.
            let c = self.next_mark()?;
            let ended = match c {
                b'{' => {
                    open.push(c);
                    match self.next_mark()? {
                        b'}' => true,
                        c => {
                            self.key(c)?;
                            false
                        }
                    }
                }
                b'[' => {
                    open.push(c);
                    self.blank();
                    let empty = self.text.get(self.at) == Some(&b']');
                    self.at += usize::from(empty);
                    empty
                }
                c => {
                    self.scalar(c)?;
                    self.after(open)?;
                    if open.is_empty() {
                        return self.end();
                    }
                    continue;
                }
            };
            if !ended {
                continue;
            }
            open.pop();
            self.after(open)?;
            if open.is_empty() {
                return self.end();
            }
        }
    }

    /// What stands after a value, up to where the next one begins.
    fn after(&mut self, open: &mut Vec<u8>) -> Result<(), Fault> {
        while let Some(bracket) = open.last() {
            match (bracket, self.next_mark()?) {
                (b'{', b',') => {
                    let c = self.next_mark()?;
                    return self.key(c);
                }
                (b'[', b',') => return Ok(()),
                (b'{', b'}') | (b'[', b']') => {
                    open.pop();
                }
                (b'{', c) => return Err(Fault::At(c, "after object key:value pair".into())),
                (_, c) => return Err(Fault::At(c, "after array element".into())),
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.blank();
        match self.text.get(self.at) {
            None => Ok(()),
            Some(c) => Err(Fault::At(*c, "after top-level value".into())),
        }
    }

    fn key(&mut self, c: u8) -> Result<(), Fault> {
        if c != b'"' {
            return Err(Fault::At(c, OF_KEY.into()));
        }
        self.string()?;
        match self.next_mark()? {
            b':' => Ok(()),
            c => Err(Fault::At(c, "after object key".into())),
        }
    }

    fn string(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let c = self.next()?;
                            if !c.is_ascii_hexdigit() {
                                return Err(Fault::At(c, r"in \u hexadecimal character escape".into()));
                            }
                        }
                    }
                    c => return Err(Fault::At(c, "in string escape code".into())),
                },
                c if c < b' ' => return Err(Fault::At(c, "in string literal".into())),
                _ => {}
            }
        }
    }

    fn scalar(&mut self, c: u8) -> Result<(), Fault> {
        match c {
            b'"' => self.string(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' => match self.number_next()? {
                c if c.is_ascii_digit() => self.number(c),
                c => Err(Fault::At(c, "in numeric literal".into())),
            },
            c if c.is_ascii_digit() => self.number(c),
            c => Err(Fault::At(c, OF_VALUE.into())),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        for wanted in word.bytes().skip(1) {
            // Go ends every text with a blank, and so finds one in a word that is cut off.
            let c = self.number_next()?;
            if c != wanted {
                let place = format!("in literal {word} (expecting '{}')", char::from(wanted));
                return Err(Fault::At(c, place));
            }
        }
        Ok(())
    }

    fn number_next(&mut self) -> Result<u8, Fault> {
        let c = self.text.get(self.at).copied().unwrap_or(b' ');
        self.at += 1;
        Ok(c)
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn number(&mut self, first: u8) -> Result<(), Fault> {
        if first != b'0' {
            self.digits();
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            let c = self.number_next()?;
            if !c.is_ascii_digit() {
                return Err(Fault::At(c, "after decimal point in numeric literal".into()));
            }
            self.digits();
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            let mut c = self.number_next()?;
            if matches!(c, b'+' | b'-') {
                c = self.number_next()?;
            }
            if !c.is_ascii_digit() {
                return Err(Fault::At(c, "in exponent of numeric literal".into()));
            }
            self.digits();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_gos() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("[1, {\"a\": 2", "unexpected end of JSON input"),
            ("{\"a\"}", "invalid character '}' after object key"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            (
                "{\"a\":1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            (
                "{\"a\":tru}",
                "invalid character '}' in literal true (expecting 'e')",
            ),
            ("nul", "invalid character ' ' in literal null (expecting 'l')"),
            ("{\"a\":01}", "invalid character '1' after object key:value pair"),
            (
                "{\"a\":1.}",
                "invalid character '}' after decimal point in numeric literal",
            ),
            (
                "{\"a\":1ex}",
                "invalid character 'x' in exponent of numeric literal",
            ),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"a\":\"\u{1}\"}", "invalid character '\\x01' in string literal"),
            ("{\"a\":\"\\q\"}", "invalid character 'q' in string escape code"),
            (
                "{'a':1}",
                "invalid character '\\'' looking for beginning of object key string",
            ),
            ("{} x", "invalid character 'x' after top-level value"),
        ];
        for (text, fault) in cases {
            assert_eq!(json_fault(text.as_bytes()).as_deref(), Some(fault), "{text}");
        }
        for good in [
            "{}",
            " [] ",
            "{\"a\": [1, {\"b\": {}}, \"x\"], \"c\": -0.5e+3}",
            "true",
        ] {
            assert_eq!(json_fault(good.as_bytes()), None, "{good}");
        }
    }
}
