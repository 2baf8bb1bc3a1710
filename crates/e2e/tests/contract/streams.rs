//! Bytes through every stream of a Pod: exec both ways, attach, `cp`, a forwarded port, each with its half-close; and
//! lines of a log, followed while the file is rotated.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::{Lab, clients, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LIMIT;

/// How long the long forms may take, in seconds.
const PATIENCE: &str = "1200";

/// So many random bytes through every stream, by this kubectl.
pub fn all(lab: &Lab, kubectl: &str, bytes: usize) -> Result<()> {
    let file = lab.directory().join("blob");
    let mut blob = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut blob)?;
    std::fs::write(&file, &blob)?;
    let sum = sum(lab, &file)?;
    let mut clock = Clock::new(kubectl, bytes);
    let command = |arguments: &[&str]| {
        let mut command = clients::command(lab, "timeout")?;
        let program = clients::programs().join(kubectl);
        command.arg(PATIENCE).arg(program).args(arguments);
        anyhow::Ok(command)
    };

    let script = "cat > /blob; md5sum < /blob";
    let fed = command(&["exec", "-i", "desk", "-c", "main", "--", "sh", "-c", script])?
        .stdin(File::open(&file)?)
        .output()?;
    let told = String::from_utf8_lossy(&fed.stdout);
    ensure!(
        fed.status.success() && told.starts_with(&sum),
        "exec -i: {told}{}",
        String::from_utf8_lossy(&fed.stderr)
    );
    clock.done("exec, in");

    let output = command(&["exec", "desk", "-c", "main", "--", "cat", "/blob"])?.output()?;
    ensure!(output.stdout == blob, "exec: {} bytes came", output.stdout.len());
    clock.done("exec, out");

    let copy = lab.directory().join("copy");
    let copied = command(&["cp", "desk:/blob", &copy.display().to_string(), "-c", "main"])?.output()?;
    ensure!(
        copied.status.success(),
        "cp: {}",
        String::from_utf8_lossy(&copied.stderr)
    );
    ensure!(self::sum(lab, &copy)? == sum, "cp brought something else");
    clock.done("cp");

    let back = ["cp", &copy.display().to_string(), "desk:/back", "-c", "main"];
    let copied = command(&back)?.output()?;
    ensure!(
        copied.status.success(),
        "cp into the Pod: {}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let told = lab.kubectl(&["exec", "desk", "-c", "main", "--", "md5sum", "/back"])?;
    ensure!(told.starts_with(&sum), "cp took something else: {told}");
    clock.done("cp, in");

    // `stdinOnce`: the end of the first client's input is the end of the container's.
    let runs = || lab.kubectl(&["logs", "desk", "-c", "sink"]);
    let mut attached = command(&["attach", "-i", "desk", "-c", "sink"])?
        .stdin(File::open(&file)?)
        .stdout(Stdio::null())
        .spawn()?;
    wait_for("the sum of what was attached", LIMIT * 4, || {
        let told = runs()?;
        ensure!(told.starts_with(&sum), "attach: {told}");
        Ok(())
    })?;
    end(&mut attached)?;
    clock.done("attach");

    let forwarding = Forwarding::start(&mut command(&["port-forward", "pod/desk", "9000:9000"])?)?;
    let came = echoed(lab, &blob)?;
    forwarding.end()?;
    closed(lab, command(&["port-forward", "pod/desk", "9001:9001"])?)?;
    ensure!(
        came == blob,
        "port-forward: {} of {bytes} bytes came back",
        came.len()
    );
    clock.done("port-forward, there and back");
    // The next run has an input of its own. How the `exec` ends says nothing: with the container's first process everything
    // in it is killed, and `killall` may be (137) before it has returned. That there is another run is judged instead.
    command(&["exec", "desk", "-c", "sink", "--", "killall", "-9", "sleep"])?.output()?;
    wait_for("another run", LIMIT, || {
        ensure!(runs()?.is_empty());
        Ok(())
    })
}

