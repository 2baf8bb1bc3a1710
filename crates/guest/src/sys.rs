//! The system calls that need unsafe code, each with its reason.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes a child by `clone` with new namespaces; 0 in the child. Only for a process with one thread.
///
/// # Safety
/// The caller guarantees that no other thread exists, so that the child may run ordinary code.
pub unsafe fn fork_with(flags: libc::c_int) -> io::Result<libc::pid_t> {
    let flags = (flags | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: a null stack makes clone behave as fork; the caller answers for the single thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid as libc::pid_t)
    }
}

/// Watches a file for readiness.
pub fn watch(file: std::fs::File) -> io::Result<tokio::io::unix::AsyncFd<std::fs::File>> {
    // SAFETY: a `File` owns its descriptor and always gives the same one, for as long as it lives.
    Ok(unsafe { tokio::io::unix::AsyncFd::register(file) }?)
}

/// Ends a forked child at once, without destructors or buffers of the parent.
pub fn exit_child(code: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to a process; real-time ones too, which nix does not name.
pub fn send_signal(pid: libc::pid_t, signal: i32) {
    // SAFETY: kill takes two numbers. The process may have ended in this very moment, which is fine.
    let _ = unsafe { libc::kill(pid, signal) };
}

/// Ends the machine. By a reset, since not every kernel has a way to power off here; the host takes it for the end.
pub fn end_machine() {
    // SAFETY: neither call touches memory of ours.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_AUTOBOOT);
    }
}

/// Moves the clock by so many microseconds without a jump: the kernel lets it run a little faster or slower (half a
/// millisecond a second) until it is there.
pub fn slew_clock(microseconds: i64) -> io::Result<()> {
    // SAFETY: all fields of timex are plain data, for which zero bytes are valid.
    let mut request: libc::timex = unsafe { std::mem::zeroed() };
    request.modes = libc::ADJ_OFFSET_SINGLESHOT;
    request.offset = microseconds;
    // SAFETY: the kernel reads and writes one timex, which outlives the call.
    check(unsafe { libc::adjtimex(&mut request) })
}

/// Makes a mounted ext4 file system this many blocks big.
pub fn resize_ext4(directory: BorrowedFd<'_>, blocks: u64) -> io::Result<()> {
    /// `EXT4_IOC_RESIZE_FS`, which libc does not name: `_IOW('f', 16, __u64)`.
    const RESIZE_FS: libc::c_ulong = 0x4008_6610;
    // SAFETY: the descriptor is open and the kernel reads one number, which outlives the call.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), RESIZE_FS as _, &blocks) })
}

/// Freezes a mounted file system: everything is written out and nobody writes until it is thawed.
pub fn freeze(directory: BorrowedFd<'_>, frozen: bool) -> io::Result<()> {
    /// `FIFREEZE` and `FITHAW`, which libc does not name: `_IOWR('X', 119, int)` and 120.
    const REQUESTS: [libc::c_ulong; 2] = [0xc004_5878, 0xc004_5877];
    // SAFETY: the descriptor is open; these requests ignore their argument.
    check(unsafe { libc::ioctl(directory.as_raw_fd(), REQUESTS[usize::from(frozen)] as _, 0) })
}

/// Makes a terminal the controlling one of this session.
pub fn control_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; TIOCSCTTY takes a number.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
}

/// Lets the other end of a terminal be opened.
pub fn unlock_terminal(master: BorrowedFd<'_>) -> io::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: the descriptor is open and TIOCSPTLCK reads one number, which outlives the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &locked) })
}

/// The number of a terminal in its devpts.
pub fn terminal_number(master: BorrowedFd<'_>) -> io::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the descriptor is open and TIOCGPTN writes one number, which outlives the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &mut number) })?;
    Ok(number)
}

/// Opens the other end of a terminal without its path.
pub fn terminal_peer(master: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    /// `TIOCGPTPEER`, which libc does not name everywhere: `_IO('T', 0x41)`.
    const PEER: libc::c_ulong = 0x5441;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the descriptor is open; TIOCGPTPEER takes flags and returns a descriptor.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), PEER as _, flags) };
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Sets the size of a terminal.
pub fn resize_terminal(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open and TIOCSWINSZ reads one winsize, which outlives the call.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) })
}

/// `struct mount_attr`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Maps the owners in a mount that is not attached yet as a user namespace maps them.
pub fn map_users(tree: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    /// `MOUNT_ATTR_IDMAP`.
    const MAPPED: u64 = 0x0010_0000;
    let attributes = Attributes {
        set: MAPPED,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: both descriptors are open; the kernel reads an empty path and a structure of the size that is said, which
    // outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &attributes,
            size_of::<Attributes>(),
        )
    };
    check(result as libc::c_int)
}

