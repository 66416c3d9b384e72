//! Archives of every kind are loaded, and are the same image.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
};

use bramble_cluster::{Digest, chain};
use bramble_containers::images::{
    ChangeImageError, FileContent, ImageBuilder, Progress, Removal, archive_folder,
};
use serde_json::json;

use crate::{
    archives::{
        Packing, Parts, Tar, descriptor, gzip, hex_of, image, image_for, oci, oci_of, plain, saved,
        saved_oci, zstd,
    },
    scene::Scene,
};

const NAME: &str = "docker.io/library/whoami:1";

fn layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new().folder("etc/").file("etc/a", b"one").file("whoami", &[7; 100_000]).end(),
        Tar::new().file("etc/b", b"two").symlink("link", "/etc/a").end(),
        // The same again: builders write empty layers several times.
        Tar::new().file("etc/b", b"two").symlink("link", "/etc/a").end(),
    ]
}

fn digest(hex: &str) -> Digest {
    format!("sha256:{hex}").parse().unwrap()
}

#[test]
fn every_kind_of_archive_with_every_packing_is_the_same_image() {
    let packings: [Packing; 3] = [plain, gzip, zstd];
    for packing in packings {
        let parts = image(&layers(), packing);
        let kinds =
            [saved(&parts, "whoami:1"), saved_oci(&parts, "whoami:1"), oci(&parts, Some(NAME))];
        for (kind, archive) in kinds.iter().enumerate() {
            for outer in packings {
                let scene = Scene::new();
                let images = scene.load(&outer(archive)).unwrap_or_else(|error| {
                    panic!("archive {kind}: {}", chain(&error));
                });
                assert_eq!(images.len(), 1);
                assert_eq!(images[0].id, digest(&parts.config));
                assert_eq!(images[0].names, BTreeSet::from([NAME.to_owned()]));
                assert_eq!(images[0].layers.len(), 3);
                assert!(images[0].named_at.as_millis() > 0);
                if kind > 0 {
                    assert_eq!(images[0].digest, digest(&parts.manifest));
                }
                let file = scene.layer(images[0].layers[0]).join("whoami");
                assert_eq!(fs::read(file).unwrap(), [7; 100_000]);
            }
        }
    }
}

#[test]
fn an_archive_without_a_manifest_gets_the_same_one_everywhere() {
    let archive = saved(&image(&layers(), plain), "whoami:1");
    let digests = [Scene::new(), Scene::new()].map(|scene| scene.load(&archive).unwrap()[0].digest);
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn a_stream_is_loaded_with_progress_and_its_configuration_read() {
    let scene = Scene::new();
    let archive = oci(&image(&layers(), gzip), Some(NAME));
    let length = archive.len() as u64;
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let stream = std::io::Cursor::new(archive);
    let mut changes = scene.store.changes();
    let images = scene
        .store
        .load(stream, Some(length), move |progress| tell.lock().unwrap().push(progress))
        .await
        .unwrap();
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let told = told.lock().unwrap().clone();
    assert!(told.contains(&Progress::Reading { bytes: length, total: Some(length) }));
    assert!(told.contains(&Progress::Unpacking { layer: 3, layers: 3 }));
    let config = scene.store.config(images[0].digest).await.unwrap();
    assert_eq!(config.entrypoint, ["/whoami"]);
    assert!(scene.store.config(Digest::default()).await.is_err());
}

#[test]
fn a_folder_is_loaded_and_can_be_sent_as_an_archive() {
    let scene = Scene::new();
    let parts = image(&layers(), gzip);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
    for (hex, bytes) in &parts.blobs {
        fs::write(folder.path().join("blobs/sha256").join(hex), bytes).unwrap();
    }
    let index = json!({"schemaVersion": 2, "manifests": [descriptor(&parts, Some(NAME))]});
    fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
    let images = scene.store.load_folder(folder.path(), |_| {}).unwrap();
    assert_eq!(images[0].digest, digest(&parts.manifest));
    let mut archive = Vec::new();
    archive_folder(folder.path(), &mut archive).unwrap();
    assert_eq!(Scene::new().load(&archive).unwrap()[0].digest, images[0].digest);
    fs::remove_file(folder.path().join("index.json")).unwrap();
    assert!(scene.store.load_folder(folder.path(), |_| {}).is_err());
}

fn index_of(images: &[(&str, &Parts)]) -> (Vec<u8>, serde_json::Value) {
    let mut manifests: Vec<_> = images
        .iter()
        .map(|(architecture, parts)| {
            let mut one = descriptor(parts, None);
            one["platform"] = json!({"os": "linux", "architecture": architecture});
            one
        })
        .collect();
    // What buildkit adds for each: a description that is no image.
    manifests.push(json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", "0".repeat(64)), "size": 10,
        "platform": {"os": "unknown", "architecture": "unknown"}}));
    let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
    let root = json!({"mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": format!("sha256:{}", hex_of(&index)), "size": index.len(),
        "annotations": {"io.containerd.image.name": NAME}});
    (index, root)
}

