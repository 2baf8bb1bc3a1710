//! The order of keys in a written mapping: as people count (`a2` before `a10`), and what is no letter before letters.

/// Sorts entries by key.
///
/// By merging of our own: for runs of digits that no machine number holds, the comparison contradicts itself, upon which
/// the sort of the standard library may panic.
pub(super) fn sorted<T: Copy>(entries: impl Iterator<Item = (T, Vec<char>)>) -> Vec<T> {
    let mut runs: Vec<Vec<(T, Vec<char>)>> = entries.map(|entry| vec![entry]).collect();
    while runs.len() > 1 {
        let mut next = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            next.push(match pairs.next() {
                Some(right) => merged(left, right),
                None => left,
            });
        }
        runs = next;
    }
    runs.pop()
        .unwrap_or_default()
        .into_iter()
        .map(|(entry, _)| entry)
        .collect()
}

fn merged<T>(left: Vec<(T, Vec<char>)>, right: Vec<(T, Vec<char>)>) -> Vec<(T, Vec<char>)> {
    let mut whole = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let is_right = is_less(&r.1, &l.1);
        whole.extend(if is_right { right.next() } else { left.next() });
    }
    whole.extend(left);
    whole.extend(right);
    whole
}

/// The standard library knows no Unicode categories; what differs from Go's letters are a few marks.
fn is_letter(c: char) -> bool {
    c.is_alphabetic() && !c.is_numeric()
}

fn is_less(a: &[char], b: &[char]) -> bool {
    let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) else {
        return a.len() < b.len();
    };
    let (x, y) = (a[at], b[at]);
    match (is_letter(x), is_letter(y)) {
        (true, true) => return x < y,
        (false, false) => {}
        (_, is_right_letter) => return is_right_letter,
    }
    // A zero within a number counts as a digit of it, for which the number is taken to begin with a one.
    let is_within = (x == '0' || y == '0')
        && a[..at]
            .iter()
            .rev()
            .take_while(|c| c.is_ascii_digit())
            .any(|c| *c != '0');
    let run = |chars: &[char]| {
        let digits = chars[at..].iter().take_while(|c| c.is_ascii_digit());
        digits.fold((i64::from(is_within), at), |(number, end), digit| {
            let digit = i64::from(*digit as u32) - i64::from(b'0');
            (number.wrapping_mul(10).wrapping_add(digit), end + 1)
        })
    };
    let (left, right) = (run(a), run(b));
    if left != right { left < right } else { x < y }
}
