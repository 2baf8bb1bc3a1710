//! `cargo xtask gen-schema`: upstream's definitions, structure only, for `crates/kinds`.
//!
//! The source is the PyPI wheel `kubernetes-validate`, whose definitions equal upstream's but for four mechanical
//! edits, which are undone here. No description text of others enters the repository.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use crate::run::{make_dir, quiet, step};

/// The release of the wheel; it carries the definitions of every minor version up to its own.
const WHEEL: &str = "kubernetes-validate==1.37.0";
/// The Kubernetes API level of the project.
const LEVEL: &str = "v1.35.0";

/// Arguments of `cargo xtask gen-schema`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask gen-schema
  cargo xtask gen-schema --check      fail when the committed table differs")]
pub struct Arguments {
    /// Write nothing; fail when the committed table differs.
    #[arg(long)]
    check: bool,
}

/// Downloads the wheel and writes the table.
pub fn run(arguments: &Arguments) -> Result<()> {
    let scratch = e2e::paths::target().join("gen-schema");
    make_dir(&scratch)?;
    step("Fetching the definitions", || {
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
        ])
        .arg(&scratch);
        pip.env("PIP_BREAK_SYSTEM_PACKAGES", "1")
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .arg(WHEEL);
        quiet(&mut pip).map(drop)
    })?;
    let file = scratch
        .join("kubernetes_validate/kubernetes-json-schema")
        .join(format!("{LEVEL}-local"))
        .join("_definitions.json");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let document: Value = serde_json::from_str(&text)?;
    let definitions = document["$defs"].as_object().context("the file has no $defs")?;
    let table: Map<String, Value> = definitions
        .iter()
        .map(|(name, value)| (name.clone(), normalise(name, value)))
        .collect();
    let mut lines: Vec<String> = table
        .iter()
        .map(|(name, value)| format!("{}:{value}", json!(name)))
        .collect();
    lines.sort();
    let written = format!("{{\n{}\n}}\n", lines.join(",\n"));
    let target = e2e::paths::workspace().join("crates/kinds/src/schema/upstream.json");
    if arguments.check {
        if fs::read_to_string(&target)? != written {
            bail!("{} is not what `cargo xtask gen-schema` writes", target.display());
        }
        return Ok(());
    }
    fs::write(&target, written)?;
    println!("{} definitions", table.len());
    Ok(())
}

/// Undoes the wheel's edits of one definition and drops what is not structure.
fn normalise(name: &str, value: &Value) -> Value {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => return json!({"type": "string"}),
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => {
            return json!({"type": "string", "format": "int-or-string"});
        }
        _ => {}
    }
    let mut value = clean(value, false);
    if value.get("x-kubernetes-group-version-kind").is_some() {
        for field in ["apiVersion", "kind"] {
            // `get_mut` and not an index: that would add the field where there is none.
            let property = value
                .get_mut("properties")
                .and_then(|properties| properties.get_mut(field));
            if let Some(property) = property.and_then(Value::as_object_mut) {
                property.remove("enum");
            }
        }
    }
    value
}

/// `named` says that the keys of this object are names of fields and not keywords of the schema.
fn clean(value: &Value, named: bool) -> Value {
    match value {
        Value::Object(map) => {
            let mut cleaned = Map::new();
            for (key, value) in map {
                let keyword = !named;
                if keyword && key == "description" {
                    continue;
                }
                let value = match (keyword, key.as_str(), value) {
                    (true, "type", Value::Array(types)) => types[0].clone(),
                    (true, "$ref", Value::String(target)) => {
                        json!(target.replace("#/$defs/", "#/definitions/"))
                    }
                    (true, "properties", value) => clean(value, true),
                    (_, _, value) => clean(value, false),
                };
                cleaned.insert(key.clone(), value);
            }
            Value::Object(cleaned)
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| clean(item, false)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheels_edits_are_undone() {
        let wheel = json!({
            "description": "words", "type": ["object", "null"],
            "properties": {
                "kind": {"type": "string", "enum": ["X"]},
                "description": {"type": ["string", "null"], "description": "words"},
                "$ref": {"type": "string"},
                "child": {"$ref": "#/$defs/io.k8s.Y"},
            },
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "X", "version": "v1"}],
        });
        let expected = json!({
            "type": "object",
            "properties": {
                "kind": {"type": "string"}, "description": {"type": "string"}, "$ref": {"type": "string"},
                "child": {"$ref": "#/definitions/io.k8s.Y"},
            },
            "x-kubernetes-group-version-kind": [{"group": "", "kind": "X", "version": "v1"}],
        });
        assert_eq!(normalise("io.k8s.X", &wheel), expected);
    }
}
