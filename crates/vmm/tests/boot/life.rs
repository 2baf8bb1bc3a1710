//! From boot to end: containers, disks that come and go, adoption by the next agent.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest_api::v1::*;
use vmm::{Disk, ExitReason, Hypervisor};

use crate::machine::{BOOT_LIMIT, Machine, container, exec, exited, log, privileged, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_runs_containers_is_adopted_and_leaves_nothing() {
    let begin = Instant::now();
    let (mut machine, mut client) = Machine::boot("life").await;
    let hello = client
        .hello(HelloRequest {})
        .await
        .expect("answered")
        .into_inner();
    println!(
        "boot to configured {:.2} s; kernel {}; agent ready after {} ms; {}",
        begin.elapsed().as_secs_f64(),
        hello.kernel,
        hello.ready_after_us / 1000,
        machine.cost().await,
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

    // The agent dies while it holds the VM for a copy, and comes back: the VM is found and goes on, the session begins
    // anew, the container still runs.
    drop(client);
    machine.vm.set_running(false).await.expect("held");
    assert!(machine.vm.stands_still().await);
    let run_dir = machine.run_dir();
    let adopted = machine.hypervisor.adopt(&run_dir).await;
    machine.vm = adopted.expect("looked").expect("found");
    // At the first attempt, though the old session is still there.
    let channel = machine.vm.channel().await.expect("a channel");
    let mut client = guest_api::connect(channel, 2).await.expect("found at once");
    assert!(!machine.vm.stands_still().await);
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
    let late = Disk {
        serial: "late".to_owned(),
        path: machine.scratch.path().join("late.erofs"),
        read_only: true,
    };
    fs::copy(machine.scratch.path().join("image.erofs"), &late.path).expect("copied");
    machine.vm.attach_disk(late.clone()).await.expect("plugged in");
    // Of a disk that nobody writes to it does not matter who was first.
    machine.vm.attach_disk(late.clone()).await.expect("there already");
    let mut request = container("late", "echo from a late disk");
    request.image_serial = "late".to_owned();
    start(&mut client, request).await;
    let text = log(&mut client, "late").await;
    assert!(text.contains("from a late disk"), "{text}");
    exited(&mut client, "late").await;
    machine.vm.detach_disk("late").await.expect("unplugged");
    machine.vm.attach_disk(late).await.expect("plugged in again");

    // A writable one grows under the guest's eyes.
    let room = Disk {
        serial: "room".to_owned(),
        path: machine.scratch.path().join("room.img"),
        read_only: false,
    };
    let file = fs::File::create(&room.path).expect("made");
    file.set_len(1 << 20).expect("sized");
    machine.vm.attach_disk(room.clone()).await.expect("plugged in");
    assert!(
        machine.vm.attach_disk(room.clone()).await.is_err(),
        "the same disk twice"
    );
    machine.vm.resize_disk("room", 4 << 20).await.expect("resized");
    assert_eq!(fs::metadata(&room.path).expect("there").len(), 4 << 20);
    machine.vm.detach_disk("room").await.expect("unplugged");
    machine.vm.set_cpu(Some(100), Some(1500)).await.expect("set");

    // An end by the guest's own doing.
    client.shutdown(ShutdownRequest {}).await.expect("accepted");
    assert_eq!(machine.reason().await, ExitReason::Shutdown);
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_writes_waits_while_the_host_has_no_room() {
    let (machine, mut client) = Machine::boot("room").await;
    let small = Small::mount(machine.scratch.path().join("small"));
    let disk = Disk {
        serial: "room".to_owned(),
        path: small.0.join("room.img"),
        read_only: false,
    };
    let file = fs::File::create(&disk.path).expect("made");
    file.set_len(8 << 20).expect("sized");
    machine.vm.attach_disk(disk.clone()).await.expect("plugged in");
    let filler = small.0.join("filler");
    fs::write(&filler, vec![1; 6 << 20]).expect("filled");

    // The guest may see the disk a moment later than it was plugged in.
    let script = "export PATH=/bin; search() { for d in /sys/block/sd*; do busybox grep -q room $d/device/vpd_pg80 && return; done; return 1; }
        n=0; until search; do n=$((n+1)); [ $n -lt 600 ] || { echo 'no such disk'; busybox ls -l /sys/block/*/device/vpd_pg80; exit 1; }; busybox sleep 0.1; done
        busybox mknod /room b $(busybox tr : ' ' < $d/dev); yes=$(busybox yes podvisor | busybox head -c 4096); i=0
        while [ $i -lt 1000 ]; do echo \"$yes\"; i=$((i+1)); done | busybox dd of=/room bs=64k conv=fsync || exit 1
        echo written";
    start(&mut client, privileged("writes", script)).await;
    let end = Instant::now() + BOOT_LIMIT;
    while !machine.vm.stands_still().await {
        assert!(Instant::now() < end, "the VM does not stand still");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // It stays so over its own attempts, and is nobody's crash.
    let exited = tokio::time::timeout(Duration::from_secs(3), machine.vm.exited()).await;
    assert!(exited.is_err(), "{exited:?}");
    fs::remove_file(filler).expect("removed");
    let text = log(&mut client, "writes").await;
    assert!(text.contains("written"), "{text}");
    assert!(!machine.vm.stands_still().await);
    // Nothing of it is lost.
    let bytes = fs::read(&disk.path).expect("read");
    let words = bytes.split(|byte| *byte == b'\n');
    assert_eq!(
        words.filter(|word| *word == b"podvisor").count(),
        1000 * (4096 / 9)
    );
    machine.end().await;
}

/// A file system of 8 MiB that goes with this value.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        fs::create_dir(&at).expect("made");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&at);
        assert!(command.status().expect("mount").success());
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Whatever still uses it lets it go later.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
