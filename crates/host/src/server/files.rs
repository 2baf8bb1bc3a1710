//! `/logs/`: `/var/log` of the node over HTTP, as the kubelet shows it: a directory as a page of links, a file as it is.
//! Here it holds the logs of Pods, where the agent alone writes.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use tokio::sync::mpsc;

use super::{Body, Refusal, chunks, decode, full, text};

/// Where the logs are on the node, as links among them say.
const SEEN: &str = "/var/log/";
/// How much of a file is read at once.
const CHUNK: usize = 64 << 10;

/// Answers for a path behind `/logs/`, still encoded.
pub async fn show(root: &Path, path: &str) -> Result<Response<Body>, Refusal> {
    let wanted = decode(&path.replace('+', "%2B"));
    let missing = || Refusal::missing("404 page not found");
    let file = open(root, &wanted).map_err(|_| missing())?;
    let metadata = file.metadata().map_err(|_| missing())?;
    if metadata.is_dir() {
        if !wanted.is_empty() && !wanted.ends_with('/') {
            let name = path.rsplit('/').next().unwrap_or_default();
            let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
            let place = HeaderValue::from_str(&format!("{name}/")).map_err(|_| missing())?;
            response.headers_mut().insert(LOCATION, place);
            return Ok(response);
        }
        let mut response = Response::new(full(page(&file).map_err(|_| missing())?));
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        return Ok(response);
    }
    if !metadata.is_file() {
        return Err(missing());
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || send(file, &sender));
    let mut response = Response::new(chunks(receiver));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// Opens what is below the root; of links those that lead below it as the node sees it.
fn open(root: &Path, path: &str) -> std::io::Result<File> {
    let root = rustix::fs::openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let below = |path: &str| {
        let path = match path.trim_matches('/') {
            "" => ".",
            path => path,
        };
        rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
    };
    match below(path) {
        Err(rustix::io::Errno::LOOP) => {
            let target = rustix::fs::readlinkat(&root, path.trim_matches('/'), Vec::new())?;
            let target = target.to_string_lossy();
            let inside = target.strip_prefix(SEEN).ok_or(rustix::io::Errno::LOOP)?;
            Ok(below(inside)?.into())
        }
        opened => Ok(opened?.into()),
    }
}

/// A directory in the words of Go's file server.
fn page(directory: &File) -> std::io::Result<String> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            let slash = if entry.file_type().is_dir() { "/" } else { "" };
            names.push(format!("{name}{slash}"));
        }
    }
    names.sort();
    let mut text =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        // Names of namespaces, Pods and containers: nothing that has a meaning in HTML or in a URL.
        let plain: String = name
            .chars()
            .filter(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(*letter))
            .collect();
        let _ = writeln!(text, "<a href=\"{plain}\">{plain}</a>");
    }
    Ok(text + "</pre>\n")
}

fn send(mut file: File, sender: &mpsc::Sender<Bytes>) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(length @ 1..) = file.read(&mut chunk) {
        if sender
            .blocking_send(Bytes::copy_from_slice(&chunk[..length]))
            .is_err()
        {
            return;
        }
    }
}
