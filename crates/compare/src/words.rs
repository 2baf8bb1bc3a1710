//! Values for a field: from its name, its description, and what else stands in objects.
//!
//! Descriptions name the values that upstream knows ("One of Always, Never, IfNotPresent"), in quotes or by capitals.

use rand::prelude::*;
use rand::rngs::StdRng;

/// Names, good and bad.
const NAMES: [&str; 16] = [
    "a",
    "b",
    "c",
    "web",
    "x-1",
    "a.b",
    "example.com/a",
    "A",
    "",
    "-a",
    "a_b",
    "a/b/c",
    "1",
    "kubernetes.io/x",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ü",
];
const QUANTITIES: [&str; 14] = [
    "1", "0", "100m", "1Gi", "64Mi", "1.5", "-1", "1e3", "0.1m", "2Gi", "500M", "1Ki", "10", "1.0",
];
const TIMES: [&str; 4] = [
    "2026-01-01T00:00:00Z",
    "2020-02-29T12:30:00Z",
    "2031-01-01T01:00:00+01:00",
    "1970-01-01T00:00:00Z",
];
const MICRO_TIMES: [&str; 2] = ["2026-01-01T00:00:00.000000Z", "2020-02-29T12:30:00.123456Z"];
const ADDRESSES: [&str; 9] = [
    "10.0.0.1",
    "192.0.2.7",
    "10.96.7.7",
    "2001:db8::1",
    "010.0.0.1",
    "10.0.0.256",
    "",
    "::ffff:1.2.3.4",
    "169.254.1.1",
];
const RANGES: [&str; 6] = [
    "10.0.0.0/8",
    "10.0.0.1/8",
    "2001:db8::/32",
    "10.0.0.0/33",
    "0.0.0.0/0",
    "10.0.0.0",
];
const PATHS: [&str; 10] = [
    "/a", "/a/b", "a", "", "/a/../b", "..", "/", "a:b", "/dev/x", "./a",
];
const URLS: [&str; 5] = [
    "https://example.com/x",
    "http://example.com",
    "https://a@b/c",
    "x",
    "https://example.com/?a#b",
];
const EXPRESSIONS: [&str; 10] = [
    "true",
    "object.metadata.name == 'a'",
    "1 +",
    "self",
    "has(object.spec)",
    "'x'",
    "size(object.metadata.name) > 1",
    "request.user",
    "variables.a",
    "",
];
const PORTS: [&str; 6] = ["http", "80", "50%", "100%", "web-1", "150%"];
const INTEGERS: [i64; 24] = [
    0,
    1,
    2,
    3,
    5,
    7,
    10,
    30,
    60,
    80,
    100,
    443,
    600,
    1000,
    3600,
    8080,
    30000,
    32767,
    65535,
    65536,
    -1,
    -2,
    2_147_483_647,
    1_000_000,
];

/// One of some words.
fn one(random: &mut StdRng, of: &[&str]) -> String {
    of.choose(random).copied().unwrap_or_default().to_owned()
}

/// An integer.
pub fn integer(random: &mut StdRng) -> i64 {
    INTEGERS.choose(random).copied().unwrap_or_default()
}

/// A string for the field `name` of the definition `of`, whose description this is.
pub fn string(random: &mut StdRng, name: &str, of: &str, format: &str, description: &str) -> String {
    let known = of.rsplit('.').next().unwrap_or_default();
    match (known, format) {
        ("Quantity", _) => return one(random, &QUANTITIES),
        ("Time", _) | (_, "date-time") if name.contains("renew") || name.contains("acquire") => {
            return one(random, &MICRO_TIMES);
        }
        ("MicroTime", _) => return one(random, &MICRO_TIMES),
        ("Time", _) | (_, "date-time") => return one(random, &TIMES),
        ("IntOrString", _) => return one(random, &PORTS),
        (_, "byte") => return one(random, &["", "YQ==", "aGVsbG8=", "LS0t"]),
        _ => {}
    }
    let said = values(description);
    if !said.is_empty() && random.random_bool(0.8) {
        return said.choose(random).cloned().unwrap_or_default();
    }
    let lower = name.to_ascii_lowercase();
    let ends = |end: &[&str]| end.iter().any(|end| lower.ends_with(end));
    if ends(&["ip", "ips", "address", "addresses"]) {
        return one(random, &ADDRESSES);
    }
    if ends(&["cidr", "cidrs", "except", "ranges"]) {
        return one(random, &RANGES);
    }
    if ends(&["path", "paths", "directory", "dir"]) {
        return one(random, &PATHS);
    }
    if ends(&["url", "urls"]) {
        return one(random, &URLS);
    }
    if ends(&["expression"]) {
        return one(random, &EXPRESSIONS);
    }
    if ends(&["image"]) {
        return one(random, &["nginx", "nginx:1.25", "", " x", "x@sha256:0"]);
    }
    if ends(&["apigroup", "group"]) {
        return one(random, &["", "apps", "example.com", "*", "batch"]);
    }
    if ends(&["apiversion", "version"]) {
        return one(random, &["v1", "apps/v1", "", "v1beta1", "a/b/c"]);
    }
    one(random, &NAMES)
}

/// Keys of a map.
pub fn key(random: &mut StdRng, name: &str) -> String {
    match name {
        "limits" | "requests" | "capacity" | "allocatable" | "hard" | "used" | "allocatedResources" => one(
            random,
            &[
                "cpu",
                "memory",
                "storage",
                "pods",
                "example.com/x",
                "hugepages-2Mi",
                "ephemeral-storage",
                "requests.cpu",
                "x",
            ],
        ),
        _ => one(random, &NAMES),
    }
}

/// The values that a description names.
fn values(description: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, piece) in description.split(['"', '`', '\'']).enumerate() {
        let word = piece.len() < 40 && !piece.is_empty() && !piece.contains(char::is_whitespace);
        if at % 2 == 1 && word {
            found.push(piece.to_owned());
        }
    }
    for word in description.split(|c: char| !c.is_ascii_alphanumeric()) {
        let inner = word.chars().skip(1).any(|c| c.is_ascii_uppercase());
        let first = word.starts_with(|c: char| c.is_ascii_uppercase());
        let listed = description.contains(&format!("{word},")) || description.contains(&format!("or {word}"));
        if first && word.len() > 2 && (inner || listed) && word.len() < 40 {
            found.push(word.to_owned());
        }
    }
    found.truncate(12);
    found
}
