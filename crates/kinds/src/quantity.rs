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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

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
        let end = text
            .char_indices()
            .find(|(index, c)| !(c.is_ascii_digit() || *c == '.' || (*index == 0 && matches!(c, '+' | '-'))))
            .map_or(text.len(), |(index, _)| index);
        let (number, suffix) = text.split_at(end);
        let (mantissa, decimals) = parse_number(number).ok_or(ParseQuantityError)?;
        let (nano, format) = scale(mantissa, decimals, suffix).ok_or(ParseQuantityError)?;
        Ok(Self { nano, format })
    }
}

/// `-12.50` as (-1250, 2).
fn parse_number(text: &str) -> Option<(i128, i32)> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let value = format!("{whole}{fraction}").parse::<i128>().ok()?;
    Some((
        if negative { -value } else { value },
        i32::try_from(fraction.len()).ok()?,
    ))
}

fn scale(mantissa: i128, decimals: i32, suffix: &str) -> Option<(i128, Format)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        let scaled = mantissa.checked_mul(1_i128 << bits)?.checked_mul(NANO)?;
        return Some((divide_up(scaled, decimals)?, Format::BinarySi));
    }
    let (exponent, format) = if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        (*exponent, Format::DecimalSi)
    } else {
        let digits = suffix.strip_prefix(['e', 'E'])?;
        (digits.parse::<i32>().ok()?, Format::DecimalExponent)
    };
    let power = exponent.checked_add(9)?.checked_sub(decimals)?;
    let nano = if power >= 0 {
        mantissa.checked_mul(10_i128.checked_pow(power.unsigned_abs())?)?
    } else {
        divide_up(mantissa, -power)?
    };
    Some((nano, format))
}

/// Divides by a power of ten, away from zero: upstream never rounds a request down.
fn divide_up(value: i128, decimals: i32) -> Option<i128> {
    let Some(divisor) = 10_i128.checked_pow(decimals.unsigned_abs()) else {
        return Some(value.signum());
    };
    let quotient = value / divisor;
    Some(if value % divisor == 0 {
        quotient
    } else {
        quotient + value.signum()
    })
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
            // Blanks around it are no fault to upstream.
            serde_json::Value::String(text) => text.trim().parse(),
            serde_json::Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseQuantityError),
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
        for bad in ["", "Mi", "1 Gi", "1.2.3", "1mi", "--1", "1e", "abc"] {
            assert_eq!(bad.parse::<Quantity>(), Err(ParseQuantityError), "{bad}");
        }
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
