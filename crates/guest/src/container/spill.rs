//! Lines that nobody has read yet and for which memory is too dear: files on the writable disk, while the host is away.
//!
//! They are no more than the host would keep of a log itself, are rotated as it does, and have no name: nothing of them is
//! seen by anybody, or left by an agent that ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use guest_api::v1::LogRecord;

/// A file is closed when it has this many bytes (kubelet: `containerLogMaxSize`).
const MAX_BYTES: u64 = 10 << 20;
/// Files that stay (kubelet: `containerLogMaxFiles`); then the oldest goes.
const MAX_FILES: usize = 5;
/// Sequence number, time, length, stream, whether the line goes on: what stands before a line.
const HEAD: usize = 8 + 8 + 4 + 1 + 1;

/// One file with records in a row.
struct Segment {
    file: File,
    /// Where its records end.
    bytes: u64,
    /// The first record, and the one after the last.
    first: u64,
    end: u64,
    /// Where a record begins: the one that will be asked for next, most likely.
    cursor: (u64, u64),
    /// Bytes handed out since its last record was.
    passed: usize,
}

/// The records of one container that are on disk, in order.
pub struct Spill {
    directory: PathBuf,
    segments: VecDeque<Segment>,
}

impl Spill {
    /// Files in this directory, which is there by the first one.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            segments: VecDeque::new(),
        }
    }

    /// The record after the last one here; nothing without any.
    pub fn end(&self) -> Option<u64> {
        self.segments.back().map(|last| last.end)
    }

    /// Whether the oldest stays when more comes.
    pub fn has_room(&self) -> bool {
        self.segments.len() < MAX_FILES
    }

    /// Takes records that follow those that are here. What there is no room for makes the oldest go.
    pub fn push(&mut self, records: &[LogRecord]) {
        let Some((first, last)) = records.first().zip(records.last()) else {
            return;
        };
        if self.end().is_some_and(|end| end != first.sequence) {
            // Some between were lost, and so is what came before them: who reads gets rows without gaps.
            self.segments.clear();
        }
        let mut bytes = Vec::new();
        for record in records {
            encode(record, &mut bytes);
        }
        // A full disk may have room when an older file has gone.
        while self.write(&bytes, first.sequence, last.sequence + 1).is_err() {
            if self.segments.pop_front().is_none() {
                return;
            }
        }
        while self.segments.len() > MAX_FILES {
            self.segments.pop_front();
        }
    }

    fn write(&mut self, bytes: &[u8], first: u64, end: u64) -> io::Result<()> {
        if self.segments.back().is_none_or(|last| last.bytes >= MAX_BYTES) {
            std::fs::create_dir_all(&self.directory)?;
            let file = File::options()
                .read(true)
                .write(true)
                .mode(0o600)
                .custom_flags(libc::O_TMPFILE)
                .open(&self.directory)?;
            self.segments.push_back(Segment {
                file,
                bytes: 0,
                first,
                end: first,
                cursor: (first, 0),
                passed: 0,
            });
        }
        let Some(last) = self.segments.back_mut() else {
            return Ok(());
        };
        last.file.seek(SeekFrom::Start(last.bytes))?;
        last.file.write_all(bytes)?;
        last.bytes += bytes.len() as u64;
        last.end = end;
        Ok(())
    }

    /// Some records from a number on, about so many bytes of them; none if it is beyond what is here.
    pub fn read(&mut self, from: u64, bytes: usize) -> Vec<LogRecord> {
        let Some(segment) = self.segments.iter_mut().find(|segment| from < segment.end) else {
            return Vec::new();
        };
        // A file that cannot be read is as good as lost; the host goes on behind it.
        let (read, end) = (segment.read(from.max(segment.first), bytes), segment.end);
        read.unwrap_or_else(|_| {
            self.segments.retain(|segment| segment.end > end);
            Vec::new()
        })
    }

    /// So many bytes were handed out, up to a record: files before it go when others like it would not be asked for again,
    /// should the host have been killed over them.
    pub fn passed(&mut self, upto: u64, bytes: usize, enough: usize) {
        for segment in self.segments.iter_mut().filter(|segment| segment.end <= upto) {
            segment.passed += bytes;
        }
        self.segments.retain(|segment| segment.passed <= enough);
    }
}

