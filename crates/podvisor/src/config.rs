//! What `podvisor up` shall do: flags over environment over configuration file over defaults.
//!
//! clap reads flags and environment into [`UpArguments`], where everything is optional; the file has the same
//! names in camelCase (`kind: SupervisorConfiguration`); [`Config::resolve`] merges the two and checks the result.
//! Every refusal names the setting and the cure.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The configuration file's version and kind.
const API_VERSION: &str = "podvisor.io/v1alpha1";
const KIND: &str = "SupervisorConfiguration";

/// Flags of `podvisor up`; each also has an environment variable and a key in the configuration file.
#[derive(clap::Args, Debug, Default)]
pub struct UpArguments {
    /// Read settings from this YAML file (kind SupervisorConfiguration); flags and environment win over it.
    #[arg(long, env = "PODVISOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub places: Places,
    /// Where the API server listens (repeatable) [default: 127.0.0.1:6443].
    #[arg(
        long,
        env = "PODVISOR_LISTEN",
        value_name = "ADDRESS:PORT",
        value_delimiter = ','
    )]
    pub listen: Vec<SocketAddr>,
    /// Addresses for LoadBalancer Services, as CIDRs (repeatable).
    #[arg(long, env = "PODVISOR_VIP_POOL", value_name = "CIDR", value_delimiter = ',')]
    pub vip_pool: Vec<String>,
    /// Addresses of Pods [default: 10.244.0.0/16].
    #[arg(long, env = "PODVISOR_POD_CIDR", value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Addresses of Services [default: 10.96.0.0/16].
    #[arg(long, env = "PODVISOR_SERVICE_CIDR", value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Pull images of HOST from URL; `*` stands for every registry (repeatable).
    #[arg(
        long,
        env = "PODVISOR_REGISTRY_MIRROR",
        value_name = "HOST=URL",
        value_delimiter = ','
    )]
    pub registry_mirror: Vec<String>,
    /// Trust registries (with HOST=, this one) with certificates by the authorities in this PEM file, too (repeatable).
    #[arg(
        long,
        env = "PODVISOR_REGISTRY_CA",
        value_name = "[HOST=]FILE",
        value_delimiter = ','
    )]
    pub registry_ca: Vec<String>,
    /// Reach the registry HOST through this proxy, or `direct`; `*` stands for every one (repeatable). Without it the
    /// environment's HTTPS_PROXY, HTTP_PROXY and NO_PROXY count.
    #[arg(
        long,
        env = "PODVISOR_REGISTRY_PROXY",
        value_name = "HOST=URL",
        value_delimiter = ','
    )]
    pub registry_proxy: Vec<String>,
    /// The accelerator of Pod VMs [default: auto].
    #[arg(long, env = "PODVISOR_ACCEL", value_enum)]
    pub accel: Option<Accel>,
    /// Write the administrator's kubeconfig here [default: DATA_DIR/admin.kubeconfig].
    #[arg(long, env = "PODVISOR_KUBECONFIG_OUT", value_name = "FILE")]
    pub kubeconfig_out: Option<PathBuf>,
    /// The password of administrator@podvisor.local; made and written here when the file is missing
    /// [default: DATA_DIR/administrator-password].
    #[arg(long, env = "PODVISOR_ADMIN_PASSWORD_FILE", value_name = "FILE")]
    pub admin_password_file: Option<PathBuf>,
    /// A sysctl beyond the safe ones that Pods may set, or the beginning of several with a `*` (repeatable). Each Pod has a
    /// kernel of its own; as with the kubelet, none is allowed unasked [default: none].
    #[arg(
        long = "allowed-unsafe-sysctl",
        env = "PODVISOR_ALLOWED_UNSAFE_SYSCTLS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Write an audit log by this policy (kind Policy of audit.k8s.io/v1) to DATA_DIR/audit.log [default: none].
    #[arg(long, env = "PODVISOR_AUDIT_POLICY_FILE", value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Kernel and initramfs of Pod VMs [default: `guest-bundle` beside the binary's directory].
    #[arg(long, env = "PODVISOR_GUEST_BUNDLE", value_name = "DIR")]
    pub guest_bundle: Option<PathBuf>,
    /// The address by which Pods reach this host; put on `lo` when the machine does not have it [default: 192.0.2.1].
    #[arg(long, env = "PODVISOR_HOST_ADDRESS", value_name = "ADDRESS")]
    pub host_address: Option<Ipv4Addr>,
    /// The name of this host's Node [default: the machine's host name].
    #[arg(long, env = "PODVISOR_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where objects are kept: `embedded`, a file in the data directory, or `etcd://HOST:PORT[,HOST:PORT…]`, the members
    /// of an etcd cluster, or `etcd+https://HOST:PORT[,…]`, the same over TLS [default: embedded].
    #[arg(long, env = "PODVISOR_STORE", value_name = "STORE")]
    pub store: Option<String>,
    /// The authority of the certificates of etcd's members, PEM; needed with `--store etcd+https://…`.
    #[arg(long, env = "PODVISOR_ETCD_CAFILE", value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate by which etcd knows this Supervisor, PEM; where etcd asks for one.
    #[arg(
        long,
        env = "PODVISOR_ETCD_CERTFILE",
        value_name = "FILE",
        requires = "etcd_keyfile"
    )]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of `--etcd-certfile`, PEM.
    #[arg(
        long,
        env = "PODVISOR_ETCD_KEYFILE",
        value_name = "FILE",
        requires = "etcd_certfile"
    )]
    pub etcd_keyfile: Option<PathBuf>,
    /// Run N simulated hosts instead of a real one: Pods become Running without a VM.
    #[arg(long, env = "PODVISOR_SIMULATED_HOSTS", value_name = "N")]
    pub simulated_hosts: Option<u32>,
}

