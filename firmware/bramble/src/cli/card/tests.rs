use std::process::Command;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    card: Card,
}

fn card(file: &Path, words: &[&str]) -> Result<()> {
    let name = file.to_str().context("a name")?;
    let line = ["card", name].into_iter().chain(words.iter().copied());
    Line::try_parse_from(line)?.card.run()
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A card image with one partition, as the image builder makes it, but smaller.
fn image(folder: &Path) -> Result<PathBuf> {
    const START: u64 = 8_192 * 512;
    const LENGTH: u64 = 34 << 20;
    let (volume, image, toml) =
        (folder.join("p1"), folder.join("card.img"), folder.join("template"));
    File::create(&volume)?.set_len(LENGTH)?;
    let mut text = TEMPLATE.as_bytes().to_vec();
    text.resize(16 << 10, b'\n');
    fs::write(&toml, text)?;
    run(Command::new("mkfs.fat").args(["-F", "32", "-n", "BRAMBLE"]).arg(&volume))?;
    run(Command::new("mcopy").arg("-i").args([&volume, &toml]).arg("::bramble.toml"))?;
    let mut bytes = vec![0; usize::try_from(START)?];
    bytes[450] = 0x0c;
    bytes[454..458].copy_from_slice(&8_192_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&u32::try_from(LENGTH / 512)?.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes.extend(fs::read(&volume)?);
    bytes.extend([9; 4_096]);
    fs::write(&image, bytes)?;
    Ok(image)
}

#[test]
fn a_copy_is_made_only_of_an_image_that_a_trusted_key_signed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (image, copy) = (image(folder.path())?, folder.path().join("copy.img"));
    let copy_name = copy.to_str().context("a name")?;
    for (name, is_signer) in [("theirs.pub", true), ("others.pub", false)] {
        let pair = minisign::KeyPair::generate_unencrypted_keypair()?;
        let key = folder.path().join(name);
        fs::write(&key, pair.pk.to_box()?.into_string())?;
        if is_signer {
            let signed = minisign::sign(None, &pair.sk, File::open(&image)?, None, None)?;
            fs::write(crate::card::signature::beside(&image), signed.into_string())?;
        }
        let key = key.to_str().context("a name")?;
        let made = card(&image, &["--trust", key, "--out", copy_name]);
        assert_eq!(made.is_ok(), is_signer, "{made:?}");
        assert_eq!(copy.exists(), is_signer);
        let _ = fs::remove_file(&copy);
    }
    Ok(())
}

fn config(image: &Path) -> Result<(Config, String)> {
    let content = Medium::open(image, false)?.read_settings()?;
    let text = String::from_utf8(content)?;
    let (config, problems) = Config::read_lenient(&text);
    anyhow::ensure!(problems.is_empty(), "{problems:?}");
    Ok((config, text))
}

#[test]
fn an_image_is_changed_in_place_with_its_checksum() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = image(folder.path())?;
    checksum::renew(&image)?;
    let before = fs::metadata(&image)?.len();
    let (key, wifi) = (folder.path().join("key"), folder.path().join("wifi"));
    fs::write(&key, format!("{}\n", "ab".repeat(32)))?;
    fs::write(&wifi, "very secret\n")?;
    let key = format!("@{}", key.display());
    card(
        &image,
        &[
            "--key",
            &key,
            "--hostname",
            "pi-1",
            "--label",
            "room=attic",
            "--address",
            "10.0.0.2/24",
            "--gateway",
            "10.0.0.1",
            "--wifi",
            "home",
            "--wifi-password-file",
            wifi.to_str().context("a name")?,
            "--mqtt",
            "mqtt://broker",
            "--time-server",
            "ntp",
        ],
    )?;
    let (config, text) = config(&image)?;
    assert_eq!(text.len(), 16 << 10);
    assert!(text.starts_with("# The settings of a Bramble board."));
    assert_eq!(config.cluster.key.map(|key| key.bytes()), Some([0xab; 32]));
    assert_eq!(config.board.hostname.as_deref(), Some("pi-1"));
    assert_eq!(config.board.labels["room"], "attic");
    assert!(config.network.address.is_some() && config.network.gateway.is_some());
    assert_eq!(config.wifi.and_then(|wifi| wifi.password).as_deref(), Some("very secret"));
    assert_eq!(fs::metadata(&image)?.len(), before);
    assert!(checksum::verify(&image, |_| {})?);
    card(&image, &["--address", "dhcp", "--wifi-open", "--unset", "mqtt.url"])?;
    let (config, _) = self::config(&image)?;
    assert!(config.network.address.is_none() && config.mqtt.is_none());
    assert!(config.wifi.is_some_and(|wifi| wifi.password.is_none()));
    Ok(())
}

