//! Rules for the names and labels that everything has, with upstream's messages (`apimachinery/pkg/util/validation`). Each
//! check answers its complaints; none means good.

/// The form of a label.
pub const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// What upstream says about a text that is too long.
pub fn max_length(length: usize) -> String {
    format!("must be no more than {length} characters")
}

/// What it says where a key or value of labels is.
fn max_bytes(length: usize) -> String {
    format!("must be no more than {length} bytes")
}

/// A rule, its pattern, and texts that keep it.
pub fn form(message: &str, pattern: &str, examples: &[&str]) -> String {
    let shown: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{pattern}')",
        shown.join(" or ")
    )
}

/// Words of the Common Expression Language that are literals or operators.
const CEL_LITERALS: [&str; 4] = ["true", "false", "null", "in"];

/// Whether a word is kept for the Common Expression Language's own future: it names no variable and no function.
pub fn is_cel_reserved(word: &str) -> bool {
    const RESERVED: [&str; 17] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    RESERVED.contains(&word)
}

/// Whether a word is none that somebody may choose in an expression.
pub fn is_cel_word(word: &str) -> bool {
    CEL_LITERALS.contains(&word) || is_cel_reserved(word)
}

/// A small letter or a digit.
pub fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// `[a-z0-9]([-a-z0-9]*[a-z0-9])?` without its length.
pub fn label_form(text: &str) -> bool {
    let b = text.as_bytes();
    matches!((b.first(), b.last()), (Some(first), Some(last)) if lower(*first) && lower(*last))
        && b.iter().all(|&c| lower(c) || c == b'-')
}

/// An RFC 1123 label: names of namespaces, containers, volumes.
pub fn dns_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_length(63));
    }
    if !label_form(text) && text.split('.').all(label_form) {
        out.push("must not contain dots".into());
    } else if !label_form(text) {
        out.push(form(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character",
            LABEL_FORM,
            &["my-name", "123-abc"],
        ));
    }
    out
}

/// An RFC 1123 subdomain: names of most objects.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    subdomain(text, max_length)
}

fn subdomain(text: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(too_long(253));
    }
    if text.is_empty() || !text.split('.').all(label_form) {
        out.push(form(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["example.com"],
        ));
    }
    out
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`.
fn qualified_form(text: &str) -> bool {
    let b = text.as_bytes();
    matches!((b.first(), b.last()), (Some(f), Some(l)) if f.is_ascii_alphanumeric() && l.is_ascii_alphanumeric())
        && b.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character";
const QUALIFIED_PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// A key of labels, annotations, taints, resources, conditions: `[prefix/]name`.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".into());
            } else {
                out.extend(
                    subdomain(prefix, max_bytes)
                        .into_iter()
                        .map(|m| format!("prefix part {m}")),
                );
            }
            *name
        }
        _ => {
            let form = form(QUALIFIED, QUALIFIED_PATTERN, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {form} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_bytes(63)));
    }
    if !qualified_form(name) {
        let form = form(QUALIFIED, QUALIFIED_PATTERN, &["MyName", "my.name", "123-abc"]);
        out.push(format!("name part {form}"));
    }
    out
}

/// A label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_bytes(63));
    }
    if !text.is_empty() && !qualified_form(text) {
        out.push(form(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}
