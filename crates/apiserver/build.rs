//! The descriptions of all built-in kinds and fields, for `kubectl explain`: taken at build time from the sources of the
//! dependency `k8s-openapi` and packed into one compressed file, which the server unpacks only while it makes a document.
//!
//! Its generated `JsonSchema` implementations carry upstream's descriptions, at indentations that tell a type's from a
//! field's. Reading them as text costs a fraction of a second; compiling them (its feature `schemars`) costs minutes.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// The package, and the directories of its sources that are ours: the level that is served, and what all levels share.
const PACKAGE: &str = "k8s-openapi";
const LEVEL: &str = "src/v1_35";

/// What stands before the description of a field whose type is another definition.
const OF_A_REFERENCE: &str = "schema_obj.ensure_object().insert(\"description\".into(), \"";

type Outcome<T> = Result<T, Box<dyn Error>>;
/// Definition name to its description (under the empty name) and those of its fields.
type Descriptions = BTreeMap<String, BTreeMap<String, String>>;

fn main() -> Outcome<()> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest
        .ancestors()
        .nth(2)
        .ok_or("the crate is not in its workspace")?;
    let lock = workspace.join("Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", lock.display());
    let source = source(workspace, &lock)?.join(LEVEL);
    let mut found = Descriptions::new();
    read(&source, &mut found)?;
    // A changed layout of the sources must not go unnoticed.
    if found.len() < 500 {
        return Err(format!("only {} definitions in {}", found.len(), source.display()).into());
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptions.z");
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::best());
    packed.write_all(json(&found).as_bytes())?;
    fs::write(out, packed.finish()?)?;
    Ok(())
}

/// Where cargo has unpacked the sources: in the registry of its home, or wherever `cargo metadata` says (vendored).
fn source(workspace: &Path, lock: &Path) -> Outcome<PathBuf> {
    let lock = fs::read_to_string(lock)?;
    let version = lock
        .split("[[package]]")
        .find(|package| package.contains(&format!("name = \"{PACKAGE}\"\n")))
        .and_then(|package| package.split("version = \"").nth(1)?.split('"').next())
        .ok_or("Cargo.lock does not name k8s-openapi")?;
    let directory = format!("{PACKAGE}-{version}");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    let unpacked = registries
        .into_iter()
        .flatten()
        .flatten()
        .map(|registry| registry.path().join(&directory))
        .find(|path| path.join(LEVEL).is_dir());
    if let Some(unpacked) = unpacked {
        return Ok(unpacked);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version=1", "--offline", "--filter-platform"]);
    let answer = metadata
        .arg(std::env::var("TARGET")?)
        .current_dir(workspace)
        .output()?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let path = text
        .split("\"manifest_path\":\"")
        .filter_map(|part| part.split('"').next())
        .map(|path| Path::new(path).parent().unwrap_or(Path::new("")).to_path_buf())
        .find(|path| path.join(LEVEL).is_dir());
    path.ok_or_else(|| format!("the sources of {directory} are not there: run `cargo fetch`").into())
}

fn read(directory: &Path, found: &mut Descriptions) -> Outcome<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            definition(&fs::read_to_string(&path)?, found);
        }
    }
    Ok(())
}

/// Reads the one definition of a file, if it has a schema.
fn definition(text: &str, found: &mut Descriptions) {
    let Some((_, schema)) = text.split_once("fn schema_name()") else {
        return;
    };
    let mut lines = schema.lines();
    let name = lines
        .by_ref()
        .find_map(|line| line.trim().strip_suffix(".into()"));
    let Some(name) = name.map(|name| name.trim_matches('"')) else {
        return;
    };
    let mut descriptions = BTreeMap::new();
    let mut field = String::new();
    for line in lines {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim();
        if let Some(description) = words.strip_prefix("\"description\": \"") {
            let description = description.strip_suffix(',').unwrap_or(description);
            let description = description.strip_suffix('"').unwrap_or(description).to_owned();
            match indent {
                12 => drop(descriptions.insert(String::new(), description)),
                20 => drop(descriptions.insert(field.clone(), description)),
                _ => {}
            }
        } else if let Some(description) = words.strip_prefix(OF_A_REFERENCE) {
            if let (20, Some((description, _))) = (indent, description.rsplit_once("\".into()")) {
                descriptions.insert(field.clone(), description.to_owned());
            }
        } else if indent == 16
            && let Some(key) = words.strip_suffix(": {").or_else(|| words.strip_suffix(": ({"))
        {
            field = key.trim_matches('"').to_owned();
        }
    }
    found.insert(name.to_owned(), descriptions);
}

/// The text as JSON. The sources' string literals have no escapes but those that JSON has, too.
fn json(found: &Descriptions) -> String {
    let mut text = String::from("{");
    for (name, fields) in found {
        text.push_str(&format!("\"{name}\":{{"));
        for (field, description) in fields {
            text.push_str(&format!("\"{field}\":\"{}\",", description.replace("\\'", "'")));
        }
        text.truncate(text.trim_end_matches(',').len());
        text.push_str("},");
    }
    text.truncate(text.trim_end_matches(',').len());
    text.push('}');
    text
}