/// Where a Supervisor keeps its things; shared by `up`, `down` and `status`.
#[derive(clap::Args, Debug, Default, Clone)]
pub struct Places {
    /// Everything that must outlive the process [default: /var/lib/podvisor].
    #[arg(long, env = "PODVISOR_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Sockets and state of running VMs; empty after a reboot [default: /run/podvisor].
    #[arg(long, env = "PODVISOR_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// The cgroup below which every VM gets its own [default: podvisor].
    #[arg(long, env = "PODVISOR_CGROUP_PARENT", value_name = "PATH")]
    pub cgroup_parent: Option<String>,
}

/// The accelerator of Pod VMs.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where it works, else TCG with a warning.
    Auto,
    /// KVM or refuse to start.
    Kvm,
    /// Emulation: correct, slow, and no security boundary.
    Tcg,
}

/// The file's contents.
#[derive(Deserialize, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    data_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    cgroup_parent: Option<String>,
    #[serde(default)]
    listen: Vec<SocketAddr>,
    #[serde(default)]
    vip_pool: Vec<String>,
    pod_cidr: Option<String>,
    service_cidr: Option<String>,
    #[serde(default)]
    registry_mirror: Vec<String>,
    #[serde(default)]
    registry_ca: Vec<String>,
    #[serde(default)]
    registry_proxy: Vec<String>,
    #[serde(default)]
    allowed_unsafe_sysctls: Vec<String>,
    accel: Option<Accel>,
    kubeconfig_out: Option<PathBuf>,
    admin_password_file: Option<PathBuf>,
    audit_policy_file: Option<PathBuf>,
    guest_bundle: Option<PathBuf>,
    host_address: Option<Ipv4Addr>,
    node_name: Option<String>,
    store: Option<String>,
    etcd_cafile: Option<PathBuf>,
    etcd_certfile: Option<PathBuf>,
    etcd_keyfile: Option<PathBuf>,
    simulated_hosts: Option<u32>,
}

/// A block of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: Ipv4Addr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl Cidr {
    /// The `number`th address of the block.
    pub fn nth(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network).wrapping_add(number))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.network, self.prefix)
    }
}

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A file in the data directory.
    Embedded,
    /// The members of an etcd cluster, as URLs.
    Etcd(Vec<String>),
    /// The members of an etcd cluster behind TLS, as `HOST:PORT`.
    EtcdTls {
        members: Vec<String>,
        ca: PathBuf,
        /// Certificate and key.
        client: Option<(PathBuf, PathBuf)>,
    },
}

