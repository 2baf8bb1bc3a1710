//! How a Pod is called inside, and whom it asks for names: the hostname, `/etc/hosts` and `/etc/resolv.conf`, letter by
//! letter as the kubelet and containerd write them (`kubelet_pods.go`, `network/dns/dns.go`, `podsandbox/helpers`).

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

use crate::config::HostConfig;
use crate::resolv_conf::ResolvConf;

/// A host name has at most this many characters, the kernel's name of the machine one more.
const HOSTNAME_MAX: usize = 63;
const NODENAME_MAX: usize = 64;
/// What resolvers heed (`validation.MaxDNSNameservers`, `MaxDNSSearchPaths`, `MaxDNSSearchListChars`).
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// How a Pod is called inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Its host name.
    pub host: String,
    /// Its domain, or nothing.
    pub domain: String,
    /// What `hostname` prints: the host name, or all of it with `setHostnameAsFQDN`.
    pub node: String,
}

impl Names {
    /// The names of a Pod (kubelet: `GeneratePodHostNameAndDomain`, `GetNodenameForKernel`).
    ///
    /// # Errors
    /// The kernel takes no name that long.
    pub fn of(pod: &Pod, cluster_domain: &str) -> Result<Self, String> {
        let spec = pod.spec.as_ref();
        let text = |value: Option<&String>| value.filter(|text| !text.is_empty()).cloned();
        if let Some(over) = text(spec.and_then(|spec| spec.hostname_override.as_ref())) {
            return Ok(Self {
                host: over.clone(),
                domain: String::new(),
                node: over,
            });
        }
        // With the node's network a Pod has the node's name, whatever it would like to be called.
        let of_node = spec.is_some_and(|spec| spec.host_network == Some(true));
        if of_node && let Some(node) = text(spec.and_then(|spec| spec.node_name.as_ref())) {
            return Ok(Self {
                host: node.clone(),
                domain: String::new(),
                node,
            });
        }
        let own = text(spec.and_then(|spec| spec.hostname.as_ref())).or(pod.metadata.name.clone());
        let mut host: String = own.unwrap_or_default();
        if host.len() > HOSTNAME_MAX {
            host.truncate(HOSTNAME_MAX);
            host.truncate(host.trim_end_matches(['-', '.']).len());
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let domain = text(spec.and_then(|spec| spec.subdomain.as_ref()))
            .map(|subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
            .unwrap_or_default();
        let mut node = host.clone();
        if !domain.is_empty() && spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true) {
            node = format!("{host}.{domain}");
            if node.len() > NODENAME_MAX {
                return Err(format!(
                    "failed to construct FQDN from pod hostname and cluster domain, FQDN {node} is too long \
                     ({NODENAME_MAX} is the max, {} characters requested)",
                    node.len()
                ));
            }
        }
        Ok(Self { host, domain, node })
    }

    /// `/etc/hosts` (kubelet: `managedHostsFileContent`).
    pub fn hosts(&self, pod: &Pod, ip: Ipv4Addr) -> String {
        // With the node's network it is the node's file, which here is as short (`nodeHostsFileContent`).
        let of_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let header = match of_node {
            true => "# Kubernetes-managed hosts file (host network).\n",
            false => "# Kubernetes-managed hosts file.\n",
        };
        let mut text = header.to_owned();
        text += "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                        ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n";
        let host = &self.host;
        text += &match self.domain.as_str() {
            "" => format!("{ip}\t{host}\n"),
            domain => format!("{ip}\t{host}.{domain}\t{host}\n"),
        };
        let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_ref());
        let mut header = "\n# Entries added by HostAliases.\n";
        for alias in aliases.into_iter().flatten() {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text += &format!("{header}{}\t{names}\n", alias.ip);
            header = "";
        }
        text
    }
}

/// Whom a Pod asks for names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
    /// What did not fit, in the words of the event `DNSConfigForming`.
    pub omitted: Vec<String>,
}

impl Resolver {
    /// By `dnsPolicy` and `dnsConfig` (kubelet: `GetPodDNS`). With `hostNetwork` too the network is the Pod VM's own,
    /// so that `ClusterFirst` means the cluster's DNS there as well.
    pub fn of(pod: &Pod, config: &HostConfig) -> Self {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (cluster, node) = (config.cluster_dns.to_string(), &config.upstream_dns);
        Self::by(pod, &cluster, node, namespace, &config.cluster_domain)
    }

