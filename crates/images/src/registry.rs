//! Talking to a registry: the manifest for our platform, the configuration, the layers as streams.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use oci_client::Client;
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use sha2::{Digest, Sha256};

use crate::access::PullSecret;
use crate::config::ConfigFile;
use crate::error::PullError;
use crate::reference::{Host, ImageReference, Location};
use crate::store::ImagesConfig;

/// How long a registry may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may say nothing in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A configuration beyond this is not one (OCI allows 4 MiB for manifests).
const MAX_CONFIG_BYTES: usize = 4 << 20;

/// The word for a registry that is reached without a proxy.
pub const DIRECT: &str = "direct";
/// All hosts, by name and by address.
const EVERYBODY: &str = "*,0.0.0.0/0,::/0";
/// Where nobody is.
const NO_PROXY: &str = "http://127.0.0.1:9";

/// User name and password for a registry, from an image pull secret.
#[derive(Clone)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password or token.
    pub password: String,
    /// Where they are from.
    pub secret: PullSecret,
}

/// What a registry says an image is made of.
pub(crate) struct Resolved {
    pub manifest: OciImageManifest,
    /// The digest that the reference stands for: of the index, where there is one.
    pub digest: String,
    /// The digest of the configuration: the image's identity.
    pub id: String,
}

/// A connection to one registry for one image.
pub(crate) struct Registry {
    client: Client,
    location: Location,
    auth: RegistryAuth,
    image: String,
}

impl Registry {
    pub fn new(image: &ImageReference, config: &ImagesConfig, credentials: Option<&Credentials>) -> Self {
        let location = config.mirrors.locate(image);
        let protocol = if location.plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        };
        let registry = location.reference.registry();
        let (proxy, without) = match Host::best(&config.proxies, registry).map(String::as_str) {
            // Said, so that none is taken from the environment; and then used for nobody.
            Some(DIRECT) => (Some(NO_PROXY.to_owned()), Some(EVERYBODY.to_owned())),
            proxy => (proxy.map(str::to_owned), None),
        };
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            extra_root_certificates: Host::all(&config.authorities, registry)
                .map(|der| certificate(der))
                .collect(),
            http_proxy: proxy.clone(),
            https_proxy: proxy,
            no_proxy: without,
            user_agent: concat!("podvisor/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = credentials.map_or(RegistryAuth::Anonymous, |credentials| {
            RegistryAuth::Basic(credentials.username.clone(), credentials.password.clone())
        });
        Self {
            client,
            location,
            auth,
            image: image.to_string(),
        }
    }

    /// Finds the manifest for linux/amd64.
    pub async fn resolve(&self) -> Result<Resolved, PullError> {
        let reference = &self.location.reference;
        let (manifest, digest) = self
            .client
            .pull_manifest(reference, &self.auth)
            .await
            .map_err(|error| self.resolve_error(&error))?;
        let manifest = match manifest {
            OciManifest::Image(manifest) => manifest,
            OciManifest::ImageIndex(index) => {
                let chosen = choose(&index.manifests).ok_or_else(|| PullError::Platform {
                    image: self.image.clone(),
                    available: platforms(&index.manifests),
                })?;
                let child = reference.clone_with_digest(chosen.digest.clone());
                let (manifest, _) = self
                    .client
                    .pull_image_manifest(&child, &self.auth)
                    .await
                    .map_err(|error| self.resolve_error(&error))?;
                manifest
            }
        };
        let id = manifest.config.digest.clone();
        Ok(Resolved { manifest, digest, id })
    }

    /// Reads and checks the configuration.
    pub async fn config(&self, resolved: &Resolved) -> Result<ConfigFile, PullError> {
        let descriptor = &resolved.manifest.config;
        let mut stream = self.blob(descriptor).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = stream
            .try_next()
            .await
            .map_err(|error| self.layer_error(descriptor, error))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_CONFIG_BYTES {
                return Err(self.layer_error(descriptor, "the configuration is larger than 4 MiB"));
            }
        }
        let digest = digest_of(&bytes);
        if digest != resolved.id {
            return Err(self.layer_error(descriptor, format!("digest mismatch: the content is {digest}")));
        }
        let config: ConfigFile =
            serde_json::from_slice(&bytes).map_err(|error| self.layer_error(descriptor, error))?;
        if (config.os.as_str(), config.architecture.as_str()) != ("linux", "amd64") {
            return Err(PullError::Platform {
                image: self.image.clone(),
                available: format!("{}/{}", config.os, config.architecture),
            });
        }
        Ok(config)
    }

    /// A layer's bytes as the registry has them.
    pub async fn blob(
        &self,
        descriptor: &OciDescriptor,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, PullError> {
        let stream = self
            .client
            .pull_blob_stream(&self.location.reference, descriptor)
            .await
            .map_err(|error| self.layer_error(descriptor, answer(&error)))?;
        Ok(stream.stream)
    }

    /// A layer's bytes from `offset` on; a registry that knows no ranges sends the first ones once more, for nothing.
    pub async fn blob_from(
        &self,
        descriptor: &OciDescriptor,
        offset: u64,
    ) -> Result<BoxStream<'static, std::io::Result<Bytes>>, PullError> {
        let answer = self
            .client
            .pull_blob_stream_partial(&self.location.reference, descriptor, offset, None)
            .await
            .map_err(|error| self.layer_error(descriptor, answer(&error)))?;
        Ok(match answer {
            BlobResponse::Partial(stream) => stream.stream,
            BlobResponse::Full(stream) => skip(stream.stream, offset),
        })
    }

    pub fn layer_error(&self, descriptor: &OciDescriptor, reason: impl ToString) -> PullError {
        PullError::Layer {
            image: self.image.clone(),
            digest: descriptor.digest.clone(),
            reason: reason.to_string(),
        }
    }

    fn resolve_error(&self, error: &OciDistributionError) -> PullError {
        let reason = match error {
            OciDistributionError::ImageManifestNotFoundError(_) => {
                format!("{}: not found ({})", self.image, answer(error))
            }
            OciDistributionError::RegistryError { .. } if answer(error).contains("unknown") => {
                format!("{}: not found ({})", self.image, answer(error))
            }
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                format!(
                    "pull access denied, repository does not exist or may require authorization: {}",
                    answer(error)
                )
            }
            _ => format!("failed to do request: {}", answer(error)),
        };
        PullError::Resolve {
            image: self.image.clone(),
            reason,
        }
    }
}