/// The merged settings.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub cgroup_parent: String,
    pub listen: Vec<SocketAddr>,
    pub vip_pool: Vec<Cidr>,
    pub pod_cidr: Cidr,
    pub service_cidr: Cidr,
    pub registry_mirrors: Vec<(String, String)>,
    /// Authorities (DER) that vouch for registries besides those that the machine trusts.
    pub registry_authorities: Vec<(images::Host, Vec<u8>)>,
    /// Through what registries are reached.
    pub registry_proxies: Vec<(images::Host, String)>,
    pub accel: Accel,
    pub kubeconfig_out: PathBuf,
    /// The operator's own; without one the first password is generated.
    pub admin_password_file: Option<PathBuf>,
    pub audit_policy_file: Option<PathBuf>,
    pub allowed_unsafe_sysctls: Vec<String>,
    pub guest_bundle: PathBuf,
    pub host_address: Ipv4Addr,
    pub node_name: String,
    pub store: StoreAddress,
    pub simulated_hosts: Option<u32>,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}: correct --config")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {path} is not valid: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("--{setting}: `{value}` {problem}")]
    Value {
        setting: &'static str,
        value: String,
        problem: String,
    },
}

/// The data and run directories and the cgroup, with their defaults.
pub struct ResolvedPlaces {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub cgroup_parent: String,
}

impl Places {
    /// Fills in the defaults.
    pub fn resolve(&self) -> ResolvedPlaces {
        ResolvedPlaces {
            data_dir: self
                .data_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from("/var/lib/podvisor")),
            run_dir: self
                .run_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from("/run/podvisor")),
            cgroup_parent: self
                .cgroup_parent
                .clone()
                .unwrap_or_else(|| "podvisor".to_owned()),
        }
    }
}

impl Config {
    /// Merges arguments and file and fills in the defaults.
    pub fn resolve(arguments: &UpArguments) -> Result<Self, ConfigError> {
        let file = arguments
            .config
            .as_deref()
            .map(read_file)
            .transpose()?
            .unwrap_or_default();
        let places = Places {
            data_dir: arguments.places.data_dir.clone().or(file.data_dir),
            run_dir: arguments.places.run_dir.clone().or(file.run_dir),
            cgroup_parent: arguments.places.cgroup_parent.clone().or(file.cgroup_parent),
        }
        .resolve();
        let listen = first_filled(
            &arguments.listen,
            file.listen,
            &[SocketAddr::from(([127, 0, 0, 1], 6443))],
        );
        let vip_pool = first_filled(&arguments.vip_pool, file.vip_pool, &[]);
        let mirrors = first_filled(&arguments.registry_mirror, file.registry_mirror, &[]);
        let authorities = first_filled(&arguments.registry_ca, file.registry_ca, &[]);
        let proxies = first_filled(&arguments.registry_proxy, file.registry_proxy, &[]);
        let pod_cidr = arguments.pod_cidr.clone().or(file.pod_cidr);
        let service_cidr = arguments.service_cidr.clone().or(file.service_cidr);
        let data = places.data_dir.clone();
        let simulated_hosts = arguments.simulated_hosts.or(file.simulated_hosts);
        let default_address = if simulated_hosts.is_some() {
            Ipv4Addr::LOCALHOST
        } else {
            Ipv4Addr::new(192, 0, 2, 1)
        };
        Ok(Self {
            listen,
            vip_pool: vip_pool
                .iter()
                .map(|text| parse_cidr("vip-pool", text))
                .collect::<Result<_, _>>()?,
            pod_cidr: parse_cidr("pod-cidr", pod_cidr.as_deref().unwrap_or("10.244.0.0/16"))?,
            service_cidr: parse_cidr("service-cidr", service_cidr.as_deref().unwrap_or("10.96.0.0/16"))?,
            registry_mirrors: mirrors
                .iter()
                .map(|text| parse_mirror(text))
                .collect::<Result<_, _>>()?,
            registry_authorities: read_authorities(&authorities)?,
            registry_proxies: proxies
                .iter()
                .map(|text| parse_proxy(text))
                .collect::<Result<_, _>>()?,
            allowed_unsafe_sysctls: first_filled(
                &arguments.allowed_unsafe_sysctls,
                file.allowed_unsafe_sysctls,
                &[],
            ),
            accel: arguments.accel.or(file.accel).unwrap_or(Accel::Auto),
            kubeconfig_out: arguments
                .kubeconfig_out
                .clone()
                .or(file.kubeconfig_out)
                .unwrap_or_else(|| data.join("admin.kubeconfig")),
            admin_password_file: arguments.admin_password_file.clone().or(file.admin_password_file),
            audit_policy_file: arguments.audit_policy_file.clone().or(file.audit_policy_file),
            guest_bundle: arguments
                .guest_bundle
                .clone()
                .or(file.guest_bundle)
                .unwrap_or_else(default_guest_bundle),
            host_address: arguments
                .host_address
                .or(file.host_address)
                .unwrap_or(default_address),
            node_name: arguments
                .node_name
                .clone()
                .or(file.node_name)
                .unwrap_or_else(host_name),
            store: parse_store(
                arguments.store.clone().or(file.store).as_deref(),
                arguments.etcd_cafile.clone().or(file.etcd_cafile),
                arguments.etcd_certfile.clone().or(file.etcd_certfile),
                arguments.etcd_keyfile.clone().or(file.etcd_keyfile),
            )?,
            simulated_hosts,
            data_dir: places.data_dir,
            run_dir: places.run_dir,
            cgroup_parent: places.cgroup_parent,
        })
    }

