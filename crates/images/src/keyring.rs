//! Which credentials are for which image, as the kubelet decides it (`credentialprovider/keyring.go`).
//!
//! An entry of a docker configuration names a host, with its port and the beginning of a path if it is for these alone. A
//! part of the host's name may be a pattern (`*.example.com`), which stands for one part. All entries that fit are tried,
//! the longest first; that for Docker Hub under its old name serves where none fits.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::Value;

use crate::access::PullSecret;
use crate::reference::ImageReference;
use crate::registry::Credentials;

/// Docker Hub in configurations of docker.
const HUB: &str = "index.docker.io";
/// Docker Hub in references.
const HUB_HOST: &str = "docker.io";

/// Credentials by what they are for.
#[derive(Clone, Default)]
pub struct Keyring(BTreeMap<String, Vec<Credentials>>);

/// A docker configuration cannot be understood; worded as the kubelet does.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyringError {
    /// The field `auth` of an entry is no name and password.
    #[error("unable to parse auth field, must be formatted as base64(username:password)")]
    Auth,
    /// It is not Base64 at all.
    #[error("illegal base64 data in the auth field of \"{0}\"")]
    Base64(String),
    /// It is not the object that it should be.
    #[error("a docker configuration maps registries to objects: {0}")]
    Shape(String),
}

impl Keyring {
    /// Adds the entries of a docker configuration in a Secret: the object `auths` of a `.dockerconfigjson`, or a `.dockercfg`
    /// as it is.
    ///
    /// # Errors
    /// An entry cannot be understood; then none is added.
    pub fn add(&mut self, entries: &Value, secret: &PullSecret) -> Result<(), KeyringError> {
        let shape = |what: &str| KeyringError::Shape(what.to_owned());
        let entries = match entries {
            Value::Null => return Ok(()),
            Value::Object(entries) => entries,
            _ => return Err(shape("it is no object")),
        };
        let mut found = Vec::new();
        for (location, entry) in entries {
            if !entry.is_object() {
                return Err(shape(&format!("\"{location}\" has no object")));
            }
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            let (username, password) = match text("auth").as_str() {
                "" => (text("username"), text("password")),
                both => decode(location, both)?,
            };
            let credentials = Credentials {
                username,
                password,
                secret: secret.clone(),
            };
            found.push((key(location), credentials));
        }
        for (key, credentials) in found {
            self.0.entry(key).or_default().push(credentials);
        }
        Ok(())
    }

    /// What is to be tried for an image, in this order; nothing: it is asked for without.
    pub fn of(&self, image: &ImageReference) -> Vec<Credentials> {
        let repository = image.repository();
        let fitting = self.0.iter().rev().filter(|(key, _)| fits(key, &repository));
        let found: Vec<Credentials> = fitting.flat_map(|(_, all)| all.iter().cloned()).collect();
        let of_hub = repository.split('/').next() == Some(HUB_HOST);
        match self.0.get(HUB) {
            Some(hub) if found.is_empty() && of_hub => hub.clone(),
            _ => found,
        }
    }
}

fn decode(location: &str, text: &str) -> Result<(String, String), KeyringError> {
    // Go's decoder does not mind how lines were broken.
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let decoded = match text.trim().ends_with('=') {
        true => STANDARD.decode(&text),
        false => STANDARD_NO_PAD.decode(&text),
    };
    let decoded = decoded.map_err(|_| KeyringError::Base64(location.to_owned()))?;
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let (username, password) = decoded.split_once(':').ok_or(KeyringError::Auth)?;
    Ok((username.to_owned(), password.to_owned()))
}

/// Host and path of an entry's name. The path of the registry's own API says nothing.
fn key(location: &str) -> String {
    let schemes = ["https://", "http://"];
    let rest = schemes.iter().find_map(|scheme| location.strip_prefix(scheme));
    let rest = rest.unwrap_or(location);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = match path.starts_with("/v1/") || path.starts_with("/v2/") {
        true => &path[3..],
        false => path,
    };
    match path {
        "/" => host.to_owned(),
        path => format!("{host}{path}"),
    }
}

