//! A registry that misbehaves: a proxy in front of the Lab's, on loopback inside its namespace.
//!
//! One request a connection, so that a fault is a few lines: read the head, ask the registry, copy the answer back as the
//! present [`Fault`] says. Faults meet layers only; manifests and configurations pass.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Lab, REGISTRY};

/// Blobs of at least this many bytes are layers.
const LAYER: u64 = 16 << 10;
/// Bytes that are copied at once.
const PIECE: usize = 16 << 10;
/// No head of a request or an answer has more lines.
const MAX_LINES: usize = 100;
/// How long either side may say nothing; a connection that is held ends with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wrong with the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A layer stands still in its middle for as long as this fault is in force.
    Held,
    /// Every piece of 16 KiB takes this long.
    Slow(Duration),
    /// Every connection breaks off after so many bytes of a layer.
    Cut(u64),
    /// One byte in the middle of a layer is another one.
    Corrupt,
    /// It answers nothing at all.
    Dead,
}

/// One layer that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path: repository and digest.
    pub path: String,
    /// The `Range` header, empty without one.
    pub range: String,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    requests: Vec<Request>,
    held: usize,
}

/// The proxy; it serves until the process ends.
#[derive(Debug, Clone)]
pub struct FaultyRegistry {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl FaultyRegistry {
    /// Listens on `127.0.0.1:port` inside the Lab.
    pub fn start(lab: &Lab, port: u16) -> Result<Self> {
        let state = State {
            fault: Fault::None,
            requests: Vec::new(),
            held: 0,
        };
        let registry = Self {
            state: Arc::new((Mutex::new(state), Condvar::new())),
        };
        let inner = registry.clone();
        lab.netns().run(move || {
            let listener = TcpListener::bind(("127.0.0.1", port))
                .with_context(|| format!("cannot listen on port {port} of the Lab"))?;
            // Threads are in the namespace of the one that makes them.
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let registry = inner.clone();
                    std::thread::spawn(move || {
                        // A client that goes is an ordinary end; what matters is what the client makes of it.
                        let _ = registry.serve(client);
                    });
                }
            });
            Ok(())
        })?;
        Ok(registry)
    }

    /// From now on the registry is so; connections that are held look again.
    pub fn set(&self, fault: Fault) {
        self.lock().fault = fault;
        self.state.1.notify_all();
    }

    /// The layers that were asked for so far.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    /// How many connections are held now.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        if self.lock().fault == Fault::Dead {
            return Ok(());
        }
        let request = head(&mut BufReader::new(client.try_clone()?))?;
        let path = request
            .first()
            .and_then(|line| line.split(' ').nth(1))
            .unwrap_or_default();
        let address: SocketAddr = REGISTRY.parse().map_err(io::Error::other)?;
        let server = TcpStream::connect_timeout(&address, PATIENCE)?;
        server.set_read_timeout(Some(PATIENCE))?;
        write_head(&server, &request)?;
        let mut answer = BufReader::new(server);
        let lines = head(&mut answer)?;
        write_head(&client, &lines)?;
        let length = header(&lines, "content-length").parse().unwrap_or(0);
        let range = header(&request, "range");
        // The rest of a layer may be short; nobody asks for a part of anything else.
        if path.contains("/blobs/") && (length >= LAYER || !range.is_empty()) {
            self.lock().requests.push(Request {
                path: path.to_owned(),
                range,
            });
            return self.copy_layer(&mut answer, client, length);
        }
        io::copy(&mut answer, &mut &client).map(drop)
    }

    fn copy_layer(&self, from: &mut impl Read, mut to: TcpStream, length: u64) -> io::Result<()> {
        let (mut done, mut piece) = (0_u64, vec![0; PIECE]);
        loop {
            let count = from.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            let (start, end) = (done, done + count as u64);
            let middle = (start..end).contains(&(length / 2));
            let fault = self.lock().fault;
            match fault {
                Fault::None => {}
                Fault::Held => self.hold()?,
                Fault::Slow(pause) => std::thread::sleep(pause),
                Fault::Cut(after) if end > after => {
                    let rest = usize::try_from(after.saturating_sub(start)).unwrap_or(0);
                    return to.write_all(&piece[..rest]);
                }
                Fault::Cut(_) => {}
                Fault::Corrupt if middle => {
                    piece[usize::try_from(length / 2 - start).unwrap_or(0)] ^= 0xff;
                }
                Fault::Corrupt => {}
                Fault::Dead => return Ok(()),
            }
            to.write_all(&piece[..count])?;
            done = end;
        }
    }

    fn hold(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.held += 1;
        let wait = self
            .state
            .1
            .wait_timeout_while(state, PATIENCE, |state| state.fault == Fault::Held);
        let (mut state, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
        state.held -= 1;
        if timeout.timed_out() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

/// The lines before the empty one.
fn head(from: &mut impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    for _ in 0..MAX_LINES {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_owned());
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The same lines for a connection that serves this exchange alone.
fn write_head(mut to: &TcpStream, lines: &[String]) -> io::Result<()> {
    let kept = lines
        .iter()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let text: String = kept.map(|line| format!("{line}\r\n")).collect();
    to.write_all(format!("{text}Connection: close\r\n\r\n").as_bytes())
}

fn header(lines: &[String], name: &str) -> String {
    let find = |line: &String| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    lines.iter().find_map(find).unwrap_or_default()
}
