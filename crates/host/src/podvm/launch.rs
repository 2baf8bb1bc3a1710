//! Starting one container: environment, creation, start, `postStart`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::{
    CreateContainerRequest, ReadFileRequest, Resources, Security, StartContainerRequest, User,
};
use images::{Image, PullPolicy};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::boot::{NODE_FILES, image_disk, image_serial};
use super::fetch::{self, First};
use super::names::Names;
use super::record::target_of;
use super::{Context, Input, Machine, Report, Stage, View, actions, prepare};
use crate::env;
use crate::events::Kind;
use crate::size;
use crate::{seccomp, volumes};

/// How long the guest may take to create and start a container.
const CALL: Duration = Duration::from_secs(120);
/// How long a `postStart` hook may take; the kubelet waits for ever, and so do many of them.
const HOOK: Duration = Duration::from_secs(24 * 3600);

/// One start.
pub struct Launch {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM.
    pub machine: Machine,
    /// The container.
    pub container: Container,
    /// Its place among the records.
    pub index: usize,
    /// The run's id.
    pub run: String,
    /// The run whose processes it is to see, if the spec names a container: none while that does not run.
    pub target: Option<Option<String>>,
    /// How the Pod stands.
    pub view: watch::Receiver<View>,
    /// Its image, if that was asked for when the VM was made.
    pub first: Option<First>,
    /// Cancelled when its container has another image by now.
    pub wanted: CancellationToken,
    /// Where to report.
    pub owner: mpsc::Sender<Input>,
}

/// Instead of a reason: the container has another image by now.
pub const SUPERSEDED: &str = "";

