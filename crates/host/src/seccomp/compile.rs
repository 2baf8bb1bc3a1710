//! From a profile to a program of the kernel's classic BPF, which the guest installs before a container's program runs.
//!
//! Numbers of system calls are cut into segments of equal fate, in ascending order; the program walks along them. The
//! kernel tries every number once when a filter is installed and remembers those that are always allowed, so that only
//! the length of this walk at the installation matters.

use std::collections::BTreeMap;

use super::profile::{Arg, Compare, Profile, ProfileError, action};
use super::syscalls;

/// Codes of instructions (`linux/bpf_common.h`): load a word at an offset, jumps against a constant, and, return.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQ: u16 = 0x15;
const JUMP_GT: u16 = 0x25;
const JUMP_GE: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
/// `AUDIT_ARCH_X86_64`.
const X86_64: u32 = 0xc000_003e;
/// From here on numbers are those of the x32 interface, which guests do not have.
const X32: u32 = 0x4000_0000;
/// `SECCOMP_RET_KILL_PROCESS`, and an error of `ENOSYS`.
const KILL_PROCESS: u32 = 0x8000_0000;
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;
/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    constant: u32,
}

impl Instruction {
    fn new(code: u16, constant: u32) -> Self {
        Self {
            code,
            jump_true: 0,
            jump_false: 0,
            constant,
        }
    }
}

/// The fate of one system call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Fate {
    /// Comparisons that must all hold, and what happens then; the first that holds decides.
    conditions: Vec<(Vec<Arg>, u32)>,
    /// What happens otherwise; none: the default.
    otherwise: Option<u32>,
}

/// The program as the kernel reads it: eight bytes an instruction.
pub fn compile(profile: &Profile) -> Result<Vec<u8>, ProfileError> {
    let program = program(profile)?;
    if program.len() > MAX_INSTRUCTIONS {
        return Err(ProfileError::TooLong(program.len()));
    }
    let bytes = program.iter().flat_map(|instruction| {
        let [a, b] = instruction.code.to_le_bytes();
        let [c, d, e, f] = instruction.constant.to_le_bytes();
        [a, b, instruction.jump_true, instruction.jump_false, c, d, e, f]
    });
    Ok(bytes.collect())
}

fn program(profile: &Profile) -> Result<Vec<Instruction>, ProfileError> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let fates = fates(profile)?;
    let mut program = vec![
        Instruction::new(LOAD, ARCHITECTURE),
        Instruction {
            jump_true: 1,
            ..Instruction::new(JUMP_EQ, X86_64)
        },
        Instruction::new(RETURN, KILL_PROCESS),
        Instruction::new(LOAD, NUMBER),
    ];
    // Segments: where each begins, and its fate.
    let usual = Fate {
        otherwise: Some(default),
        ..Fate::default()
    };
    let mut segments: Vec<(u32, Fate)> = vec![(0, usual.clone())];
    let mut begin = |number: u32, fate: &Fate| match segments.last_mut() {
        // What has no condition may go on.
        Some((_, last)) if last == fate && fate.conditions.is_empty() => {}
        Some((start, last)) if *start == number => *last = fate.clone(),
        _ => segments.push((number, fate.clone())),
    };
    for (number, fate) in &fates {
        let fate = Fate {
            conditions: fate.conditions.clone(),
            otherwise: fate.otherwise.or(Some(default)),
        };
        begin(*number, &fate);
        if !fates.contains_key(&(number + 1)) {
            begin(number + 1, &usual);
        }
    }
    let refused = Fate {
        otherwise: Some(NO_SUCH_CALL),
        ..Fate::default()
    };
    segments.push((X32, refused));
    for (place, (_, fate)) in segments.iter().enumerate() {
        let body = body(fate, default)?;
        if let Some((next, _)) = segments.get(place + 1) {
            let step = |length: usize| Instruction {
                jump_true: u8::try_from(length).unwrap_or(u8::MAX),
                ..Instruction::new(JUMP_GE, *next)
            };
            match u8::try_from(body.len()) {
                Ok(_) => program.push(step(body.len())),
                // Too far for a conditional jump.
                Err(_) => {
                    program.push(Instruction {
                        jump_false: 1,
                        ..Instruction::new(JUMP_GE, *next)
                    });
                    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                    program.push(Instruction::new(JUMP, length));
                }
            }
        }
        program.extend(body);
    }
    Ok(program)
}

fn fates(profile: &Profile) -> Result<BTreeMap<u32, Fate>, ProfileError> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    for rule in &profile.syscalls {
        let wanted = action(&rule.action, rule.errno_ret)?;
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            return Err(ProfileError::Argument(arg.index));
        }
        for number in rule.names.iter().filter_map(|name| syscalls::number(name)) {
            let fate = fates.entry(number).or_default();
            if rule.args.is_empty() {
                fate.otherwise.get_or_insert(wanted);
                continue;
            }
            let twice = |arg: &Arg| rule.args.iter().filter(|other| other.index == arg.index).count() > 1;
            if rule.args.iter().any(twice) {
                // Several comparisons of one argument are alternatives, as engines have it.
                let alternatives = rule.args.iter().map(|arg| (vec![arg.clone()], wanted));
                fate.conditions.extend(alternatives);
            } else {
                fate.conditions.push((rule.args.clone(), wanted));
            }
        }
    }
    for fate in fates.values_mut() {
        // What happens in any case needs no comparison.
        let otherwise = fate.otherwise;
        fate.conditions.retain(|(_, wanted)| Some(*wanted) != otherwise);
    }
    Ok(fates)
}

