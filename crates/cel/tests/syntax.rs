//! Texts that are no expressions: every mistake is told in upstream's words, at its place.
//!
//! The cases are in `syntax.txt`: a line `=== ` with the text as JSON, then what is said of it.

use cel::{Env, Program};

fn said(text: &str) -> String {
    match Program::compile(text, &Env::new()) {
        Ok(_) => "good".into(),
        Err(error) => error.0,
    }
}

#[test]
fn mistakes_are_told_as_upstream_tells_them() {
    let cases = include_str!("syntax.txt");
    let mut count = 0;
    for case in cases.strip_prefix("=== ").unwrap().trim_end().split("\n=== ") {
        let (text, wanted) = case.split_once('\n').unwrap();
        let text: String = serde_json::from_str(text).unwrap();
        assert_eq!(said(&text), wanted, "{text}");
        count += 1;
    }
    assert!(count > 100);
}

/// Lines that end in blanks, which a file of cases had better not have.
#[test]
fn places_after_the_last_sign_of_a_line() {
    const OPERAND: &str = "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                           NUM_UINT, STRING, BYTES, IDENTIFIER}";
    let missing = |place: &str, line: &str, marks: &str| {
        format!(
            "ERROR: <input>:{place}: Syntax error: mismatched input '<EOF>' {OPERAND}\n | {line}\n | {marks}^"
        )
    };
    assert_eq!(said("a || "), missing("1:6", "a || ", "....."));
    assert_eq!(said("a ||\r"), missing("1:6", "a ||\r", "....."));
    assert_eq!(said("a\n||\n"), missing("3:1", "", ""));
    // Tabs are shown as blanks.
    assert!(said("\t-").starts_with(
        "ERROR: <input>:1:3: Syntax error: no viable alternative at input '-'\n |  -\n | ..^\nERROR: <input>:1:3: "
    ));
}

#[test]
fn what_is_said_has_bounds() {
    let nowhere = |what: &str| format!("ERROR: <input>:-1:0: {what}");
    assert_eq!(
        said(&"(".repeat(300)),
        nowhere("expression recursion limit exceeded: 250")
    );
    assert_eq!(
        said(&format!("1{}", "+1".repeat(300))),
        nowhere("max recursion depth exceeded")
    );
    assert_eq!(
        said(&"é".repeat(100_001)),
        nowhere("expression code point size exceeds limit: size: 100001, limit 100000")
    );
    // Attempts to go on, tokens skipped, mistakes told, each has an end.
    let last = |text: &str| said(text).lines().last().unwrap().to_string();
    let attempts = said(&"[+".repeat(40));
    assert!(
        attempts.contains("error recovery attempt limit exceeded: 30"),
        "{attempts}"
    );
    let skipped = said(&format!("a b {}", "c ".repeat(300)));
    assert!(
        skipped.starts_with(&nowhere("error recovery token lookahead limit exceeded: 256")),
        "{skipped}"
    );
    let mistakes = "$".repeat(200);
    assert!(said(&mistakes).contains("1:100: Syntax error: token recognition error at: '$'"));
    assert_eq!(last(&mistakes), "1 more errors were truncated");
    // Nothing of a long line is shown.
    let long = format!("{} )", "a".repeat(17_000));
    assert_eq!(
        said(&long),
        "ERROR: <input>:1:17002: Syntax error: extraneous input ')' expecting <EOF>"
    );
    // However a text goes on, what is said of it comes soon and without a deep stack.
    for piece in [
        "[", "{", "{1:", "f(", "a[", "a?", "a?b:", "-", "!", "- ", "!-", "a.", "a(b).", "a.b{c:", "1+",
        "a==", "a&&", "a||", "in ", "true.", "[1,", "{?a:", "'", "//\n", "\n", "`", ",", ")", "'\\z'", "1.?",
    ] {
        assert_ne!(said(&piece.repeat(20_000)), "good", "{piece}");
    }
}
