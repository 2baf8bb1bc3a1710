//! Content negotiation: in which encoding and in which shape the client wants its answer.

use http::header::{ACCEPT, HeaderMap, USER_AGENT};
use kinds::status::{Details, Status};

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// JSON, also for everything the client did not say.
    Json,
    /// YAML.
    Yaml,
    /// The Kubernetes protobuf envelope.
    Protobuf,
}

impl Encoding {
    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The media type of a watch in this encoding.
    pub fn watch_media_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => "application/json",
        }
    }
}

/// What is sent of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The objects themselves.
    Object,
    /// A `meta.k8s.io` Table of the given version.
    Table(&'static str),
    /// Metadata only, of the given version.
    Partial(&'static str),
}

/// The outcome of negotiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Encoding.
    pub encoding: Encoding,
    /// Shape.
    pub shape: Shape,
    /// Metadata only are wanted as a list.
    pub listed: bool,
    /// Indented JSON.
    pub pretty: bool,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted {
            encoding: Encoding::Json,
            shape: Shape::Object,
            listed: false,
            pretty: false,
        }
    }
}

/// What the resource can do beyond plain objects.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Partial metadata.
    pub shapes: bool,
    /// Tables.
    pub tables: bool,
    /// Protobuf of the objects themselves; their metadata have it always.
    pub protobuf: bool,
}

const ALL_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

const STREAM_TYPES: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Picks the first clause of `Accept` that can be served, best quality first. No `Accept` means JSON.
pub fn negotiate(headers: &HeaderMap, query: &str, offer: Offer) -> Result<Wanted, Status> {
    let accept: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect();
    let accept = accept.join(",");
    let pretty = is_pretty(headers, query);
    if accept.trim().is_empty() {
        return Ok(Wanted {
            pretty,
            ..Wanted::default()
        });
    }
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in &clauses {
        if let Some(wanted) = clause.serve(offer) {
            return Ok(Wanted {
                pretty: pretty || wanted.pretty,
                ..wanted
            });
        }
    }
    Err(Status::not_acceptable(format!(
        "only the following media types are accepted: {ALL_TYPES}"
    )))
}

/// How the client wants the one list of everything that is served, if that is what it would rather have. What it is not told
/// of its version is not it.
pub fn aggregated(headers: &HeaderMap, query: &str) -> Option<Wanted> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    let offer = Offer {
        shapes: false,
        tables: false,
        protobuf: true,
    };
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in &clauses {
        let list = [
            ("as", "APIGroupDiscoveryList"),
            ("g", "apidiscovery.k8s.io"),
            ("v", "v2"),
        ];
        if list.iter().all(|(name, value)| clause.param(name) == Some(value)) {
            if let Some(encoding) = clause.encoding() {
                return Some(Wanted {
                    encoding,
                    pretty: is_pretty(headers, query) || clause.param("pretty") == Some("1"),
                    ..Wanted::default()
                });
            }
        } else if clause.serve(offer).is_some() {
            return None;
        }
    }
    None
}

/// Refuses a client that takes none of the media types that a path of the built-in API can answer, which upstream's router
/// does before anything else is looked at. `streams`: it can be watched.
pub fn producible(headers: &HeaderMap, streams: bool) -> Result<(), Status> {
    match streams {
        true => producible_as(headers, ALL_TYPES, &format!(", {STREAM_TYPES}")),
        false => producible_as(headers, ALL_TYPES, ""),
    }
}

/// The same for a path that is answered in those types; `more` is told besides.
pub fn producible_as(headers: &HeaderMap, types: &str, more: &str) -> Result<(), Status> {
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let known: Vec<&str> = types.split(", ").chain(["*/*"]).collect();
    let mut media = accept
        .split(',')
        .map(|clause| clause.split(';').next().unwrap_or("").trim());
    if accept.is_empty() || media.any(|media| known.contains(&media)) {
        return Ok(());
    }
    let text = format!("406: Not Acceptable\n\nAvailable representations: {types}{more}");
    let mut status = Status::not_acceptable(text);
    status.details = Some(Details::default());
    Err(status)
}

/// Whether JSON is indented: as the parameter says, else for the programs of people (upstream: `isPrettyPrint`).
fn is_pretty(headers: &HeaderMap, query: &str) -> bool {
    match crate::request::parameter(query, "pretty").as_deref() {
        None | Some("") => {
            let agent = headers
                .get(USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("");
            ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|p| agent.starts_with(p))
        }
        Some(given) => matches!(given, "1" | "t" | "T" | "true" | "TRUE" | "True"),
    }
}

