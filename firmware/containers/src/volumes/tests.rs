use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn volume(name: &str, fill_from: Option<&str>) -> NewVolume {
    NewVolume {
        name: name.to_owned(),
        labels: Labels::from([("room".to_owned(), "kitchen".to_owned())]),
        fill_from: fill_from.map(PathBuf::from),
        is_anonymous: false,
    }
}

#[test]
fn a_new_volume_holds_what_the_image_has_there() {
    let base = tempfile::tempdir().unwrap();
    let (rootfs, volumes) = (base.path().join("root"), base.path().join("volumes"));
    fs::create_dir_all(rootfs.join("var/data/deep")).unwrap();
    fs::write(rootfs.join("var/data/deep/file"), "text").unwrap();
    fs::set_permissions(rootfs.join("var/data"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("/etc/passwd", rootfs.join("var/data/link")).unwrap();
    symlink("/var/data", rootfs.join("alias")).unwrap();
    ensure(&volumes, &rootfs, &volume("one", Some("/alias"))).unwrap();
    let files = data(&volumes, "one");
    assert_eq!(fs::read_to_string(files.join("deep/file")).unwrap(), "text");
    assert_eq!(fs::read_link(files.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(&files).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(labels(&volumes, "one")["room"], "kitchen");
}

#[test]
fn a_volume_that_is_there_is_left_alone() {
    let base = tempfile::tempdir().unwrap();
    let (rootfs, volumes) = (base.path().join("root"), base.path().join("volumes"));
    fs::create_dir_all(rootfs.join("data")).unwrap();
    fs::write(rootfs.join("data/of-image"), "").unwrap();
    fs::create_dir_all(data(&volumes, "old")).unwrap();
    ensure(&volumes, &rootfs, &volume("old", Some("/data"))).unwrap();
    assert_eq!(fs::read_dir(data(&volumes, "old")).unwrap().count(), 0);
    ensure(&volumes, &rootfs, &volume("bare", None)).unwrap();
    ensure(&volumes, &rootfs, &volume("nothing", Some("/missing"))).unwrap();
    assert_eq!(fs::read_dir(&volumes).unwrap().count(), 3, "nothing unfinished stays");
}

#[test]
fn only_a_containers_own_volumes_go_with_it() {
    let base = tempfile::tempdir().unwrap();
    let (one, two) = (TaskId::from_random(1), TaskId::from_random(2));
    for name in [anonymous_name(one, 0), anonymous_name(one, 1), anonymous_name(two, 0)] {
        ensure(base.path(), base.path(), &volume(&name, None)).unwrap();
    }
    remove_anonymous(base.path(), one).unwrap();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    remove_anonymous(&base.path().join("missing"), one).unwrap();
}

#[test]
fn names_follow_dockers_rule() {
    assert!(is_name("web_data-1.2"));
    for name in ["", ".hidden", "-x", "a/b", "..", "é", &"x".repeat(256)] {
        assert!(!is_name(name), "{name}");
    }
}
