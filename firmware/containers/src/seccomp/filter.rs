//! Writes classic BPF: a search tree over the system calls' numbers, so that a call passes some
//! ten comparisons instead of hundreds.

/// `struct sock_filter` of the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// It fails with this error number.
    Refuse(u16),
    /// Its first argument decides. Only its low half counts: the kernel reads no more of it.
    ByArgument(&'static [Case]),
    /// Allowed if its first argument has none of these bits.
    Without(u32),
}

/// From this value of the argument on, until the next case.
pub(super) type Case = (u32, bool);

/// From this number on, until the next rule.
pub(super) type Rule = (u32, Verdict);

pub(super) const EPERM: u16 = 1;
pub(super) const ENOSYS: u16 = 38;

/// `struct seccomp_data`: where the number, the architecture and the first argument are.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENT: u32 = 16;

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_ANY_BIT: u16 = 0x45;

const RETURN_ALLOW: u32 = 0x7fff_0000;
const RETURN_ERROR: u32 = 0x0005_0000;

/// Joins the programs of several architectures. A call of any other fails.
pub(super) fn by_architecture(
    programs: impl Iterator<Item = (u32, Vec<Instruction>)>,
) -> Vec<Instruction> {
    let mut all = vec![plain(LOAD, ARCHITECTURE)];
    for (architecture, program) in programs {
        // A jump if equal reaches 255 instructions at most, an unconditional one all.
        all.push(Instruction { code: JUMP_IF_EQUAL, if_true: 1, if_false: 0, value: architecture });
        all.push(plain(JUMP, length(&program) + 1));
        all.push(plain(LOAD, NUMBER));
        all.extend(program);
    }
    all.push(refuse(EPERM));
    all
}

/// The program that finds the rule of the loaded number. Rules ascend and begin at 0.
pub(super) fn by_number(rules: &[Rule]) -> Vec<Instruction> {
    tree(rules, &leaf)
}

fn tree<T: Copy>(cases: &[(u32, T)], leaf: &dyn Fn(T) -> Vec<Instruction>) -> Vec<Instruction> {
    match cases {
        [] => vec![refuse(EPERM)],
        [(_, case)] => leaf(*case),
        cases => {
            let (low, high) = cases.split_at(cases.len() / 2);
            let (low, high, bound) = (tree(low, leaf), tree(high, leaf), high[0].0);
            let at_least = |if_true, if_false| Instruction {
                code: JUMP_IF_AT_LEAST,
                if_true,
                if_false,
                value: bound,
            };
            let mut all = match u8::try_from(low.len()) {
                Ok(distance) => vec![at_least(distance, 0)],
                Err(_) => vec![at_least(0, 1), plain(JUMP, length(&low))],
            };
            all.extend(low);
            all.extend(high);
            all
        }
    }
}

fn leaf(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![plain(RETURN, RETURN_ALLOW)],
        Verdict::Refuse(error) => vec![refuse(error)],
        Verdict::ByArgument(cases) => {
            let mut all = vec![plain(LOAD, ARGUMENT)];
            all.extend(tree(cases, &|is_allowed| match is_allowed {
                true => vec![plain(RETURN, RETURN_ALLOW)],
                false => vec![refuse(EPERM)],
            }));
            all
        }
        Verdict::Without(bits) => vec![
            plain(LOAD, ARGUMENT),
            Instruction { code: JUMP_IF_ANY_BIT, if_true: 1, if_false: 0, value: bits },
            plain(RETURN, RETURN_ALLOW),
            refuse(EPERM),
        ],
    }
}

fn refuse(error: u16) -> Instruction {
    plain(RETURN, RETURN_ERROR | u32::from(error))
}

fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

fn length(program: &[Instruction]) -> u32 {
    u32::try_from(program.len()).unwrap_or(u32::MAX)
}
