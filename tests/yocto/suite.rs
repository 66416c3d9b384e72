//! The layer for Yocto, checked without bitbake: what can be wrong in it and was, or would only show
//! in somebody's build.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bramble_tests::yocto::crates_of;

const RECIPE: &str = "recipes-bramble/bramble/bramble";

#[test]
fn the_recipe_fetches_the_crates_of_the_lock_file() {
    let lock = fs::read_to_string(layer().join("../../Cargo.lock")).expect("Cargo.lock is there");
    let expected = crates_of(&lock).expect("it is a lock file");
    let path = layer().join(format!("{RECIPE}-crates.inc"));
    let is_equal = fs::read_to_string(&path).is_ok_and(|written| written == expected);
    assert!(is_equal, "run `cargo yocto-crates > {}`", path.display());
}

#[test]
fn crates_of_ours_are_not_fetched_and_two_versions_are() {
    let lock = "[[package]]\nname = \"bramble\"\nversion = \"0.1.0\"\n\
        [[package]]\nname = \"nix\"\nversion = \"0.29.0\"\nchecksum = \"aa\"\n\
        source = \"registry+https://github.com/rust-lang/crates.io-index\"\n\
        [[package]]\nname = \"nix\"\nversion = \"0.31.3\"\nchecksum = \"bb\"\n\
        source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    let crates = crates_of(lock).expect("it is a lock file");
    assert!(!crates.contains("/bramble/"), "{crates}");
    assert!(crates.contains("SRC_URI[nix-0.29.0.sha256sum] = \"aa\"\n"), "{crates}");
    assert!(crates.contains("SRC_URI[nix-0.31.3.sha256sum] = \"bb\"\n"), "{crates}");
    assert!(crates_of("[[package]]\nname = \"a\"\nsource = \"crates.io\"\n").is_err());
}

#[test]
fn the_recipe_has_the_version_of_the_firmware() {
    let path = layer().join(format!("{RECIPE}_{}.bb", env!("CARGO_PKG_VERSION")));
    assert!(path.exists(), "{} is what the recipe is called", path.display());
}

/// Overrides tell recipes and distributions apart by name alone.
#[test]
fn no_recipe_is_called_as_the_distribution() {
    let distros: Vec<String> = files()
        .iter()
        .filter(|path| path.contains("conf/distro/"))
        .map(|path| stem(path))
        .collect();
    assert!(!distros.is_empty(), "there is a distribution");
    for recipe in files().iter().filter(|path| path.ends_with(".bb")) {
        let name = stem(recipe).split('_').next().unwrap_or_default().to_owned();
        assert!(!distros.contains(&name), "{recipe}: the distribution is called so");
    }
}

/// Wic looks in `files/wic` and says nothing when it finds no layout.
#[test]
fn layouts_are_where_wic_looks_and_recipes_name_them() {
    for path in files() {
        if path.ends_with(".wks") {
            assert!(path.starts_with("files/wic/"), "{path} belongs in files/wic");
        }
        for line in read(&path).lines().filter(|line| line.starts_with("WKS_FILE")) {
            let name = line.split('"').nth(1).unwrap_or_default();
            assert!(layer().join("files/wic").join(name).exists(), "{path}: {name} is not there");
        }
    }
}

#[test]
fn the_layer_says_what_it_is_and_who_keeps_it() {
    for (name, word) in
        [("README.md", "@"), ("SECURITY.md", "@"), ("COPYING.MIT", "WITHOUT WARRANTY")]
    {
        assert!(read(name).contains(word), "{name} does not say {word}");
    }
    let conf = read("conf/layer.conf");
    for line in ["LAYERDEPENDS_bramble = \"core\"", "LAYERSERIES_COMPAT_bramble = \"wrynose\""] {
        assert!(conf.contains(line), "conf/layer.conf: {line}");
    }
}

/// Bitbake takes a function that opens and closes on one line for a variable.
#[test]
fn shell_functions_have_a_line_for_themselves() {
    for path in files() {
        for (index, line) in read(&path).lines().enumerate() {
            let is_opening = line.contains("() {") || line.contains("(){");
            let is_whole = line.trim_end().ends_with('{');
            assert!(!is_opening || is_whole, "{path}:{}: {line}", index + 1);
        }
    }
}

/// Names that wrynose renamed or never had, and settings that change other distributions' builds.
#[test]
fn nothing_in_it_is_known_to_fail() {
    for path in files() {
        let text = read(&path);
        for word in [
            "INIT_MANAGER = \"none\"",
            "BACKFILL_CONSIDERED",
            "bootimg-partition",
            "${WORKDIR}/git",
        ] {
            assert!(!text.contains(word), "{path}: {word}");
        }
        let changes_a_kernel = path.contains("recipes-kernel") && !path.ends_with(".cfg");
        for line in text.lines().filter(|line| changes_a_kernel && line.starts_with("SRC_URI")) {
            assert!(line.starts_with("SRC_URI:append:brambleos"), "{path}: {line}");
        }
    }
}

/// Every file that a recipe takes from its own folder is there.
#[test]
fn recipes_bring_the_files_they_name() {
    for path in files().iter().filter(|path| path.ends_with(".bb") || path.ends_with(".inc")) {
        let text = read(path);
        for name in text
            .split("file://")
            .skip(1)
            .filter_map(|rest| rest.split([';', ' ', '"', '\n']).next())
        {
            let is_licence = name == "LICENSE" || name.starts_with('$');
            let is_there = files().iter().any(|file| file.ends_with(&format!("files/{name}")));
            assert!(is_licence || is_there, "{path}: {name} is nowhere");
        }
    }
}

/// The bootloader takes 512 bytes at most; slot a is the second partition, b the third.
#[test]
fn the_card_starts_slot_a_and_tries_b() {
    let text = read("recipes-bramble/bramble-card/files/autoboot.txt");
    assert!(text.len() <= 512, "{} bytes", text.len());
    let expected = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
    assert_eq!(text, expected);
    let labels = ["BRAMBLE ", "BRAMBLE-A ", "BRAMBLE-B ", "BRAMBLE-DATA "];
    let layout = read("files/wic/bramble-ab.wks");
    let parts: Vec<&str> = layout.lines().filter(|line| line.starts_with("part ")).collect();
    assert_eq!(parts.len(), labels.len(), "MBR has four primary partitions");
    for (part, label) in parts.iter().zip(labels) {
        assert!(part.contains(&format!("--label {label}")), "{part}: not {label}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(layer().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn stem(path: &str) -> String {
    Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
}

/// Every file of the layer, relative to it.
fn files() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![layer()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(layer()).expect("it is in the layer");
                found.push(relative.display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn layer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../yocto-layer/meta-bramble")
}
