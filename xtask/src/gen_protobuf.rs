//! `cargo xtask gen-protobuf`: the numbers of protobuf fields, for `crates/machinery`.
//!
//! The source of the crate `k8s-pb` carries every message with its field numbers; upstream's definitions (see
//! `gen-schema`) carry the JSON names. They are joined by name, ignoring case and separators. A message field
//! without a JSON name is one that JSON writes in place, such as `volumeSource`. Only stable versions are taken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{cargo, make_dir, quiet, step};

/// The crate; its minor version names no Kubernetes level, its build metadata does: 1.35.
const SOURCE: &str = "k8s-pb = \"=0.9.0\"";

/// Arguments of `cargo xtask gen-protobuf`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask gen-protobuf
  cargo xtask gen-protobuf --check    fail when the committed table differs")]
pub struct Arguments {
    /// Write nothing; fail when the committed table differs.
    #[arg(long)]
    check: bool,
}

/// Fetches the crate and writes the table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let source = step("Fetching the messages", fetch)?;
    let text = fs::read_to_string(e2e::paths::workspace().join("crates/kinds/src/schema/upstream.json"))?;
    let own = fs::read_to_string(e2e::paths::workspace().join("crates/kinds/src/schema/podvisor.json"))?;
    let mut definitions = Definitions::default();
    definitions.add(&text)?;
    definitions.add(&own)?;
    let mut messages = BTreeMap::new();
    for file in files(&source)? {
        let module = file
            .parent()
            .and_then(|dir| dir.strip_prefix(&source).ok())
            .unwrap_or(Path::new(""));
        let module: Vec<String> = module
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if !module.is_empty() && is_stable(&module) {
            for message in parse(&fs::read_to_string(&file)?, &module)? {
                messages.insert(definitions.full_name(&message.module, &message.name), message);
            }
        }
    }
    let written = write(&messages, &definitions);
    let target = e2e::paths::workspace().join("crates/machinery/src/protobuf/tags.txt");
    if arguments.check {
        if fs::read_to_string(&target)? != written {
            bail!(
                "{} is not what `cargo xtask gen-protobuf` writes",
                target.display()
            );
        }
        return Ok(());
    }
    fs::write(&target, written)?;
    println!("{} messages", messages.len());
    Ok(())
}

/// Has cargo download the crate for a package that nobody builds, and says where its source is.
fn fetch() -> Result<PathBuf> {
    let scratch = e2e::paths::target().join("gen-protobuf");
    make_dir(&scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"gen-protobuf\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{SOURCE}\n"
    );
    fs::write(scratch.join("Cargo.toml"), manifest)?;
    let mut metadata = cargo();
    metadata
        .current_dir(&scratch)
        .args(["metadata", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&quiet(&mut metadata)?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == "k8s-pb")
        .context("no k8s-pb")?;
    let manifest = package["manifest_path"].as_str().context("no manifest_path")?;
    Ok(Path::new(manifest).parent().context("no directory")?.join("src"))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Stable versions, what all versions share, and the metrics that only exist as beta.
fn is_stable(module: &[String]) -> bool {
    match module.first().map(String::as_str) {
        Some("metrics") => module.ends_with(&["metrics".to_owned(), "v1beta1".to_owned()]),
        _ => !module.iter().any(|part| {
            part.contains("alpha")
                || part.contains("testapigroup")
                || (part.starts_with('v') && part.contains("beta"))
        }),
    }
}

/// A message as the crate has it.
struct Message {
    module: Vec<String>,
    name: String,
    fields: Vec<Field>,
}

struct Field {
    tag: u32,
    /// In Rust's snake case.
    name: String,
    /// One letter for the type of its elements.
    letter: char,
    /// `*` repeated, `{` map, or nothing.
    shape: &'static str,
    /// Module and name of a message type.
    message: Option<(Vec<String>, String)>,
}

fn parse(source: &str, module: &[String]) -> Result<Vec<Message>> {
    let mut messages: Vec<Message> = Vec::new();
    let mut attribute = None;
    let mut lines = source
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//"));
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split([' ', '{', ';']).next().unwrap_or_default().to_owned();
            messages.push(Message {
                module: module.to_vec(),
                name,
                fields: Vec::new(),
            });
        } else if line.starts_with("#[prost(") {
            attribute = Some(line.to_owned());
        } else if let (Some(attribute), Some(rest)) = (
            attribute.take_if(|_| line.starts_with("pub ")),
            line.strip_prefix("pub "),
        ) {
            let mut text = rest.to_owned();
            while !text.ends_with(',') || text.matches('<').count() != text.matches('>').count() {
                text.push_str(lines.next().context("a field without end")?);
            }
            let (name, ty) = text
                .trim_end_matches(',')
                .split_once(':')
                .context("a field without type")?;
            let message = messages.last_mut().context("a field outside a struct")?;
            message.fields.push(field(&attribute, name, ty.trim(), module)?);
        }
    }
    Ok(messages)
}

