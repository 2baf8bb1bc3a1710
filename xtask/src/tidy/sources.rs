//! Headers and sizes of the Rust sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// No hand-written file is longer than this.
const MAX_LINES: usize = 1000;
/// Directories that are not ours or not written by hand.
const SKIPPED: &[&str] = &["target", "node_modules", ".git", "dist"];

/// Returns what is wrong, a line each.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        wrong.extend(check_file(&name, &fs::read_to_string(&file)?));
    }
    Ok(wrong)
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!(
            "{name}: {lines} lines, at most {MAX_LINES} are allowed: split it"
        ));
    }
    if !text.starts_with("//!") {
        wrong.push(format!(
            "{name}: begins without a `//!` header that says what it is and why"
        ));
    }
    if text
        .lines()
        .any(|line| line.ends_with(' ') || line.ends_with('\t'))
    {
        wrong.push(format!("{name}: trailing white space"));
    }
    wrong
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_wrong_with_a_file() {
        let long = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
        let cases: [(&str, &str, &[&str]); 4] = [
            ("good", "//! Good.\nfn main() {}\n", &[]),
            ("bare", "fn main() {}\n", &["header"]),
            ("long", &long, &["split it"]),
            ("blank", "//! Blank. \n", &["trailing"]),
        ];
        for (name, text, expected) in cases {
            let found = check_file(name, text);
            assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
            for (line, word) in found.iter().zip(expected) {
                assert!(line.contains(word), "{name}: {line}");
            }
        }
    }
}