/// What is done with the calls of one segment; always returns.
fn body(fate: &Fate, default: u32) -> Result<Vec<Instruction>, ProfileError> {
    let mut body = Vec::new();
    for (args, wanted) in &fate.conditions {
        let mut condition = Condition::default();
        for arg in args {
            condition.compare(arg);
        }
        condition.code.push(Instruction::new(RETURN, *wanted));
        body.extend(condition.finish());
    }
    body.push(Instruction::new(RETURN, fate.otherwise.unwrap_or(default)));
    Ok(body)
}

/// Where a jump of a comparison goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    /// On.
    Next,
    /// This comparison holds: over the rest of it.
    Holds,
    /// This rule does not hold: to its end.
    Fails,
}

/// A jump: its code, the constant, where to go when the test is true, and when it is not.
type Test = (u16, u32, To, To);
/// A word of an argument to load, a mask for it, and the tests of it.
type Step = (u32, Option<u32>, Vec<Test>);

/// A rule's comparisons, with jumps to its end open.
#[derive(Default)]
struct Condition {
    code: Vec<Instruction>,
    /// Jumps to the end of the rule: place, and whether it is the one taken when the test is true.
    fails: Vec<(usize, bool)>,
}

impl Condition {
    fn compare(&mut self, arg: &Arg) {
        use To::{Fails, Holds, Next};
        let low = ARGUMENTS + 8 * arg.index;
        let high = low + 4;
        // The machine counts 32 bits at a time: the high half first.
        let halves = |value: u64| ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
        let (value_high, value_low) = halves(arg.value);
        let steps: Vec<Step> = match arg.op {
            Compare::Eq => vec![
                (high, None, vec![(JUMP_EQ, value_high, Next, Fails)]),
                (low, None, vec![(JUMP_EQ, value_low, Next, Fails)]),
            ],
            Compare::Ne => vec![
                (high, None, vec![(JUMP_EQ, value_high, Next, Holds)]),
                (low, None, vec![(JUMP_EQ, value_low, Fails, Next)]),
            ],
            Compare::MaskedEq => {
                let (left_high, left_low) = halves(arg.value_two);
                vec![
                    (high, Some(value_high), vec![(JUMP_EQ, left_high, Next, Fails)]),
                    (low, Some(value_low), vec![(JUMP_EQ, left_low, Next, Fails)]),
                ]
            }
            Compare::Gt | Compare::Ge => {
                let last = if arg.op == Compare::Gt { JUMP_GT } else { JUMP_GE };
                vec![
                    (
                        high,
                        None,
                        vec![
                            (JUMP_GT, value_high, Holds, Next),
                            (JUMP_EQ, value_high, Next, Fails),
                        ],
                    ),
                    (low, None, vec![(last, value_low, Next, Fails)]),
                ]
            }
            Compare::Lt | Compare::Le => {
                let last = if arg.op == Compare::Lt { JUMP_GE } else { JUMP_GT };
                vec![
                    (
                        high,
                        None,
                        vec![
                            (JUMP_GT, value_high, Fails, Next),
                            (JUMP_EQ, value_high, Next, Holds),
                        ],
                    ),
                    (low, None, vec![(last, value_low, Fails, Next)]),
                ]
            }
        };
        let mut holds = Vec::new();
        for (offset, mask, tests) in steps {
            self.code.push(Instruction::new(LOAD, offset));
            if let Some(mask) = mask {
                self.code.push(Instruction::new(AND, mask));
            }
            for (code, constant, when_true, when_false) in tests {
                let place = self.code.len();
                for (to, truth) in [(when_true, true), (when_false, false)] {
                    match to {
                        Next => {}
                        Holds => holds.push((place, truth)),
                        Fails => self.fails.push((place, truth)),
                    }
                }
                self.code.push(Instruction::new(code, constant));
            }
        }
        let end = self.code.len();
        aim(&mut self.code, &holds, end);
    }

    fn finish(mut self) -> Vec<Instruction> {
        let end = self.code.len();
        aim(&mut self.code, &self.fails, end);
        self.code
    }
}

