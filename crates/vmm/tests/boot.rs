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
use vmm::qemu::{Accel, QemuConfig, QemuDriver};
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
        user: 65534,
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
        shares: Vec::new(),
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
    let scratch = tempfile::tempdir().expect("a directory");
    // QEMU runs as nobody and opens its files before; the directory above must let it through all the same.
    let run_dir = scratch.path().join("vm");
    fs::create_dir(&run_dir).expect("made");
    let disk = image(scratch.path());
    let parent = format!("podvisor-test-{}", std::process::id());
    let hypervisor = driver(&parent);
    let begin = Instant::now();
    let vm = hypervisor.boot(spec(&run_dir, &disk)).await.expect("booted");
    let mut client = session(&vm, 1).await;
    let hello = client
        .hello(HelloRequest {})
        .await
        .expect("answered")
        .into_inner();
    println!(
        "boot to hello {:.2} s; kernel {}; agent ready after {} ms; CPU {} ms; RSS {} MiB",
        begin.elapsed().as_secs_f64(),
        hello.kernel,
        hello.ready_after_us / 1000,
        vm.stats().await.cpu_usage_ns / 1_000_000,
        vm.stats().await.memory_rss_bytes >> 20,
    );
    let configure = ConfigureRequest {
        hostname: "web-0".to_owned(),
        ..ConfigureRequest::default()
    };
    client.configure(configure).await.expect("configured");

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
    drop((client, vm));
    let vm = hypervisor.adopt(&run_dir).await.expect("looked").expect("found");
    let mut client = session(&vm, 2).await;
    assert_eq!(
        client
            .hello(HelloRequest {})
            .await
            .expect("answered")
            .into_inner()
            .boot_id,
        hello.boot_id
    );
    let kill = KillContainerRequest {
        id: "runs".to_owned(),
        signal: "SIGKILL".to_owned(),
        all: true,
    };
    client.kill_container(kill).await.expect("killed");
    let ended = exited(&mut client, "runs").await;
    assert_eq!((ended.exit_code, ended.signal), (137, 9));
    client
        .remove_container(RemoveContainerRequest {
            id: "runs".to_owned(),
        })
        .await
        .expect("removed");

    let pid = vm.pid().expect("a process");
    vm.kill().await.expect("killed");
    vm.kill().await.expect("a second time is nothing");
    assert_eq!(vm.exited().await, ExitReason::Shutdown);
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "the process is still there"
    );
    assert_eq!(
        fs::read_dir(&run_dir).expect("there").count(),
        0,
        "files are left in the run directory"
    );
    assert!(hypervisor.adopt(&run_dir).await.expect("looked").is_none());
    for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("there").flatten() {
        let group = hierarchy.path().join(&parent);
        assert!(!group.join("test").exists(), "{} is left", group.display());
        let _ = fs::remove_dir(group);
    }
}
