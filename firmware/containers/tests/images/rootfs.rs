//! Root file systems through a real overlayfs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use bramble_containers::images::{ChangeImageError, RootfsError};

use crate::{
    archives::{Tar, gzip, image, oci, plain},
    overlay,
    scene::Scene,
};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn mounts_under(folder: &Path) -> usize {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(&*folder.to_string_lossy())).count()
}

#[tokio::test]
async fn what_upper_layers_hide_is_hidden_and_the_rest_is_not() {
    let scene = Scene::new();
    let layers = [
        Tar::new()
            .file("kept", b"1")
            .file("gone", b"1")
            .file("replaced", b"1")
            .folder("folder")
            .file("folder/old", b"1")
            .folder("whole")
            .file("whole/a/b", b"1")
            .folder("opaque")
            .file("opaque/old", b"1")
            .file("became-folder", b"1")
            .folder("became-file/x")
            .file("twice/x", b"1")
            .end(),
        Tar::new()
            .file(".wh.gone", b"")
            .file("replaced", b"2")
            .file("folder/new", b"2")
            .file("folder/.wh.old", b"")
            .file(".wh.whole", b"")
            // The marker may come after what it must not hide.
            .file("opaque/new", b"2")
            .file("opaque/.wh..wh..opq", b"")
            .folder("became-folder")
            .file("became-folder/y", b"2")
            .file("became-file", b"2")
            // Hidden and made anew: only the new content is there.
            .file(".wh.twice", b"")
            .file("twice/y", b"2")
            .end(),
        Tar::new().file("whole/c", b"3").file(".wh.never-was", b"").end(),
    ];
    let image = scene.load(&oci(&image(&layers, gzip), None)).unwrap().remove(0);
    let rootfs = scene.store.mount("one", image.digest).await.unwrap();
    let expected =
        ["became-file", "became-folder", "folder", "kept", "opaque", "replaced", "twice", "whole"];
    assert_eq!(names(&rootfs), expected);
    assert_eq!(names(&rootfs.join("folder")), ["new"]);
    assert_eq!(names(&rootfs.join("opaque")), ["new"]);
    assert_eq!(names(&rootfs.join("twice")), ["y"]);
    assert_eq!(names(&rootfs.join("whole")), ["c"]);
    assert_eq!(names(&rootfs.join("became-folder")), ["y"]);
    assert_eq!(fs::read(rootfs.join("replaced")).unwrap(), b"2");
    assert_eq!(fs::read(rootfs.join("became-file")).unwrap(), b"2");
    scene.store.unmount("one").await.unwrap();
    assert_eq!(mounts_under(&scene.images()), 0);
}

