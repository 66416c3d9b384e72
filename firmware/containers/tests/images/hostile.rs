//! Hostile archives end in a clear error, or harmlessly inside; nothing outside changes.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::PathBuf,
    time::{Duration, Instant},
};

use bramble_cluster::chain;
use bramble_containers::images::Limits;
use proptest::{
    collection::vec,
    prelude::{any, prop_assert_eq, proptest},
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use crate::{
    archives::{Tar, descriptor, gzip, hex_of, image, oci, oci_of, plain, saved, zstd},
    scene::{Scene, fingerprint},
};

/// Loads a layer that must be refused, and nothing may have changed.
fn refused(layer: impl Fn(&str) -> Vec<u8>, reason: &str) {
    let scene = Scene::new();
    let outside = scene.outside().display().to_string();
    let parts = image(&[layer(&outside)], gzip);
    refused_archive(&scene, &oci(&parts, Some("evil")), reason);
    refused_archive(&scene, &saved(&image(&[layer(&outside)], plain), "evil"), reason);
}

fn refused_archive(scene: &Scene, archive: &[u8], reason: &str) {
    let before = scene.fingerprint();
    let error = scene.load(archive).expect_err(reason);
    assert!(chain(&error).contains(reason), "{} is not {reason}", chain(&error));
    assert!(scene.fingerprint() == before, "{reason}: something changed");
    assert!(scene.store.list().is_empty());
}

/// Loads a layer that is strange but harmless: returns its folder; nothing outside has changed.
fn harmless(layer: impl Fn(&str) -> Vec<u8>) -> (Scene, PathBuf) {
    let scene = Scene::new();
    let outside = scene.outside();
    let before = fingerprint(&outside);
    let parts = image(&[layer(&outside.display().to_string())], gzip);
    let images = scene.load(&oci(&parts, Some("strange"))).unwrap_or_else(|error| {
        panic!("{}", chain(&error));
    });
    assert!(fingerprint(&outside) == before, "something outside changed");
    let folder = scene.layer(images[0].layers[0]);
    (scene, folder)
}

#[test]
fn paths_that_leave_the_layer_are_refused() {
    refused(|_| Tar::new().file("../evil", b"x").end(), "leaves the layer");
    refused(|_| Tar::new().file("a/../../evil", b"x").end(), "leaves the layer");
    refused(|_| Tar::new().file("/../evil", b"x").end(), "leaves the layer");
    refused(|_| Tar::new().folder("..").end(), "leaves the layer");
    refused(|_| Tar::new().symlink("../evil", "/etc").end(), "leaves the layer");
    refused(|_| Tar::new().hard_link("evil", "../../outside/secret").end(), "leaves the layer");
    refused(|_| Tar::new().file("a/../../.wh.secret", b"").end(), "leaves the layer");
}

#[test]
fn absolute_paths_are_meant_from_the_layer() {
    let (_scene, folder) = harmless(|outside| {
        Tar::new().file("/etc/evil", b"x").file(&format!("{outside}/secret"), b"x").end()
    });
    assert!(folder.join("etc/evil").is_file());
}

#[test]
fn writing_through_a_link_stays_inside_or_fails() {
    // The target exists outside and not inside.
    let through =
        |outside: &str| Tar::new().symlink("link", outside).file("link/secret", b"x").end();
    refused(through, "not a folder");
    let relative =
        |_: &str| Tar::new().symlink("link", "../../../../outside").file("link/secret", b"x").end();
    refused(relative, "not a folder");
    // It exists inside: followed there, and nowhere else.
    let (_scene, folder) = harmless(|outside| {
        Tar::new()
            .folder(&outside[1..])
            .symlink("link", outside)
            .symlink("up", "../../../../../..")
            .file("link/secret", b"x")
            .file("up/top", b"x")
            .end()
    });
    assert_eq!(fs::read(folder.join("top")).unwrap(), b"x");
    // A file in the place of a link replaces the link, not what it points to.
    let (_scene, folder) = harmless(|outside| {
        let secret = format!("{outside}/secret");
        Tar::new().symlink("link", &secret).file("link", b"mine").end()
    });
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_file());
    // Links in a circle, and a link to itself.
    refused(|_| Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b"").end(), "a/x");
    refused(|_| Tar::new().symlink("a", "").end(), "links to nothing");
}

