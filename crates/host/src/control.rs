//! The agent's socket for the operator of the machine: a line of JSON in, a line of JSON out. Only root may open it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::podvm::Context;

/// A longer request is none.
const MAX_LINE: u64 = 64 << 10;
/// How long an import may take.
const LIMIT: Duration = Duration::from_secs(3600);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Takes the images of an archive (`docker save`, OCI layout) into the store.
    ImportImages {
        /// The archive, as the agent can open it.
        path: PathBuf,
        /// A name for an archive that has none.
        name: Option<String>,
    },
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// References and ids of the images that are here now.
    Imported(Vec<(String, String)>),
    /// Why not.
    Failed(String),
}

/// Where the socket of an agent is.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.sock")
}

/// Asks the agent of a run directory.
pub async fn ask(run_dir: &Path, request: &Request) -> io::Result<Reply> {
    let work = async {
        let mut stream = UnixStream::connect(socket(run_dir)).await?;
        stream.write_all(&serde_json::to_vec(request)?).await?;
        stream.write_all(b"\n").await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        serde_json::from_str(&line).map_err(io::Error::from)
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Answers until the agent ends.
pub(crate) async fn serve(context: Arc<Context>) {
    let path = socket(&context.config.run_dir);
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(path = %path.display(), %error, "no control socket"),
    };
    let cancel = context.cancel.clone();
    let work = async {
        while let Ok((stream, _)) = listener.accept().await {
            let (context, cancel) = (Arc::clone(&context), context.cancel.clone());
            tokio::spawn(cancel.run_until_cancelled_owned(async move {
                if let Err(error) = answer(&context, stream).await {
                    tracing::debug!(%error, "control socket");
                }
            }));
        }
    };
    cancel.run_until_cancelled(work).await;
    let _ = std::fs::remove_file(path);
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(context: &Context, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE)).read_line(&mut line).await?;
    let reply = match serde_json::from_str(&line)? {
        Request::ImportImages { path, name } => {
            match context.deps.images.import(&path, name.as_deref()).await {
                Ok(images) => Reply::Imported(images),
                Err(problem) => Reply::Failed(problem),
            }
        }
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await
}
