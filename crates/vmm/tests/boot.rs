//! A real VM: booted, spoken to, adopted, killed, and nothing left. Under emulation it takes a few seconds.
//!
//! Needs root, QEMU and the guest bundle (`cargo xtask build`); no network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_api::GuestClient;
use guest_api::v1::*;
use vmm::qemu::{Accel, FIRST_USER, QemuConfig, QemuDriver};
use vmm::{Disk, ExitReason, Hypervisor, Vm, VmId, VmSpec};

/// Longer than any boot on a busy machine.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    )
}

fn driver(cgroup_parent: &str) -> QemuDriver {
    QemuDriver::new(QemuConfig {
        accel: Accel::Auto,
        bundle: target().join("guest-bundle"),
        first_user: FIRST_USER,
        cgroup_parent: cgroup_parent.to_owned(),
    })
    .expect("a driver: run `cargo xtask build`")
}

/// An image with one static program: busybox.
fn image(directory: &Path) -> PathBuf {
    let root = directory.join("image");
    fs::create_dir_all(root.join("bin")).expect("made");
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(Path::new)
        .find(|path| path.exists());
    fs::copy(
        busybox.expect("apt-get install busybox-static"),
        root.join("bin/busybox"),
    )
    .expect("copied");
    for name in ["sh", "cat", "echo", "sleep", "id", "uname", "ls"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("linked");
    }
    let disk = directory.join("image.erofs");
    let made = Command::new("mkfs.erofs")
        .arg("--quiet")
        .args([&disk, &root])
        .status()
        .expect("mkfs.erofs");
    assert!(made.success());
    disk
}

fn spec(run_dir: &Path, disk: &Path) -> VmSpec {
    VmSpec {
        id: VmId::new("test"),
        run_dir: run_dir.to_path_buf(),
        vcpus: 1,
        memory_mib: 128,
        cpu_request_millis: Some(100),
        cpu_limit_millis: None,
        disks: vec![Disk {
            serial: "image0".to_owned(),
            path: disk.to_path_buf(),
            read_only: true,
        }],
        nic: None,
        label: "test/pod".to_owned(),
    }
}

async fn session(vm: &Arc<dyn Vm>, nonce: u64) -> GuestClient {
    let end = Instant::now() + BOOT_LIMIT;
    loop {
        let channel = vm.channel().await.expect("a channel");
        match guest_api::connect(channel, nonce).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}

fn container(id: &str, command: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        id: id.to_owned(),
        name: id.to_owned(),
        image_serial: "image0".to_owned(),
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
        env: vec!["GREETING=hello".to_owned()],
        ..CreateContainerRequest::default()
    }
}

/// A VM with one image, spoken to, with its files in a directory of their own.
struct Machine {
    scratch: tempfile::TempDir,
    parent: String,
    hypervisor: QemuDriver,
    vm: Arc<dyn Vm>,
}

impl Machine {
    async fn boot(name: &str) -> (Self, GuestClient) {
        let scratch = tempfile::tempdir().expect("a directory");
        let run_dir = scratch.path().join("vm");
        fs::create_dir(&run_dir).expect("made");
        let disk = image(scratch.path());
        let parent = format!("podvisor-test-{name}-{}", std::process::id());
        let hypervisor = driver(&parent);
        let vm = hypervisor.boot(spec(&run_dir, &disk)).await.expect("booted");
        let mut client = session(&vm, 1).await;
        let configure = ConfigureRequest {
            hostname: "web-0".to_owned(),
            ..ConfigureRequest::default()
        };
        client.configure(configure).await.expect("configured");
        let machine = Self {
            scratch,
            parent,
            hypervisor,
            vm,
        };
        (machine, client)
    }

    fn run_dir(&self) -> PathBuf {
        self.scratch.path().join("vm")
    }

