//! Options of a connection (`exec`, `attach`, `portforward`, `proxy`): read from the query, shown to admission before
//! anything is looked for, and used as admission leaves them. Sources: `ConnectResource` in
//! `staging/src/k8s.io/apiserver/pkg/endpoints/handlers/rest.go` and the conversions of `url.Values` of Kubernetes v1.35.

use super::pods::encode;
use crate::admit::Operation;
use crate::request::{parameter, percent_decode, query_pairs, query_true};
use crate::rest::Ctx;
use kinds::status::Status;
use serde_json::{Map, Value, json};

/// What flags are called in a query and at the agent.
const FLAGS: [(&str, &str); 4] = [
    ("stdin", "input"),
    ("stdout", "output"),
    ("stderr", "error"),
    ("tty", "tty"),
];

/// The options of a connection, admitted.
pub(super) struct Options(Value);

impl Options {
    /// Reads the options of `exec`, `attach` or `portforward` and asks admission.
    pub async fn of_stream(ctx: &Ctx) -> Result<Self, Status> {
        let (kind, read): (_, &[&str]) = match ctx.attributes.subresource.as_str() {
            "exec" => (
                "PodExecOptions",
                &["stdin", "stdout", "stderr", "tty", "container", "command"],
            ),
            "attach" => (
                "PodAttachOptions",
                &["stdin", "stdout", "stderr", "tty", "container"],
            ),
            _ => ("PodPortForwardOptions", &["ports"]),
        };
        Self(parse(kind, read, &ctx.query)?).admitted(ctx).await
    }

    /// Asks admission for a `proxy` to what is below it: a path as it was sent, with its query.
    pub async fn of_proxy(ctx: &Ctx, below: &str) -> Result<Self, Status> {
        let kind = match ctx.served.kind.plural {
            "nodes" => "NodeProxyOptions",
            "pods" => "PodProxyOptions",
            _ => "ServiceProxyOptions",
        };
        let path = below.split('?').next().unwrap_or_default();
        let mut options = json!({"kind": kind, "apiVersion": "v1"});
        if !path.is_empty() {
            options["path"] = percent_decode(path).into();
        }
        Self(options).admitted(ctx).await
    }

    async fn admitted(mut self, ctx: &Ctx) -> Result<Self, Status> {
        if parameter(&ctx.query, "dryRun").is_some_and(|value| !value.is_empty()) {
            return Err(Status::bad_request("dryRun is not supported"));
        }
        let (operation, none) = (Operation::Connect, Value::Null);
        ctx.admit(operation, &mut self.0, None, &none, false).await?;
        let passed = ctx.validate(operation, &mut self.0, None, &none, false).await?;
        ctx.settle(passed, operation, &mut self.0, None, &none, false, true)
            .await;
        Ok(self)
    }

    fn is_set(&self, flag: &str) -> bool {
        self.0[flag] == true
    }

    /// The container that is asked for; empty when none is.
    pub fn container(&self) -> &str {
        self.0["container"].as_str().unwrap_or_default()
    }

    /// Whether there is anything to carry.
    pub fn has_streams(&self) -> bool {
        ["stdin", "stdout", "stderr"].iter().any(|flag| self.is_set(flag))
    }

    /// Whether there is something to run.
    pub fn has_command(&self) -> bool {
        self.0["command"]
            .as_array()
            .is_some_and(|words| !words.is_empty())
    }

    /// The query by which the agent is told.
    pub fn query(&self) -> String {
        let flags = FLAGS
            .iter()
            .filter(|(flag, _)| self.is_set(flag))
            .map(|(_, theirs)| format!("{theirs}=1"));
        let command = strings(&self.0["command"]).map(|word| format!("command={}", encode(word)));
        let ports = self.0["ports"].as_array().into_iter().flatten();
        let ports = ports.map(|port| format!("port={port}"));
        flags.chain(command).chain(ports).collect::<Vec<_>>().join("&")
    }

    /// The path of a proxy, as it was sent (`below`) unless admission has changed it.
    pub fn path(&self, below: String) -> String {
        let (path, query) = below.split_once('?').unwrap_or((&below, ""));
        let wanted = self.0["path"].as_str().unwrap_or_default();
        if percent_decode(path) == wanted {
            return below;
        }
        let steps: Vec<String> = wanted.split('/').map(encode).collect();
        match query {
            "" => steps.join("/"),
            query => format!("{}?{query}", steps.join("/")),
        }
    }
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Reads the named options of a query; of one that takes a single value, the first counts, and what is unset is left out.
fn parse(kind: &str, read: &[&str], query: &str) -> Result<Value, Status> {
    let mut options = Map::from_iter([
        ("kind".to_string(), json!(kind)),
        ("apiVersion".to_string(), json!("v1")),
    ]);
    let mut seen = Vec::new();
    for (key, value) in query_pairs(query).filter(|(key, _)| read.contains(&key.as_str())) {
        let several = matches!(key.as_str(), "command" | "ports");
        if !several && seen.contains(&key) {
            continue;
        }
        let more = match key.as_str() {
            "command" => vec![json!(value)],
            "ports" => ports(&value)?,
            _ => Vec::new(),
        };
        if several {
            match options.get_mut(&key).and_then(Value::as_array_mut) {
                Some(list) => list.extend(more),
                None => drop(options.insert(key.clone(), more.into())),
            }
        } else if key == "container" {
            options.insert(key.clone(), json!(value));
        } else if query_true(&value) {
            options.insert(key.clone(), json!(true));
        }
        seen.push(key);
    }
    Ok(Value::Object(options))
}

/// Numbers with commas between them.
fn ports(text: &str) -> Result<Vec<Value>, Status> {
    let number = |text: &str| {
        text.parse::<u16>().map(Value::from).map_err(|error| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!(
                "cannot convert to []int32: strconv.ParseUint: parsing {text:?}: {why}"
            ))
        })
    };
    text.split(',').map(number).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_read_as_upstream_reads_them() {
        let all = ["stdin", "stdout", "stderr", "tty", "container", "command"];
        let query =
            "stdin=0&stdin=1&stdout=&tty=False&container=c&container=d&command=a+b&command=%26&extra=1";
        let options = Options(parse("PodExecOptions", &all, query).unwrap());
        let expected = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c",
            "command": ["a b", "&"]});
        assert_eq!(options.0, expected);
        assert_eq!(options.query(), "output=1&command=a%20b&command=%26");

        let read = |query| parse("PodPortForwardOptions", &["ports"], query);
        let options = Options(read("ports=80,443&ports=9").unwrap());
        assert_eq!(options.query(), "port=80&port=443&port=9");
        for (query, why) in [
            ("ports=http", "\"http\": invalid syntax"),
            ("ports=65536", "\"65536\": value out of range"),
        ] {
            let words = format!("cannot convert to []int32: strconv.ParseUint: parsing {why}");
            assert_eq!(read(query).unwrap_err().message, words);
        }
    }

    #[test]
    fn a_path_stays_as_it_was_sent_unless_it_is_changed() {
        let options = |path: &str| Options(json!({"path": path}));
        assert_eq!(options("/a b/c").path("/a%20b/c?x=1".into()), "/a%20b/c?x=1");
        assert_eq!(
            options("/other place").path("/a%20b?x=1".into()),
            "/other%20place?x=1"
        );
        assert_eq!(options("").path(String::new()), "");
    }
}
