//! QEMU's control protocol, as much of it as is needed: greeting, capabilities, commands with their answers, events,
//! and files handed over beside a command.
//!
//! One connection a job: commands are few, and nothing is then left half read when the agent dies.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

/// QEMU answers in milliseconds; under emulation its main loop may be busy for longer.
const LIMIT: Duration = Duration::from_secs(10);
/// A longer line is not QEMU's.
const MAX_LINE: u64 = 1 << 20;
/// Events kept while an answer is waited for; QEMU has told of no more than a few by then.
const EVENTS_KEPT: usize = 64;

/// Why QEMU did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(super) enum QmpError {
    /// The socket broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// QEMU ended.
    #[error("QEMU closed its control channel")]
    Closed,
    /// No answer in time.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Slow,
    /// QEMU said no.
    #[error("{command}: {reason}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's words.
        reason: String,
    },
    /// Something else speaks there.
    #[error("not a QMP message: {0}")]
    Protocol(String),
}

/// What QEMU tells unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// For example `SHUTDOWN`.
    pub name: String,
    /// Its details.
    pub data: Value,
}

/// A connection that is ready for commands.
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    events: VecDeque<Event>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode.
    pub async fn connect(socket: &Path) -> Result<Self, QmpError> {
        let work = async {
            let stream = BufReader::new(UnixStream::connect(socket).await?);
            let mut connection = Self {
                stream,
                events: VecDeque::new(),
            };
            let greeting = connection.message().await?.ok_or(QmpError::Closed)?;
            if greeting.get("QMP").is_none() {
                return Err(QmpError::Protocol(greeting.to_string()));
            }
            Ok(connection)
        };
        let mut connection = in_time(work).await?;
        connection.command("qmp_capabilities", json!({})).await?;
        Ok(connection)
    }

    /// Sends a command and waits for its answer.
    pub async fn command(&mut self, name: &str, arguments: Value) -> Result<Value, QmpError> {
        let line = line(name, arguments);
        in_time(async {
            self.stream.get_mut().write_all(line.as_bytes()).await?;
            self.answer(name).await
        })
        .await
    }

    /// The same with an open file beside the command.
    pub async fn command_with_file(
        &mut self,
        name: &str,
        arguments: Value,
        file: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        let line = line(name, arguments);
        in_time(async {
            let stream = self.stream.get_mut();
            let sent = stream
                .async_io(Interest::WRITABLE, || send_with(stream, line.as_bytes(), file))
                .await?;
            // The file went with the first byte; the rest of the line is ordinary.
            stream.write_all(&line.as_bytes()[sent..]).await?;
            self.answer(name).await
        })
        .await
    }

    /// The next event; none when QEMU has ended.
    pub async fn event(&mut self) -> Result<Option<Event>, QmpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(message) = self.message().await? else {
                return Ok(None);
            };
            self.keep(&message);
        }
    }

    /// Drops the events of this name that came beside answers.
    pub fn forget(&mut self, name: &str) {
        self.events.retain(|event| event.name != name);
    }

    async fn answer(&mut self, name: &str) -> Result<Value, QmpError> {
        loop {
            let answer = self.message().await?.ok_or(QmpError::Closed)?;
            if answer["id"] != json!(name) {
                self.keep(&answer);
                continue;
            }
            if let Some(error) = answer.get("error") {
                return Err(QmpError::Refused {
                    command: name.to_owned(),
                    reason: error["desc"].as_str().unwrap_or("refused").to_owned(),
                });
            }
            return Ok(answer["return"].clone());
        }
    }

    fn keep(&mut self, message: &Value) {
        if let Some(name) = message["event"].as_str() {
            if self.events.len() == EVENTS_KEPT {
                self.events.pop_front();
            }
            self.events.push_back(Event {
                name: name.to_owned(),
                data: message["data"].clone(),
            });
        }
    }

    async fn message(&mut self) -> Result<Option<Value>, QmpError> {
        let mut line = Vec::new();
        let length = (&mut self.stream)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await?;
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&line);
        message
            .map(Some)
            .map_err(|error| QmpError::Protocol(error.to_string()))
    }
}

fn line(name: &str, arguments: Value) -> String {
    json!({"execute": name, "arguments": arguments, "id": name}).to_string() + "\n"
}

fn send_with(stream: &UnixStream, bytes: &[u8], file: BorrowedFd<'_>) -> io::Result<usize> {
    let files = [file];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&files));
    Ok(sendmsg(
        stream.as_fd(),
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

async fn in_time<T>(work: impl Future<Output = Result<T, QmpError>>) -> Result<T, QmpError> {
    tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| QmpError::Slow)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that greets, sends an event before each answer, and answers.
    async fn serve(listener: tokio::net::UnixListener, answer: Value) {
        let (stream, _) = listener.accept().await.expect("a client");
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"{\"QMP\": {}}\n").await.expect("written");
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).expect("JSON");
            let mut reply = if request["execute"] == "qmp_capabilities" {
                json!({"return": {}})
            } else {
                answer.clone()
            };
            reply["id"] = request["id"].clone();
            let text = format!("{}\n{reply}\n", json!({"event": "RESUME", "data": {"n": 1}}));
            write.write_all(text.as_bytes()).await.expect("written");
        }
    }

    async fn connected(answer: Value) -> Qmp {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("qmp.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("bound");
        tokio::spawn(serve(listener, answer));
        Qmp::connect(&path).await.expect("connected")
    }

    #[tokio::test]
    async fn commands_are_answered_or_refused() {
        let cases = [
            (
                json!({"return": {"status": "running"}}),
                Ok(json!({"status": "running"})),
            ),
            (
                json!({"error": {"desc": "no such device"}}),
                Err("query-status: no such device".to_owned()),
            ),
        ];
        for (answer, expected) in cases {
            let mut qmp = connected(answer).await;
            let result = qmp.command("query-status", json!({})).await;
            assert_eq!(result.map_err(|error| error.to_string()), expected);
        }
    }

    #[tokio::test]
    async fn events_between_answers_are_kept() {
        let mut qmp = connected(json!({"return": {}})).await;
        let null = std::fs::File::open("/dev/null").expect("opened");
        qmp.command_with_file("add-fd", json!({}), null.as_fd())
            .await
            .expect("done");
        let resume = Event {
            name: "RESUME".to_owned(),
            data: json!({"n": 1}),
        };
        // One before the answer to the negotiation, one before the answer to the command.
        for _ in 0..2 {
            assert_eq!(qmp.event().await.expect("an event"), Some(resume.clone()));
        }
    }
}
