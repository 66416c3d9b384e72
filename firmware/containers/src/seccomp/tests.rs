use super::{
    filter::{ENOSYS, EPERM, Instruction},
    *,
};

const ALLOWED: u32 = 0x7fff_0000;

/// Runs a program as the kernel would.
fn run(program: &[Instruction], architecture: u32, number: u32, argument: u32) -> u32 {
    let (mut position, mut value) = (0, 0);
    loop {
        let instruction = program[position];
        position += 1;
        let holds = match instruction.code {
            0x20 => {
                value = match instruction.value {
                    0 => number,
                    4 => architecture,
                    16 => argument,
                    offset => panic!("reads at {offset}"),
                };
                continue;
            }
            0x06 => return instruction.value,
            0x05 => {
                position += instruction.value as usize;
                continue;
            }
            0x15 => value == instruction.value,
            0x35 => value >= instruction.value,
            0x45 => value & instruction.value != 0,
            code => panic!("code {code:x}"),
        };
        let jump = if holds { instruction.if_true } else { instruction.if_false };
        position += usize::from(jump);
    }
}

fn refused(error: u16) -> u32 {
    0x0005_0000 | u32::from(error)
}

fn number_of(architecture: &Architecture, name: &str) -> u32 {
    let entry = architecture
        .numbers
        .split(' ')
        .find(|entry| entry.split_once('=').is_some_and(|(known, _)| known == name));
    entry.and_then(|entry| entry.split_once('=')).unwrap().1.parse().unwrap()
}

#[test]
fn every_number_gets_the_verdict_of_its_rule() {
    let program = program(1 << 18);
    assert!(program.len() < 4096, "the kernel takes no more: {}", program.len());
    for architecture in &ARCHITECTURES {
        let rules = profile::rules(architecture.numbers, 1 << 18);
        assert_eq!(rules[0].0, 0);
        for number in 0..1_000 {
            let (_, verdict) = rules.iter().rev().find(|(from, _)| *from <= number).unwrap();
            let expected = match verdict {
                filter::Verdict::Allow => ALLOWED,
                filter::Verdict::Refuse(error) => refused(*error),
                // The argument is 0, which both let through.
                filter::Verdict::ByArgument(_) | filter::Verdict::Without(_) => ALLOWED,
            };
            assert_eq!(run(&program, architecture.audit, number, 0), expected, "{number}");
        }
    }
}

#[test]
fn what_is_dangerous_is_refused_and_what_is_common_is_not() {
    let program = program(0);
    for architecture in &ARCHITECTURES {
        let verdict = |name, argument| {
            run(&program, architecture.audit, number_of(architecture, name), argument)
        };
        for name in ["read", "execve", "futex", "openat", "clock_gettime", "ptrace", "exit_group"] {
            assert_eq!(verdict(name, 0), ALLOWED, "{name}");
        }
        for name in ["mount", "reboot", "bpf", "unshare", "setns", "init_module", "chroot"] {
            assert_eq!(verdict(name, 0), refused(EPERM), "{name}");
        }
        assert_eq!(verdict("clone3", 0), refused(ENOSYS));
        assert_eq!(verdict("clone", 0x0120_0011), ALLOWED, "fork");
        assert_eq!(verdict("clone", 0x1000_0000), refused(EPERM), "a user namespace");
        for (family, expected) in [(2, ALLOWED), (10, ALLOWED), (16, ALLOWED), (40, refused(EPERM))]
        {
            assert_eq!(verdict("socket", family), expected, "family {family}");
        }
        for (persona, expected) in [
            (0, ALLOWED),
            (8, ALLOWED),
            (0x20008, ALLOWED),
            (u32::MAX, ALLOWED),
            (1, refused(EPERM)),
        ] {
            assert_eq!(verdict("personality", persona), expected, "{persona:x}");
        }
        assert_eq!(run(&program, architecture.audit, u32::MAX, 0), refused(EPERM));
    }
    assert_eq!(run(&program, 0x1234, 0, 0), refused(EPERM), "another architecture");
}

#[test]
fn capabilities_open_their_calls() {
    let program = program(1 << 21 | 1 << 22);
    let native = &ARCHITECTURES[0];
    for name in ["mount", "unshare", "clone3", "reboot"] {
        assert_eq!(run(&program, native.audit, number_of(native, name), 0), ALLOWED, "{name}");
    }
    let clone = number_of(native, "clone");
    assert_eq!(run(&program, native.audit, clone, 0x1000_0000), ALLOWED);
    let init_module = number_of(native, "init_module");
    assert_eq!(run(&program, native.audit, init_module, 0), refused(EPERM));
}

#[test]
fn x32_calls_are_refused() {
    let program = program(u64::MAX);
    assert_eq!(run(&program, ARCHITECTURES[0].audit, 0x4000_0000, 0), refused(EPERM));
}
