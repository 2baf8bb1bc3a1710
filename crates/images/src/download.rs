//! A layer on its way from a registry that may break off: what has come is kept, the rest is asked for by `Range`.
//!
//! Containerd does the same (`remotes/docker/httpreadseeker.go`): a connection that ends in the middle of a layer is no
//! failure of the pull as long as the next one brings something.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use oci_client::manifest::OciDescriptor;
use sha2::{Digest, Sha256};

use crate::error::PullError;
use crate::registry::{Registry, hex_digest};

/// How often a registry is asked again without a byte of progress.
const ATTEMPTS: u32 = 5;
/// The first pause before it is asked again; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// One layer, from its first byte to its verified last one.
pub(crate) struct Download<'a> {
    registry: &'a Registry,
    descriptor: &'a OciDescriptor,
    /// The connection; none when it has broken and no byte is missing or to be had.
    stream: Option<BoxStream<'static, io::Result<Bytes>>>,
    hash: Sha256,
    received: u64,
    /// Attempts since the last byte.
    attempts: u32,
    /// What is wrong with the whole, as soon as it is known: the unpacker may stumble before it hears of it.
    mismatch: Option<String>,
}

impl<'a> Download<'a> {
    /// Asks for the layer.
    pub async fn begin(registry: &'a Registry, descriptor: &'a OciDescriptor) -> Result<Self, PullError> {
        Ok(Self {
            registry,
            descriptor,
            stream: Some(registry.blob(descriptor).await?),
            hash: Sha256::new(),
            received: 0,
            attempts: 0,
            mismatch: None,
        })
    }

    /// The next bytes; none after the last ones. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let problem = match self.stream.as_mut()?.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => continue,
                Some(Ok(chunk)) => {
                    self.received += chunk.len() as u64;
                    self.hash.update(&chunk);
                    self.attempts = 0;
                    return Some(Ok(chunk));
                }
                Some(Err(error)) => {
                    if !self.missing() {
                        // The check of the connection has failed; ours has the better words.
                        self.stream = None;
                        return Some(Err(self.verify().err().unwrap_or(error)));
                    }
                    error
                }
                None if self.missing() => io::Error::from(io::ErrorKind::UnexpectedEof),
                None => {
                    self.stream = None;
                    return self.verify().err().map(Err);
                }
            };
            if let Err(error) = self.resume(problem).await {
                self.stream = None;
                return Some(Err(error));
            }
        }
    }

    /// Whether the descriptor promises more than has come.
    fn missing(&self) -> bool {
        u64::try_from(self.descriptor.size).is_ok_and(|size| self.received < size)
    }

    /// Asks for the rest after a connection has broken; gives its error back when that is of no use.
    async fn resume(&mut self, mut problem: io::Error) -> io::Result<()> {
        // Only what can be verified as a whole may come in pieces.
        let verifiable = self.descriptor.digest.starts_with("sha256:");
        while verifiable && self.missing() && self.attempts < ATTEMPTS {
            tokio::time::sleep(PAUSE * 2_u32.pow(self.attempts)).await;
            self.attempts += 1;
            tracing::debug!(layer = self.descriptor.digest, received = self.received, %problem, "resuming");
            match self.registry.blob_from(self.descriptor, self.received).await {
                Ok(stream) => {
                    self.stream = Some(stream);
                    return Ok(());
                }
                Err(error) => problem = io::Error::other(error.reason()),
            }
        }
        Err(problem)
    }

    /// Why the content could not be unpacked, given what the unpacker says: content that is not what its digest says is
    /// damaged for that reason.
    pub async fn fault(mut self, unpacking: io::Error) -> io::Error {
        if unpacking.kind() != io::ErrorKind::StorageFull {
            while let Some(Ok(_)) = self.next().await {}
        }
        self.mismatch.take().map_or(unpacking, damaged)
    }

    /// Compares the digests; in containerd's words (`content.Commit`).
    fn verify(&mut self) -> io::Result<()> {
        let expected = &self.descriptor.digest;
        if !expected.starts_with("sha256:") {
            // Never resumed: the connection has checked it.
            return Ok(());
        }
        let digest = hex_digest(&std::mem::take(&mut self.hash).finalize());
        if digest == *expected {
            return Ok(());
        }
        let words = format!("unexpected commit digest {digest}, expected {expected}: failed precondition");
        self.mismatch = Some(words.clone());
        Err(damaged(words))
    }
}

fn damaged(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}
