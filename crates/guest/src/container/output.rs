//! The kept end of a container's output: lines with times and sequence numbers, for whoever reads the log.
//!
//! While nobody reads, the oldest lines go to files on the writable disk, as many as the host would keep, and are read from
//! there when it is back. Only when it has come to their end does a full buffer hold the container's pipe back.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use guest_api::v1::LogRecord;
use tokio::sync::Notify;

use super::now_ns;
use super::spill::Spill;
use crate::disks::SCRATCH;
use crate::sync::lock;

/// Bytes kept.
const KEPT: usize = 4 << 20;
/// A longer line is cut into partial records, as the CRI log format has it.
const MAX_LINE: usize = 16 << 10;
/// Bytes of one batch to the host.
const BATCH: usize = 256 << 10;

/// Where lines go for which memory is too dear; nowhere in a VM whose writable layers are in memory themselves.
pub fn directory() -> Option<PathBuf> {
    let own = |path: &Path| Some(rustix::fs::stat(path).ok()?.st_dev);
    let scratch = Path::new(SCRATCH);
    let on_disk = own(scratch)? != own(scratch.parent()?)?;
    on_disk.then(|| scratch.join("logs"))
}

/// The log of one container.
pub struct Output {
    state: Mutex<State>,
    /// Wakes readers after a new record or the end.
    grown: Notify,
    /// Wakes the writer after records were taken.
    shrunk: Notify,
}

#[derive(Default)]
struct State {
    records: VecDeque<LogRecord>,
    bytes: usize,
    next: u64,
    /// What the reader with the most has taken.
    taken: u64,
    readers: usize,
    /// Older lines that nobody has taken, if there is a place for them.
    spill: Option<Spill>,
    /// Unfinished lines of stdout and stderr.
    pending: [Vec<u8>; 2],
    ended: bool,
}

impl Output {
    /// An empty log that may use files in this directory.
    pub fn new(directory: Option<PathBuf>) -> Self {
        let state = State {
            spill: directory.map(Spill::new),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            grown: Notify::new(),
            shrunk: Notify::new(),
        }
    }

    /// Takes bytes of a stream (1 stdout, 2 stderr), waiting while readers are behind.
    pub async fn write(&self, stream: u32, bytes: &[u8]) {
        loop {
            let room = self.shrunk.notified();
            {
                let mut state = lock(&self.state);
                if state.bytes < KEPT || state.spills() {
                    state.take(stream, bytes);
                    break;
                }
            }
            room.await;
        }
        self.grown.notify_waiters();
    }

    /// The container has ended: what is left of a line is a record that nothing follows (CRI: a partial line).
    pub fn end(&self) {
        let mut state = lock(&self.state);
        for stream in [1, 2] {
            let rest = std::mem::take(&mut state.pending[stream as usize - 1]);
            if !rest.is_empty() {
                state.push(stream, rest, true);
            }
        }
        state.ended = true;
        drop(state);
        self.grown.notify_waiters();
    }

    /// The next records from a sequence number on; waits for some. None after the end.
    pub async fn read(&self, from: u64) -> Option<Vec<LogRecord>> {
        loop {
            let grown = self.grown.notified();
            {
                let mut state = lock(&self.state);
                let batch = state.batch(from);
                if let Some(last) = batch.last() {
                    state.taken = state.taken.max(last.sequence + 1);
                    self.shrunk.notify_waiters();
                    return Some(batch);
                }
                if state.ended {
                    return None;
                }
            }
            grown.await;
        }
    }

    /// How many records there were so far.
    pub fn records(&self) -> u64 {
        lock(&self.state).next
    }

    /// Counts a reader in or out.
    pub fn reader(&self, coming: bool) {
        let mut state = lock(&self.state);
        state.readers = if coming {
            state.readers + 1
        } else {
            state.readers.saturating_sub(1)
        };
        self.shrunk.notify_waiters();
    }

    /// The last lines as text, for a termination message.
    pub fn tail(&self, lines: usize, bytes: usize) -> String {
        let state = lock(&self.state);
        let skip = state.records.len().saturating_sub(lines);
        let mut text = String::new();
        for record in state.records.iter().skip(skip) {
            text += &String::from_utf8_lossy(&record.line);
            if !record.partial {
                text.push('\n');
            }
        }
        let start = text.len().saturating_sub(bytes);
        let start = (start..text.len())
            .find(|index| text.is_char_boundary(*index))
            .unwrap_or(text.len());
        text[start..].to_owned()
    }
}