#[test]
fn of_several_platforms_the_fitting_one_runs_and_missing_ones_are_no_harm() {
    let native = bramble_containers::images::native_platform().architecture;
    let mine = image_for(&layers(), gzip, &native);
    let other = image_for(&[Tar::new().file("other", b"x").end()], gzip, "riscv64");
    let (index, root) = index_of(&[("riscv64", &other), (&native, &mine)]);
    // All are here.
    let mut blobs = mine.blobs.clone();
    blobs.extend(other.blobs.clone());
    blobs.insert(hex_of(&index), index.clone());
    let scene = Scene::new();
    let images = scene.load(&oci_of(&blobs, std::slice::from_ref(&root)).end()).unwrap();
    assert_eq!((images.len(), images[0].digest), (1, digest(&hex_of(&index))));
    assert_eq!(images[0].manifest, digest(&mine.manifest));
    assert_eq!(images[0].blobs.len(), blobs.len());
    // Only the fitting one is here, as after a pull; then only a part of another.
    let mut blobs = mine.blobs.clone();
    blobs.insert(hex_of(&index), index.clone());
    for _ in 0..2 {
        let scene = Scene::new();
        let images = scene.load(&oci_of(&blobs, std::slice::from_ref(&root)).end()).unwrap();
        assert_eq!(images[0].manifest, digest(&mine.manifest));
        assert_eq!(images[0].blobs.len(), mine.blobs.len() + 1);
        let kept = fs::read_dir(scene.images().join("blobs/sha256")).unwrap().count();
        assert!(kept <= blobs.len());
        blobs.insert(other.manifest.clone(), other.blobs[&other.manifest].clone());
    }
    // None is here.
    blobs.retain(|hex, _| *hex == hex_of(&index));
    let scene = Scene::new();
    let before = scene.fingerprint();
    let error = scene.load(&oci_of(&blobs, &[root]).end()).unwrap_err();
    assert!(chain(&error).contains("several platforms"), "{}", chain(&error));
    assert_eq!(scene.fingerprint(), before);
}

#[tokio::test]
async fn several_images_share_what_they_have_in_common() {
    let scene = Scene::new();
    let base = layers().remove(0);
    let one = image(std::slice::from_ref(&base), gzip);
    let two = image(&[base, Tar::new().file("two", b"2").end()], gzip);
    let mut blobs = one.blobs.clone();
    blobs.extend(two.blobs.clone());
    let archive = oci_of(&blobs, &[descriptor(&one, Some("one")), descriptor(&two, Some("two:2"))]);
    let mut images = scene.load(&archive.end()).unwrap();
    images.sort_by_key(|image| image.layers.len());
    assert_eq!(scene.store.images().len(), 2);
    let shared = scene.layer(images[0].layers[0]);
    assert!(shared.exists());
    let gone = scene.store.remove("one", false).await.unwrap();
    assert_eq!(
        gone,
        [Removal::Untagged("docker.io/library/one:latest".into()), Removal::Deleted(images[0].id)]
    );
    assert!(shared.exists(), "the other image needs it");
    assert_eq!(fs::read_dir(scene.images().join("blobs/sha256")).unwrap().count(), two.blobs.len());
    scene.store.remove("two:2", false).await.unwrap();
    for folder in ["blobs/sha256", "layers", "incoming", "unpacking", "trash", "partial"] {
        let count = fs::read_dir(scene.images().join(folder)).unwrap().count();
        assert_eq!(count, 0, "{folder}");
    }
}

