//! Archives made by hand, honest and otherwise.

use std::{collections::BTreeMap, io::Write};

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// A tar archive, header by header.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds any entry; nothing is checked.
    pub(crate) fn entry(mut self, kind: u8, path: &str, link: &str, data: &[u8]) -> Self {
        self.long(b'L', path);
        self.long(b'K', link);
        self.header(kind, path, link, data.len() as u64, 0o644, (0, 0));
        self.data(data);
        self
    }

    pub(crate) fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(b'0', path, "", data)
    }

    pub(crate) fn mode(mut self, kind: u8, path: &str, mode: u64, data: &[u8]) -> Self {
        self.long(b'L', path);
        self.header(kind, path, "", data.len() as u64, mode, (0, 0));
        self.data(data);
        self
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.mode(b'5', path, 0o755, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    pub(crate) fn device(mut self, kind: u8, path: &str, number: (u64, u64)) -> Self {
        self.header(kind, path, "", 0, 0o666, number);
        self
    }

    /// A header that announces more (or less) than follows.
    pub(crate) fn lying_file(mut self, path: &str, announced: u64, data: &[u8]) -> Self {
        self.header(b'0', path, "", announced, 0o644, (0, 0));
        self.data(data);
        self
    }

    /// Pax records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest..).find(|length| length.to_string().len() + rest == *length);
            bytes.extend(format!("{} {key}=", length.unwrap()).into_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.mode(b'x', "pax", 0o644, &bytes)
    }

    /// The archive, ended.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    fn long(&mut self, kind: u8, text: &str) {
        if text.len() > 100 {
            self.header(kind, "././@LongLink", "", text.len() as u64, 0o644, (0, 0));
            self.data(text.as_bytes());
        }
    }

    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        let length = self.0.len().next_multiple_of(512);
        self.0.resize(length, 0);
    }

    fn header(
        &mut self,
        kind: u8,
        path: &str,
        link: &str,
        size: u64,
        mode: u64,
        device: (u64, u64),
    ) {
        let mut block = [0u8; 512];
        let mut put = |at: usize, room: usize, bytes: &[u8]| {
            let length = bytes.len().min(room);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, 100, path.as_bytes());
        put(100, 8, format!("{mode:07o}").as_bytes());
        put(108, 8, b"0001750");
        put(116, 8, b"0001751");
        if size < 1 << 33 {
            put(124, 12, format!("{size:011o}").as_bytes());
        } else {
            put(124, 12, &[&[0x80, 0, 0, 0], &size.to_be_bytes()[..]].concat());
        }
        put(136, 12, b"07346545000");
        put(148, 8, b"        ");
        put(156, 1, &[kind]);
        put(157, 100, link.as_bytes());
        put(257, 8, b"ustar\x0000");
        put(329, 8, format!("{:07o}", device.0).as_bytes());
        put(337, 8, format!("{:07o}", device.1).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(block);
    }
}

/// The hexadecimal digits of bytes' digest.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// How layers are packed in an archive.
pub(crate) type Packing = fn(&[u8]) -> Vec<u8>;

pub(crate) fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// An image in parts.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) config: String,
    pub(crate) manifest: String,
    pub(crate) layers: Vec<String>,
    pub(crate) manifest_size: usize,
}

/// An image of layers' archives.
pub(crate) fn image(layers: &[Vec<u8>], packing: Packing) -> Parts {
    image_for(layers, packing, bramble_containers::images::native_platform().architecture.as_str())
}

pub(crate) fn image_for(layers: &[Vec<u8>], packing: Packing, architecture: &str) -> Parts {
    let ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", hex_of(layer))).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {"Entrypoint": ["/whoami"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let packed: Vec<_> = layers.iter().map(|layer| packing(layer)).collect();
    let describe = |bytes: &Vec<u8>| {
        json!({"mediaType": "application/octet-stream",
               "digest": format!("sha256:{}", hex_of(bytes)), "size": bytes.len()})
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe(&config), "layers": packed.iter().map(describe).collect::<Vec<_>>(),
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut parts = Parts {
        blobs: BTreeMap::new(),
        config: hex_of(&config),
        manifest: hex_of(&manifest),
        layers: packed.iter().map(|bytes| hex_of(bytes)).collect(),
        manifest_size: manifest.len(),
    };
    for bytes in packed.into_iter().chain([config, manifest]) {
        parts.blobs.insert(hex_of(&bytes), bytes);
    }
    parts
}

/// What an index says of an image.
pub(crate) fn descriptor(parts: &Parts, name: Option<&str>) -> Value {
    let mut descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": format!("sha256:{}", parts.manifest), "size": parts.manifest_size,
    });
    if let Some(name) = name {
        descriptor["annotations"] = json!({"io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": "latest"});
    }
    descriptor
}

/// An OCI archive of blobs and what its index lists.
pub(crate) fn oci_of(blobs: &BTreeMap<String, Vec<u8>>, manifests: &[Value]) -> Tar {
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    let mut tar = Tar::new().folder("blobs/").folder("blobs/sha256/");
    for (hex, bytes) in blobs {
        tar = tar.file(&format!("blobs/sha256/{hex}"), bytes);
    }
    tar.file("index.json", &serde_json::to_vec(&index).unwrap())
        .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
}

/// An OCI archive of one image, as `docker save` with the containerd store or `buildctl` write it.
pub(crate) fn oci(parts: &Parts, name: Option<&str>) -> Vec<u8> {
    oci_of(&parts.blobs, &[descriptor(parts, name)]).end()
}

/// What `docker save` wrote before version 25: a folder per layer, no manifest; the second of two
/// equal layers is a link to the first.
pub(crate) fn saved(parts: &Parts, name: &str) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut paths = Vec::new();
    let mut seen = BTreeMap::new();
    for (number, hex) in parts.layers.iter().enumerate() {
        let folder = format!("{number:064}");
        tar = tar.folder(&format!("{folder}/")).file(&format!("{folder}/VERSION"), b"1.0");
        tar = tar.file(&format!("{folder}/json"), b"{}");
        let path = format!("{folder}/layer.tar");
        tar = match seen.insert(hex, folder) {
            Some(first) => tar.symlink(&path, &format!("../{first}/layer.tar")),
            None => tar.file(&path, &parts.blobs[hex]),
        };
        paths.push(path);
    }
    let config = format!("{}.json", parts.config);
    tar = tar.file(&config, &parts.blobs[&parts.config]);
    let table = json!([{"Config": config, "RepoTags": [name], "Layers": paths}]);
    tar.file("manifest.json", &serde_json::to_vec(&table).unwrap())
        .file("repositories", b"{}")
        .end()
}

/// What `docker save` writes since version 25: an OCI layout, and the old table beside it.
pub(crate) fn saved_oci(parts: &Parts, name: &str) -> Vec<u8> {
    let blob = |hex: &String| format!("blobs/sha256/{hex}");
    let layers: Vec<_> = parts.layers.iter().map(blob).collect();
    let table = json!([{"Config": blob(&parts.config), "RepoTags": [name], "Layers": layers}]);
    oci_of(&parts.blobs, &[descriptor(parts, None)])
        .file("manifest.json", &serde_json::to_vec(&table).unwrap())
        .end()
}
