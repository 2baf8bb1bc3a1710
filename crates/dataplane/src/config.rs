//! What the network of a host is made of.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Net {
    /// The first address of the block.
    pub network: Ipv4Addr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// The text is not `ADDRESS/PREFIX`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a block of IPv4 addresses such as 10.244.0.0/16")]
pub struct ParseNetError(String);

impl FromStr for Ipv4Net {
    type Err = ParseNetError;

    fn from_str(text: &str) -> Result<Self, ParseNetError> {
        let parse = || {
            let (network, prefix) = text.split_once('/')?;
            let net = Self {
                network: network.parse().ok()?,
                prefix: prefix.parse().ok()?,
            };
            (net.prefix <= 32).then_some(net)
        };
        parse().ok_or_else(|| ParseNetError(text.to_owned()))
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

impl Ipv4Net {
    /// Whether an address lies in the block.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.network) & mask
    }
}

/// Settings of one host's network.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// The host's address as Pods see it; put on `lo` when no device has it.
    pub node_ip: Ipv4Addr,
    /// All Pods of the cluster.
    pub pod_cidr: Ipv4Net,
    /// All ClusterIPs.
    pub service_cidr: Ipv4Net,
    /// Where cluster DNS answers.
    pub cluster_dns: Ipv4Addr,
    /// The cluster's domain, without dots at its ends: `cluster.local`.
    pub domain: String,
    /// TCP ports of `node_ip` that Pods may use: the API server's.
    pub open_tcp_ports: Vec<u16>,
    /// TCP ports of the host that are no Pod's to have, besides: the host agent's.
    pub own_tcp_ports: Vec<u16>,
    /// Resolvers for all other names.
    pub upstream_dns: Vec<Ipv4Addr>,
    /// The command line of a process that calls [`crate::answer_names`], which then answers cluster DNS and outlives this one;
    /// empty: this process answers.
    pub dns_program: Vec<String>,
    /// The user that QEMU runs as: owner of the taps.
    pub tap_owner: u32,
    /// Connections and datagram exchanges that one Pod may have under way ([`crate::FLOWS_PER_POD`]).
    pub flows_per_pod: u32,
    /// A directory for the little that must be put back when the network is removed.
    pub state_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain_their_addresses() {
        let cases = [
            ("10.244.0.0/16", "10.244.3.4", true),
            ("10.244.0.0/16", "10.245.0.0", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("10.0.0.1/32", "10.0.0.1", true),
        ];
        for (net, address, expected) in cases {
            let net: Ipv4Net = net.parse().expect(net);
            assert_eq!(
                net.contains(address.parse().expect(address)),
                expected,
                "{net} {address}"
            );
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
    }
}