/// Moves a network device into another network namespace (`RTM_SETLINK` with `IFLA_NET_NS_FD`).
pub fn move_interface(index: i32, namespace: BorrowedFd<'_>) -> io::Result<()> {
    /// Header, `struct ifinfomsg`, and one attribute of four bytes.
    #[repr(C)]
    struct Request {
        header: libc::nlmsghdr,
        family: u8,
        padding: u8,
        kind: u16,
        index: i32,
        flags: u32,
        change: u32,
        length: u16,
        attribute: u16,
        value: i32,
    }
    /// Header and `struct nlmsgerr` up to its number.
    #[repr(C)]
    struct Answer {
        header: [u32; 4],
        error: i32,
        rest: [u32; 64],
    }
    let request = Request {
        header: libc::nlmsghdr {
            nlmsg_len: size_of::<Request>() as u32,
            nlmsg_type: libc::RTM_SETLINK,
            nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        family: libc::AF_UNSPEC as u8,
        padding: 0,
        kind: 0,
        index,
        flags: 0,
        change: 0,
        length: 8,
        attribute: libc::IFLA_NET_NS_FD,
        value: namespace.as_raw_fd(),
    };
    let mut answer = Answer {
        header: [0; 4],
        error: 0,
        rest: [0; 64],
    };
    // SAFETY: plain system calls: the structures are as long as is said and outlive the calls, and the socket is closed
    // by its owner.
    let got = unsafe {
        use std::os::fd::FromRawFd;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        let fd = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
        check(fd)?;
        let socket = std::os::fd::OwnedFd::from_raw_fd(fd);
        let sent = libc::send(
            socket.as_raw_fd(),
            (&raw const request).cast(),
            size_of::<Request>(),
            0,
        );
        check(sent as libc::c_int)?;
        libc::recv(
            socket.as_raw_fd(),
            (&raw mut answer).cast(),
            size_of::<Answer>(),
            0,
        )
    };
    check(got as libc::c_int)?;
    match answer.error {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(-number)),
    }
}

/// Makes a mount and all that is mounted below it read-only.
pub fn read_only_below(path: &std::path::Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    /// `MOUNT_ATTR_RDONLY`.
    const READ_ONLY: u64 = 1;
    let attributes = Attributes {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the kernel reads a path that ends with a zero byte and a structure of the size that is said; both outlive
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &attributes,
            size_of::<Attributes>(),
        )
    };
    check(result as libc::c_int)
}

