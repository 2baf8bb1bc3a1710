//! Guests that speak rubbish on their channel, or too much: the agent keeps its size, others do not notice, and when the
//! guest comes to its senses the session goes on, with its clock put right.

#![allow(clippy::unwrap_used)]

use super::common;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Host, eventually};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::time::Instant;
use vmm::simulated::SimulatedDriver;
use vmm::{
    AccelInfo, AdoptError, BootError, Disk, DiskError, ExitReason, Hypervisor, KillError, Stream, Vm, VmId,
    VmSpec, VmStats,
};

/// What the guest says over and over instead of its answers.
type Words = Option<Arc<[u8]>>;

/// How long each attack lasts.
const ATTACK: Duration = Duration::from_millis(400);
/// How long the agent may take to give up a session that says nothing it understands: it asks every so often whether the
/// guest is there, and waits for an answer.
const SESSION: Duration = Duration::from_secs(90);
/// By how much the process may grow under all of them.
const GROWTH: u64 = 48 << 20;
/// By how much a guest's clock is set wrong.
const HOUR_NS: i64 = 3600 * 1_000_000_000;

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Names of attacks with their words. Stream 3 is that of the events, which stays open.
fn attacks() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = vec![0_u8; 16 << 10];
    let mut seed = 1_u64;
    for byte in &mut noise {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = seed.to_be_bytes()[0];
    }
    let filled = vec![b'a'; 16 << 10];
    // A literal header that is not indexed, with a name of one byte and a value as long as the frame.
    let mut header = vec![0, 1, b'x', 0x7f, 0x80, 0x7e];
    header.extend(&filled[..16_000]);
    let message = [[0, 0xff, 0xff, 0xff, 0xff].as_slice(), &filled[..1000]].concat();
    let event = [[0, 0, 0, 0, 4].as_slice(), &[0x0a, 0x02, 0x0a, 0x00]].concat();
    vec![
        ("noise", noise),
        ("zeros", vec![0; 16 << 10]),
        ("preambles", b"\x00PVSESS\xff".repeat(1000)),
        ("settings", frame(4, 0, 0, &[]).repeat(500)),
        ("pings", frame(6, 0, 0, &[7; 8]).repeat(500)),
        ("an endless header", frame(9, 0, 3, &header)),
        ("a header on a new stream", frame(1, 0, 99, &header)),
        ("data without a window", frame(0, 0, 3, &filled)),
        ("a message of 4 GiB", frame(0, 0, 3, &message)),
        ("events", frame(0, 0, 3, &event.repeat(500))),
        (
            "a frame of 16 MiB",
            [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 3], &filled[..]].concat(),
        ),
        ("resets", frame(3, 0, 3, &[0, 0, 0, 8]).repeat(500)),
        ("windows", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(500)),
        ("farewells", frame(7, 0, 0, &[0; 8]).repeat(500)),
    ]
}

/// A simulated hypervisor whose guests named `hostile-N` say other words, the Nth, when they are told to.
struct Driver {
    honest: Arc<SimulatedDriver>,
    words: Vec<watch::Receiver<Words>>,
}

#[async_trait]
impl Hypervisor for Driver {
    fn name(&self) -> &'static str {
        self.honest.name()
    }

    fn accel(&self) -> AccelInfo {
        self.honest.accel()
    }

    async fn boot(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, BootError> {
        let number = spec.label.strip_prefix("default/hostile-").map(str::to_owned);
        let vm = self.honest.boot(spec).await?;
        Ok(match number {
            Some(number) => Arc::new(Hostile {
                vm,
                words: self.words[number.parse::<usize>().unwrap()].clone(),
            }),
            None => vm,
        })
    }

    async fn adopt(&self, run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        self.honest.adopt(run_dir).await
    }
}

struct Hostile {
    vm: Arc<dyn Vm>,
    words: watch::Receiver<Words>,
}

