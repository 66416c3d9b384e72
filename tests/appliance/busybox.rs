//! The image that tests run inside machines: busybox, for a machine's processor.

use std::{fs::File, io::BufWriter, path::Path};

use bramble_cluster::Platform;
use bramble_containers::images::{FileContent, ImageBuilder};

use crate::{command::given, machine::Model};

/// The image's name.
pub const IMAGE: &str = "busybox";

/// The programs that the tests call by name.
const PROGRAMS: &[&str] = &[
    "awk", "cat", "cut", "date", "dd", "df", "echo", "grep", "head", "hostname", "httpd", "id",
    "ls", "md5sum", "mkdir", "mknod", "mount", "mv", "od", "printf", "rm", "seq", "sh", "sleep",
    "sort", "stat", "sync", "tail", "test", "tr", "true", "uname", "wc",
];

/// Writes the image for machines of a model, as an archive to be loaded.
pub fn write_image(model: Model, archive: &Path) {
    let architecture = model.architecture();
    let platform = Platform { os: "linux".to_owned(), architecture: architecture.to_owned() };
    let busybox = format!("BRAMBLE_BUSYBOX_{}", architecture.to_uppercase());
    let binary = FileContent::Copy(given(&busybox));
    let mut image = ImageBuilder::new()
        .platform(platform)
        .file("/bin/busybox", binary, 0o755)
        .folder("/tmp", 0o1777)
        .folder("/data", 0o755)
        .env("PATH=/bin")
        .command(["sh"]);
    for program in PROGRAMS {
        image = image.symlink(&format!("/bin/{program}"), "busybox");
    }
    let name = IMAGE.parse().expect("an image's name");
    let file = File::create(archive).expect("the archive is written");
    image.write_archive(&name, BufWriter::new(file)).expect("the archive is written");
}
