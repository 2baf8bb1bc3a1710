//! Where in a VM's memory lies what it starts with, and where what it may grow by.
//!
//! QEMU gets the most memory that a VM may have, without paying for it before the guest touches it. The kernel is told to
//! leave out the middle while it boots; to grow, the guest agent adds blocks of that. QEMU puts the initramfs at the end of
//! what lies below the hole for devices, so that a VM starts with that end, too: left out, it would be copied, and the
//! original would stay for good.

use crate::vm::VmSpec;

/// The kernel adds memory in blocks of this, aligned to it.
const BLOCK_MIB: u64 = 128;
/// QEMU's `microvm` has memory up to here, and the rest of it from [`HIGH_MIB`] on.
const LOW_MIB: u64 = 3 << 10;
const HIGH_MIB: u64 = 4 << 10;

/// How much memory QEMU gets: what the VM starts with may end within a block or two, which then cannot be added.
pub(super) fn memory_mib(spec: &VmSpec) -> u64 {
    if !grows(spec) {
        return spec.memory_mib;
    }
    spec.most_memory_mib.next_multiple_of(BLOCK_MIB) + 2 * BLOCK_MIB
}

fn grows(spec: &VmSpec) -> bool {
    spec.most_memory_mib > spec.memory_mib
}

/// What the kernel leaves out while it boots: sizes and addresses.
fn left_out(start: u64, all: u64) -> Vec<(u64, u64)> {
    let low = all.min(LOW_MIB);
    let high = all - low;
    let (middle, above) = if start < low {
        // As few blocks as without the room: the kernel keeps a description of each whole one.
        let first = match start {
            0..=BLOCK_MIB => start / 2,
            _ => (start - 1) / BLOCK_MIB * BLOCK_MIB,
        };
        ((low - start, first), (high, HIGH_MIB))
    } else {
        let more = start - low;
        ((0, 0), (high - more, HIGH_MIB + more))
    };
    [middle, above]
        .into_iter()
        .filter(|(size, _)| *size > 0)
        .collect()
}

/// The words of the kernel's command line for a VM that may grow.
pub(super) fn words(spec: &VmSpec) -> Vec<String> {
    let mut words = Vec::new();
    if grows(spec) {
        let ranges = left_out(spec.memory_mib, memory_mib(spec));
        // `-1`: what was memory (e820 type 1) is nothing.
        let ranges: Vec<String> = ranges
            .iter()
            .map(|(size, at)| format!("{size}M%{at}M-1"))
            .collect();
        words.push(format!("memmap={}", ranges.join(",")));
    }
    if spec.most_vcpus > spec.vcpus {
        words.push(format!("maxcpus={}", spec.vcpus));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_boot_leaves_out() {
        type Case = (u64, u64, &'static [(u64, u64)]);
        let cases: [Case; 7] = [
            (128, 768, &[(640, 64)]),
            (192, 2304, &[(2112, 128)]),
            (256, 2304, &[(2048, 128)]),
            (512, 3072, &[(2560, 384)]),
            (192, 8448, &[(2880, 128), (5376, 4096)]),
            (3072, 8448, &[(5376, 4096)]),
            (4000, 8448, &[(4448, 5024)]),
        ];
        for (start, all, expected) in cases {
            let found = left_out(start, all);
            assert_eq!(found, expected, "{start} of {all}");
            let sum: u64 = found.iter().map(|(size, _)| size).sum();
            assert_eq!(all - sum, start, "{start} of {all}");
        }
    }
}
