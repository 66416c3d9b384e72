//! `bramble flash`

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    human::decimal_size,
    output::{ListFormat, Table, print},
};
use crate::card::{
    checksum,
    disk::{Disk, Disks},
    image::Image,
    signature,
    writing::{Step, write},
};

/// Between two drawings of the progress.
const REDRAW: Duration = Duration::from_millis(100);

/// Write a card image to a card, and read it back
///
/// Without a device it lists the disks that could be the card. It refuses a disk that is mounted or
/// in use in any other way, and asks before it writes. If FILE.sha256 lies beside the image, the
/// image is compared with it first; with --trust, FILE.minisig must be a signature of it. What each
/// board should know, `bramble card` writes onto the card or into the image.
#[derive(Debug, Args)]
pub(crate) struct Flash {
    /// The image: .img or .img.zst
    file: Option<PathBuf>,
    /// The card's device, as /dev/sdX or /dev/mmcblkN: everything on it is lost
    #[arg(requires = "file")]
    device: Option<PathBuf>,
    /// A minisign public key: the image must be signed by it, or by another that is given so
    #[arg(long, value_name = "PUB", requires = "file")]
    trust: Vec<PathBuf>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Do not show the progress
    #[arg(short, long)]
    quiet: bool,
    /// `table`, `json`, or text with fields: '{{.Device}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Flash {
    pub(super) fn run(self) -> Result<()> {
        let disks = Disks::look()?;
        let (Some(file), Some(device)) = (&self.file, &self.device) else {
            if let Some(file) = &self.file {
                // A wrong file is worth knowing of before the card is chosen.
                Image::open(file)?;
                check_signature(file, &self.trust, self.is_quiet())?;
            }
            return list(&disks.candidates(), self.format.clone());
        };
        let image = Image::open(file)?;
        let is_signed = check_signature(file, &self.trust, self.is_quiet())?;
        let disk = disks.writable(device)?;
        if !self.yes && !is_agreed(device, &disk)? {
            bail!("nothing was written");
        }
        let is_quiet = self.is_quiet();
        let bar = bar(is_quiet, "checking", image.file_length());
        let is_verified = checksum::verify(file, |count| bar.inc(count))?;
        bar.finish_and_clear();
        let bar = self::bar(is_quiet, "writing", image.file_length());
        let written = write(image, device, &disk, |step| match step {
            Step::Written(at) => bar.set_position(at),
            Step::ReadBack(at, length) => {
                bar.set_message("reading back");
                bar.set_length(length);
                bar.set_position(at);
            }
        });
        bar.finish_and_clear();
        let written = written?;
        match self.format.as_deref() {
            Some("json") => {
                let outcome = json!({
                    "device": device, "model": disk.model, "bytes": written,
                    "is_checksum_verified": is_verified, "is_signature_verified": is_signed,
                });
                print(&format!("{outcome}\n"))
            }
            _ => print(&format!(
                "{} holds the image: {} written, read back and compared{}{}\n",
                device.display(),
                decimal_size(written),
                if is_verified { "; its checksum is right" } else { "" },
                if is_signed { "; its signature is right" } else { "" },
            )),
        }
    }

    fn is_quiet(&self) -> bool {
        self.quiet || !io::stderr().is_terminal()
    }
}

/// Whether the image is signed by a key that is trusted; `false` if none is given. Says which, or how
/// a signature that is there is checked.
pub(super) fn check_signature(file: &Path, trusted: &[PathBuf], is_quiet: bool) -> Result<bool> {
    if trusted.is_empty() {
        let beside = signature::beside(file);
        if beside.exists() {
            eprintln!(
                "bramble: {} was not checked: --trust PUB does, with the public key of whoever made the image",
                beside.display()
            );
        }
        return Ok(false);
    }
    let read = || format!("cannot read {}", file.display());
    let bar = bar(is_quiet, "signature", file.metadata().with_context(read)?.len());
    let key = signature::verify(file, trusted, |count| bar.inc(count));
    bar.finish_and_clear();
    eprintln!("bramble: {} is signed by {}", file.display(), key?.display());
    Ok(true)
}

/// Asks the person at the terminal; without one nobody can agree.
fn is_agreed(device: &Path, disk: &Disk) -> Result<bool> {
    if !io::stdin().is_terminal() {
        bail!("nobody can be asked whether {} may be overwritten: give --yes", device.display());
    }
    eprint!(
        "{}: {}, {}. Everything on it will be lost. Write? [y/N] ",
        device.display(),
        if disk.model.is_empty() { "a disk without a name" } else { &disk.model },
        decimal_size(disk.size),
    );
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}

fn list(disks: &[Disk], format: Option<String>) -> Result<()> {
    let mut table = Table::new(&[
        ("DEVICE", "Device"),
        ("MODEL", "Model"),
        ("SIZE", "Size"),
        ("STATE", "State"),
    ]);
    for disk in disks {
        let state = match (disk.uses.is_empty(), disk.is_read_only) {
            (false, _) => disk.uses.iter().cloned().collect::<Vec<_>>().join("; "),
            (true, true) => "write-protected".to_owned(),
            (true, false) => "ready".to_owned(),
        };
        table.row([
            ("Device", format!("/dev/{}", disk.name)),
            ("Model", disk.model.clone()),
            ("Size", decimal_size(disk.size)),
            ("Bytes", disk.size.to_string()),
            ("State", state),
        ]);
    }
    if disks.is_empty() && format.is_none() {
        return print("There is no removable disk: put the card in.\n");
    }
    table.print(&ListFormat { format, ..ListFormat::default() })
}

/// A bar for so many bytes.
pub(super) fn bar(is_quiet: bool, message: &'static str, length: u64) -> ProgressBar {
    if is_quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length).with_message(message);
    bar.enable_steady_tick(REDRAW);
    let template = "{msg:12} {bar:40} {percent}%  {bytes}/{total_bytes}  {eta} left";
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
