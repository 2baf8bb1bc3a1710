//! The identity of the VM, set at run time: names, addresses, clock, entropy.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use guest_api::v1::{ConfigureRequest, Interface};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::{disks, sys};

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
    nix::unistd::sethostname(&request.hostname)?;
    if !request.domain_name.is_empty() {
        rustix::system::setdomainname(request.domain_name.as_bytes())?;
    }
    fs::create_dir_all(ETC)?;
    fs::write(Path::new(ETC).join("hostname"), format!("{}\n", request.hostname))?;
    fs::write(Path::new(ETC).join("hosts"), &request.hosts)?;
    fs::write(Path::new(ETC).join("resolv.conf"), &request.resolv_conf)?;
    sys::configure_interface("lo", Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED, 0)?;
    if let Some(interface) = &request.interface {
        configure_interface(interface)?;
    }
    for (name, value) in &request.sysctls {
        if name.contains("..") || name.contains('/') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("sysctl {name}: not a name"),
            ));
        }
        fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value)
            .map_err(|error| io::Error::new(error.kind(), format!("sysctl {name}: {error}")))?;
    }
    disks::scratch(&request.scratch_serial).await
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

fn configure_interface(interface: &Interface) -> io::Result<()> {
    let wanted = interface
        .mac
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":");
    let parse = |text: &str| text.parse::<Ipv4Addr>().map_err(io::Error::other);
    for entry in fs::read_dir("/sys/class/net")? {
        let entry = entry?;
        let mac = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
        if mac.trim() == wanted {
            let name = entry.file_name().to_string_lossy().into_owned();
            let (address, gateway) = (parse(&interface.address)?, parse(&interface.gateway)?);
            return sys::configure_interface(&name, address, gateway, interface.mtu);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("no network device with address {wanted}"),
    ))
}