    /// The address by which clients on this machine reach the API: the first one listened on.
    pub fn api_address(&self) -> SocketAddr {
        let first = self.listen[0];
        let address = if first.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            first.ip()
        };
        SocketAddr::new(address, first.port())
    }

    /// The cluster DNS address: the tenth of the service block, as everywhere.
    pub fn cluster_dns(&self) -> Ipv4Addr {
        self.service_cidr.nth(10)
    }
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_path_buf(),
        source,
    })?;
    let parse_error = |reason: String| ConfigError::Parse {
        path: path.to_path_buf(),
        reason,
    };
    let file: File = serde_saphyr::from_str(&text).map_err(|error| parse_error(error.to_string()))?;
    if file.api_version != API_VERSION || file.kind != KIND {
        return Err(parse_error(format!(
            "it must begin with `apiVersion: {API_VERSION}` and `kind: {KIND}`, not `{}` and `{}`",
            file.api_version, file.kind
        )));
    }
    Ok(file)
}

fn parse_store(
    text: Option<&str>,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<StoreAddress, ConfigError> {
    let text = text.unwrap_or("embedded");
    let refused = |problem: &str| ConfigError::Value {
        setting: "store",
        value: text.to_owned(),
        problem: problem.to_owned(),
    };
    let tls = text.strip_prefix("etcd+https://");
    if tls.is_none() && (ca.is_some() || certificate.is_some() || key.is_some()) {
        return Err(refused(
            "does not speak TLS, but --etcd-cafile, --etcd-certfile or --etcd-keyfile is set: write etcd+https://HOST:PORT[,HOST:PORT…]",
        ));
    }
    if text == "embedded" {
        return Ok(StoreAddress::Embedded);
    }
    let plain = text.strip_prefix("etcd://");
    let members = tls.or(plain).ok_or_else(|| {
        refused(
            "is neither `embedded` nor etcd://HOST:PORT[,HOST:PORT…] nor etcd+https://HOST:PORT[,HOST:PORT…]",
        )
    })?;
    let member = |member: &str| match member.trim_end_matches('/').rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(format!("{host}:{port}")),
        _ => Err(refused(
            "has a member without port: write etcd://HOST:PORT[,HOST:PORT…]",
        )),
    };
    let members = members.split(',').map(member).collect::<Result<Vec<_>, _>>()?;
    if tls.is_none() {
        let urls = members.iter().map(|member| format!("http://{member}"));
        return Ok(StoreAddress::Etcd(urls.collect()));
    }
    Ok(StoreAddress::EtcdTls {
        members,
        ca: ca.ok_or_else(|| refused("needs --etcd-cafile, the authority of the members' certificates"))?,
        client: match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(refused("needs --etcd-certfile and --etcd-keyfile together")),
        },
    })
}

