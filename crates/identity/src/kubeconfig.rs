//! kubeconfig files: read, changed in place, written back with everything foreign in them kept.
//!
//! The document stays a JSON value, because other tools keep fields here that we know nothing of; the named lists
//! (`clusters`, `users`, `contexts`) are edited by name.

use crate::authority::Credential;
use crate::files::{self, FileError};
use crate::sec1;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A kubeconfig could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no kubeconfig.
    #[error("{}: not a kubeconfig: {reason}: mend it, or choose another with KUBECONFIG", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The document cannot be written as YAML.
    #[error("cannot write the kubeconfig as YAML: {0}")]
    Render(String),
}

/// How a client verifies the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The authorities of the system.
    System,
    /// These authorities (PEM).
    Authority(String),
    /// Whoever answers.
    Insecure,
}

/// A kubeconfig document.
#[derive(Debug, Clone, PartialEq)]
pub struct Kubeconfig(Value);

impl Default for Kubeconfig {
    fn default() -> Self {
        Kubeconfig(json!({
            "apiVersion": "v1",
            "kind": "Config",
            "preferences": {},
            "clusters": [],
            "users": [],
            "contexts": [],
            "current-context": "",
        }))
    }
}

impl Kubeconfig {
    /// A file for one user of one cluster, e.g. the administrator's.
    pub fn for_certificate(
        cluster: &str,
        server: &str,
        ca_pem: &str,
        user: &str,
        credential: &Credential,
    ) -> Kubeconfig {
        let mut config = Kubeconfig::default();
        config.set_cluster(cluster, server, &Trust::Authority(ca_pem.to_string()));
        config.set_certificate_user(user, credential);
        let context = format!("{user}@{cluster}");
        config.set_context(&context, cluster, user, None);
        config.set_current(&context);
        config
    }

    /// Reads a file; a missing or empty one is an empty document.
    pub fn load(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
        let text = files::read_optional(path)?.unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(Kubeconfig::default());
        }
        let bad = |reason: String| KubeconfigError::Parse {
            path: path.to_path_buf(),
            reason,
        };
        let mut document: Value =
            serde_saphyr::from_str(&text).map_err(|e| bad(first_line(&e.to_string())))?;
        let Some(map) = document.as_object_mut() else {
            return Err(bad("not a mapping".into()));
        };
        for list in ["clusters", "users", "contexts"] {
            let entry = map.entry(list).or_insert(Value::Null);
            if entry.is_null() {
                *entry = json!([]);
            } else if !entry.is_array() {
                return Err(bad(format!("{list} is not a list")));
            }
        }
        Ok(Kubeconfig(document))
    }

    /// Writes the file for its owner only, with its directory when that is missing.
    pub fn save(&self, path: &Path) -> Result<(), KubeconfigError> {
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            files::private_dir(dir)?;
        }
        files::write_private(path, self.to_yaml()?.as_bytes())?;
        Ok(())
    }

    /// The document as YAML. Every value stands in the line of its name, where scripts look for it.
    pub fn to_yaml(&self) -> Result<String, KubeconfigError> {
        let lines = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&self.0, lines)
            .map_err(|e| KubeconfigError::Render(e.to_string()))
    }

    /// Adds or replaces a cluster.
    pub fn set_cluster(&mut self, name: &str, server: &str, trust: &Trust) {
        let mut cluster = Map::new();
        match trust {
            Trust::System => {}
            Trust::Authority(pem) => {
                cluster.insert("certificate-authority-data".into(), STANDARD.encode(pem).into());
            }
            Trust::Insecure => {
                cluster.insert("insecure-skip-tls-verify".into(), true.into());
            }
        }
        cluster.insert("server".into(), server.into());
        self.put("clusters", name, "cluster", Value::Object(cluster));
    }

    /// Adds or replaces a user who holds a token.
    pub fn set_token_user(&mut self, name: &str, token: &str) {
        self.put("users", name, "user", json!({ "token": token }));
    }

    /// Adds or replaces a user who holds a client certificate.
    pub fn set_certificate_user(&mut self, name: &str, credential: &Credential) {
        let user = json!({
            "client-certificate-data": STANDARD.encode(&credential.certificate_pem),
            "client-key-data": STANDARD.encode(sec1::labelled(&credential.key_pem)),
        });
        self.put("users", name, "user", user);
    }

    /// Adds or replaces a context.
    pub fn set_context(&mut self, name: &str, cluster: &str, user: &str, namespace: Option<&str>) {
        let mut context = json!({ "cluster": cluster, "user": user });
        if let Some(namespace) = namespace {
            context["namespace"] = namespace.into();
        }
        self.put("contexts", name, "context", context);
    }

    /// The current context, empty for none.
    pub fn current(&self) -> &str {
        self.0["current-context"].as_str().unwrap_or_default()
    }

    /// Chooses the current context.
    pub fn set_current(&mut self, name: &str) {
        self.0["current-context"] = name.into();
    }

    /// Names of users.
    pub fn users(&self) -> Vec<String> {
        self.entries("users")
            .filter_map(name_of)
            .map(str::to_string)
            .collect()
    }

    /// The user of a context; `None` when there is no such context.
    pub fn context_user(&self, context: &str) -> Option<&str> {
        self.entries("contexts")
            .find(|c| name_of(c) == Some(context))
            .map(|c| c["context"]["user"].as_str().unwrap_or_default())
    }

    /// The token of a user.
    pub fn user_token(&self, user: &str) -> Option<&str> {
        self.entries("users").find(|u| name_of(u) == Some(user))?["user"]["token"].as_str()
    }

    /// Removes users for whom `gone` is true, their contexts, and clusters that no context uses any more but one of
    /// those did. Returns the names of the contexts removed.
    pub fn remove_users(&mut self, gone: impl Fn(&str) -> bool) -> Vec<String> {
        let mut contexts = Vec::new();
        let mut clusters = Vec::new();
        self.retain("contexts", |c| {
            let goes = c["context"]["user"].as_str().is_some_and(&gone);
            if goes {
                contexts.extend(name_of(c).map(str::to_string));
                clusters.extend(c["context"]["cluster"].as_str().map(str::to_string));
            }
            !goes
        });
        self.retain("users", |u| !name_of(u).is_some_and(&gone));
        let used: Vec<String> = self
            .entries("contexts")
            .filter_map(|c| c["context"]["cluster"].as_str().map(str::to_string))
            .collect();
        self.retain("clusters", |c| {
            name_of(c).is_none_or(|n| !clusters.iter().any(|k| k == n) || used.iter().any(|k| k == n))
        });
        if contexts.iter().any(|c| c == self.current()) {
            self.set_current("");
        }
        contexts
    }

    fn entries(&self, list: &str) -> impl Iterator<Item = &Value> {
        self.0[list].as_array().into_iter().flatten()
    }

    fn retain(&mut self, list: &str, keep: impl FnMut(&Value) -> bool) {
        if let Some(entries) = self.0[list].as_array_mut() {
            entries.retain(keep);
        }
    }

    fn put(&mut self, list: &str, name: &str, key: &str, value: Value) {
        let entry = json!({ "name": name, key: value });
        if let Some(entries) = self.0[list].as_array_mut() {
            match entries.iter_mut().find(|e| name_of(e) == Some(name)) {
                Some(existing) => *existing = entry,
                None => entries.push(entry),
            }
        }
    }
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["name"].as_str()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

