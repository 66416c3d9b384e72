//! The firmware binary: static, so that it is the whole user space of a board, and so that the
//! built-in `whoami` image can be made of it alone.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::tools;

/// The variable by which whoever builds states the build's time (reproducible-builds.org). The
/// firmware's clock never starts before it.
const BUILD_TIME: &str = "SOURCE_DATE_EPOCH";
/// Ours for the same, if nobody does: the other one is read by dependencies too, which every commit
/// would have built anew.
const COMMIT_TIME: &str = "BRAMBLE_COMMIT_TIME";

/// What makes a binary static that is not linked with musl.
const STATIC: &str =
    "target.'cfg(target_env = \"gnu\")'.rustflags=['-Ctarget-feature=+crt-static']";

/// Builds the firmware for `arch` (`x86_64`, `aarch64`) and returns the binary's path.
pub(crate) fn build(arch: &str, profile: &str) -> Result<PathBuf> {
    let target = target(arch)?;
    cargo_build(&[&target], profile)?;
    Ok(binary(&target, profile))
}

/// Builds the firmware for several architectures and returns the binaries' paths in their order.
/// Side by side: most of a build is the linker's, which uses one processor.
pub(crate) fn build_all(archs: &[String], profile: &str) -> Result<Vec<PathBuf>> {
    let targets = archs.iter().map(|arch| target(arch)).collect::<Result<Vec<_>>>()?;
    cargo_build(&targets.iter().map(String::as_str).collect::<Vec<_>>(), profile)?;
    Ok(targets.iter().map(|target| binary(target, profile)).collect())
}

/// What it is built for: musl if that target is installed or rustup can install it; else, on this
/// machine's own architecture, a static glibc, which every Debian with a C compiler has.
fn target(arch: &str) -> Result<String> {
    let musl = format!("{arch}-unknown-linux-musl");
    if has_target(&musl) || add_target(&musl) {
        if arch == "aarch64" {
            // For the assembly of `ring`, the one part that is not Rust.
            tools::find("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")?;
        }
        return Ok(musl);
    }
    if arch != std::env::consts::ARCH {
        bail!("the Rust target {musl} is not installed: `rustup target add {musl}` installs it");
    }
    Ok(format!("{arch}-unknown-linux-gnu"))
}

fn cargo_build(targets: &[&str], profile: &str) -> Result<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "bramble", "--profile", profile, "--config", STATIC]);
    cargo.args(targets.iter().flat_map(|target| ["--target", target]));
    cargo.current_dir(crate::root()).stdout(Stdio::null());
    if std::env::var_os(BUILD_TIME).is_none()
        && let Some(time) = commit_time()
    {
        cargo.env(COMMIT_TIME, time);
    }
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the firmware for {} was not built: cargo ended with {status}", targets.join(", "));
    }
    Ok(())
}

fn binary(target: &str, profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    target_folder().join(target).join(folder).join("bramble")
}

/// When the source was committed, in seconds since 1970: the same for everybody who builds it.
/// `None` for a source without its history.
fn commit_time() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(crate::root()).stderr(Stdio::null());
    let printed = git.output().ok().filter(|printed| printed.status.success())?;
    let time = String::from_utf8(printed.stdout).ok()?.trim().to_owned();
    time.parse::<u64>().is_ok().then_some(time)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| crate::root().join("target"), |folder| crate::root().join(folder))
}

fn has_target(target: &str) -> bool {
    let printed =
        Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    printed.is_ok_and(|printed| Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir())
}

fn add_target(target: &str) -> bool {
    let added =
        Command::new("rustup").args(["target", "add", target]).stdout(Stdio::null()).status();
    added.is_ok_and(|status| status.success())
}
