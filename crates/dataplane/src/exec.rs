//! Running `nft`, `ip` and `conntrack`, the first two with a text on their standard input. No choices are made here.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long one transaction may take; both tools answer in milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// Why a plan could not be put in force.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The program is not there.
    #[error("cannot run {program}: {source}: install it with `apt-get install {package}`")]
    Start {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It refused.
    #[error("{program} refused: {answer}")]
    Refused {
        /// Its name.
        program: &'static str,
        /// What it wrote to stderr.
        answer: String,
    },
    /// It did not end.
    #[error("{program} did not end within {} s", LIMIT.as_secs())]
    Timeout {
        /// Its name.
        program: &'static str,
    },
}

/// One transaction: all of the text is in force afterwards, or nothing of it.
pub(crate) async fn nft(text: &str) -> Result<(), ExecError> {
    tracing::trace!("nft -f -\n{text}");
    run("nft", "nftables", &["-f", "-"], text).await.map(drop)
}

/// Whether our table is there.
pub(crate) async fn nft_table_exists() -> Result<bool, ExecError> {
    Ok(run("nft", "nftables", &["list", "tables"], "")
        .await?
        .lines()
        .any(|line| line == "table inet podvisor"))
}

/// A batch of `ip` commands; with `force` it goes on after one that fails and reports nothing.
pub(crate) async fn ip_batch(text: &str, force: bool) -> Result<(), ExecError> {
    if text.is_empty() {
        return Ok(());
    }
    let arguments: &[&str] = if force {
        &["-force", "-batch", "-"]
    } else {
        &["-batch", "-"]
    };
    match run("ip", "iproute2", arguments, text).await {
        Err(ExecError::Refused { .. }) if force => Ok(()),
        result => result.map(drop),
    }
}

/// What an `ip` query prints.
pub(crate) async fn ip_query(arguments: &[&str]) -> Result<String, ExecError> {
    run("ip", "iproute2", arguments, "").await
}

/// Makes the kernel forget flows; that there were none is no error.
pub(crate) async fn conntrack(arguments: &[String]) -> Result<(), ExecError> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run("conntrack", "conntrack", &words, "").await {
        Err(ExecError::Refused { answer, .. }) if answer.contains("0 flow entries") => Ok(()),
        result => result.map(drop),
    }
}

async fn run(
    program: &'static str,
    package: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<String, ExecError> {
    let start = |source| ExecError::Start {
        program,
        package,
        source,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let mut stdin = child.stdin.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A program that ends early closes the pipe; its exit status tells why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        drop(stdin);
    };
    let work = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| ExecError::Timeout { program })?
        .map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let answer = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ExecError::Refused { program, answer })
}
