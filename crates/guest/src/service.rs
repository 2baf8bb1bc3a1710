//! The calls of the host, answered.
//!
//! [`Agent`] is cheap to clone: every session and every task shares one state. All errors carry the words that a Pod's
//! event will show.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guest_api::Guest;
use guest_api::probing::{Probing, Surroundings, keeps_up};
use guest_api::v1::{self, *};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::container::process::{self, Processes, Program, Started};
use crate::container::streams::{Drain, Pipe, Streams};
use crate::container::{Container, cgroup, devices, image_users, now_ns, pause, rootfs};
use crate::reaper::{Ended, Reaper};
use crate::sync::lock;
use crate::{boot, disks, files, grow, identity, probe, sys, volumes};

mod exec;
mod signal;

/// Events that a slow host may be behind; after that it lists.
const EVENTS_KEPT: usize = 256;
/// Kubernetes' bounds of a termination message taken from a file or from the log.
const MESSAGE_BYTES: usize = 4096;
const MESSAGE_LOG_BYTES: usize = 2048;
const MESSAGE_LOG_LINES: usize = 80;

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The agent's state, shared by everything.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    boot_id: String,
    ready_after_us: u64,
    reaper: Reaper,
    configuration: Mutex<Option<ConfigureRequest>>,
    containers: Mutex<BTreeMap<String, Arc<Container>>>,
    /// The first process of the namespace that all containers share, when they do.
    pause: Mutex<Option<i32>>,
    events: broadcast::Sender<Event>,
}

