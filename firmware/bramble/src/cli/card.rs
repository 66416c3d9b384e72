//! `bramble card`

mod changes;
mod secret;

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use self::changes::Changes;
use super::{
    flash::{bar, check_signature},
    output::{ListFormat, Table, print},
};
use crate::{
    card::{
        TEMPLATE, checksum,
        image::{Image, is_compressed},
        medium::Medium,
        settings::Settings,
    },
    config::Config,
};

/// Settings whose values are not shown.
const SECRETS: [(&str, &str); 4] =
    [("cluster", "key"), ("cluster", "token"), ("mqtt", "password"), ("wifi", "password")];
/// What is shown in place of a secret.
const HIDDEN: &str = "(set)";

/// Change the settings on a card, in a card image, or in a bramble.toml
///
/// Only bramble.toml on the first partition changes, in place; its comments and other settings stay.
/// An image that is compressed (.img.zst) is written to --out and changed there. Values that a board
/// would refuse are refused here.
#[derive(Debug, Args)]
pub(crate) struct Card {
    /// The image, the card's device (/dev/sdX), or a bramble.toml
    #[arg(value_name = "FILE|DEVICE")]
    file: PathBuf,
    #[command(flatten)]
    changes: Changes,
    /// Begin with the settings as they are on a new card
    #[arg(long)]
    reset: bool,
    /// Leave the image as it is and write a changed copy of it, uncompressed
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// With --out: a minisign public key that the image must be signed by, in FILE.minisig; may be
    /// given several times. The changed copy is not signed
    #[arg(long, value_name = "PUB", requires = "out")]
    trust: Vec<PathBuf>,
    /// Show the settings; secrets only as `(set)`
    #[arg(long)]
    show: bool,
    /// With --show: `table`, `json`, or text with fields: '{{.Section}} {{.Key}}'. `json` also tells
    /// of changes
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
}

/// Where the settings are.
enum Place {
    /// On a card or in its image.
    Medium(Medium),
    /// In a file of their own.
    Text(PathBuf),
}

impl Card {
    pub(super) fn run(mut self) -> Result<()> {
        let is_changing = self.reset || !self.changes.is_empty();
        if !is_changing && !self.show && self.out.is_none() {
            bail!("nothing is to be changed: see `bramble card --help`, or give --show");
        }
        let mut place = self.place(is_changing)?;
        let content = place.read()?;
        let before = if self.reset { TEMPLATE.as_bytes() } else { &content };
        let mut settings = Settings::parse(before)?;
        let was = problems(&settings);
        let outcome = std::mem::take(&mut self.changes).apply(&mut settings)?;
        let now = problems(&settings);
        let new: Vec<_> = now.iter().filter(|problem| !was.contains(problem)).cloned().collect();
        if is_changing && !new.is_empty() {
            bail!("nothing was changed: {}", new.join("; "));
        }
        if is_changing {
            place.write(&settings, &self.file)?;
        }
        self.tell(&settings, &outcome, &now)
    }

    /// Finds the settings, in a copy of the image if one was asked for.
    fn place(&self, is_changing: bool) -> Result<Place> {
        if self.file.extension().is_some_and(|extension| extension == "toml") {
            if self.out.is_some() {
                bail!("--out is for images");
            }
            return Ok(Place::Text(self.file.clone()));
        }
        let Some(out) = &self.out else {
            let failed = || format!("cannot read {}", self.file.display());
            let is_file = self.file.metadata().with_context(failed)?.is_file();
            if is_file && is_compressed(&mut File::open(&self.file).with_context(failed)?)? {
                bail!(
                    "{} is compressed: name with --out where the changed image goes",
                    self.file.display()
                );
            }
            return Ok(Place::Medium(Medium::open(&self.file, is_changing)?));
        };
        if out.exists() && out.canonicalize().ok() == self.file.canonicalize().ok() {
            bail!("--out must be another file than the image");
        }
        let image = Image::open(&self.file)?;
        checksum::verify(&self.file, |_| {})?;
        let is_quiet = !io::stderr().is_terminal();
        check_signature(&self.file, &self.trust, is_quiet)?;
        let bar = bar(is_quiet, "copying", image.file_length());
        let copied = image.copy_to(out, |consumed| bar.set_position(consumed));
        bar.finish_and_clear();
        copied?;
        Ok(Place::Medium(Medium::open(out, true)?))
    }