#[test]
fn a_folder_over_a_link_does_not_take_what_it_points_to() {
    let (_scene, folder) = harmless(|outside| {
        Tar::new()
            .symlink("link", &format!("{outside}/folder"))
            .mode(b'5', "link", 0o777, b"")
            .file("link/file", b"mine")
            .end()
    });
    assert!(fs::symlink_metadata(folder.join("link")).unwrap().is_dir());
    assert_eq!(fs::read(folder.join("link/file")).unwrap(), b"mine");
}

#[test]
fn hard_links_reach_nothing_outside() {
    let missing = "hard link to what the layer does not have";
    refused(|outside| Tar::new().hard_link("a", &format!("{outside}/secret")).end(), missing);
    refused(|_| Tar::new().hard_link("a", "/etc/passwd").end(), missing);
    refused(|outside| Tar::new().symlink("l", outside).hard_link("a", "l/secret").end(), missing);
    refused(|_| Tar::new().folder("d").hard_link("a", "d").end(), "hard link to a folder");
    refused(|_| Tar::new().hard_link("a", "/").end(), missing);
    // In the place of the folder that its target is in.
    let (_scene, folder) =
        harmless(|_| Tar::new().folder("d").file("d/f", b"").hard_link("d", "d/f").end());
    assert!(folder.join("d").is_file());
    let (_scene, folder) = harmless(|outside| {
        let secret = format!("{outside}/secret");
        // A second name of a link is a link, and not what it points to.
        Tar::new().symlink("link", &secret).hard_link("second", "link").file("second", b"x").end()
    });
    assert_eq!(fs::read(folder.join("second")).unwrap(), b"x");
    let (_scene, folder) =
        harmless(|_| Tar::new().file("a", b"x").hard_link("b", "/a").hard_link("a", "a").end());
    assert_eq!(fs::metadata(folder.join("b")).unwrap().nlink(), 2);
}

#[test]
fn whiteouts_of_parents_and_of_no_name_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.."] {
        refused(|_| Tar::new().file(name, b"").end(), "cannot be a name");
    }
    refused(|_| Tar::new().file("../.wh.outside", b"").end(), "leaves the layer");
    let (_scene, folder) = harmless(|outside| {
        Tar::new()
            .symlink("link", "/")
            .file("link/.wh.hidden", b"")
            .file(&format!("{outside}/.wh.secret"), b"")
            .file(".wh..wh.plnk/x", b"")
            .file("/.wh..wh..opq", b"")
            .end()
    });
    let hidden = fs::symlink_metadata(folder.join("hidden")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
}

#[test]
fn sizes_that_lie_are_noticed() {
    refused(|_| Tar::new().lying_file("a", 1 << 30, b"short").end(), "a lie");
    refused(|_| Tar::new().lying_file("a", 1 << 40, b"short").end(), "limit");
    refused(|_| Tar::new().lying_file("a", u64::MAX, b"short").end(), "limit");
    refused(|_| Tar::new().lying_file("a", 0, &[1; 600]).end(), "checksum");
    refused(|_| Tar::new().pax(&[("size", b"18446744073709551615")]).file("a", b"").end(), "limit");
    refused(|_| Tar::new().pax(&[("size", b"-1")]).file("a", b"").end(), "pax");
    let scene = Scene::new();
    let parts = image(&[Tar::new().file("a", b"x").end()], gzip);
    for wrong in [0, 1, u64::MAX] {
        let mut root = descriptor(&parts, None);
        root["size"] = json!(wrong);
        let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string().into_bytes();
        let outer = json!({"digest": format!("sha256:{}", hex_of(&index)), "size": index.len()});
        let mut blobs = parts.blobs.clone();
        blobs.insert(hex_of(&index), index);
        refused_archive(&scene, &oci_of(&blobs, &[outer]).end(), "bytes instead of");
    }
    // The archive itself lies, or is cut.
    let archive = oci(&parts, None);
    refused_archive(&scene, &archive[..700], "cannot be loaded");
    refused_archive(&scene, &Tar::new().lying_file("index.json", 1 << 40, b"{}").end(), "limit");
}

