//! Quantities: fixed-point numbers with decimal or binary suffixes, in upstream's canonical form.
//!
//! A quantity is an integer number of nano-units here (i128): upstream rounds up to nano as well. The format it
//! was written in (binary, decimal, exponent) is kept, because the canonical text depends on it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;

/// How a quantity was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `1500Mi`
    BinarySi,
    /// `1500m`, `3`, `2G`
    DecimalSi,
    /// `1e3`
    DecimalExponent,
}

/// A number with a suffix.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// The text is not a quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// It does not look like one.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// It does, but nothing is called as its end.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let Parts {
            negative,
            whole,
            fraction,
            suffix,
        } = parts(text)?;
        let (unit, format) = unit(suffix).ok_or(ParseQuantityError::Suffix)?;
        let sign = if negative { -1 } else { 1 };
        let mantissa = number(whole, fraction).saturating_mul(sign);
        let decimals = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        Ok(Self {
            nano: scale(mantissa, decimals, unit),
            format,
        })
    }
}

/// The number that two rows of digits are, one behind the other; what is too large is the largest there is.
fn number(whole: &str, fraction: &str) -> i128 {
    let mut digits = whole.bytes().chain(fraction.bytes());
    if whole.len() + fraction.len() <= 18 {
        return i128::from(digits.fold(0_i64, |sum, digit| sum * 10 + i64::from(digit - b'0')));
    }
    let number = digits.try_fold(0_i128, |sum, digit| {
        sum.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
    });
    number.unwrap_or(i128::MAX)
}

/// The parts of a text that looks like a quantity.
struct Parts<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
    suffix: &'t str,
}

/// Takes a text apart. What has no digits at all is zero to upstream.
fn parts(text: &str) -> Result<Parts<'_>, ParseQuantityError> {
    if text.is_empty() {
        return Err(ParseQuantityError::Form);
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let letters = suffix
        .bytes()
        .take_while(|byte| b"eEinumkKMGTP".contains(byte))
        .count();
    let exponent = &suffix[letters..];
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    if digits(exponent) != exponent.len() {
        return Err(ParseQuantityError::Form);
    }
    Ok(Parts {
        negative: text.starts_with('-'),
        whole,
        fraction,
        suffix,
    })
}

/// What a number is multiplied by.
#[derive(Clone, Copy)]
enum Unit {
    Bits(u32),
    Power(i32),
}

fn unit(suffix: &str) -> Option<(Unit, Format)> {
    if suffix.is_empty() {
        return Some((Unit::Power(0), Format::DecimalSi));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Unit::Bits(*bits), Format::BinarySi));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Unit::Power(*exponent), Format::DecimalSi));
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    Some((Unit::Power(digits.parse().ok()?), Format::DecimalExponent))
}

/// The number in nano-units; what is too large is the largest there is.
fn scale(mantissa: i128, decimals: i32, unit: Unit) -> i128 {
    let largest = if mantissa < 0 { -i128::MAX } else { i128::MAX };
    let scaled = match unit {
        Unit::Bits(bits) => mantissa
            .checked_mul(1_i128 << bits)
            .and_then(|scaled| divide_up(scaled.checked_mul(NANO)?, decimals)),
        Unit::Power(exponent) => {
            let power = exponent.saturating_add(9).saturating_sub(decimals);
            match power >= 0 && mantissa != 0 {
                true => ten_to_the(power.unsigned_abs()).and_then(|factor| mantissa.checked_mul(factor)),
                false => divide_up(mantissa, power.saturating_neg().max(0)),
            }
        }
    };
    scaled.unwrap_or(largest)
}

fn ten_to_the(power: u32) -> Option<i128> {
    const POWERS: [i128; 39] = {
        let mut powers = [1; 39];
        let mut at = 1;
        while at < powers.len() {
            powers[at] = powers[at - 1] * 10;
            at += 1;
        }
        powers
    };
    POWERS.get(power as usize).copied()
}

/// Divides by a power of ten, away from zero: upstream never rounds a request down.
fn divide_up(value: i128, decimals: i32) -> Option<i128> {
    if decimals == 0 {
        return Some(value);
    }
    let Some(divisor) = ten_to_the(decimals.unsigned_abs()) else {
        return Some(value.signum());
    };
    // Nearly all numbers are small, and the division of large ones is slow.
    if let (Ok(value), Ok(divisor)) = (i64::try_from(value), i64::try_from(divisor)) {
        let quotient = value / divisor;
        let up = if value % divisor == 0 { 0 } else { value.signum() };
        return Some(i128::from(quotient + up));
    }
    let quotient = value / divisor;
    Some(if value % divisor == 0 {
        quotient
    } else {
        quotient + value.signum()
    })
}

/// Blanks around a quantity are no fault to upstream; what JSON writes with a backslash is.
fn without_blanks(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() && !c.is_control())
}

/// Whether upstream's parser takes a text for a canonical one, and keeps it (`ParseQuantity`).
fn is_kept(text: &str) -> bool {
    const MOST_DIGITS: usize = 18;
    let Ok(Parts {
        whole,
        fraction,
        suffix,
        ..
    }) = parts(text)
    else {
        return false;
    };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let Some((unit, _)) = unit(suffix) else {
        return false;
    };
    let places = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    match unit {
        Unit::Power(exponent) => {
            let scale = exponent.saturating_sub(places);
            let digits = format!("{whole}{fraction}");
            let short = digits.len() <= MOST_DIGITS && scale >= -9;
            short && scale % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0')
        }
        Unit::Bits(bits) => {
            let taken = u32::try_from(whole.len())
                .unwrap_or(u32::MAX)
                .saturating_add(bits * 3 / 10);
            let odd = whole.parse::<i64>().is_ok_and(|value| value & 7 != 0);
            fraction.is_empty() && taken < 15 && odd
        }
    }
}

