//! The targets: one function a parser, and what its result promises.

use crate::{credentials, foreign, objects};
use apiserver::request::Attributes;
use apiserver::wire::options::{DeleteOptions, ListOptions, WriteOptions};
use host::streams::spdy::Session;
use kinds::quantity::Quantity;
use kinds::selector::{FieldSelector, LabelSelector};
use machinery::FieldValidation;
use serde_json::Value;
use std::io::Cursor;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A parser under test.
pub struct Target {
    /// Its name, and that of its samples' directory.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Words of its language.
    pub words: &'static [&'static str],
}

/// Separates the parts of an input that has two.
const PARTS: &[u8] = b"\n---\n";

const JSON: &[&str] = &[
    "{\"a\":",
    "[",
    "}",
    "]",
    "null",
    "true",
    "1e999",
    "-0",
    "\"\\ud800\"",
    "\"apiVersion\":\"v1\"",
    "\"metadata\":{}",
    ",",
    "\"$patch\":\"delete\"",
    "\"$setElementOrder/containers\":[]",
    "18446744073709551616",
    "9223372036854775808",
];
const YAML: &[&str] = &[
    "- ",
    "? ",
    ": ",
    "&a ",
    "*a",
    "<<: *a",
    "|\n ",
    ">-\n",
    "!!binary ",
    "---\n",
    "...\n",
    "\t",
    "{",
    "[",
    "# ",
    "~",
];
const PATCH: &[&str] = &[
    "\"op\":\"copy\"",
    "\"from\":\"\"",
    "\"path\":\"/-\"",
    "/~0",
    "/~1",
    "\"op\":\"move\"",
    "/999999999999999999999",
];
const CEL: &[&str] = &[
    "self",
    ".map(x, ",
    ".all(x, ",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "?.",
    "? : ",
    "&&",
    "||",
    "-9223372036854775808",
    "1u",
    "r\"",
    "b'",
    "duration('1h')",
    "'''",
    "\\u0041",
    ".matches('",
    " in ",
    "has(",
    "dyn(",
    "type(",
    "quantity('1')",
    "optional.of(",
    "cel.bind(x, ",
];
const SELECTOR: &[&str] = &[" in (", ")", "!", "==", "!=", ",", "notin", "a/b", " "];
const QUANTITY: &[&str] = &[
    "e",
    "E",
    "Ki",
    "Ei",
    "n",
    "-",
    "+",
    ".",
    "99999999999999999999",
    "m",
];
const PATH: &[&str] = &[
    "/",
    "%2F",
    "..",
    "namespaces/",
    "watch/",
    "?",
    "&",
    "limit=",
    "continue=",
    "fieldSelector=",
    "resourceVersion=",
    "dryRun=All",
    "%",
    "timeoutSeconds=-1",
    "propagationPolicy=",
    "sendInitialEvents=true",
];

const TAR: &[&str] = &[
    "../",
    "/",
    ".wh.",
    ".wh..wh..opq",
    "ustar\x0000",
    "ustar  \x00",
    "28 GNU.sparse.major=1\n",
    "20 path=../../x/y\n",
    "SCHILY.xattr.",
    "77777777777\x00",
    "\x00\x00\x00\x00\x00\x00\x00\x00",
];
const ARCHIVE: &[&str] = &[
    "\"schemaVersion\":2",
    "\"manifests\":[",
    "\"layers\":[",
    "\"digest\":\"sha256:",
    "\"size\":-1",
    "\"platform\":{",
    "\"mediaType\":\"application/vnd.oci.image.index.v1+json\"",
    "../",
    "null",
    "[",
    "{",
];
const HTTP: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\n",
    "Connection: close\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\r\n",
    "\r\n",
    ": ",
    "upgrade",
];

