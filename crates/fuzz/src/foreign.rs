//! Targets that read what networks, registries and guests send: layers, archives, DNS, logs, answers of backends.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use dataplane::model::{Endpoint, OnlyHere, Protocol, Service, ServiceAddress, ServicePort};
use host::logs::{Options, Progress, Source};
use http_body_util::BodyExt;

use crate::targets::{alone, parts, text, with_client};

/// Bytes that a layer or archive may unpack to here.
const UNPACKED: u64 = 4 << 20;

/// A directory with another beside it that nothing may touch.
fn guarded(work: impl FnOnce(&Path)) {
    let Ok(scratch) = tempfile::tempdir() else {
        return;
    };
    let (root, beside) = (scratch.path().join("root"), scratch.path().join("beside"));
    if fs::create_dir(&root).is_err() || fs::write(&beside, "untouched").is_err() {
        return;
    }
    work(&root);
    let mut names: Vec<_> = fs::read_dir(scratch.path())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["beside", "root"],
        "something was made outside of the root"
    );
    let kept = fs::read(&beside).unwrap_or_default();
    assert_eq!(kept, b"untouched", "a file outside of the root was changed");
}

pub(crate) fn image_layer(bytes: &[u8]) {
    guarded(|root| {
        // Twice: the second meets what the first has made, as a second layer does.
        for _ in 0..2 {
            if let Ok(digest) = images::unpack_layer(bytes, root, UNPACKED) {
                assert!(digest.starts_with("sha256:"));
            }
        }
    });
}

pub(crate) fn image_archive(bytes: &[u8]) {
    guarded(|root| {
        let (archive, into) = (root.join("archive.tar"), root.join("in"));
        // An operator's own file may grow as it likes; here it would only fill the disk.
        let small = bytes.get(..2) != Some(&[0x1f, 0x8b]) && bytes.get(..2) != Some(&[0x28, 0xb5]);
        if small && fs::create_dir(&into).is_ok() && fs::write(&archive, bytes).is_ok() {
            let _ = images::read_archive(&archive, &into);
        }
    });
}

fn services() -> [Service; 2] {
    let service = |name: &str, address| Service {
        namespace: "default".into(),
        name: name.into(),
        address,
        vips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }],
        client_affinity: None,
        served_elsewhere: false,
        health_port: None,
        guard: None,
        only_here: OnlyHere::default(),
        publish_not_ready: false,
        endpoints: (1..40)
            .map(|n| Endpoint {
                ip: Ipv4Addr::new(10, 244, 0, n),
                ports: vec![("http".into(), 8080)],
                here: true,
                ready: true,
                ending: false,
                hostname: Some(format!("pod-{n}")),
            })
            .collect(),
    };
    [
        service("web", ServiceAddress::Cluster(Ipv4Addr::new(10, 96, 0, 10))),
        service("db", ServiceAddress::Headless),
    ]
}

pub(crate) fn dns(bytes: &[u8]) {
    alone(async {
        for datagram in [true, false] {
            let answer = dataplane::dns_answer("cluster.local", &services(), bytes, datagram).await;
            if let Some(answer) = answer {
                assert_eq!(answer[..2], bytes[..2], "the answer to another question");
                assert!(answer[2] & 0x80 != 0, "a question as answer");
                assert!(answer.len() <= usize::from(u16::MAX), "too long to be sent");
            }
        }
    });
}

/// The first four bytes choose the options, the rest is the file.
pub(crate) fn log_file(bytes: &[u8]) {
    let Some((options, content)) = bytes.split_at_checked(4) else {
        return;
    };
    let some = |byte: u8| (byte > 0).then(|| u64::from(byte) - 1);
    let options = Options {
        follow: false,
        tail: some(options[0]),
        since: (options[1] > 0)
            .then(|| jiff::Timestamp::from_second(i64::from(options[1]) << 24).ok())
            .flatten(),
        timestamps: options[2] & 1 > 0,
        limit_bytes: some(options[3]),
        source: [None, Some(Source::Stdout), Some(Source::Stderr)][usize::from(options[2] >> 1) % 3],
    };
    let limit = options.limit_bytes;
    guarded(|root| {
        let path = root.join("0.log");
        if fs::write(&path, content).is_err() {
            return;
        }
        alone(async {
            let ended = Progress {
                ended: true,
                ..Progress::default()
            };
            let (_sender, progress) = tokio::sync::watch::channel(ended);
            let Ok(mut chunks) = host::logs::read(path, options, progress).await else {
                return;
            };
            let mut length = 0;
            while let Some(chunk) = chunks.recv().await {
                length += chunk.len() as u64;
            }
            assert!(
                limit.is_none_or(|limit| length <= limit),
                "more than was asked for"
            );
            // A time before each of at most as many lines as there are bytes.
            assert!(length <= content.len() as u64 * 40, "bytes from nowhere");
        });
    });
}

/// Headers of a client, then all that the backend says.
pub(crate) fn proxied(bytes: &[u8]) {
    const MOST: usize = 1 << 20;
    let (head, answer) = parts(bytes);
    let mut headers = http::HeaderMap::new();
    for line in text(head).lines().take(200) {
        if let Some((name, value)) = line.split_once(':')
            && let Ok(name) = name.trim().parse::<http::HeaderName>()
            && let Ok(value) = value.trim().parse::<http::HeaderValue>()
        {
            headers.append(name, value);
        }
    }
    with_client(answer, |backend| async move {
        let Ok(response) = apiserver::get_from(backend, headers).await else {
            return;
        };
        for name in ["connection", "transfer-encoding", "upgrade"] {
            assert!(
                !response.headers().contains_key(name),
                "{name} is of one hop only"
            );
        }
        let to_elsewhere = response.status().is_redirection() && response.headers().contains_key("location");
        assert!(!to_elsewhere, "a redirection is passed on");
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, |data| data.len());
            assert!(length <= MOST, "bytes from nowhere");
        }
    });
}
