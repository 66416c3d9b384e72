//! A large image takes little memory. Alone in its process, whose memory it looks at. Needs root.

use std::io::{Read, Write};

use bramble_containers::images::{ImageStore, ImageStoreOptions};

/// Half a gibibyte, more than the smallest board has free.
const LAYER_BYTES: u64 = 512 << 20;
/// What loading it may take, whatever its size.
const MEMORY_BYTES: u64 = 16 << 20;

/// The most that this process ever had in memory.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Bytes that are no zeros, cheaply.
struct Pattern(u64);

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        for byte in buffer.iter_mut() {
            self.0 = self.0.wrapping_add(1);
            *byte = (self.0 ^ (self.0 >> 12)).to_le_bytes()[0] | 1;
        }
        Ok(buffer.len())
    }
}

fn header(path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(path).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn layer() -> impl Read {
    let header = header("large", LAYER_BYTES).as_bytes().to_vec();
    std::io::Cursor::new(header).chain(Pattern(0).take(LAYER_BYTES)).chain(&[0; 1024][..])
}

struct Hashing(ring::digest::Context);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn archive() -> impl Read {
    let mut hashing = Hashing(ring::digest::Context::new(&ring::digest::SHA256));
    std::io::copy(&mut layer(), &mut hashing).unwrap();
    let digest = hashing.0.finish();
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let config = format!(r#"{{"os":"linux","rootfs":{{"diff_ids":["sha256:{hex}"]}}}}"#);
    let table = br#"[{"Config":"config","RepoTags":["large"],"Layers":["layer"]}]"#;
    let mut rest = tar::Builder::new(Vec::new());
    for (path, bytes) in [("config", config.as_bytes()), ("manifest.json", table)] {
        rest.append(&header(path, bytes.len() as u64), bytes).unwrap();
    }
    let header = header("layer", LAYER_BYTES + 1536).as_bytes().to_vec();
    let rest = std::io::Cursor::new(rest.into_inner().unwrap());
    std::io::Cursor::new(header).chain(layer()).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::{ImageStore, ImageStoreOptions, LAYER_BYTES, MEMORY_BYTES, archive, peak};

    #[test]
    fn loading_a_large_image_takes_little_memory() {
        assert!(rustix::process::geteuid().is_root(), "owners need root: run this test as root");
        let folder = tempfile::tempdir().unwrap();
        let store = ImageStore::open(ImageStoreOptions::new(folder.path())).unwrap();
        let archive = archive();
        let before = peak();
        let started = std::time::Instant::now();
        let image = store.load_from(archive, None, |_| {}).unwrap().remove(0);
        let took = started.elapsed();
        assert!(image.size() > LAYER_BYTES);
        let grown = peak() - before;
        println!("{} MiB in {took:?}, {} KiB of memory", LAYER_BYTES >> 20, grown >> 10);
        assert!(grown < MEMORY_BYTES, "{grown} bytes");
    }
}