impl Agent {
    /// A fresh agent.
    pub fn new() -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned();
        let uptime = fs::read_to_string("/proc/uptime")?;
        let seconds: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        Ok(Self {
            shared: Arc::new(Shared {
                boot_id,
                ready_after_us: (seconds * 1e6) as u64,
                reaper: Reaper::default(),
                configuration: Mutex::default(),
                containers: Mutex::default(),
                pause: Mutex::default(),
                events,
            }),
        })
    }

    /// Begins to reap children.
    pub fn reap(&self) {
        match Reaper::listen() {
            Ok(children) => drop(tokio::spawn(self.shared.reaper.clone().run(children))),
            Err(error) => boot::log(&format!("guest agent: no SIGCHLD: {error}")),
        }
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        let containers = lock(&self.shared.containers);
        containers
            .get(id)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("no container {id}")))
    }

    /// The running container of a name or an id.
    fn running(&self, name_or_id: &str) -> Result<(Arc<Container>, i32), Status> {
        let containers = lock(&self.shared.containers);
        let found = containers.values().find_map(|container| {
            let named = container.request.id == name_or_id || container.request.name == name_or_id;
            named
                .then(|| Some((Arc::clone(container), container.running_pid()?)))
                .flatten()
        });
        found.ok_or_else(|| Status::failed_precondition(format!("container {name_or_id} is not running")))
    }

    fn tell(&self, container: &Container) {
        // Nobody listening is fine: listeners list first.
        let _ = self.shared.events.send(Event {
            container: Some(container.told()),
        });
    }

    fn program(
        &self,
        container: &Container,
        args: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> io::Result<Program> {
        let request = &container.request;
        let root = rootfs::root(&request.id);
        Ok(Program {
            args,
            env: request.env.clone(),
            cwd: request.cwd.clone(),
            identity: image_users::resolve(&root, &request.user.clone().unwrap_or_default())?,
            security: request.security.clone().unwrap_or_default(),
            tty,
            stdin,
        })
    }

    /// Which processes a container sees; `target` is another one whose it wants to see.
    fn processes(&self, target: &str) -> io::Result<Processes> {
        let (shared, node) = lock(&self.shared.configuration)
            .as_ref()
            .map(|config| (config.share_process_namespace, config.node_processes))
            .unwrap_or_default();
        if node {
            return Ok(Processes::Node);
        }
        if shared {
            let mut first = lock(&self.shared.pause);
            let pid = match first.filter(|pid| pause::is_alive(*pid)) {
                Some(pid) => pid,
                None => pause::start()?,
            };
            *first = Some(pid);
            return Ok(Processes::Of(pid));
        }
        if target.is_empty() {
            return Ok(Processes::Own);
        }
        let words = |_| io::Error::other(format!("unable to find target container {target}"));
        Ok(Processes::Of(self.running(target).map_err(words)?.1))
    }

    async fn start(&self, container: &Arc<Container>) -> io::Result<u32> {
        let request = &container.request;
        if request.args.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no command specified",
            ));
        }
        let sources = rootfs::sources(request).await?;
        let processes = self.processes(&request.target)?;
        let program = self.program(container, request.args.clone(), request.tty, request.stdin)?;
        let started = process::start(request, &sources, &program, processes)?;
        let pid = started.pid;
        let (over, ended) = watch::channel(false);
        let readers = self.connect(container, started, &ended)?;
        {
            let mut status = lock(&container.status);
            status.set_state(v1::State::Running);
            status.pid = pid as u32;
            status.identity = Some(Identity {
                uid: program.identity.uid,
                gid: program.identity.gid,
                groups: program.identity.groups.clone(),
            });
            status.started_at_ns = now_ns();
        }
        *lock(&container.probing) = Some(Probing::start(Inside {
            agent: self.clone(),
            container: Arc::clone(container),
        }));
        self.tell(container);
        let (agent, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let ended = agent.shared.reaper.wait(pid).await;
            let ended = ended.unwrap_or(Ended { code: 255, signal: 0 });
            let at = now_ns();
            container.end_probing();
            // Others of the container go with its first process; then the pipes end, unless a stray holds them.
            cgroup::kill(&container.request.id);
            over.send_replace(true);
            for reader in readers {
                let _ = reader.await;
            }
            agent.finish(&container, ended, at);
        });
        Ok(pid as u32)
    }

    /// Reads the output of a container's first process for as long as it comes.
    fn connect(
        &self,
        container: &Arc<Container>,
        started: Started,
        ended: &watch::Receiver<bool>,
    ) -> io::Result<Vec<tokio::task::JoinHandle<()>>> {
        let stdout = Arc::new(Pipe::new(started.stdout)?);
        let terminal = container.request.tty.then(|| Arc::clone(&stdout));
        let stdin = started.stdin.map(Pipe::new).transpose()?.map(Arc::new);
        let streams = Arc::new(Streams::new(stdin, terminal));
        *lock(&container.streams) = Some(Arc::clone(&streams));
        let mut sources = vec![(1, stdout)];
        if let Some(stderr) = started.stderr {
            sources.push((2, Arc::new(Pipe::new(stderr)?)));
        }
        let read = |(stream, pipe): (u32, Arc<Pipe>)| {
            let (container, streams) = (Arc::clone(container), Arc::clone(&streams));
            let mut drain = Drain::new(pipe, ended.clone());
            tokio::spawn(async move {
                while let Some(bytes) = drain.next().await {
                    streams.tell(stream, &bytes).await;
                    container.output.write(stream, &bytes).await;
                }
            })
        };
        Ok(sources.into_iter().map(read).collect())
    }

    fn finish(&self, container: &Container, ended: Ended, at: i64) {
        let request = &container.request;
        container.output.end();
        *lock(&container.streams) = None;
        let message = termination_message(container, ended.code);
        {
            let mut status = lock(&container.status);
            status.set_state(v1::State::Exited);
            status.pid = 0;
            status.finished_at_ns = at;
            status.exit_code = ended.code;
            status.signal = ended.signal;
            status.oom_killed = cgroup::was_oom_killed(&request.id);
            status.message = message;
        }
        cgroup::remove(&request.id);
        self.tell(container);
    }
}

fn termination_message(container: &Container, code: i32) -> String {
    let request = &container.request;
    let mut message = files::read_in(&rootfs::directory(&request.id), rootfs::TERMINATION);
    if message.is_empty() && code != 0 && request.termination_message_from_log {
        message = container.output.tail(MESSAGE_LOG_LINES, MESSAGE_LOG_BYTES);
    }
    // The end of a long message is kept (kubelet: `tail.ReadAtMost`).
    let start = message.len().saturating_sub(MESSAGE_BYTES);
    let start = (start..=message.len()).find(|index| message.is_char_boundary(*index));
    message.split_off(start.unwrap_or(0))
}

