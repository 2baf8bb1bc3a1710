//! The first of the documents of a YAML text: upstream's reader takes it and never looks at the others.

/// What Go's reader says of a document in another version of YAML than its own.
pub(super) const INCOMPATIBLE: &str = "found incompatible YAML document";

/// The text up to the end of its first document.
///
/// # Errors
/// The document says that it is of another version than 1.1.
pub(super) fn first(text: &str) -> Result<&str, &'static str> {
    let (mut begun, mut at) = (false, 0);
    for line in text.split_inclusive('\n') {
        // A marker at the beginning of a line is one even within a text.
        let is_marker = |marker: &str| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if is_marker("---") || is_marker("...") {
            if begun {
                return Ok(&text[..at]);
            }
            begun = line.starts_with("---");
        } else if let Some(directive) = line.strip_prefix('%').filter(|_| !begun) {
            let version = directive.strip_prefix("YAML").map(str::trim);
            if version.is_some_and(|version| version != "1.1") {
                return Err(INCOMPATIBLE);
            }
        } else if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
            begun = true;
        }
        at += line.len();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{INCOMPATIBLE, first};

    #[test]
    fn first_documents() {
        for (text, wanted) in [
            ("a: 1\n", "a: 1\n"),
            ("# c\n\n---\na: 1\n---\nb: 1\n", "# c\n\n---\na: 1\n"),
            ("a: 1\n...\nb: 1\n", "a: 1\n"),
            ("a: |\n  ---\n  x\n--- b\n", "a: |\n  ---\n  x\n"),
            ("---\n---\na: 1\n", "---\n"),
            ("a: 1\n---b: 1\n", "a: 1\n---b: 1\n"),
            ("%YAML 1.1\n---\na: 1\n", "%YAML 1.1\n---\na: 1\n"),
        ] {
            assert_eq!(first(text), Ok(wanted), "{text:?}");
        }
        assert_eq!(first("%YAML 1.2\n---\na: 1\n"), Err(INCOMPATIBLE));
    }
}
