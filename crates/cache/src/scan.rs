//! Goes over encoded JSON and past what nobody asks for.
//!
//! What is passed over is not judged, but for its brackets and quotes: the bytes are our own encoding, read from a store
//! that has checksums.

use std::borrow::Cow;

/// Where bytes are not what an encoder writes.
#[derive(Debug, thiserror::Error)]
#[error("{what} at byte {at}")]
pub(crate) struct Fault {
    what: &'static str,
    at: usize,
}

/// A place in encoded JSON.
pub(crate) struct Scanner<'j> {
    json: &'j [u8],
    at: usize,
    /// A value has been read in the list or map that is being read.
    behind_value: bool,
}

impl<'j> Scanner<'j> {
    pub(crate) fn new(json: &'j [u8]) -> Self {
        Scanner {
            json,
            at: 0,
            behind_value: false,
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { what, at: self.at }
    }

    /// The first byte of what comes next.
    pub(crate) fn peek(&mut self) -> Result<u8, Fault> {
        loop {
            match self.json.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(self.fault("an end too early")),
            }
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek()? != byte {
            return Err(self.fault(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Goes into a map or a list.
    pub(crate) fn open(&mut self, bracket: u8) -> Result<(), Fault> {
        self.behind_value = false;
        self.expect(bracket, "no map and no list")
    }

    /// Goes to the next value of a map or list, or out of it behind its last.
    fn next(&mut self, closing: u8) -> Result<bool, Fault> {
        if self.peek()? == closing {
            self.at += 1;
            self.behind_value = true;
            return Ok(false);
        }
        if std::mem::take(&mut self.behind_value) {
            self.expect(b',', "no comma")?;
        }
        Ok(true)
    }

    /// The name of the next entry of a map; its value is read next.
    pub(crate) fn entry(&mut self) -> Result<Option<Cow<'j, str>>, Fault> {
        if !self.next(b'}')? {
            return Ok(None);
        }
        let name = self.text()?;
        self.expect(b':', "no colon")?;
        Ok(Some(name))
    }

    /// Whether a list has another item, which is read next.
    pub(crate) fn item(&mut self) -> Result<bool, Fault> {
        self.next(b']')
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<Cow<'j, str>, Fault> {
        self.expect(b'"', "no text")?;
        let start = self.at;
        let escaped = self.past_quote()?;
        self.behind_value = true;
        if escaped {
            let whole = &self.json[start - 1..self.at];
            let read = serde_json::from_slice(whole).map(Cow::Owned);
            return read.map_err(|_| self.fault("no text ends"));
        }
        let plain = std::str::from_utf8(&self.json[start..self.at - 1]);
        plain.map(Cow::Borrowed).map_err(|_| self.fault("no text ends"))
    }

    /// A number, `true`, `false` or `null`, as it is written.
    pub(crate) fn word(&mut self) -> Result<&'j str, Fault> {
        let rest = &self.json[self.at..];
        let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"+-.".contains(byte);
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let word = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        if word.is_empty() {
            return Err(self.fault("no value"));
        }
        self.at += length;
        self.behind_value = true;
        Ok(word)
    }

    /// Goes past a value.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        match self.peek()? {
            b'"' => {
                self.at += 1;
                self.past_quote()?;
            }
            b'{' | b'[' => self.past_brackets()?,
            _ => drop(self.word()?),
        }
        self.behind_value = true;
        Ok(())
    }

    fn past_brackets(&mut self) -> Result<(), Fault> {
        let (json, mut at, mut depth) = (self.json, self.at, 0);
        while let Some(byte) = json.get(at) {
            at += 1;
            match byte {
                b'"' => match past_quote(json, at) {
                    Some((end, _)) => at = end,
                    None => break,
                },
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = at;
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        Err(self.fault("a bracket is not closed"))
    }

    /// Goes from within a text past its end; whether something in it is escaped.
    fn past_quote(&mut self) -> Result<bool, Fault> {
        let (end, escaped) =
            past_quote(self.json, self.at).ok_or_else(|| self.fault("a text does not end"))?;
        self.at = end;
        Ok(escaped)
    }

    /// Nothing may follow.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(self.fault("more than one value")),
        }
    }
}

/// Where a text ends that has begun before `at`, and whether something in it is escaped.
fn past_quote(json: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escaped = false;
    loop {
        // Eight bytes at a time, as long as none of them is special.
        while let Some(eight) = json.get(at..)?.first_chunk::<8>() {
            let before = first_special(u64::from_le_bytes(*eight));
            at += before;
            if before < 8 {
                break;
            }
        }
        match json.get(at)? {
            b'"' => return Some((at + 1, escaped)),
            b'\\' => {
                escaped = true;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// How many bytes of eight come before the first quote or backslash.
fn first_special(eight: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    // The top bit of the lowest byte that is zero, and perhaps of some above it.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let of = |byte: u8| zeros(eight ^ (ONES * u64::from(byte)));
    ((of(b'"') | of(b'\\')).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_over_values_of_every_kind() {
        let values = [
            "1",
            "-1.5e+3",
            "null",
            "true",
            r#""""#,
            r#""a\"}]{[\\""#,
            r#""exactly8""#,
            r#""longer than sixteen bytes, with ü and \u00fc""#,
            "[]",
            "{}",
            r#"[1,[2,{"a":"]"}],"\\"]"#,
            r#"{ "a" : [ ] , "b" : {"c":"}"} }"#,
        ];
        for value in values {
            let json = format!(r#"{{"before":{value},"wanted":"x"}}"#);
            let mut scanner = Scanner::new(json.as_bytes());
            scanner.open(b'{').unwrap();
            assert_eq!(scanner.entry().unwrap().unwrap(), "before", "{value}");
            scanner.skip().unwrap();
            assert_eq!(scanner.entry().unwrap().unwrap(), "wanted", "{value}");
            assert_eq!(scanner.text().unwrap(), "x", "{value}");
            assert!(scanner.entry().unwrap().is_none(), "{value}");
            scanner.end().unwrap();
        }
    }

    #[test]
    fn reads_texts_with_and_without_escapes() {
        for text in [
            "",
            "a",
            "a\"b",
            "\\",
            "tab\t",
            "ü and \u{1f600}",
            "12345678\"",
            "1234567\\",
        ] {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(Scanner::new(json.as_bytes()).text().unwrap(), text);
        }
    }

    #[test]
    fn what_is_cut_off_is_a_fault() {
        let json = r#"{"a":{"b":["c\"d",1]},"e":"f"}"#;
        let read = |json: &str| -> Result<(), Fault> {
            let mut scanner = Scanner::new(json.as_bytes());
            scanner.open(b'{')?;
            while scanner.entry()?.is_some() {
                scanner.skip()?;
            }
            scanner.end()
        };
        assert!(read(json).is_ok());
        for length in 0..json.len() {
            assert!(read(&json[..length]).is_err(), "{length}");
        }
        for wrong in [r#"{"a":1}}"#, r#"{"a" 1}"#, r#"{"a":}"#, r#"{"a":1 "b":2}"#, "[]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
