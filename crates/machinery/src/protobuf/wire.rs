//! The protobuf wire format: varints, lengths, and fields of bytes. Written by hand because the messages are data.

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("proto: integer overflow")]
    Overflow,
    /// A wire type that Kubernetes' messages never have, or field number 0.
    #[error("proto: illegal tag {0}")]
    IllegalTag(u64),
}

/// Builds a message.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// The bytes.
    pub fn finish(self) -> Vec<u8> {
        self.buffer
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// Bytes as they are, outside any field.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// A varint field; zero is written too.
    pub fn varint(&mut self, tag: u32, value: u64) {
        self.raw_varint(u64::from(tag) << 3);
        self.raw_varint(value);
    }

    /// A field of eight bytes.
    pub fn double(&mut self, tag: u32, value: f64) {
        self.raw_varint(u64::from(tag) << 3 | 1);
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// A bytes field; emptiness is written too.
    pub fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.raw_varint(u64::from(tag) << 3 | 2);
        self.raw_varint(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
    }

    /// A text field, left out when empty.
    pub fn text(&mut self, tag: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    /// A boolean field, left out when false.
    pub fn flag(&mut self, tag: u32, flag: bool) {
        if flag {
            self.varint(tag, 1);
        }
    }

    /// A message inside. Its length comes before it, so it is written behind a gap of one byte that is widened
    /// when the length needs more: most messages are short.
    pub fn message(&mut self, tag: u32, write: impl FnOnce(&mut Writer)) {
        self.raw_varint(u64::from(tag) << 3 | 2);
        let gap = self.buffer.len();
        self.buffer.push(0);
        write(self);
        self.close(gap);
    }

    /// As [`Writer::message`], for writers that can fail.
    pub fn try_message<E>(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), E>,
    ) -> Result<(), E> {
        self.raw_varint(u64::from(tag) << 3 | 2);
        let gap = self.buffer.len();
        self.buffer.push(0);
        write(self)?;
        self.close(gap);
        Ok(())
    }

    fn close(&mut self, gap: usize) {
        let mut length = self.buffer.len() - gap - 1;
        if length < 0x80 {
            self.buffer[gap] = length as u8;
            return;
        }
        let mut varint = [0_u8; 10];
        let mut used = 0;
        while length >= 0x80 {
            varint[used] = (length as u8 & 0x7f) | 0x80;
            length >>= 7;
            used += 1;
        }
        varint[used] = length as u8;
        self.buffer.splice(gap..=gap, varint[..=used].iter().copied());
    }
}

/// The content of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// Reads the fields of a message one after another.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of a message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for (index, byte) in self.rest.iter().enumerate() {
            if index == 10 || (index == 9 && *byte > 1) {
                return Err(WireError::Overflow);
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next number of a packed field; none at the end.
    pub fn packed(&mut self) -> Result<Option<u64>, WireError> {
        if self.rest.is_empty() {
            Ok(None)
        } else {
            self.varint().map(Some)
        }
    }

    /// The next field and its number; none at the end.
    pub fn field(&mut self) -> Result<Option<(u32, Content<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3)
            .ok()
            .filter(|tag| *tag > 0)
            .ok_or(WireError::IllegalTag(key))?;
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(
                self.take(8)?
                    .try_into()
                    .map(u64::from_le_bytes)
                    .map_err(|_| WireError::Truncated)?,
            ),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
                Content::Bytes(self.take(length)?)
            }
            5 => Content::Fixed32(
                self.take(4)?
                    .try_into()
                    .map(u32::from_le_bytes)
                    .map_err(|_| WireError::Truncated)?,
            ),
            _ => return Err(WireError::IllegalTag(key)),
        };
        Ok(Some((tag, content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_get_long_lengths() {
        for length in [0_usize, 1, 127, 128, 16_383, 16_384, 70_000] {
            let mut out = Writer::default();
            out.message(3, |inner| inner.bytes(1, &vec![7; length]));
            out.varint(1, 300);
            let bytes = out.finish();
            let mut reader = Reader::new(&bytes);
            let Ok(Some((3, Content::Bytes(inner)))) = reader.field() else {
                panic!("{length}: no field 3")
            };
            assert_eq!(
                Reader::new(inner).field(),
                Ok(Some((1, Content::Bytes(&vec![7; length]))))
            );
            assert_eq!(reader.field(), Ok(Some((1, Content::Varint(300)))));
            assert_eq!(reader.field(), Ok(None));
        }
    }

    #[test]
    fn broken_bytes_are_errors() {
        let cases: &[(&[u8], WireError)] = &[
            (&[0x0a, 5, 1], WireError::Truncated),
            (&[0x08], WireError::Truncated),
            (
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                WireError::Overflow,
            ),
            (&[0x0b], WireError::IllegalTag(0x0b)),
            (&[0x00, 1], WireError::IllegalTag(0)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reader::new(bytes).field(), Err(expected.clone()), "{bytes:?}");
        }
    }
}