    /// Kills it, twice, and looks whether anything is left.
    async fn end(self) {
        let pid = self.vm.pid().expect("a process");
        self.vm.kill().await.expect("killed");
        self.vm.kill().await.expect("a second time is nothing");
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "the process is still there"
        );
        let run_dir = self.run_dir();
        assert_eq!(
            fs::read_dir(&run_dir).expect("there").count(),
            0,
            "files are left in the run directory"
        );
        assert!(self.hypervisor.adopt(&run_dir).await.expect("looked").is_none());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("there").flatten() {
            let group = hierarchy.path().join(&self.parent);
            assert!(!group.join("test").exists(), "{} is left", group.display());
            let _ = fs::remove_dir(group);
        }
    }
}

async fn start(client: &mut GuestClient, request: CreateContainerRequest) {
    let id = request.id.clone();
    client.create_container(request).await.expect("created");
    client
        .start_container(StartContainerRequest { id })
        .await
        .expect("started");
}

/// The log to its end, which is the end of the container.
async fn log(client: &mut GuestClient, id: &str) -> String {
    let request = LogsRequest {
        id: id.to_owned(),
        from_sequence: 0,
    };
    let mut stream = client.logs(request).await.expect("a log").into_inner();
    let mut text = String::new();
    while let Some(batch) = stream.message().await.expect("records") {
        for record in batch.records {
            text += &String::from_utf8_lossy(&record.line);
            text.push('\n');
        }
    }
    text
}

async fn exited(client: &mut GuestClient, id: &str) -> Container {
    let mut events = client
        .events(EventsRequest {})
        .await
        .expect("events")
        .into_inner();
    loop {
        let list = client
            .list_containers(ListContainersRequest {})
            .await
            .expect("listed")
            .into_inner();
        let found = list
            .containers
            .into_iter()
            .find(|container| container.id == id)
            .expect("there");
        if found.state() == State::Exited {
            return found;
        }
        events.message().await.expect("an event");
    }
}

