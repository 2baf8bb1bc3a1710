//! Gratuitous ARP: tells the neighbours on the host's links that a VIP is here now.
//!
//! A neighbour that has had the VIP from another host keeps that host's hardware address for minutes; these frames
//! correct it at once (RFC 5227 calls them announcements). One is a request and one an answer, for stacks heed either.

use std::io;
use std::net::Ipv4Addr;

use crate::{TAP_GROUP, exec, sys};

/// Ethernet header and ARP packet.
const FRAME: usize = 42;
const BROADCAST: [u8; 6] = [0xff; 6];

/// A link with neighbours.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    index: i32,
    mac: [u8; 6],
}

/// Announces these addresses on all links but those of Pods. Goes on after a failure: neighbours learn it by themselves,
/// only later.
pub(crate) async fn announce(vips: impl Iterator<Item = Ipv4Addr>) {
    let mut vips = vips.peekable();
    if vips.peek().is_none() {
        return;
    }
    let links = match exec::ip_query(&["-o", "link", "show", "up"]).await {
        Ok(text) => links(&text),
        Err(error) => return tracing::warn!("VIPs are not announced: {error}"),
    };
    for vip in vips {
        for link in &links {
            if let Err(error) = send(link, vip) {
                tracing::warn!("{vip} is not announced on link {}: {error}", link.index);
            }
        }
    }
}

fn send(link: &Link, vip: Ipv4Addr) -> io::Result<()> {
    for answer in [false, true] {
        sys::send_frame(link.index, &frame(link.mac, vip, answer))?;
    }
    Ok(())
}

/// The Ethernet links in what `ip -o link` prints.
fn links(text: &str) -> Vec<Link> {
    let pods = TAP_GROUP.to_string();
    let link = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|known| *known == word)?;
            words.get(at + 1).copied()
        };
        if after("group") == Some(pods.as_str()) || words.get(2)?.contains("NOARP") {
            return None;
        }
        let mut mac = [0; 6];
        let mut bytes = after("link/ether")?.split(':');
        for byte in &mut mac {
            *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
        }
        let index = words.first()?.trim_end_matches(':').parse().ok()?;
        Some(Link { index, mac })
    };
    text.lines().filter_map(link).collect()
}

/// An announcement, to everybody on the link.
fn frame(mac: [u8; 6], vip: Ipv4Addr, answer: bool) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let asked = if answer { BROADCAST } else { [0; 6] };
    let parts: [&[u8]; 8] = [
        &BROADCAST,
        &mac,
        // ARP; of Ethernet for IPv4, with addresses of six and four bytes.
        &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4],
        &[0, 1 + u8::from(answer)],
        &mac,
        &vip.octets(),
        &asked,
        &vip.octets(),
    ];
    for (to, from) in frame.iter_mut().zip(parts.concat()) {
        *to = from;
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_with_neighbours_count() {
        let text = "\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: eth0@if7: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP mode DEFAULT group default qlen 1000\\    link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff link-netnsid 0
3: pv0123: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo_fast state UP mode DEFAULT group 28790 qlen 1000\\    link/ether 02:00:00:00:00:0b brd ff:ff:ff:ff:ff:ff
4: dummy0: <BROADCAST,NOARP,UP,LOWER_UP> mtu 1500 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\\    link/ether 02:00:00:00:00:0c brd ff:ff:ff:ff:ff:ff
";
        assert_eq!(
            links(text),
            [Link {
                index: 2,
                mac: [2, 0, 0, 0, 0, 10]
            }]
        );
    }
}
