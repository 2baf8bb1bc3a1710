//! What probes and lifecycle hooks do: a command, an HTTP request, a connection, a question to a gRPC server. The guest
//! acts, so that no packet leaves the Pod for it. HTTP for a hook is spoken here, over a connection that the guest opens
//! inside: what comes of it decides what is asked next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use guest_api::http::{Answer, MAX_REDIRECTS, Redirect, redirect};
use guest_api::tls::{self, NO_TLS};
use guest_api::v1::probe_request::Action;
use guest_api::v1::{DialData, ExecStart, Grpc, Header, HttpGet, ProbeRequest};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, GRPCAction, HTTPGetAction, LifecycleHandler, Pod, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Machine;
use crate::env;
use crate::guest::Guest;

/// How long beyond its own limit an action may take until the guest counts as not answering.
const MARGIN: Duration = Duration::from_secs(10);
/// Bytes of a connection that may be on the way.
const WINDOW: usize = 64 << 10;
/// Messages of a connection on the way to the guest.
const QUEUE: usize = 8;
/// Such a message.
const CHUNK: usize = 16 << 10;

/// An action and the host it goes to: the Pod's own address when empty.
#[derive(Debug, Clone)]
pub struct Job {
    action: Action,
    /// Maybe a name.
    pub host: String,
}

impl Job {
    /// What a probe does.
    ///
    /// # Errors
    /// The spec names a port that the container does not have, or nothing to do.
    pub fn of_probe(container: &Container, run: &str, probe: &Probe) -> Result<Self, String> {
        if let Some(action) = &probe.exec {
            let mut job = Self::exec(run, action);
            if let Action::Exec(exec) = &mut job.action {
                // Of probes alone, and by what the manifest itself sets (kubelet: `ExpandContainerCommandOnlyStatic`).
                let set = container.env.iter().flatten();
                let known = set
                    .map(|set| (set.name.clone(), set.value.clone().unwrap_or_default()))
                    .collect();
                exec.command
                    .iter_mut()
                    .for_each(|word| *word = env::expand(word, &known));
            }
            return Ok(job);
        }
        if let Some(action) = &probe.http_get {
            return Self::http(container, action);
        }
        if let Some(action) = &probe.tcp_socket {
            return Self::tcp(container, action);
        }
        match &probe.grpc {
            Some(action) => Ok(Self::grpc(action)),
            None => Err(format!("missing probe handler for {}", container.name)),
        }
    }

    /// What a lifecycle hook does; `sleep` is nobody's to do.
    fn of_hook(container: &Container, run: &str, hook: &LifecycleHandler) -> Result<Option<Self>, String> {
        if let Some(action) = &hook.exec {
            return Ok(Some(Self::exec(run, action)));
        }
        if let Some(action) = &hook.http_get {
            return Self::http(container, action).map(Some);
        }
        match &hook.tcp_socket {
            Some(action) => Self::tcp(container, action).map(Some),
            None => Ok(None),
        }
    }

    fn exec(run: &str, action: &ExecAction) -> Self {
        let exec = ExecStart {
            container: run.to_owned(),
            command: action.command.clone().unwrap_or_default(),
            stdout: true,
            stderr: true,
            ..ExecStart::default()
        };
        Self {
            action: Action::Exec(exec),
            host: String::new(),
        }
    }

    fn http(container: &Container, action: &HTTPGetAction) -> Result<Self, String> {
        let host = action.host.clone().unwrap_or_default();
        let headers = action.http_headers.iter().flatten().map(|header| Header {
            name: header.name.clone(),
            value: header.value.clone(),
        });
        let get = HttpGet {
            port: port(container, &action.port)?,
            path: action.path.clone().unwrap_or_else(|| "/".to_owned()),
            headers: headers.collect(),
            host: host.clone(),
            tls: is_https(action),
        };
        Ok(Self {
            action: Action::Http(get),
            host,
        })
    }

