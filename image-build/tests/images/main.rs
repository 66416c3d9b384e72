//! Images as they are handed out, built from the locked packages and read back by other means than
//! those that wrote them. The packages are fetched, so this needs the network the first time.
//!
//! A board's busybox stands in for the firmware: what is tested is all around it.

mod builder;
mod initramfs;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, io::Read};

    use crate::{
        builder::{Built, SLOT_A, SLOT_B, START, repository},
        initramfs::Initramfs,
    };

    #[test]
    fn a_card_for_every_pi_is_made_of_the_packages_and_is_the_same_twice() {
        let first = Built::new("rpi");
        let second = Built::new("rpi");
        assert!(first.image == second.image, "the cards differ");
        assert!(first.slot == second.slot, "the slots differ");
        for file in ["bootcode.bin", "config.txt", "bramble.toml", "README.txt"] {
            first.file(START, file);
        }
        for file in ["start.elf", "fixup.dat", "start4.elf", "fixup4.dat"] {
            first.file(SLOT_A, file);
        }
        for overlay in ["rpi-poe-plus-hat.dtbo"] {
            first.file(SLOT_A, &format!("overlays/{overlay}"));
        }
        let settings = String::from_utf8(first.file(SLOT_A, "config.txt")).unwrap();
        assert!(settings.contains("\ninitramfs bramble.cpio followkernel\n"), "{settings}");
        let line = String::from_utf8(first.file(SLOT_A, "cmdline.txt")).unwrap();
        assert!(line.contains("iomem=relaxed") && line.lines().count() == 1, "{line}");
        holds_what_boards_need(&first, "raspberry-pi-");
        slots_are_alike(&first);
    }

    #[test]
    fn an_image_for_emulated_arm_is_made_of_the_packages() {
        let built = Built::new("qemu-arm64");
        holds_what_boards_need(&built, "qemu-arm64");
        slots_are_alike(&built);
    }

    #[test]
    fn an_image_for_an_emulated_pc_is_made_of_the_packages() {
        let built = Built::new("qemu-x86_64");
        holds_what_boards_need(&built, "qemu-x86_64");
        slots_are_alike(&built);
        assert_eq!(built.file(SLOT_A, "kernel8.img")[0x202..0x206], *b"HdrS");
    }

    #[test]
    fn a_compressed_image_is_that_image_and_has_its_sum_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("card.img.zst");
        crate::builder::build("qemu-arm64", &["--out", out.to_str().unwrap()]);
        let mut decoder = zstd::Decoder::new(fs::File::open(&out).unwrap()).unwrap();
        decoder.window_log_max(28).unwrap();
        let mut image = Vec::new();
        decoder.read_to_end(&mut image).unwrap();
        assert!(image == Built::new("qemu-arm64").image);
        let sum = fs::read_to_string(folder.path().join("card.img.zst.sha256")).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &fs::read(&out).unwrap());
        assert_eq!(sum, format!("{}  card.img.zst\n", hex::encode(digest)));
    }

    /// Every module, device tree and firmware file that the boards' files name is there, and every
    /// module has all that it needs.
    fn holds_what_boards_need(built: &Built, prefix: &str) {
        let initramfs = Initramfs::read(&built.file(SLOT_A, "bramble.cpio"));
        for path in ["init", "sbin/e2fsck", "etc/bramble/data.ext4.gz", "etc/bramble/boot.modules"]
        {
            assert!(!initramfs.file(path).is_empty(), "{path}");
        }
        assert_eq!(initramfs.file("etc/bramble/version"), b"9.8.7\n");
        assert_eq!(initramfs.file("etc/bramble/trust/current.pub"), b"a key\n");
        let modules = initramfs.modules();
        let builtin = initramfs.builtin();
        let has = |name: &String| {
            let name = name.replace('-', "_");
            modules.contains_key(&name) || builtin.contains(&name)
        };
        for (file, board) in boards(prefix) {
            let named = |key: &str| -> Vec<String> {
                let values = board[key].as_array().unwrap();
                values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
            };
            for name in named("modules") {
                assert!(has(&name), "{file}: module {name}");
            }
            for name in named("firmware") {
                assert!(!initramfs.file(&format!("lib/firmware/{name}")).is_empty(), "{file}");
            }
            for name in named("dtb") {
                let tree = built.file(SLOT_A, &format!("{name}.dtb"));
                assert_eq!(tree[..4], [0xd0, 0x0d, 0xfe, 0xed], "{file}: {name}");
            }
        }
        let boot = String::from_utf8(initramfs.file("etc/bramble/boot.modules").to_vec()).unwrap();
        assert!(boot.lines().all(|name| has(&name.to_owned())), "{boot}");
        let paths: BTreeSet<&String> = modules.values().map(|module| &module.path).collect();
        for module in modules.values() {
            for need in &module.needs {
                assert!(paths.contains(need), "{} needs {need}", module.path);
            }
        }
    }

    fn slots_are_alike(built: &Built) {
        let names = built.names(SLOT_A);
        assert_eq!(names, built.names(SLOT_B));
        for name in names {
            assert!(built.file(SLOT_A, &name) == built.file(SLOT_B, &name), "{name}");
            assert!(built.file(SLOT_A, &name) == built.slot_file(&name), "{name}");
        }
        assert_eq!(built.label(START), "BRAMBLE");
        assert_eq!(built.label(SLOT_A), "BRAMBLE-A");
        assert_eq!(built.label(SLOT_B), "BRAMBLE-B");
        assert_eq!(built.file(START, "autoboot.txt").len(), 512);
    }

    fn boards(prefix: &str) -> Vec<(String, toml::Table)> {
        let listed = fs::read_dir(repository().join("hardware")).unwrap();
        let paths = listed.map(|entry| entry.unwrap().path());
        let boards: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
            .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path))
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, path)| (name, toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()))
            .collect();
        assert!(!boards.is_empty());
        boards
    }
}
