//! `cargo yocto-crates > yocto-layer/meta-bramble/recipes-bramble/bramble/bramble-crates.inc`, after
//! every change of `Cargo.lock`.

use std::{error::Error, fs, path::Path};

use bramble_tests::yocto::crates_of;

fn main() -> Result<(), Box<dyn Error>> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    print!("{}", crates_of(&fs::read_to_string(lock)?)?);
    Ok(())
}
