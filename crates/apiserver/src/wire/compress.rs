//! gzip for big answers to clients that ask for it, chunk by chunk as they are made.
//!
//! As upstream, only answers of more than 128 KiB are worth it; the fastest level is used, since the network is
//! rarely slower than that.

use super::body::{Body, BoxError, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::StreamExt;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, VARY};
use http_body_util::BodyExt;
use std::io::{Read, Write};

/// Answers smaller than this stay as they are, in bytes.
pub const THRESHOLD: usize = 128 * 1024;

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|list| {
            list.split(',').any(|item| {
                let mut parts = item.split(';').map(str::trim);
                parts.next() == Some("gzip") && !parts.any(|p| p.replace(' ', "") == "q=0")
            })
        })
}

/// Compresses bytes that are kept.
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail.
    let _ = gz.write_all(bytes);
    gz.finish().unwrap_or_default()
}

/// Undoes [`pack`].
pub fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Only what `pack` made comes here.
    let _ = GzDecoder::new(packed).read_to_end(&mut bytes);
    bytes
}

/// Compresses an answer whose size is known to be large.
pub fn gzip(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers
        .append(VARY, HeaderValue::from_static("Accept-Encoding"));
    http::Response::from_parts(head, compressed(body))
}

fn compressed(body: Body) -> Body {
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let chunks = futures::stream::unfold(
        (body.into_data_stream(), encoder),
        |(mut input, mut encoder)| async move {
            let mut gz = encoder.take()?;
            let step = |gz: &mut GzEncoder<Vec<u8>>, chunk: &[u8]| -> std::io::Result<Vec<u8>> {
                gz.write_all(chunk)?;
                Ok(std::mem::take(gz.get_mut()))
            };
            loop {
                match input.next().await {
                    Some(Ok(chunk)) => match step(&mut gz, &chunk) {
                        Ok(out) if out.is_empty() => continue,
                        Ok(out) => return Some((Ok(Bytes::from(out)), (input, Some(gz)))),
                        Err(e) => return Some((Err(BoxError::from(e)), (input, None))),
                    },
                    Some(Err(e)) => return Some((Err(e), (input, None))),
                    None => {
                        let last = gz.finish().map(Bytes::from).map_err(BoxError::from);
                        return Some((last, (input, None)));
                    }
                }
            }
        },
    );
    super::body::stream(chunks)
}
