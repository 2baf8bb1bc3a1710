//! Processors and memory that the VM has and did not start with: taken into use when the host says so.
//!
//! The kernel leaves them out at boot, so that a VM pays only for what it was asked for. Memory is added in the kernel's
//! blocks, wherever the firmware's map has memory that nobody uses. Blocks are ordinary memory, for the kernel's own
//! needs, too: nothing is ever taken away again, and the description of a block is kept in those that came before.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_api::v1::Extent;

const CPUS: &str = "/sys/devices/system/cpu";
const MEMORY: &str = "/sys/devices/system/memory";
const FIRMWARE: &str = "/sys/firmware/memmap";
/// What the kernel uses of the machine's addresses, and for what.
const IN_USE: &str = "/proc/iomem";
/// How firmware and kernel call ordinary memory.
const RAM: &str = "System RAM";
const MIB: u64 = 1 << 20;
/// What the kernel derives from the memory that it finds at boot.
const DERIVED: [&str; 2] = ["/proc/sys/kernel/threads-max", "/proc/sys/fs/file-max"];

/// Addresses, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    fn holds(&self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    fn touches(&self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What is in use.
pub fn in_use() -> io::Result<Extent> {
    let ranges = used_memory(&read(IN_USE)?);
    Ok(Extent {
        vcpus: count(&read(format!("{CPUS}/online"))?),
        memory_mib: mebibytes(&ranges),
    })
}

/// Takes at least so much into use.
pub async fn to(wanted: &Extent) -> io::Result<Extent> {
    processors(wanted.vcpus).await?;
    let before = in_use()?.memory_mib;
    memory(wanted.memory_mib).await?;
    let now = in_use()?;
    for file in DERIVED {
        scale(Path::new(file), before, now.memory_mib)?;
    }
    Ok(now)
}

async fn processors(wanted: u32) -> io::Result<()> {
    for number in 1.. {
        let online = count(&read(format!("{CPUS}/online"))?);
        if online >= wanted {
            return Ok(());
        }
        let file = PathBuf::from(format!("{CPUS}/cpu{number}/online"));
        if !file.exists() {
            return Err(io::Error::other(format!(
                "the VM has {number} processors, {wanted} are wanted"
            )));
        }
        if read(&file)?.trim() == "0" {
            write(&file, "1")?;
        }
        // Others have their turn.
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn memory(wanted_mib: u64) -> io::Result<()> {
    let size = read(format!("{MEMORY}/block_size_bytes"));
    let size = match size {
        Ok(text) => u64::from_str_radix(text.trim(), 16).map_err(io::Error::other)?,
        // A kernel that cannot grow has what it has.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return enough(wanted_mib),
        Err(error) => return Err(error),
    };
    let all = firmware()?;
    let used = used_memory(&read(IN_USE)?);
    let mut found = mebibytes(&used);
    let block = |address: u64| PathBuf::from(format!("{MEMORY}/memory{}/state", address / size));
    // One that was added and could not be used is not forgotten.
    for range in &used {
        for address in blocks_of(*range, size) {
            put_online(&block(address))?;
        }
    }
    for address in free_blocks(&all, &used, size) {
        if found >= wanted_mib {
            break;
        }
        write(&Path::new(MEMORY).join("probe"), &format!("{address:#x}"))?;
        put_online(&block(address))?;
        found += size / MIB;
        // A block takes a while under emulation: others have their turn.
        tokio::task::yield_now().await;
    }
    enough(wanted_mib)
}

fn enough(wanted_mib: u64) -> io::Result<()> {
    let memory_mib = mebibytes(&used_memory(&read(IN_USE)?));
    if memory_mib >= wanted_mib {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the VM has {memory_mib} MiB of memory and no more to add, {wanted_mib} MiB are wanted"
    )))
}

fn put_online(state: &Path) -> io::Result<()> {
    if read(state)?.trim() == "offline" {
        write(state, "online_kernel")?;
    }
    Ok(())
}

/// Lets a figure that the kernel derived from so much memory grow with it.
fn scale(file: &Path, before_mib: u64, now_mib: u64) -> io::Result<()> {
    match scaled(&read(file)?, before_mib, now_mib) {
        Some(figure) => write(file, &figure.to_string()),
        None => Ok(()),
    }
}

fn scaled(figure: &str, before_mib: u64, now_mib: u64) -> Option<u64> {
    // One that is beyond counting is no limit.
    let figure = u64::from(figure.trim().parse::<u32>().ok()?);
    let scaled = figure * now_mib / before_mib.max(1);
    (scaled > figure).then_some(scaled)
}

