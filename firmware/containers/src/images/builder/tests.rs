use super::{BuildError, FileContent, ImageBuilder, Platform};

fn builder() -> ImageBuilder {
    ImageBuilder::new()
        .platform(Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() })
        .file("/bin/whoami", FileContent::Bytes(b"binary".to_vec()), 0o755)
        .folder("/tmp", 0o1777)
        .symlink("/sh", "/bin/whoami")
        .entrypoint(["/bin/whoami"])
        .command(["--port", "80"])
        .env("PORT=80")
        .expose("80/tcp")
        .label("a", "b")
        .user("65534")
        .working_dir("/tmp")
        .stop_signal("SIGINT")
}

fn archive(builder: &ImageBuilder) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let digest = builder.write_archive(&"whoami".parse().unwrap(), &mut bytes).unwrap();
    (digest.to_string(), bytes)
}

#[test]
fn the_same_files_make_the_same_bytes() {
    let (first, second) = (archive(&builder()), archive(&builder()));
    assert!(first == second);
    // Frozen: boards of different versions must mean the same image.
    assert_eq!(first.0, "sha256:5b4f97c3d2cc4e3d452302eeea1708797ce7b557dd25f204ec984690f49cdc26");
    assert_ne!(archive(&builder().env("X=1")).0, first.0);
}

#[test]
fn the_archive_is_one_that_the_tar_crate_reads() {
    let (digest, bytes) = archive(&builder());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    assert_eq!(&names[..2], ["oci-layout", "index.json"]);
    assert_eq!(names.len(), 5);
    assert!(names.contains(&format!("blobs/{}", digest.replace(':', "/"))));
}

#[test]
fn a_file_that_is_missing_is_an_error() {
    let builder =
        ImageBuilder::new().file("/a", FileContent::Copy("/does/not/exist".into()), 0o755);
    let result = builder.write_archive(&"a".parse().unwrap(), Vec::new());
    assert!(matches!(result, Err(BuildError::Write(_))));
}