/// The Python client over channels of a WebSocket (v4): text as input, a terminal, the file that went through every stream,
/// and forwarded ports.
pub fn channels(lab: &Lab) -> Result<()> {
    let mut client = clients::command(lab, "python3")?;
    client
        .arg(clients::fixture("python/channels.py"))
        .args(["desk", "main", "9000", "9"])
        .arg(lab.directory().join("blob"));
    let done = client.output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// A client may leave as soon as it has said everything: its words arrive, and the program that reads them runs to its end.
pub fn left_alone(lab: &Lab) -> Result<()> {
    let file = lab.directory().join("blob");
    let script = "sleep 1; cat > /left; cp /left /whole";
    let mut client = clients::command(lab, "python3")?;
    client
        .arg(clients::fixture("python/leaves.py"))
        .args(["desk", "main"])
        .arg(&file)
        .args(["sh", "-c", script]);
    let done = client.output()?;
    ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // Attached to a program whose input stays open, a client ends with its own.
    let line = lab.directory().join("line");
    std::fs::write(&line, "1\n")?;
    let attached = lab
        .command("timeout")
        .args(["60", "kubectl", "attach", "-i", "desk", "-c", "printer"])
        .stdin(File::open(&line)?)
        .output()?;
    ensure!(attached.status.success(), "attach: {attached:?}");
    let sum = sum(lab, &file)?;
    wait_for("what a client that left had sent", LIMIT, || {
        let look = ["exec", "desk", "-c", "main", "--", "md5sum", "/whole"];
        let told = lab.kubectl(&look)?;
        ensure!(told.starts_with(&sum), "{told}");
        let printed = lab.kubectl(&["logs", "desk", "-c", "printer"])?;
        ensure!(printed.contains("begin 1\n1\ndone in "), "{printed}");
        Ok(())
    })
}

/// Through a forwarded port to a server that sends everything back, and closes when we do.
fn echoed(lab: &Lab, blob: &[u8]) -> Result<Vec<u8>> {
    let door = lab.publish(0, "127.0.0.1:9000".parse()?)?;
    let mut stream = TcpStream::connect(("127.0.0.1", door))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut out = stream.try_clone()?;
    let sent = blob.to_vec();
    let writer = std::thread::spawn(move || {
        out.write_all(&sent)?;
        out.shutdown(Shutdown::Write)
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came).context("the echo")?;
    writer.join().map_err(|_| anyhow!("the writer panicked"))??;
    Ok(came)
}

/// A connection to a port where nobody listens ends, with words.
fn closed(lab: &Lab, mut command: Command) -> Result<()> {
    let mut forwarding = Forwarding::start(command.stderr(Stdio::piped()))?;
    let mut errors = forwarding.child.stderr.take().context("no errors")?;
    let door = lab.publish(0, "127.0.0.1:9001".parse()?)?;
    let mut stream = TcpStream::connect(("127.0.0.1", door))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"anybody?")?;
    let read = stream.read(&mut [0]);
    // A close with bytes that nobody read is a reset.
    let reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
    ensure!(
        matches!(&read, Ok(0)) || read.as_ref().is_err_and(reset),
        "it read {read:?}"
    );
    // kubectl itself ends with the first error; an older one goes on.
    forwarding.end()?;
    let mut words = String::new();
    errors.read_to_string(&mut words)?;
    ensure!(words.contains("connection refused"), "it said: {words}");
    Ok(())
}

/// A `kubectl port-forward` that listens: nothing is sent to it, a signal neither, before it has said so.
struct Forwarding {
    child: Child,
    /// Held open: kubectl tells of each connection, and would end without a reader.
    _output: BufReader<ChildStdout>,
}

impl Forwarding {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.starts_with("Forwarding from"), "it does not listen: {line}");
        Ok(Self {
            child,
            _output: output,
        })
    }

    fn end(mut self) -> Result<()> {
        end(&mut self.child)
    }
}

/// How many lines a minute a container writes without being held back.
const LINES_A_MINUTE: u64 = 1_000_000;

