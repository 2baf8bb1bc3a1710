//! The host's own traffic: Services, taps that stay over a restart.

use dataplane::Dataplane;
use dataplane::model::{PodNic, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, NODE_IP, config, in_namespace, run, traces};

fn pod() -> PodNic {
    support::pod(2)
}

/// A Service whose endpoints are listeners on the host's own address.
fn service(targets: &[u16]) -> Service {
    support::service(targets.iter().map(|port| (NODE_IP, *port)))
}

async fn listener(word: &'static str) -> u16 {
    let listener = TcpListener::bind("192.0.2.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(word.as_bytes()).await;
        }
    });
    port
}

async fn ask(address: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    let mut word = String::new();
    stream.read_to_string(&mut word).await?;
    Ok(word)
}

#[test]
fn services_lead_to_their_endpoints_and_nothing_is_left() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let before = traces();
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        let started = traces();
        let targets = [listener("one").await, listener("two").await];
        plane
            .set_services(vec![service(&targets)])
            .await
            .expect("applied");
        for address in ["10.96.7.7:80", "198.51.100.1:80", "192.0.2.1:30080"] {
            let mut words = std::collections::BTreeSet::new();
            for _ in 0..40 {
                words.insert(ask(address).await.expect(address));
            }
            assert_eq!(words.into_iter().collect::<Vec<_>>(), ["one", "two"], "{address}");
        }
        // No endpoint: refused at once, on the Service's port and on any other.
        plane.set_services(vec![service(&[])]).await.expect("applied");
        for address in ["10.96.7.7:80", "10.96.7.7:81", "198.51.100.1:80"] {
            let error = ask(address).await.expect_err(address);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        }
        plane.set_services(Vec::new()).await.expect("applied");
        assert_eq!(traces(), started, "a deleted Service left something");
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
        assert_eq!(traces(), before, "the network left something");
    });
}

#[test]
fn pods_come_go_and_survive_a_restart_of_the_agent() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let before = traces();
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        plane.set_services(Vec::new()).await.expect("applied");
        let started = traces();
        let tap = plane.attach_pod(&pod()).await.expect("attached");
        assert_eq!(tap.name, "pv021b2c3d4e");
        assert!(run("ip", &["route"]).contains("10.244.0.2 dev pv021b2c3d4e"));
        assert!(run("nft", &["list", "set", "inet", "podvisor", "pods"]).contains("10.244.0.2"));
        drop(tap);
        plane.shutdown();
        drop(plane);
        // The agent comes back and is told what runs: the tap is still there, and stays in the rules.
        let plane = restart(&state).await;
        plane.set_services(vec![service(&[])]).await.expect("applied");
        assert!(run("nft", &["list", "set", "inet", "podvisor", "pods"]).contains("10.244.0.2"));
        plane.set_services(Vec::new()).await.expect("applied");
        plane.detach_pod(&pod().vm_id).await.expect("detached");
        plane
            .detach_pod(&pod().vm_id)
            .await
            .expect("a second time is nothing");
        assert_eq!(traces(), started, "a Pod left something");
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
        assert_eq!(traces(), before, "the network left something");
    });
}

#[test]
fn a_pod_that_comes_before_the_services_cuts_nobody_off() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        let services = vec![service(&[])];
        plane.set_services(services.clone()).await.expect("applied");
        plane.shutdown();
        drop(plane);
        let plane = restart(&state).await;
        let served = || run("nft", &["list", "map", "inet", "podvisor", "refused"]).contains("10.96.7.7");
        let pod = pod();
        let attach = plane.attach_pod(&pod);
        tokio::pin!(attach);
        let early = tokio::time::timeout(std::time::Duration::from_millis(200), attach.as_mut()).await;
        assert!(early.is_err(), "the Pod did not wait for the Services");
        assert!(served(), "the table of the earlier agent is gone");
        plane.set_services(services).await.expect("applied");
        attach.await.expect("attached");
        assert!(served());
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
    });
}

/// The stopped server lets go of its port when its tasks have seen the token.
async fn restart(state: &tempfile::TempDir) -> std::sync::Arc<Dataplane> {
    loop {
        match Dataplane::start(config(state), vec![pod()]).await {
            Ok(plane) => return plane,
            Err(dataplane::StartError::Dns { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
