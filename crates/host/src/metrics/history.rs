//! The last hour of a VM: a point every quarter of a minute, in a ring of a fixed size, so that a chart need not begin
//! empty. About 20 kB a VM.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::Sample;
use crate::size::VmSize;

/// Seconds between two points.
pub const STEP: u64 = 15;
/// Points in an hour.
const KEPT: usize = (3600 / STEP) as usize;
/// What a point consists of, in this order: seconds since 1970; billionths of a core and bytes of the containers and of
/// the VM; waiting for a processor in billionths of a core; bytes of memory that the guest really uses; bytes a second; bytes
/// of the VM's memory that the host has for others.
const COLUMNS: [&str; 12] = [
    "time",
    "cpu",
    "memory",
    "vmCpu",
    "vmMemory",
    "cpuReady",
    "memoryActive",
    "networkReceived",
    "networkSent",
    "diskRead",
    "diskWritten",
    "memoryBallooned",
];

/// Points and the counters of the last of them.
#[derive(Default)]
pub struct Ring {
    points: VecDeque<[u64; COLUMNS.len()]>,
    last: Option<Counters>,
}

struct Counters {
    millis: i64,
    cpu: u64,
    containers: u64,
    ready: u64,
    bytes: [u64; 4],
}

impl Ring {
    /// Adds a point; of a guest that does not answer there is none.
    pub fn push(&mut self, size: &VmSize, sample: &Sample) {
        let Some(guest) = &sample.guest else {
            return;
        };
        let now = Counters {
            millis: sample.time.as_millisecond(),
            cpu: sample.cpu_ns,
            containers: guest.containers.iter().map(|c| c.cpu_usage_ns).sum(),
            ready: sample.cpu_ready_ns,
            bytes: [
                guest.rx_bytes,
                guest.tx_bytes,
                guest.disk_read_bytes,
                guest.disk_written_bytes,
            ],
        };
        if let Some(before) = &self.last {
            let millis = u64::try_from(now.millis - before.millis).unwrap_or(0).max(1);
            // A counter that fell belongs to a VM that was started again.
            let rate = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(1000) / millis;
            if self.points.len() >= KEPT {
                self.points.pop_front();
            }
            self.points.push_back([
                u64::try_from(now.millis / 1000).unwrap_or(0),
                rate(now.containers, before.containers),
                guest.containers.iter().map(|c| c.memory_working_set).sum(),
                rate(now.cpu, before.cpu),
                sample.memory_bytes,
                rate(now.ready, before.ready),
                guest.memory_total.saturating_sub(guest.memory_available),
                rate(now.bytes[0], before.bytes[0]),
                rate(now.bytes[1], before.bytes[1]),
                rate(now.bytes[2], before.bytes[2]),
                rate(now.bytes[3], before.bytes[3]),
                sample.ballooned_bytes(size),
            ]);
        }
        self.last = Some(now);
    }

    /// As charts read it.
    pub fn to_json(&self) -> Value {
        json!({"seconds": STEP, "columns": COLUMNS, "points": self.points})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_api::v1::StatsReply;
    use jiff::Timestamp;

    #[test]
    fn an_hour_is_kept() {
        let mut ring = Ring::default();
        let size = VmSize {
            vcpus: 1,
            memory_mib: 1,
            needed_mib: 1,
            cpu_request_millis: None,
            cpu_limit_millis: None,
            ephemeral_bytes: None,
        };
        for number in 0..300_u64 {
            let sample = Sample {
                time: Timestamp::from_second(1_000_000 + i64::try_from(number).expect("small") * 15)
                    .expect("a time"),
                at: std::time::Instant::now(),
                cpu_ns: number * 7_500_000_000,
                cpu_nano_cores: 0,
                cpu_ready_ns: 0,
                window: std::time::Duration::ZERO,
                memory_bytes: 5,
                guest: Some(StatsReply {
                    rx_bytes: number * 150,
                    memory_total: 9,
                    memory_available: 2,
                    ..StatsReply::default()
                }),
                containers: std::collections::HashMap::new(),
            };
            ring.push(&size, &sample);
        }
        let json = ring.to_json();
        assert_eq!(json["points"].as_array().map(Vec::len), Some(240));
        assert_eq!(
            json["points"][239],
            json!([1_004_485, 0, 0, 500_000_000, 5, 0, 7, 10, 0, 0, 0, (1 << 20) - 5])
        );
    }
}
