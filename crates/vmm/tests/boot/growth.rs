//! A VM that grows while it runs: processors and memory that it has from the start come into use.

use guest_api::v1::*;

use crate::machine::{Machine, container, exec, exited, log, start};

fn extent(vcpus: u32, memory_mib: u64) -> Option<Extent> {
    Some(Extent { vcpus, memory_mib })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_vm_grows() {
    let change = |spec: &mut vmm::VmSpec| {
        spec.memory_mib = 192;
        spec.most_vcpus = 2;
        spec.most_memory_mib = 6 << 10;
    };
    let (machine, mut client) = Machine::boot_with("growth", change).await;
    let hello = client.hello(HelloRequest {}).await.expect("answered");
    let hello = hello.into_inner();
    assert_eq!(hello.extent, extent(1, 192));
    println!(
        "agent ready after {} ms; {}",
        hello.ready_after_us / 1000,
        machine.cost().await
    );
    start(&mut client, container("stays", "while :; do sleep 1; done")).await;
    let shell = ["/bin/sh", "-c", "nproc; grep -c ^processor /proc/cpuinfo"];
    assert_eq!(exec(&mut client, "stays", &shell).await, ("1\n1\n".to_owned(), 0));

    // What is there already is nothing to do; what is not there is refused.
    let grow = |vcpus, memory_mib| GrowRequest {
        wanted: extent(vcpus, memory_mib),
    };
    let reply = client.grow(grow(1, 100)).await.expect("grown").into_inner();
    assert_eq!(reply.extent, extent(1, 192));
    let refused = client.grow(grow(3, 192)).await.expect_err("too many");
    assert_eq!(refused.message(), "the VM has 2 processors, 3 are wanted");

    machine.vm.set_memory(832).await.expect("let");
    let reply = client.grow(grow(2, 600)).await.expect("grown").into_inner();
    assert_eq!(reply.extent, extent(2, 704));
    println!("grown to 704 MiB; {}", machine.cost().await);
    assert_eq!(exec(&mut client, "stays", &shell).await, ("2\n2\n".to_owned(), 0));
    // All of it at once, in one buffer.
    let uses = "dd if=/dev/zero of=/dev/null bs=450M count=1 2>&1";
    start(&mut client, container("uses", uses)).await;
    let text = log(&mut client, "uses").await;
    assert!(text.starts_with("1+0 records in"), "{text}");
    assert_eq!(exited(&mut client, "uses").await.exit_code, 0);

    // Over the hole for devices, by everything that is there.
    machine.vm.set_memory(6 << 10).await.expect("let");
    let reply = client.grow(grow(2, 6 << 10)).await.expect("grown").into_inner();
    assert_eq!(reply.extent, extent(2, 6208));
    println!("grown to 6208 MiB; {}", machine.cost().await);
    let refused = client.grow(grow(2, 7 << 10)).await.expect_err("too much");
    assert!(
        refused.message().contains("no more to add"),
        "{}",
        refused.message()
    );
    let total = ["/bin/sh", "-c", "grep MemTotal /proc/meminfo"];
    let (text, _) = exec(&mut client, "stays", &total).await;
    let kib = text
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    assert!(kib.is_some_and(|kib| kib > 5900 << 10), "{text}");
    machine.end().await;
}
