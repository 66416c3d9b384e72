//! `--mount type=volume,source=data,target=/data,readonly`

use anyhow::{Context, Result, anyhow, bail};
use bramble_api::types::mount::{Mount, TmpfsOptions, VolumeOptions};

use super::bytes;

/// Reads a mount.
pub(in crate::cli) fn mount(text: &str) -> Result<Mount> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let mut volume = VolumeOptions::default();
    let mut tmpfs = TmpfsOptions::default();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        match key.to_ascii_lowercase().as_str() {
            "type" => mount.kind = value.to_owned(),
            "source" | "src" => mount.source = value.to_owned(),
            "target" | "dst" | "destination" => mount.target = value.to_owned(),
            "readonly" | "ro" => mount.read_only = claim(part, value)?,
            "volume-nocopy" => volume.no_copy = claim(part, value)?,
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                volume.labels.insert(name.to_owned(), value.to_owned());
            }
            "tmpfs-size" => tmpfs.size_bytes = bytes(value).map_err(|error| anyhow!(error))?,
            "tmpfs-mode" => {
                tmpfs.mode = u32::from_str_radix(value, 8)
                    .with_context(|| format!("invalid `{part}`: octal digits make a mode"))?;
            }
            "bind-propagation" | "volume-driver" | "volume-opt" | "volume-subpath"
            | "consistency" | "bind-nonrecursive" | "bind-recursive" => {
                bail!("mount option `{key}` is not supported by Bramble");
            }
            _ => bail!("invalid mount `{text}`: there is no option `{key}`"),
        }
    }
    if mount.target.is_empty() {
        bail!("invalid mount `{text}`: target=<path> is missing");
    }
    check_kind(text, &mount, &volume, &tmpfs)?;
    mount.volume_options = (volume != VolumeOptions::default()).then_some(volume);
    mount.tmpfs_options = (tmpfs != TmpfsOptions::default()).then_some(tmpfs);
    Ok(mount)
}

fn check_kind(
    text: &str,
    mount: &Mount,
    volume: &VolumeOptions,
    tmpfs: &TmpfsOptions,
) -> Result<()> {
    let is_volume = mount.kind == "volume";
    let is_tmpfs = mount.kind == "tmpfs";
    if !is_volume && *volume != VolumeOptions::default() {
        bail!("invalid mount `{text}`: volume-* options are for type=volume");
    }
    if !is_tmpfs && *tmpfs != TmpfsOptions::default() {
        bail!("invalid mount `{text}`: tmpfs-* options are for type=tmpfs");
    }
    if mount.kind == "bind" && mount.source.is_empty() {
        bail!("invalid mount `{text}`: source=<path on the board> is missing");
    }
    Ok(())
}

fn claim(part: &str, value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => bail!("invalid `{part}`: true or false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() -> Result<()> {
        let read = mount("type=volume,source=v,target=/x,readonly,volume-label=a=b")?;
        assert_eq!((&*read.kind, &*read.source, &*read.target), ("volume", "v", "/x"));
        assert!(read.read_only);
        assert_eq!(read.volume_options.unwrap_or_default().labels["a"], "b");
        let read = mount("type=tmpfs,dst=/t,tmpfs-size=64k,tmpfs-mode=1770")?;
        let options = read.tmpfs_options.unwrap_or_default();
        assert_eq!((options.size_bytes, options.mode), (65_536, 0o1770));
        assert_eq!(mount("type=bind,src=/a,dst=/b,ro=false")?.source, "/a");
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "type=volume,source=v",
            "type=bind,dst=/b",
            "type=bind,src=/a,dst=/b,tmpfs-size=1k",
            "type=tmpfs,dst=/b,volume-nocopy",
            "dst=/b,colour=red",
            "dst=/b,ro=maybe",
            "dst=/b,volume-driver=nfs",
        ] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