#[tokio::test]
async fn everything_that_an_archive_says_of_a_file_is_there() {
    let scene = Scene::new();
    // The capability to bind low ports, as setcap writes it.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Tar::new()
        .mode(b'5', "tmp", 0o1777, b"")
        .mode(b'5', "./", 0o751, b"")
        .mode(b'0', "sudo", 0o4755, b"binary")
        .pax(&[
            ("SCHILY.xattr.security.capability", &capability),
            ("SCHILY.xattr.user.note", b"hello"),
            ("mtime", b"1000000000.25"),
            ("uid", b"100000"),
        ])
        .mode(b'0', "server", 0o755, b"binary")
        .symlink("link", "/sudo")
        .hard_link("second", "sudo")
        .device(b'3', "null", (1, 3))
        .mode(b'6', "pipe", 0o622, b"")
        .file("tmp/later", b"changes the folder's time")
        .file(&format!("{}/file", "long-name/".repeat(30)), b"long")
        .end();
    let image = scene.load(&oci(&image(&[layer], gzip), None)).unwrap().remove(0);
    let rootfs = scene.store.mount("one", image.digest).await.unwrap();
    let look = |name: &str| fs::symlink_metadata(rootfs.join(name)).unwrap();
    let time = i64::from_str_radix("7346545000", 8).unwrap();
    let sudo = look("sudo");
    assert_eq!((sudo.mode() & 0o7777, sudo.uid(), sudo.gid()), (0o4755, 0o1750, 0o1751));
    assert_eq!((sudo.mtime(), sudo.nlink()), (time, 2));
    assert_eq!((look("tmp").mode() & 0o7777, look("tmp").mtime()), (0o1777, time));
    let server = look("server");
    assert_eq!((server.uid(), server.mtime()), (100_000, 1_000_000_000));
    assert_eq!(server.mtime_nsec(), 250_000_000);
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(rootfs.join("server"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"hello");
    let name = "security.capability";
    assert_eq!(rustix::fs::getxattr(rootfs.join("server"), name, &mut value), Ok(20));
    let link = look("link");
    assert_eq!(fs::read_link(rootfs.join("link")).unwrap(), PathBuf::from("/sudo"));
    assert_eq!((link.uid(), link.mtime()), (0o1750, time));
    assert!(look("null").file_type().is_char_device() && look("null").rdev() == 0x103);
    assert!(look("pipe").file_type().is_fifo());
    assert_eq!(fs::read(rootfs.join("long-name/".repeat(30)).join("file")).unwrap(), b"long");
    // Devices of an image are there and do not work.
    let refused = fs::write(rootfs.join("null"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(rootfs.metadata().unwrap().mode() & 0o777, 0o755);
    scene.store.unmount("one").await.unwrap();
}

#[tokio::test]
async fn containers_share_layers_and_nothing_else() {
    let mut scene = Scene::new();
    let layer = Tar::new().file("file", b"image").end();
    let image = scene.load(&oci(&image(&[layer], plain), Some("app"))).unwrap().remove(0);
    let one = scene.store.mount("one", image.digest).await.unwrap();
    let two = scene.store.mount("two", image.digest).await.unwrap();
    fs::write(one.join("file"), "one").unwrap();
    fs::remove_file(two.join("file")).unwrap();
    assert_eq!(fs::read(one.join("file")).unwrap(), b"one");
    assert_eq!(fs::read(scene.layer(image.layers[0]).join("file")).unwrap(), b"image");
    // Mounting again changes nothing; another process finds it as it is.
    assert_eq!(scene.store.mount("one", image.digest).await.unwrap(), one);
    scene.reopen();
    assert_eq!(scene.store.containers(), ["one", "two"]);
    assert_eq!(scene.store.mount("one", image.digest).await.unwrap(), one);
    assert_eq!(fs::read(one.join("file")).unwrap(), b"one");
    // An image in use stays, or leaves its layers to the container.
    let refused = scene.store.remove("app", false).await.unwrap_err();
    assert!(matches!(refused, ChangeImageError::InUse { .. }), "{refused}");
    scene.store.remove("app", true).await.unwrap();
    assert!(scene.store.list().is_empty());
    assert_eq!(fs::read(one.join("file")).unwrap(), b"one");
    scene.reopen();
    assert!(scene.layer(image.layers[0]).exists());
    scene.store.retain(BTreeSet::from(["one".to_owned()])).await.unwrap();
    assert_eq!(scene.store.containers(), ["one"]);
    scene.store.unmount("one").await.unwrap();
    scene.store.unmount("one").await.unwrap();
    for folder in ["layers", "containers", "blobs/sha256", "trash"] {
        assert!(names(&scene.images().join(folder)).is_empty(), "{folder}");
    }
    assert_eq!(mounts_under(&scene.images()), 0);
}

#[tokio::test]
async fn an_image_may_have_more_layers_than_mount_options_have_room() {
    let scene = Scene::new();
    let layers: Vec<_> = (0..200)
        .map(|number| Tar::new().file("top", number.to_string().as_bytes()).end())
        .collect();
    let image = scene.load(&oci(&image(&layers, plain), None)).unwrap().remove(0);
    let rootfs = scene.store.mount("deep", image.digest).await.unwrap();
    assert_eq!(fs::read(rootfs.join("top")).unwrap(), b"199");
    scene.store.unmount("deep").await.unwrap();
}

#[test]
fn both_ways_of_mounting_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the kernel takes as one value: descriptors stand in for such paths.
    for base in [folder.path().join("short"), folder.path().join("long-".repeat(50)).join("er")] {
        let layers: Vec<PathBuf> = (0..130).map(|number| base.join(number.to_string())).collect();
        for (number, layer) in layers.iter().enumerate() {
            fs::create_dir_all(layer).unwrap();
            fs::write(layer.join("top"), number.to_string()).unwrap();
        }
        let [upper, work, target] = ["upper", "work", "target"].map(|name| base.join(name));
        let all = [
            overlay::mount,
            |layers: &[PathBuf], upper: &Path, work: &Path, at: &Path| {
                Ok(overlay::mount_one_by_one(layers, upper, work, at)?)
            },
            |layers: &[PathBuf], upper: &Path, work: &Path, at: &Path| {
                Ok(overlay::mount_by_options(layers, upper, work, at)?)
            },
        ];
        for mount in all {
            for path in [&upper, &work, &target] {
                fs::create_dir(path).unwrap();
            }
            mount(&layers, &upper, &work, &target).expect("root may mount; run this test as root");
            assert_eq!(fs::read(target.join("top")).unwrap(), b"0", "the first is the topmost");
            fs::write(target.join("top"), "written").unwrap();
            assert_eq!(fs::read(upper.join("top")).unwrap(), b"written");
            assert_eq!(fs::read(layers[0].join("top")).unwrap(), b"0");
            rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
            for path in [&upper, &work, &target] {
                fs::remove_dir_all(path).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_layer_that_is_gone_is_unpacked_again() {
    let scene = Scene::new();
    let layers = [Tar::new().file("a", b"1").end(), Tar::new().file("b", b"2").end()];
    let image = scene.load(&oci(&image(&layers, gzip), None)).unwrap().remove(0);
    fs::remove_dir_all(scene.layer(image.layers[0])).unwrap();
    let rootfs = scene.store.mount("one", image.digest).await.unwrap();
    assert_eq!(names(&rootfs), ["a", "b"]);
    scene.store.unmount("one").await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_mounted_leaves_nothing() {
    let scene = Scene::new();
    let unknown = scene.store.mount("one", bramble_cluster::Digest::default()).await;
    assert!(matches!(unknown, Err(RootfsError::UnknownImage { .. })));
    let bad = scene.store.mount("../one", bramble_cluster::Digest::default()).await;
    assert!(matches!(bad, Err(RootfsError::BadId { .. })));
    assert!(names(&scene.images().join("containers")).is_empty());
    assert!(scene.store.containers().is_empty());
}

#[tokio::test]
async fn many_mounts_at_once_come_and_go() {
    let scene = Scene::new();
    let layer = Tar::new().file("file", b"image").end();
    let image = scene.load(&oci(&image(&[layer], plain), None)).unwrap().remove(0);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let store = scene.store.clone();
        tasks.spawn(async move {
            let id = format!("task{number}");
            let rootfs = store.mount(&id, image.digest).await.unwrap();
            fs::write(rootfs.join("file"), &id).unwrap();
            assert_eq!(fs::read(rootfs.join("file")).unwrap(), id.as_bytes());
            store.unmount(&id).await.unwrap();
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert_eq!(mounts_under(&scene.images()), 0);
    assert!(names(&scene.images().join("containers")).is_empty());
}
