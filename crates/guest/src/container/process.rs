//! Starting processes: the first one of a container, and later ones beside it.
//!
//! The child reports failure through a pipe that its exec closes: an empty report means that the program runs.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use guest_api::v1::{CreateContainerRequest, Mount, Security};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2};

use super::image_users::Identity;
use super::{cgroup, rootfs, terminal};
use crate::{sys, users};

/// What Docker grants and everybody expects.
const DEFAULT_CAPABILITIES: [caps::Capability; 14] = {
    use caps::Capability::*;
    [
        CAP_CHOWN,
        CAP_DAC_OVERRIDE,
        CAP_FSETID,
        CAP_FOWNER,
        CAP_MKNOD,
        CAP_NET_RAW,
        CAP_SETGID,
        CAP_SETUID,
        CAP_SETFCAP,
        CAP_SETPCAP,
        CAP_NET_BIND_SERVICE,
        CAP_SYS_CHROOT,
        CAP_KILL,
        CAP_AUDIT_WRITE,
    ]
};
/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process is started with.
pub struct Program {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub identity: Identity,
    pub security: Security,
    pub tty: bool,
    pub stdin: bool,
}

/// A started process and the agent's ends of its streams.
pub struct Started {
    pub pid: i32,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    /// None with a terminal, which mixes both.
    pub stderr: Option<OwnedFd>,
}

/// The child's ends.
struct ChildStreams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    tty: bool,
    /// Who the process will be, as the VM counts users.
    owner: Uid,
}

/// Whose processes the first one of a container sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processes {
    /// Only those of its container.
    Own,
    /// All of the VM (`hostPID`).
    Node,
    /// Those that this process sees (`targetContainerName`, `shareProcessNamespace`).
    Of(i32),
}

