//! A guest without a VM: containers "run" until they are killed, `exec` echoes, logs say that they are simulated.
//!
//! It keeps the contract (states, events, sequence numbers, exit codes), so that everything above it, the host agent
//! first, is tested without any emulation. Conventions let tests decide how a container ends: an argument
//! `exit=N` ends it at once with that code, `oom` ends it as killed for memory; and it ends as its command says if that is
//! `true`, `false`, or a shell's `exit N`, which is what Jobs of upstream's tests are made of. `stubborn` ones heed SIGKILL alone. With `late`
//! the log is written at once and told a while later; with `slow` there are last words, and a long while until they are told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{broadcast, mpsc, watch};
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::Guest;
use crate::probing::{Probing, Surroundings, keeps_up};
use crate::v1::*;

/// Events that a slow listener may be behind; after that it lists.
const EVENTS_KEPT: usize = 256;
/// Exit code of a process ended by SIGKILL, and of one that memory ran out for.
const KILLED: i32 = 137;
/// Memory comes in blocks of this, as in a kernel.
const BLOCK_MIB: u64 = 128;

/// How late a log is that is told late.
const LATE: Duration = Duration::from_millis(300);
/// How long after its end the last words of a container come that is slow.
const SLOW: Duration = Duration::from_millis(2500);

type Output<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The simulated guest; clones share one state.
#[derive(Clone)]
pub struct SimulatedGuest {
    shared: Arc<Shared>,
}

struct Shared {
    boot_id: String,
    /// The most that its VM has.
    most: Extent,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// It answers neither probes nor whoever connects, nor whether it is there.
    absent: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    configured: bool,
    /// What is in use of its VM.
    extent: Extent,
    /// How far the clock is ahead of the host's.
    clock_error_ns: i64,
    containers: BTreeMap<String, (CreateContainerRequest, Container)>,
    /// The probes of those that run.
    probing: BTreeMap<String, Probing>,
    volumes: BTreeMap<String, Vec<File>>,
    empty_dirs: BTreeMap<String, u64>,
    /// What every probe fails with.
    sick: Option<String>,
    /// The probes that it was asked for.
    probes: Vec<ProbeRequest>,
    /// Ports that somebody connected to.
    dialled: Vec<u32>,
    /// What whoever connects is told.
    answer: Option<Vec<u8>>,
    /// Why no resources can be changed.
    unyielding: Option<String>,
}

impl Default for SimulatedGuest {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedGuest {
    /// A guest that has just booted.
    pub fn new() -> Self {
        let small = Extent {
            vcpus: 1,
            memory_mib: 64,
        };
        Self::sized(small, small)
    }

    /// A guest that has just booted with so much of a VM in which there is so much.
    pub fn sized(extent: Extent, most: Extent) -> Self {
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let boot_id = format!("simulated-{:x}", now_ns());
        let state = State {
            extent,
            ..State::default()
        };
        Self {
            shared: Arc::new(Shared {
                boot_id,
                most,
                state: Mutex::new(state),
                events,
                absent: watch::Sender::new(false),
            }),
        }
    }

    /// What it uses of its VM, for tests.
    pub fn extent(&self) -> Extent {
        self.state().extent
    }

    /// Files of a volume as last written, for tests.
    pub fn volume(&self, name: &str) -> Option<Vec<File>> {
        self.state().volumes.get(name).cloned()
    }

    /// How many nanoseconds its clock is ahead of the host's, for tests.
    pub fn clock_error_ns(&self) -> i64 {
        self.state().clock_error_ns
    }

    /// Sets its clock ahead of the host's, for tests.
    pub fn set_clock_error_ns(&self, error: i64) {
        self.state().clock_error_ns = error;
    }

    /// Says how many bytes an emptyDir has, for tests.
    pub fn fill(&self, empty_dir: &str, bytes: u64) {
        self.state().empty_dirs.insert(empty_dir.to_owned(), bytes);
    }

    /// Lets every probe fail with these words, or succeed again, for tests.
    pub fn set_sick(&self, words: Option<&str>) {
        self.state().sick = words.map(str::to_owned);
    }

    /// The probes that it was asked for so far, for tests.
    pub fn probes(&self) -> Vec<ProbeRequest> {
        self.state().probes.clone()
    }

    /// The ports that were connected to so far, for tests.
    pub fn dialled(&self) -> Vec<u32> {
        self.state().dialled.clone()
    }

