//! Continue tokens: the state that a list began with, and the key behind which it goes on. Opaque to clients, and yet what
//! is none is told in upstream's words (`k8s.io/apiserver/pkg/storage/continue.go`), which are Go's of base64 and JSON.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kinds::status::Status;
use serde_json::{Value, json};

/// Without padding, and whatever the bits beyond the last byte are.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

const VERSION: &str = "meta.k8s.io/v1";

/// Where a list goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The revision that is shown; none below zero, which stands for any.
    pub rv: i64,
    /// The last key that was shown.
    pub start: String,
}

impl Token {
    /// The token for a list of `namespace`, or of all: its keys begin below that.
    pub fn encode(&self, namespace: &str) -> String {
        let below = self.start.strip_prefix(&prefix(namespace));
        let start = format!("{}\u{0}", below.unwrap_or(&self.start));
        BASE64.encode(json!({"v": VERSION, "rv": self.rv, "start": start}).to_string())
    }

    /// Reads a token for a list of `namespace`.
    pub fn decode(text: &str, namespace: &str) -> Result<Token, Status> {
        let invalid = |why: String| {
            Status::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = decode(text).map_err(invalid)?;
        let (version, rv, start) = fields(&bytes).map_err(invalid)?;
        if version != VERSION {
            let why = format!("server does not recognize this encoded version {version}");
            return Err(invalid(why));
        }
        if rv == 0 {
            let why = format!("incorrect encoded start resourceVersion (version {VERSION})");
            return Err(invalid(why));
        }
        if start.is_empty() {
            return Err(invalid(format!("encoded start key empty (version {VERSION})")));
        }
        if !is_clean(start.strip_prefix('/').unwrap_or(&start)) {
            return Err(invalid(start));
        }
        let below = start.trim_start_matches('/').trim_end_matches('\0');
        Ok(Token {
            rv,
            start: format!("{}{below}", prefix(namespace)),
        })
    }
}

fn prefix(namespace: &str) -> String {
    match namespace {
        "" => String::new(),
        namespace => format!("{namespace}/"),
    }
}

/// Whether a path leads nowhere but down.
fn is_clean(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let illegal = |at: usize| format!("illegal base64 data at input byte {at}");
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if let Some(at) = text.bytes().position(|b| !known(b)) {
        return Err(illegal(at));
    }
    BASE64
        .decode(text)
        .map_err(|_| illegal(text.len() - text.len() % 4))
}

/// Version, revision and key of a token's JSON, as Go fills a struct with them.
fn fields(bytes: &[u8]) -> Result<(String, i64, String), String> {
    let (value, _) = machinery::parse_json_checked(bytes).map_err(|status| {
        let why = status
            .message
            .strip_prefix("couldn't get version/kind; json parse error: ");
        why.unwrap_or(&status.message).to_owned()
    })?;
    if !value.is_object() && !value.is_null() {
        let found = crate::rest::create::type_name(&value);
        return Err(format!(
            "json: cannot unmarshal {found} into Go value of type storage.continueToken"
        ));
    }
    let mismatch = |field: &str, wanted: &str| {
        let found = match &value[field] {
            Value::Number(number) if wanted == "int64" => format!("number {number}"),
            other => crate::rest::create::type_name(other).to_owned(),
        };
        format!("json: cannot unmarshal {found} into Go struct field continueToken.{field} of type {wanted}")
    };
    let text = |field: &str| match &value[field] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        _ => Err(mismatch(field, "string")),
    };
    let (version, start) = (text("v")?, text("start"));
    let rv = match &value["rv"] {
        Value::Null => 0,
        given => given.as_i64().ok_or_else(|| mismatch("rv", "int64"))?,
    };
    Ok((version, rv, start?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str, namespace: &str) -> Result<(i64, String), String> {
        let read = Token::decode(text, namespace).map(|token| (token.rv, token.start));
        let begin = "invalid continue token: continue key is not valid: ";
        read.map_err(|status| status.message.strip_prefix(begin).unwrap().to_owned())
    }

    #[test]
    fn tokens_that_are_none() {
        let cases = [
            (
                "garbage",
                "invalid character '\\u0081' looking for beginning of value",
            ),
            (
                "null",
                "invalid character '\\u009e' looking for beginning of value",
            ),
            ("x", "illegal base64 data at input byte 0"),
            ("AA==", "illegal base64 data at input byte 2"),
            (" ", "illegal base64 data at input byte 0"),
            ("AAAA+", "illegal base64 data at input byte 4"),
        ];
        for (text, why) in cases {
            assert_eq!(decoded(text, ""), Err(why.to_owned()), "{text}");
        }
        let cases = [
            (r#"{}"#, "server does not recognize this encoded version "),
            (r#"null"#, "server does not recognize this encoded version "),
            (
                r#"{"v":"x","rv":5,"start":"a"}"#,
                "server does not recognize this encoded version x",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":5}"#,
                "encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","start":"a"}"#,
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":"5","start":"a"}"#,
                "json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1.5,"start":"a"}"#,
                "json: cannot unmarshal number 1.5 into Go struct field continueToken.rv of type int64",
            ),
            (
                r#"{"v":7}"#,
                "json: cannot unmarshal number into Go struct field continueToken.v of type string",
            ),
            (
                r#"[]"#,
                "json: cannot unmarshal array into Go value of type storage.continueToken",
            ),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../x"}"#, "../x"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"b/../c"}"#, "b/../c"),
            (r#"{"v":"meta.k8s.io/v1","rv":1,"start":"a//b"}"#, "a//b"),
        ];
        for (json, why) in cases {
            assert_eq!(decoded(&BASE64.encode(json), "n"), Err(why.to_owned()), "{json}");
        }
    }

    #[test]
    fn tokens_tell_no_namespace_that_the_path_tells() {
        let token = || Token {
            rv: 7,
            start: "n/a".into(),
        };
        let cases = [
            ("", "", "n/a"),
            ("n", "n", "n/a"),
            // Of another list it is a token all the same, as upstream.
            ("n", "m", "m/a"),
            ("n", "", "a"),
        ];
        for (of, read_in, start) in cases {
            let encoded = token().encode(of);
            assert_eq!(
                decoded(&encoded, read_in),
                Ok((7, start.to_owned())),
                "{of} {read_in}"
            );
        }
        let plain = BASE64.encode(r#"{"v":"meta.k8s.io/v1","rv":-1,"start":"/c"}"#);
        assert_eq!(decoded(&plain, "n"), Ok((-1, "n/c".into())));
    }
}