#[async_trait]
impl Vm for Hostile {
    fn id(&self) -> &VmId {
        self.vm.id()
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    async fn channel(&self) -> io::Result<Box<dyn Stream>> {
        let inside = self.vm.channel().await?;
        let (host, near) = tokio::io::duplex(1 << 16);
        tokio::spawn(speak(near, inside, self.words.clone()));
        Ok(Box::new(host))
    }

    async fn exited(&self) -> ExitReason {
        self.vm.exited().await
    }

    async fn kill(&self) -> Result<(), KillError> {
        self.vm.kill().await
    }

    async fn attach_disk(&self, disk: Disk) -> Result<(), DiskError> {
        self.vm.attach_disk(disk).await
    }

    async fn detach_disk(&self, serial: &str) -> Result<(), DiskError> {
        self.vm.detach_disk(serial).await
    }

    async fn resize_disk(&self, serial: &str, bytes: u64) -> io::Result<()> {
        self.vm.resize_disk(serial, bytes).await
    }

    async fn set_running(&self, running: bool) -> io::Result<()> {
        self.vm.set_running(running).await
    }

    async fn set_cpu(&self, request: Option<u64>, limit: Option<u64>) -> io::Result<()> {
        self.vm.set_cpu(request, limit).await
    }

    async fn set_memory(&self, memory_mib: u64) -> io::Result<()> {
        self.vm.set_memory(memory_mib).await
    }

    async fn console(&self) -> io::Result<String> {
        self.vm.console().await
    }

    async fn stats(&self) -> VmStats {
        self.vm.stats().await
    }
}

/// Carries bytes both ways until either end hangs up; while there are other words, the guest's own are lost.
async fn speak(near: DuplexStream, inside: Box<dyn Stream>, mut words: watch::Receiver<Words>) {
    let (mut asked, mut said) = tokio::io::split(near);
    let (mut answers, mut questions) = tokio::io::split(inside);
    let ask = tokio::io::copy(&mut asked, &mut questions);
    let say = async {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let now = words.borrow_and_update().clone();
            if let Some(now) = now {
                said.write_all(&now).await?;
                continue;
            }
            tokio::select! {
                changed = words.changed() => changed.map_err(io::Error::other)?,
                length = answers.read(&mut buffer) => match length? {
                    0 => return Ok::<(), io::Error>(()),
                    length => said.write_all(&buffer[..length]).await?,
                },
            }
        }
    };
    // A broken line is the end of a session and nothing else.
    tokio::select! {
        _ = ask => {}
        _ = say => {}
    }
}

/// Waits for the next session, at most for [`SESSION`].
async fn session(attack: &str, mut right: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !right().await {
        assert!(since.elapsed() < SESSION, "no session after {attack}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{attack}: a session again after {:?}", since.elapsed());
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_a_channel_harms_its_own_guest_only() {
    let attacks = attacks();
    // Each has a guest of its own, so that all are waited for at once.
    let (tell, words): (Vec<_>, Vec<_>) = attacks.iter().map(|_| watch::channel(None)).unzip();
    let host = Host::start_on(|honest| Arc::new(Driver { honest, words })).await;
    let spec = || json!({"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "x"}]});
    host.create("calm", spec()).await;
    for number in 0..attacks.len() {
        host.create(&format!("hostile-{number}"), spec()).await;
    }
    host.ready("calm").await;
    let mut guests = Vec::new();
    for number in 0..attacks.len() {
        guests.push(host.guest(&host.ready(&format!("hostile-{number}")).await));
    }
    let before = resident();
    for ((guest, tell), (name, bytes)) in guests.iter().zip(&tell).zip(&attacks) {
        tell.send_replace(Some(bytes.as_slice().into()));
        tokio::time::sleep(ATTACK).await;
        let grown = resident().saturating_sub(before);
        println!("{name}: {} MiB more", grown >> 20);
        assert!(grown < GROWTH, "{name}: the agent has grown by {grown} bytes");
        guest.set_clock_error_ns(-HOUR_NS);
        tell.send_replace(None);
    }
    let sessions = guests.iter().zip(&attacks).map(|(guest, (name, _))| async move {
        // Another session, in which the agent puts the clock right at once. Its own doubt is less than a second.
        let right = async || guest.clock_error_ns().abs() < 1_000_000_000;
        session(name, right).await;
    });
    futures::future::join_all(sessions).await;
    // Under fire another Pod starts, and the hostile one is removed.
    tell[0].send_replace(Some(attacks[0].1.as_slice().into()));
    host.create("late", spec()).await;
    host.ready("late").await;
    host.delete("hostile-0", Some(0)).await;
    assert_eq!(common::restarts(&host.ready("calm").await), 0);
    let left = attacks.len() + 1;
    eventually("the end of the hostile guest", async || {
        host.driver.count() == left
    })
    .await;
}
