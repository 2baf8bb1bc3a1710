//! OCI images on a host: pulled from a registry, unpacked once, kept as read-only EROFS disks.
//!
//! ```text
//! reference ── registry (manifest, config, layer streams) ── layer (untar, whiteouts) ── disk (mkfs.erofs)
//!                                          └───────────── ImageStore (index, one pull at a time per image)
//! ```
//! A disk is named by the digest of the image's configuration, so that two references to one image share it, and
//! the page cache of the host is shared by all Pods that boot from it. Nothing is visible in the index before its
//! disk is whole: a crash in the middle leaves only a directory in `tmp`, removed at the next start.
//!
//! TLS uses the process's default `rustls` provider, which the binary installs.

mod access;
mod config;
mod disk;
mod download;
mod error;
mod import;
mod keyring;
mod layer;
mod reference;
mod registry;
mod store;

pub use access::PullSecret;
pub use config::ImageConfig;
pub use error::{OpenError, PullError};
pub use import::ImportError;
pub use keyring::{Keyring, KeyringError};
pub use layer::unpack as unpack_layer;
pub use reference::{Host, ImageReference, Mirrors, ReferenceError};
pub use registry::{Credentials, DIRECT, choose_manifest};
pub use store::{Image, ImageStore, ImagesConfig, PullPolicy, PullProgress, Pulled};

/// Takes an image archive apart into an empty directory and reads its index and manifests; how many images are in it.
///
/// # Errors
/// As for [`ImageStore::import`].
pub fn read_archive(archive: &std::path::Path, into: &std::path::Path) -> Result<usize, ImportError> {
    import::unpack(archive, into)?;
    Ok(import::images(into, None)?.len())
}