    fn tell(
        &self,
        settings: &Settings,
        outcome: &changes::Outcome,
        problems: &[String],
    ) -> Result<()> {
        if self.format.as_deref() == Some("json") {
            let all = json!({
                "settings": shown(settings),
                "changed": outcome.changed,
                "problems": problems,
                "drawn_key": outcome.drawn_key,
            });
            return print(&format!("{all}\n"));
        }
        if self.show {
            table(settings)
                .print(&ListFormat { format: self.format.clone(), ..ListFormat::default() })?;
        } else {
            for line in &outcome.changed {
                print(&format!("{line}\n"))?;
            }
        }
        if let Some(key) = &outcome.drawn_key {
            print(&format!("The cluster's key, for every other card of it: {key}\n"))?;
        }
        for problem in problems {
            eprintln!("bramble: a board would say: {problem}");
        }
        Ok(())
    }
}

impl Place {
    fn read(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Medium(medium) => Ok(medium.read_settings()?),
            Self::Text(path) => {
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
            }
        }
    }

    fn write(&mut self, settings: &Settings, image: &Path) -> Result<()> {
        match self {
            Self::Medium(medium) => {
                // A checksum beside an image that is changed must change too, if it was right.
                let is_image = image.is_file() && checksum::beside(image).exists();
                let is_in_place = medium.path() == image;
                if is_image && is_in_place {
                    checksum::verify(image, |_| {})?;
                }
                medium.write_settings(settings.text().as_bytes())?;
                if is_image && is_in_place {
                    checksum::renew(image)?;
                }
                Ok(())
            }
            Self::Text(path) => {
                let failed = || format!("cannot write {}", path.display());
                let folder = path.parent().unwrap_or_else(|| Path::new("."));
                let new = folder.join(".bramble.toml.new");
                let mut file = File::create(&new).with_context(failed)?;
                file.write_all(settings.text().as_bytes()).with_context(failed)?;
                file.sync_all().with_context(failed)?;
                fs::rename(&new, &path).with_context(failed)
            }
        }
    }
}

/// What a board would complain of.
fn problems(settings: &Settings) -> Vec<String> {
    let (config, mut problems) = Config::read_lenient(settings.text());
    // Lines move when others are added above them.
    for problem in &mut problems {
        if let Some((_, rest)) =
            problem.strip_prefix("line ").and_then(|rest| rest.split_once(": "))
        {
            *problem = rest.to_owned();
        }
    }
    if !config.cluster.names_one() {
        problems.push(crate::problems::NO_CLUSTER.to_owned());
    }
    problems
}

/// The settings without secrets.
fn shown(settings: &Settings) -> Value {
    let mut sections = Map::new();
    for (section, content) in settings.table() {
        let mut shown = Map::new();
        for (key, value) in content.as_table().into_iter().flatten() {
            let is_secret = SECRETS.contains(&(section, key));
            let value = match is_secret {
                true => HIDDEN.into(),
                false => serde_json::to_value(value).unwrap_or_default(),
            };
            shown.insert(key.clone(), value);
        }
        sections.insert(section.clone(), shown.into());
    }
    sections.into()
}

fn table(settings: &Settings) -> Table {
    let mut table = Table::new(&[("SECTION", "Section"), ("SETTING", "Key"), ("VALUE", "Value")]);
    for (section, content) in shown(settings).as_object().into_iter().flatten() {
        for (key, value) in content.as_object().into_iter().flatten() {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            table.row([("Section", section.clone()), ("Key", key.clone()), ("Value", value)]);
        }
    }
    table
}

#[cfg(test)]
mod tests;