    fn tcp(container: &Container, action: &TCPSocketAction) -> Result<Self, String> {
        Ok(Self {
            action: Action::TcpPort(port(container, &action.port)?),
            host: action.host.clone().unwrap_or_default(),
        })
    }

    fn grpc(action: &GRPCAction) -> Self {
        let grpc = Grpc {
            port: u32::try_from(action.port).unwrap_or(0),
            service: action.service.clone().unwrap_or_default(),
        };
        Self {
            action: Action::Grpc(grpc),
            host: String::new(),
        }
    }

    /// What the guest is asked to do, at this address.
    pub fn request(self, address: String, limit: Duration) -> ProbeRequest {
        ProbeRequest {
            action: Some(self.action),
            timeout_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
            host: address,
        }
    }

    /// Does it, within the limit.
    async fn run(self, machine: &Machine, limit: Duration) -> Result<(), String> {
        let away = || AWAY.to_owned();
        let found = tokio::time::timeout(limit, resolve(&self.host)).await;
        let address = found.map_err(|_| away())??;
        let request = self.request(address, limit);
        let mut client = machine.guest.client().await.map_err(|_| away())?;
        // The guest keeps the action's own limit; this one is for a guest that does not answer.
        let answer = tokio::time::timeout(limit + MARGIN, client.probe(request)).await;
        let answer = answer.map_err(|_| away())?.map_err(|_| away())?.into_inner();
        match answer.success {
            true => Ok(()),
            false => Err(answer.output),
        }
    }
}

/// Runs a lifecycle hook to its end. Of an HTTP server any answer will do (kubelet: `runHTTPHandler`). Returns the server that
/// was to speak TLS and does not, if that was found out.
///
/// # Errors
/// The hook failed: its words.
pub async fn hook(
    machine: &Machine,
    container: &Container,
    run: &str,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<Option<String>, String> {
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(None);
    }
    let Some(job) = Job::of_hook(container, run, hook)? else {
        return Err(format!("invalid handler: {hook:?}"));
    };
    let Action::Http(mut get) = job.action else {
        return job.run(machine, limit).await.map(|()| None);
    };
    let agent = |header: &Header| header.name.eq_ignore_ascii_case("user-agent");
    if !get.headers.iter().any(agent) {
        get.headers.push(Header {
            name: "User-Agent".to_owned(),
            value: HOOK_AGENT.to_owned(),
        });
    }
    let ask = async {
        let host = resolve(&job.host).await.map_err(Problem::Said)?;
        let mut visit = Visit::new(machine, &host, get);
        match visit.go().await {
            // A server that speaks no TLS is asked in the clear, as it was before hooks knew TLS, but is told no secret.
            Err(Problem::Said(words)) if words == NO_TLS => {
                let secret = |header: &Header| header.name.eq_ignore_ascii_case("authorization");
                visit.get.headers.retain(|header| !secret(header));
                visit.get.tls = false;
                visit.go().await?;
                Ok(Some(format!("{}:{}", visit.name, visit.get.port)))
            }
            answer => answer.map(|_| None),
        }
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(Ok(fallen_back)) => Ok(fallen_back),
        Ok(Err(Problem::Said(words))) => Err(words),
        Ok(Err(Problem::Away)) => Err(AWAY.to_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

/// What the status says of a container whose `postStart` hook has failed (kubelet: `handlerRunner.Run`).
pub fn failure_words(pod: &Pod, container: &Container, hook: &LifecycleHandler, problem: &str) -> String {
    let kind = match (&hook.exec, &hook.http_get, &hook.sleep) {
        (Some(exec), ..) => format!(
            "Exec lifecycle hook ([{}])",
            exec.command.as_deref().unwrap_or_default().join(" ")
        ),
        (_, Some(get), _) => format!(
            "HTTP lifecycle hook ({})",
            get.path.as_deref().unwrap_or_default()
        ),
        (.., Some(sleep)) => format!("Sleep lifecycle hook ({})", sleep.seconds),
        _ => return format!("Cannot run handler: {problem}"),
    };
    let (name, pod) = (&container.name, super::described(pod));
    format!("{kind} for Container {name:?} in Pod {pod:?} failed - error: {problem}")
}

/// What is said of a server that does not speak TLS (kubelet: `LifecycleHTTPFallback`).
pub fn fallback_words(server: &str) -> String {
    format!("request to HTTPS lifecycle hook {server} got HTTP response, retry with HTTP succeeded")
}

fn is_https(action: &HTTPGetAction) -> bool {
    let scheme = action.scheme.as_deref();
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

/// The number of a port that may be given by name.
pub fn port(container: &Container, port: &IntOrString) -> Result<u32, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|port| port.name.as_deref() == Some(name))
            .map(|port| port.container_port)
            .or_else(|| name.parse().ok()),
    };
    let valid = |number: &u32| (1..=65535).contains(number);
    match (number.and_then(|number| u32::try_from(number).ok()), port) {
        (Some(number), _) if valid(&number) => Ok(number),
        (Some(number), _) => Err(format!("invalid port number: {number}")),
        (None, IntOrString::String(name)) => Err(format!(
            "couldn't find port: {name:?} in container {}",
            container.name
        )),
        (None, IntOrString::Int(number)) => Err(format!("invalid port number: {number}")),
    }
}

/// The address of a host that may be given by name: the guest agent itself asks nobody for names.
pub async fn resolve(host: &str) -> Result<String, String> {
    if host.is_empty() || host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let failed = |words: String| format!("dial tcp: lookup {host}: {words}");
    let mut found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let first = found.next().ok_or_else(|| failed("no such host".to_owned()))?;
    Ok(first.ip().to_string())
}

/// As whom hooks ask.
const HOOK_AGENT: &str = "kube-lifecycle/1.35";
/// How a guest's words begin that could not connect.
const DIAL: &str = "dial ";

/// Why there is no answer.
#[derive(Debug)]
enum Problem {
    /// The guest could not be asked: nobody is to blame in the Pod.
    Away,
    /// The server, or the way to it.
    Said(String),
}

const AWAY: &str = "the guest agent cannot be reached";

/// A request that is spoken here, over connections that the guest opens.
struct Visit<'a> {
    machine: &'a Machine,
    host: &'a str,
    name: String,
    get: HttpGet,
}