impl State {
    fn take(&mut self, stream: u32, bytes: &[u8]) {
        let index = (stream as usize).saturating_sub(1).min(1);
        let mut pending = std::mem::take(&mut self.pending[index]);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            pending.extend_from_slice(part);
            if pending.last() == Some(&b'\n') {
                pending.pop();
                self.push(stream, std::mem::take(&mut pending), false);
            }
            while pending.len() > MAX_LINE {
                let rest = pending.split_off(MAX_LINE);
                self.push(stream, std::mem::replace(&mut pending, rest), true);
            }
        }
        self.pending[index] = pending;
    }

    fn push(&mut self, stream: u32, mut line: Vec<u8>, partial: bool) {
        while line.len() > MAX_LINE {
            let rest = line.split_off(MAX_LINE);
            self.push(stream, std::mem::replace(&mut line, rest), true);
        }
        self.bytes += line.len() + size_of::<LogRecord>();
        self.records.push_back(LogRecord {
            sequence: self.next,
            unix_time_ns: now_ns(),
            stream,
            line,
            partial,
        });
        self.next += 1;
        if self.spills() {
            // Also what was taken: whoever comes back may ask for it once more.
            if self.bytes > KEPT {
                self.spill();
            }
            return;
        }
        while self.bytes > KEPT
            && self
                .records
                .front()
                .is_some_and(|oldest| oldest.sequence < self.taken)
        {
            self.pop();
        }
    }

    /// Whether lines go to disk and nobody waits: nobody reads, or who reads has not come to the end of what is there.
    fn spills(&self) -> bool {
        let behind = |spill: &Spill| spill.has_room() && spill.end().is_some_and(|end| end > self.taken);
        self.readers == 0 || self.spill.as_ref().is_some_and(behind)
    }

    fn pop(&mut self) -> Option<LogRecord> {
        let oldest = self.records.pop_front()?;
        self.bytes -= oldest.line.len() + size_of::<LogRecord>();
        Some(oldest)
    }

    /// Moves the oldest lines out of memory, many at once.
    fn spill(&mut self) {
        let mut moved = Vec::new();
        while self.bytes > KEPT - BATCH {
            moved.extend(self.pop());
        }
        if let Some(spill) = &mut self.spill {
            spill.push(&moved);
        }
    }

    fn batch(&mut self, from: u64) -> Vec<LogRecord> {
        let spilled = self.spill.as_mut().map(|spill| spill.read(from, BATCH));
        if let Some(batch) = spilled.filter(|batch| !batch.is_empty()) {
            self.handed_out(from, &batch);
            return batch;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        let skip = self
            .records
            .front()
            .map_or(0, |oldest| from.saturating_sub(oldest.sequence));
        for record in self
            .records
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
        {
            bytes += record.line.len();
            batch.push(record.clone());
            if bytes > BATCH {
                break;
            }
        }
        // The host has these as soon as they are on the way: records it has taken make room.
        while self.bytes > KEPT / 2 && self.records.front().is_some_and(|oldest| oldest.sequence < from) {
            self.pop();
        }
        self.handed_out(from, &batch);
        batch
    }

    /// Lets files go whose lines the host has had for long.
    fn handed_out(&mut self, from: u64, batch: &[LogRecord]) {
        let bytes = batch.iter().map(|record| record.line.len()).sum();
        if let Some(spill) = &mut self.spill {
            spill.passed(from, bytes, KEPT / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(records: &[LogRecord]) -> Vec<(u64, String, bool)> {
        let text = |record: &LogRecord| String::from_utf8_lossy(&record.line).into_owned();
        records
            .iter()
            .map(|record| (record.sequence, text(record), record.partial))
            .collect()
    }

    #[tokio::test]
    async fn lines_are_whole_and_numbered() {
        let output = Output::new(None);
        output.write(1, b"one\ntw").await;
        output.write(1, b"o\n\nrest").await;
        output.end();
        let read = output.read(0).await.expect("records");
        let expected = [
            (0, "one", false),
            (1, "two", false),
            (2, "", false),
            (3, "rest", true),
        ];
        assert_eq!(
            lines(&read),
            expected.map(|(number, text, partial)| (number, text.to_owned(), partial))
        );
        assert_eq!(lines(&output.read(3).await.expect("records")).len(), 1);
        assert!(output.read(4).await.is_none());
        assert_eq!(output.records(), 4);
        assert_eq!(output.tail(2, 100), "\nrest");
    }

    #[tokio::test]
    async fn long_lines_are_cut_and_old_ones_dropped_when_there_is_no_place_for_them() {
        let output = Output::new(None);
        output.write(1, &vec![b'x'; MAX_LINE + 10]).await;
        output.write(1, b"\n").await;
        let read = output.read(0).await.expect("records");
        assert_eq!(
            read.iter()
                .map(|record| (record.line.len(), record.partial))
                .collect::<Vec<_>>(),
            [(MAX_LINE, true), (10, false)]
        );
        for _ in 0..2 * KEPT / 1000 {
            output.write(2, &[&[b'y'; 999][..], b"\n"].concat()).await;
        }
        assert!(output.read(0).await.expect("records")[0].sequence > 2);
    }

    #[tokio::test]
    async fn no_line_is_lost_while_nobody_reads() {
        let directory = std::env::temp_dir().join(format!("podvisor-output-{}", std::process::id()));
        let output = Output::new(Some(directory.clone()));
        let count = 8 * KEPT / 1000;
        let line = |number: usize| format!("{number:08} {}", "z".repeat(990));
        for number in 0..count {
            output.write(1, format!("{}\n", line(number)).as_bytes()).await;
        }
        output.reader(true);
        // Who is back has much to read first; nobody waits for that.
        let more = 2 * KEPT / 1000;
        for number in count..count + more {
            output.write(1, format!("{}\n", line(number)).as_bytes()).await;
        }
        let count = count + more;
        let held = lock(&output.state).bytes;
        assert!(held <= KEPT, "{held} bytes in memory");
        output.end();
        let (mut next, mut read) = (0, 0);
        while let Some(batch) = output.read(next).await {
            for record in &batch {
                assert_eq!(record.sequence, next);
                assert_eq!(record.line, line(read).as_bytes());
                (next, read) = (next + 1, read + 1);
            }
        }
        assert_eq!(read, count);
        // The host has all of it: the files have gone.
        assert_eq!(lock(&output.state).spill.as_ref().and_then(Spill::end), None);
        std::fs::remove_dir(&directory).expect("empty");
    }
}