impl Launch {
    /// Starts the container, reports, and runs its `postStart` hook.
    pub async fn run(mut self) {
        let first = self.first.take();
        let (starts, name) = (&self.context.starts, &self.container.name);
        starts.container(&self.pod, name, None);
        let result = self.start(first).await;
        // What does not start because its VM is taken down is no failure.
        let wanted = self.view.borrow().stage == Stage::Running;
        if let Some((reason, message)) = result
            .as_ref()
            .err()
            .filter(|(reason, _)| wanted && *reason != SUPERSEDED)
        {
            starts.container(&self.pod, name, Some(reason));
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
            .and_then(|l| l.post_start.as_ref());
        if let (true, Some(hook)) = (started, hook) {
            let done = actions::hook(&self.machine, &self.container, &self.run, hook, HOOK).await;
            if let Ok(Some(server)) = &done {
                let words = actions::fallback_words(server);
                let recorder = &self.context.recorder;
                recorder.pod(&self.pod, Kind::Warning, "LifecycleHTTPFallback", words);
            }
            if let Err(problem) = &done {
                // What a server answered may be secret: it is not told to everybody.
                tracing::debug!(container = self.container.name, problem, "postStart");
                self.event(
                    Kind::Warning,
                    "FailedPostStartHook",
                    "PostStartHook failed".to_owned(),
                );
            }
            let words = |problem: String| actions::failure_words(&self.pod, &self.container, hook, &problem);
            let report = Report::Hooked {
                run: self.run.clone(),
                result: done.map(|_| ()).map_err(words),
            };
            let _ = self.owner.send(Input::Job(report)).await;
        }
    }

    fn event(&self, kind: Kind, reason: &'static str, message: String) {
        self.context
            .recorder
            .container(&self.pod, &self.container.name, kind, reason, message);
    }

    async fn start(&self, first: Option<First>) -> Result<(), (&'static str, String)> {
        let image = self.image(first).await?;
        let request = self.request(&image).await?;
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
        outcome(created).map_err(|problem| not_created(&self.container, problem))?;
        self.event(Kind::Normal, "Created", "Container created".to_owned());
        let start = StartContainerRequest { id: self.run.clone() };
        let started = tokio::time::timeout(CALL, client.start_container(start)).await;
        outcome(started).map_err(|problem| ("RunContainerError", problem))?;
        self.event(Kind::Normal, "Started", "Container started".to_owned());
        Ok(())
    }

    /// The image to start from. It is looked for at each start, so that a container that always asks for it may begin anew
    /// with another one (kubelet: `EnsureImageExists`).
    async fn image(&self, first: Option<First>) -> Result<Arc<Image>, (&'static str, String)> {
        let known = self.machine.images.get(&self.container.name);
        let bring = async {
            if let Some(first) = first
                && let Some(fetched) = first.wait(&self.context, &self.pod, &self.container).await
            {
                return fetched.image;
            }
            if let Some(known) = known.filter(|_| fetch::policy(&self.container) != PullPolicy::Always) {
                let reference = self.container.image.as_deref().unwrap_or_default();
                self.event(Kind::Normal, "Pulled", fetch::present(reference));
                return Arc::clone(known);
            }
            let fetched = fetch::image(&self.context, &self.pod, &self.container, &self.owner, &|| {});
            fetched.await.image
        };
        let image = tokio::select! {
            image = bring => image,
            () = self.wanted.cancelled() => return Err((SUPERSEDED, String::new())),
            () = self.machine.life.cancelled() => {
                return Err(("CreateContainerError", "the VM has ended".to_owned()));
            }
        };
        if known.is_none_or(|known| known.id != image.id) {
            self.plug(&image).await?;
        }
        Ok(image)
    }

    /// Gives the VM the disk of an image that came when it was there already.
    async fn plug(&self, image: &Arc<Image>) -> Result<(), (&'static str, String)> {
        let disk = image_disk(image);
        let images = self.machine.images.values().map(|image| image_serial(&image.id));
        let volumes = self
            .machine
            .disks
            .iter()
            .map(crate::datastore::attach::VolumeDisk::serial);
        if !images.chain(volumes).any(|serial| serial == disk.serial) {
            let attached = self.machine.vm.attach_disk(disk).await;
            attached.map_err(|error| ("CreateContainerError", error.to_string()))?;
        }
        let report = Report::Imaged {
            container: self.container.name.clone(),
            image: Arc::clone(image),
        };
        let _ = self.owner.send(Input::Job(report)).await;
        Ok(())
    }

    /// What the files hold that the environment is read from.
    async fn environment_files(&self) -> Result<BTreeMap<(String, String), Option<Vec<u8>>>, String> {
        let mut files = BTreeMap::new();
        for (volume, path) in volumes::environment_files(&self.pod, &self.container) {
            let place = (volume.name.clone(), path.clone());
            let request = ReadFileRequest {
                volume: Some(volume),
                path,
            };
            let mut client = self
                .machine
                .guest
                .client()
                .await
                .map_err(|error| error.to_string())?;
            let answer = tokio::time::timeout(CALL, client.read_file(request)).await;
            files.insert(place, outcome(answer)?.into_inner().data);
        }
        Ok(files)
    }

    async fn request(&self, image: &Image) -> Result<CreateContainerRequest, (&'static str, String)> {
        let config = |problem: String| ("CreateContainerConfigError", problem);
        let mut sources = prepare::environment_sources(&self.context, &self.pod, &self.container).await;
        sources.files = self.environment_files().await.map_err(config)?;
        let facts = self.context.facts(Some(self.machine.ip));
        let own = env::environment(&self.pod, &self.container, &sources, &facts)
            .map_err(|error| config(error.to_string()))?;
        let user = user(&self.pod, &self.container, image);
        verify_non_root(&self.pod, &self.container, &user).map_err(config)?;
        let args = env::command_line(&self.container, &image.config, &own);
        if args.is_empty() {
            return Err(("CreateContainerError", "no command specified".to_owned()));
        }
        let mounts =
            volumes::mounts(&self.pod, &self.container, &own, &self.machine.disks).map_err(config)?;
        let container = &self.container;
        let node_files = self.context.config.data_dir.join(NODE_FILES);
        let seccomp_filter = seccomp::filter(&self.pod, container, &node_files).map_err(|error| {
            (
                "CreateContainerError",
                format!("failed to generate spec: {error}"),
            )
        })?;
        let memory = self.context.config.capacity.memory_bytes;
        let security = Security {
            seccomp_filter,
            oom_score: size::oom_score(&self.pod, container, memory),
            ..security(container)
        };
        let target = match &self.target {
            None => String::new(),
            Some(Some(run)) => run.clone(),
            Some(None) => {
                let name = target_of(&self.pod, &container.name).unwrap_or_default();
                return Err(config(format!("unable to find target container \"{name}\"")));
            }
        };
        let cwd = container.working_dir.clone().filter(|dir| !dir.is_empty());
        let environment = env::with_image(&image.config.env, &own);
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
            let names = Names::of(&self.pod, &self.context.config.cluster_domain).map_err(config)?;
            env.push(format!("HOSTNAME={}", names.node));
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
            user: Some(user),
            mounts,
            security: Some(security),
            resources: Some(resources(&self.pod, container)),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            termination_message_path: container
                .termination_message_path
                .clone()
                .unwrap_or_else(|| "/dev/termination-log".to_owned()),
            termination_message_from_log: container.termination_message_policy.as_deref()
                == Some("FallbackToLogsOnError"),
            target,
        })
    }
}