impl<'a> Visit<'a> {
    fn new(machine: &'a Machine, host: &'a str, mut get: HttpGet) -> Self {
        let name = match get.host.as_str() {
            "" => machine.ip.to_string(),
            name => name.to_owned(),
        };
        get.host.clone_from(&name);
        Self {
            machine,
            host,
            name,
            get,
        }
    }

    /// Asks, and goes where it is sent on the same host.
    async fn go(&mut self) -> Result<Answer, Problem> {
        let scheme = if self.get.tls { "https" } else { "http" };
        for _ in 0..MAX_REDIRECTS {
            let answer = self.once().await?;
            match redirect(&answer, scheme, &self.name, self.get.port) {
                Some(Redirect::Here(port, path)) => (self.get.port, self.get.path) = (port, path),
                Some(Redirect::Elsewhere) | None => return Ok(answer),
            }
        }
        Err(Problem::Said("stopped after 10 redirects".to_owned()))
    }

    async fn once(&self) -> Result<Answer, Problem> {
        let (stream, broken) = connect(&self.machine.guest, self.host, self.get.port).await?;
        let answer = match self.get.tls {
            true => tls::get(stream, &self.name, &self.get).await,
            false => guest_api::http::get(stream, &self.name, &self.get)
                .await
                .map_err(|error| error.to_string()),
        };
        answer.map_err(|words| match broken.load(Ordering::Relaxed) {
            true => Problem::Away,
            false => Problem::Said(words),
        })
    }
}