const TOKEN: &[&str] = &[
    ".",
    "{\"alg\":\"none\"}",
    "\"alg\":\"ES256\"",
    "\"kid\":",
    "\"iss\":\"https://podvisor.example\"",
    "\"exp\":-1",
    "\"aud\":[]",
    "\"kubernetes.io\":{",
    "system:serviceaccount:",
    "\n---\n",
];
const DEFINITION: &[&str] = &[
    "\"x-kubernetes-preserve-unknown-fields\":true",
    "\"x-kubernetes-validations\":[{\"rule\":\"self.all(x, x > 0)\"}]",
    "\"x-kubernetes-list-type\":\"map\"",
    "\"x-kubernetes-int-or-string\":true",
    "\"x-kubernetes-embedded-resource\":true",
    "\"pattern\":\"(a+)+$\"",
    "\"pattern\":\"[\"",
    "\"format\":\"date-time\"",
    "\"default\":",
    "\"nullable\":true",
    "\"enum\":[null]",
    "\"allOf\":[{\"not\":{}}]",
    "\"jsonPath\":\".spec.items[?(@.a=='b')].c[1:-1:2]\"",
    "..[*]",
    "\"additionalProperties\":",
    "\"maxLength\":9223372036854775807",
    "null",
    "{",
    "]",
];
const FIELDS: &[&str] = &[
    "\"f:spec\":{",
    "\"k:{\\\"name\\\":\\\"main\\\"}\":{",
    "\"v:1\":{}",
    "\"i:0\":{}",
    "\".\":{}",
    "\"operation\":\"Apply\"",
    "\"fieldsType\":\"FieldsV1\"",
    "\"subresource\":\"status\"",
    "\"time\":null",
    "\n---\n",
    "}",
];

/// All of them.
pub const ALL: &[Target] = &[
    Target {
        name: "stored-object",
        run: objects::stored,
        words: JSON,
    },
    Target {
        name: "json",
        run: json,
        words: JSON,
    },
    Target {
        name: "yaml",
        run: yaml,
        words: YAML,
    },
    Target {
        name: "protobuf",
        run: protobuf,
        words: &[],
    },
    Target {
        name: "json-patch",
        run: json_patch,
        words: PATCH,
    },
    Target {
        name: "merge-patch",
        run: merge_patch,
        words: JSON,
    },
    Target {
        name: "strategic-merge-patch",
        run: strategic_merge_patch,
        words: JSON,
    },
    Target {
        name: "selector",
        run: selector,
        words: SELECTOR,
    },
    Target {
        name: "quantity",
        run: quantity,
        words: QUANTITY,
    },
    Target {
        name: "cel",
        run: cel,
        words: CEL,
    },
    Target {
        name: "request",
        run: request,
        words: PATH,
    },
    Target {
        name: "backup",
        run: backup,
        words: &[],
    },
    Target {
        name: "spdy",
        run: spdy,
        words: &[],
    },
    Target {
        name: "websocket",
        run: websocket,
        words: &[],
    },
    Target {
        name: "image-config",
        run: image_config,
        words: JSON,
    },
    Target {
        name: "image-reference",
        run: image_reference,
        words: &["@sha256:", ":", "/", "..", "localhost:5000/"],
    },
    Target {
        name: "image-layer",
        run: foreign::image_layer,
        words: TAR,
    },
    Target {
        name: "image-archive",
        run: foreign::image_archive,
        words: ARCHIVE,
    },
    Target {
        name: "image-manifest",
        run: image_manifest,
        words: ARCHIVE,
    },
    Target {
        name: "dns",
        run: foreign::dns,
        words: &[
            "\x03web",
            "\x07default\x03svc\x07cluster\x05local\x00",
            "\x04in-addr\x04arpa\x00",
            "\x00\x01\x00\x01",
        ],
    },
    Target {
        name: "log-file",
        run: foreign::log_file,
        words: &[
            "2026-01-02T03:04:05.678901234Z ",
            " stdout F ",
            " stderr P ",
            "\n",
            "\r",
        ],
    },
    Target {
        name: "proxied",
        run: foreign::proxied,
        words: HTTP,
    },
    Target {
        name: "token",
        run: credentials::token,
        words: TOKEN,
    },
    Target {
        name: "client-certificate",
        run: credentials::client_certificate,
        words: &[
            "\x06\x03\x55\x04\x03",
            "\x06\x03\x55\x04\x0a",
            "\x0c\x00",
            "\x30\x7f",
        ],
    },
    Target {
        name: "certificate-request",
        run: credentials::certificate_request,
        words: &[
            "-----BEGIN CERTIFICATE REQUEST-----\n",
            "-----END CERTIFICATE REQUEST-----\n",
            "\x30\x7f",
            "\x06\x03\x55\x1d\x11",
            "A: b\n",
        ],
    },
    Target {
        name: "definition",
        run: objects::definition,
        words: DEFINITION,
    },
    Target {
        name: "managed-fields",
        run: objects::managed_fields,
        words: FIELDS,
    },
    Target {
        name: "schedule",
        run: objects::schedule,
        words: &[
            "*", "/", "-", ",", "?", "@every ", "@daily", "jan", "SUN", "CRON_TZ=", "59", " ",
        ],
    },
];