    /// Tells these bytes to everybody who connects, and no echo, for tests.
    pub fn set_answer(&self, bytes: &[u8]) {
        self.state().answer = Some(bytes.to_vec());
    }

    /// Leaves questions unanswered for as long as this is set, though its session stands, for tests.
    pub fn set_absent(&self, absent: bool) {
        self.shared.absent.send_replace(absent);
    }

    /// Lets neither a container's resources nor its own be changed, with these words, for tests.
    pub fn set_unyielding(&self, words: &str) {
        self.state().unyielding = Some(words.to_owned());
    }

    /// Lets resources be changed again, for tests.
    pub fn set_yielding(&self) {
        self.state().unyielding = None;
    }

    /// Waits while it is absent.
    async fn present(&self) {
        let mut absent = self.shared.absent.subscribe();
        // The sender lives as long as this does.
        let _ = absent.wait_for(|absent| !absent).await;
    }

    async fn ask(&self, request: ProbeRequest) -> ProbeReply {
        self.state().probes.push(request);
        self.present().await;
        let sick = self.state().sick.clone();
        ProbeReply {
            success: sick.is_none(),
            output: sick.unwrap_or_default(),
            unknown: false,
        }
    }

    /// The request of a container, for tests.
    pub fn request(&self, id: &str) -> Option<CreateContainerRequest> {
        self.state()
            .containers
            .get(id)
            .map(|(request, _)| request.clone())
    }

    /// Ends a container as if its process had, for tests.
    pub fn end(&self, id: &str, exit_code: i32, oom_killed: bool) {
        let mut state = self.state();
        let probing = state.probing.remove(id);
        if let Some((_, container)) = state.containers.get_mut(id)
            && container.state() == crate::v1::State::Running
        {
            container.probes = probing.map(|probing| probing.states()).unwrap_or_default();
            container.set_state(crate::v1::State::Exited);
            container.exit_code = exit_code;
            container.oom_killed = oom_killed;
            container.finished_at_ns = now_ns();
            // Nobody listening is fine: listeners list first.
            let _ = self.shared.events.send(Event {
                container: Some(container.clone()),
            });
        }
    }

    /// Waits until a container runs no more.
    async fn ended(&self, id: &str) {
        let mut events = self.shared.events.subscribe();
        let over = |known: &(_, Container)| known.1.state() == crate::v1::State::Exited;
        while !self.state().containers.get(id).is_none_or(over) {
            // One that is behind looks again.
            let _ = events.recv().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in another test thread must not hide this one's failure.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stubborn(&self, id: &str) -> bool {
        let state = self.state();
        let found = state.containers.get(id);
        found.is_some_and(|(request, _)| request.args.iter().any(|argument| argument == "stubborn"))
    }

    fn id_of(&self, name_or_id: &str) -> Result<String, Status> {
        let state = self.state();
        let found = state.containers.iter().find(|(id, (_, container))| {
            *id == name_or_id
                || (container.name == name_or_id && container.state() == crate::v1::State::Running)
        });
        found
            .map(|(id, _)| id.clone())
            .ok_or_else(|| Status::not_found(format!("no container {name_or_id}")))
    }
}

/// What the probes of a container are in. They end with the guest.
struct Inside {
    shared: Weak<Shared>,
    container: String,
}

impl Surroundings for Inside {
    async fn ask(&self, request: ProbeRequest) -> Option<ProbeReply> {
        let shared = self.shared.upgrade()?;
        Some(SimulatedGuest { shared }.ask(request).await)
    }

    fn heard(&self) -> bool {
        let heard = |events: &broadcast::Sender<_>| events.receiver_count() > 0 && keeps_up(events);
        self.shared.upgrade().is_some_and(|shared| heard(&shared.events))
    }

