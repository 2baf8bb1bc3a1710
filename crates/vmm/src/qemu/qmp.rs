//! QEMU's control protocol, as much of it as is needed: greeting, capabilities, commands with their answers.
//!
//! One connection a command: commands are few, and nothing is then left half read when the agent dies.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// QEMU answers in milliseconds; under emulation its main loop may be busy for longer.
const LIMIT: Duration = Duration::from_secs(10);
/// A longer line is not QEMU's.
const MAX_LINE: u64 = 1 << 20;

/// Sends one command and returns its result.
pub(super) async fn command(socket: &Path, name: &str, arguments: Value) -> Result<Value, String> {
    let work = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| error.to_string())?;
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(tokio::io::AsyncReadExt::take(read, MAX_LINE)).lines();
        let greeting = next(&mut lines).await?;
        if greeting.get("QMP").is_none() {
            return Err(format!("unexpected greeting: {greeting}"));
        }
        for (name, arguments) in [("qmp_capabilities", json!({})), (name, arguments)] {
            let line = json!({"execute": name, "arguments": arguments, "id": name}).to_string() + "\n";
            write
                .write_all(line.as_bytes())
                .await
                .map_err(|error| error.to_string())?;
            loop {
                let answer = next(&mut lines).await?;
                if answer["id"] != json!(name) {
                    // An event of the machine.
                    continue;
                }
                if let Some(error) = answer.get("error") {
                    return Err(format!("{name}: {}", error["desc"].as_str().unwrap_or("refused")));
                }
                if name != "qmp_capabilities" {
                    return Ok(answer["return"].clone());
                }
                break;
            }
        }
        Err("no answer".to_owned())
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .map_err(|_| format!("{name}: no answer within {LIMIT:?}"))?
}

async fn next<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut tokio::io::Lines<R>) -> Result<Value, String> {
    let line = lines.next_line().await.map_err(|error| error.to_string())?;
    let line = line.ok_or("QEMU closed its control channel")?;
    serde_json::from_str(&line).map_err(|error| format!("not a QMP message: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that greets, sends an event and answers.
    async fn serve(listener: tokio::net::UnixListener, answer: Value) {
        let (stream, _) = listener.accept().await.expect("a client");
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"{\"QMP\": {}}\n").await.expect("written");
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).expect("JSON");
            let mut reply = if request["execute"] == "qmp_capabilities" {
                json!({"return": {}})
            } else {
                answer.clone()
            };
            reply["id"] = request["id"].clone();
            let text = format!("{}\n{reply}\n", json!({"event": "RESUME"}));
            write.write_all(text.as_bytes()).await.expect("written");
        }
    }

    #[tokio::test]
    async fn commands_are_answered_or_refused() {
        let cases = [
            (
                json!({"return": {"status": "running"}}),
                Ok(json!({"status": "running"})),
            ),
            (
                json!({"error": {"desc": "no such device"}}),
                Err("query-status: no such device".to_owned()),
            ),
        ];
        for (answer, expected) in cases {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("qmp.sock");
            let listener = tokio::net::UnixListener::bind(&path).expect("bound");
            tokio::spawn(serve(listener, answer));
            assert_eq!(command(&path, "query-status", json!({})).await, expected);
        }
    }
}