#[test]
fn what_does_not_match_its_digest_is_refused() {
    let scene = Scene::new();
    let parts = image(&[Tar::new().file("a", b"x").end()], gzip);
    // A blob that is not what it is called: the layer, the configuration, the manifest.
    for hex in [&parts.layers[0], &parts.config, &parts.manifest] {
        let mut tar = Tar::new();
        for (name, bytes) in &parts.blobs {
            let mut bytes = bytes.clone();
            if name == hex {
                *bytes.last_mut().unwrap() ^= 1;
            }
            tar = tar.file(&format!("blobs/sha256/{name}"), &bytes);
        }
        let index = json!({"schemaVersion": 2, "manifests": [descriptor(&parts, None)]});
        let archive = tar.file("index.json", index.to_string().as_bytes()).end();
        refused_archive(&scene, &archive, "does not match its digest");
    }
    // A layer that is not the one that the configuration names.
    let other = image(&[Tar::new().file("a", b"y").end()], gzip);
    let config = parts.blobs[&parts.config].clone();
    let layer = &other.blobs[&other.layers[0]];
    let manifest = json!({"schemaVersion": 2,
        "config": {"digest": format!("sha256:{}", parts.config), "size": config.len()},
        "layers": [{"digest": format!("sha256:{}", hex_of(layer)), "size": layer.len()}]});
    let manifest = manifest.to_string().into_bytes();
    let root = json!({"digest": format!("sha256:{}", hex_of(&manifest)), "size": manifest.len()});
    let blobs = [config, layer.clone(), manifest];
    let blobs = blobs.into_iter().map(|bytes| (hex_of(&bytes), bytes)).collect();
    refused_archive(&scene, &oci_of(&blobs, &[root]).end(), "does not match its digest");
}

#[test]
fn a_bomb_of_ten_gibibytes_of_zeros_ends_soon_and_takes_no_room() {
    const SIZE: u64 = 10 << 30;
    let scene = Scene::new();
    let before = scene.fingerprint();
    // Compressed once, and twice: ten megabytes, and some kilobytes.
    let tar = Tar::new().lying_file("zeros", SIZE, b"");
    let mut layer = flate2::read::GzEncoder::new(
        io::Cursor::new(tar.0).chain(io::repeat(0).take(SIZE + 1024)),
        flate2::Compression::fast(),
    );
    let mut bomb = Vec::new();
    // The whole of it would take minutes to make; the digest is never reached.
    layer.by_ref().take(5 << 20).read_to_end(&mut bomb).unwrap();
    let mut parts = image(&[Tar::new().file("a", b"x").end()], gzip);
    let manifest = String::from_utf8(parts.blobs[&parts.manifest].clone()).unwrap();
    let small = &parts.blobs[&parts.layers[0]];
    let manifest = manifest
        .replace(&hex_of(small), &hex_of(&bomb))
        .replace(&format!("\"size\":{}}}]", small.len()), &format!("\"size\":{}}}]", bomb.len()));
    let manifest = manifest.into_bytes();
    parts.manifest = hex_of(&manifest);
    parts.manifest_size = manifest.len();
    parts.blobs.insert(hex_of(&manifest), manifest);
    parts.blobs.insert(hex_of(&bomb), bomb.clone());
    let archives = [oci(&parts, None), gzip(&oci(&parts, None)), bomb];
    for archive in archives {
        let started = Instant::now();
        let error = scene.load(&archive).unwrap_err();
        let took = started.elapsed();
        let text = chain(&error);
        assert!(text.contains("limit") || text.contains("bomb"), "{text}");
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert!(scene.fingerprint() == before, "something stayed");
    }
}

#[test]
fn more_than_the_limits_of_anything_is_called_so() {
    let scene = Scene::with(Limits {
        layer_entries: 50,
        archive_entries: 60,
        archive_bytes: 1 << 20,
        unpacked_bytes: 1 << 20,
        layers: 5,
        depth: 20,
        ..Limits::default()
    });
    let of = |layer: Vec<u8>, packing| oci(&image(&[layer], packing), None);
    let mut crowd = Tar::new();
    for number in 0..51 {
        crowd = crowd.file(&number.to_string(), b"");
    }
    refused_archive(&scene, &of(crowd.clone().end(), gzip), "entries of an archive");
    refused_archive(&scene, &crowd.clone().file("a", b"").0.repeat(2), "entries of an archive");
    let large = Tar::new().file("large", &[1; 2 << 20]).end();
    refused_archive(&scene, &of(large.clone(), plain), "bytes of an archive");
    refused_archive(&scene, &of(large.clone(), gzip), "unpacked layers");
    let half = |byte| Tar::new().file("half", &[byte; 700 << 10]).end();
    let halves = image(&[half(1), half(2)], zstd);
    refused_archive(&scene, &oci(&halves, None), "unpacked layers");
    let layer = Tar::new().file("a", b"").end();
    refused_archive(&scene, &oci(&image(&vec![layer; 6], gzip), None), "layers of an image");
    let deep = "d/".repeat(21);
    refused_archive(&scene, &of(Tar::new().folder(&deep).end(), gzip), "deeper than 20");
    let long = "n".repeat(300);
    refused_archive(&scene, &of(Tar::new().file(&long, b"").end(), gzip), "more than 255");
    let endless = format!("{}x", "./".repeat(3_000));
    refused_archive(&scene, &of(Tar::new().file(&endless, b"").end(), gzip), "bytes of a path");
    let folders = Tar::new().folder("a").0.repeat(49);
    assert!(scene.load(&of(Tar(folders).end(), gzip)).is_ok(), "all below the limits");
}