/// So many lines of a container, followed: each comes once and in order, the follower has them in this time, and the container
/// itself was done as fast as it is promised that it may write.
pub fn lines(lab: &Lab, count: u64, limit: Duration) -> Result<()> {
    let mut follower = lab.follow(&["desk", "-c", "printer"])?;
    let output = follower.stdout.take().context("no output")?;
    let mut trigger = printing(lab, count, Stdio::null())?;
    let since = Instant::now();
    let written = counted(output, count)?;
    let took = since.elapsed();
    eprintln!("{count} lines: written in {written:.1?}, read after {took:.1?}");
    ensure!(took < limit, "{count} lines took {took:?}");
    let promised = Duration::from_secs(count * 60 / LINES_A_MINUTE);
    ensure!(
        written < promised,
        "the container took {written:?} for {count} lines"
    );
    end(&mut follower)?;
    end(&mut trigger)
}

/// So many lines to a client that is attached.
pub fn attached(lab: &Lab, count: u64) -> Result<()> {
    let mut client = printing(lab, count, Stdio::piped())?;
    let output = client.stdout.take().context("no output")?;
    let written = counted(output, count)?;
    eprintln!("{count} lines, attached: written in {written:.1?}");
    end(&mut client)
}

/// A client that has told the printer to print so many lines.
fn printing(lab: &Lab, count: u64, output: Stdio) -> Result<Child> {
    let mut client = lab
        .command("timeout")
        .args([PATIENCE, "kubectl", "attach", "-i", "desk", "-c", "printer"])
        .stdin(Stdio::piped())
        .stdout(output)
        .spawn()?;
    writeln!(client.stdin.as_mut().context("no input")?, "{count}")?;
    Ok(client)
}

/// Reads what the printer prints; how long it says that it took.
fn counted(output: ChildStdout, count: u64) -> Result<Duration> {
    let mut seen = 0;
    let mut begun = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if !begun {
            begun = line == format!("begin {count}");
            continue;
        }
        if let Some(hundredths) = line.strip_prefix("done in ") {
            ensure!(seen == count, "{seen} of {count} lines came");
            return Ok(Duration::from_millis(hundredths.parse::<u64>()? * 10));
        }
        seen += 1;
        ensure!(line == seen.to_string(), "line {seen} is `{line}`");
    }
    Err(anyhow!("the output ended after {seen} of {count} lines"))
}

/// Commands that say nothing for so long, all at once; then each still hears and answers.
pub fn idle(lab: &Lab, count: usize, time: Duration) -> Result<()> {
    let start = |_| {
        let child = lab
            .command("kubectl")
            .args(["exec", "-i", "desk", "-c", "main", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        anyhow::Ok(child?)
    };
    let mut children = (0..count).map(start).collect::<Result<Vec<_>>>()?;
    let speak = |children: &mut Vec<Child>, words: &str| {
        for child in children {
            let input = child.stdin.as_mut().context("no input")?;
            writeln!(input, "{words}")?;
            let mut heard = vec![0; words.len() + 1];
            child
                .stdout
                .as_mut()
                .context("no output")?
                .read_exact(&mut heard)?;
            ensure!(heard == format!("{words}\n").as_bytes());
        }
        anyhow::Ok(())
    };
    speak(&mut children, "here")?;
    std::thread::sleep(time);
    speak(&mut children, "still here")?;
    for child in &mut children {
        drop(child.stdin.take());
        ensure!(child.wait()?.success());
    }
    Ok(())
}

fn sum(lab: &Lab, file: &Path) -> Result<String> {
    let text = lab.run("md5sum", &[&file.display().to_string()])?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

/// Ends a command and, through `timeout`, what it runs.
fn end(child: &mut Child) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(child.id())?);
    // It may have ended by itself.
    let _ = kill(id, Signal::SIGTERM);
    child.wait()?;
    Ok(())
}

/// Tells how fast each step was.
struct Clock {
    kubectl: String,
    bytes: usize,
    since: Instant,
}

impl Clock {
    fn new(kubectl: &str, bytes: usize) -> Self {
        Self {
            kubectl: kubectl.to_owned(),
            bytes,
            since: Instant::now(),
        }
    }

    fn done(&mut self, step: &str) {
        let took = self.since.elapsed();
        let speed = self.bytes as f64 / f64::from(1 << 20) / took.as_secs_f64();
        eprintln!("{}: {step}: {took:.1?}, {speed:.2} MiB/s", self.kubectl);
        self.since = Instant::now();
    }
}