/// Gives a broken pipe its usual meaning back, which the Rust runtime takes away and programs would inherit: `yes | head`
/// would never end.
pub fn end_on_broken_pipe() {
    // SAFETY: a default disposition has no handler whose code could be wrong.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Filters the system calls of this process from now on. `program`: classic BPF, eight bytes an instruction.
pub fn filter_calls(program: &[u8]) -> io::Result<()> {
    let instruction = |bytes: &[u8]| libc::sock_filter {
        code: u16::from_le_bytes([bytes[0], bytes[1]]),
        jt: bytes[2],
        jf: bytes[3],
        k: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
    };
    let mut program: Vec<libc::sock_filter> = program.chunks_exact(8).map(instruction).collect();
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    let flags: libc::c_ulong = 0;
    // SAFETY: the kernel copies the instructions, of which there are as many as is said; they outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program) };
    check(result as libc::c_int)
}

/// Lets a program decide which devices may be used by whoever is in a cgroup. `program`: eight bytes an instruction.
pub fn filter_devices(cgroup: BorrowedFd<'_>, program: &[u8]) -> io::Result<()> {
    use std::os::fd::{FromRawFd, OwnedFd};
    /// Commands, and kinds of program and place, of `bpf`: `linux/bpf.h`.
    const LOAD: libc::c_int = 5;
    const ATTACH: libc::c_int = 8;
    const DEVICES: u32 = 15;
    const AT_DEVICES: u32 = 6;
    /// Programs of groups below are asked as well (`BPF_F_ALLOW_MULTI`).
    const BESIDE_OTHERS: u32 = 2;
    /// The beginning of `union bpf_attr` for loading.
    #[repr(C)]
    struct Program {
        kind: u32,
        count: u32,
        instructions: *const u8,
        license: *const libc::c_char,
        log_level: u32,
        log_size: u32,
        log: u64,
        version: u32,
        flags: u32,
    }
    /// And for attaching.
    #[repr(C)]
    struct Place {
        target: u32,
        program: u32,
        kind: u32,
        flags: u32,
    }
    let loaded = Program {
        kind: DEVICES,
        count: u32::try_from(program.len() / 8).map_err(io::Error::other)?,
        instructions: program.as_ptr(),
        license: c"Apache-2.0".as_ptr(),
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
    };
    let number = |fd: libc::c_int| u32::try_from(fd).map_err(io::Error::other);
    // SAFETY: the kernel reads a structure of the size that is said, and as many instructions, and a text that ends with a
    // zero byte; all of them outlive the call. The descriptor that it returns belongs to nobody else.
    let program = unsafe {
        let fd = libc::syscall(libc::SYS_bpf, LOAD, &raw const loaded, size_of::<Program>());
        check(fd as libc::c_int)?;
        OwnedFd::from_raw_fd(fd as libc::c_int)
    };
    let place = Place {
        target: number(cgroup.as_raw_fd())?,
        program: number(program.as_raw_fd())?,
        kind: AT_DEVICES,
        flags: BESIDE_OTHERS,
    };
    // SAFETY: both descriptors are open, and the kernel reads a structure of the size that is said.
    let result = unsafe { libc::syscall(libc::SYS_bpf, ATTACH, &raw const place, size_of::<Place>()) };
    check(result as libc::c_int)
}

/// Adds fresh entropy and counts it.
pub fn add_entropy(seed: &[u8]) -> io::Result<()> {
    use std::os::fd::AsFd;
    /// `struct rand_pool_info` with room for 64 bytes.
    #[repr(C)]
    struct Pool {
        entropy_count: libc::c_int,
        buf_size: libc::c_int,
        buf: [u8; 64],
    }
    /// `RNDADDENTROPY`, which libc does not name: `_IOW('R', 3, int[2])`.
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    let length = seed.len().min(64);
    let mut pool = Pool {
        entropy_count: (length * 8) as i32,
        buf_size: length as i32,
        buf: [0; 64],
    };
    pool.buf[..length].copy_from_slice(&seed[..length]);
    let device = std::fs::File::options().write(true).open("/dev/urandom")?;
    // SAFETY: the descriptor is open and the structure has the layout that the kernel reads, no more than `buf_size`.
    check(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), RNDADDENTROPY, &pool) })
}

/// Configures an IPv4 interface with a /32 address and a gateway that is reached on the link.
pub fn configure_interface(name: &str, address: Ipv4Addr, gateway: Ipv4Addr, mtu: u32) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let fd = socket.as_raw_fd();
    let mut request = interface_request(name)?;
    let ioctl = |number: libc::c_ulong, request: &mut libc::ifreq| {
        // SAFETY: the socket is open and these requests read and write one ifreq, which outlives the call.
        check(unsafe { libc::ioctl(fd, number as _, request) })
    };
    if mtu > 0 {
        request.ifr_ifru.ifru_mtu = mtu as libc::c_int;
        ioctl(libc::SIOCSIFMTU, &mut request)?;
    }
    if !address.is_unspecified() {
        request.ifr_ifru.ifru_addr = socket_address(address);
        ioctl(libc::SIOCSIFADDR, &mut request)?;
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::BROADCAST);
        ioctl(libc::SIOCSIFNETMASK, &mut request)?;
    }
    ioctl(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has just written this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS, &mut request)?;
    if !gateway.is_unspecified() {
        add_route(fd, name, gateway, Ipv4Addr::BROADCAST, None)?;
        add_route(
            fd,
            name,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Some(gateway),
        )?;
    }
    Ok(())
}

fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all fields of ifreq are plain data, for which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the interface's name is too long",
        ));
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *target = byte as libc::c_char;
    }
    Ok(request)
}

fn add_route(
    fd: libc::c_int,
    device: &str,
    destination: Ipv4Addr,
    mask: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
) -> io::Result<()> {
    let device = std::ffi::CString::new(device)?;
    // SAFETY: all fields of rtentry are plain data, for which zero bytes are valid.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(destination);
    route.rt_genmask = socket_address(mask);
    route.rt_flags = libc::RTF_UP;
    if let Some(gateway) = gateway {
        route.rt_gateway = socket_address(gateway);
        route.rt_flags |= libc::RTF_GATEWAY;
    } else {
        route.rt_flags |= libc::RTF_HOST;
    }
    route.rt_dev = device.as_ptr().cast_mut();
    // SAFETY: the socket is open; the kernel reads one rtentry and the device's name, both of which outlive the call.
    match check(unsafe { libc::ioctl(fd, libc::SIOCADDRT as _, &route) }) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let plain = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both structures have 16 bytes and no padding that is read as anything but bytes.
    unsafe { std::mem::transmute(plain) }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