/// Starts the first process of a container.
pub fn start(
    request: &CreateContainerRequest,
    sources: &[(PathBuf, Mount)],
    program: &Program,
    processes: Processes,
) -> io::Result<Started> {
    // A terminal comes from the container's own devpts, which is there only when the child has made its mounts.
    let (ours, theirs) = match program.tty {
        true => (None, None),
        false => pipes(program).map(|(ours, theirs)| (Some(ours), Some(theirs)))?,
    };
    let (go_read, go_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (ready_read, ready_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (report_read, report_write) = pipe2(OFlag::O_CLOEXEC)?;
    let users = users::open()?;
    let owner = owner(program);
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    if processes == Processes::Own {
        flags |= libc::CLONE_NEWPID;
    }
    let pid = fork_into(processes, flags)?;
    if pid == 0 {
        drop(go_write);
        drop(ready_read);
        drop(report_read);
        let mut go = File::from(go_read);
        let result = || -> io::Result<()> {
            // The cgroup comes first, so that its limits hold from the first instruction.
            go.read_exact(&mut [0])?;
            // A cgroup namespace entered before the move would show the parent's path.
            nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)?;
            rootfs::enter(request, sources)?;
            let theirs = match theirs {
                Some(theirs) => theirs,
                None => {
                    File::from(ready_write).write_all(&[1])?;
                    let mut number = [0; 4];
                    go.read_exact(&mut number)?;
                    slave(terminal::first(u32::from_ne_bytes(number))?, owner)?
                }
            };
            run(program, &theirs, users.as_ref(), true)
        };
        fail(report_write, result());
    }
    drop(theirs);
    drop(go_read);
    drop(ready_write);
    drop(report_write);
    cgroup::enter(&request.id, pid)
        .map_err(|error| io::Error::new(error.kind(), format!("cgroup: {error}")))?;
    let mut go = File::from(go_write);
    go.write_all(&[1])?;
    let ours = match ours {
        Some(ours) => ours,
        None => {
            if File::from(ready_read).read_exact(&mut [0]).is_err() {
                let words = || io::Error::other("the process did not start");
                return Err(report(report_read).unwrap_or_else(words));
            }
            let (master, number) = terminal::open(pid)?;
            go.write_all(&number.to_ne_bytes())?;
            master_streams(program, master)?
        }
    };
    finish(pid, ours, report_read)
}

/// Forks with the process namespace that is wanted. The agent itself stays where it is.
fn fork_into(processes: Processes, flags: libc::c_int) -> io::Result<i32> {
    let Processes::Of(target) = processes else {
        // SAFETY: the agent has one thread (see `main`).
        return unsafe { sys::fork_with(flags) };
    };
    let own = File::open("/proc/self/ns/pid")?;
    let other = File::open(format!("/proc/{target}/ns/pid"))?;
    setns(other.as_fd(), CloneFlags::CLONE_NEWPID)?;
    // SAFETY: the agent has one thread (see `main`).
    let pid = unsafe { sys::fork_with(flags) };
    if !matches!(pid, Ok(0)) {
        // Only what children are born into was changed.
        setns(own.as_fd(), CloneFlags::CLONE_NEWPID)?;
    }
    pid
}

/// Starts another process inside a running container.
pub fn exec(container_id: &str, container_pid: i32, program: &Program) -> io::Result<Started> {
    let (ours, theirs) = match program.tty {
        true => {
            let (master, _) = terminal::open(container_pid)?;
            let peer = terminal::peer(&master)?;
            (master_streams(program, master)?, slave(peer, owner(program))?)
        }
        false => pipes(program)?,
    };
    let (report_read, report_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (pid_read, pid_write) = pipe2(OFlag::O_CLOEXEC)?;
    let users = users::open()?;
    let namespace = |name: &str| File::open(format!("/proc/{container_pid}/ns/{name}"));
    let root = File::open(format!("/proc/{container_pid}/root"))?;
    let namespaces = [
        (namespace("pid")?, CloneFlags::CLONE_NEWPID),
        (namespace("cgroup")?, CloneFlags::CLONE_NEWCGROUP),
        (namespace("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    // SAFETY: the agent has one thread (see `main`).
    let middle = unsafe { sys::fork_with(0) }?;
    if middle == 0 {
        drop(report_read);
        drop(pid_read);
        let result = || -> io::Result<()> {
            // Before the mounts change: the agent's cgroup tree is out of sight afterwards.
            cgroup::enter(container_id, std::process::id() as i32)?;
            for (file, flag) in &namespaces {
                setns(file.as_fd(), *flag)?;
            }
            nix::unistd::fchdir(&root)?;
            nix::unistd::chroot(".")?;
            // A process id namespace is entered by children only; this one becomes a child of the agent itself.
            // SAFETY: this process is a copy of one with one thread.
            let pid = unsafe { sys::fork_with(libc::CLONE_PARENT) }?;
            if pid != 0 {
                File::from(pid_write.try_clone()?).write_all(&pid.to_ne_bytes())?;
                sys::exit_child(0);
            }
            run(program, &theirs, users.as_ref(), false)
        };
        fail(report_write, result());
    }
    drop(theirs);
    drop(report_write);
    drop(pid_write);
    let mut bytes = [0; 4];
    match File::from(pid_read).read_exact(&mut bytes) {
        Ok(()) => finish(i32::from_ne_bytes(bytes), ours, report_read),
        Err(_) => Err(report(report_read).unwrap_or_else(|| io::Error::other("the process did not start"))),
    }
}

/// The agent's ends, before the process id is known.
struct OurStreams {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

/// The agent's end of a terminal.
fn master_streams(program: &Program, master: OwnedFd) -> io::Result<OurStreams> {
    Ok(OurStreams {
        stdin: program.stdin.then(|| master.try_clone()).transpose()?,
        stdout: master,
        stderr: None,
    })
}

/// The process's end of a terminal.
fn slave(fd: OwnedFd, owner: Uid) -> io::Result<ChildStreams> {
    Ok(ChildStreams {
        stdin: fd.try_clone()?,
        stdout: fd.try_clone()?,
        stderr: fd,
        tty: true,
        owner,
    })
}

/// Who a process will be, as the VM counts users.
fn owner(program: &Program) -> Uid {
    Uid::from_raw(users::outside(program.identity.uid))
}

fn pipes(program: &Program) -> io::Result<(OurStreams, ChildStreams)> {
    let (in_read, in_write) = if program.stdin {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        (read, Some(write))
    } else {
        (OwnedFd::from(File::open("/dev/null")?), None)
    };
    let (out_read, out_write) = pipe2(OFlag::O_CLOEXEC)?;
    let (err_read, err_write) = pipe2(OFlag::O_CLOEXEC)?;
    let theirs = ChildStreams {
        stdin: in_read,
        stdout: out_write,
        stderr: err_write,
        tty: false,
        owner: owner(program),
    };
    // Who writes to them may open them by name too: `/dev/stdout` (runc: `fixStdioPermissions`).
    for pipe in [&theirs.stdout, &theirs.stderr] {
        nix::unistd::fchown(pipe, Some(theirs.owner), None)?;
    }
    if in_write.is_some() {
        nix::unistd::fchown(&theirs.stdin, Some(theirs.owner), None)?;
    }
    Ok((
        OurStreams {
            stdin: in_write,
            stdout: out_read,
            stderr: Some(err_read),
        },
        theirs,
    ))
}

fn finish(pid: i32, ours: OurStreams, report_read: OwnedFd) -> io::Result<Started> {
    if let Some(error) = report(report_read) {
        return Err(error);
    }
    Ok(Started {
        pid,
        stdin: ours.stdin,
        stdout: ours.stdout,
        stderr: ours.stderr,
    })
}

/// What a child that could not exec said: the error's number and text.
pub fn report(read: OwnedFd) -> Option<io::Error> {
    let mut bytes = Vec::new();
    File::from(read).read_to_end(&mut bytes).ok()?;
    let (number, text) = bytes.split_first_chunk::<4>()?;
    let kind = io::Error::from_raw_os_error(i32::from_ne_bytes(*number)).kind();
    Some(io::Error::new(kind, String::from_utf8_lossy(text).into_owned()))
}

pub fn fail(report: OwnedFd, result: io::Result<()>) -> ! {
    if let Err(error) = result {
        let number = error.raw_os_error().unwrap_or(match error.kind() {
            io::ErrorKind::NotFound => libc::ENOENT,
            io::ErrorKind::PermissionDenied => libc::EACCES,
            _ => libc::EIO,
        });
        let mut message = number.to_ne_bytes().to_vec();
        message.extend_from_slice(error.to_string().as_bytes());
        // The agent may be gone; then nobody listens.
        let _ = File::from(report).write_all(&message);
    }
    sys::exit_child(127)
}

/// In the child, root and namespaces in place: streams, identity, program. Returns only on failure.
fn run(program: &Program, streams: &ChildStreams, users: Option<&File>, first: bool) -> io::Result<()> {
    nix::unistd::setsid()?;
    dup2_stdin(&streams.stdin)?;
    dup2_stdout(&streams.stdout)?;
    dup2_stderr(&streams.stderr)?;
    if streams.tty {
        sys::control_terminal(streams.stdin.as_fd())?;
        // Who uses the terminal owns it, as after a sign-in.
        nix::unistd::fchown(&streams.stdin, Some(streams.owner), None)?;
    }
    // As long as it may: nobody but root of the VM lowers it. A program runs without it as well.
    let _ = std::fs::write("/proc/self/oom_score_adj", program.security.oom_score.to_string());
    if let Some(users) = users {
        users::enter(users, first)
            .map_err(|error| io::Error::new(error.kind(), format!("user namespace: {error}")))?;
    }
    // Signals that the agent ignores or catches are as a program expects them.
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    let cwd = if program.cwd.is_empty() { "/" } else { &program.cwd };
    let place = |error: io::Error| io::Error::new(error.kind(), format!("chdir to cwd ({cwd:?}): {error}"));
    if !Path::new(cwd).exists() {
        std::fs::create_dir_all(cwd).map_err(place)?;
    }
    std::env::set_current_dir(cwd).map_err(place)?;
    sys::end_on_broken_pipe();
    become_user(program).map_err(|error| io::Error::new(error.kind(), format!("user: {error}")))?;
    let args: Vec<CString> = program
        .args
        .iter()
        .map(|arg| CString::new(arg.as_str()))
        .collect::<Result<_, _>>()?;
    let mut env = program.env.clone();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", program.identity.home));
    }
    if program.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let path = find_program(&program.args[0], &env)?;
    let path = CString::new(path.into_os_string().into_encoded_bytes())?;
    let env: Vec<CString> = env
        .iter()
        .map(|entry| CString::new(entry.as_str()))
        .collect::<Result<_, _>>()?;
    let error = match nix::unistd::execve(&path, &args, &env) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    Err(io::Error::new(
        io::Error::from(error).kind(),
        format!("exec: {:?}: {}", program.args[0], words(&program.args[0], error)),
    ))
}

/// What runc says for the usual reasons why a program cannot be run.
fn words(program: &str, error: nix::errno::Errno) -> String {
    match error {
        nix::errno::Errno::ENOENT => format!("stat {program}: no such file or directory"),
        nix::errno::Errno::EACCES => "permission denied".to_owned(),
        nix::errno::Errno::ENOEXEC => "exec format error".to_owned(),
        other => other.desc().to_lowercase(),
    }
}

fn find_program(name: &str, env: &[String]) -> io::Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let found = path
        .split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("exec: {name:?}: executable file not found in $PATH"),
        )
    })
}

fn become_user(program: &Program) -> io::Result<()> {
    let security = &program.security;
    let wanted = capabilities(security)?;
    if security.no_new_privileges {
        nix::sys::prctl::set_no_new_privs()?;
    }
    let filter = || -> io::Result<()> {
        let words = |error: io::Error| io::Error::new(error.kind(), format!("seccomp: {error}"));
        match security.seccomp_filter.is_empty() {
            true => Ok(()),
            false => sys::filter_calls(&security.seccomp_filter).map_err(words),
        }
    };
    // Without `no_new_privs` a filter takes CAP_SYS_ADMIN, which is about to go; with it, it comes as late as it can.
    if !security.no_new_privileges {
        filter()?;
    }
    let cap_error = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    if !security.privileged {
        for capability in caps::all() {
            if !wanted.contains(&capability)
                && caps::has_cap(None, caps::CapSet::Bounding, capability).unwrap_or(false)
            {
                caps::drop(None, caps::CapSet::Bounding, capability).map_err(cap_error)?;
            }
        }
    }
    let identity = &program.identity;
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setgid(Gid::from_raw(identity.gid))?;
    nix::unistd::setuid(Uid::from_raw(identity.uid))?;
    if identity.uid == 0 && !security.privileged {
        let none = caps::CapsHashSet::new();
        // Effective first: a permitted set may not shrink below it.
        let sets = [
            (caps::CapSet::Inheritable, &none),
            (caps::CapSet::Effective, &wanted),
            (caps::CapSet::Permitted, &wanted),
        ];
        for (set, value) in sets {
            caps::set(None, set, value).map_err(cap_error)?;
        }
    }
    if security.no_new_privileges {
        filter()?;
    }
    Ok(())
}

fn capabilities(security: &Security) -> io::Result<caps::CapsHashSet> {
    if security.privileged {
        return Ok(caps::all());
    }
    let mut set: caps::CapsHashSet = DEFAULT_CAPABILITIES.into_iter().collect();
    let parse = |name: &str| {
        let full = format!("CAP_{}", name.trim_start_matches("CAP_").to_uppercase());
        full.parse::<caps::Capability>().map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown capability {name:?}"),
            )
        })
    };
    for name in &security.drop_capabilities {
        if name.eq_ignore_ascii_case("ALL") {
            set.clear();
        } else {
            set.remove(&parse(name)?);
        }
    }
    for name in &security.add_capabilities {
        if name.eq_ignore_ascii_case("ALL") {
            set = caps::all();
        } else {
            set.insert(parse(name)?);
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_added_and_dropped() {
        let count = |add: &[&str], drop: &[&str]| {
            let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
            let security = Security {
                add_capabilities: names(add),
                drop_capabilities: names(drop),
                ..Security::default()
            };
            capabilities(&security)
                .map(|set| set.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(count(&[], &[]), Ok(14));
        assert_eq!(count(&[], &["ALL"]), Ok(0));
        assert_eq!(count(&["NET_ADMIN"], &["all"]), Ok(1));
        assert_eq!(count(&["NET_ADMIN"], &["MKNOD"]), Ok(14));
        assert_eq!(count(&["ALL"], &[]), Ok(caps::all().len()));
        assert!(count(&["FLY"], &[]).is_err());
    }

    #[test]
    fn a_childs_report_carries_number_and_text() {
        let (read, write) = pipe2(OFlag::empty()).expect("a pipe");
        let mut bytes = libc::ENOENT.to_ne_bytes().to_vec();
        bytes.extend_from_slice(b"exec: \"nope\"");
        File::from(write).write_all(&bytes).expect("written");
        let error = report(read).expect("a report");
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::NotFound, "exec: \"nope\"".to_owned())
        );
    }
}