fn failed(error: io::Error) -> Status {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(text),
        io::ErrorKind::PermissionDenied => Status::permission_denied(text),
        io::ErrorKind::InvalidInput => Status::invalid_argument(text),
        _ => Status::internal(text),
    }
}

#[tonic::async_trait]
impl Guest for Agent {
    type EventsStream = Output<Event>;
    type LogsStream = Output<LogBatch>;
    type ExecStream = Output<ExecOutput>;
    type AttachStream = Output<ExecOutput>;
    type DialStream = Output<DialData>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let uname = rustix::system::uname();
        Ok(Response::new(HelloReply {
            boot_id: self.shared.boot_id.clone(),
            kernel: uname.release().to_string_lossy().into_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            configured: lock(&self.shared.configuration).is_some(),
            ready_after_us: self.shared.ready_after_us,
            extent: Some(grow::in_use().map_err(failed)?),
        }))
    }

    async fn configure(
        &self,
        request: Request<ConfigureRequest>,
    ) -> Result<Response<ConfigureReply>, Status> {
        let request = request.into_inner();
        identity::apply(&request).await.map_err(failed)?;
        *lock(&self.shared.configuration) = Some(request);
        Ok(Response::new(ConfigureReply {}))
    }

    async fn clock(&self, request: Request<ClockRequest>) -> Result<Response<ClockReply>, Status> {
        identity::move_clock(request.into_inner().step_ns).map_err(failed)?;
        Ok(Response::new(ClockReply {
            unix_time_ns: now_ns(),
        }))
    }

    async fn write_volume(
        &self,
        request: Request<WriteVolumeRequest>,
    ) -> Result<Response<WriteVolumeReply>, Status> {
        volumes::write(&request.into_inner()).map_err(failed)?;
        Ok(Response::new(WriteVolumeReply {}))
    }

    async fn resize_volume(
        &self,
        request: Request<ResizeVolumeRequest>,
    ) -> Result<Response<ResizeVolumeReply>, Status> {
        let request = request.into_inner();
        disks::resize(&request.serial, request.bytes)
            .await
            .map_err(failed)?;
        Ok(Response::new(ResizeVolumeReply {}))
    }

    async fn freeze_volume(
        &self,
        request: Request<FreezeVolumeRequest>,
    ) -> Result<Response<FreezeVolumeReply>, Status> {
        let request = request.into_inner();
        let limit = Duration::from_secs(u64::from(request.seconds));
        // Writing out takes as long as the disk does; other calls go on meanwhile.
        tokio::task::spawn_blocking({
            let serial = request.serial.clone();
            move || disks::freeze(&serial, !limit.is_zero())
        })
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(failed)?;
        if !limit.is_zero() {
            tokio::spawn(async move {
                tokio::time::sleep(limit).await;
                // Long since done when the host has said so.
                let _ = disks::freeze(&request.serial, false);
            });
        }
        Ok(Response::new(FreezeVolumeReply {}))
    }

    async fn read_file(&self, request: Request<ReadFileRequest>) -> Result<Response<ReadFileReply>, Status> {
        let request = request.into_inner();
        let volume = request
            .volume
            .ok_or_else(|| Status::invalid_argument("the volume is missing"))?;
        let data = volumes::read(&volume, &request.path).map_err(failed)?;
        Ok(Response::new(ReadFileReply { data }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerReply>, Status> {
        let request = request.into_inner();
        if request.id.is_empty() || request.id.contains('/') || request.id.starts_with('.') {
            return Err(Status::invalid_argument(format!(
                "`{}` is not a container id",
                request.id
            )));
        }
        if lock(&self.shared.containers).contains_key(&request.id) {
            return Err(Status::already_exists(format!(
                "container {} is there already",
                request.id
            )));
        }
        rootfs::prepare(&request).await.map_err(failed)?;
        // What cannot be mounted is said before anything runs; the next attempt begins anew.
        let ready = rootfs::sources(&request).await.and_then(|sources| {
            cgroup::create(&request.id, &request.resources.unwrap_or_default())?;
            devices::confine(&cgroup::path(&request.id), &request, &sources)
        });
        if let Err(error) = ready {
            cgroup::remove(&request.id);
            let _ = rootfs::remove(&request.id);
            return Err(failed(error));
        }
        lock(&self.shared.containers).insert(request.id.clone(), Arc::new(Container::new(request)));
        Ok(Response::new(CreateContainerReply {}))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerReply>, Status> {
        let container = self.container(&request.into_inner().id)?;
        if lock(&container.status).state() != v1::State::Created {
            return Err(Status::failed_precondition(
                "the container has been started before",
            ));
        }
        let pid = self.start(&container).await.map_err(failed)?;
        Ok(Response::new(StartContainerReply { pid }))
    }

    async fn update_container(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerReply>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id)?;
        if container.running_pid().is_some() {
            cgroup::update(&request.id, &request.resources.unwrap_or_default()).map_err(failed)?;
        }
        Ok(Response::new(UpdateContainerReply {}))
    }

    async fn grow(&self, request: Request<GrowRequest>) -> Result<Response<GrowReply>, Status> {
        let wanted = request.into_inner().wanted.unwrap_or_default();
        let extent = grow::to(&wanted).await.map_err(failed)?;
        Ok(Response::new(GrowReply { extent: Some(extent) }))
    }

    async fn kill_container(
        &self,
        request: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerReply>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id)?;
        // An image may name one that there is not: it is told to end all the same.
        let signal = signal::parse(&request.signal).unwrap_or(libc::SIGTERM);
        if let Some(pid) = container.running_pid() {
            if request.all && signal == libc::SIGKILL {
                cgroup::kill(&request.id);
            } else {
                sys::send_signal(pid, signal);
            }
        }
        Ok(Response::new(KillContainerReply {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Result<Response<RemoveContainerReply>, Status> {
        let id = request.into_inner().id;
        let removed = {
            let mut containers = lock(&self.shared.containers);
            match containers.get(&id) {
                Some(container) if container.running_pid().is_some() => {
                    return Err(Status::failed_precondition(format!("container {id} is running")));
                }
                _ => containers.remove(&id),
            }
        };
        if removed.is_some() {
            cgroup::remove(&id);
            rootfs::remove(&id).map_err(failed)?;
        }
        Ok(Response::new(RemoveContainerReply {}))
    }

    async fn list_containers(
        &self,
        _: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersReply>, Status> {
        let containers = lock(&self.shared.containers);
        let containers = containers.values().map(|container| container.listed()).collect();
        Ok(Response::new(ListContainersReply { containers }))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let stream = BroadcastStream::new(self.shared.events.subscribe())
            .map(|event| event.map_err(|behind| Status::data_loss(behind.to_string())));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id)?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            container.output.reader(true);
            let mut next = request.from_sequence;
            while let Some(records) = container.output.read(next).await {
                next = records.last().map_or(next, |record| record.sequence + 1);
                if sender.send(Ok(LogBatch { records })).await.is_err() {
                    break;
                }
            }
            container.output.reader(false);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        self.exec_stream(request.into_inner()).await
    }

    async fn attach(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.attach_stream(request.into_inner()).await
    }

    async fn dial(
        &self,
        request: Request<Streaming<DialData>>,
    ) -> Result<Response<Self::DialStream>, Status> {
        exec::dial(request.into_inner(), self.own_address()).await
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |word: &str| {
            let line = memory.lines().find_map(|line| line.strip_prefix(word))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let (rx_bytes, tx_bytes) = network_bytes();
        let mut running: Vec<_> = lock(&self.shared.containers)
            .values()
            .filter(|container| container.running_pid().is_some())
            .map(|container| cgroup::stats(&container.request.id, &container.request.name))
            .collect();
        let mut empty_dirs = std::collections::HashMap::new();
        if request.into_inner().disk {
            for stats in &mut running {
                stats.disk_used = files::bytes_below(&rootfs::upper(&stats.id)).await;
            }
            for (name, path) in volumes::empty_dirs() {
                empty_dirs.insert(name, files::bytes_below(&path).await);
            }
        }
        let scratch = rustix::fs::statvfs(disks::SCRATCH).ok();
        let (disk_read_bytes, disk_written_bytes) = disks::traffic();
        Ok(Response::new(StatsReply {
            empty_dirs,
            containers: running,
            memory_total: kib("MemTotal:").unwrap_or(0) * 1024,
            memory_available: kib("MemAvailable:").unwrap_or(0) * 1024,
            rx_bytes,
            tx_bytes,
            scratch_used: scratch_used(),
            pressures: cgroup::pressures(std::path::Path::new("/proc/pressure"), ""),
            volumes: disks::volume_stats(),
            scratch_total: scratch.as_ref().map_or(0, |stat| stat.f_blocks * stat.f_frsize),
            scratch_free: scratch.as_ref().map_or(0, |stat| stat.f_bavail * stat.f_frsize),
            disk_read_bytes,
            disk_written_bytes,
        }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        self.ask(request.into_inner()).await.map(Response::new)
    }

    async fn set_probes(
        &self,
        request: Request<SetProbesRequest>,
    ) -> Result<Response<SetProbesReply>, Status> {
        let request = request.into_inner();
        let container = self.container(&request.id)?;
        let known = {
            let probing = lock(&container.probing);
            let known = probing.as_ref();
            known.map(|probing| probing.set(request.probes))
        };
        let stopped = || Status::failed_precondition(format!("container {} is not running", request.id));
        known.ok_or_else(stopped)?;
        Ok(Response::new(SetProbesReply {}))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownReply>, Status> {
        // The answer means that volumes are complete on the host's side.
        disks::unmount_volumes();
        tokio::spawn(async {
            // The answer goes out first.
            tokio::time::sleep(Duration::from_millis(20)).await;
            sys::end_machine();
        });
        Ok(Response::new(ShutdownReply {}))
    }
}

impl Agent {
    /// Does what a probe or a hook does.
    async fn ask(&self, request: ProbeRequest) -> Result<ProbeReply, Status> {
        let limit = Duration::from_millis(u64::from(request.timeout_ms.max(1)));
        let host = if request.host.is_empty() {
            self.own_address()
        } else {
            request.host
        };
        match request.action {
            Some(probe_request::Action::Http(get)) => Ok(probe::http(&host, &get, limit).await),
            Some(probe_request::Action::TcpPort(port)) => Ok(probe::tcp(&host, port, limit).await),
            Some(probe_request::Action::Exec(start)) => self.exec_probe(start, limit).await,
            Some(probe_request::Action::Grpc(wanted)) => Ok(probe::grpc(&host, &wanted, limit).await),
            None => Err(Status::invalid_argument("a probe without an action")),
        }
    }

    fn own_address(&self) -> String {
        let configuration = lock(&self.shared.configuration);
        let address = configuration
            .as_ref()
            .and_then(|config| config.interface.as_ref());
        address.map_or_else(|| "127.0.0.1".to_owned(), |interface| interface.address.clone())
    }
}

/// What the probes of a container are in.
struct Inside {
    agent: Agent,
    container: Arc<Container>,
}

impl Surroundings for Inside {
    async fn ask(&self, request: ProbeRequest) -> Option<ProbeReply> {
        // A container that has ended in this very moment has no answer.
        self.agent.ask(request).await.ok()
    }

    fn heard(&self) -> bool {
        let events = &self.agent.shared.events;
        events.receiver_count() > 0 && keeps_up(events)
    }

    fn tell(&self) -> bool {
        let may = keeps_up(&self.agent.shared.events);
        if may {
            self.agent.tell(&self.container);
        }
        may
    }
}

/// Bytes received and sent by all devices but loopback.
fn network_bytes() -> (u64, u64) {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut sum = (0, 0);
    for line in text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
    {
        let numbers: Vec<u64> = line
            .1
            .split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        sum.0 += numbers.first().copied().unwrap_or(0);
        sum.1 += numbers.get(8).copied().unwrap_or(0);
    }
    sum
}

fn scratch_used() -> u64 {
    rustix::fs::statvfs(crate::disks::SCRATCH)
        .map(|stats| (stats.f_blocks - stats.f_bfree) * stats.f_frsize)
        .unwrap_or(0)
}