async fn exec(client: &mut GuestClient, id: &str, command: &[&str]) -> (String, i32) {
    let start = ExecStart {
        container: id.to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        stdout: true,
        stderr: true,
        ..ExecStart::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender
        .send(ExecInput {
            input: Some(exec_input::Input::Start(start)),
        })
        .await
        .expect("sent");
    let input = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut output = client.exec(input).await.expect("an exec").into_inner();
    let mut text = String::new();
    while let Some(message) = output.message().await.expect("output") {
        match message.output {
            Some(exec_output::Output::Stdout(bytes) | exec_output::Output::Stderr(bytes)) => {
                text += &String::from_utf8_lossy(&bytes);
            }
            Some(exec_output::Output::Exit(exit)) => return (text + &exit.error, exit.code),
            None => {}
        }
    }
    panic!("no exit code; output: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_runs_containers_is_adopted_and_leaves_nothing() {
    let begin = Instant::now();
    let (mut machine, mut client) = Machine::boot("life").await;
    let hello = client
        .hello(HelloRequest {})
        .await
        .expect("answered")
        .into_inner();
    let stats = machine.vm.stats().await;
    println!(
        "boot to configured {:.2} s; kernel {}; agent ready after {} ms; CPU {} ms; RSS {} MiB",
        begin.elapsed().as_secs_f64(),
        hello.kernel,
        hello.ready_after_us / 1000,
        stats.cpu_usage_ns / 1_000_000,
        stats.memory_rss_bytes >> 20,
    );

    // A container that ends: its output, its exit code.
    start(
        &mut client,
        container("ends", "echo $GREETING from $(uname -n); echo err >&2; exit 3"),
    )
    .await;
    let text = log(&mut client, "ends").await;
    assert!(
        text.contains("hello from web-0") && text.contains("err"),
        "{text}"
    );
    assert_eq!(exited(&mut client, "ends").await.exit_code, 3);

    // One that runs: exec beside it, its own process ids, its end by a signal.
    start(
        &mut client,
        container("runs", "echo up; while :; do sleep 1; done"),
    )
    .await;
    let (text, code) = exec(&mut client, "runs", &["/bin/cat", "/proc/1/cmdline"]).await;
    assert!(code == 0 && text.contains("sleep 1"), "{code}: {text}");
    assert_eq!(exec(&mut client, "runs", &["/bin/sh", "-c", "exit 7"]).await.1, 7);
    assert_eq!(exec(&mut client, "runs", &["/nope"]).await.1, 127);

    // The agent dies and comes back: the VM is found, the session begins anew, the container still runs.
    drop(client);
    let run_dir = machine.run_dir();
    let adopted = machine.hypervisor.adopt(&run_dir).await;
    machine.vm = adopted.expect("looked").expect("found");
    let mut client = session(&machine.vm, 2).await;
    let again = client
        .hello(HelloRequest {})
        .await
        .expect("answered")
        .into_inner();
    assert_eq!(again.boot_id, hello.boot_id);
    let kill = KillContainerRequest {
        id: "runs".to_owned(),
        signal: "SIGKILL".to_owned(),
        all: true,
    };
    client.kill_container(kill).await.expect("killed");
    let ended = exited(&mut client, "runs").await;
    assert_eq!((ended.exit_code, ended.signal), (137, 9));
    let remove = RemoveContainerRequest {
        id: "runs".to_owned(),
    };
    client.remove_container(remove).await.expect("removed");

    let vm = Arc::clone(&machine.vm);
    machine.end().await;
    assert_eq!(vm.exited().await, ExitReason::Shutdown);
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_come_and_go_and_a_shutdown_is_told() {
    let (machine, mut client) = Machine::boot("disks").await;
    let status = |field: &str| {
        let pid = machine.vm.pid().expect("a process");
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        line.expect("a field").trim_start_matches(':').trim().to_owned()
    };
    // QEMU holds nothing that it could misuse.
    assert_eq!(status("CapEff"), "0000000000000000");
    assert_eq!(status("CapPrm"), "0000000000000000");
    assert_eq!(status("NoNewPrivs"), "1");
    assert_eq!(status("Seccomp"), "2");
    assert!(!status("Uid").contains("\t0"), "{}", status("Uid"));

    let late = Disk {
        serial: "late".to_owned(),
        path: machine.scratch.path().join("late.erofs"),
        read_only: true,
    };
    fs::copy(machine.scratch.path().join("image.erofs"), &late.path).expect("copied");
    machine.vm.attach_disk(late.clone()).await.expect("plugged in");
    assert!(machine.vm.attach_disk(late.clone()).await.is_err());
    let mut request = container("late", "echo from a late disk");
    request.image_serial = "late".to_owned();
    start(&mut client, request).await;
    let text = log(&mut client, "late").await;
    assert!(text.contains("from a late disk"), "{text}");
    exited(&mut client, "late").await;
    machine.vm.detach_disk("late").await.expect("unplugged");
    machine.vm.attach_disk(late).await.expect("plugged in again");
    machine.vm.set_cpu(Some(100), Some(1500)).await.expect("set");

    // An end by the guest's own doing.
    client.shutdown(ShutdownRequest {}).await.expect("accepted");
    let reason = tokio::time::timeout(BOOT_LIMIT, machine.vm.exited()).await;
    assert_eq!(reason.expect("in time"), ExitReason::Shutdown);
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_a_killed_qemu_are_told_apart() {
    let (machine, mut client) = Machine::boot("panic").await;
    let mut request = container("panics", "echo c > /proc/sysrq-trigger");
    request.security = Some(Security {
        privileged: true,
        ..Security::default()
    });
    start(&mut client, request).await;
    let reason = tokio::time::timeout(BOOT_LIMIT, machine.vm.exited()).await;
    assert_eq!(reason.expect("in time"), ExitReason::Panicked);
    machine.end().await;

    let (machine, _client) = Machine::boot("killed").await;
    let pid = machine.vm.pid().expect("a process").to_string();
    let killed = Command::new("kill").args(["-KILL", &pid]).status();
    assert!(killed.expect("kill").success());
    let reason = tokio::time::timeout(BOOT_LIMIT, machine.vm.exited()).await;
    let reason = reason.expect("in time");
    assert!(matches!(reason, ExitReason::Crashed(_)), "{reason:?}");
    machine.end().await;
}
