//! Starting one container: environment, creation, start, `postStart`.

use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{
    CreateContainerRequest, ExecStart, HttpGet, ProbeRequest, Resources, Security, StartContainerRequest,
    User, probe_request,
};
use images::Image;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::sync::mpsc;

use super::boot::image_serial;
use super::{Context, Input, Machine, Report, prepare};
use crate::env;
use crate::events::Kind;
use crate::size::{self, VmSize};
use crate::volumes;

/// How long the guest may take to create and start a container.
const CALL: Duration = Duration::from_secs(120);

/// One start.
pub struct Launch {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM's size.
    pub size: VmSize,
    /// The VM.
    pub machine: Machine,
    /// The container.
    pub container: Container,
    /// Its place among the records.
    pub index: usize,
    /// The run's id.
    pub run: String,
    /// Where to report.
    pub owner: mpsc::Sender<Input>,
}

impl Launch {
    /// Starts the container and reports.
    pub async fn run(self) {
        let result = self.start().await;
        if let Err((reason, message)) = &result {
            self.event(Kind::Warning, "Failed", format!("Error: {message}"));
            tracing::debug!(container = self.container.name, reason, message, "not started");
        }
        let started = result.is_ok();
        let report = Report::Launched {
            index: self.index,
            run: self.run.clone(),
            result,
        };
        let _ = self.owner.send(Input::Job(report)).await;
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.clone());
        if let (true, Some(hook)) = (started, hook)
            && let Err(problem) = run_hook(&self.machine, &self.container, &self.run, &hook, CALL).await
        {
            self.event(
                Kind::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {problem}"),
            );
            let _ = super::stop::kill_now(&self.machine, &self.run).await;
        }
    }

    fn event(&self, kind: Kind, reason: &'static str, message: String) {
        self.context
            .recorder
            .container(&self.pod, &self.container.name, kind, reason, message);
    }

    async fn start(&self) -> Result<(), (&'static str, String)> {
        let name = &self.container.name;
        let image = self.machine.images.get(name).ok_or((
            "CreateContainerError",
            format!("the VM has no disk for the image of {name}"),
        ))?;
        let request = self.request(image).await?;
        let mut client = self
            .machine
            .guest
            .client()
            .await
            .map_err(|error| ("CreateContainerError", error.to_string()))?;
        let created = tokio::time::timeout(CALL, client.create_container(request)).await;
        // An attempt whose answer was lost.
        let created = created.map(|answer| match answer {
            Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
            answer => answer.map(|_| ()),
        });
        outcome(created).map_err(|problem| ("CreateContainerError", problem))?;
        self.event(Kind::Normal, "Created", format!("Created container: {name}"));
        let start = StartContainerRequest { id: self.run.clone() };
        let started = tokio::time::timeout(CALL, client.start_container(start)).await;
        outcome(started).map_err(|problem| ("RunContainerError", problem))?;
        self.event(Kind::Normal, "Started", format!("Started container {name}"));
        Ok(())
    }

    async fn request(&self, image: &Image) -> Result<CreateContainerRequest, (&'static str, String)> {
        let config = |problem: String| ("CreateContainerConfigError", problem);
        let sources = prepare::environment_sources(&self.context, &self.pod, &self.container).await;
        let facts = self.context.facts(Some(self.machine.ip), self.size);
        let environment = env::environment(&self.pod, &self.container, &image.config.env, &sources, &facts)
            .map_err(|error| config(error.to_string()))?;
        let args = env::command_line(&self.container, &image.config, &environment);
        if args.is_empty() {
            return Err(("RunContainerError", "no command specified".to_owned()));
        }
        let mounts =
            volumes::mounts(&self.pod, &self.container, &environment, &self.machine.disks).map_err(config)?;
        let container = &self.container;
        let cwd = container.working_dir.clone().filter(|dir| !dir.is_empty());
        let mut env: Vec<String> = environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !environment.iter().any(|(name, _)| name == "PATH") {
            env.insert(
                0,
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            );
        }
        if !environment.iter().any(|(name, _)| name == "HOSTNAME") {
            let name = self.pod.metadata.name.as_deref().unwrap_or_default();
            env.push(format!("HOSTNAME={name}"));
        }
        if container.tty == Some(true) && !environment.iter().any(|(name, _)| name == "TERM") {
            env.push("TERM=xterm".to_owned());
        }
        Ok(CreateContainerRequest {
            id: self.run.clone(),
            name: container.name.clone(),
            image_serial: image_serial(&image.id),
            args,
            env,
            cwd: cwd.unwrap_or_else(|| image.config.working_dir.clone()),
            user: Some(user(&self.pod, container, image)),
            mounts,
            security: Some(security(container)),
            resources: Some(resources(container)),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            termination_message_path: container
                .termination_message_path
                .clone()
                .unwrap_or_else(|| "/dev/termination-log".to_owned()),
            termination_message_from_log: container.termination_message_policy.as_deref()
                == Some("FallbackToLogsOnError"),
        })
    }
}

