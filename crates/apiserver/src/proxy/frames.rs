//! Where the messages of a WebSocket end, in bytes that are passed on without a look into them (RFC 6455, section 5.2).
//!
//! A backend writes message after message, and upstream's proxy passes on each as it came: as one TLS record. Clients have
//! come to rely on it: Python's waits for the socket to be readable before each message, and would wait for ever for one
//! that lies decrypted in its TLS library because it shared a record with the one before.

/// Follows one direction of a WebSocket.
#[derive(Default)]
pub(super) struct Frames {
    /// The head of the current frame, as far as it has come.
    head: [u8; 14],
    known: usize,
    /// Bytes of the current frame that are still to come after its head.
    rest: u64,
}

impl Frames {
    /// How many of these bytes belong to the current frame: all of them, or those up to its end.
    pub(super) fn cut(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.rest == 0 {
            let Some(byte) = bytes.get(used) else {
                return used;
            };
            self.head[self.known] = *byte;
            self.known += 1;
            used += 1;
            let Some(length) = payload(&self.head[..self.known]) else {
                continue;
            };
            self.known = 0;
            self.rest = length;
            if length == 0 {
                return used;
            }
        }
        let here = usize::try_from(self.rest)
            .unwrap_or(usize::MAX)
            .min(bytes.len() - used);
        self.rest -= here as u64;
        used + here
    }
}

/// Length of the payload once the head of a frame is complete.
fn payload(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let (extended, mask) = (usize::from(second & 0x7f), if second & 0x80 == 0 { 0 } else { 4 });
    let more = match extended {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if head.len() < 2 + more + mask {
        return None;
    }
    if more == 0 {
        return Some(extended as u64);
    }
    let bytes = &head[2..2 + more];
    Some(
        bytes
            .iter()
            .fold(0, |length, byte| length << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![7; if masked { 4 } else { 0 }]);
        bytes.extend(vec![8; length]);
        bytes
    }

    #[test]
    fn pieces_end_where_frames_end() {
        let frames: Vec<_> = [0, 1, 125, 126, 300, 65_535, 65_536, 0, 4]
            .into_iter()
            .flat_map(|length| [frame(length, false), frame(length, true)])
            .collect();
        let all = frames.concat();
        for step in [1, 2, 3, 7, 1000, all.len()] {
            let mut cutter = Frames::default();
            let mut ends = Vec::new();
            let mut at = 0;
            for chunk in all.chunks(step) {
                let mut left = chunk;
                while !left.is_empty() {
                    let length = cutter.cut(left);
                    assert!(length > 0, "it moves on");
                    left = &left[length..];
                    at += length;
                    if cutter.rest == 0 && cutter.known == 0 {
                        ends.push(at);
                    }
                }
            }
            let mut end = 0;
            let expected: Vec<_> = frames
                .iter()
                .map(|frame| {
                    end += frame.len();
                    end
                })
                .collect();
            assert_eq!(ends, expected, "in steps of {step}");
        }
    }
}
