//! What is asked: a request line parsed into the attributes that authorization, admission and dispatch share.
//!
//! The rules are those of upstream's `RequestInfoFactory`: `/api/v1/…` and `/apis/GROUP/VERSION/…` are resource
//! requests, everything else is judged by its path; the verb follows from the method, the presence of a name and
//! the `watch` parameter (or the legacy `/watch/` path prefix). Of a parameter that is given twice the first counts, here and
//! wherever options are read: what is authorized is what is answered.

use http::Method;
use kinds::selector::FieldSelector;

/// One request, parsed. For requests outside `/api` and `/apis` only `verb` and `path` mean something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for non-resource requests the method in lower case.
    pub verb: String,
    /// API group, empty for the core group.
    pub group: String,
    /// API version within the group.
    pub version: String,
    /// Plural resource name, e.g. `pods`.
    pub resource: String,
    /// Subresource, e.g. `status`; empty for none.
    pub subresource: String,
    /// Namespace, empty for cluster-scoped resources and lists over all namespaces.
    pub namespace: String,
    /// Object name, empty for collections.
    pub name: String,
    /// The request path, without percent-encoding: an encoded slash is as good as one.
    pub path: String,
    /// Whether this is a request on a resource (else judge by `path`).
    pub is_resource: bool,
    /// Path segments after the subresource: the target of `proxy`.
    pub rest: Vec<String>,
    /// The `fieldSelector` of a list, watch or collection request, as sent: the Node authorizer looks at it. Empty for
    /// paths that begin with `/watch/`, some of which have no selectors.
    pub field_selector: String,
}

/// Whether a request reads one object, as its path looks: a hint before anything is parsed, that may be wrong.
pub(crate) fn is_plain_get<B>(request: &http::Request<B>) -> bool {
    let path = request.uri().path();
    let parts = path.split('/').filter(|part| !part.is_empty()).count();
    // Names stand at every second place, behind their kinds.
    let named = match path.starts_with("/apis/") {
        true => parts >= 5 && parts % 2 == 1,
        false => path.starts_with("/api/") && parts >= 4 && parts.is_multiple_of(2),
    };
    *request.method() == Method::GET && named
}

/// Subresources that may follow a name in `/namespaces/NAME/…`: the namespace's own ones.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl Attributes {
    /// Parses method, path and query (without `?`).
    ///
    /// Never fails: what is not a resource request is a non-resource request.
    pub fn parse(method: &Method, path: &str, query: &str) -> Attributes {
        let path = percent_decode(path);
        let parts: Vec<String> = split_path(&path);
        let mut a = Attributes {
            verb: method.as_str().to_ascii_lowercase(),
            path,
            ..Attributes::default()
        };
        let mut parts = &parts[..];
        match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => {
                a.version = parts[1].clone();
                parts = &parts[2..];
            }
            Some("apis") if parts.len() >= 4 => {
                a.group = parts[1].clone();
                a.version = parts[2].clone();
                parts = &parts[3..];
            }
            _ => return a,
        }
        a.is_resource = true;
        a.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        }
        .to_string();
        let mut legacy_watch = false;
        if parts[0] == "watch" {
            if parts.len() < 2 {
                a.is_resource = false;
                return a;
            }
            legacy_watch = true;
            parts = &parts[1..];
        }
        if parts[0] == "namespaces" && parts.len() > 1 {
            a.namespace = parts[1].clone();
            // `/namespaces/x` and `/namespaces/x/status` are about the namespace itself.
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_str()) {
                parts = &parts[2..];
            }
        }
        a.resource = parts[0].clone();
        if let Some(name) = parts.get(1) {
            a.name = name.clone();
        }
        if let Some(sub) = parts.get(2) {
            a.subresource = sub.clone();
        }
        if parts.len() > 3 {
            a.rest = parts[3..].to_vec();
        }
        if legacy_watch {
            a.verb = "watch".into();
        } else if a.name.is_empty() && a.verb == "get" {
            a.verb = if wants_watch(query) { "watch" } else { "list" }.into();
        } else if a.name.is_empty() && a.verb == "delete" {
            a.verb = "deletecollection".into();
        }
        if (a.verb == "list" || a.verb == "watch") && a.name.is_empty() {
            // A list narrowed to one name is authorized with that name, so `resourceNames` rules apply.
            if let Some(name) = single_name(query) {
                a.name = name;
            }
        }
        if !legacy_watch && matches!(a.verb.as_str(), "list" | "watch" | "deletecollection") {
            a.field_selector = parameter(query, "fieldSelector").unwrap_or_default();
        }
        a
    }

    /// Whether the request changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    /// The API version of the request as objects spell it: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `pods.apps`-style name of the resource with its group, as error messages give it.
    pub fn qualified_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }
}

/// Splits a path at slashes.
fn split_path(path: &str) -> Vec<String> {
    let trimmed = path.trim_matches('/');
    if trimmed.is_empty() {
        return Vec::new();
    }
    trimmed.split('/').map(String::from).collect()
}

/// Undoes percent-encoding; malformed escapes stay as they are, bytes that are no UTF-8 are replaced.
pub fn percent_decode(s: &str) -> String {
    decode(s, false)
}

