//! The Redis protocol (RESP2): one command, one reply. Replies are bounded in size and depth.

use std::fmt;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The longest string in a reply, in bytes.
const MAX_STRING: usize = 64 << 10;
/// The most elements of a list.
const MAX_ELEMENTS: usize = 1024;
/// The longest line, in bytes.
const MAX_LINE: u64 = 4096;

/// A reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Simple(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    List(Vec<Option<Vec<u8>>>),
}

/// Why there is no reply.
#[derive(Debug)]
pub enum ReplyError {
    /// Redis refuses the command, in its own words.
    Refused(String),
    /// What came is not the protocol.
    Malformed(String),
    /// The connection broke.
    Io(io::Error),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => write!(formatter, "Redis answers: {text}"),
            Self::Malformed(text) => write!(formatter, "Redis answers something strange: {text}"),
            Self::Io(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for ReplyError {}

impl From<io::Error> for ReplyError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A command as an array of bulk strings.
pub fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).into_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Reads one reply; a list must be flat, as those of the commands used here are.
pub async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Reply, ReplyError> {
    let line = line(stream).await?;
    let (kind, rest) = split(&line)?;
    match kind {
        '+' => Ok(Reply::Simple(rest.to_owned())),
        '-' => Err(ReplyError::Refused(rest.to_owned())),
        ':' => Ok(Reply::Integer(number(rest)?)),
        '$' => Ok(Reply::Bulk(bulk(stream, rest).await?)),
        '*' => {
            let count = usize::try_from(number(rest)?).unwrap_or(0);
            if count > MAX_ELEMENTS {
                return Err(ReplyError::Malformed(format!("a list of {count} elements")));
            }
            let mut list = Vec::with_capacity(count);
            for _ in 0..count {
                let head = self::line(stream).await?;
                match split(&head)? {
                    ('$', rest) => list.push(bulk(stream, rest).await?),
                    _ => return Err(ReplyError::Malformed(head)),
                }
            }
            Ok(Reply::List(list))
        }
        _ => Err(ReplyError::Malformed(line)),
    }
}

async fn bulk(stream: &mut (impl AsyncBufRead + Unpin), length: &str) -> Result<Option<Vec<u8>>, ReplyError> {
    let Ok(length) = usize::try_from(number(length)?) else {
        return Ok(None);
    };
    if length > MAX_STRING {
        return Err(ReplyError::Malformed(format!("a string of {length} bytes")));
    }
    let mut bytes = vec![0; length + 2];
    stream.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(Some(bytes))
}

async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<String, ReplyError> {
    let mut bytes = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None if text.is_empty() => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        None => Err(ReplyError::Malformed(text)),
    }
}

fn split(line: &str) -> Result<(char, &str), ReplyError> {
    let mut characters = line.chars();
    match characters.next() {
        Some(kind) => Ok((kind, characters.as_str())),
        None => Err(ReplyError::Malformed("an empty line".to_owned())),
    }
}

fn number(text: &str) -> Result<i64, ReplyError> {
    text.parse()
        .map_err(|_| ReplyError::Malformed(format!("{text:?} is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let bytes = encode(&[b"RPUSH", b"messages", b"a\r\nb"]);
        assert_eq!(bytes, b"*3\r\n$5\r\nRPUSH\r\n$8\r\nmessages\r\n$4\r\na\r\nb\r\n");
    }

    #[tokio::test]
    async fn replies_are_read_or_refused() {
        let some = |text: &str| Some(text.as_bytes().to_vec());
        let good = [
            ("+OK\r\n", Reply::Simple("OK".to_owned())),
            (":12\r\n", Reply::Integer(12)),
            ("$3\r\na\nb\r\n", Reply::Bulk(some("a\nb"))),
            ("$-1\r\n", Reply::Bulk(None)),
            ("*0\r\n", Reply::List(Vec::new())),
            ("*-1\r\n", Reply::List(Vec::new())),
            ("*2\r\n$1\r\na\r\n$-1\r\n", Reply::List(vec![some("a"), None])),
        ];
        for (text, expected) in good {
            let reply = read(&mut text.as_bytes()).await;
            assert_eq!(reply.expect(text), expected, "{text:?}");
        }
        let bad = [
            ("-READONLY You can't write\r\n", "READONLY"),
            ("", "end of file"),
            ("$5\r\nab", "early eof"),
            ("hello\r\n", "strange: hello"),
            ("\r\n", "an empty line"),
            ("+no end", "no end"),
            ("*2000000\r\n", "2000000 elements"),
            ("$99999999\r\n", "99999999 bytes"),
            ("*1\r\n*1\r\n", "strange"),
            (":x\r\n", "no number"),
        ];
        for (text, word) in bad {
            let error = read(&mut text.as_bytes()).await.expect_err(text).to_string();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }
}
