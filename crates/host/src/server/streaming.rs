//! `/exec` and `/attach`: the upgrade, and the join of the client's streams with the guest's.

use std::time::Duration;

use bytes::Bytes;
use guest_api::v1::{
    CloseStdin, ExecInput, ExecOutput, ExecStart, TerminalSize, exec_input::Input, exec_output::Output,
};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, Query, Refusal, full, full_name};
use crate::guest::Guest;
use crate::podvm::PodVm;
use crate::podvm::record::State;
use crate::streams::remote::{exit_status, failure};
use crate::streams::{Out, Remote, Wanted, spdy, websocket};

/// Messages on the way to the guest.
const QUEUE: usize = 8;

/// As much output of a command is kept that is answered at once (containerd: the size of a message).
const RUN_OUTPUT: usize = 16 << 20;

/// How long after its streams a process may take to be known as ended.
const ENDING: Duration = Duration::from_secs(3);
/// How long a process may take to read what its client had sent before it left.
const AFTERWARDS: Duration = Duration::from_secs(600);

/// How a client wants to talk.
pub enum Carrier {
    /// WebSocket, and the chosen subprotocol.
    WebSocket(websocket::Subprotocol),
    /// SPDY/3.1 itself.
    Spdy,
    /// SPDY/3.1 in WebSocket messages.
    Tunnel,
}

/// Answers a request for exec or attach.
pub async fn exec(
    pod: &PodVm,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
    attach: bool,
) -> Result<Response<Body>, Refusal> {
    let wanted = Wanted {
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        stderr: query.flag("error"),
        tty: query.flag("tty"),
    };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err(Refusal::bad(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let command: Vec<String> = query.all("command").into_iter().map(str::to_owned).collect();
    if command.is_empty() && !attach {
        return Err(Refusal::bad("you must specify at least 1 command"));
    }
    let (run, guest) = found(pod, container, attach).await?;
    let start = ExecStart {
        container: run.clone(),
        command,
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr && !wanted.tty,
    };
    let (response, carrier) = upgrade(&request, spdy::exec::choose, websocket::choose)?;
    let pod = pod.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let remote = match carrier {
            Carrier::WebSocket(protocol) => websocket::remote(io, protocol, wanted).await,
            Carrier::Spdy => match spdy::exec::remote(io, wanted).await {
                Ok(remote) => remote,
                Err(error) => {
                    tracing::debug!(%error, "a client opened no streams");
                    return;
                }
            },
            Carrier::Tunnel => match spdy::exec::remote(websocket::tunnel(io).await, wanted).await {
                Ok(remote) => remote,
                Err(_) => return,
            },
        };
        let over = attach.then(|| over(pod, run));
        join(&guest, remote, start, over).await;
    });
    Ok(response)
}

/// The run of a container and the guest that it is in. Only what runs is looked for (kubelet: `GetExec`, `GetAttach`).
async fn found(pod: &PodVm, container: &str, attach: bool) -> Result<(String, Guest), Refusal> {
    let view = pod.view_with_vm().await;
    let running = view.record(container).and_then(|record| match &record.state {
        State::Running { id, .. } => Some(id.clone()),
        _ => None,
    });
    let guest = view.machine.as_ref().map(|machine| machine.guest.clone());
    running.zip(guest).ok_or_else(|| {
        let words = match attach {
            true => format!("container {container} not found in pod {}", full_name(&view)),
            false => format!("container not found ({container:?})"),
        };
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, words)
    })
}

