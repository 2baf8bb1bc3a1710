//! A door into the Lab: a loopback port of the machine whose connections are made inside the namespace.
//!
//! One thread accepts; each connection gets two threads that copy bytes. Connections are few (a person
//! with a browser), so threads are simpler than a runtime.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::netns::Netns;

/// At most this many connections at once through one door; more are closed at once.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection inside the Lab may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens on `127.0.0.1:port` of the machine and forwards to `to` inside the namespace.
/// Port 0 takes a free one; the port in use is returned. The door closes with the process.
pub fn publish(netns: Arc<Netns>, port: u16, to: SocketAddr) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot publish on 127.0.0.1:{port}: is the port taken?"))?;
    let port = listener.local_addr()?.port();
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (netns, open) = (Arc::clone(&netns), Arc::clone(&open));
            std::thread::spawn(move || {
                if let Err(error) = forward(&netns, client, to) {
                    eprintln!("publish: {to}: {error:#}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(port)
}

fn forward(netns: &Netns, client: TcpStream, to: SocketAddr) -> Result<()> {
    let server = netns.run(move || Ok(TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?))?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || copy(&mut from_client, &mut to_server));
    let (mut from_server, mut to_client) = (server, client);
    copy(&mut from_server, &mut to_client);
    let _ = up.join();
    Ok(())
}

/// Copies until the end and passes the half-close on. A broken connection is an ordinary end here.
fn copy(from: &mut TcpStream, to: &mut TcpStream) {
    let _ = io::copy(from, to);
    let _ = to.shutdown(Shutdown::Write);
}
