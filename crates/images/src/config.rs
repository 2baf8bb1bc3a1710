//! The part of an image's configuration that decides how its container runs (OCI image-spec, config.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an image says about its process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `NAME=value` pairs.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Words before the arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub entrypoint: Vec<String>,
    /// Default arguments.
    #[serde(deserialize_with = "null_is_default")]
    pub cmd: Vec<String>,
    /// Where the process starts.
    #[serde(deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(deserialize_with = "null_is_default")]
    pub user: String,
    /// `port/protocol` as keys.
    #[serde(deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Paths that the image wants to be volumes, as keys.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// The signal that asks the process to end, for example `SIGTERM`.
    #[serde(deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Free labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
}

/// The configuration file: the above, the platform, and the digests of the uncompressed layers.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ImageConfig,
    #[serde(default)]
    pub rootfs: RootFs,
}

/// The digests of the uncompressed layers, lowest first.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

/// Builders write `null` for what is empty.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_builders_write() {
        let file: ConfigFile = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,
                "ExposedPorts":{"80/tcp":{}},"WorkingDir":""},"rootfs":{"type":"layers","diff_ids":["sha256:1"]}}"#,
        )
        .expect("valid");
        assert_eq!(file.config.env, ["A=b"]);
        assert!(file.config.entrypoint.is_empty());
        assert_eq!(file.config.cmd, ["sh"]);
        assert!(file.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(file.rootfs.diff_ids, ["sha256:1"]);
    }
}