    fn by(pod: &Pod, cluster: &str, node: &ResolvConf, namespace: &str, domain: &str) -> Self {
        let spec = pod.spec.as_ref();
        let mut result = match spec.and_then(|spec| spec.dns_policy.as_deref()) {
            Some("None") => Self::default(),
            Some("Default") => Self {
                servers: node.servers.iter().map(ToString::to_string).collect(),
                searches: node.searches.clone(),
                options: node.options.clone(),
                omitted: Vec::new(),
            },
            _ => Self {
                servers: vec![cluster.to_owned()],
                searches: [
                    format!("{namespace}.svc.{domain}"),
                    format!("svc.{domain}"),
                    domain.to_owned(),
                ]
                .into_iter()
                .chain(node.searches.iter().cloned())
                .collect(),
                options: vec!["ndots:5".to_owned()],
                omitted: Vec::new(),
            },
        };
        if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
            result
                .servers
                .extend(config.nameservers.iter().flatten().cloned());
            result.searches.extend(config.searches.iter().flatten().cloned());
            for option in config.options.iter().flatten() {
                let Some(name) = &option.name else { continue };
                let known = |known: &String| known.split(':').next() != Some(name);
                result.options.retain(known);
                result.options.push(match option.value.as_deref() {
                    None | Some("") => name.clone(),
                    Some(value) => format!("{name}:{value}"),
                });
            }
        }
        result.servers = distinct(result.servers);
        result.searches = distinct(result.searches);
        result.fit();
        result
    }

    /// Leaves away what resolvers would not heed.
    fn fit(&mut self) {
        if self.servers.len() > MAX_SERVERS {
            self.servers.truncate(MAX_SERVERS);
            self.omitted.push(format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
                self.servers.join(" ")
            ));
        }
        let before = self.searches.len();
        self.searches.truncate(MAX_SEARCHES);
        while self.searches.join(" ").len() > MAX_SEARCH_CHARS {
            self.searches.pop();
        }
        if self.searches.len() < before {
            self.omitted.push(format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
                self.searches.join(" ")
            ));
        }
    }

    /// `/etc/resolv.conf`, as containerd writes it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.servers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }
}

fn distinct(list: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    list.into_iter()
        .filter(|text| seen.insert(text.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web.v1", "namespace": "shop"}, "spec": spec}))
            .expect("a Pod")
    }

    #[test]
    fn names_inside() {
        let domain = "s.shop.svc.cluster.local";
        let cases = [
            (json!({"containers": []}), ("web.v1", "", "web.v1")),
            (json!({"containers": [], "hostname": "h"}), ("h", "", "h")),
            (
                json!({"containers": [], "subdomain": "s"}),
                ("web.v1", domain, "web.v1"),
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
                ("h", domain, "h.s.shop.svc.cluster.local"),
            ),
            (
                json!({"containers": [], "setHostnameAsFQDN": true}),
                ("web.v1", "", "web.v1"),
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostnameOverride": "a.b"}),
                ("a.b", "", "a.b"),
            ),
            (
                json!({"containers": [], "hostname": "h", "subdomain": "s", "hostNetwork": true, "nodeName": "n"}),
                ("n", "", "n"),
            ),
        ];
        for (spec, expected) in cases {
            let names = Names::of(&pod(spec.clone()), "cluster.local").expect("short enough");
            let found = (names.host.as_str(), names.domain.as_str(), names.node.as_str());
            assert_eq!(found, expected, "{spec}");
        }
        let long = json!({"containers": [], "hostname": "h".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true});
        let error = Names::of(&pod(long), "cluster.local").expect_err("too long");
        assert!(
            error.ends_with("is too long (64 is the max, 85 characters requested)"),
            "{error}"
        );
    }

    #[test]
    fn hosts_file() {
        let pod = pod(json!({"containers": [], "subdomain": "s", "hostAliases": [
            {"ip": "1.2.3.4", "hostnames": ["a", "b"]}, {"ip": "5.6.7.8", "hostnames": ["c"]}]}));
        let names = Names::of(&pod, "cluster.local").expect("short enough");
        insta::assert_snapshot!(names.hosts(&pod, Ipv4Addr::new(10, 244, 0, 9)), @r"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        10.244.0.9	web.v1.s.shop.svc.cluster.local	web.v1

        # Entries added by HostAliases.
        1.2.3.4	a	b
        5.6.7.8	c
        ");
    }

    #[test]
    fn resolver_file() {
        let extra = json!({"nameservers": ["192.0.2.1", "10.96.0.10"], "searches": ["x.test", "svc.cluster.local"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let cases = [
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirst"}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local lan.test\nnameserver 10.96.0.10\n\
                 options ndots:5\n",
            ),
            (
                json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "dnsConfig": extra}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local lan.test x.test\nnameserver 10.96.0.10\n\
                 nameserver 192.0.2.1\noptions ndots:2 edns0\n",
            ),
            (
                json!({"containers": [], "dnsPolicy": "Default"}),
                "search lan.test\nnameserver 192.0.2.53\noptions edns0\n",
            ),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.9"]}}),
                "nameserver 192.0.2.9\n",
            ),
        ];
        for (spec, expected) in cases {
            let node = ResolvConf::parse("nameserver 192.0.2.53\nsearch lan.test\noptions edns0\n");
            let found = Resolver::by(&pod(spec.clone()), "10.96.0.10", &node, "shop", "cluster.local");
            assert_eq!(found.text(), expected, "{spec}");
            assert!(found.omitted.is_empty());
        }
        let many = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}});
        let nobody = ResolvConf::default();
        let found = Resolver::by(&pod(many), "", &nobody, "shop", "cluster.local");
        assert_eq!(found.servers.len(), 3);
        assert!(found.omitted[0].ends_with("the applied nameserver line is: 1.1.1.1 1.1.1.2 1.1.1.3"));
    }
}
