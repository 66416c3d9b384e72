//! Boards read from made-up `/proc` and `/sys` folders, and from the machine's own.

use super::*;

/// A made-up machine: files by path below its root.
pub(crate) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let root = tempfile::tempdir().expect("a folder");
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    let sources = Sources { proc: root.path().join("proc"), sys: root.path().join("sys") };
    (root, sources)
}

const PI: &[(&str, &str)] = &[
    ("proc/stat", "cpu  1 2 3 4\ncpu0 1 1 1 1\ncpu1 0 1 1 1\ncpu2 0 0 1 1\ncpu3 0 0 0 1\nctxt 5\n"),
    ("proc/meminfo", "MemTotal:        3884156 kB\nMemFree: 1 kB\nMemAvailable: 2884156 kB\n"),
    ("proc/sys/kernel/hostname", "pi-kitchen\n"),
    ("proc/sys/kernel/random/boot_id", "0b1f4e0e-7c1b-4a53-a1a1-ce0c2a0e4c11\n"),
    ("proc/uptime", "350735.47 234388.90\n"),
    ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
];

#[test]
fn a_board_says_what_it_is() {
    let (_root, sources) = machine(PI);
    let labels: Labels = [("room".to_owned(), "kitchen".to_owned())].into();
    let description = description(&sources, None, "0.1.0", labels).expect("a description");
    assert_eq!(description.hostname, "pi-kitchen");
    assert_eq!(description.resources.nano_cpus, 4_000_000_000);
    assert_eq!(description.resources.memory_bytes, 3_884_156 * 1024);
    assert_eq!(description.engine_labels["board.model"], "Raspberry Pi 4 Model B Rev 1.4");
    assert_eq!(description.engine_labels["room"], "kitchen");
    assert_eq!(uptime(&sources).expect("an uptime"), Duration::from_millis(350_735_470));
    assert_eq!(boot_id(&sources).expect("an id"), "0b1f4e0e-7c1b-4a53-a1a1-ce0c2a0e4c11");
}

#[test]
fn the_configuration_has_the_last_word_on_name_and_labels() {
    let (_root, sources) = machine(PI);
    let labels: Labels = [("board.model".to_owned(), "mine".to_owned())].into();
    let description = description(&sources, Some("pi-1"), "0.1.0", labels).expect("a description");
    assert_eq!(description.hostname, "pi-1");
    assert_eq!(description.engine_labels["board.model"], "mine");
}

#[test]
fn a_machine_that_does_not_tell_is_named_by_the_file() {
    let (_root, sources) = machine(&PI[..1]);
    let error = resources(&sources).expect_err("no meminfo").to_string();
    assert!(error.ends_with("proc/meminfo could not be read"), "{error}");
    let (_root, sources) = machine(&[("proc/stat", "intr 1\n"), ("proc/uptime", "-1 x\n")]);
    let error = resources(&sources).expect_err("no cpu").to_string();
    assert!(error.ends_with("does not say how many processors there are"), "{error}");
    assert!(uptime(&sources).is_err());
    assert_eq!(model(&sources), None);
}

#[test]
fn this_machine_can_be_described() {
    let description = description(&Sources::default(), None, "0.1.0", Labels::new());
    let description = description.expect("a description");
    assert!(description.resources.nano_cpus >= 1_000_000_000);
    assert!(description.resources.memory_bytes > 1 << 20);
    assert_eq!(description.platform.os, "linux");
}