/// Answers a request for the output of a command, all of it at once (kubelet: `getRun`).
pub async fn run(pod: &PodVm, container: &str, query: &Query) -> Result<Response<Body>, Refusal> {
    let failed = |words: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, words);
    let (run, guest) = found(pod, container, false).await?;
    let command = query.get("cmd").unwrap_or_default();
    let start = ExecStart {
        container: run,
        command: command.split(' ').map(str::to_owned).collect(),
        stdout: true,
        stderr: true,
        ..ExecStart::default()
    };
    let first = ExecInput {
        input: Some(Input::Start(start)),
    };
    let mut client = guest.client().await.map_err(|error| failed(error.to_string()))?;
    // The process has no input, but it ends with the stream of messages.
    let (open, messages) = mpsc::channel(QUEUE);
    let _ = open.try_send(first);
    let answer = client.exec(ReceiverStream::new(messages)).await;
    let mut output = answer
        .map_err(|status| failed(status.message().to_owned()))?
        .into_inner();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let message = output
            .message()
            .await
            .map_err(|status| failed(status.message().to_owned()))?;
        match message.map(|message| message.output) {
            Some(Some(Output::Stdout(data))) => out.extend_from_slice(&data),
            Some(Some(Output::Stderr(data))) => err.extend_from_slice(&data),
            Some(Some(Output::Exit(exit))) if !exit.error.is_empty() => return Err(failed(exit.error)),
            Some(Some(Output::Exit(exit))) if exit.code != 0 => {
                let said = String::from_utf8_lossy(&err);
                let words = format!("command '{command}' exited with {}: {said}", exit.code);
                return Err(failed(words));
            }
            Some(Some(Output::Exit(_))) | None => break,
            Some(None) => {}
        }
        if out.len() + err.len() > RUN_OUTPUT {
            return Err(failed(format!(
                "command '{command}' says more than {RUN_OUTPUT} bytes"
            )));
        }
    }
    drop(open);
    out.extend(err);
    let mut response = Response::new(Full::new(Bytes::from(out)).boxed_unsync());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// The answer that changes the protocol, and what comes after it.