#[tokio::test]
async fn names_mean_the_image_that_got_them_last() {
    let mut scene = Scene::new();
    let first = scene.load(&oci(&image(&layers(), plain), Some(NAME))).unwrap().remove(0);
    let other = image(&[Tar::new().file("x", b"y").end()], plain);
    let second = scene.load(&oci(&other, Some(NAME))).unwrap().remove(0);
    scene.reopen();
    assert_eq!(scene.store.resolve("whoami:1").unwrap().digest, second.digest);
    assert!(scene.store.find(first.digest).unwrap().names.is_empty());
    scene.store.tag(first.digest, "me/app".parse().unwrap()).await.unwrap();
    scene.store.tag(first.digest, "me/app:2".parse().unwrap()).await.unwrap();
    for name in [
        "me/app",
        "docker.io/me/app:2",
        &format!("me/app@{}", first.digest),
        &first.digest.to_string(),
        &first.id.hex(),
        &first.id.hex()[..12],
    ] {
        assert_eq!(scene.store.resolve(name).unwrap().digest, first.digest, "{name}");
    }
    for name in ["", "nothing", "whoami:2", "abc", "sha256:", "../../etc", &"f".repeat(64)] {
        let error = scene.store.resolve(name).unwrap_err();
        assert!(error.to_string().contains("no such image"), "{error}");
    }
    let by_id = scene.store.remove(&first.id.hex()[..12], false).await;
    assert!(matches!(by_id, Err(ChangeImageError::SeveralNames { .. })));
    assert_eq!(scene.store.remove("me/app:2", false).await.unwrap().len(), 1);
    assert_eq!(scene.store.remove(&first.id.hex()[..12], false).await.unwrap().len(), 2);
    assert!(scene.store.find(first.digest).is_none());
    assert!(scene.store.remove("me/app", false).await.is_err());
}

#[tokio::test]
async fn what_is_built_here_is_the_same_everywhere_and_loads_anywhere() {
    let (here, there) = (Scene::new(), Scene::new());
    let builder = ImageBuilder::new()
        .file("/whoami", FileContent::Copy("/proc/self/exe".into()), 0o755)
        .entrypoint(["/whoami"])
        .expose("80/tcp");
    let name: bramble_cluster::ImageName = "whoami".parse().unwrap();
    let built = here.store.build(builder.clone(), name.clone()).await.unwrap();
    let again = here.store.build(builder.clone(), name.clone()).await.unwrap();
    assert_eq!(built, again, "building again names nothing anew");
    let mut archive = Vec::new();
    assert_eq!(builder.write_archive(&name, &mut archive).unwrap(), built.digest);
    let loaded = there.load(&archive).unwrap().remove(0);
    assert_eq!((loaded.digest, &loaded.names), (built.digest, &built.names));
    let binary = there.layer(loaded.layers[0]).join("whoami");
    assert_eq!(fs::read(binary).unwrap(), fs::read("/proc/self/exe").unwrap());
    let config = there.store.config(loaded.digest).await.unwrap();
    assert!(config.exposed_ports.contains("80/tcp"));
}

#[test]
fn a_crash_half_way_leaves_nothing_behind() {
    let mut scene = Scene::new();
    let images = scene.images();
    let image = scene.load(&oci(&image(&layers(), gzip), Some(NAME))).unwrap().remove(0);
    for path in ["incoming/3", "blobs/sha256/not-a-blob", "index.new"] {
        fs::write(images.join(path), "x").unwrap();
    }
    let orphan = digest(&"1".repeat(64));
    fs::write(images.join("blobs/sha256").join(orphan.hex()), "x").unwrap();
    for path in ["unpacking/x/tree/a", "trash/4/tree/b", &format!("layers/{}", orphan.hex())] {
        fs::create_dir_all(images.join(path)).unwrap();
    }
    scene.reopen();
    assert_eq!(scene.store.list(), [image]);
    for folder in ["incoming", "unpacking", "trash"] {
        assert_eq!(fs::read_dir(images.join(folder)).unwrap().count(), 0, "{folder}");
    }
    assert!(!scene.layer(orphan).exists());
    assert!(!images.join("blobs/sha256").join(orphan.hex()).exists());
}