impl Quantity {
    /// Zero, decimal.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::DecimalSi,
    };

    /// A whole number of bytes, written in binary units.
    pub fn from_bytes(bytes: i128) -> Self {
        Self {
            nano: bytes.saturating_mul(NANO),
            format: Format::BinarySi,
        }
    }

    /// A whole number, written in decimal units.
    pub fn from_units(units: i128) -> Self {
        Self {
            nano: units.saturating_mul(NANO),
            format: Format::DecimalSi,
        }
    }

    /// Thousandths, written in decimal units.
    pub fn from_milli(milli: i128) -> Self {
        Self {
            nano: milli.saturating_mul(NANO / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Reads a JSON string or number.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, ParseQuantityError> {
        match value {
            serde_json::Value::String(text) => without_blanks(text).parse(),
            serde_json::Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseQuantityError::Form),
        }
    }

    /// The text as which upstream writes the quantity that a JSON value is: as it came, where it looks as if it were written
    /// in the canonical way (`4.`, `+4` and `4e+3` do), else written anew.
    pub fn text_of(value: &serde_json::Value) -> Result<String, ParseQuantityError> {
        let quantity = Self::from_json(value)?;
        let given = match value {
            serde_json::Value::String(text) => without_blanks(text).to_owned(),
            other => other.to_string(),
        };
        let too_large = quantity.nano.unsigned_abs() == i128::MAX.unsigned_abs();
        match too_large || is_kept(&given) {
            true => Ok(given),
            false => Ok(quantity.to_string()),
        }
    }

    /// The value in whole units, rounded up.
    pub fn value(&self) -> i128 {
        divide_up(self.nano, 9).unwrap_or(0)
    }

    /// The value in thousandths, rounded up.
    pub fn as_milli(&self) -> i128 {
        divide_up(self.nano, 6).unwrap_or(0)
    }

    /// The same, or the next that is a number of thousandths, in the format in which it is.
    #[must_use]
    pub fn up_to_milli(&self) -> Self {
        Self {
            nano: self.as_milli().saturating_mul(NANO / 1000),
            format: self.format,
        }
    }

    /// The next whole number of units, away from zero.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self {
            nano: self.value().saturating_mul(NANO),
            format: self.format,
        }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// The sum; the format is that of the first unless it is zero.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self {
            nano: self.nano.saturating_add(other.nano),
            format,
        }
    }

    /// The difference.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self {
            nano: self.nano.saturating_sub(other.nano),
            format,
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return formatter.write_str("0");
        }
        // Binary suffixes only for whole numbers of at least 1 Ki, as upstream.
        if self.format == Format::BinarySi && self.nano % NANO == 0 && (self.nano / NANO).abs() >= 1024 {
            let mut value = self.nano / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if value % 1024 != 0 {
                    break;
                }
                value /= 1024;
                suffix = name;
            }
            return write!(formatter, "{value}{suffix}");
        }
        let mut value = self.nano;
        let mut exponent = -9;
        while value % 1000 == 0 && exponent < 18 {
            value /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 {
                write!(formatter, "{value}")
            } else {
                write!(formatter, "{value}e{exponent}")
            };
        }
        let suffix = DECIMAL
            .iter()
            .find(|(_, power)| *power == exponent)
            .map_or("", |(name, _)| name);
        write!(formatter, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_upstreams() {
        let cases = [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100Mi", "100Mi"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1e3", "1e3"),
            ("12E", "12E"),
            ("0.5Ki", "512"),
            ("-1.5Gi", "-1536Mi"),
            ("+4", "4"),
            (".5", "500m"),
            ("4.", "4"),
            ("0.0000000001", "1n"),
        ];
        for (text, expected) in cases {
            let quantity: Quantity = text.parse().expect(text);
            assert_eq!(quantity.to_string(), expected, "{text}");
            let again: Quantity = quantity.to_string().parse().expect(text);
            assert_eq!(again, quantity, "{text}: canonical text is a fixed point");
        }
        for bad in ["", "1 Gi", "1.2.3", "abc", "4x"] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseQuantityError::Form), "{bad}");
        }
        for bad in ["1mi", "--1", "1e", "4Ee3"] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseQuantityError::Suffix), "{bad}");
        }
        for nothing in [".", "-", "m", "Mi"] {
            assert_eq!(nothing.parse::<Quantity>(), Ok(Quantity::ZERO), "{nothing}");
        }
    }

    #[test]
    fn what_looks_canonical_is_kept() {
        let cases = [
            ("4.", "4."),
            ("+4", "+4"),
            ("4e+3", "4e+3"),
            ("4E3", "4E3"),
            ("1e30", "1e30"),
            ("1.m", "1.m"),
            ("1Ki", "1Ki"),
            (" 4 ", "4"),
            ("8Ki", "8Ki"),
            (".5", "500m"),
            ("00", "0"),
            ("1000m", "1"),
            ("1.50", "1500m"),
            ("1024Mi", "1Gi"),
        ];
        for (text, expected) in cases {
            assert_eq!(Quantity::text_of(&text.into()).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(Quantity::text_of(&"4\n".into()), Err(ParseQuantityError::Form));
    }

    #[test]
    fn arithmetic_rounds_up() {
        let quantity = |text: &str| text.parse::<Quantity>().expect(text);
        assert_eq!(quantity("1500m").value(), 2);
        assert_eq!(quantity("100u").as_milli(), 1);
        assert_eq!(quantity("1Gi").add(&quantity("512Mi")).to_string(), "1536Mi");
        assert_eq!(quantity("2").sub(&quantity("500m")).to_string(), "1500m");
        assert!(quantity("1Gi") > quantity("1G"));
    }
}
