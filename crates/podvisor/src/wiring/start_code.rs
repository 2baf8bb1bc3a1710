//! Gives back what only the start needed: most of a server at rest is code in memory, and much of that code never runs
//! again. Its pages leave this process; the kernel keeps them as cache as long as it has room, so what does run again is
//! back at the cost of a page fault.

use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// When the start is over, controllers' first looks included.
const OVER: Duration = Duration::from_secs(5);

/// A mapping of this process of which nothing was ever written to.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
}

/// The mappings of a file, as `/proc/PID/smaps` lists them, that are code or constants and as clean as the file. (What
/// was relocated when the program was loaded is read-only as well, but differs from the file: it must stay.)
fn clean(smaps: &str, file: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if let Some((start, end)) = first.split_once('-').and_then(|(a, b)| {
            let number = |text: &str| usize::from_str_radix(text, 16).ok();
            Some((number(a)?, number(b)?))
        }) {
            let plain = matches!(second, "r--p" | "r-xp") && line.ends_with(file);
            candidate = plain.then(|| Mapping {
                start,
                length: end - start,
            });
        } else if first == "Anonymous:" {
            found.extend(candidate.take().filter(|_| second == "0"));
        }
    }
    found
}

/// Waits for the end of the start and gives back what it needed.
pub(super) async fn when_over(stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(OVER) => give_back(),
    }
}

/// Gives back the pages of this program's code and constants.
fn give_back() {
    let (Ok(smaps), Ok(program)) = (
        std::fs::read_to_string("/proc/self/smaps"),
        std::fs::read_link("/proc/self/exe"),
    ) else {
        return;
    };
    for mapping in clean(&smaps, &program.to_string_lossy()) {
        // SAFETY: the mapping is private, read-only and as its file is, so whoever touches it next finds the same bytes.
        let outcome = unsafe {
            libc::madvise(
                mapping.start as *mut libc::c_void,
                mapping.length,
                libc::MADV_DONTNEED,
            )
        };
        if outcome != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "code of the start stays in memory");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_the_file_is() {
        let smaps = "\
55d0-55e0 r--p 00000000 fe:00 12 /usr/bin/podvisor
Rss:                 64 kB
Anonymous:            0 kB
55e0-5600 r-xp 00010000 fe:00 12 /usr/bin/podvisor
Anonymous:            0 kB
5600-5610 r--p 00030000 fe:00 12 /usr/bin/podvisor
Anonymous:           64 kB
5610-5620 rw-p 00040000 fe:00 12 /usr/bin/podvisor
Anonymous:            0 kB
7f00-7f10 r-xp 00000000 fe:00 13 /lib/libc.so.6
Anonymous:            0 kB
";
        let found = clean(smaps, "/usr/bin/podvisor");
        let wanted = [(0x55d0, 0x10), (0x55e0, 0x20)];
        assert_eq!(found, wanted.map(|(start, length)| Mapping { start, length }));
        // It is done to this very program, which goes on.
        give_back();
        assert_eq!(clean(smaps, "/lib/libc.so.6").len(), 1);
    }
}