/// Reason and message of a container that the guest has not made; what is wrong with a mount, it knows by the path alone.
fn not_created(container: &Container, problem: String) -> (&'static str, String) {
    let Some(path) = problem.strip_prefix(guest_api::SUB_PATH_PROBLEM) else {
        return ("CreateContainerError", problem);
    };
    let mut mounts = container.volume_mounts.iter().flatten();
    let volume = mounts.find(|mount| mount.mount_path == path);
    let volume = volume.map(|mount| mount.name.as_str()).unwrap_or_default();
    let message = format!(
        "failed to prepare subPath for volumeMount {volume:?} of container {:?}",
        container.name
    );
    ("CreateContainerConfigError", message)
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
        strict_groups: pod_context.and_then(|context| context.supplemental_groups_policy.as_deref())
            == Some("Strict"),
    }
}

/// Whether `runAsNonRoot` can be kept (kubelet: `verifyRunAsNonRoot`).
fn verify_non_root(pod: &Pod, container: &Container, user: &User) -> Result<(), String> {
    if !user.must_not_be_root {
        return Ok(());
    }
    let whom = format!(
        "(pod: {:?}, container: {})",
        super::described(pod),
        container.name
    );
    // A user of the image that is not named at all is root.
    let own = user
        .name
        .split(':')
        .next()
        .filter(|name| !name.is_empty())
        .unwrap_or("0");
    match (user.uid, own.parse::<i64>()) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {whom}")),
        (None, Ok(0)) => Err(format!(
            "container has runAsNonRoot and image will run as root {whom}"
        )),
        (None, Err(_)) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({own}), cannot verify user is non-root {whom}"
        )),
        (Some(_), _) | (None, Ok(_)) => Ok(()),
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
        seccomp_filter: Vec::new(),
        oom_score: 0,
    }
}

/// What the guest is to give a container. One without a limit of its own has the Pod's (kubelet: `getMemoryLimit`).
pub(super) fn resources(pod: &Pod, container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    Resources {
        memory_limit: size::limit_of(pod, container, "memory").map_or(0, |milli| milli.div_ceil(1000)),
        cpu_limit_millis: size::limit_of(pod, container, "cpu").unwrap_or(0),
        cpu_request_millis: requests
            .and_then(|r| r.get("cpu"))
            .and_then(size::milli)
            .unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_were_not_made() {
        let container: Container = serde_json::from_value(serde_json::json!({"name": "c",
            "volumeMounts": [{"name": "v", "mountPath": "/data", "subPath": "x"}]}))
        .expect("a container");
        let cases = [
            ("no such file", ("CreateContainerError", "no such file")),
            (
                "failed to prepare subPath at /data",
                (
                    "CreateContainerConfigError",
                    "failed to prepare subPath for volumeMount \"v\" of container \"c\"",
                ),
            ),
        ];
        for (problem, expected) in cases {
            let (reason, message) = not_created(&container, problem.to_owned());
            assert_eq!((reason, message.as_str()), expected);
        }
    }

    #[test]
    fn limits_of_the_pod_are_those_of_containers_without() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "resources": {"limits": {"memory": "64Mi", "cpu": "1"}},
            "containers": [{"name": "own", "resources": {"limits": {"memory": "16Mi"}}}, {"name": "none"}]}}))
        .expect("a Pod");
        let containers = &pod.spec.as_ref().expect("a spec").containers;
        let limits = |container: &Container| {
            let resources = resources(&pod, container);
            (resources.memory_limit >> 20, resources.cpu_limit_millis)
        };
        assert_eq!(
            containers.iter().map(limits).collect::<Vec<_>>(),
            [(16, 1000), (64, 1000)]
        );
    }

    #[test]
    fn non_root_is_verified() {
        let pod: Pod = serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u1"}}),
        )
        .expect("a Pod");
        let container = Container {
            name: "app".to_owned(),
            ..Container::default()
        };
        let whom = "(pod: \"web_shop(u1)\", container: app)";
        let root = format!("container has runAsNonRoot and image will run as root {whom}");
        let named = format!(
            "container has runAsNonRoot and image has non-numeric user (redis), cannot verify user is non-root {whom}"
        );
        let breaks = format!("container's runAsUser breaks non-root policy {whom}");
        let cases = [
            ("", None, Err(root.clone())),
            ("0:0", None, Err(root)),
            ("redis", None, Err(named)),
            ("1000:1000", None, Ok(())),
            ("redis", Some(7), Ok(())),
            ("1000", Some(0), Err(breaks)),
        ];
        for (name, uid, expected) in cases {
            let user = User {
                name: name.to_owned(),
                uid,
                must_not_be_root: true,
                ..User::default()
            };
            assert_eq!(
                verify_non_root(&pod, &container, &user),
                expected,
                "{name} {uid:?}"
            );
        }
    }
}