#[test]
fn depth_by_links_is_bounded_too() {
    let mut tar = Tar::new();
    let step = "d/".repeat(100);
    let mut prefix = String::new();
    for number in 0..8 {
        tar = tar
            .folder(&format!("{prefix}{step}"))
            .symlink(&format!("link{number}"), &format!("{prefix}{step}"));
        prefix = format!("link{number}/");
    }
    let archive = tar.end();
    refused(move |_| archive.clone(), "too deep behind its links");
}

#[test]
fn entries_that_come_twice_replace_one_another() {
    let (_scene, folder) = harmless(|outside| {
        Tar::new()
            .file("a", b"first")
            .file("a", b"second")
            .file("b", b"file")
            .folder("b")
            .file("b/inside", b"x")
            .folder("c/deep/deeper")
            .symlink("c/link", outside)
            .file("c", b"file again")
            .symlink("d", "a")
            .symlink("d", "b")
            .device(b'3', "e", (1, 3))
            .file("e", b"no device")
            .end()
    });
    assert_eq!(fs::read(folder.join("a")).unwrap(), b"second");
    assert_eq!(fs::read(folder.join("b/inside")).unwrap(), b"x");
    assert_eq!(fs::read(folder.join("c")).unwrap(), b"file again");
    assert_eq!(fs::read_link(folder.join("d")).unwrap(), PathBuf::from("b"));
    assert_eq!(fs::read(folder.join("e")).unwrap(), b"no device");
}