/// Picks what a watch is answered in: there is no stream of YAML.
pub fn negotiate_stream(headers: &HeaderMap, query: &str, offer: Offer) -> Result<Wanted, Status> {
    let picked = negotiate(headers, query, offer)?;
    match picked.encoding {
        Encoding::Yaml => Err(Status::not_acceptable(format!(
            "only the following media types are accepted: {STREAM_TYPES}"
        ))),
        _ => Ok(picked),
    }
}

struct Clause<'a> {
    media: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Clause<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().filter(|m| !m.is_empty())?;
        let params: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
        let quality = params
            .iter()
            .find(|(k, _)| *k == "q")
            .and_then(|(_, v)| v.parse().ok())
            .unwrap_or(1.0);
        Some(Clause {
            media,
            params,
            quality,
        })
    }

    fn param(&self, name: &str) -> Option<&'a str> {
        self.params
            .iter()
            .find(|(k, _)| *k == name)
            .map(|(_, v)| v.trim_matches('"'))
            .filter(|v| !v.is_empty())
    }

    fn encoding(&self) -> Option<Encoding> {
        match self.media {
            "application/json" | "*/*" | "*" | "application/*" => Some(Encoding::Json),
            "application/yaml" => Some(Encoding::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Encoding::Protobuf),
            _ => None,
        }
    }

    fn serve(&self, offer: Offer) -> Option<Wanted> {
        let encoding = self.encoding()?;
        // There is one kind of stream, and none of YAML.
        let stream = self.param("stream").filter(|stream| !stream.is_empty());
        if stream.is_some_and(|stream| stream != "watch" || encoding == Encoding::Yaml) {
            return None;
        }
        let version = match self.param("v") {
            Some("v1") => "v1",
            Some("v1beta1") => "v1beta1",
            _ => "",
        };
        let meta = self.param("g") == Some("meta.k8s.io") && !version.is_empty();
        // A group or version of what is not named is none that there is.
        let half = self.param("g").is_some() || self.param("v").is_some();
        let shape = match self.param("as") {
            None if half => return None,
            None => Shape::Object,
            Some("Table") if offer.tables && meta && encoding != Encoding::Protobuf => Shape::Table(version),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if offer.shapes && meta => {
                Shape::Partial(version)
            }
            Some(_) => return None,
        };
        if encoding == Encoding::Protobuf && !offer.protobuf && !matches!(shape, Shape::Partial(_)) {
            return None;
        }
        Some(Wanted {
            encoding,
            shape,
            listed: self.param("as") == Some("PartialObjectMetadataList"),
            pretty: self.param("pretty") == Some("1"),
        })
    }
}

/// Picks one of several media types by an `Accept` header, best quality first; its place in the offer. No header takes all.
pub fn pick(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let accept = accept.collect::<Vec<_>>().join(",");
    if accept.trim().is_empty() {
        return Some(0);
    }
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    let matches = |wanted: &str, media: &str| {
        let ((wanted_type, wanted_sub), (media_type, media_sub)) =
            (wanted.split_once('/')?, media.split_once('/')?);
        let fits = |wanted: &str, has: &str| wanted == "*" || wanted == has;
        (fits(wanted_type, media_type) && fits(wanted_sub, media_sub)).then_some(())
    };
    clauses.iter().find_map(|clause| {
        offered
            .iter()
            .position(|media| matches(clause.media, media).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            ("", Some((Encoding::Json, Shape::Object))),
            ("*/*", Some((Encoding::Json, Shape::Object))),
            (kubectl, Some((Encoding::Json, Shape::Table("v1")))),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Some((Encoding::Protobuf, Shape::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Encoding::Protobuf, Shape::Partial("v1"))),
            ),
            ("application/yaml", Some((Encoding::Yaml, Shape::Object))),
            (
                "text/html;q=0.9, application/json;q=0.1",
                Some((Encoding::Json, Shape::Object)),
            ),
            ("application/cbor", None),
            ("application/json;g=meta.k8s.io;v=v1", None),
            (
                "application/json;v=v1, application/yaml",
                Some((Encoding::Yaml, Shape::Object)),
            ),
            ("application/json;as=Nothing;v=v1;g=meta.k8s.io", None),
        ];
        for (accept, want) in cases {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            let got = negotiate(
                &headers,
                "",
                Offer {
                    shapes: true,
                    tables: true,
                    protobuf: true,
                },
            );
            assert_eq!(got.ok().map(|w| (w.encoding, w.shape)), want, "{accept}");
        }
    }
}