/// A stream without its first bytes.
fn skip(
    stream: BoxStream<'static, std::io::Result<Bytes>>,
    bytes: u64,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let mut left = bytes;
    let rest = stream.map_ok(move |mut chunk| {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        left -= take as u64;
        chunk.split_off(take)
    });
    Box::pin(rest)
}

/// The whole chain of an error: the last link is usually what matters ("Connection refused").
fn answer(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn certificate(der: &[u8]) -> Certificate {
    Certificate {
        encoding: CertificateEncoding::Der,
        data: der.to_owned(),
    }
}

fn choose(entries: &[ImageIndexEntry]) -> Option<&ImageIndexEntry> {
    entries.iter().find(|entry| platform(entry) == "linux/amd64")
}

/// What would be pulled of a registry's document: the digest of an index's manifest for this platform, or of a manifest's
/// configuration; `None` when there is neither.
pub fn choose_manifest(document: &[u8]) -> Option<String> {
    match serde_json::from_slice(document).ok()? {
        OciManifest::Image(manifest) => Some(manifest.config.digest),
        OciManifest::ImageIndex(index) => choose(&index.manifests).map(|entry| entry.digest.clone()),
    }
}

fn platform(entry: &ImageIndexEntry) -> String {
    entry.platform.as_ref().map_or_else(
        || "unknown".to_owned(),
        |platform| format!("{}/{}", platform.os, platform.architecture),
    )
}

fn platforms(entries: &[ImageIndexEntry]) -> String {
    let mut names: Vec<String> = entries
        .iter()
        .map(platform)
        .filter(|name| !name.starts_with("unknown"))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        "no platform at all".to_owned()
    } else {
        names.join(", ")
    }
}

/// `sha256:<hex>` of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    hex_digest(Sha256::digest(bytes).as_ref())
}

/// Writes a finished SHA-256 as registries do.
pub(crate) fn hex_digest(hash: &[u8]) -> String {
    use std::fmt::Write;
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
