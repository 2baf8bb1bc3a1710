//! Which devices a container may open: a program of the kernel's that is asked at every use of a device by whoever is in
//! the container's cgroup.
//!
//! Without it a container could make a node of any disk of its VM, for which every container has the capability
//! (`CAP_MKNOD`), and read the claims of others. As runc has it, any node may be made and only what is listed may be
//! opened. A privileged container has no such program.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use guest_api::v1::{CreateContainerRequest, Mount, mount::Source};

use crate::sys;

/// Kinds of devices and of access, as the kernel counts them (`linux/bpf.h`).
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MAKE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// What a container may do with a device; no number stands for any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    kind: u32,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

const fn character(major: u32, minor: Option<u32>) -> Rule {
    Rule {
        kind: CHARACTER,
        major: Some(major),
        minor,
        access: MAKE | READ | WRITE,
    }
}

const fn any(kind: u32) -> Rule {
    Rule {
        kind,
        major: None,
        minor: None,
        access: MAKE,
    }
}

/// What every container may do.
const EVERYBODY: [Rule; 10] = [
    any(CHARACTER),
    any(BLOCK),
    // null, zero, full, random, urandom
    character(1, Some(3)),
    character(1, Some(5)),
    character(1, Some(7)),
    character(1, Some(8)),
    character(1, Some(9)),
    // tty, ptmx, and the terminals themselves, of which `/dev/console` is one
    character(5, Some(0)),
    character(5, Some(2)),
    character(136, None),
];

/// Holds a container's cgroup to its devices. `sources`: what its mounts are of.
pub fn confine(
    cgroup: &Path,
    request: &CreateContainerRequest,
    sources: &[(PathBuf, Mount)],
) -> io::Result<()> {
    if request.security.as_ref().is_some_and(|wanted| wanted.privileged) {
        return Ok(());
    }
    let mut rules = EVERYBODY.to_vec();
    for (path, wanted) in sources {
        if let Some(Source::Disk(disk)) = &wanted.source
            && disk.block
        {
            rules.push(own(path, disk.read_only || wanted.read_only)?);
        }
    }
    let words = |error: io::Error| io::Error::new(error.kind(), format!("device rules: {error}"));
    sys::filter_devices(File::open(cgroup)?.as_fd(), &program(&rules)).map_err(words)
}

/// The rule for a device that the Pod's spec gives to the container.
fn own(path: &Path, read_only: bool) -> io::Result<Rule> {
    let data = std::fs::metadata(path)?;
    Ok(Rule {
        kind: match data.file_type().is_block_device() {
            true => BLOCK,
            false => CHARACTER,
        },
        major: Some(libc::major(data.rdev())),
        minor: Some(libc::minor(data.rdev())),
        access: match read_only {
            true => MAKE | READ,
            false => MAKE | READ | WRITE,
        },
    })
}

/// An instruction of the kernel's machine for such programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    skip: i16,
    value: u32,
}

/// Registers: the answer, what is asked, and what is taken out of it.
const ANSWER: u8 = 0;
const ASKED: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const REST: u8 = 6;

/// `r = *(u32 *)(from + offset)`
const LOAD: u8 = 0x61;
/// `r = from`, `r = value`, `r &= value`, `r >>= value`, each on 64 bits
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT: u8 = 0x77;
/// `if r != value, skip so many`
const UNLESS: u8 = 0x55;
const END: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, skip: i16, value: u32) -> Instruction {
    Instruction {
        code,
        to,
        from,
        skip,
        value,
    }
}