fn first_filled<T: Clone>(arguments: &[T], file: Vec<T>, default: &[T]) -> Vec<T> {
    if !arguments.is_empty() {
        arguments.to_vec()
    } else if !file.is_empty() {
        file
    } else {
        default.to_vec()
    }
}

fn parse_cidr(setting: &'static str, text: &str) -> Result<Cidr, ConfigError> {
    let problem = |problem: &str| ConfigError::Value {
        setting,
        value: text.to_owned(),
        problem: problem.to_owned(),
    };
    let (address, prefix) = text
        .split_once('/')
        .ok_or_else(|| problem("has no prefix length, for example 10.244.0.0/16"))?;
    let address: Ipv4Addr = address
        .parse()
        .map_err(|_| problem("does not begin with an IPv4 address"))?;
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|prefix| *prefix <= 32)
        .ok_or_else(|| problem("needs a prefix length from 0 to 32"))?;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    let network = Ipv4Addr::from(u32::from(address) & mask);
    if network != address {
        return Err(problem(&format!(
            "has bits beyond its prefix: write {network}/{prefix}"
        )));
    }
    Ok(Cidr { network, prefix })
}

fn parse_mirror(text: &str) -> Result<(String, String), ConfigError> {
    text.split_once('=')
        .filter(|(host, url)| !host.is_empty() && (url.starts_with("http://") || url.starts_with("https://")))
        .map(|(host, url)| (host.to_owned(), url.to_owned()))
        .ok_or_else(|| ConfigError::Value {
            setting: "registry-mirror",
            value: text.to_owned(),
            problem:
                "is not HOST=URL, for example docker.io=https://mirror.example or *=http://127.0.0.1:5000"
                    .to_owned(),
        })
}

fn parse_proxy(text: &str) -> Result<(images::Host, String), ConfigError> {
    let is_proxy = |url: &str| {
        let host = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"));
        url == images::DIRECT || host.is_some_and(|host| !host.is_empty())
    };
    text.split_once('=')
        .filter(|(host, url)| !host.is_empty() && is_proxy(url))
        .map(|(host, url)| (images::Host(host.to_owned()), url.to_owned()))
        .ok_or_else(|| ConfigError::Value {
            setting: "registry-proxy",
            value: text.to_owned(),
            problem:
                "is not HOST=URL, for example *=http://proxy.example:3128 or registry.inside.example=direct"
                    .to_owned(),
        })
}

/// Certificates in `FILE`, for all registries, or in `HOST=FILE`, for one.
fn read_authorities(settings: &[String]) -> Result<Vec<(images::Host, Vec<u8>)>, ConfigError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut found = Vec::new();
    for setting in settings {
        let (host, path) = match setting.split_once('=') {
            // A directory may have this character in its name; a host has no directories.
            Some((host, path)) if !host.contains('/') => (host, path),
            _ => ("*", setting.as_str()),
        };
        let problem = |problem: String| ConfigError::Value {
            setting: "registry-ca",
            value: setting.clone(),
            problem,
        };
        let pem = fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        let before = found.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| problem(format!("is not PEM: {error}")))?;
            found.push((images::Host(host.to_owned()), certificate.to_vec()));
        }
        if found.len() == before {
            return Err(problem("has no certificate: give a PEM file".to_owned()));
        }
    }
    Ok(found)
}

fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    if name.is_empty() || name == "(none)" {
        "podvisor-host".to_owned()
    } else {
        name
    }
}

