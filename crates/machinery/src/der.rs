//! The few steps through DER that judging keys and requests takes: tag, length, content. Lengths of more than four bytes are
//! nothing that a certificate has.

/// The first value: its tag, its content, and what comes after it.
pub(crate) fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&short, mut rest) = rest.split_first()?;
    let mut length = usize::from(short);
    if short & 0x80 != 0 {
        let count = usize::from(short & 0x7f);
        if !(1..=4).contains(&count) || rest.len() < count {
            return None;
        }
        let (digits, after) = rest.split_at(count);
        length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    (rest.len() >= length).then(|| (tag, &rest[..length], &rest[length..]))
}

/// The values one after the other, until one cannot be read.
pub(crate) fn values(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((tag, content, rest)) = first(bytes) {
        found.push((tag, content));
        bytes = rest;
    }
    found
}

/// The values in a sequence that is all there is.
pub(crate) fn sequence(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    match first(bytes)? {
        (0x30, content, []) => Some(values(content)),
        _ => None,
    }
}
