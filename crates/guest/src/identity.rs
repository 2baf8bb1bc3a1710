//! The identity of the VM, set at run time: names, addresses, clock, entropy.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use guest_api::v1::{ConfigureRequest, Interface};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::{disks, sys, users};

/// Files that every container sees below `/etc`.
pub const ETC: &str = "/run/etc";

/// In nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// Applies an identity.
pub async fn apply(request: &ConfigureRequest) -> io::Result<()> {
    if request.unix_time_ns > 0 {
        set_clock(request.unix_time_ns)?;
    }
    if !request.random_seed.is_empty() {
        sys::add_entropy(&request.random_seed)?;
    }
    let device = request.interface.as_ref().map(find_interface).transpose()?;
    if request.user_namespace && !users::separate() {
        users::make(device.as_deref(), request.first_user)
            .map_err(|error| io::Error::new(error.kind(), format!("user namespace: {error}")))?;
    }
    nix::unistd::sethostname(&request.hostname)?;
    if !request.domain_name.is_empty() {
        rustix::system::setdomainname(request.domain_name.as_bytes())?;
    }
    fs::create_dir_all(ETC)?;
    fs::write(Path::new(ETC).join("hostname"), format!("{}\n", request.hostname))?;
    fs::write(Path::new(ETC).join("hosts"), &request.hosts)?;
    fs::write(Path::new(ETC).join("resolv.conf"), &request.resolv_conf)?;
    for name in ["hostname", "hosts", "resolv.conf"] {
        users::give(&Path::new(ETC).join(name))?;
    }
    sys::configure_interface("lo", Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, 0)?;
    if let (Some(interface), Some(device)) = (&request.interface, device) {
        let parse = |text: &str| text.parse::<Ipv4Addr>().map_err(io::Error::other);
        let (address, gateway) = (parse(&interface.address)?, parse(&interface.gateway)?);
        sys::configure_interface(&device, address, gateway, interface.mtu)?;
    }
    for (name, value) in &request.sysctls {
        let problem =
            |kind, words: &dyn std::fmt::Display| io::Error::new(kind, format!("sysctl {name}: {words}"));
        let path = sysctl_file(name).ok_or_else(|| problem(io::ErrorKind::InvalidInput, &"not a name"))?;
        fs::write(path, value).map_err(|error| problem(error.kind(), &error))?;
    }
    disks::scratch(&request.scratch_serial).await
}

/// The file of a sysctl whose name has dots between its parts; slashes stand for dots within one, as in the name of a VLAN.
fn sysctl_file(name: &str) -> Option<PathBuf> {
    let mut file = PathBuf::from("/proc/sys");
    for part in name.split('.') {
        let part = part.replace('/', ".");
        if part.trim_matches('.').is_empty() {
            return None;
        }
        file.push(part);
    }
    Some(file)
}

fn set_clock(unix_time_ns: i64) -> io::Result<()> {
    let time = TimeSpec::new(unix_time_ns.div_euclid(SECOND), unix_time_ns.rem_euclid(SECOND));
    Ok(clock_settime(ClockId::CLOCK_REALTIME, time)?)
}

/// Moves the clock, at once or gradually.
pub fn move_clock(step_ns: i64) -> io::Result<()> {
    match step_ns {
        0 => Ok(()),
        step if step.saturating_abs() < SECOND => sys::slew_clock(step / 1000),
        step => {
            let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
            let now = now.tv_sec().saturating_mul(SECOND).saturating_add(now.tv_nsec());
            set_clock(now.saturating_add(step))
        }
    }
}

/// The name of a network device.
fn find_interface(interface: &Interface) -> io::Result<String> {
    let wanted = interface
        .mac
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":");
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let mac = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if mac.trim() == wanted {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no network device with address {wanted}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::sysctl_file;

    #[test]
    fn files_of_sysctls() {
        let cases = [
            ("kernel.shm_rmid_forced", Some("/proc/sys/kernel/shm_rmid_forced")),
            (
                "net.ipv4.conf.eth0/100.rp_filter",
                Some("/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
            ),
            ("kernel", Some("/proc/sys/kernel")),
            ("", None),
            ("kernel..x", None),
            ("kernel.//.x", None),
        ];
        for (name, expected) in cases {
            let found = sysctl_file(name);
            assert_eq!(
                found.as_deref().and_then(std::path::Path::to_str),
                expected,
                "{name}"
            );
        }
    }
}
