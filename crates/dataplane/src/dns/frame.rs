//! What the agent tells the process that answers, over a pipe: a length and JSON, again and again.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No snapshot of names is longer.
const MAX_BYTES: u32 = 256 << 20;

/// Writes one value.
pub(super) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|length| *length <= MAX_BYTES);
    to.write_u32(length.ok_or_else(|| io::Error::other("too many names"))?)
        .await?;
    to.write_all(&bytes).await
}

/// Reads one value.
pub(super) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = from.read_u32().await?;
    if length > MAX_BYTES {
        return Err(io::Error::other("too many names"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