#[test]
fn strange_entries_of_the_archive_itself_are_refused() {
    let scene = Scene::new();
    for (tar, reason) in [
        (Tar::new(), "no image in it"),
        (Tar::new().file("repositories", b"{}"), "no image in it"),
        (Tar::new().file("../index.json", b"{}"), "not a file"),
        (Tar::new().device(b'3', "index.json", (1, 3)), "not a file"),
        (Tar::new().symlink("index.json", "/etc/passwd"), "missing"),
        (Tar::new().hard_link("manifest.json", "manifest.json"), "missing"),
        (Tar::new().symlink("index.json", "../../../etc/passwd"), "not a file"),
        (Tar::new().file("index.json", b"{"), "not valid"),
        (Tar::new().file("index.json", b"{}"), "neither a manifest nor an index"),
        (Tar::new().file("index.json", br#"{"manifests":[]}"#), "no image in it"),
        (Tar::new().file("manifest.json", b"[{}]"), "not valid"),
        (Tar::new().file("manifest.json", b"[]"), "no image in it"),
        (
            Tar::new().file("manifest.json", br#"[{"Config":"/etc/passwd","Layers":["x"]}]"#),
            "missing",
        ),
    ] {
        refused_archive(&scene, &tar.end(), reason);
    }
    refused_archive(&scene, b"not an archive at all".repeat(100).as_slice(), "checksum");
    let deep = [b"[".repeat(1 << 20), b"]".repeat(1 << 20)].concat();
    refused_archive(&scene, &Tar::new().file("manifest.json", &deep).end(), "not valid");
    let parts = image(&[Tar::new().file("a", b"x").end()], gzip);
    refused_archive(&scene, &oci(&parts, Some("../Evil Name")), "not the name of an image");
    // An index in an index in an index, and one that contains itself by no trick at all.
    let mut blobs = parts.blobs.clone();
    let mut root = descriptor(&parts, None);
    for _ in 0..5 {
        let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string().into_bytes();
        root = json!({"digest": format!("sha256:{}", hex_of(&index)), "size": index.len()});
        blobs.insert(hex_of(&index), index);
    }
    refused_archive(&scene, &oci_of(&blobs, &[root]).end(), "indexes within indexes");
    // Indexes of 200 times the same index: as a tree, eight million manifests.
    let mut blobs = parts.blobs.clone();
    let mut root = descriptor(&parts, None);
    for _ in 0..3 {
        let index = json!({"schemaVersion": 2, "manifests": vec![root; 200]});
        let index = index.to_string().into_bytes();
        root = json!({"digest": format!("sha256:{}", hex_of(&index)), "size": index.len()});
        blobs.insert(hex_of(&index), index);
    }
    let images = scene.load(&oci_of(&blobs, &[root]).end()).expect("strange, but an image");
    assert_eq!(images[0].blobs.len(), parts.blobs.len() + 3);
}

#[test]
fn owners_attributes_and_devices_are_bounded() {
    refused(|_| Tar::new().pax(&[("uid", b"4294967295")]).file("a", b"").end(), "owner");
    refused(|_| Tar::new().pax(&[("gid", b"99999999999")]).file("a", b"").end(), "owner");
    refused(
        |_| {
            Tar::new()
                .pax(&[("SCHILY.xattr.security.capability", b"nonsense")])
                .file("a", b"")
                .end()
        },
        "bad extended attribute",
    );
    let (_scene, folder) = harmless(|_| {
        Tar::new()
            .pax(&[
                ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                ("SCHILY.xattr.security.selinux", b"label"),
                ("SCHILY.xattr.user.mine", b"kept"),
            ])
            .folder("a")
            .device(b'4', "disk", (8, 0))
            .end()
    });
    let mut value = vec![0; 100];
    let attribute =
        |name: &str, value: &mut [u8]| rustix::fs::lgetxattr(folder.join("a"), name, value);
    assert!(attribute("trusted.overlay.opaque", &mut value).is_err());
    assert!(attribute("trusted.overlay.redirect", &mut value).is_err());
    assert!(attribute("security.selinux", &mut value).is_err());
    assert_eq!(attribute("user.mine", &mut value), Ok(4));
    // Nobody but root gets near the device.
    let layers = folder.parent().unwrap();
    assert_eq!(fs::metadata(layers).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn no_damage_to_an_archive_panics_or_changes_anything_outside() {
    let scene = Scene::new();
    let before = fingerprint(&scene.outside());
    let layer = Tar::new()
        .folder("folder")
        .file("folder/file", b"content")
        .symlink("link", "folder")
        .hard_link("second", "folder/file")
        .file(".wh.hidden", b"")
        .end();
    let archive = saved(&image(&[layer], plain), "name");
    let length = archive.len();
    let mut runner =
        TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let strategy = vec((0..length, any::<u8>()), 1..12);
    runner
        .run(&strategy, |changes| {
            let mut archive = archive.clone();
            for (place, value) in changes {
                archive[place] = value;
            }
            let _ = scene.load(&archive);
            prop_assert_eq!(fingerprint(&scene.outside()) == before, true);
            Ok(())
        })
        .unwrap();
}

proptest! {
    #![proptest_config(Config { cases: 60, failure_persistence: None, ..Config::default() })]

    /// Layers of random entries with nasty names: whatever they do, they do it inside.
    #[test]
    fn no_sequence_of_entries_reaches_outside(
        entries in vec((0..8_u8, 0..NAMES.len(), 0..NAMES.len()), 1..40),
    ) {
        let scene = Scene::new();
        let outside = scene.outside();
        let before = fingerprint(&outside);
        let name = |index: usize| NAMES[index].replace("OUTSIDE", &outside.display().to_string());
        let mut tar = Tar::new();
        for (kind, path, link) in entries {
            let (path, link) = (name(path), name(link));
            tar = match kind {
                0 | 1 => tar.file(&path, b"evil"),
                2 => tar.folder(&path),
                3 | 4 => tar.symlink(&path, &link),
                5 => tar.hard_link(&path, &link),
                6 => tar.file(&format!("{path}/.wh.{}", link.rsplit('/').next().unwrap()), b""),
                _ => tar.file(&format!("{path}/.wh..wh..opq"), b""),
            };
        }
        let loaded = scene.load(&oci(&image(&[tar.end()], plain), None));
        prop_assert_eq!(fingerprint(&outside) == before, true);
        if loaded.is_err() {
            for folder in ["blobs/sha256", "layers", "incoming", "unpacking", "trash"] {
                let count = fs::read_dir(scene.images().join(folder)).unwrap().count();
                prop_assert_eq!(count, 0);
            }
        }
    }
}

/// Names that lead somewhere.
const NAMES: [&str; 14] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "c",
    "/a",
    "OUTSIDE",
    "OUTSIDE/folder",
    "OUTSIDE/secret",
    "..",
    "../../../outside",
    "a/../b",
    ".",
    "../../../../../../../../proc/self/cwd",
];