/// Whether a key is for a repository: the same port, as many parts of the name, each of which fits, and a path that the
/// repository's begins with.
fn fits(key: &str, repository: &str) -> bool {
    let split = |text: &'_ str| {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        (name.to_owned(), port.to_owned(), path.to_owned())
    };
    let (pattern, port, beginning) = split(key);
    let (name, wanted_port, path) = split(repository);
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), name.split('.').collect());
    port == wanted_port
        && patterns.len() == parts.len()
        && path.starts_with(&beginning)
        && patterns.iter().zip(parts).all(|(pattern, part)| {
            let (pattern, part): (Vec<char>, Vec<char>) = (pattern.chars().collect(), part.chars().collect());
            matches(&pattern, &part)
        })
}

/// Go's `filepath.Match` for names without slashes: `*`, `?`, sets as `[a-z]` and `[^a-z]`, and `\` before a plain
/// character. What is no pattern fits nothing.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else {
        return text.is_empty();
    };
    match first {
        '*' => (0..=text.len()).any(|skipped| matches(rest, &text[skipped..])),
        '?' => !text.is_empty() && matches(rest, &text[1..]),
        '[' => {
            let Some((one, others)) = text.split_first() else {
                return false;
            };
            let (negated, set) = match rest.split_first() {
                Some(('^', set)) => (true, set),
                _ => (false, rest),
            };
            match in_set(set, *one) {
                Some((found, after)) => found != negated && matches(after, others),
                None => false,
            }
        }
        '\\' => match rest.split_first() {
            Some((plain, after)) => text.first() == Some(plain) && matches(after, &text[1..]),
            None => false,
        },
        plain => text.first() == Some(plain) && matches(rest, &text[1..]),
    }
}