pub fn upgrade(
    request: &Request<Incoming>,
    choose_spdy: fn(&[&str]) -> Option<&'static str>,
    choose_socket: fn(&[&str]) -> Option<(&'static str, websocket::Subprotocol)>,
) -> Result<(Response<Body>, Carrier), Refusal> {
    let headers = request.headers();
    let values = |name: http::header::HeaderName| -> Vec<&str> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect()
    };
    let wanted = headers
        .get(UPGRADE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let mut response = Response::new(full(String::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if wanted.eq_ignore_ascii_case("websocket") {
        let key = headers
            .get(SEC_WEBSOCKET_KEY)
            .ok_or_else(|| Refusal::bad("Sec-WebSocket-Key is missing"))?;
        let offered = values(SEC_WEBSOCKET_PROTOCOL);
        let (name, carrier) = if offered.contains(&TUNNEL) {
            (TUNNEL, Carrier::Tunnel)
        } else {
            let (name, protocol) = choose_socket(&offered).ok_or_else(|| {
                Refusal::bad(format!("none of the WebSocket subprotocols {offered:?} is known"))
            })?;
            (name, Carrier::WebSocket(protocol))
        };
        let accept = HeaderValue::from_str(&websocket::accept_key(key.as_bytes()))
            .map_err(|_| Refusal::bad("Sec-WebSocket-Key is unusable"))?;
        answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
        // Who offers nothing is told nothing.
        if !name.is_empty() {
            answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        return Ok((response, carrier));
    }
    if wanted.eq_ignore_ascii_case("SPDY/3.1") {
        let header = http::header::HeaderName::from_static("x-stream-protocol-version");
        let offered = values(header.clone());
        let name = choose_spdy(&offered).ok_or_else(|| {
            Refusal(
                StatusCode::FORBIDDEN,
                format!("unable to upgrade: none of the protocols {offered:?} is known"),
            )
        })?;
        answer.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        answer.insert(header, HeaderValue::from_static(name));
        return Ok((response, Carrier::Spdy));
    }
    Err(Refusal::bad("Upgrade request required"))
}

/// The subprotocol that carries SPDY over WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Whether a run has ended, or does so soon.
async fn over(pod: PodVm, run: String) -> bool {
    let ended = pod.wait_for(|view| !view.runs(&run));
    tokio::time::timeout(ENDING, ended).await.is_ok()
}

/// Joins a client with a process of the guest until one of them ends. A client that leaves first may have said all that it
/// wants to say: what is on its way still reaches the process, and then the end of its input.
/// `over` tells of an attached process that it has ended.
async fn join(guest: &Guest, remote: Remote, start: ExecStart, over: Option<impl Future<Output = bool>>) {
    let attach = over.is_some();
    let failed = |problem: &str| match attach {
        true => failure(&format!("error attaching to container: {problem}")),
        false => failure(&format!("error executing command in container: {problem}")),
    };
    let (input, messages) = mpsc::channel(QUEUE);
    let first = ExecInput {
        input: Some(Input::Start(start)),
    };
    // The queue is empty: there is room.
    let _ = input.try_send(first);
    let outgoing = ReceiverStream::new(messages);
    let call = async {
        let mut client = guest.client().await.map_err(|error| error.to_string())?;
        let answer = if attach {
            client.attach(outgoing).await
        } else {
            client.exec(outgoing).await
        };
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.message().to_owned())
    };
    let mut output = match call.await {
        Ok(output) => output,
        Err(problem) => return remote.answers.finish(failed(&problem)).await,
    };
    let Remote {
        mut stdin,
        mut resize,
        answers,
    } = remote;
    let (out, gone) = (answers.out.clone(), answers.gone.clone());
    let has_left = gone.clone();
    // Ends only after the client has left, and with it the stream of messages.
    let from_client = async move {
        let mut open = true;
        let mut resizable = true;
        loop {
            let message = tokio::select! {
                data = stdin.recv(), if open => match data {
                    Some(data) => Input::Stdin(data.to_vec()),
                    None => {
                        open = false;
                        Input::CloseStdin(CloseStdin {})
                    }
                },
                size = resize.recv(), if resizable => match size {
                    Some(size) => Input::Resize(TerminalSize {
                        columns: size.width.into(),
                        rows: size.height.into(),
                    }),
                    None => {
                        resizable = false;
                        continue;
                    }
                },
                else => return has_left.cancelled().await,
            };
            if input.send(ExecInput { input: Some(message) }).await.is_err() {
                return has_left.cancelled().await;
            }
        }
    };
    let from_guest = async {
        loop {
            match output.message().await {
                Ok(Some(ExecOutput {
                    output: Some(Output::Stdout(data)),
                })) => {
                    let _ = out.send(Out::Stdout(Bytes::from(data))).await;
                }
                Ok(Some(ExecOutput {
                    output: Some(Output::Stderr(data)),
                })) => {
                    let _ = out.send(Out::Stderr(Bytes::from(data))).await;
                }
                Ok(Some(ExecOutput {
                    output: Some(Output::Exit(exit)),
                })) => {
                    return if exit.error.is_empty() {
                        exit_status(exit.code)
                    } else {
                        failed(&exit.error)
                    };
                }
                Ok(Some(ExecOutput { output: None })) => {}
                // An attached process that ends its streams has ended.
                Ok(None) if attach => return exit_status(0),
                Ok(None) => return failed("the guest ended the stream"),
                Err(status) => return failed(status.message()),
            }
        }
    };
    let (status, left) = {
        tokio::pin!(from_client, from_guest);
        let (mut speaks, mut left) = (true, false);
        let too_late = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(too_late);
        loop {
            tokio::select! {
                status = &mut from_guest => break (status, left),
                () = &mut from_client, if speaks => speaks = false,
                () = gone.cancelled(), if !left => {
                    left = true;
                    too_late.as_mut().reset(tokio::time::Instant::now() + AFTERWARDS);
                }
                () = &mut too_late, if left => return,
            }
        }
    };
    // The answers' end is told by all its senders.
    drop(out);
    if left {
        return;
    }
    // A VM goes soon after its last container: then its streams break instead of ending.
    let status = match over {
        Some(over) if status["status"] != "Success" => {
            if over.await {
                exit_status(0)
            } else {
                status
            }
        }
        _ => status,
    };
    answers.finish(status).await;
}
