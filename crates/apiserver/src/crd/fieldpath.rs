//! Paths from a place in a schema to a field below it, `.a.b` or `.a['b']`: of selectable fields, and of what a rule is about.
//! Source: `ValidFieldPath` of `apiextensions-apiserver/pkg/apiserver/schema/cel/validation.go`.

use kinds::field::Path;
use serde_json::Value;

const NO_FIELD: &str = "does not refer to a valid field";
const NO_END: &str = "unexpected end of JSON path";

/// Follows a path; `arrays`: names may stand in brackets, too. Answers the path as errors show it, and the schema there.
pub(super) fn follow<'s>(path: &str, schema: &'s Value, arrays: bool) -> Result<(Path, &'s Value), String> {
    let (mut rest, mut here, mut at) = (path, schema, Path::root());
    while let Some(token) = next(&mut rest) {
        let name = match token {
            "[" if !arrays => return Err("array notation is not allowed".into()),
            "[" => {
                let quoted = next(&mut rest).ok_or(NO_END)?;
                let inner = quoted.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                inner.replace("\\'", "'")
            }
            "." => next(&mut rest).ok_or(NO_END)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let is_filled = |fields: &Value| fields.as_object().is_some_and(|fields| !fields.is_empty());
        (here, at) = match (&here["properties"], &here["additionalProperties"]) {
            (fields, _) if is_filled(fields) => (fields.get(&name).ok_or(NO_FIELD)?, at.child(&name)),
            (_, values) if values.is_object() => (values, at.key(&name)),
            _ => return Err(NO_FIELD.into()),
        };
        if token == "[" {
            match next(&mut rest).ok_or(NO_END)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
            }
        }
    }
    Ok((at, here))
}

/// Takes the next token: a dot or a bracket, a text in quotes, or what stands between.
fn next<'p>(rest: &mut &'p str) -> Option<&'p str> {
    let end = match rest.as_bytes().first()? {
        b'.' | b'[' | b']' => 1,
        b'\'' => {
            let bytes = rest.as_bytes();
            let closing = (1..bytes.len()).find(|&i| bytes[i] == b'\'' && bytes[i - 1] != b'\\');
            closing.map_or(rest.len(), |i| i + 1)
        }
        _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
    };
    let (token, after) = rest.split_at(end);
    *rest = after;
    Some(token)
}
