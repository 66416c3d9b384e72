//! Values as people write them on a command line, in Docker's notations.

pub(super) mod mount;
pub(super) mod port;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};

/// Nanoseconds in Docker's units of time.
const UNITS: [(&str, i64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Nanoseconds of a duration as Go writes it: `1m30s`, `1.5h`, `0`.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a duration: 10s, 1m30s, 500ms are");
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.');
        let (number, after) = rest.split_at(digits.ok_or_else(wrong)?);
        let units = after.find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, after) = after.split_at(units.unwrap_or(after.len()));
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = decimal(number, *nanoseconds).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// Bytes of a size as Docker writes it: `64m`, `1.5g`, `512k`; powers of 1024.
pub(super) fn bytes(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a size: 64m, 1.5g, 1048576 are");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1_i64 << 40,
        _ => return Err(wrong()),
    };
    decimal(number, factor).ok_or_else(wrong)
}

/// Billionths of a core: `0.5`.
pub(super) fn cpus(text: &str) -> Result<i64, String> {
    decimal(text, 1_000_000_000).ok_or_else(|| format!("`{text}` is not a number of cores: 0.5 is"))
}

/// A decimal number times `unit`, without floating point; `None` if it is none or does not fit.
fn decimal(text: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let total = i128::from(whole) * i128::from(unit) + scaled_fraction(fraction, unit)?;
    i64::try_from(total).ok()
}

/// `0.<fraction>` times `unit`, cut to a whole number.
fn scaled_fraction(fraction: &str, unit: i64) -> Option<i128> {
    let digits = fraction.get(..fraction.len().min(18))?;
    if digits.is_empty() {
        return Some(0);
    }
    let numerator: i128 = digits.parse().ok()?;
    let denominator = 10_i128.pow(u32::try_from(digits.len()).ok()?);
    Some(numerator * i128::from(unit) / denominator)
}

/// `name=value` or `name`, into a map.
pub(super) fn labels(texts: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    texts.iter().map(split).collect()
}

/// `NAME=value` as it is; `NAME` takes the value from this process's environment, if there is one.
pub(super) fn environment(texts: &[String]) -> Vec<String> {
    texts
        .iter()
        .filter_map(|text| {
            if text.contains('=') {
                return Some(text.clone());
            }
            std::env::var(text).ok().map(|value| format!("{text}={value}"))
        })
        .collect()
}

/// The lines of an environment file; blank ones and comments do not count.
pub(super) fn environment_file(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the environment file {}", path.display()))?;
    let lines = text.lines().map(str::trim_start);
    let lines: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if let Some(line) = lines.iter().find(|line| line.starts_with('=')) {
        bail!("{}: `{line}` has no name before the =", path.display());
    }
    Ok(environment(&lines))
}

/// `name:address` or `name=address`, as `/etc/hosts` has it: `address name`.
pub(super) fn host(text: &str) -> Result<String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or_else(|| anyhow!("invalid host `{text}`: write name:address"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address
        .parse::<std::net::IpAddr>()
        .with_context(|| format!("invalid host `{text}`: `{address}` is not an address"))?;
    Ok(format!("{address} {name}"))
}

/// `nofile=1024:2048`, or one number for both.
pub(super) fn ulimit(text: &str) -> Result<bramble_api::types::container::Ulimit> {
    let wrong = || anyhow!("invalid ulimit `{text}`: write name=soft[:hard]");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    Ok(bramble_api::types::container::Ulimit {
        name: name.to_owned(),
        soft: number(soft)?,
        hard: number(hard)?,
    })
}

/// `spread=node.labels.room`.
pub(super) fn preference(text: &str) -> Result<bramble_api::types::task_spec::Preference> {
    let Some(descriptor) = text.strip_prefix("spread=") else {
        bail!("invalid placement preference `{text}`: write spread=node.labels.<name>");
    };
    Ok(bramble_api::types::task_spec::Preference {
        spread: bramble_api::types::task_spec::Spread { spread_descriptor: descriptor.to_owned() },
    })
}

/// `name` or `name=net,alias=web`.
pub(super) fn network(text: &str) -> Result<bramble_api::types::network::NetworkAttachment> {
    let mut attachment = bramble_api::types::network::NetworkAttachment::default();
    if !text.contains('=') {
        attachment.target = text.to_owned();
        return Ok(attachment);
    }
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("name", name)) => attachment.target = name.to_owned(),
            Some(("alias", alias)) => attachment.aliases.push(alias.to_owned()),
            _ => bail!("invalid network `{text}`: name and alias are known, not `{part}`"),
        }
    }
    Ok(attachment)
}

/// Words as a shell splits them: blanks separate, quotes hold together.
pub(super) fn words(text: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(characters.next());
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if let Some(open) = quote {
        bail!("`{text}` has a {open} that is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("3us", 3_000),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        for text in ["", "10", "s", "1d", "-1s", "1.s.s", "99999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_cores_are_exact() {
        assert_eq!(bytes("64m"), Ok(67_108_864));
        assert_eq!(bytes("1.5g"), Ok(1_610_612_736));
        assert_eq!(bytes("1048576"), Ok(1_048_576));
        assert_eq!(bytes("10 MiB"), Ok(10_485_760));
        assert_eq!(cpus("0.5"), Ok(500_000_000));
        assert_eq!(cpus("2"), Ok(2_000_000_000));
        assert_eq!(cpus(".25"), Ok(250_000_000));
        for text in ["", "m", "1x", "-1", "1.2.3", "9999999999t"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert!(cpus("half").is_err());
    }

    #[test]
    fn words_are_split_as_a_shell_does() -> Result<()> {
        assert_eq!(words("a  'b c' \"d \\\" e\"f \\ g ''")?, ["a", "b c", "d \" ef", " g", ""]);
        assert!(words("'open").is_err());
        Ok(())
    }

    #[test]
    fn small_notations_are_read() -> Result<()> {
        assert_eq!(host("db:10.0.0.2")?, "10.0.0.2 db");
        assert_eq!(host("db:::1")?, "::1 db");
        assert!(host("db").is_err());
        let limit = ulimit("nofile=10:20")?;
        assert_eq!((limit.soft, limit.hard), (10, 20));
        assert_eq!(ulimit("core=0")?.hard, 0);
        assert!(ulimit("core").is_err());
        assert_eq!(network("name=web,alias=a,alias=b")?.aliases, ["a", "b"]);
        assert!(preference("binpack=x").is_err());
        Ok(())
    }
}
