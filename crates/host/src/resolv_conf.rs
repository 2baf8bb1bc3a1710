//! Whom a node asks for names: its `/etc/resolv.conf`, as the kubelet reads it (`network/dns/dns.go`, `parseResolvConf`).

use std::net::Ipv4Addr;

/// Servers, domains in which names are looked up, and options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The IPv4 servers, without those on loopback, which Pods cannot reach.
    pub servers: Vec<Ipv4Addr>,
    /// Domains that are tried behind short names.
    pub searches: Vec<String>,
    /// `name` or `name:value`.
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text of such a file. The last line of domains counts, and the last word of each option.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse().ok());
                    let reachable = server.filter(|server: &Ipv4Addr| !server.is_loopback());
                    found.servers.extend(reachable);
                }
                Some("search") => {
                    let domains = words.filter(|word| *word != ".");
                    found.searches = domains
                        .map(|word| word.strip_suffix('.').unwrap_or(word).to_owned())
                        .collect();
                }
                Some("options") => words.for_each(|word| found.set(word)),
                _ => {}
            }
        }
        found
    }

    fn set(&mut self, option: &str) {
        let name = |option: &str| option.split(':').next().map(str::to_owned);
        self.options.retain(|known| name(known) != name(option));
        self.options.push(option.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts() {
        let text = "# search no.test\nsearch one.test\nnameserver 127.0.0.53\nnameserver 192.0.2.53\n\
                    nameserver 2001:db8::1\n  search two.test. three.test .\noptions ndots:2 edns0\n\
                    options timeout:1 ndots:3\ndomain four.test\n";
        let found = ResolvConf::parse(text);
        assert_eq!(found.servers, [Ipv4Addr::new(192, 0, 2, 53)]);
        assert_eq!(found.searches, ["two.test", "three.test"]);
        assert_eq!(found.options, ["edns0", "timeout:1", "ndots:3"]);
    }
}