/// A TCP connection that the guest opens inside the Pod; it ends when the stream is dropped. The flag tells whether it was the
/// session that broke it.
async fn connect(guest: &Guest, host: &str, port: u32) -> Result<(DuplexStream, Arc<AtomicBool>), Problem> {
    let (near, far) = tokio::io::duplex(WINDOW);
    let (input, messages) = mpsc::channel(QUEUE);
    let first = DialData {
        port,
        host: if host.is_empty() {
            "pod".to_owned()
        } else {
            host.to_owned()
        },
        ..DialData::default()
    };
    // The queue is empty: there is room.
    let _ = input.try_send(first);
    let mut client = guest.client().await.map_err(|_| Problem::Away)?;
    let answer = client.dial(ReceiverStream::new(messages)).await;
    let mut output = answer
        .map_err(|status| match status.message().starts_with(DIAL) {
            true => Problem::Said(status.message().to_owned()),
            // The words of the transport: no guest has answered.
            false => Problem::Away,
        })?
        .into_inner();
    let (mut read, mut write) = tokio::io::split(far);
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = read.read(&mut buffer).await.unwrap_or(0);
            let message = DialData {
                data: buffer[..length].to_vec(),
                end: length == 0,
                ..DialData::default()
            };
            if input.send(message).await.is_err() || length == 0 {
                return;
            }
        }
    });
    tokio::spawn(async move {
        loop {
            match output.message().await {
                Ok(Some(message)) => {
                    if write.write_all(&message.data).await.is_err() || message.end {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    breaks.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        let _ = write.shutdown().await;
    });
    Ok((near, broken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_by_name() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}))
                .expect("a container");
        let of = |probe: serde_json::Value| {
            let probe: Probe = serde_json::from_value(probe).expect("a probe");
            Job::of_probe(&container, "c_0", &probe)
        };
        let job = of(json!({"httpGet": {"port": "web", "path": "/h", "host": "n"}})).expect("a job");
        let Action::Http(get) = &job.action else {
            panic!("{job:?}");
        };
        assert_eq!(
            (get.port, get.path.as_str(), get.tls, job.host.as_str()),
            (8080, "/h", false, "n")
        );
        let job = of(json!({"httpGet": {"port": 443, "scheme": "HTTPS"}})).expect("a job");
        assert!(matches!(job.action, Action::Http(HttpGet { tls: true, .. })));
        let error = of(json!({"tcpSocket": {"port": "no"}})).expect_err("no port");
        assert_eq!(error, "couldn't find port: \"no\" in container c");
        let error = of(json!({"tcpSocket": {"port": 70000}})).expect_err("no port");
        assert_eq!(error, "invalid port number: 70000");
    }

    #[test]
    fn commands_of_probes_know_the_variables_of_the_manifest() {
        let container: Container = serde_json::from_value(json!({"name": "c", "env": [
            {"name": "MODE", "value": "x"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}))
        .expect("a container");
        let action = json!({"exec": {"command": ["test", "$(MODE)", "$$(cat /tmp/x)", "$(NAME)", "$(NO)"]}});
        let command = |job: Job| match job.action {
            Action::Exec(exec) => exec.command,
            other => panic!("{other:?}"),
        };
        let probe: Probe = serde_json::from_value(action.clone()).expect("a probe");
        let job = Job::of_probe(&container, "c_0", &probe).expect("a job");
        assert_eq!(command(job), ["test", "x", "$(cat /tmp/x)", "", "$(NO)"]);
        let hook: LifecycleHandler = serde_json::from_value(action).expect("a hook");
        let job = Job::of_hook(&container, "c_0", &hook)
            .expect("a job")
            .expect("one");
        assert_eq!(command(job)[1..3], ["$(MODE)", "$$(cat /tmp/x)"]);
    }

    #[tokio::test]
    async fn names_are_looked_up_here() {
        assert_eq!(resolve("").await.as_deref(), Ok(""));
        assert_eq!(resolve("192.0.2.1").await.as_deref(), Ok("192.0.2.1"));
    }
}