pub(crate) fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

pub(crate) fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.windows(PARTS.len()).position(|w| w == PARTS);
    match at {
        Some(at) => (&bytes[..at], &bytes[at + PARTS.len()..]),
        None => (bytes, &[]),
    }
}

/// An object on its way to the store: checked, defaulted, prepared, validated. What is accepted is a fixed point of
/// defaulting.
fn whole_way(mut value: Value, duplicates: &[machinery::Duplicate], json: &[u8]) {
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = field("apiVersion")
        .split_once('/')
        .unwrap_or(("", field("apiVersion")));
    let Some(kind) = kinds::find_kind(group, version, field("kind")) else {
        return;
    };
    let source = machinery::Source { duplicates, json };
    if machinery::decode_check(kind, &mut value, source, FieldValidation::Warn).is_err() {
        return;
    }
    machinery::default(kind, &mut value);
    machinery::prepare_create(kind, &mut value);
    if !machinery::validate_create(kind, &value).is_empty() {
        return;
    }
    let once = value.clone();
    machinery::default(kind, &mut value);
    assert_eq!(once, value, "defaulting twice is not defaulting once");
}

fn json(bytes: &[u8]) {
    if let Ok((value, duplicates)) = machinery::parse_json_checked(bytes) {
        let again = serde_json::to_vec(&value).unwrap_or_default();
        assert!(
            machinery::parse_json_checked(&again).is_ok(),
            "its own text is refused"
        );
        whole_way(value, &duplicates, bytes);
    }
}

fn yaml(bytes: &[u8]) {
    if let Ok((value, duplicates)) = machinery::parse_yaml_checked(bytes) {
        whole_way(value, &duplicates, &[]);
    }
}

fn protobuf(bytes: &[u8]) {
    if let Ok(value) = machinery::protobuf::decode(bytes) {
        whole_way(value, &[], &[]);
    }
}

fn two(bytes: &[u8]) -> Option<(Value, Value)> {
    let (first, second) = parts(bytes);
    let document = machinery::parse_json_checked(first).ok()?.0;
    Some((document, machinery::parse_json_checked(second).ok()?.0))
}

fn json_patch(bytes: &[u8]) {
    if let Some((document, patch)) = two(bytes)
        && let Ok(done) = machinery::json_patch(&document, &patch, true)
    {
        let size = |v: &Value| v.to_string().len();
        assert!(
            size(&done) <= size(&document) + size(&patch) + (4 << 20),
            "it grows"
        );
    }
}

fn merge_patch(bytes: &[u8]) {
    if let Some((document, patch)) = two(bytes)
        && let Ok(done) = machinery::merge_patch(&document, &patch, true)
    {
        let again = machinery::merge_patch(&done, &patch, true).map(without_nulls);
        assert_eq!(
            again.ok(),
            Some(without_nulls(done)),
            "a merge patch applied twice is one applied once"
        );
    }
}

/// A value without the fields that are null. In lists that take the place of an object they stay, in those that take that of
/// another list they go: so it is with the library that upstream patches by.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields
                .values_mut()
                .for_each(|value| *value = without_nulls(value.take()));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|value| *value = without_nulls(value.take())),
        _ => {}
    }
    value
}

