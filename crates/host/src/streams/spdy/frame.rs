//! Frames of SPDY/3.1 to and from bytes (sections 2.2 and 2.6).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{BlockError, Decoder, Encoder, Headers};

const VERSION: u16 = 3;
const FIN: u8 = 1;
/// The largest frame that is taken: kubectl's data frames have 32 KiB.
const MAX_FRAME: usize = 4 << 20;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// A frame that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A new stream.
    SynStream {
        /// Its id.
        id: u32,
        /// No data will follow.
        fin: bool,
        /// Its headers.
        headers: Headers,
    },
    /// A stream is accepted.
    SynReply {
        /// Its id.
        id: u32,
        /// Its headers.
        headers: Headers,
    },
    /// A stream is broken off.
    RstStream {
        /// Its id.
        id: u32,
        /// Why.
        code: u32,
    },
    /// Are you there?
    Ping(u32),
    /// No new streams.
    GoAway {
        /// The last stream that was taken.
        last: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Its id.
        id: u32,
        /// The last ones.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
    /// SETTINGS, HEADERS, WINDOW_UPDATE and what is not known.
    Other,
}

/// The peer broke the protocol; the connection ends.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A header block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A frame.
    #[error("SPDY frame: {0}")]
    Frame(&'static str),
}

/// Takes one frame from the buffer, if it is there as a whole.
pub fn decode(buffer: &mut BytesMut, decoder: &mut Decoder) -> Result<Option<Frame>, FrameError> {
    let Some(head) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let head = *head;
    let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::Frame("too long"));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    buffer.advance(8);
    let mut body = buffer.split_to(length).freeze();
    let fin = head[4] & FIN != 0;
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if head[0] & 0x80 == 0 {
        return Ok(Some(Frame::Data {
            id: first,
            fin,
            data: body,
        }));
    }
    if (first >> 16) as u16 & 0x7fff != VERSION {
        return Err(FrameError::Frame("another version"));
    }
    let short = |_| FrameError::Frame("too short");
    let word = |body: &mut Bytes| body.try_get_u32().map(|word| word & 0x7fff_ffff).map_err(short);
    Ok(Some(match (first & 0xffff) as u16 {
        SYN_STREAM => {
            let id = word(&mut body)?;
            word(&mut body)?;
            body.try_get_u16().map_err(short)?;
            Frame::SynStream {
                id,
                fin,
                headers: decoder.decode(&body)?,
            }
        }
        SYN_REPLY => Frame::SynReply {
            id: word(&mut body)?,
            headers: decoder.decode(&body)?,
        },
        RST_STREAM => Frame::RstStream {
            id: word(&mut body)?,
            code: word(&mut body)?,
        },
        PING => Frame::Ping(body.try_get_u32().map_err(short)?),
        GOAWAY => Frame::GoAway {
            last: word(&mut body)?,
        },
        // HEADERS carries a block: it must pass through the decoder to keep the state.
        8 => {
            word(&mut body)?;
            decoder.decode(&body)?;
            Frame::Other
        }
        _ => Frame::Other,
    }))
}

/// Writes one frame.
pub fn encode(frame: &Frame, encoder: &mut Encoder, out: &mut BytesMut) -> Result<(), FrameError> {
    let control = |out: &mut BytesMut, kind: u16, fin: bool, length: usize| {
        out.put_u16(0x8000 | VERSION);
        out.put_u16(kind);
        put_length(out, fin, length);
    };
    match frame {
        Frame::SynStream { id, fin, headers } => {
            let block = encoder.encode(headers)?;
            control(out, SYN_STREAM, *fin, 10 + block.len());
            out.put_u32(*id);
            out.put_u32(0);
            out.put_u16(0);
            out.put_slice(&block);
        }
        Frame::SynReply { id, headers } => {
            let block = encoder.encode(headers)?;
            control(out, SYN_REPLY, false, 4 + block.len());
            out.put_u32(*id);
            out.put_slice(&block);
        }
        Frame::RstStream { id, code } => {
            control(out, RST_STREAM, false, 8);
            out.put_u32(*id);
            out.put_u32(*code);
        }
        Frame::Ping(id) => {
            control(out, PING, false, 4);
            out.put_u32(*id);
        }
        Frame::GoAway { last } => {
            control(out, GOAWAY, false, 8);
            out.put_u32(*last);
            out.put_u32(0);
        }
        Frame::Data { id, fin, data } => {
            out.put_u32(*id);
            put_length(out, *fin, data.len());
            out.put_slice(data);
        }
        Frame::Other => {}
    }
    Ok(())
}

fn put_length(out: &mut BytesMut, fin: bool, length: usize) {
    out.put_u8(if fin { FIN } else { 0 });
    out.put_uint(length as u64, 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let frames = [
            Frame::SynStream {
                id: 1,
                fin: false,
                headers: vec![("streamtype".into(), "error".into())],
            },
            Frame::SynReply {
                id: 1,
                headers: vec![],
            },
            Frame::Data {
                id: 1,
                fin: true,
                data: Bytes::from_static(b"hello"),
            },
            Frame::RstStream { id: 3, code: 5 },
            Frame::Ping(7),
            Frame::GoAway { last: 9 },
        ];
        let mut bytes = BytesMut::new();
        let mut encoder = Encoder::default();
        for frame in &frames {
            encode(frame, &mut encoder, &mut bytes).expect("encoded");
        }
        // Bytes come one by one.
        let mut buffer = BytesMut::new();
        let mut decoder = Decoder::default();
        let mut read = Vec::new();
        for byte in bytes {
            buffer.put_u8(byte);
            read.extend(decode(&mut buffer, &mut decoder).expect("decoded"));
        }
        assert_eq!(read, frames);
    }

    #[test]
    fn rubbish_ends_the_connection() {
        let cases: [&[u8]; 2] = [
            b"\x80\x02\x00\x01\x00\x00\x00\x00",
            b"\x00\x00\x00\x01\x00\xff\xff\xff",
        ];
        for bytes in cases {
            assert!(decode(&mut BytesMut::from(bytes), &mut Decoder::default()).is_err());
        }
    }
}
