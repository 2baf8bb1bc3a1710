//! What can go wrong, worded as containerd words it, because people and tools know those words.

use std::io;
use std::path::PathBuf;

use crate::reference::ReferenceError;

/// Why an image store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or written.
    #[error("image directory {path}: {source}")]
    Directory {
        /// The path in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The index is there and cannot be understood.
    #[error("image index {path} is damaged ({reason}): remove it, and images are pulled again")]
    Index {
        /// The index file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
}

/// Why an image could not be had. The text is what the `Failed` event of the Pod shows.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference cannot be parsed: `InvalidImageName`.
    #[error("{0}")]
    Reference(#[from] ReferenceError),
    /// The policy is Never and the image is not here: `ErrImageNeverPull`.
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    /// The registry does not have it, refuses it, or cannot be reached.
    #[error("failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {reason}")]
    Resolve {
        /// The canonical reference.
        image: String,
        /// The registry's own answer.
        reason: String,
    },
    /// The image is for another processor.
    #[error(
        "failed to pull and unpack image \"{image}\": no match for platform in manifest: this host runs \
         linux/amd64, the image has {available}"
    )]
    Platform {
        /// The canonical reference.
        image: String,
        /// The platforms that the image has.
        available: String,
    },
    /// A layer broke off, was corrupt, or had contents that must not be unpacked.
    #[error("failed to pull and unpack image \"{image}\": failed to extract layer {digest}: {reason}")]
    Layer {
        /// The canonical reference.
        image: String,
        /// The layer's digest.
        digest: String,
        /// What was wrong with it.
        reason: String,
    },
    /// None of several credentials served.
    #[error("[{0}]")]
    Several(String),
    /// The disk could not be made: full, or `mkfs.erofs` is missing.
    #[error("failed to pull and unpack image \"{image}\": {reason}")]
    Disk {
        /// The canonical reference.
        image: String,
        /// What was wrong.
        reason: String,
    },
}

impl PullError {
    /// Several failures as one, as upstream's aggregates tell them: each once.
    pub(crate) fn several(mut failures: Vec<Self>) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for text in failures.iter().map(Self::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        match (texts.len(), failures.pop()) {
            (1, Some(only)) => only,
            _ => Self::Several(texts.join(", ")),
        }
    }

    /// What was wrong, without the words about where.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Resolve { reason, .. } | Self::Layer { reason, .. } | Self::Disk { reason, .. } => {
                reason.clone()
            }
            other => other.to_string(),
        }
    }
}
