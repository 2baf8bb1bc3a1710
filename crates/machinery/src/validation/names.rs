//! Rules for names, keys, label values, ports and addresses, with upstream's messages
//! (`apimachinery/pkg/util/validation`). Each check answers its complaints; none means good.

pub(crate) use kinds::names::{dns_label, dns_subdomain, label_value, max_length, qualified_name};
use kinds::names::{form, label_form, lower};
use std::net::IpAddr;

/// A subdomain whose first label is `*`.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_length(253));
    }
    let rest = text.strip_prefix("*.");
    if !rest.is_some_and(|rest| rest.split('.').all(label_form)) {
        out.push(form(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        ));
    }
    out
}

/// An RFC 1035 label: names of Services.
pub(crate) fn dns_1035_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_length(63));
    }
    if !label_form(text) || !text.as_bytes()[0].is_ascii_lowercase() {
        out.push(form(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// A name that is safe as one step of a URL: RBAC objects and names of people.
pub(crate) fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|c| text.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// A port number.
pub(crate) fn port_number(port: i64) -> Vec<String> {
    if (1..=65_535).contains(&port) {
        Vec::new()
    } else {
        vec![range(1, 65_535)]
    }
}

/// "Must be between".
pub(crate) fn range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// A port's name (RFC 6335 service name).
pub(crate) fn port_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 15 {
        out.push(max_length(15));
    }
    if text.is_empty() || !text.bytes().all(|b| lower(b) || b == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".into());
    }
    out
}

/// A name of an environment variable, by the relaxed rule (KEP-4369).
pub(crate) fn env_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".into()];
    }
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into(),
    ]
}

/// A key of a ConfigMap or Secret.
pub(crate) fn config_key(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_length(253));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    {
        out.push(form(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." | ".." => out.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => out.push("must not start with '..'".into()),
        _ => {}
    }
    out
}

/// A header's name in an HTTP probe.
pub(crate) fn header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![form(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A domain in which names are looked for: a subdomain that may have underscores.
pub(crate) fn search_domain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_length(253));
    }
    let label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        let mut ends = rest.bytes().take(1).chain(rest.bytes().rev().take(1));
        !rest.is_empty() && ends.all(lower) && rest.bytes().all(|b| lower(b) || b == b'-' || b == b'_')
    };
    if !text.split('.').all(label) {
        out.push(form(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character",
            "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// A network in CIDR notation.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let parsed = text.split_once('/').and_then(|(ip, bits)| {
        let ip: IpAddr = ip.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(())
    });
    match parsed {
        Some(()) => Vec::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()],
    }
}

/// An address in a field that is older than the strict rule (see [`crate::ip`]).
pub(crate) fn legacy_ip(text: &str) -> Vec<String> {
    match crate::ip::address(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

/// A network in such a field.
pub(crate) fn legacy_cidr(text: &str) -> Vec<String> {
    match crate::ip::network(text) {
        Some(_) => Vec::new(),
        None => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()],
    }
}

/// `25%` and the like.
pub(crate) fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![form(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_upstream_judges_them() {
        type Rule = fn(&str) -> Vec<String>;
        let cases: [(Rule, &[&str], &[&str]); 8] = [
            (
                dns_label,
                &["a", "a-b", "0a"],
                &["", "A", "-a", "a-", "a.b", "a_b"],
            ),
            (
                dns_subdomain,
                &["a", "a.b", "1.2-3"],
                &["", ".a", "a..b", "a.", "A.b", "a_b"],
            ),
            (dns_1035_label, &["a", "a-1"], &["", "1a", "a.b", "-a"]),
            (path_segment, &["system:x", "a@b.c"], &[".", "..", "a/b", "50%"]),
            (
                qualified_name,
                &["a", "A_b.c", "x.io/Name"],
                &["", "/a", "x.io/", "a/b/c", "a b", "X.io/a"],
            ),
            (label_value, &["", "A-1_b.c"], &["a b", "-a", "a-"]),
            (
                port_name,
                &["http", "h2-c"],
                &["", "12", "a--b", "-a", "A", "waytoolongportname"],
            ),
            (config_key, &["a", ".a", "A-b_c"], &["", ".", "..", "..a", "a/b"]),
        ];
        for (rule, good, bad) in cases {
            for text in good {
                assert_eq!(rule(text), Vec::<String>::new(), "{text:?}");
            }
            for text in bad {
                assert_ne!(rule(text), Vec::<String>::new(), "{text:?}");
            }
        }
    }

    #[test]
    fn messages() {
        assert_eq!(
            dns_label("A")[0],
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        );
    }
}