fn decode(s: &str, plus_is_space: bool) -> String {
    let bytes = s.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match bytes[i] {
            b'%' => match (hex(i + 1), hex(i + 2)) {
                (Some(h), Some(l)) => {
                    out.push((h * 16 + l) as u8);
                    i += 3;
                    continue;
                }
                _ => out.push(b'%'),
            },
            b'+' if plus_is_space => out.push(b' '),
            other => out.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The pairs of a query string, decoded, in order. Those with a semicolon or a malformed escape are no pairs, as Go's
/// `url.ParseQuery` has it.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let pairs = query.split('&').filter(|p| !p.is_empty());
    let pairs = pairs.filter(|p| !p.contains(';') && has_whole_escapes(p));
    pairs.map(|pair| {
        let (k, v) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(k, true), decode(v, true))
    })
}

/// Whether two digits follow each percent sign.
fn has_whole_escapes(text: &str) -> bool {
    let escapes = text.split('%').skip(1);
    escapes
        .map(str::as_bytes)
        .all(|rest| rest.len() > 1 && rest[..2].iter().all(u8::is_ascii_hexdigit))
}

/// The pairs of a query string without those whose name stood there before.
pub fn query_firsts(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let mut seen = std::collections::HashSet::new();
    query_pairs(query).filter(move |(name, _)| seen.insert(name.clone()))
}

/// A parameter of a query string: the first of the name.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    query_pairs(query)
        .find(|(given, _)| given == name)
        .map(|(_, value)| value)
}

/// Truth of a query parameter as upstream's conversion reads it: present and neither `false` nor `0`.
pub fn query_true(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

fn wants_watch(query: &str) -> bool {
    parameter(query, "watch").is_some_and(|v| query_true(&v))
}

fn single_name(query: &str) -> Option<String> {
    let selector = FieldSelector::parse(&parameter(query, "fieldSelector")?).ok()?;
    let name = selector.exact("metadata.name")?;
    let of_a_path = !matches!(name, "" | "." | "..") && !name.contains(['/', '%']);
    of_a_path.then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines() {
        // method, path?query => verb group/version resource subresource namespace name
        let cases = [
            ("GET /api/v1/namespaces", "list /v1 namespaces - - -"),
            ("GET /api/v1/namespaces/x", "get /v1 namespaces - x x"),
            (
                "PUT /api/v1/namespaces/x/finalize",
                "update /v1 namespaces finalize x x",
            ),
            ("GET /api/v1/namespaces/x/pods", "list /v1 pods - x -"),
            ("GET /api/v1/pods?watch=1", "watch /v1 pods - - -"),
            ("GET /api/v1/pods?watch=false", "list /v1 pods - - -"),
            ("GET /api/v1/watch/namespaces/x/pods/y", "watch /v1 pods - x y"),
            (
                "POST /api/v1/namespaces/x/pods/y/eviction",
                "create /v1 pods eviction x y",
            ),
            (
                "DELETE /apis/apps/v1/namespaces/x/deployments",
                "deletecollection apps/v1 deployments - x -",
            ),
            (
                "PATCH /apis/apps/v1/namespaces/x/deployments/d/scale",
                "patch apps/v1 deployments scale x d",
            ),
            (
                "GET /api/v1/pods?fieldSelector=metadata.name%3Dz",
                "list /v1 pods - - z",
            ),
            (
                "GET /api/v1/secrets?fieldSelector=metadata.name%3Dz&fieldSelector=",
                "list /v1 secrets - - z",
            ),
            (
                "GET /api/v1/secrets?fieldSelector=&fieldSelector=metadata.name%3Dz",
                "list /v1 secrets - - -",
            ),
            (
                "GET /api/v1/secrets?fieldSelector=type!%3Dx%5C,metadata.name%3Dz",
                "list /v1 secrets - - -",
            ),
            (
                "GET /api/v1/secrets?fieldSelector=metadata.name%3Da%252Fb",
                "list /v1 secrets - - -",
            ),
            ("GET /api/v1/pods?watch=0&watch=1", "list /v1 pods - - -"),
            ("GET /api/v1/pods?watch=%zz&watch=1", "watch /v1 pods - - -"),
            ("GET /api/v1/pods?watch=1;x&watch=0", "list /v1 pods - - -"),
            ("GET /api/v1/pods?watch=1%2", "list /v1 pods - - -"),
            ("GET /api%2fv1/%70ods", "list /v1 pods - - -"),
            ("GET /api/v1/namespaces/x/pods%2Fy", "get /v1 pods - x y"),
            (
                "GET /api/v1/namespaces/x/pods/y%2Fstatus",
                "get /v1 pods status x y",
            ),
            ("GET /api/v1/namespaces/x/pods/y%252F", "get /v1 pods - x y%2F"),
            ("GET /api/v1/namespaces/x/pods/y?watch=true", "get /v1 pods - x y"),
            ("GET /api/v1/nodes/n/proxy/a/b", "get /v1 nodes proxy - n"),
            ("GET /apis/apps", "get / - - - -"),
            ("POST /version", "post / - - - -"),
        ];
        let dash = |s: &str| {
            if s.is_empty() {
                "-".to_string()
            } else {
                s.to_string()
            }
        };
        for (line, want) in cases {
            let (method, rest) = line.split_once(' ').unwrap();
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            let a = Attributes::parse(&method.parse().unwrap(), path, query);
            let got = format!(
                "{} {}/{} {} {} {} {}",
                a.verb,
                a.group,
                a.version,
                dash(&a.resource),
                dash(&a.subresource),
                dash(&a.namespace),
                dash(&a.name)
            );
            assert_eq!(got, want, "{line}");
            let plain = a.verb == "get" && a.subresource.is_empty() && !a.name.is_empty();
            let request = http::Request::builder().method(method).uri(rest).body(());
            // A hint only: it does not undo the encoding.
            if !path.contains('%') {
                assert_eq!(is_plain_get(&request.unwrap()), plain, "{line}");
            }
        }
    }
}