    fn tell(&self) -> bool {
        let Some(shared) = self.shared.upgrade() else {
            return true;
        };
        if !keeps_up(&shared.events) {
            return false;
        }
        let guest = SimulatedGuest { shared };
        let state = guest.state();
        let known = state.containers.get(&self.container);
        if let (Some((_, container)), Some(probing)) = (known, state.probing.get(&self.container)) {
            let probes = probing.states();
            // Nobody listening is fine: listeners list first.
            let _ = guest.shared.events.send(Event {
                container: Some(Container {
                    probes,
                    ..container.clone()
                }),
            });
        }
        true
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// As a kernel tells it of each kind.
fn pressures() -> Vec<String> {
    let line = |word| format!("{word} avg10=0.50 avg60=0.10 avg300=0.00 total=4711\n");
    vec![line("some") + &line("full"); 3]
}

#[tonic::async_trait]
impl Guest for SimulatedGuest {
    type EventsStream = Output<Event>;
    type LogsStream = Output<LogBatch>;
    type ExecStream = Output<ExecOutput>;
    type AttachStream = Output<ExecOutput>;
    type DialStream = Output<DialData>;

    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        self.present().await;
        let state = self.state();
        Ok(Response::new(HelloReply {
            boot_id: self.shared.boot_id.clone(),
            kernel: "simulated".to_owned(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            configured: state.configured,
            ready_after_us: 0,
            extent: Some(state.extent),
        }))
    }

    async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<ConfigureReply>, Status> {
        self.state().configured = true;
        Ok(Response::new(ConfigureReply {}))
    }

    async fn write_volume(
        &self,
        request: Request<WriteVolumeRequest>,
    ) -> Result<Response<WriteVolumeReply>, Status> {
        let request = request.into_inner();
        self.state().volumes.insert(request.volume, request.files);
        Ok(Response::new(WriteVolumeReply {}))
    }

    async fn clock(&self, request: Request<ClockRequest>) -> Result<Response<ClockReply>, Status> {
        let mut state = self.state();
        state.clock_error_ns = state.clock_error_ns.saturating_add(request.into_inner().step_ns);
        Ok(Response::new(ClockReply {
            unix_time_ns: now_ns().saturating_add(state.clock_error_ns),
        }))
    }

    async fn resize_volume(
        &self,
        _: Request<ResizeVolumeRequest>,
    ) -> Result<Response<ResizeVolumeReply>, Status> {
        Ok(Response::new(ResizeVolumeReply {}))
    }

    async fn freeze_volume(
        &self,
        _: Request<FreezeVolumeRequest>,
    ) -> Result<Response<FreezeVolumeReply>, Status> {
        Ok(Response::new(FreezeVolumeReply {}))
    }

    async fn read_file(&self, _: Request<ReadFileRequest>) -> Result<Response<ReadFileReply>, Status> {
        // Nothing runs here that could have written one.
        Ok(Response::new(ReadFileReply { data: None }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Result<Response<CreateContainerReply>, Status> {
        let request = request.into_inner();
        let container = Container {
            id: request.id.clone(),
            name: request.name.clone(),
            ..Container::default()
        };
        self.state()
            .containers
            .insert(request.id.clone(), (request, container));
        Ok(Response::new(CreateContainerReply {}))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Result<Response<StartContainerReply>, Status> {
        let id = request.into_inner().id;
        let args = {
            let mut state = self.state();
            let Some((created, container)) = state.containers.get_mut(&id) else {
                return Err(Status::not_found(format!("no container {id}")));
            };
            container.set_state(crate::v1::State::Running);
            container.pid = 1;
            container.started_at_ns = now_ns();
            let _ = self.shared.events.send(Event {
                container: Some(container.clone()),
            });
            let args = created.args.clone();
            let probing = Probing::start(Inside {
                shared: Arc::downgrade(&self.shared),
                container: id.clone(),
            });
            state.probing.insert(id.clone(), probing);
            args
        };
        if args.iter().any(|argument| argument == "oom") {
            self.end(&id, KILLED, true);
        } else if let Some(code) = exit_code(&args) {
            self.end(&id, code, false);
        }
        Ok(Response::new(StartContainerReply { pid: 1 }))
    }

    async fn grow(&self, request: Request<GrowRequest>) -> Result<Response<GrowReply>, Status> {
        let wanted = request.into_inner().wanted.unwrap_or_default();
        let most = self.shared.most;
        let mut state = self.state();
        if let Some(words) = &state.unyielding {
            return Err(Status::failed_precondition(words.clone()));
        }
        if wanted.vcpus > most.vcpus || wanted.memory_mib > most.memory_mib {
            return Err(Status::out_of_range(format!(
                "the VM has {} processors and {} MiB of memory",
                most.vcpus, most.memory_mib
            )));
        }
        let missing = wanted.memory_mib.saturating_sub(state.extent.memory_mib);
        state.extent = Extent {
            vcpus: wanted.vcpus.max(state.extent.vcpus),
            memory_mib: state.extent.memory_mib + missing.next_multiple_of(BLOCK_MIB),
        };
        let extent = Some(state.extent);
        Ok(Response::new(GrowReply { extent }))
    }

    async fn update_container(
        &self,
        request: Request<UpdateContainerRequest>,
    ) -> Result<Response<UpdateContainerReply>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        if let Some(words) = &state.unyielding {
            return Err(Status::failed_precondition(words.clone()));
        }
        match state.containers.get_mut(&request.id) {
            Some((known, _)) => known.resources = request.resources,
            None => return Err(Status::not_found(format!("no container {}", request.id))),
        }
        Ok(Response::new(UpdateContainerReply {}))
    }

    async fn kill_container(
        &self,
        request: Request<KillContainerRequest>,
    ) -> Result<Response<KillContainerReply>, Status> {
        let request = request.into_inner();
        let code = match request.signal.as_str() {
            "SIGKILL" | "9" => KILLED,
            _ if self.is_stubborn(&request.id) => return Ok(Response::new(KillContainerReply {})),
            // A well-behaved process.
            _ => 0,
        };
        self.end(&request.id, code, false);
        Ok(Response::new(KillContainerReply {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Result<Response<RemoveContainerReply>, Status> {
        let id = request.into_inner().id;
        let mut state = self.state();
        state.containers.remove(&id);
        state.probing.remove(&id);
        Ok(Response::new(RemoveContainerReply {}))
    }

    async fn list_containers(
        &self,
        _: Request<ListContainersRequest>,
    ) -> Result<Response<ListContainersReply>, Status> {
        let state = self.state();
        let containers = state.containers.values().map(|(_, container)| {
            let mut container = container.clone();
            // The one that `logs` tells.
            container.log_records = u64::from(container.started_at_ns > 0);
            if let Some(probing) = state.probing.get(&container.id) {
                container.probes = probing.list();
            }
            container
        });
        let containers = containers.collect();
        Ok(Response::new(ListContainersReply { containers }))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let stream = BroadcastStream::new(self.shared.events.subscribe())
            .map(|event| event.map_err(|behind| Status::data_loss(behind.to_string())));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let request = request.into_inner();
        let args = {
            let state = self.state();
            let found = state.containers.get(&request.id);
            let (created, _) =
                found.ok_or_else(|| Status::not_found(format!("no container {}", request.id)))?;
            created.args.join(" ")
        };
        if args.contains("late") {
            tokio::time::sleep(LATE).await;
        }
        let (sender, receiver) = mpsc::channel(1);
        let guest = self.clone();
        tokio::spawn(async move {
            let tell = async |sequence, line: String| {
                let record = LogRecord {
                    sequence,
                    unix_time_ns: now_ns(),
                    stream: 1,
                    line: line.into_bytes(),
                    partial: false,
                };
                let records = if request.from_sequence <= sequence {
                    vec![record]
                } else {
                    Vec::new()
                };
                // The host may have gone.
                let _ = sender.send(Ok(LogBatch { records })).await;
            };
            tell(0, format!("simulated: {args}")).await;
            tokio::select! {
                () = guest.ended(&request.id) => {}
                () = sender.closed() => return,
            }
            if args.contains("slow") {
                tokio::time::sleep(SLOW).await;
                tell(1, "simulated: last words".to_owned()).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn exec(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let Some(exec_input::Input::Start(start)) = input.message().await?.and_then(|message| message.input)
        else {
            return Err(Status::invalid_argument("the first message must be start"));
        };
        self.id_of(&start.container)?;
        let (sender, receiver) = mpsc::channel(16);
        let text = format!("{}\n", start.command.join(" "));
        tokio::spawn(async move {
            let send = |output| sender.send(Ok(ExecOutput { output: Some(output) }));
            if send(exec_output::Output::Stdout(text.into_bytes()))
                .await
                .is_err()
            {
                return;
            }
            if start.stdin {
                while let Ok(Some(ExecInput { input: Some(message) })) = input.message().await {
                    match message {
                        exec_input::Input::Stdin(bytes) => {
                            if send(exec_output::Output::Stdout(bytes)).await.is_err() {
                                return;
                            }
                        }
                        exec_input::Input::Resize(_) => {}
                        exec_input::Input::Start(_) | exec_input::Input::CloseStdin(_) => break,
                    }
                }
            }
            // The host may have gone; then nobody needs the exit code.
            let _ = send(exec_output::Output::Exit(ExecExit {
                code: 0,
                error: String::new(),
            }))
            .await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn attach(
        &self,
        request: Request<Streaming<ExecInput>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        self.exec(request).await
    }

    async fn dial(
        &self,
        request: Request<Streaming<DialData>>,
    ) -> Result<Response<Self::DialStream>, Status> {
        let mut input = request.into_inner();
        let first = input.message().await?.unwrap_or_default();
        self.state().dialled.push(first.port);
        self.present().await;
        let answer = self.state().answer.clone();
        if let Some(data) = answer {
            let answer = DialData {
                data,
                ..DialData::default()
            };
            // It is told when it was asked.
            let asked = input.map(move |message| message.map(|_| answer.clone())).take(1);
            return Ok(Response::new(Box::pin(asked)));
        }
        // An echo server on every port.
        let first = tokio_stream::once(Ok(first));
        let stream = first.chain(input).map(|message| {
            message.map(|message| DialData {
                port: 0,
                host: String::new(),
                data: message.data,
                end: message.end,
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        let state = self.state();
        let disk = request.into_inner().disk;
        let empty_dirs = state.empty_dirs.iter().filter(|_| disk);
        let containers = state.containers.values().map(|(_, container)| ContainerStats {
            id: container.id.clone(),
            name: container.name.clone(),
            pressures: pressures(),
            ..ContainerStats::default()
        });
        Ok(Response::new(StatsReply {
            containers: containers.collect(),
            empty_dirs: empty_dirs.map(|(name, bytes)| (name.clone(), *bytes)).collect(),
            pressures: pressures(),
            ..StatsReply::default()
        }))
    }

    async fn probe(&self, request: Request<ProbeRequest>) -> Result<Response<ProbeReply>, Status> {
        Ok(Response::new(self.ask(request.into_inner()).await))
    }

    async fn set_probes(
        &self,
        request: Request<SetProbesRequest>,
    ) -> Result<Response<SetProbesReply>, Status> {
        let request = request.into_inner();
        match self.state().probing.get(&request.id) {
            Some(probing) => probing.set(request.probes),
            None => {
                return Err(Status::failed_precondition(format!(
                    "container {} is not running",
                    request.id
                )));
            }
        }
        Ok(Response::new(SetProbesReply {}))
    }

    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownReply>, Status> {
        Ok(Response::new(ShutdownReply {}))
    }
}

/// The code with which a command ends at once, if it is one that does.
fn exit_code(args: &[String]) -> Option<i32> {
    let said = args.iter().find_map(|argument| argument.strip_prefix("exit="));
    if let Some(code) = said.and_then(|code| code.parse().ok()) {
        return Some(code);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["true" | "/bin/true"] => Some(0),
        ["false" | "/bin/false"] => Some(1),
        ["sh" | "/bin/sh", "-c", text] => text.trim().strip_prefix("exit ")?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(id: &str, args: &[&str]) -> Request<CreateContainerRequest> {
        Request::new(CreateContainerRequest {
            id: id.to_owned(),
            name: "app".to_owned(),
            args: args.iter().map(|argument| (*argument).to_owned()).collect(),
            ..CreateContainerRequest::default()
        })
    }

    async fn ended(guest: &SimulatedGuest) -> (crate::v1::State, i32, bool) {
        let list = guest
            .list_containers(Request::new(ListContainersRequest {}))
            .await
            .expect("listed");
        let container = list.into_inner().containers.remove(0);
        (container.state(), container.exit_code, container.oom_killed)
    }

    #[tokio::test]
    async fn containers_end_as_their_arguments_say() {
        use crate::v1::State::{Exited, Running};
        type Case = (&'static [&'static str], (crate::v1::State, i32, bool));
        let cases: [Case; 8] = [
            (&["serve"], (Running, 0, false)),
            (&["exit=3"], (Exited, 3, false)),
            (&["true"], (Exited, 0, false)),
            (&["/bin/false"], (Exited, 1, false)),
            (&["/bin/sh", "-c", "exit 2"], (Exited, 2, false)),
            (&["sh", "-c", "exit 2; sleep 1"], (Running, 0, false)),
            (&["serve", "false"], (Running, 0, false)),
            (&["oom"], (Exited, 137, true)),
        ];
        for (args, expected) in cases {
            let guest = SimulatedGuest::new();
            guest.create_container(create("a", args)).await.expect("created");
            guest
                .start_container(Request::new(StartContainerRequest { id: "a".to_owned() }))
                .await
                .expect("started");
            assert_eq!(ended(&guest).await, expected, "{args:?}");
        }
    }
}