fn strategic_merge_patch(bytes: &[u8]) {
    if let (Some((document, patch)), Some(pod)) = (two(bytes), kinds::find_kind("", "v1", "Pod")) {
        let _ = machinery::strategic_merge_patch(pod.schema, &document, &patch);
    }
}

fn selector(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(selector) = LabelSelector::parse(&text) {
        selector.matches_with(|_| Some("a"));
    }
    if let Ok(selector) = FieldSelector::parse(&text) {
        selector.matches_with(|_| "a".to_string());
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let _ = LabelSelector::from_json(&value);
    }
}

fn quantity(bytes: &[u8]) {
    if let Ok(quantity) = text(bytes).parse::<Quantity>() {
        let again = quantity.to_string().parse::<Quantity>();
        assert_eq!(again.ok(), Some(quantity), "its own text is another quantity");
        let _ = (
            quantity.value(),
            quantity.as_milli(),
            quantity.add(&quantity),
            quantity.sub(&quantity),
        );
    }
}

fn cel(bytes: &[u8]) {
    let env = cel::Env::new().with("self", cel::Type::Dyn);
    if let Ok(program) = cel::Program::compile(&text(bytes), &env) {
        let object = serde_json::json!({"a": 1, "b": [1, "x", null, {"c": 2.5}], "d": {"e": "f"}});
        let _ = program.eval(&[("self", cel::Value::json(&object, &cel::Type::Dyn))], 100_000);
    }
}

fn request(bytes: &[u8]) {
    let text = text(bytes);
    let (path, query) = text.split_once('?').unwrap_or((&text, ""));
    for method in [http::Method::GET, http::Method::POST, http::Method::DELETE] {
        let _ = Attributes::parse(&method, path, query);
    }
    if let Ok(options) = ListOptions::parse(query) {
        let _ = (
            options.validate(false),
            options.validate(true),
            options.revision(),
        );
    }
    let _ = WriteOptions::parse(query, "UpdateOptions").map(|o| o.to_value("UpdateOptions"));
    let body = serde_json::from_str(query).ok();
    let _ = DeleteOptions::parse(query, body.as_ref()).map(|o| o.to_value());
}

fn backup(bytes: &[u8]) {
    if let Ok(backup) = store::backup::Backup::open(Cursor::new(bytes)) {
        for record in backup.take(100_000) {
            let Ok(record) = record else { break };
            assert!(
                record.key.len() + record.value.len() <= bytes.len(),
                "bytes from nowhere"
            );
        }
    }
}

/// Runs asynchronous work to its end.
pub(crate) fn alone(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(runtime) = runtime {
        runtime.block_on(work);
    }
}

/// Runs work on the bytes of a client that then says nothing more.
pub(crate) fn with_client<F: Future<Output = ()>>(
    bytes: &[u8],
    work: impl FnOnce(tokio::io::DuplexStream) -> F,
) {
    alone(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        // What we answer is thrown away.
        let (mut answers, rest) = tokio::io::split(client);
        let reading =
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
        let ended = tokio::time::timeout(Duration::from_secs(30), work(server)).await;
        assert!(
            ended.is_ok(),
            "the connection of a client that is gone does not end"
        );
        drop(rest);
        reading.abort();
    });
}

fn spdy(bytes: &[u8]) {
    with_client(bytes, |server| async move {
        let mut session = Session::new(server);
        while let Some(stream) = session.accept().await {
            // Nobody reads it: what it carries must not hold up the others.
            let _ = stream.header("streamtype");
        }
    });
}

fn websocket(bytes: &[u8]) {
    with_client(bytes, |server| async move {
        let mut tunnel = host::streams::websocket::tunnel(server).await;
        let _ = tokio::io::copy(&mut tunnel, &mut tokio::io::sink()).await;
    });
}

fn image_config(bytes: &[u8]) {
    let _ = serde_json::from_slice::<images::ImageConfig>(bytes);
}

/// A registry's manifest or index.
fn image_manifest(bytes: &[u8]) {
    let _ = images::choose_manifest(bytes);
}

fn image_reference(bytes: &[u8]) {
    if let Ok(reference) = text(bytes).parse::<images::ImageReference>() {
        let _ = (reference.repository(), reference.is_latest());
    }
}