impl Segment {
    fn read(&mut self, from: u64, bytes: usize) -> io::Result<Vec<LogRecord>> {
        let (mut next, mut at) = match self.cursor {
            cursor if cursor.0 <= from => cursor,
            _ => (self.first, 0),
        };
        let (mut records, mut taken) = (Vec::new(), 0);
        self.file.seek(SeekFrom::Start(at))?;
        let mut reader = io::BufReader::with_capacity(64 << 10, (&self.file).take(self.bytes - at));
        while next < self.end && taken < bytes {
            let record = decode(&mut reader)?;
            at += (HEAD + record.line.len()) as u64;
            next = record.sequence + 1;
            if record.sequence >= from {
                taken += record.line.len();
                records.push(record);
            }
        }
        self.cursor = (next, at);
        Ok(records)
    }
}

fn encode(record: &LogRecord, into: &mut Vec<u8>) {
    into.extend(record.sequence.to_le_bytes());
    into.extend(record.unix_time_ns.to_le_bytes());
    into.extend((record.line.len() as u32).to_le_bytes());
    into.extend([record.stream as u8, u8::from(record.partial)]);
    into.extend_from_slice(&record.line);
}

fn decode(from: &mut impl Read) -> io::Result<LogRecord> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let length = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
    let mut line = vec![0; length as usize];
    from.read_exact(&mut line)?;
    Ok(LogRecord {
        sequence: number(0),
        unix_time_ns: number(8).cast_signed(),
        stream: u32::from(head[20]),
        line,
        partial: head[21] == 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(numbers: std::ops::Range<u64>, length: usize) -> Vec<LogRecord> {
        let one = |sequence| LogRecord {
            sequence,
            unix_time_ns: 7,
            stream: 2,
            line: vec![b'x'; length],
            partial: sequence % 2 == 1,
        };
        numbers.map(one).collect()
    }

    fn spill() -> (std::path::PathBuf, Spill) {
        let name = format!(
            "podvisor-spill-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let directory = std::env::temp_dir().join(name.replace(['(', ')'], ""));
        (directory.clone(), Spill::new(directory))
    }

    #[test]
    fn what_was_written_is_read_in_order_from_anywhere() {
        let (directory, mut spill) = spill();
        spill.push(&records(0..100, 1000));
        spill.push(&records(100..150, 10));
        assert_eq!(
            std::fs::read_dir(&directory).expect("made").count(),
            0,
            "no names"
        );
        let mut all = Vec::new();
        let mut next = 0;
        while next < 150 {
            let batch = spill.read(next, 10_000);
            next = batch.last().expect("some").sequence + 1;
            all.extend(batch);
        }
        assert_eq!(all, [records(0..100, 1000), records(100..150, 10)].concat());
        // From the middle, once more.
        assert_eq!(spill.read(120, 50), records(120..125, 10));
        assert_eq!(spill.read(3, 1000), records(3..4, 1000));
        assert!(spill.read(150, 1).is_empty());
        // Kept until it cannot be asked for again.
        spill.passed(150, 600, 1000);
        assert_eq!(spill.end(), Some(150));
        spill.passed(149, 600, 1000);
        assert_eq!(spill.end(), Some(150));
        spill.passed(160, 600, 1000);
        assert_eq!(spill.end(), None);
        std::fs::remove_dir(&directory).expect("empty");
    }

    #[test]
    fn the_oldest_goes_beyond_what_a_host_would_keep() {
        let (directory, mut spill) = spill();
        let (many, length) = (1000, 10_000);
        for round in 0..7_u64 {
            spill.push(&records(round * many..(round + 1) * many, length));
            // Nearly a file a round; two rounds close one.
        }
        let oldest = spill.read(0, 1)[0].sequence;
        assert_eq!(oldest, 0, "seven rounds fit");
        for round in 7..14_u64 {
            spill.push(&records(round * many..(round + 1) * many, length));
        }
        let oldest = spill.read(0, 1)[0].sequence;
        assert!((3_000..=5_000).contains(&oldest), "{oldest}");
        assert_eq!(spill.end(), Some(14_000));
        std::fs::remove_dir(&directory).expect("empty");
    }
}
