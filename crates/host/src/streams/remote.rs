//! The far end of an exec or attach, whatever carries it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Which streams the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error; with a terminal it comes with the output.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// A terminal's size as kubectl sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// What goes to the client.
#[derive(Debug)]
pub enum Out {
    /// Standard output.
    Stdout(Bytes),
    /// Standard error.
    Stderr(Bytes),
    /// The end: a `Status` object for the error channel. Nothing may follow.
    Finish(Value),
}

/// The client's end.
#[derive(Debug)]
pub struct Remote {
    /// Input; ends when the client half-closes. Never gives anything if the client asked for none.
    pub stdin: mpsc::Receiver<Bytes>,
    /// Changes of the terminal's size.
    pub resize: mpsc::Receiver<Size>,
    /// What goes to it.
    pub answers: Answers,
}

/// The way to the client.
#[derive(Debug)]
pub struct Answers {
    /// Output.
    pub out: mpsc::Sender<Out>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    /// The task that carries output; it ends when everything is with the client.
    pub writer: tokio::task::JoinHandle<()>,
}

impl Answers {
    /// Sends the end and waits until it is with the client, but not for ever.
    pub async fn finish(self, status: Value) {
        let Self { out, writer, gone } = self;
        if out.send(Out::Finish(status)).await.is_ok() {
            drop(out);
            tokio::select! {
                _ = tokio::time::timeout(std::time::Duration::from_secs(30), writer) => {}
                () = gone.cancelled() => {}
            }
        }
    }
}

/// The status of a process that ended with this exit code (`remotecommand.NewStatus…`).
pub fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// The status of a stream that failed (`newInternalError`).
pub fn failure(message: &str) -> Value {
    let message = format!("Internal error occurred: {message}");
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}