/// Whether a character is in a set, and what follows it; nothing if the set does not end.
fn in_set(mut set: &[char], wanted: char) -> Option<(bool, &[char])> {
    let next = |set: &mut &[char]| -> Option<char> {
        let (first, rest) = set.split_first()?;
        *set = rest;
        if *first != '\\' {
            return Some(*first);
        }
        let (escaped, rest) = set.split_first()?;
        *set = rest;
        Some(*escaped)
    };
    let mut found = false;
    let mut count = 0;
    loop {
        if count > 0
            && let Some((']', after)) = set.split_first()
        {
            return Some((found, after));
        }
        let low = next(&mut set)?;
        let mut high = low;
        if let Some(('-', rest)) = set.split_first() {
            set = rest;
            high = next(&mut set)?;
        }
        found |= (low..=high).contains(&wanted);
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret() -> PullSecret {
        PullSecret::default()
    }

    #[test]
    fn entries_are_for_what_they_name() {
        // The entry, an image, whether it is for it.
        let cases = [
            ("reg.example.co", "reg.example.com/a:1", false),
            ("reg.example.com", "reg.example.com/a:1", true),
            ("reg.example.com", "reg.example.com.evil.io/a:1", false),
            ("reg.example.com", "a.reg.example.com/a:1", false),
            ("https://reg.example.com", "reg.example.com/a:1", true),
            ("http://reg.example.com/", "reg.example.com/a:1", true),
            ("https://reg.example.com/v1/", "reg.example.com/a:1", true),
            ("https://reg.example.com/v2/", "reg.example.com/a:1", true),
            (
                "https://reg.example.com/v2/team",
                "reg.example.com/team/a:1",
                true,
            ),
            (
                "https://reg.example.com/v2/team",
                "reg.example.com/other/a:1",
                false,
            ),
            ("reg.example.com:5000", "reg.example.com:5000/a:1", true),
            ("reg.example.com", "reg.example.com:5000/a:1", false),
            ("reg.example.com:5000", "reg.example.com/a:1", false),
            ("reg.example.com:500", "reg.example.com:5000/a:1", false),
            ("*.example.com", "reg.example.com/a:1", true),
            ("*.example.com", "example.com/a:1", false),
            ("*.example.com", "a.b.example.com/a:1", false),
            ("*.*.example.com", "a.b.example.com/a:1", true),
            ("*.example.com:5000", "reg.example.com:5000/a:1", true),
            ("*.example.com:*", "reg.example.com:5000/a:1", false),
            ("r?g.example.com", "reg.example.com/a:1", false),
            ("reg[0-9].example.com", "reg7.example.com/a:1", true),
            ("reg[^0-9].example.com", "reg7.example.com/a:1", false),
            ("reg[0-9.example.com", "reg7.example.com/a:1", false),
            ("reg-*.example.com", "reg-7.example.com/a:1", true),
            ("reg.example.com/team", "reg.example.com/team/a:1", true),
            ("reg.example.com/team/a", "reg.example.com/team/a:1", true),
            ("reg.example.com/team", "reg.example.com/a:1", false),
            ("reg.example.com/*", "reg.example.com/a:1", false),
            ("https://index.docker.io/v1/", "redis:7", true),
            ("https://index.docker.io/v1/", "docker.io/library/redis:7", true),
            ("https://index.docker.io/v1/", "someone/app", true),
            ("https://index.docker.io/v1/", "quay.io/x/y:1", false),
            ("index.docker.io", "redis:7", true),
            ("docker.io", "redis:7", true),
            ("docker.io/someone", "redis:7", false),
            ("*.docker.io", "redis:7", false),
            ("localhost:5000", "localhost:5000/a", true),
        ];
        for (entry, image, expected) in cases {
            let mut keyring = Keyring::default();
            let mut entries = serde_json::Map::new();
            entries.insert(entry.to_owned(), json!({"auth": STANDARD.encode("u:p:q")}));
            keyring.add(&Value::Object(entries), &secret()).expect(entry);
            let found = keyring.of(&image.parse().expect(image));
            assert_eq!(found.len() == 1, expected, "{entry} for {image}");
            for one in found {
                assert_eq!((one.username.as_str(), one.password.as_str()), ("u", "p:q"));
            }
        }
    }

    #[test]
    fn all_that_fit_are_tried_the_longest_first() {
        let named = |name: &str| json!({"username": name, "password": "p"});
        let mut keyring = Keyring::default();
        keyring
            .add(
                &json!({
                    "reg.example.com": named("host"),
                    "reg.example.com/team/app": named("app"),
                    "*.example.com": named("pattern"),
                    "reg.example.com/team": named("team"),
                    "https://index.docker.io/v1/": named("hub"),
                    "docker.io": named("docker"),
                }),
                &secret(),
            )
            .expect("entries");
        keyring
            .add(&json!({"reg.example.com/team": named("second")}), &secret())
            .expect("entries");
        keyring.add(&Value::Null, &secret()).expect("no entries");
        let cases = [
            (
                "reg.example.com/team/app:1",
                &["app", "team", "second", "host", "pattern"][..],
            ),
            ("reg.example.com/other", &["host", "pattern"]),
            ("redis", &["docker"]),
            ("elsewhere.example.org/a", &[]),
        ];
        for (image, expected) in cases {
            let found = keyring.of(&image.parse().expect(image));
            let names: Vec<&str> = found.iter().map(|one| one.username.as_str()).collect();
            assert_eq!(names, expected, "{image}");
        }
    }

    #[test]
    fn entries_that_cannot_be_understood_are_refused() {
        let cases = [
            (json!({"a": {"auth": "?"}}), KeyringError::Base64("a".to_owned())),
            (json!({"a": {"auth": "dQ=="}}), KeyringError::Auth),
            (json!([]), KeyringError::Shape("it is no object".to_owned())),
            (
                json!({"a": 1}),
                KeyringError::Shape("\"a\" has no object".to_owned()),
            ),
        ];
        for (entries, expected) in cases {
            assert_eq!(
                Keyring::default().add(&entries, &secret()),
                Err(expected),
                "{entries}"
            );
        }
        // Without padding, as some tools write it.
        let mut keyring = Keyring::default();
        keyring
            .add(&json!({"a.b": {"auth": "dTpw"}}), &secret())
            .expect("u:p");
        assert_eq!(keyring.of(&"a.b/c".parse().expect("valid")).len(), 1);
    }
}
