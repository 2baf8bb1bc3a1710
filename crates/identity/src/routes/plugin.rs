//! `/wcp/plugin/OS-ARCH/vsphere-plugin.zip`: this very program, packed so that it unpacks as kubectl plugins.
//!
//! The archive is written while it is sent: entries are stored, not compressed, so only the checksum must be known
//! beforehand, and memory stays at one chunk. Only the platform this server runs on is offered.

use super::Sso;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// What the program is called in the archive: one name per spelling of the command.
const NAMES: [&str; 2] = ["bin/kubectl-vsphere", "bin/kubectl-podvisor"];
/// Bytes read at a time.
const CHUNK: usize = 128 * 1024;

/// Length and checksum of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    length: u32,
    crc: u32,
}

/// The platform of this server in the protocol's spelling.
pub(super) fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-{arch}", std::env::consts::OS)
}

/// `GET /wcp/plugin/OS-ARCH/vsphere-plugin.zip`
pub(super) async fn download(State(sso): State<Arc<Sso>>, Path(asked): Path<String>) -> Response {
    let Some(program) = sso.deps.program.clone().filter(|_| asked == platform()) else {
        let hint = format!("no plugin for {asked}; this Supervisor offers {}\n", platform());
        return (StatusCode::NOT_FOUND, hint).into_response();
    };
    let summary = sso
        .program_summary
        .get_or_try_init(|| summarize(program.clone()))
        .await;
    match summary {
        Ok(summary) => archive(program, *summary),
        Err(error) => {
            tracing::error!(%error, program = %program.display(), "cannot read the program to offer it");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn summarize(program: PathBuf) -> io::Result<Summary> {
    let read = move || {
        let mut file = std::fs::File::open(program)?;
        let mut crc = flate2::Crc::new();
        let mut length = 0u64;
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = file.read(&mut chunk)?;
            if n == 0 {
                break;
            }
            crc.update(&chunk[..n]);
            length += n as u64;
        }
        // The archive format's old form ends at 4 GiB; two entries must fit.
        let length = u32::try_from(length).ok().filter(|l| *l < u32::MAX / 2 - 1024);
        let length = length.ok_or_else(|| io::Error::other("too large for the archive"))?;
        Ok(Summary {
            length,
            crc: crc.sum(),
        })
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)?
}

fn archive(program: PathBuf, summary: Summary) -> Response {
    let mut offset = 0u32;
    let mut directory = Vec::new();
    let mut parts: Vec<stream::BoxStream<'static, io::Result<Bytes>>> = Vec::new();
    for name in NAMES {
        let header = local_header(name, summary);
        directory.extend(directory_entry(name, summary, offset));
        offset += header.len() as u32 + summary.length;
        parts.push(stream::once(async { Ok(Bytes::from(header)) }).boxed());
        parts.push(content(program.clone(), summary.length).boxed());
    }
    let end = end_of_directory(NAMES.len() as u16, directory.len() as u32, offset);
    let total = u64::from(offset) + (directory.len() + end.len()) as u64;
    directory.extend(end);
    parts.push(stream::once(async { Ok(Bytes::from(directory)) }).boxed());
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_string()),
        (header::CONTENT_LENGTH, total.to_string()),
    ];
    (headers, Body::from_stream(stream::iter(parts).flatten())).into_response()
}

/// Exactly `length` bytes of the file, in chunks; a file that shrank meanwhile breaks off.
fn content(program: PathBuf, length: u32) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    let opened = async move { tokio::fs::File::open(program).await };
    let chunks = move |file: tokio::fs::File| {
        stream::try_unfold((file, length as usize), |(mut file, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let mut chunk = vec![0; left.min(CHUNK)];
            file.read_exact(&mut chunk).await?;
            let rest = left - chunk.len();
            Ok(Some((Bytes::from(chunk), (file, rest))))
        })
    };
    stream::once(opened).map_ok(chunks).try_flatten()
}

/// Fields that local header and directory entry share: flags, method (stored), time, date (1 January 2020), sizes.
fn common(name: &str, summary: Summary) -> Vec<u8> {
    let mut out = Vec::new();
    for short in [20u16, 0, 0, 0, (2020 - 1980) << 9 | 1 << 5 | 1] {
        out.extend(short.to_le_bytes());
    }
    for long in [summary.crc, summary.length, summary.length] {
        out.extend(long.to_le_bytes());
    }
    out.extend((name.len() as u16).to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}

fn local_header(name: &str, summary: Summary) -> Vec<u8> {
    let mut out = b"PK\x03\x04".to_vec();
    out.extend(common(name, summary));
    out.extend(name.as_bytes());
    out
}

fn directory_entry(name: &str, summary: Summary, offset: u32) -> Vec<u8> {
    let mut out = b"PK\x01\x02".to_vec();
    // Made by a Unix system, so that the mode below counts.
    out.extend((3u16 << 8 | 20).to_le_bytes());
    out.extend(common(name, summary));
    for short in [0u16, 0, 0] {
        out.extend(short.to_le_bytes());
    }
    out.extend((0o100_755u32 << 16).to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(name.as_bytes());
    out
}

fn end_of_directory(entries: u16, length: u32, offset: u32) -> Vec<u8> {
    let mut out = b"PK\x05\x06".to_vec();
    for short in [0, 0, entries, entries] {
        out.extend(short.to_le_bytes());
    }
    out.extend(length.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend(0u16.to_le_bytes());
    out
}
