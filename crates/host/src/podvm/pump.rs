//! From the guest's log stream to the files on the host, for one run.

use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::LogsRequest;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Machine, View};
use crate::logs::{PodLogs, Source, Writer};

/// After a run's end, how long the stream may say nothing before it is given up. The guest ends it after the last words; under
/// load they may be long on their way.
const SILENCE: Duration = Duration::from_secs(20);
/// Before a broken stream is asked for again.
const RETRY: Duration = Duration::from_millis(200);

/// The output of one run.
pub struct Pump {
    /// The VM.
    pub machine: Machine,
    /// The container.
    pub container: String,
    /// The run's number.
    pub number: u32,
    /// The run's id.
    pub run: String,
    /// The Pod's logs.
    pub logs: Arc<PodLogs>,
    /// How the Pod stands.
    pub view: watch::Receiver<View>,
}

impl Pump {
    /// Writes until the run is over and its output complete.
    pub async fn run(self) {
        let life = self.machine.life.clone();
        match self.logs.writer(&self.container, self.number) {
            Ok(mut writer) => {
                let done = life.run_until_cancelled(self.follow(&mut writer)).await;
                if done.is_none() {
                    tracing::debug!(run = self.run, "the VM went before its log was complete");
                }
            }
            Err(error) => tracing::warn!(run = self.run, %error, "no log is kept"),
        }
        self.logs.end(&self.container, self.number);
        self.logs.prune(&self.container, self.number.saturating_sub(1));
    }

    async fn follow(&self, writer: &mut Writer) {
        let mut next = writer.records();
        loop {
            match self.session(writer, &mut next).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(run = self.run, error, "log stream"),
            }
            if !self.view.borrow().runs(&self.run) && self.view.has_changed().is_err() {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// One stream. True: the output is complete.
    async fn session(&self, writer: &mut Writer, next: &mut u64) -> Result<bool, String> {
        let mut client = self
            .machine
            .guest
            .client()
            .await
            .map_err(|error| error.to_string())?;
        let request = LogsRequest {
            id: self.run.clone(),
            from_sequence: *next,
        };
        let answer = client.logs(request).await;
        let mut stream = match answer {
            Ok(answer) => answer.into_inner(),
            // Removed: nothing more will come.
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(true),
            Err(status) => return Err(status.to_string()),
        };
        let mut view = self.view.clone();
        loop {
            let over = async {
                let _ = view.wait_for(|view| !view.runs(&self.run)).await;
                tokio::time::sleep(SILENCE).await;
            };
            let message = tokio::select! {
                biased;
                message = stream.message() => message.map_err(|status| status.to_string())?,
                () = over => {
                    tracing::debug!(run = self.run, "the guest did not end a log");
                    return Ok(true);
                }
            };
            let Some(batch) = message else {
                // The guest ends the stream when the run is over; otherwise the channel broke.
                return Ok(!self.view.borrow().runs(&self.run));
            };
            for record in batch.records {
                let time = Timestamp::from_nanosecond(record.unix_time_ns.into())
                    .unwrap_or_else(|_| Timestamp::now());
                let source = if record.stream == 2 {
                    Source::Stderr
                } else {
                    Source::Stdout
                };
                writer.push(time, source, record.partial, &record.line);
                *next = record.sequence + 1;
            }
            writer.flush().map_err(|error| error.to_string())?;
        }
    }
}