/// `guest-bundle` beside the binary or beside its directory: `target/debug/podvisor` finds `target/guest-bundle`.
fn default_guest_bundle() -> PathBuf {
    let binary = std::env::current_exe().unwrap_or_default();
    let beside = |levels: usize| {
        binary
            .ancestors()
            .nth(levels)
            .map(|path| path.join("guest-bundle"))
    };
    [beside(1), beside(2)]
        .into_iter()
        .flatten()
        .find(|path| path.join("bundle.json").exists())
        .unwrap_or_else(|| PathBuf::from("/usr/lib/podvisor/guest"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(change: impl FnOnce(&mut UpArguments)) -> Result<Config, ConfigError> {
        let mut arguments = UpArguments::default();
        change(&mut arguments);
        Config::resolve(&arguments)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("config.yaml");
        fs::write(
            &path,
            "apiVersion: podvisor.io/v1alpha1\nkind: SupervisorConfiguration\nnodeName: from-file\npodCidr: 10.1.0.0/16\n",
        )
        .expect("written");
        let config = resolve(|arguments| {
            arguments.config = Some(path);
            arguments.pod_cidr = Some("10.2.0.0/16".to_owned());
        })
        .expect("valid");
        assert_eq!(config.node_name, "from-file");
        assert_eq!(config.pod_cidr.to_string(), "10.2.0.0/16");
        assert_eq!(config.service_cidr.to_string(), "10.96.0.0/16");
        assert_eq!(config.cluster_dns().to_string(), "10.96.0.10");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("config.yaml");
        fs::write(
            &path,
            "apiVersion: podvisor.io/v1alpha1\nkind: SupervisorConfiguration\npodCdir: x\n",
        )
        .expect("written");
        let error = resolve(|arguments| arguments.config = Some(path))
            .expect_err("refused")
            .to_string();
        assert!(error.contains("podCdir"), "{error}");
    }

    #[test]
    fn bad_values_name_the_flag_and_the_cure() {
        type Change = fn(&mut UpArguments);
        let cases: [(&str, Change, &str); 12] = [
            (
                "no authority",
                |a| a.registry_ca = vec!["/dev/null".into()],
                "--registry-ca: `/dev/null` has no certificate",
            ),
            (
                "no authority of one",
                |a| a.registry_ca = vec!["inside.example:5000=/dev/null".into()],
                "`inside.example:5000=/dev/null` has no certificate",
            ),
            (
                "proxy without a registry",
                |a| a.registry_proxy = vec!["http://proxy:3128".into()],
                "--registry-proxy: `http://proxy:3128` is not HOST=URL",
            ),
            (
                "proxy of no kind",
                |a| a.registry_proxy = vec!["*=proxy:3128".into()],
                "registry.inside.example=direct",
            ),
            (
                "store",
                |a| a.store = Some("redis://a:1".into()),
                "is neither `embedded` nor etcd://",
            ),
            (
                "member",
                |a| a.store = Some("etcd://a:1,b".into()),
                "has a member without port",
            ),
            (
                "TLS without authority",
                |a| a.store = Some("etcd+https://a:1".into()),
                "needs --etcd-cafile",
            ),
            (
                "authority without TLS",
                |a| {
                    a.store = Some("etcd://a:1".into());
                    a.etcd_cafile = Some("/dev/null".into());
                },
                "write etcd+https://",
            ),
            (
                "no prefix",
                |a| a.pod_cidr = Some("10.0.0.0".into()),
                "--pod-cidr: `10.0.0.0` has no prefix",
            ),
            (
                "long prefix",
                |a| a.service_cidr = Some("10.0.0.0/33".into()),
                "from 0 to 32",
            ),
            (
                "host bits",
                |a| a.vip_pool = vec!["10.0.0.1/24".into()],
                "write 10.0.0.0/24",
            ),
            (
                "mirror",
                |a| a.registry_mirror = vec!["docker.io".into()],
                "is not HOST=URL",
            ),
        ];
        for (name, change, expected) in cases {
            let error = resolve(change).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
