//! Seccomp profiles of containers (`seccompProfile`): which one a container asks for, read or made, and turned into a
//! filter that the guest installs. The guest knows no profile, only the finished program.
//!
//! A container that asks for nothing runs unconfined, as with a kubelet without `SeccompDefault`; so does a privileged
//! one, whatever it asks for. A `Localhost` profile is a file of the node's file system, `/var/lib/kubelet/seccomp/NAME`,
//! where a DaemonSet with a `hostPath` may put it; links never lead out of that file system.

mod compile;
mod profile;
mod runtime_default;
mod syscalls;

use std::io::Read;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

pub use profile::ProfileError;

/// Where profiles lie on the node.
const DIRECTORY: &str = "/var/lib/kubelet/seccomp";
/// No profile in the wild comes near.
const MAX_FILE: u64 = 1 << 20;

/// The filter of a container; empty: none. `node_files`: the directory of the node's file system.
pub fn filter(pod: &Pod, container: &Container, node_files: &Path) -> Result<Vec<u8>, ProfileError> {
    let own = container.security_context.as_ref();
    if own.and_then(|context| context.privileged) == Some(true) {
        return Ok(Vec::new());
    }
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
    let wanted: Option<&SeccompProfile> = own.and_then(|c| c.seccomp_profile.as_ref()).or(of_pod);
    match wanted.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => compile::compile(&runtime_default::profile(&capabilities(container))),
        Some(("Localhost", Some(name))) => compile::compile(&load(node_files, name)?),
        _ => Ok(Vec::new()),
    }
}

/// Capabilities beyond what everybody has, upper case, without prefix.
fn capabilities(container: &Container) -> Vec<String> {
    let list = container
        .security_context
        .as_ref()
        .and_then(|context| context.capabilities.as_ref()?.add.as_ref());
    let name = |name: &String| name.to_uppercase().trim_start_matches("CAP_").to_owned();
    list.into_iter().flatten().map(name).collect()
}

fn load(node_files: &Path, name: &str) -> Result<profile::Profile, ProfileError> {
    let path = format!("{DIRECTORY}/{name}");
    let failed = |reason: String| ProfileError::File {
        path: path.clone(),
        reason,
    };
    let system = |error: rustix::io::Errno| {
        let words = match error {
            rustix::io::Errno::NOENT => "no such file or directory".to_owned(),
            error => std::io::Error::from(error).to_string(),
        };
        failed(format!("open {path}: {words}"))
    };
    // Guests write below this directory: nothing of it is followed out of it, and only a plain file is read.
    let root = rustix::fs::openat(
        CWD,
        node_files,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(system)?;
    let relative = path.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat2(&root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(system)?;
    let file = std::fs::File::from(file);
    let read = || -> std::io::Result<Vec<u8>> {
        if !file.metadata()?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        (&file).take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| ProfileError::Decode(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(pod: serde_json::Value, own: serde_json::Value, files: &Path) -> Result<usize, String> {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [], "securityContext": pod}}))
            .expect("a Pod");
        let container: Container =
            serde_json::from_value(json!({"name": "c", "securityContext": own})).expect("a container");
        let filter = filter(&pod, &container, files).map_err(|error| error.to_string())?;
        Ok(filter.len() / 8)
    }

    #[test]
    fn who_gets_which_profile() {
        let files = tempfile::tempdir().expect("a directory");
        let profiles = files.path().join("var/lib/kubelet/seccomp/profiles");
        std::fs::create_dir_all(&profiles).expect("made");
        std::fs::write(profiles.join("one.json"), r#"{"defaultAction": "SCMP_ACT_LOG"}"#).expect("written");
        std::fs::write(profiles.join("bad.json"), "{").expect("written");
        std::os::unix::fs::symlink("/etc/passwd", profiles.join("out.json")).expect("linked");
        let of = |kind: &str| json!({"seccompProfile": {"type": kind}});
        let local = |name: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": name}});
        assert_eq!(check(json!({}), json!({}), files.path()), Ok(0));
        assert!(check(of("RuntimeDefault"), json!({}), files.path()).expect("made") > 50);
        assert!(check(json!({}), of("RuntimeDefault"), files.path()).expect("made") > 50);
        assert_eq!(check(of("RuntimeDefault"), of("Unconfined"), files.path()), Ok(0));
        let privileged = json!({"privileged": true, "seccompProfile": {"type": "RuntimeDefault"}});
        assert_eq!(check(json!({}), privileged, files.path()), Ok(0));
        assert_eq!(check(local("profiles/one.json"), json!({}), files.path()), Ok(7));
        let missing = check(json!({}), local("no.json"), files.path());
        let words = "cannot load seccomp profile \"/var/lib/kubelet/seccomp/no.json\": \
                     open /var/lib/kubelet/seccomp/no.json: no such file or directory";
        assert_eq!(missing, Err(words.to_owned()));
        let bad = check(json!({}), local("profiles/bad.json"), files.path()).expect_err("refused");
        assert!(bad.starts_with("decoding seccomp profile failed"), "{bad}");
        // Absolute links mean the node's root, not the host's.
        let out = check(json!({}), local("profiles/out.json"), files.path()).expect_err("refused");
        assert!(out.ends_with("no such file or directory"), "{out}");
    }

    #[test]
    fn the_default_lets_programs_live_and_keeps_the_kernel_closed() {
        let program = compile::compile(&runtime_default::profile(&[])).expect("compiled");
        let with = |caps: &[&str]| {
            let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
            compile::compile(&runtime_default::profile(&caps)).expect("compiled")
        };
        let of = |program: &[u8], name: &str, first: u64| {
            let number = syscalls::number(name).expect("a call");
            compile::tests::run(program, 0xc000_003e, number, [first, 0, 0, 0, 0, 0])
        };
        let (allow, refuse, absent) = (0x7fff_0000, 0x0005_0001, 0x0005_0026);
        for name in [
            "read",
            "execve",
            "futex",
            "clock_gettime",
            "statx",
            "setuid",
            "prctl",
            "seccomp",
            "rseq",
        ] {
            assert_eq!(of(&program, name, 0), allow, "{name}");
        }
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "reboot",
            "kexec_load",
            "add_key",
            "keyctl",
            "init_module",
        ] {
            assert_eq!(of(&program, name, 0), refuse, "{name}");
        }
        // A new user namespace is no plain fork; clone3 hides its flags.
        assert_eq!(of(&program, "clone", 17), allow);
        assert_eq!(of(&program, "clone", 0x1000_0000), refuse);
        assert_eq!(of(&program, "clone3", 0), absent);
        assert_eq!(of(&program, "personality", 0x0008), allow);
        assert_eq!(of(&program, "personality", 0x0004_0000), refuse);
        assert_eq!(of(&program, "socket", 2), allow);
        assert_eq!(of(&program, "socket", 40), refuse);
        let admin = with(&["SYS_ADMIN"]);
        assert_eq!(of(&admin, "mount", 0), allow);
        assert_eq!(of(&admin, "clone", 0x1000_0000), allow);
        assert_eq!(of(&with(&["ALL"]), "reboot", 0), allow);
        assert_eq!(of(&with(&["SYS_TIME"]), "settimeofday", 0), allow);
    }
}
