//! Tokens that begin with `%`, `&`, `*` and `!`: directives, anchors, aliases and tags.

use super::scan::{Kind, Scanner};
use super::text::{is_blank, is_gap, is_word};
use super::words::Fault;

/// Digits of the number of a version.
const MAX_VERSION: usize = 2;

impl Scanner<'_> {
    pub(super) fn scan_directive(&mut self) -> Result<Kind, Fault> {
        self.text.take();
        let name = self.text.take_while(is_word)?;
        if name.is_empty() {
            return Err(self.fault("could not find expected directive name"));
        }
        if !is_gap(self.text.here()) {
            return Err(self.fault("found unexpected non-alphabetical character"));
        }
        let kind = match name.as_str() {
            "YAML" => self.scan_version()?,
            "TAG" => self.scan_tag_directive()?,
            _ => return Err(self.fault("found unknown directive name")),
        };
        self.end_line()?;
        Ok(kind)
    }

    fn scan_version(&mut self) -> Result<Kind, Fault> {
        self.text.skip_while(is_blank)?;
        let major = self.scan_number()?;
        if self.text.here() != '.' {
            return Err(self.fault("did not find expected digit or '.' character"));
        }
        self.text.take();
        Ok(Kind::Version(major, self.scan_number()?))
    }

    fn scan_number(&mut self) -> Result<u8, Fault> {
        let mut digits = String::new();
        self.text.need(1)?;
        while self.text.here().is_ascii_digit() {
            if digits.len() == MAX_VERSION {
                return Err(self.fault("found extremely long version number"));
            }
            digits.push(self.text.take());
            self.text.need(1)?;
        }
        digits
            .parse()
            .map_err(|_| self.fault("did not find expected version number"))
    }

    fn scan_tag_directive(&mut self) -> Result<Kind, Fault> {
        self.text.skip_while(is_blank)?;
        let handle = self.scan_handle(true)?;
        self.text.need(1)?;
        if !is_blank(self.text.here()) {
            return Err(self.fault("did not find expected whitespace"));
        }
        self.text.skip_while(is_blank)?;
        let prefix = self.scan_uri("")?;
        self.text.need(1)?;
        if !is_gap(self.text.here()) {
            return Err(self.fault("did not find expected whitespace or line break"));
        }
        Ok(Kind::TagDirective { handle, prefix })
    }

    /// The name after `&` or `*`.
    pub(super) fn scan_anchor(&mut self) -> Result<String, Fault> {
        self.text.take();
        let name = self.text.take_while(is_word)?;
        let end = self.text.here();
        let is_ended = is_gap(end) || matches!(end, '?' | ':' | ',' | ']' | '}' | '%' | '@' | '`');
        if name.is_empty() || !is_ended {
            return Err(self.fault("did not find expected alphabetic or numeric character"));
        }
        Ok(name)
    }

    pub(super) fn scan_tag(&mut self) -> Result<Kind, Fault> {
        self.text.need(2)?;
        let (handle, suffix) = if self.text.peek(1) == '<' {
            self.text.skip(2);
            let suffix = self.scan_uri("")?;
            if self.text.here() != '>' {
                return Err(self.fault("did not find the expected '>'"));
            }
            self.text.take();
            (String::new(), suffix)
        } else {
            let handle = self.scan_handle(false)?;
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.scan_uri("")?;
                (handle, suffix)
            } else {
                match self.scan_uri(&handle)? {
                    suffix if suffix.is_empty() => (String::new(), "!".to_owned()),
                    suffix => ("!".to_owned(), suffix),
                }
            }
        };
        self.text.need(1)?;
        if !is_gap(self.text.here()) {
            return Err(self.fault("did not find expected whitespace or line break"));
        }
        Ok(Kind::Tag { handle, suffix })
    }

    fn scan_handle(&mut self, in_directive: bool) -> Result<String, Fault> {
        self.text.need(1)?;
        if self.text.here() != '!' {
            return Err(self.fault("did not find expected '!'"));
        }
        let mut handle = String::from(self.text.take());
        handle.push_str(&self.text.take_while(is_word)?);
        if self.text.here() == '!' {
            handle.push(self.text.take());
        } else if in_directive && handle != "!" {
            return Err(self.fault("did not find expected '!'"));
        }
        Ok(handle)
    }

    /// A URI, in front of it what had been taken for a handle.
    fn scan_uri(&mut self, head: &str) -> Result<String, Fault> {
        let mut uri = head.get(1..).unwrap_or_default().as_bytes().to_vec();
        let mut is_there = !head.is_empty();
        self.text.need(1)?;
        loop {
            let c = self.text.here();
            if c == '%' {
                self.scan_escaped(&mut uri)?;
            } else if is_word(c) || (c.is_ascii() && b";/?:@&=+$,.!~*'()[]".contains(&(c as u8))) {
                uri.push(c as u8);
                self.text.take();
            } else {
                break;
            }
            self.text.need(1)?;
            is_there = true;
        }
        if !is_there {
            return Err(self.fault("did not find expected tag URI"));
        }
        Ok(String::from_utf8_lossy(&uri).into_owned())
    }

    /// A character written as `%` and two digits for each of its bytes.
    fn scan_escaped(&mut self, uri: &mut Vec<u8>) -> Result<(), Fault> {
        let mut left = None;
        while left != Some(0) {
            self.text.need(3)?;
            let digits = (self.text.peek(1).to_digit(16), self.text.peek(2).to_digit(16));
            let ('%', (Some(high), Some(low))) = (self.text.here(), digits) else {
                return Err(self.fault("did not find URI escaped octet"));
            };
            let octet = (high << 4 | low) as u8;
            left = Some(match left {
                None => match octet.leading_ones() {
                    0 => 0,
                    ones @ 2..=4 => ones - 1,
                    _ => return Err(self.fault("found an incorrect leading UTF-8 octet")),
                },
                Some(_) if octet & 0xc0 != 0x80 => {
                    return Err(self.fault("found an incorrect trailing UTF-8 octet"));
                }
                Some(left) => left - 1,
            });
            uri.push(octet);
            self.text.skip(3);
        }
        Ok(())
    }
}
