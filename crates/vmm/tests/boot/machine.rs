//! A real VM under test: one image with busybox, a session with its agent, and a look at what is left afterwards.

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
pub const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// How long a killed QEMU may take to leave its cgroup.
const DROP_LIMIT: Duration = Duration::from_secs(30);

pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    )
}

pub fn driver(cgroup_parent: &str) -> QemuDriver {
    QemuDriver::new(QemuConfig {
        accel: Accel::Auto,
        bundle: target().join("guest-bundle"),
        first_user: FIRST_USER,
        cgroup_parent: cgroup_parent.to_owned(),
    })
    .expect("a driver: run `cargo xtask build`")
}

/// An image with one static program: busybox.
pub fn image(directory: &Path) -> PathBuf {
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
    for name in ["sh", "cat", "echo", "sleep", "id", "uname", "ls", "tail"] {
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

pub fn spec(name: &str, run_dir: &Path, disk: &Path) -> VmSpec {
    VmSpec {
        id: VmId::new(name),
        run_dir: run_dir.to_path_buf(),
        vcpus: 1,
        memory_mib: 128,
        most_vcpus: 1,
        most_memory_mib: 128,
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

pub async fn session(vm: &Arc<dyn Vm>, nonce: u64) -> GuestClient {
    let end = Instant::now() + BOOT_LIMIT;
    // Another for each attempt: an answer that comes late must not be taken for that to the next.
    let mut nonce = nonce << 32;
    loop {
        let channel = vm.channel().await.expect("a channel");
        match guest_api::connect(channel, nonce).await {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        nonce += 1;
    }
}

pub fn container(id: &str, command: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        id: id.to_owned(),
        name: id.to_owned(),
        image_serial: "image0".to_owned(),
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()],
        env: vec!["GREETING=hello".to_owned()],
        ..CreateContainerRequest::default()
    }
}

/// A container that may do everything inside its VM.
pub fn privileged(id: &str, command: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        security: Some(Security {
            privileged: true,
            ..Security::default()
        }),
        ..container(id, command)
    }
}

/// A VM with one image, spoken to, with its files in a directory of their own.
pub struct Machine {
    pub scratch: tempfile::TempDir,
    pub parent: String,
    pub hypervisor: Arc<QemuDriver>,
    pub vm: Arc<dyn Vm>,
}

impl Machine {
    /// A VM that is configured.
    pub async fn boot(name: &str) -> (Self, GuestClient) {
        let parent = format!("podvisor-test-{name}-{}", std::process::id());
        Self::boot_on(Arc::new(driver(&parent)), &parent, name, |_| {}).await
    }

    /// One that differs from the others.
    pub async fn boot_with(name: &str, change: impl FnOnce(&mut VmSpec)) -> (Self, GuestClient) {
        let parent = format!("podvisor-test-{name}-{}", std::process::id());
        Self::boot_on(Arc::new(driver(&parent)), &parent, name, change).await
    }

    /// Another VM of the same driver.
    pub async fn second(&self, name: &str) -> (Self, GuestClient) {
        Self::boot_on(Arc::clone(&self.hypervisor), &self.parent, name, |_| {}).await
    }

    async fn boot_on(
        hypervisor: Arc<QemuDriver>,
        parent: &str,
        name: &str,
        change: impl FnOnce(&mut VmSpec),
    ) -> (Self, GuestClient) {
        let scratch = tempfile::tempdir().expect("a directory");
        let run_dir = scratch.path().join("vm");
        fs::create_dir(&run_dir).expect("made");
        let disk = image(scratch.path());
        let mut wanted = spec(name, &run_dir, &disk);
        change(&mut wanted);
        let vm = hypervisor.boot(wanted).await.expect("booted");
        // Before anything else can fail: the drop of it ends the VM.
        let machine = Self {
            scratch,
            parent: parent.to_owned(),
            hypervisor,
            vm,
        };
        let mut client = session(&machine.vm, 1).await;
        let configure = ConfigureRequest {
            hostname: "web-0".to_owned(),
            ..ConfigureRequest::default()
        };
        client.configure(configure).await.expect("configured");
        (machine, client)
    }

    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.vm.pid().expect("a process")
    }

    /// Sends QEMU a signal, as an accident would.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.pid().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// Everybody in its cgroup.
    pub fn members(&self) -> std::collections::BTreeSet<u32> {
        let mut found = std::collections::BTreeSet::new();
        let own = Path::new(&self.parent).join(self.vm.id().as_str());
        let root = Path::new("/sys/fs/cgroup");
        let mut groups = vec![root.join(&own)];
        groups.extend(
            fs::read_dir(root)
                .expect("there")
                .flatten()
                .map(|entry| entry.path().join(&own)),
        );
        for group in groups {
            let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().map(|line| line.parse::<u32>().expect("a number")));
        }
        found
    }

    /// How the VM ended.
    pub async fn reason(&self) -> ExitReason {
        let reason = tokio::time::timeout(BOOT_LIMIT, self.vm.exited()).await;
        reason.expect("the VM's end is told in time")
    }

    /// CPU time and resident memory, for the log.
    pub async fn cost(&self) -> String {
        let stats = self.vm.stats().await;
        let (cpu, memory) = (stats.cpu_usage_ns / 1_000_000, stats.memory_rss_bytes >> 20);
        format!("CPU {cpu} ms, resident {memory} MiB")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.scratch.path().join("vm")
    }

    /// Kills it, twice, and looks whether anything is left.
    pub async fn end(self) {
        let pid = self.pid();
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
            let own = group.join(self.vm.id().as_str());
            assert!(!own.exists(), "{} is left", own.display());
            // Another VM of the test may still be in it.
            let _ = fs::remove_dir(group);
        }
    }
}

impl Drop for Machine {
    /// A test that fails skips [`Machine::end`]; its VM ends all the same, and so does its cgroup.
    fn drop(&mut self) {
        let groups = || fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for group in groups().map(|hierarchy| hierarchy.path().join(&self.parent)) {
            let own = group.join(self.vm.id().as_str());
            let end = Instant::now() + DROP_LIMIT;
            // Whoever is in this group is of this VM: no process id is trusted that somebody else may have by now.
            while own.exists() && Instant::now() < end {
                for pid in fs::read_to_string(own.join("cgroup.procs"))
                    .unwrap_or_default()
                    .lines()
                {
                    let _ = Command::new("kill").args(["-KILL", pid]).status();
                }
                let _ = fs::remove_dir(&own);
            }
            let _ = fs::remove_dir(group);
        }
    }
}

pub async fn start(client: &mut GuestClient, request: CreateContainerRequest) {
    let id = request.id.clone();
    client.create_container(request).await.expect("created");
    client
        .start_container(StartContainerRequest { id })
        .await
        .expect("started");
}

/// The log to its end, which is the end of the container.
pub async fn log(client: &mut GuestClient, id: &str) -> String {
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

pub async fn exited(client: &mut GuestClient, id: &str) -> Container {
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

pub async fn exec(client: &mut GuestClient, id: &str, command: &[&str]) -> (String, i32) {
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
