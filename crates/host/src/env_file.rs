//! Files of variables in the form that shells read (KEP-3721): `NAME='VALUE'`, where a value in single quotes may have
//! several lines, and `NAME=VALUE` without quotes to the end of the line, which init containers write with a plain `echo`.

/// The value of a variable in a file; none: it has no such one.
///
/// # Errors
/// The file is not in this form; names the line.
pub fn value(file: &[u8], wanted: &str) -> Result<Option<String>, String> {
    let text = std::str::from_utf8(file).map_err(|_| "it is no text".to_owned())?;
    let wrong = |number: usize, words: &str| {
        Err(format!(
            "invalid environment variable format at line {number}: {words}"
        ))
    };
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let number = number + 1;
        let line = line.trim_start_matches([' ', '\t']);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else {
            return wrong(number, "missing '='");
        };
        if name.is_empty() {
            return wrong(number, "empty variable name");
        }
        if name.ends_with([' ', '\t']) {
            return wrong(number, "whitespace before '='");
        }
        let value = match rest.strip_prefix('\'') {
            // Without quotes: what a shell would take, up to white space.
            None => rest.split([' ', '\t']).next().unwrap_or_default().to_owned(),
            Some(quoted) => {
                let mut value = quoted.to_owned();
                let after = loop {
                    if let Some(end) = value.find('\'') {
                        let after = value.split_off(end);
                        break after[1..].trim().to_owned();
                    }
                    let Some((_, next)) = lines.next() else {
                        return wrong(number, "missing closing quote");
                    };
                    value.push('\n');
                    value.push_str(next);
                };
                if !after.is_empty() && !after.starts_with('#') {
                    return wrong(number, "unexpected characters after the closing quote");
                }
                value
            }
        };
        if name == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let file = "# settings\n\nPLAIN=value1\n  QUOTED='a $b \"c\"' # said\nLONG='one\ntwo'\nEMPTY=\nSPACED= 'x'\n";
        let cases = [
            ("PLAIN", Some("value1")),
            ("QUOTED", Some("a $b \"c\"")),
            ("LONG", Some("one\ntwo")),
            ("EMPTY", Some("")),
            ("SPACED", Some("")),
            ("two", None),
            ("OTHER", None),
        ];
        for (name, expected) in cases {
            assert_eq!(
                value(file.as_bytes(), name),
                Ok(expected.map(str::to_owned)),
                "{name}"
            );
        }
        let wrong = [
            ("what\n", "line 1: missing '='"),
            ("A=1\n=2\n", "line 2: empty variable name"),
            ("A =1\n", "line 1: whitespace before '='"),
            ("A='1\n", "line 1: missing closing quote"),
            (
                "A='1'2\n",
                "line 1: unexpected characters after the closing quote",
            ),
        ];
        for (file, words) in wrong {
            let error = value(file.as_bytes(), "B").expect_err("wrong");
            assert_eq!(error, format!("invalid environment variable format at {words}"));
        }
    }
}
