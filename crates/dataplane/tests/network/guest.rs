//! Machines beside the host: a thread in a network namespace of its own that does what it is told there.
//!
//! ```text
//! host's namespace             guest's namespace
//! pvXXXXXXXXXX (tap) <─fd─> pump <─fd─> eth0 (tap), real Linux stack, real sockets
//! ```
//! To the host this is what a VM is: frames come and go over the tap's descriptor, and nothing inside is trusted.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dataplane::Tap;
use dataplane::model::PodNic;

use crate::support::{leave_namespace, run};
use crate::sys::open_tap;

/// Long enough for any answer in one machine, however busy it is.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long to wait for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// A frame with its virtio-net header; no segment is larger, for neither end offers offloads.
const MAX_FRAME: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// A machine.
pub struct Guest {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    /// The thread's id: a name for its namespace that `ip link set netns` takes.
    pub id: i32,
}

impl Guest {
    /// A machine with nothing but loopback.
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            leave_namespace();
            tell.send(nix::unistd::gettid().as_raw()).expect("somebody waits");
            for job in queue {
                job();
            }
        });
        let id = told.recv().expect("the guest is there");
        Self {
            jobs: Some(jobs),
            thread: Some(thread),
            id,
        }
    }

    /// A Pod's VM on its tap, configured as the guest agent does it.
    pub fn on_tap(nic: &PodNic, tap: Tap) -> Self {
        let guest = Self::new();
        let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
        let address = format!("{}/32", nic.ip);
        let inner = guest.inside(move || {
            let device = open_tap("eth0").expect("a tap");
            run("ip", &["link", "set", "eth0", "address", &mac, "up"]);
            run("ip", &["address", "add", &address, "dev", "eth0"]);
            run(
                "ip",
                &["route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"],
            );
            run(
                "ip",
                &["route", "add", "default", "via", "169.254.1.1", "dev", "eth0"],
            );
            device
        });
        let outer = File::from(tap.fd);
        let twin = |file: &File| file.try_clone().expect("a descriptor");
        pump(twin(&inner), twin(&outer));
        pump(outer, inner);
        guest
    }

    /// Runs something inside and waits for its result.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = Box::new(move || {
            // Nobody waits only when the test has failed already.
            let _ = tell.send(work());
        });
        let jobs = self.jobs.as_ref().expect("the guest runs");
        jobs.send(job).expect("the guest runs");
        told.recv().expect("the work inside failed")
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.inside(move || run("ip", &arguments.split(' ').collect::<Vec<_>>()));
    }

    /// Serves TCP on all addresses: tells every client the address that it is seen with.
    pub fn serve(&self, port: u16) {
        let listener = self.inside(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bound"));
        serve(listener);
    }

    /// Connects to a server of [`Self::serve`]; the address that it saw.
    pub fn ask(&self, ip: Ipv4Addr, port: u16) -> io::Result<Ipv4Addr> {
        let mut stream = self.connect(ip, port, ANSWER_LIMIT)?;
        seen_as(&mut stream)
    }

    /// An open connection.
    pub fn connect(&self, ip: Ipv4Addr, port: u16, limit: Duration) -> io::Result<TcpStream> {
        self.inside(move || {
            let stream = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), limit)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            Ok(stream)
        })
    }

    /// Whether a connection gets no answer at all, not even a refusal.
    pub fn is_ignored(&self, ip: Ipv4Addr, port: u16) -> bool {
        self.connect(ip, port, SILENCE)
            .is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
    }

    /// A UDP socket of this machine.
    pub fn udp(&self, ip: Ipv4Addr, port: u16) -> UdpSocket {
        self.inside(move || {
            let socket = UdpSocket::bind(SocketAddrV4::new(ip, port)).expect("bound");
            socket.set_read_timeout(Some(ANSWER_LIMIT)).expect("set");
            socket
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.take() {
            // Without the device the pumps end, the other one when the host's tap goes. Not every machine has one.
            let _ = jobs.send(Box::new(|| {
                let _ = std::process::Command::new("ip")
                    .args(["link", "delete", "eth0"])
                    .output();
            }));
        }
        if let Some(thread) = self.thread.take() {
            // A panic inside has been reported by whoever waited for the result.
            let _ = thread.join();
        }
    }
}

/// Answers every connection with the client's address.
pub fn serve(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let Ok(peer) = stream.peer_addr() else { return };
                let word = format!("{:<15}", peer.ip().to_string());
                let mut byte = [0];
                // Once at the start, and once for every byte that comes.
                while stream.write_all(word.as_bytes()).is_ok() && stream.read_exact(&mut byte).is_ok() {}
            });
        }
    });
}

/// Reads one answer of [`serve`].
pub fn seen_as(stream: &mut TcpStream) -> io::Result<Ipv4Addr> {
    let mut word = [0; 15];
    stream.read_exact(&mut word)?;
    let text = String::from_utf8_lossy(&word);
    text.trim().parse().map_err(io::Error::other)
}

/// Copies frames one way until one of the devices is gone.
fn pump(mut from: File, mut to: File) {
    thread::spawn(move || {
        let mut frame = vec![0; MAX_FRAME];
        while let Ok(length) = from.read(&mut frame) {
            // EIO while the other device is down is a lost frame, as on a cable.
            match to.write(&frame[..length]) {
                Err(error) if error.raw_os_error() != Some(libc::EIO) => return,
                _ => {}
            }
        }
    });
}
