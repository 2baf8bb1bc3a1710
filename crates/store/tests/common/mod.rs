//! What tests of etcd have in common.

#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener, TcpStream};

/// A loopback address for a server that is started next, by itself. A connection that was closed at this end keeps its port
/// for a minute from everybody who takes any that is free, other tests' clients among them; who names it can have it
/// (`SO_REUSEADDR`, which Go's servers set).
pub fn address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    let (first_to_close, _) = listener.accept().unwrap();
    drop(first_to_close);
    drop(client);
    address
}
