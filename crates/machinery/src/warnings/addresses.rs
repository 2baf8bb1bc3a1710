//! Warnings of addresses that are written otherwise than they should be.

use crate::validation::names;
use kinds::field::Path;
use std::net::IpAddr;

/// What is told of an address that is none of the strict rule, or not in its shortest form.
pub(super) fn of(at: &Path, text: &str) -> Option<String> {
    let meant = match names::parse_legacy_ip(text)? {
        IpAddr::V6(mapped) => match mapped.to_ipv4_mapped() {
            Some(four) => IpAddr::V4(four),
            None => {
                let short = mapped.to_string();
                return (short != text).then(|| {
                    format!("{at}: IPv6 address {text:?} should be in RFC 5952 canonical format ({short:?})")
                });
            }
        },
        four => four,
    };
    let strict = text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4());
    (!strict).then(|| {
        format!(
            "{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \
             \"{meant}\""
        )
    })
}
