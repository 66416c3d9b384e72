//! The shape of the source tree: who may import whom, how long a file may grow, which names and
//! marks are refused. Read [`MAY_IMPORT`] top to bottom: it is the architecture.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Every crate of the firmware, and the crates of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("planner", &["cluster"]),
    ("peering", &["cluster"]),
    ("containers", &["cluster"]),
    ("network", &["cluster"]),
    ("host", &["cluster"]),
    ("agent", &["cluster", "planner", "peering", "containers", "network", "host"]),
    ("manager", &["cluster", "planner", "peering"]),
    ("api", &["cluster", "agent", "manager"]),
    ("telemetry", &["cluster", "agent", "manager"]),
    (
        "bramble",
        &[
            "cluster",
            "planner",
            "peering",
            "containers",
            "network",
            "host",
            "agent",
            "manager",
            "api",
            "telemetry",
        ],
    ),
];

/// Crates whose name may stand in only one place, and why.
const CONFINED: &[(&str, &str, &str)] = &[
    ("openraft::", "firmware/manager/src/consensus", "the rest speaks of commands and outcomes"),
    ("libcontainer::", "firmware/containers/src", "only its helper process may call it"),
    ("nlink::", "firmware/network", "the netlink crate must be replaceable"),
    ("mdns_sd::", "firmware/peering/src", "finding boards is peering's"),
    ("rumqttc::", "firmware/telemetry/src", "reporting is telemetry's"),
    ("anyhow::", "firmware/bramble", "libraries name their errors"),
];

/// What the pure crates may not name: they have no clock, randomness, files, threads or tasks.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net::Tcp",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "HashMap",
    "HashSet",
    "async fn",
    "tracing::",
    "getrandom",
];

/// File names that say nothing of what is inside.
const BANNED_NAMES: &[&str] = &["utils", "util", "helpers", "common", "misc", "manager", "mod"];

/// Marks of unfinished work.
const BANNED_MARKS: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "dbg!(", "#[ignore", "TODO"];

const FILE_LINES_MAX: usize = 500;

#[test]
fn crates_import_only_what_the_architecture_allows() {
    for entry in fs::read_dir(root().join("firmware")).expect("firmware/ is there") {
        let folder = entry.expect("an entry").path();
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(krate, _)| *krate == name)
            .unwrap_or_else(|| panic!("firmware/{name} is not in MAY_IMPORT"));
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let product = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for import in product.lines().filter_map(|line| line.strip_prefix("bramble-")) {
            let import = import.split(['.', ' ', '=']).next().unwrap_or_default();
            assert!(allowed.contains(&import), "{name} must not import {import}");
        }
    }
}

#[test]
fn crates_with_a_home_are_named_nowhere_else() {
    for_each_source(&root().join("firmware"), &mut |path, text| {
        for (name, home, reason) in CONFINED {
            let is_home = relative(path).starts_with(home);
            let is_test =
                relative(path).ends_with("/tests.rs") || relative(path).contains("/tests/");
            let is_named = !is_test && code_lines(text).any(|line| line.contains(name));
            assert!(is_home || !is_named, "{}: {name} belongs in {home}: {reason}", relative(path));
        }
    });
}

#[test]
fn the_pure_crates_touch_nothing() {
    for krate in ["cluster", "planner"] {
        for_each_source(&root().join("firmware").join(krate).join("src"), &mut |path, text| {
            if relative(path).ends_with("/tests.rs") || relative(path).contains("/tests/") {
                return;
            }
            for (index, line) in text.lines().take_while(|line| !is_test_part(line)).enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in IMPURE {
                    let place = format!("{}:{}", relative(path), index + 1);
                    assert!(!code.contains(word), "{place}: {word} in a pure crate");
                }
            }
        });
    }
}

#[test]
fn no_source_file_is_too_long() {
    for_each_source(&root(), &mut |path, text| {
        if relative(path).ends_with("/tests.rs") || relative(path).contains("/tests/") {
            return;
        }
        let lines = text.lines().take_while(|line| !is_test_part(line)).count();
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", relative(path));
    });
}

#[test]
fn file_names_say_what_is_inside() {
    for_each_source(&root(), &mut |path, _| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(!BANNED_NAMES.contains(&name), "{}: {name}.rs says nothing", relative(path));
        let parent = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let stutter = parent.is_some_and(|parent| name.starts_with(&format!("{parent}_")));
        assert!(!stutter, "{}: the folder says that already", relative(path));
    });
}

#[test]
fn no_file_has_marks_of_unfinished_work() {
    for_each_source(&root(), &mut |path, text| {
        if relative(path) == "tests/tidy.rs" {
            return;
        }
        for (index, line) in text.lines().enumerate() {
            for mark in BANNED_MARKS {
                assert!(!line.contains(mark), "{}:{}: {mark}", relative(path), index + 1);
            }
        }
    });
}

#[test]
fn every_crate_opens_with_what_it_owns() {
    for (krate, _) in MAY_IMPORT {
        let folder = root().join("firmware").join(krate).join("src");
        let path =
            [folder.join("lib.rs"), folder.join("main.rs")].into_iter().find(|path| path.exists());
        let text = fs::read_to_string(path.expect("a crate root")).expect("it can be read");
        let opening = text.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(opening >= 5, "{krate}: the crate root opens with {opening} lines of what it owns");
    }
}

#[test]
fn unsafe_code_is_only_where_the_kernel_demands_it() {
    for (krate, _) in MAY_IMPORT {
        if ["host", "containers", "network"].contains(krate) {
            continue;
        }
        let folder = root().join("firmware").join(krate).join("src");
        let path =
            [folder.join("lib.rs"), folder.join("main.rs")].into_iter().find(|path| path.exists());
        let text = fs::read_to_string(path.expect("a crate root")).expect("it can be read");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{krate} does not forbid unsafe code");
    }
}

/// One TLS provider: with a second in the tree, rustls panics when it is asked for a default.
#[test]
fn the_lock_file_has_one_tls_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is there");
    for name in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{name}\"")), "{name} is in the tree");
    }
}

#[test]
fn links_in_documents_lead_somewhere() {
    for_each_file(&root(), "md", &mut |path, text| {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_ours = !link.contains(':') && !file.is_empty();
            let target = path.parent().expect("a file has a folder").join(file);
            assert!(!is_ours || target.exists(), "{}: {link} is nowhere", relative(path));
        }
    });
}

fn is_test_part(line: &str) -> bool {
    line.trim() == "#[cfg(test)]"
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    let product = text.lines().take_while(|line| !is_test_part(line));
    product.filter(|line| !line.trim_start().starts_with("//"))
}

fn for_each_source(folder: &Path, check: &mut dyn FnMut(&Path, &str)) {
    for_each_file(folder, "rs", check);
}

fn for_each_file(folder: &Path, kind: &str, check: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                for_each_file(&path, kind, check);
            }
        } else if path.extension().is_some_and(|extension| extension == kind) {
            check(&path, &fs::read_to_string(&path).expect("it is text"));
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}
