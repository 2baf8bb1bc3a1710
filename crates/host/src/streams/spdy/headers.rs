//! Header blocks: length-prefixed names and values, compressed with one zlib stream a direction (SPDY/3.1, 2.6.10).

use std::sync::OnceLock;

use bytes::{Buf, BufMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names and values.
pub type Headers = Vec<(String, String)>;

/// Blocks larger than this are refused: kubectl's have some hundred bytes.
const MAX_BLOCK: usize = 64 << 10;

/// The words of the protocol's dictionary that carry their length before them.
const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|if-match|\
if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|pragma|\
proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|upgrade|\
user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|set-cookie|\
keep-alive|origin";

/// The rest of the dictionary.
const TAIL: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 \
Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not \
Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov \
Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,\
application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=\
iso-8859-1,utf-,*,enq=0.";

/// The dictionary (SPDY/3.1, 2.6.10.1), 1423 bytes.
fn dictionary() -> &'static [u8] {
    static DICTIONARY: OnceLock<Vec<u8>> = OnceLock::new();
    DICTIONARY.get_or_init(|| {
        let mut bytes = Vec::with_capacity(1423);
        for word in WORDS.split('|') {
            bytes.put_u32(u32::try_from(word.len()).unwrap_or(0));
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.extend_from_slice(TAIL.as_bytes());
        bytes
    })
}

/// The peer broke the protocol.
#[derive(Debug, thiserror::Error)]
#[error("SPDY header block: {0}")]
pub struct BlockError(&'static str);

/// Reads blocks; the state goes on from block to block.
pub struct Decoder(Decompress);

impl Default for Decoder {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Decoder {
    /// Reads one block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Headers, BlockError> {
        let plain = self.inflate(block)?;
        parse(&plain).ok_or(BlockError("cut short"))
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, BlockError> {
        let mut plain = Vec::with_capacity(1024);
        let mut input = block;
        loop {
            let before = (self.0.total_in(), self.0.total_out());
            match self.0.decompress_vec(input, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(BlockError("the zlib stream ended")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(dictionary())
                        .map_err(|_| BlockError("another dictionary"))?;
                }
                Err(_) => return Err(BlockError("not zlib")),
            }
            let read = usize::try_from(self.0.total_in() - before.0).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            if plain.len() > MAX_BLOCK {
                return Err(BlockError("too large"));
            }
            let full = plain.len() == plain.capacity();
            if input.is_empty() && !full {
                return Ok(plain);
            }
            if read == 0 && self.0.total_out() == before.1 && !full {
                return Err(BlockError("no progress"));
            }
            if full {
                plain.reserve(4096);
            }
        }
    }
}

/// Writes blocks.
pub struct Encoder(Compress);

impl Default for Encoder {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::fast(), true);
        // The only error is a stream that has begun; this one has not.
        let _ = compress.set_dictionary(dictionary());
        Self(compress)
    }
}

impl Encoder {
    /// Writes one block.
    pub fn encode(&mut self, headers: &Headers) -> Result<Vec<u8>, BlockError> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name, value] {
                put_length(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut input = &plain[..];
        loop {
            let before = self.0.total_in();
            self.0
                .compress_vec(input, &mut block, FlushCompress::Sync)
                .map_err(|_| BlockError("cannot be compressed"))?;
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(read..).unwrap_or_default();
            if input.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(256);
        }
    }
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn parse(mut plain: &[u8]) -> Option<Headers> {
    let count = plain.try_get_u32().ok()?;
    let mut text = || {
        let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
        let (text, rest) = plain.split_at_checked(length)?;
        plain = rest;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    // Names are lower case by the protocol, but Go's client sends canonical ones now and then.
    (0..count.min(1024))
        .map(|_| Some((text()?.to_ascii_lowercase(), text()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_protocols() {
        // Its Adler-32 stands in every first block: 78 bb e3 c6 a7 c2.
        assert_eq!(dictionary().len(), 1423);
        let block = Encoder::default().encode(&vec![]).expect("encoded");
        assert_eq!(block[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn blocks_share_their_state() {
        let headers: Headers = vec![
            ("streamtype".into(), "stdin".into()),
            ("port".into(), "80".into()),
        ];
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for _ in 0..3 {
            let block = encoder.encode(&headers).expect("encoded");
            assert_eq!(decoder.decode(&block).expect("decoded"), headers);
        }
        let large: Headers = vec![("x".into(), "abc def".repeat(3000))];
        let block = encoder.encode(&large).expect("encoded");
        assert_eq!(decoder.decode(&block).expect("decoded"), large);
        assert!(Decoder::default().decode(b"rubbish").is_err());
    }
}