/// Rule after rule: whoever asks for no more than one allows may. The kernel asks with three numbers: access in the upper
/// half and kind in the lower half of the first, then major and minor.
fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, KIND, ASKED, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT, ACCESS, 0, 0, 16),
        instruction(LOAD, MAJOR, ASKED, 4, 0),
        instruction(LOAD, MINOR, ASKED, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![(KIND, rule.kind)];
        tests.extend(rule.major.map(|major| (MAJOR, major)));
        tests.extend(rule.minor.map(|minor| (MINOR, minor)));
        // After a test come the other tests, three instructions about the access, and the two of the answer.
        let mut left = tests.len() as i16 + 5;
        for (register, value) in tests {
            left -= 1;
            program.push(instruction(UNLESS, register, 0, left, value));
        }
        program.extend([
            instruction(COPY, REST, ACCESS, 0, 0),
            instruction(AND, REST, 0, 0, !rule.access & 0x7fff_ffff),
            instruction(UNLESS, REST, 0, 2, 0),
            instruction(SET, ANSWER, 0, 0, 1),
            instruction(END, 0, 0, 0, 0),
        ]);
    }
    program.extend([instruction(SET, ANSWER, 0, 0, 0), instruction(END, 0, 0, 0, 0)]);
    program
}

/// As the kernel reads it: eight bytes an instruction.
fn program(rules: &[Rule]) -> Vec<u8> {
    let bytes = |one: Instruction| {
        let [low, high] = one.skip.to_le_bytes();
        let [a, b, c, d] = one.value.to_le_bytes();
        [one.code, one.from << 4 | one.to, low, high, a, b, c, d]
    };
    assemble(rules).into_iter().flat_map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn allows(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let asked = [access << 16 | kind, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0_usize;
        loop {
            let one = program[at];
            let (to, from) = (usize::from(one.to), usize::from(one.from));
            at += 1;
            match one.code {
                LOAD => registers[to] = u64::from(asked[usize::try_from(one.skip / 4).expect("in it")]),
                COPY => registers[to] = registers[from],
                SET => registers[to] = u64::from(one.value),
                AND => registers[to] &= u64::from(one.value),
                SHIFT => registers[to] >>= one.value,
                UNLESS if registers[to] != u64::from(one.value) => {
                    at += usize::try_from(one.skip).expect("forward");
                }
                UNLESS => {}
                END => return registers[0] == 1,
                other => panic!("no such instruction: {other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_may_be_opened() {
        let mut rules = EVERYBODY.to_vec();
        rules.extend([
            Rule {
                kind: BLOCK,
                major: Some(8),
                minor: Some(32),
                access: MAKE | READ | WRITE,
            },
            Rule {
                kind: BLOCK,
                major: Some(8),
                minor: Some(48),
                access: MAKE | READ,
            },
        ]);
        let program = assemble(&rules);
        for (kind, access, major, minor, expected) in [
            (BLOCK, MAKE, 8, 0, true),
            (BLOCK, READ, 8, 0, false),
            (BLOCK, READ | WRITE, 8, 0, false),
            (BLOCK, MAKE | READ, 8, 0, false),
            (CHARACTER, MAKE, 4, 64, true),
            (CHARACTER, WRITE, 4, 64, false),
            (CHARACTER, READ | WRITE, 1, 3, true),
            (BLOCK, READ, 1, 3, false),
            (CHARACTER, READ, 1, 9, true),
            (CHARACTER, READ, 1, 1, false),
            (CHARACTER, READ | WRITE, 5, 2, true),
            (CHARACTER, WRITE, 5, 1, false),
            (CHARACTER, READ | WRITE, 136, 77, true),
            (BLOCK, READ | WRITE, 8, 32, true),
            (CHARACTER, READ, 8, 32, false),
            (BLOCK, READ, 8, 48, true),
            (BLOCK, WRITE, 8, 48, false),
            (BLOCK, READ | WRITE, 8, 48, false),
        ] {
            let answer = allows(&program, kind, access, major, minor);
            assert_eq!(answer, expected, "{kind} {access} {major}:{minor}");
        }
    }

    #[test]
    fn instructions_are_eight_bytes() {
        let bytes = program(&EVERYBODY);
        assert_eq!(bytes.len(), assemble(&EVERYBODY).len() * 8);
        assert_eq!(
            bytes[..8],
            [0x61, 0x12, 0, 0, 0, 0, 0, 0],
            "r2 = *(u32 *)(r1 + 0)"
        );
        assert_eq!(bytes[bytes.len() - 8..], [0x95, 0, 0, 0, 0, 0, 0, 0]);
    }
}