fn field(attribute: &str, name: &str, ty: &str, module: &[String]) -> Result<Field> {
    let words = attribute.trim_start_matches("#[prost(").trim_end_matches(")]");
    let tag = words
        .split("tag = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .context("no tag")?;
    let (word, shape) = match words.strip_prefix("btree_map = \"string, ") {
        Some(rest) => (rest.split('"').next().unwrap_or_default(), "{"),
        None => {
            let word = words.split([',', ' ']).next().unwrap_or_default();
            (word, if words.contains("repeated") { "*" } else { "" })
        }
    };
    let letter = match word {
        "string" => 's',
        "bytes" => 'b',
        "int32" | "int64" => 'i',
        "bool" => 't',
        "double" => 'd',
        "message" => 'm',
        other => bail!("unknown type {other} in {attribute}"),
    };
    Ok(Field {
        tag: tag.parse()?,
        name: name.trim().trim_start_matches("r#").to_owned(),
        letter,
        shape,
        message: (letter == 'm').then(|| resolve(ty, module)),
    })
}

/// The innermost type of `Option<Box<super::super::core::v1::ObjectReference>>`, as module and name.
fn resolve(ty: &str, module: &[String]) -> (Vec<String>, String) {
    let inner = ty.trim_end_matches(['>', ',']);
    let path = inner.rsplit(['<', ',']).next().unwrap_or(inner).trim();
    let mut parts: Vec<&str> = path.split("::").collect();
    let name = parts.pop().unwrap_or_default().to_owned();
    let mut resolved = module.to_vec();
    for part in parts {
        match part {
            "super" => drop(resolved.pop()),
            "crate" => resolved.clear(),
            part => resolved.push(part.trim_start_matches("r#").to_owned()),
        }
    }
    (resolved, name)
}

/// Upstream's definitions, found by names without case and separators.
#[derive(Default)]
struct Definitions {
    names: BTreeMap<String, String>,
    fields: BTreeMap<String, BTreeMap<String, String>>,
}

impl Definitions {
    fn add(&mut self, text: &str) -> Result<()> {
        let map: BTreeMap<String, Value> = serde_json::from_str(text)?;
        for (name, definition) in map {
            let fields = definition["properties"].as_object();
            let fields = fields
                .into_iter()
                .flatten()
                .map(|(field, _)| (folded(field), field.clone()))
                .collect();
            self.fields.insert(name.clone(), fields);
            self.names.insert(folded(&name), name);
        }
        Ok(())
    }

    fn full_name(&self, module: &[String], name: &str) -> String {
        let module: Vec<&str> = module.iter().map(String::as_str).collect();
        let path = match module.as_slice() {
            ["metrics", .., version] => format!("metrics.{version}"),
            ["api", rest @ ..] => format!("api.{}", rest.join(".")),
            [first, rest @ ..] => format!("{}.{}", first.replace('_', "-"), rest.join(".")),
            [] => String::new(),
        };
        let name = format!("io.k8s.{path}.{name}");
        self.names.get(&folded(&name)).cloned().unwrap_or(name)
    }

    /// The JSON name of a field; none when the definition is known and the field is not in it.
    fn json_name(&self, message: &str, field: &str) -> Option<String> {
        // These two have no definition: JSON writes their fields in place, and the spelling is their holder's.
        let message = match message {
            "io.k8s.api.core.v1.VolumeSource" => "io.k8s.api.core.v1.Volume",
            "io.k8s.api.core.v1.PersistentVolumeSource" => "io.k8s.api.core.v1.PersistentVolumeSpec",
            message => message,
        };
        match self.fields.get(message).filter(|fields| !fields.is_empty()) {
            Some(fields) => fields.get(&folded(field)).cloned(),
            None => Some(camel(field)),
        }
    }
}

fn folded(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .collect::<String>()
        .to_lowercase()
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let mut chars = part.chars();
        text + &chars
            .next()
            .map(|c| c.to_uppercase().chain(chars).collect::<String>())
            .unwrap_or_default()
    })
}

/// One line for a message, one for each field: number, JSON name (`-` written in place), type, message type.
fn write(messages: &BTreeMap<String, Message>, definitions: &Definitions) -> String {
    let mut text = String::new();
    for (name, message) in messages {
        text.push_str(name);
        text.push('\n');
        for field in &message.fields {
            let json = definitions.json_name(name, &field.name);
            let json = match (json, field.letter) {
                (Some(json), _) => json,
                (None, 'm') => "-".to_owned(),
                (None, _) => camel(&field.name),
            };
            text.push_str(&format!(" {} {json} {}{}", field.tag, field.letter, field.shape));
            if let Some((module, name)) = &field.message {
                text.push_str(&format!(" {}", definitions.full_name(module, name)));
            }
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_become_lines() {
        let source = r#"
/// Words.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct IngressRule {
    /// More words.
    #[prost(string, optional, tag = "1")]
    pub host: ::core::option::Option<::prost::alloc::string::String>,
    #[prost(message, optional, tag = "2")]
    pub ingress_rule_value: ::core::option::Option<IngressRuleValue>,
    #[prost(btree_map = "string, message", tag = "3")]
    pub sizes: ::prost::alloc::collections::BTreeMap<
        ::prost::alloc::string::String,
        super::super::core::v1::Quantity,
    >,
}
"#;
        let module = ["api", "networking", "v1"].map(str::to_owned);
        let mut definitions = Definitions::default();
        let known = r#"{"io.k8s.api.networking.v1.IngressRule": {"properties": {"host": {}, "http": {}, "sizes": {}}}}"#;
        definitions.add(known).expect("JSON");
        let messages = parse(source, &module).expect("parses");
        let messages = messages
            .into_iter()
            .map(|message| (definitions.full_name(&module, &message.name), message))
            .collect();
        assert_eq!(
            write(&messages, &definitions),
            "io.k8s.api.networking.v1.IngressRule\n 1 host s\n 2 - m io.k8s.api.networking.v1.IngressRuleValue\n \
             3 sizes m{ io.k8s.api.core.v1.Quantity\n"
        );
    }
}