fn outcome<T>(result: Result<Result<T, tonic::Status>, tokio::time::error::Elapsed>) -> Result<T, String> {
    match result {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("context deadline exceeded".to_owned()),
    }
}

fn id(value: Option<i64>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value).ok())
}

fn user(pod: &Pod, container: &Container, image: &Image) -> User {
    let pod_context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let own = container.security_context.as_ref();
    let uid = own
        .and_then(|context| context.run_as_user)
        .or_else(|| pod_context.and_then(|context| context.run_as_user));
    let gid = own
        .and_then(|context| context.run_as_group)
        .or_else(|| pod_context.and_then(|context| context.run_as_group));
    let not_root = own
        .and_then(|context| context.run_as_non_root)
        .or_else(|| pod_context.and_then(|context| context.run_as_non_root));
    let supplemental = pod_context
        .and_then(|context| context.supplemental_groups.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|group| id(Some(*group)))
        .chain(volumes::fs_group(pod));
    User {
        name: image.config.user.clone(),
        uid: id(uid),
        gid: id(gid),
        supplemental_groups: supplemental.collect(),
        must_not_be_root: not_root == Some(true),
    }
}

fn security(container: &Container) -> Security {
    let Some(context) = &container.security_context else {
        return Security::default();
    };
    let capabilities = context.capabilities.as_ref();
    let list = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    Security {
        privileged: context.privileged == Some(true),
        read_only_root: context.read_only_root_filesystem == Some(true),
        no_new_privileges: context.allow_privilege_escalation == Some(false),
        add_capabilities: list(capabilities.and_then(|c| c.add.as_ref())),
        drop_capabilities: list(capabilities.and_then(|c| c.drop.as_ref())),
        unmasked_proc: context.proc_mount.as_deref() == Some("Unmasked"),
    }
}

pub(super) fn resources(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    Resources {
        memory_limit: limits
            .and_then(|l| l.get("memory"))
            .and_then(size::whole)
            .unwrap_or(0),
        cpu_limit_millis: limits
            .and_then(|l| l.get("cpu"))
            .and_then(size::milli)
            .unwrap_or(0),
        cpu_request_millis: requests
            .and_then(|r| r.get("cpu"))
            .and_then(size::milli)
            .unwrap_or(0),
    }
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
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| (1..=65535).contains(number))
        .ok_or_else(|| format!("unable to find port {port:?} in container {}", container.name))
}

/// An HTTP action as the guest performs it.
pub fn http(
    container: &Container,
    action: &k8s_openapi::api::core::v1::HTTPGetAction,
) -> Result<HttpGet, String> {
    Ok(HttpGet {
        port: port(container, &action.port)?,
        path: action.path.clone().unwrap_or_else(|| "/".to_owned()),
        https: action
            .scheme
            .as_deref()
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        headers: action
            .http_headers
            .iter()
            .flatten()
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect(),
    })
}

/// A command as the guest runs it for a probe or hook.
pub fn exec(run: &str, command: &[String]) -> ExecStart {
    ExecStart {
        container: run.to_owned(),
        command: command.to_vec(),
        stdout: true,
        stderr: true,
        ..ExecStart::default()
    }
}

/// Runs a lifecycle hook to its end.
pub async fn run_hook(
    machine: &Machine,
    container: &Container,
    run: &str,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    let (action, host) = if let Some(action) = &hook.exec {
        let command = action.command.clone().unwrap_or_default();
        let exec = exec(run, &command);
        (probe_request::Action::Exec(exec), String::new())
    } else if let Some(action) = &hook.http_get {
        let host = action.host.clone().unwrap_or_default();
        (probe_request::Action::Http(http(container, action)?), host)
    } else {
        return Ok(());
    };
    let request = ProbeRequest {
        action: Some(action),
        timeout_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX),
        host,
    };
    let mut client = machine.guest.client().await.map_err(|error| error.to_string())?;
    let reply = outcome(tokio::time::timeout(limit, client.probe(request)).await)?.into_inner();
    if reply.success { Ok(()) } else { Err(reply.output) }
}