#[test]
fn a_value_that_a_board_would_refuse_changes_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = image(folder.path())?;
    let before = fs::read(&image)?;
    for words in [
        ["--hostname", "pi 1"],
        ["--key", "cafe"],
        ["--token", "BRMTKN-1-x"],
        ["--address", "10.0.0.2"],
        ["--vlan", "5000"],
        ["--mqtt", "http://broker"],
        ["--unset", "hostname"],
    ] {
        let error = card(&image, &words).expect_err("it is refused");
        assert!(!format!("{error:#}").contains("cafe"), "{error:#}");
    }
    assert!(card(&image, &[]).is_err());
    assert!(fs::read(&image)? == before);
    Ok(())
}

#[test]
fn a_copy_is_changed_and_the_image_is_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = image(folder.path())?;
    let (before, out) = (fs::read(&image)?, folder.path().join("out.img"));
    let words = ["--key", "new", "--out", out.to_str().context("a name")?];
    card(&image, &words)?;
    assert!(fs::read(&image)? == before);
    assert!(config(&out)?.0.cluster.key.is_some());
    assert_eq!(fs::metadata(&out)?.len(), before.len() as u64);
    assert!(card(&image, &["--out", image.to_str().context("a name")?]).is_err());
    Ok(())
}

#[test]
fn a_compressed_image_needs_a_place_for_the_changed_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let image = image(folder.path())?;
    let compressed = folder.path().join("card.img.zst");
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let bytes = ruzstd::encoding::compress_to_vec(&*fs::read(&image)?, level);
    fs::write(&compressed, bytes)?;
    let error = card(&compressed, &["--hostname", "pi-1"]).expect_err("it is compressed");
    assert!(error.to_string().contains("--out"), "{error}");
    let out = folder.path().join("out.img");
    card(&compressed, &["--hostname", "pi-1", "--out", out.to_str().context("a name")?])?;
    assert_eq!(config(&out)?.0.board.hostname.as_deref(), Some("pi-1"));
    assert_eq!(fs::metadata(&out)?.len(), fs::metadata(&image)?.len());
    Ok(())
}

#[test]
fn settings_in_a_file_of_their_own_are_changed_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bramble.toml");
    fs::write(&file, "garbage\n")?;
    let error = card(&file, &["--hostname", "pi-1"]).expect_err("it is garbage");
    assert!(format!("{error:#}").contains("--reset"), "{error:#}");
    card(&file, &["--hostname", "pi-1", "--reset"])?;
    assert!(fs::read_to_string(&file)?.contains("\nhostname = \"pi-1\"\n"));
    Ok(())
}

#[test]
fn secrets_are_not_shown() -> Result<()> {
    let text = "[cluster]\nkey = \"hunter2\"\n[wifi]\nssid = \"home\"\npassword = \"hunter2\"\n";
    let settings = Settings::parse(text.as_bytes())?;
    let json = shown(&settings).to_string();
    assert!(!json.contains("hunter2") && json.contains("home"), "{json}");
    let table = table(&settings).render(&ListFormat::default())?;
    assert!(!table.contains("hunter2") && table.contains("(set)"), "{table}");
    Ok(())
}
