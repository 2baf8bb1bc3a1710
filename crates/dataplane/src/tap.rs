//! Opening Pod taps.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys;

/// How many hexadecimal digits of the VM's id go into the name: device names have at most 15 bytes.
const ID_DIGITS: usize = 10;

/// The tap of a VM: `pv` and the first ten letters and digits of its id.
pub fn tap_name(vm_id: &str) -> String {
    let id = vm_id.chars().filter(char::is_ascii_alphanumeric).take(ID_DIGITS);
    std::iter::once("pv".to_owned())
        .chain(id.map(String::from))
        .collect()
}

/// Makes the tap, or opens it where it exists, and makes it persistent: a VM outlives the host agent.
pub(crate) fn open(name: &str, owner: u32) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    let c_name = CString::new(name)?;
    sys::attach_tap(device.as_fd(), &c_name)?;
    sys::persist_tap(device.as_fd(), owner)?;
    Ok(device.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_device() {
        let cases = [("0a1b2c3d-4e5f-6789", "pv0a1b2c3d4e"), ("short", "pvshort")];
        for (id, expected) in cases {
            assert_eq!(tap_name(id), expected);
            assert!(tap_name(id).len() < 16);
        }
    }
}
