//! The two ioctls of a tap device, the raw frames of announcements and the change of user: the only unsafe code of this crate.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Makes or opens the tap `name` on an open `/dev/net/tun`. The name must be shorter than 16 bytes.
pub(crate) fn attach_tap(device: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // SAFETY: all fields of ifreq are plain data, for which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.to_bytes_with_nul();
    if bytes.len() > request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the device name is too long",
        ));
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *target = byte.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    // The flags fit: they are bits of a C short.
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    check(result)
}

/// Makes the tap outlive its last descriptor, and lets `owner` open it.
pub(crate) fn persist_tap(device: BorrowedFd<'_>, owner: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open; TUNSETOWNER takes its argument by value.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(owner)) })?;
    // SAFETY: the descriptor is open; TUNSETPERSIST takes its argument by value.
    check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) })
}

/// Sends an Ethernet frame on a link, without waiting.
pub(crate) fn send_frame(link: i32, frame: &[u8]) -> io::Result<()> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Of no protocol: it receives nothing.
    // SAFETY: the call takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    check(socket)?;
    // SAFETY: the descriptor was just opened and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all fields of sockaddr_ll are plain data, for which zero bytes are valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_ifindex = link;
    // SAFETY: the socket is open; the kernel reads the frame and one sockaddr_ll, both of which outlive the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    match sent {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the whole process a user's, of no other group than its own; with root its capabilities go.
pub(crate) fn become_user(user: u32) -> io::Result<()> {
    // SAFETY: an empty list is read nowhere.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::setresgid(user, user, user) })?;
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::setresuid(user, user, user) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
