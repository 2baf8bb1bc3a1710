//! A profile as container engines write it in JSON (OCI runtime specification, `linux.seccomp`).

use serde::Deserialize;

/// Why a profile cannot be used: the words that the Pod's event shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot load seccomp profile {path:?}: {reason}")]
    File {
        /// Where it was looked for, as the node sees it.
        path: String,
        /// The system's words.
        reason: String,
    },
    /// The file is no profile.
    #[error("decoding seccomp profile failed: {0}")]
    Decode(String),
    /// An action that means nothing here.
    #[error("seccomp: action {0:?} is not supported")]
    Action(String),
    /// A comparison of more arguments than there are.
    #[error("seccomp: a system call has no argument {0}")]
    Argument(u32),
    /// The kernel takes no program that long.
    #[error("seccomp: the profile makes {0} instructions, more than the kernel takes")]
    TooLong(usize),
}

/// A whole profile.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to calls that no rule names.
    pub default_action: String,
    /// The error of the default action.
    #[serde(default)]
    pub default_errno_ret: Option<u32>,
    /// The rules.
    #[serde(default)]
    pub syscalls: Vec<Rule>,
}

/// What happens to some calls.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Their names; those that this architecture does not have are passed over.
    #[serde(default)]
    pub names: Vec<String>,
    /// `SCMP_ACT_…`.
    pub action: String,
    /// The error of `SCMP_ACT_ERRNO`.
    #[serde(default)]
    pub errno_ret: Option<u32>,
    /// All of these must hold.
    #[serde(default)]
    pub args: Vec<Arg>,
}

/// A comparison of one argument.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Arg {
    /// Which argument, from 0.
    pub index: u32,
    /// With what; for `SCMP_CMP_MASKED_EQ` the mask.
    pub value: u64,
    /// For `SCMP_CMP_MASKED_EQ` what is left under the mask.
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub op: Compare,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Compare {
    /// Not equal.
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    /// Less.
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    /// Less or equal.
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    /// Equal.
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    /// Greater or equal.
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    /// Greater.
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    /// Equal under a mask.
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// `EPERM`, the error of calls that are refused without another one.
const EPERM: u32 = 1;

/// What the kernel is to do, as a filter returns it (`SECCOMP_RET_…`).
pub fn action(name: &str, errno: Option<u32>) -> Result<u32, ProfileError> {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        other => return Err(ProfileError::Action(other.to_owned())),
    })
}
