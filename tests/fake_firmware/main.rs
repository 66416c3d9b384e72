//! `fake-firmware IMAGE FOLDER [power|reboot|watchdog]`: chooses what a machine starts with, puts
//! its files into the folder and prints where they are, as JSON.

use std::{error::Error, path::Path};

use bramble_tests::fake_firmware::{FakeFirmware, Reset};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (image, folder, reset) = match arguments.as_slice() {
        [image, folder] => (image, folder, "power"),
        [image, folder, reset] => (image, folder, reset.as_str()),
        _ => return Err("fake-firmware IMAGE FOLDER [power|reboot|watchdog]".into()),
    };
    let reset = match reset {
        "power" => Reset::Power,
        "reboot" => Reset::Reboot,
        "watchdog" => Reset::Watchdog,
        other => return Err(format!("{other} is no reset: power, reboot or watchdog is").into()),
    };
    let boot = FakeFirmware::new(Path::new(image)).boot(reset, Path::new(folder))?;
    println!("{}", serde_json::to_string(&boot)?);
    Ok(())
}
