//! What an appliance does when what it kept is damaged, by a worn card or a repair of its file
//! system: it puts that aside, says so, and goes on as a board without it. A daemon on a machine
//! says what is wrong and leaves it to the machine's owner.

use std::{fs, io, path::Path};

use anyhow::{Context, Result};
use bramble_containers::images::OpenStoreError;

use crate::problems::Problems;

/// The folder, in the data folder, of what was put aside last.
const ASIDE: &str = "damaged";
/// What a board knows of its cluster. One of them without the other would be another board's.
const CLUSTER: &[&str] = &["peering", "consensus"];
/// Its images.
const IMAGES: &[&str] = &["images"];

/// Puts aside what could not be used, so that the next start does without it, and makes it a
/// problem.
///
/// # Errors
/// The error itself, if it is not about damage; another, if the damage cannot be put aside.
pub(crate) fn put_aside(data_dir: &Path, problems: &Problems, error: anyhow::Error) -> Result<()> {
    let (what, folders, next) = if is_about_cluster(&error) {
        let next = "the board joins its cluster as a new one, and a cluster of this board alone \
                    begins anew; `docker node rm` removes the old one";
        ("what this board knew of its cluster", CLUSTER, next)
    } else if is_about_images(&error) {
        ("this board's images", IMAGES, "those that are needed are fetched again")
    } else {
        return Err(error);
    };
    move_folders(data_dir, folders)
        .with_context(|| format!("cannot put aside what is damaged: {error:#}"))?;
    // Its own source: this is about what is gone, and nothing will mend it.
    problems.add("damage", format!("{what} was damaged: {next} ({error:#})"));
    Ok(())
}

fn is_about_cluster(error: &anyhow::Error) -> bool {
    let is_peering = |error: &bramble_peering::StartError| error.is_damage();
    let is_manager = |error: &bramble_manager::consensus::StartError| error.is_damage();
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(is_peering) || cause.downcast_ref().is_some_and(is_manager)
    })
}

fn is_about_images(error: &anyhow::Error) -> bool {
    let is_damage = OpenStoreError::is_damage;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_damage))
}

/// Moves folders into the folder for damage, in place of what was there.
fn move_folders(data_dir: &Path, folders: &[&str]) -> io::Result<()> {
    let aside = data_dir.join(ASIDE);
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::create_dir(&aside)?;
    for folder in folders {
        match fs::rename(data_dir.join(folder), aside.join(folder)) {
            // The damage was its loss.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    // The names are on the disk before anything new is.
    fs::File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use bramble_peering::{IdentityError, StartError};

    use super::*;

    fn damaged_identity(data_dir: &Path) -> anyhow::Error {
        let path = data_dir.join("peering/identity");
        anyhow!(StartError::Identity(IdentityError::Damaged { path }))
            .context("no talk with others")
    }

    #[test]
    fn damaged_knowledge_of_the_cluster_is_put_aside_whole_and_told() {
        let data = tempfile::tempdir().unwrap();
        let data = data.path();
        for file in ["peering/identity", "consensus/log/1", "volumes/kept/data/words"] {
            fs::create_dir_all(data.join(file).parent().unwrap()).unwrap();
            fs::write(data.join(file), file).unwrap();
        }
        let problems = Problems::default();
        put_aside(data, &problems, damaged_identity(data)).unwrap();
        assert!(!data.join("peering").exists() && !data.join("consensus").exists());
        assert!(data.join("damaged/consensus/log/1").exists());
        assert!(data.join("volumes/kept/data/words").exists());
        assert!(problems.texts()[0].contains("as a new one"), "{:?}", problems.texts());
        // A second time, with less to lose.
        fs::create_dir(data.join("peering")).unwrap();
        put_aside(data, &problems, damaged_identity(data)).unwrap();
        assert!(!data.join("damaged/consensus").exists());
    }

    #[test]
    fn what_is_not_damage_is_left_alone() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("peering")).unwrap();
        let problems = Problems::default();
        let error = anyhow!(StartError::Randomness);
        assert!(put_aside(data.path(), &problems, error).unwrap_err().is::<StartError>());
        assert!(data.path().join("peering").exists() && problems.texts().is_empty());
    }
}