/// Sets jumps. A rule has six arguments at most, so that all of it is in reach.
fn aim(code: &mut [Instruction], jumps: &[(usize, bool)], end: usize) {
    for (place, truth) in jumps {
        let distance = u8::try_from(end - place - 1).unwrap_or(u8::MAX);
        if let Some(instruction) = code.get_mut(*place) {
            match truth {
                true => instruction.jump_true = distance,
                false => instruction.jump_false = distance,
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What the kernel would do: runs a program over one call.
    pub fn run(program: &[u8], architecture: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [number.to_le_bytes(), architecture.to_le_bytes()].concat();
        data.extend_from_slice(&[0; 8]);
        args.iter()
            .for_each(|arg| data.extend_from_slice(&arg.to_le_bytes()));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let bytes = &program[at * 8..at * 8 + 8];
            let code = u16::from_le_bytes([bytes[0], bytes[1]]);
            let constant = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            let jump = |truth: bool| usize::from(if truth { bytes[2] } else { bytes[3] });
            at += 1;
            match code {
                LOAD => {
                    let offset = constant as usize;
                    let word = data[offset..offset + 4].try_into().expect("four bytes");
                    accumulator = u32::from_le_bytes(word);
                }
                AND => accumulator &= constant,
                JUMP => at += constant as usize,
                JUMP_EQ => at += jump(accumulator == constant),
                JUMP_GT => at += jump(accumulator > constant),
                JUMP_GE => at += jump(accumulator >= constant),
                RETURN => return constant,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn profile(text: serde_json::Value) -> Profile {
        serde_json::from_value(text).expect("a profile")
    }

    #[test]
    fn comparisons_of_arguments() {
        let big = 0x1_0000_0005_u64;
        type Case<'a> = (&'a str, u64, u64, &'a [u64], &'a [u64]);
        let cases: [Case<'_>; 7] = [
            ("SCMP_CMP_EQ", big, 0, &[big], &[5, 0x2_0000_0005, big + 1]),
            ("SCMP_CMP_NE", big, 0, &[5, big + 1, 0x2_0000_0005], &[big]),
            (
                "SCMP_CMP_GT",
                big,
                0,
                &[big + 1, 0x2_0000_0000],
                &[big, 5, u64::from(u32::MAX)],
            ),
            ("SCMP_CMP_GE", big, 0, &[big, 0x2_0000_0000], &[big - 1, 7]),
            ("SCMP_CMP_LT", big, 0, &[big - 1, 7], &[big, 0x2_0000_0000]),
            (
                "SCMP_CMP_LE",
                big,
                0,
                &[big, 7, 0x1_0000_0000],
                &[big + 1, 0x2_0000_0000],
            ),
            ("SCMP_CMP_MASKED_EQ", 0xff, 0x12, &[0x12, 0x3412], &[0x13, 0]),
        ];
        for (op, value, value_two, holds, fails) in cases {
            let program = compile(&profile(
                serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9,
                 "args": [{"index": 5, "op": op, "value": value, "valueTwo": value_two}]}]}),
            ))
            .expect("compiled");
            let of = |arg: &u64| run(&program, X86_64, 0, [0, 0, 0, 0, 0, *arg]);
            assert!(holds.iter().all(|arg| of(arg) == 0x0005_0009), "{op}");
            assert!(fails.iter().all(|arg| of(arg) == 0x7fff_0000), "{op}");
        }
    }

    #[test]
    fn rules_segments_and_the_default() {
        let program = compile(&profile(serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["read", "write", "open", "mseal", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "op": "SCMP_CMP_EQ", "value": 0}, {"index": 0, "op": "SCMP_CMP_EQ", "value": 8}]},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
                    {"index": 0, "op": "SCMP_CMP_EQ", "value": 2}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 1}]},
                {"names": ["chmod"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]},
                {"names": ["chmod"], "action": "SCMP_ACT_ALLOW"},
            ]})))
        .expect("compiled");
        let of = |name: &str, a: u64, b: u64| {
            let number = syscalls::number(name).expect("a call");
            run(&program, X86_64, number, [a, b, 0, 0, 0, 0])
        };
        let (allow, refuse) = (0x7fff_0000, 0x0005_0026);
        let cases = [
            ("read", 7, 7, allow),
            ("open", 0, 0, allow),
            ("close", 0, 0, refuse),
            ("mkdir", 0, 0, KILL_PROCESS),
            ("rmdir", 0, 0, refuse),
            ("personality", 0, 0, allow),
            ("personality", 8, 0, allow),
            ("personality", 9, 0, refuse),
            ("socket", 2, 1, allow),
            ("socket", 2, 2, refuse),
            ("socket", 1, 1, refuse),
            ("chmod", 1, 0, 0x7ffc_0000),
            ("chmod", 2, 0, allow),
            ("mseal", 0, 0, allow),
        ];
        for (name, a, b, expected) in cases {
            assert_eq!(of(name, a, b), expected, "{name} {a} {b}");
        }
        assert_eq!(run(&program, X86_64, 463, [0; 6]), refuse);
        assert_eq!(run(&program, X86_64, X32, [0; 6]), NO_SUCH_CALL);
        assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), KILL_PROCESS);
    }

    #[test]
    fn what_cannot_be_is_said() {
        let of = |text| compile(&profile(text)).expect_err("refused").to_string();
        assert_eq!(
            of(serde_json::json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
            "seccomp: action \"SCMP_ACT_NOTIFY\" is not supported"
        );
        let sixth = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
            "action": "SCMP_ACT_KILL", "args": [{"index": 6, "op": "SCMP_CMP_EQ", "value": 0}]}]});
        assert_eq!(of(sixth), "seccomp: a system call has no argument 6");
    }
}
