//! IP addresses and networks as the oldest fields of the API read them: numbers may begin with zeros, and an IPv4 address
//! may be written as an IPv6 one. What is read so is stored as it was written, and warned of
//! (`apimachinery/pkg/util/validation/ip.go`, KEP-4858).

use kinds::field::Path;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads an address.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    if let Some(four) = four(text) {
        return Some(IpAddr::V4(four));
    }
    if !text.contains(':') {
        return None;
    }
    let six: Ipv6Addr = match text.rsplit_once(':') {
        // Its last part is an IPv4 address.
        Some((head, tail)) if tail.contains('.') => format!("{head}:{}", four(tail)?).parse().ok()?,
        _ => text.parse().ok()?,
    };
    Some(IpAddr::V6(six).to_canonical())
}

/// Reads an IPv4 address.
pub fn legacy_ipv4(text: &str) -> Option<Ipv4Addr> {
    match address(text)? {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

fn four(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *octet = match part.trim_start_matches('0') {
            "" => 0,
            digits => digits.parse().ok()?,
        };
    }
    parts.next().is_none().then_some(Ipv4Addr::from(octets))
}

/// Reads a network: its address as it is written, and the length of its prefix.
pub(crate) fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (head, bits) = text.split_once('/')?;
    let all_digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits: u8 = match bits.trim_start_matches('0') {
        "" if all_digits => 0,
        digits if all_digits => digits.parse().ok()?,
        _ => return None,
    };
    let ip = address(head)?;
    let most = if head.contains(':') { 128 } else { 32 };
    (bits <= most).then(|| match ip {
        // An IPv4 address in IPv6 clothes.
        IpAddr::V4(_) if most == 128 => (ip, bits.saturating_sub(96)),
        _ => (ip, bits),
    })
}

/// The first address of a network.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// What is wrong with an address by the strict rule.
pub(crate) fn strict_address(text: &str) -> Vec<String> {
    let Some(ip) = address(text) else {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()];
    };
    match text.parse::<IpAddr>() {
        Err(_) => vec!["must not have leading 0s".into()],
        Ok(strict) if strict != ip => vec!["must not be an IPv4-mapped IPv6 address".into()],
        Ok(_) => canonical(text, ip.to_string()),
    }
}

/// What is wrong with a network by the strict rule.
pub(crate) fn strict_network(text: &str) -> Vec<String> {
    let Some((ip, bits)) = network(text) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".into()];
    };
    let (head, tail) = text.split_once('/').unwrap_or_default();
    let strict = head.parse::<IpAddr>();
    let padded = tail.len() > 1 && tail.starts_with('0');
    match strict {
        Ok(strict) if !padded => {
            if strict != ip {
                vec!["must not have an IPv4-mapped IPv6 address".into()]
            } else if masked(ip, bits) != ip {
                vec!["must not have bits set beyond the prefix length".into()]
            } else {
                canonical(text, format!("{ip}/{bits}"))
            }
        }
        _ => vec!["must not have leading 0s in IP or prefix length".into()],
    }
}

/// What is wrong with an address of an interface, which has the length of its network's prefix behind it.
pub(crate) fn strict_interface(text: &str) -> Vec<String> {
    match network(text) {
        None => vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".into()],
        Some((ip, bits)) => canonical(text, format!("{ip}/{bits}")),
    }
}

fn canonical(text: &str, wanted: String) -> Vec<String> {
    match text == wanted {
        true => Vec::new(),
        false => vec![format!("must be in canonical form ({wanted:?})")],
    }
}

/// What is to be said of an address that was read and is not written as it should be.
pub(crate) fn address_warning(at: &Path, text: &str) -> Option<String> {
    let ip = address(text)?;
    match text.parse::<IpAddr>() {
        Ok(strict) if strict == ip => {
            let canonical = strict.to_string();
            (strict.is_ipv6() && canonical != text).then(|| {
                format!("{at}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})")
            })
        }
        _ => Some(format!(
            "{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \
             \"{ip}\""
        )),
    }
}

/// The same of a network.
pub(crate) fn network_warnings(at: &Path, text: &str) -> Vec<String> {
    let Some((ip, bits)) = network(text) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let first = masked(ip, bits);
    if first != ip {
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        out.push(format!(
            "{at}: CIDR value {text:?} is ambiguous in this context (should be \"{first}/{bits}\" or \"{ip}/{whole}\"?)"
        ));
    }
    let (head, tail) = text.split_once('/').unwrap_or_default();
    if head.parse() != Ok(ip) || tail != bits.to_string() {
        out.push(format!(
            "{at}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use \
             \"{first}/{bits}\""
        ));
    }
    let canonical = format!("{ip}/{bits}");
    if out.is_empty() && ip.is_ipv6() && canonical != text {
        out.push(format!(
            "{at}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_forms_are_read_and_warned_of() {
        let cases = [
            ("10.0.0.1", Some("10.0.0.1"), ""),
            ("010.002.003.004", Some("10.2.3.4"), "use \"10.2.3.4\""),
            ("::ffff:1.2.3.4", Some("1.2.3.4"), "use \"1.2.3.4\""),
            ("2001:DB8::1", Some("2001:db8::1"), "(\"2001:db8::1\")"),
            ("1.2.3", None, ""),
            ("1.2.3.256", None, ""),
            ("1.2.3.4.5", None, ""),
            ("fe80::1%eth0", None, ""),
            ("", None, ""),
        ];
        let at = Path::new("ip");
        for (text, read, warning) in cases {
            assert_eq!(address(text).map(|ip| ip.to_string()).as_deref(), read, "{text}");
            let told = address_warning(&at, text).unwrap_or_default();
            assert!(
                told.ends_with(warning) && told.is_empty() == warning.is_empty(),
                "{text}: {told}"
            );
        }
        let cases = [
            ("10.0.0.0/8", Some(8), ""),
            (
                "10.0.0.1/8",
                Some(8),
                "(should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)",
            ),
            ("010.0.0.0/08", Some(8), "use \"10.0.0.0/8\""),
            ("2001:DB8::/32", Some(32), "(\"2001:db8::/32\")"),
            ("10.0.0.0/33", None, ""),
            ("10.0.0.0", None, ""),
            ("10.0.0.0/+8", None, ""),
        ];
        for (text, read, warning) in cases {
            assert_eq!(network(text).map(|(_, bits)| bits), read, "{text}");
            let told = network_warnings(&at, text).join(" ");
            assert!(
                told.ends_with(warning) && told.is_empty() == warning.is_empty(),
                "{text}: {told}"
            );
        }
    }
}