/// Aligned blocks that are memory and touch nothing that is used, in the order of addresses.
fn free_blocks(all: &[Range], used: &[Range], size: u64) -> Vec<u64> {
    let mut found: Vec<u64> = all
        .iter()
        .flat_map(|range| blocks_of(*range, size))
        .filter(|address| {
            let block = Range {
                start: *address,
                end: address + size,
            };
            // A block that is used in part has a description already, and cannot have another.
            all.iter().any(|range| range.holds(block)) && !used.iter().any(|range| range.touches(block))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Addresses of the aligned blocks of which a range has some part.
fn blocks_of(range: Range, size: u64) -> impl Iterator<Item = u64> {
    (range.start / size..range.end.div_ceil(size)).map(move |number| number * size)
}

/// What the firmware says is memory.
fn firmware() -> io::Result<Vec<Range>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(FIRMWARE)? {
        let path = entry?.path();
        let address = |name: &str| {
            let text = read(path.join(name))?;
            u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).map_err(io::Error::other)
        };
        if read(path.join("type"))?.trim() == RAM {
            found.push(Range {
                start: address("start")?,
                end: address("end")? + 1,
            });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The memory in the kernel's list: lines such as `00100000-07ffffff : System RAM`; what is within it is indented.
fn used_memory(iomem: &str) -> Vec<Range> {
    let range = |line: &str| {
        let (addresses, what) = line.split_once(" : ")?;
        let (start, end) = addresses.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let end = u64::from_str_radix(end, 16).ok()?;
        (what == RAM).then_some(Range { start, end: end + 1 })
    };
    iomem.lines().filter_map(range).collect()
}

/// All together, with the little that firmware keeps for itself below the first MiB.
fn mebibytes(ranges: &[Range]) -> u64 {
    let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    bytes.div_ceil(MIB)
}

/// How many there are in a list such as `0-2,5`.
fn count(list: &str) -> u32 {
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.saturating_sub(first) + 1)
    };
    list.trim().split(',').filter_map(one).sum()
}

fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|error| told(path, &error))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text).map_err(|error| told(path, &error))
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 128 * MIB;

    fn ranges(list: &[(u64, u64)]) -> Vec<Range> {
        let range = |(start, end): &(u64, u64)| Range {
            start: start * MIB,
            end: end * MIB,
        };
        list.iter().map(range).collect()
    }

    #[test]
    fn blocks_that_can_be_added() {
        type List = &'static [(u64, u64)];
        type Case = (List, List, &'static [u64]);
        let cases: [Case; 6] = [
            // All of it is used.
            (&[(1, 256)], &[(1, 256)], &[]),
            // The beginning and the end are, and with them the rest of their blocks.
            (&[(1, 768)], &[(1, 64), (704, 768)], &[128, 256, 384, 512]),
            (&[(1, 768)], &[(1, 128), (640, 768)], &[128, 256, 384, 512]),
            // Firmware has parts of blocks; two ranges of one block are none.
            (&[(1, 200), (200, 300)], &[(1, 64)], &[]),
            // Around the hole for devices.
            (
                &[(1, 512), (4096, 4400)],
                &[(1, 128), (384, 512), (4096, 4100)],
                &[128, 256, 4224],
            ),
            // What was added shows up in the firmware's map again.
            (
                &[(1, 768), (128, 256)],
                &[(1, 128), (128, 256), (640, 768)],
                &[256, 384, 512],
            ),
        ];
        for (all, used, expected) in cases {
            let found = free_blocks(&ranges(all), &ranges(used), BLOCK);
            let found: Vec<u64> = found.iter().map(|address| address / MIB).collect();
            assert_eq!(found, expected, "{all:?} {used:?}");
        }
    }

    #[test]
    fn what_the_kernel_lists() {
        let list = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n000f0000-000fffff : System ROM\n\
                    00100000-07ffffff : System RAM\n  01000000-0180010f : Kernel code\nbc000000-bfffffff : System RAM\n";
        let found = used_memory(list);
        assert_eq!(found.len(), 3);
        assert_eq!(mebibytes(&found), 192);
        for (list, expected) in [("0\n", 1), ("0-3\n", 4), ("0,2-3\n", 3), ("\n", 0)] {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }

    #[test]
    fn figures_follow_memory() {
        let cases = [
            ("1000\n", 128, 512, Some(4000)),
            ("1000\n", 512, 512, None),
            ("9223372036854775807\n", 128, 512, None),
        ];
        for (figure, before, now, expected) in cases {
            assert_eq!(scaled(figure, before, now), expected, "{figure:?}");
        }
    }
}
