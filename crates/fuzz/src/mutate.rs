//! Makes new inputs out of samples: bits, bytes, lengths, repetitions, words of the language, pieces of other samples.

/// A source of inputs; the same seed gives the same inputs.
pub struct Mutator {
    state: u64,
    words: &'static [&'static str],
}

/// Bytes that parsers stumble over.
const EDGES: [u8; 12] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'"', b'\\', b'\n', b'%', b'{', b'['];

impl Mutator {
    /// Begins at a seed; `words` are those of the target's language.
    pub fn new(seed: u64, words: &'static [&'static str]) -> Mutator {
        Mutator {
            state: seed | 1,
            words,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % bound.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// A mutation of one of the samples, at most `limit` bytes long.
    pub fn input(&mut self, samples: &[Vec<u8>], limit: usize) -> Vec<u8> {
        let mut bytes = self.of(samples).clone();
        let steps = 1 + self.below(6);
        for _ in 0..steps {
            self.step(&mut bytes, samples);
            bytes.truncate(limit);
        }
        bytes
    }

    fn step(&mut self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let scale = self.below(7);
        let length = 1 + self.below(1 << scale);
        let end = (at + length).min(bytes.len());
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = *self.of(&EDGES),
            2 => drop(bytes.drain(at..end)),
            3 => {
                // The same again and again: depth and length.
                let piece = bytes[at..end].to_vec();
                let times = 1 << self.below(9);
                bytes.splice(at..at, piece.repeat(times));
            }
            4 => {
                let other = self.of(samples);
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(200)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            5 if !self.words.is_empty() => {
                let word = *self.of(self.words);
                bytes.splice(at..at, word.bytes());
            }
            6 => bytes.truncate(at),
            7 if bytes.len() >= at + 4 => {
                // A number of a binary format.
                let number: u32 = *self.of(&[0, 1, 127, 128, 255, 256, 65_535, u32::MAX >> 1, u32::MAX]);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            _ => bytes.insert(at, self.below(256) as u8),
        }
    }
}