/// Where kubectl keeps its configuration: the first file named by `KUBECONFIG`, else `~/.kube/config`.
pub fn default_path() -> Option<PathBuf> {
    if let Some(list) = std::env::var_os("KUBECONFIG")
        && let Some(first) = std::env::split_paths(&list).find(|p| !p.as_os_str().is_empty())
    {
        return Some(first);
    }
    std::env::home_dir().map(|home| home.join(".kube").join("config"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "\
apiVersion: v1
kind: Config
preferences: {colors: true}
clusters:
- name: work
  cluster: {server: https://work.example, extensions: [{name: x, extension: {a: 1}}]}
users:
- name: me
  user: {exec: {command: aws, args: [eks, get-token]}}
contexts:
- name: work
  context: {cluster: work, user: me}
current-context: work
";

    /// Scripts take the credentials out with `grep` and `awk`, and some clients know a key by its label alone.
    #[test]
    fn credentials_stand_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let authority = crate::authority::Authority::load_or_create(dir.path()).unwrap();
        let request = crate::authority::Request::client("me", None);
        let credential = authority.issue(&request).unwrap();
        let config = Kubeconfig::for_certificate(
            "c",
            "https://a:6443",
            authority.certificate_pem(),
            "me",
            &credential,
        );
        let text = config.to_yaml().unwrap();
        for (field, label) in [
            ("certificate-authority-data: ", "CERTIFICATE"),
            ("client-certificate-data: ", "CERTIFICATE"),
            ("client-key-data: ", "EC PRIVATE KEY"),
        ] {
            let line = text
                .lines()
                .find_map(|line| line.trim().strip_prefix(field))
                .unwrap();
            let pem = String::from_utf8(STANDARD.decode(line).unwrap()).unwrap();
            assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{pem}");
        }
    }

    #[test]
    fn foreign_entries_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, FOREIGN).unwrap();
        let before = Kubeconfig::load(&path).unwrap();
        let mut config = before.clone();
        config.set_cluster("192.0.2.1", "https://192.0.2.1:6443", &Trust::Insecure);
        config.set_token_user("wcp:192.0.2.1:a@b", "one");
        config.set_token_user("wcp:192.0.2.1:a@b", "two");
        config.set_context("demo", "192.0.2.1", "wcp:192.0.2.1:a@b", Some("demo"));
        config.set_current("demo");
        config.save(&path).unwrap();

        let mut again = Kubeconfig::load(&path).unwrap();
        assert_eq!(again, config);
        assert_eq!(again.user_token("wcp:192.0.2.1:a@b"), Some("two"));
        assert_eq!(again.context_user("work"), Some("me"));
        assert_eq!(again.remove_users(|u| u.starts_with("wcp:")), ["demo"]);
        again.set_current("work");
        assert_eq!(again, before);
    }

    #[test]
    fn not_a_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        for (text, want) in [
            ("- a\n- b\n", "not a mapping"),
            ("clusters: 3\n", "clusters is not a list"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Kubeconfig::load(&path).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert_eq!(
            Kubeconfig::load(&dir.path().join("none")).unwrap(),
            Kubeconfig::default()
        );
    }
}
