//! How a VM ends, or does not: panic, a killed QEMU, a guest that hangs, a guest without memory.

use std::time::{Duration, Instant};

use guest_api::v1::*;
use vmm::ExitReason;

use crate::machine::{Machine, container, exec, exited, log, privileged, start};

/// From silence to the end of a session: what `guest_api` allows, and some for a busy machine.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A VM that does not answer is gone within this time once nobody wants it: long before it would be given up for its silence.
const KILL_LIMIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_told() {
    let (machine, mut client) = Machine::boot("panic").await;
    start(&mut client, privileged("panics", "echo c > /proc/sysrq-trigger")).await;
    let words = "sysrq triggered crash".to_owned();
    assert_eq!(machine.reason().await, ExitReason::Panicked(words));
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_qemu_is_a_crash() {
    let (machine, _client) = Machine::boot("killed").await;
    machine.signal("-KILL");
    let reason = machine.reason().await;
    assert!(matches!(reason, ExitReason::Crashed(_)), "{reason:?}");
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hangs_ends_its_session_and_is_killed_at_once() {
    let (machine, mut client) = Machine::boot("hangs").await;
    machine.signal("-STOP");
    let call = client.hello(HelloRequest {});
    let answer = tokio::time::timeout(SILENCE_LIMIT, call).await;
    assert!(answer.expect("the session ends by itself").is_err());

    let since = Instant::now();
    machine.vm.kill().await.expect("killed");
    assert!(since.elapsed() < KILL_LIMIT, "{:?}", since.elapsed());
    assert_eq!(
        machine.reason().await,
        ExitReason::Shutdown,
        "an end that was asked for"
    );
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_memory_loses_the_container_that_took_it() {
    let (machine, mut client) = Machine::boot("memory").await;
    start(
        &mut client,
        container("waits", "echo up; while :; do sleep 1; done"),
    )
    .await;
    // No limit of its own: it takes what the VM has.
    start(&mut client, container("greedy", "tail /dev/zero")).await;
    let ended = exited(&mut client, "greedy").await;
    assert_eq!((ended.exit_code, ended.signal), (137, 9));
    assert!(ended.oom_killed, "{ended:?}");
    // Everything else goes on.
    let (text, code) = exec(&mut client, "waits", &["/bin/echo", "still here"]).await;
    assert!(code == 0 && text.contains("still here"), "{code}: {text}");
    assert!(log(&mut client, "greedy").await.is_empty());
    machine.end().await;
}
