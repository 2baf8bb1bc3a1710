//! The name of an image, as far as it decides how the image is pulled. Source: `distribution/reference`, by which
//! Kubernetes v1.35 reads it (`pkg/util/parsers`).

/// Bytes of a name without tag and digest.
const MOST_NAME: usize = 255;
/// Bytes of a tag.
const MOST_TAG: usize = 128;

/// The tag of a name; `latest` stands for neither tag nor digest. None: there is a digest alone, or it is no name.
pub(super) fn tag(image: &str) -> Option<&str> {
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if image.len() == 64 && image.bytes().all(hexadecimal) {
        return None;
    }
    let (host, rest) = match image.split_once('/') {
        Some((first, rest)) if is_host(first) => (Some(first), rest),
        _ => (None, image),
    };
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let host = host.unwrap_or("docker.io");
    let library = if path.contains('/') { "" } else { "library/" };
    let length = host.len() + 1 + library.len() + path.len();
    let whole = length <= MOST_NAME
        && is_domain(host)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    match (tag, digest) {
        _ if !whole => None,
        (Some(tag), _) => Some(tag),
        (None, Some(_)) => None,
        (None, None) => Some("latest"),
    }
}

/// Whether what stands before the first slash is a registry and not a part of the path.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first
}

fn is_domain(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, rest)) if address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') => {
                return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Small letters and digits, with one dot, one or two underscores or any number of dashes between them.
fn is_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    component.starts_with(plain) && component.ends_with(plain) && component.split(plain).all(separator)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MOST_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hash)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hash.len() == length
        && hash
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
