//! Streams between the host and processes: exec, attach, and connections to ports.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use guest_api::v1::{
    DialData, ExecExit, ExecInput, ExecOutput, ExecStart, ProbeReply, exec_input::Input, exec_output,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use super::{Agent, Output, failed};
use crate::container::process::{self, Started};
use crate::container::streams::{Drain, Pipe, Streams};
use crate::probe;
use crate::sync::lock;

/// Messages to the host in flight; the stream's own flow control does the rest.
const IN_FLIGHT: usize = 4;
/// What is kept of an exec probe's output.
const PROBE_OUTPUT: usize = 10 << 10;

type Sender = mpsc::Sender<Result<ExecOutput, Status>>;

fn exit(code: i32, error: String) -> Result<ExecOutput, Status> {
    Ok(ExecOutput {
        output: Some(exec_output::Output::Exit(ExecExit { code, error })),
    })
}

async fn start_of(input: &mut Streaming<ExecInput>) -> Result<ExecStart, Status> {
    match input.message().await?.and_then(|message| message.input) {
        Some(Input::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message must be start")),
    }
}

impl Agent {
    pub(super) async fn exec_stream(
        &self,
        mut input: Streaming<ExecInput>,
    ) -> Result<Response<Output<ExecOutput>>, Status> {
        let start = start_of(&mut input).await?;
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let started = self.exec_start(&start)?;
        match started {
            Err(error) => {
                // The codes that shells use.
                let code = if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
                drop(sender.try_send(exit(code, error.to_string())));
            }
            Ok(started) => {
                let agent = self.clone();
                tokio::spawn(async move { agent.run_exec(start, started, input, sender).await });
            }
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    /// The outer result is about the request, the inner one about the program.
    fn exec_start(&self, start: &ExecStart) -> Result<io::Result<Started>, Status> {
        if start.command.is_empty() {
            return Err(Status::invalid_argument(
                "you must specify at least one command for the container",
            ));
        }
        let (container, pid) = self.running(&start.container)?;
        let program = self
            .program(&container, start.command.clone(), start.tty, start.stdin)
            .map_err(failed)?;
        Ok(process::exec(&container.request.id, pid, &program))
    }

    async fn run_exec(
        &self,
        start: ExecStart,
        started: Started,
        input: Streaming<ExecInput>,
        sender: Sender,
    ) {
        let pid = started.pid;
        let ended = self.shared.reaper.wait(pid);
        let result = async {
            let stdout = Arc::new(Pipe::new(started.stdout)?);
            let terminal = start.tty.then(|| Arc::clone(&stdout));
            let stdin = started.stdin.map(Pipe::new).transpose()?.map(Arc::new);
            let process = Target {
                terminal,
                hang_up: Some(pid),
                once: None,
                leaves: false,
            };
            let (left, has_left) = watch::channel(false);
            let feeding = tokio::spawn(async move {
                feed(input, stdin, process).await;
                left.send_replace(true);
            });
            let (over, is_over) = watch::channel(false);
            let pipe = forward(
                stdout,
                is_over.clone(),
                has_left.clone(),
                sender.clone(),
                exec_output::Output::Stdout,
            );
            let mut readers = vec![tokio::spawn(pipe)];
            if let Some(stderr) = started.stderr {
                let pipe = Arc::new(Pipe::new(stderr)?);
                let pipe = forward(
                    pipe,
                    is_over,
                    has_left,
                    sender.clone(),
                    exec_output::Output::Stderr,
                );
                readers.push(tokio::spawn(pipe));
            }
            let ended = ended.await.map_err(io::Error::other)?;
            // All that it wrote before its end comes before its exit.
            over.send_replace(true);
            for reader in readers {
                let _ = reader.await;
            }
            feeding.abort();
            Ok::<_, io::Error>(ended.code)
        };
        let message = match result.await {
            Ok(code) => exit(code, String::new()),
            Err(error) => exit(255, error.to_string()),
        };
        // A host that has gone needs no exit code.
        let _ = sender.send(message).await;
    }

    pub(super) async fn attach_stream(
        &self,
        mut input: Streaming<ExecInput>,
    ) -> Result<Response<Output<ExecOutput>>, Status> {
        let start = start_of(&mut input).await?;
        let (container, _) = self.running(&start.container)?;
        let streams = lock(&container.streams).clone();
        let streams = streams.ok_or_else(|| Status::failed_precondition("the container is not running"))?;
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut output = streams.listen();
        let stdin = if start.stdin {
            lock(&streams.stdin).clone()
        } else {
            None
        };
        let process = Target {
            terminal: streams.terminal.clone(),
            hang_up: None,
            once: (start.stdin && container.request.stdin_once).then(|| Arc::downgrade(&streams)),
            // As containerd has it: only where the end is passed on does anybody wait for what follows.
            leaves: start.stdin && (streams.terminal.is_some() || !container.request.stdin_once),
        };
        let mut feeding = tokio::spawn(feed(input, stdin, process));
        // Held by nobody from here: the end of the container must end the stream.
        drop(streams);
        tokio::spawn(async move {
            loop {
                let chunk = tokio::select! {
                    chunk = output.recv() => chunk,
                    // The client has left, and all that it said has been passed on.
                    _ = &mut feeding => break,
                };
                let Some((stream, bytes)) = chunk else { break };
                let message = match stream {
                    1 => exec_output::Output::Stdout(bytes.to_vec()),
                    _ => exec_output::Output::Stderr(bytes.to_vec()),
                };
                let message = ExecOutput {
                    output: Some(message),
                };
                if sender.send(Ok(message)).await.is_err() {
                    break;
                }
            }
            feeding.abort();
            let code = lock(&container.status).exit_code;
            let _ = sender.send(exit(code, String::new())).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    /// Runs a command and judges by its exit code; one that cannot be started has none.
    pub(super) async fn exec_probe(&self, start: ExecStart, limit: Duration) -> Result<ProbeReply, Status> {
        let reply = |success, output| ProbeReply {
            success,
            output,
            unknown: false,
        };
        let unknown = |error: io::Error| ProbeReply {
            success: false,
            output: error.to_string(),
            unknown: true,
        };
        let started = match self.exec_start(&start)? {
            Ok(started) => started,
            Err(error) => return Ok(unknown(error)),
        };
        let pid = started.pid;
        let ended = self.shared.reaper.wait(pid);
        let collect = async {
            let (over, is_over) = watch::channel(false);
            let read = |pipe: Option<std::os::fd::OwnedFd>, is_over: watch::Receiver<bool>| async move {
                let mut text = Vec::new();
                if let Some(pipe) = pipe {
                    let mut drain = Drain::new(Arc::new(Pipe::new(pipe)?), is_over);
                    while let Some(bytes) = drain.next().await {
                        text.extend_from_slice(&bytes);
                        text.truncate(PROBE_OUTPUT);
                    }
                }
                Ok::<_, io::Error>(text)
            };
            let code = async {
                let ended = ended.await.map_err(io::Error::other);
                over.send_replace(true);
                ended
            };
            let out = read(Some(started.stdout), is_over.clone());
            let (out, err, ended) = tokio::try_join!(out, read(started.stderr, is_over), code)?;
            let text = [out, err].concat();
            Ok::<_, io::Error>((ended.code, String::from_utf8_lossy(&text).into_owned()))
        };
        Ok(match tokio::time::timeout(limit, collect).await {
            Ok(Ok((code, output))) => reply(code == 0, output),
            Ok(Err(error)) => unknown(error),
            Err(_) => {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                let command = start.command.join(" ");
                let output = format!("command timed out: {command:?} timed out after {limit:?}");
                reply(false, output)
            }
        })
    }
}

/// What input beyond bytes goes to.
struct Target {
    terminal: Option<Arc<Pipe>>,
    /// The process to hang up when the host goes away.
    hang_up: Option<i32>,
    /// The first client's end is the end of the container's input (`stdinOnce`).
    once: Option<Weak<Streams>>,
    /// Whose input ends leaves, and the process goes on.
    leaves: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(streams) = self.once.take().and_then(|streams| streams.upgrade()) {
            *lock(&streams.stdin) = None;
        }
    }
}

/// From the host into the process.
async fn feed(mut input: Streaming<ExecInput>, mut stdin: Option<Arc<Pipe>>, mut target: Target) {
    loop {
        match input.message().await {
            Ok(Some(ExecInput {
                input: Some(Input::Stdin(bytes)),
            })) => {
                if let Some(pipe) = &stdin
                    && pipe.write(&bytes).await.is_err()
                {
                    // The process does not read any more.
                    stdin = None;
                }
            }
            Ok(Some(ExecInput {
                input: Some(Input::Resize(size)),
            })) => {
                if let Some(terminal) = &target.terminal {
                    let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
                    let _ = terminal.resize(clamp(size.columns), clamp(size.rows));
                }
            }
            Ok(Some(ExecInput {
                input: Some(Input::CloseStdin(_)),
            })) => {
                stdin = None;
                if let Some(streams) = target.once.take().and_then(|streams| streams.upgrade()) {
                    *lock(&streams.stdin) = None;
                }
                if target.leaves {
                    return;
                }
            }
            Ok(Some(_)) => {}
            // The client has left. A program goes on without it, as upstream's do; who sat at its terminal hangs up.
            Ok(None) if target.terminal.is_none() => return,
            Ok(None) | Err(_) => {
                if let Some(pid) = target.hang_up {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGHUP);
                }
                return;
            }
        }
    }
}

/// From the process to the host, to the end. When nobody is there any more, the pipe closes, of which the process learns
/// when it writes.
async fn forward(
    pipe: Arc<Pipe>,
    ended: watch::Receiver<bool>,
    mut left: watch::Receiver<bool>,
    sender: Sender,
    wrap: fn(Vec<u8>) -> exec_output::Output,
) {
    let mut drain = Drain::new(pipe, ended);
    let passing = async {
        while let Some(bytes) = drain.next().await {
            let output = ExecOutput {
                output: Some(wrap(bytes)),
            };
            if sender.send(Ok(output)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passing => {}
        _ = left.wait_for(|left| *left) => {}
    }
}

/// A connection to a port of the Pod, both directions closed apart. `own` is the Pod's address.
pub(super) async fn dial(
    mut input: Streaming<DialData>,
    own: String,
) -> Result<Response<Output<DialData>>, Status> {
    let Some(first) = input.message().await? else {
        return Err(Status::invalid_argument("the first message must name the port"));
    };
    let (port, host) = (
        first.port,
        match first.host.as_str() {
            "" => "127.0.0.1".to_owned(),
            "pod" => own,
            other => other.to_owned(),
        },
    );
    let stream = probe::connect(&host, port)
        .await
        .map_err(|error| Status::unavailable(format!("dial tcp4 {host}:{port}: {}", probe::words(&error))))?;
    let (mut from, mut to) = stream.into_split();
    tokio::spawn(async move {
        if to.write_all(&first.data).await.is_err() {
            return;
        }
        while let Ok(Some(message)) = input.message().await {
            if to.write_all(&message.data).await.is_err() || message.end {
                break;
            }
        }
        let _ = to.shutdown().await;
    });
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(async move {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let message = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => DialData {
                    end: true,
                    ..DialData::default()
                },
                Ok(length) => DialData {
                    data: buffer[..length].to_vec(),
                    ..DialData::default()
                },
            };
            let end = message.end;
            if sender.send(Ok(message)).await.is_err() || end {
                return;
            }
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}
